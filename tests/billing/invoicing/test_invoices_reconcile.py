"""`manage.py reconcile` finds invoices that were changed behind the software's back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from billing.invoicing.closing import close_due_periods, finalize_due
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
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, PlainBook, use
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


def _without_checks(act: Callable[[], object]) -> None:
    from django.db import connection

    off, on = (
        ("SET check_constraint_checks=0", "SET check_constraint_checks=1")
        if connection.vendor == "mysql"
        else ("PRAGMA ignore_check_constraints=ON", "PRAGMA ignore_check_constraints=OFF")
    )
    with connection.cursor() as cursor:
        cursor.execute(off)
        act()
        cursor.execute(on)
