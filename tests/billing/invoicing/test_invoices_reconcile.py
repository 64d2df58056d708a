"""`manage.py reconcile` finds invoices that were changed behind the software's back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.payments import record_payment
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import (
    Invoice,
    InvoiceCursor,
    InvoiceLine,
    InvoiceStanding,
    LedgerEntry,
    NumberSeries,
)
from tenants import services
from tests.billing.invoicing.books import DECEMBER, JANUARY, NOVEMBER, PlainBook, use
from tests.support.guards import lifted
from tests.tenants.cast import Cast

HOUR, GRACE = timedelta(hours=1), timedelta(hours=72)


@pytest.fixture
def invoiced(committed_cast: Cast, book: PlainBook) -> Cast:
    """October with usage, and November with late usage of October."""
    key = services.issue_key(tenant=committed_cast.acme, name="bot").key
    use(key, NOVEMBER - HOUR, 300)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + GRACE)
    use(key, NOVEMBER - HOUR, 5)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    assert list(reconcile_invoices()) == []
    return committed_cast


def _line(**values: object) -> Callable[[], object]:
    return lambda: InvoiceLine._base_manager.filter(code="messages").update(**values)


def _invoice(**values: object) -> Callable[[], object]:
    return lambda: Invoice._base_manager.filter(number="INV-2026-000001").update(**values)


@pytest.mark.parametrize(
    ("tamper", "check"),
    [
        (_line(amount=Decimal("1.99")), "invoice"),
        (_line(name="Massages"), "invoice"),
        (_line(sources=[]), "invoice usage"),
        (_invoice(total=Decimal(1)), "invoice"),
        (_invoice(ledger_position=0), "invoice usage"),
        (_invoice(number="INV-2026-000009"), "numbers"),
        (lambda: InvoiceLine._base_manager.filter(code="late-usage").delete(), "late usage"),
        (lambda: LedgerEntry._base_manager.filter(units=5).update(units=6), "late usage"),
        (lambda: InvoiceStanding.objects.update(balance=0), "standing"),
        (lambda: InvoiceCursor.objects.update(position=0), "positions"),
        (lambda: NumberSeries.objects.update(last=9), "numbers"),
    ],
)
def test_each_tampering_is_found(invoiced: Cast, tamper: Callable[[], object], check: str) -> None:
    with lifted():
        _without_checks(tamper)
    assert check in {difference.check for difference in reconcile_invoices()}
    with pytest.raises(CommandError) as refused:
        call_command("reconcile")
    assert refused.value.returncode == 1


def test_what_is_finalized_and_paid_meanwhile_is_no_difference(invoiced: Cast) -> None:
    """Before each statement a month more is finalized, and each open invoice paid a cent."""
    key = services.issue_key(tenant=invoiced.acme, name="other").key
    turn = {"number": 0, "is_busy": False}

    def go_on(execute: Callable[..., object], *arguments: object) -> object:
        # Who holds a lock, in a transaction, is let finish.
        is_free = not connection.in_atomic_block and not turn["is_busy"]
        if is_free and turn["number"] < 14:
            turn["is_busy"] = True
            turn["number"] += 1
            year, month = divmod(turn["number"], 12)
            end = JANUARY.replace(year=JANUARY.year + year, month=month + 1)
            use(key, end - HOUR, 30)
            close_due_periods(end)
            finalize_due(end + GRACE)
            for invoice in Invoice.objects.finalized():
                record_payment(
                    invoice.tenant,
                    Decimal("0.01"),
                    method="bank_transfer",
                    reference=f"{invoice} {turn['number']}",
                    received_at=timezone.now(),
                    invoice=invoice,
                )
            turn["is_busy"] = False
        return execute(*arguments)

    with connection.execute_wrapper(go_on):
        assert list(reconcile_invoices()) == []
    assert turn["number"] > 10
    assert list(reconcile_invoices()) == []


def test_a_month_is_held_to_its_own_entries(invoiced: Cast) -> None:
    """November alone: what is late on it is found, October's own entries are not read."""
    december = DECEMBER.date(), JANUARY.date()
    key = services.issue_key(tenant=invoiced.acme, name="other").key
    with lifted():
        LedgerEntry._base_manager.filter(units=300).update(units=301)
    assert "invoice usage" in {found.check for found in reconcile_invoices()}
    assert list(reconcile_invoices(*december)) == []
    use(key, DECEMBER + HOUR, 7)
    with lifted():
        LedgerEntry._base_manager.filter(units=5).update(units=6)
    assert [found.check for found in reconcile_invoices(*december)] == ["late usage"]


def test_what_was_posted_before_its_period_was_invoiced_waits_for_it(
    committed_cast: Cast, book: PlainBook
) -> None:
    """In the grace of October November's usage comes already, and is not on October's invoice."""
    key = services.issue_key(tenant=committed_cast.acme, name="bot").key
    use(key, NOVEMBER - HOUR, 300)
    use(key, NOVEMBER + HOUR, 40)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + GRACE)
    use(key, NOVEMBER + 2 * HOUR, 50)
    close_due_periods(JANUARY)
    finalize_due(JANUARY + GRACE)
    assert list(reconcile_invoices(DECEMBER.date(), DECEMBER.date() + timedelta(days=1))) == []
    with lifted():
        LedgerEntry._base_manager.filter(units=40).update(units=41)
    found = reconcile_invoices(DECEMBER.date(), DECEMBER.date() + timedelta(days=1))
    assert [one.check for one in found] == ["invoice usage"]


def _without_checks(act: Callable[[], object]) -> None:
    off, on = (
        ("SET check_constraint_checks=0", "SET check_constraint_checks=1")
        if connection.vendor == "mysql"
        else ("PRAGMA ignore_check_constraints=ON", "PRAGMA ignore_check_constraints=OFF")
    )
    with connection.cursor() as cursor:
        cursor.execute(off)
        act()
        cursor.execute(on)


@pytest.mark.django_db
def test_an_invoice_more_costs_the_same_however_many_there_are(cast: Cast, book: PlainBook) -> None:
    """Statements, and the ledger entries that they ask for, grow with the invoices only."""
    key = services.issue_key(tenant=cast.acme, name="bot").key
    costs = []
    end = NOVEMBER
    for _ in range(3):
        for _ in range(4):
            use(key, end - HOUR, 30)
            close_due_periods(end, tenants=[cast.acme.pk])
            finalize_due(end + GRACE)
            end = (end + 31 * 24 * HOUR).replace(day=1)
        with CaptureQueriesContext(connection) as queries:
            assert list(reconcile_invoices()) == []
        costs.append(len(queries))
    assert costs[2] - costs[1] == costs[1] - costs[0] <= 4
