"""What an invoice is for, what of it others settled, and what it asks for: told apart everywhere,
and compared with the bookings."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client

from billing.exports import invoices, summary
from billing.exports.scope import Scope
from billing.invoicing import adjusting, crediting, frozen
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.reconcile import carried_first, reconcile_invoices
from billing.models import CreditNote, CreditNoteLine, Invoice, InvoiceLine
from tests.billing.invoicing.books import DECEMBER, JANUARY, NOVEMBER, PlainBook
from tests.support.guards import lifted
from tests.tenants.cast import Cast

GRACE = timedelta(hours=72)


@pytest.fixture
def carried(committed_cast: Cast, book: PlainBook) -> Invoice:
    """Acme's of November: 49.00 less a credit of 80.00, of which October is settled with 31.00.
    Committed, because MariaDB commits when triggers are lifted."""
    cast = committed_cast
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + GRACE)
    sorry = adjusting.propose(cast.acme, Decimal(-80), code="sorry", name="Sorry", by="ada")
    adjusting.decide(sorry, approve=True, by="ben")
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    return Invoice.objects.get(tenant=cast.acme, period_start=NOVEMBER)


def test_it_is_in_the_export_and_on_the_page(operator: Client, carried: Invoice) -> None:
    [row] = invoices.rows_of(Invoice.objects.filter(pk=carried.pk))
    assert [column.name for column in invoices.COLUMNS[-2:]] == ["carried", "payable"]
    assert row[-2:] == (Decimal(-31), Decimal(0))
    page = operator.get(f"/admin/billing/invoice/{carried.pk}/change/").content.decode()
    assert "Carried" in page
    assert "Payable" in page


def figures(scope: Scope) -> dict[str, tuple[object, object]]:
    checks = summary.checks(scope, with_ledger=False)
    return {
        f"{check.name}: {check.one}": (check.one_amount, check.other_amount) for check in checks
    }


def test_the_books_know_it(carried: Invoice) -> None:
    assert list(reconcile_invoices()) == []
    scope = Scope(DECEMBER, JANUARY, tenant=carried.tenant_id)
    assert figures(scope)["invoices: carried"] == (Decimal(-31), Decimal(-31))
    assert figures(scope)["invoices: lines, net"] == (Decimal(-31), Decimal(-31))
    with lifted():
        Invoice._base_manager.filter(pk=carried.pk).update(carried=Decimal(-30))
        InvoiceLine._base_manager.filter(code="sorry").update(net=Decimal(-70))
        sign(carried)
    assert figures(scope)["invoices: carried"] == (Decimal(-30), Decimal(-31))
    assert figures(scope)["invoices: lines, net"] == (Decimal(-21), Decimal(-31))
    assert list(reconcile_invoices()) == [
        ("invoice", str(carried), "lines net -21.00, subtotal -31.00"),
        ("carried", str(carried), "says -30.00, bookings -31.00"),
    ]


def test_no_more_is_credited_of_a_line_than_was_paid_for_it(carried: Invoice) -> None:
    first = Invoice.objects.get(tenant=carried.tenant_id, number="INV-2026-000001")
    crediting.credit(first, {first.lines.get().pk: Decimal(9)}, reason="outage", by="ada")
    assert list(reconcile_invoices()) == []
    with lifted():
        CreditNoteLine._base_manager.update(amount=Decimal(50))
        note = CreditNote._base_manager.get()
        note.subtotal = note.total = Decimal(50)
        said = {"subtotal": note.subtotal, "total": note.total}
        CreditNote._base_manager.update(**said, content_sha256=frozen.credit_hash(note))
    assert list(reconcile_invoices()) == [("credit note", str(first), "50.00 of a line of 49.00")]


def sign(invoice: Invoice) -> None:
    found = Invoice._base_manager.get(pk=invoice.pk)
    sha256 = frozen.content_hash(found, list(found.lines.order_by("place")))
    Invoice._base_manager.filter(pk=found.pk).update(content_sha256=sha256)


def test_only_what_was_booked_first_is_of_then() -> None:
    one, ten = Decimal(1), Decimal(10)
    assert carried_first(ten + one, [("carry", ten), ("carry", one), ("carry", one)]) == ten + one
    assert carried_first(ten, [("carry", one), ("payment", ten), ("carry", ten - one)]) == one
    assert carried_first(Decimal(0), [("carry", one)]) == 0
    assert carried_first(ten, []) == 0
