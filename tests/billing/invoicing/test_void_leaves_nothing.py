"""A void invoice is credited as a whole: nothing of it waits, and nothing is open."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.invoicing import crediting
from billing.invoicing.again import draft_again
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.errors import InvoicingError
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import Concession, CreditNote, Invoice, InvoiceEvent, InvoiceStanding
from tests.billing.invoicing.books import NOVEMBER, PlainBook
from tests.tenants.cast import Cast


@pytest.fixture
def invoice(cast: Cast, book: PlainBook, settings: Any) -> Invoice:
    """Acme's of 49.00, of which one operator may give 40.00 away."""
    settings.RELAY_CREDIT_LIMIT = 40
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    return Invoice.objects.get(tenant=cast.acme)


def part(invoice: Invoice, amount: int, by: str = "ada") -> CreditNote:
    line = invoice.lines.get()
    return crediting.credit(invoice, {line.pk: Decimal(amount)}, reason="a part", by=by)


def test_no_void_of_the_rest_while_a_part_waits(invoice: Invoice) -> None:
    """Else the rest, beneath the limit, would make void what nobody approved."""
    waits = part(invoice, 45)
    assert waits.state == "draft"
    with pytest.raises(InvoicingError, match=r"credit of 45.00 .* by ada waits: approve or reject"):
        crediting.void(invoice, reason="a friend", by="ada")
    crediting.reject_credit(waits, by="ben")
    whole = crediting.void(invoice, reason="a friend", by="ada")
    assert (whole.state, whole.total) == ("draft", 49)
    with pytest.raises(InvoicingError, match=r"49.00 .* by ada waits"):
        crediting.void(invoice, reason="again", by="ben")
    crediting.approve_credit(whole, by="ben")
    invoice.standing.refresh_from_db()
    assert (invoice.standing.state, invoice.standing.balance) == ("voided", 0)
    assert Concession.objects.get().amount == 49
    assert list(reconcile_invoices()) == []


def test_a_void_after_a_part_is_of_the_rest_and_of_the_sum(invoice: Invoice) -> None:
    part(invoice, 30)
    rest = crediting.void(invoice, reason="the rest", by="ada")
    assert (rest.state, rest.total) == ("draft", 19)  # 49 alone is beyond the limit
    crediting.approve_credit(rest, by="ben")
    invoice.standing.refresh_from_db()
    assert (invoice.standing.state, invoice.standing.balance) == ("voided", 0)
    assert list(reconcile_invoices()) == []


def test_approving_a_void_of_a_part_is_refused(invoice: Invoice) -> None:
    waits = part(invoice, 45)
    waits.voids = True
    waits.save()
    with pytest.raises(InvoicingError, match=r"4.00 of .* would be left"):
        crediting.approve_credit(waits, by="ben")
    invoice.standing.refresh_from_db()
    assert invoice.standing.state == "open"


def test_what_is_open_of_a_void_one_is_told_and_can_be_credited(invoice: Invoice) -> None:
    """As books from before may have it: void, and 45.00 open for good."""
    part(invoice, 4)
    InvoiceEvent.objects.create(invoice=invoice, kind=InvoiceEvent.Kind.VOIDED)
    InvoiceStanding.objects.filter(invoice=invoice).update(state="voided")
    (told,) = reconcile_invoices()
    assert "void, and 45.00 is open" in told.what
    with pytest.raises(InvoicingError, match=r"45.00 of .* is open still"):
        draft_again(invoice)
    crediting.approve_credit(crediting.credit(invoice, reason="rest", by="ada"), by="ben")
    assert list(reconcile_invoices()) == []
    draft_again(invoice)
