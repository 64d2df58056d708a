"""An invoice in the customer's favour: its charges can be credited, and it is charged back by a
charge."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing.exports import journal
from billing.exports.accounts import Account, movements
from billing.exports.scope import Scope
from billing.invoicing import adjusting, crediting
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.draft import draft_one_off
from billing.invoicing.errors import InvoicingError
from billing.invoicing.finalize import finalize
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import Invoice, InvoiceStanding
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, PlainBook
from tests.billing.invoicing.test_kinds import GRACE
from tests.tenants.cast import Cast

EVER = NOVEMBER.replace(year=2020), NOVEMBER.replace(year=2900)


def adjust(cast: Cast, amount: int) -> None:
    row = adjusting.propose(cast.acme, Decimal(amount), code="x", name="Outage", by="ada")
    adjusting.decide(row, approve=True, by="ben")


@pytest.fixture
def below(cast: Cast, book: PlainBook) -> Invoice:
    """A fee of 49, and 150 back."""
    adjust(cast, -150)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + GRACE)
    invoice = Invoice.objects.get(tenant=cast.acme)
    assert invoice.total == -101
    return invoice


def balance(invoice: Invoice) -> Decimal:
    return InvoiceStanding.objects.get(invoice=invoice).balance


def receivables(invoice: Invoice) -> Decimal:
    scope = Scope(*EVER, tenant=invoice.tenant_id)
    return movements(journal.entries(scope)).get(Account.RECEIVABLES, Decimal(0))


def test_what_it_charges_can_be_credited_in_parts(below: Invoice) -> None:
    fee = below.lines.get(code="growth")
    crediting.credit(below, {fee.pk: Decimal(20)}, reason="half a month down", by="ada")
    assert balance(below) == -121
    crediting.credit(below, {fee.pk: Decimal(29)}, reason="all of it", by="ada")
    assert balance(below) == receivables(below) == -150
    with pytest.raises(InvoicingError, match="can be credited"):
        crediting.credit(below, {fee.pk: Decimal("0.01")}, reason="again", by="ada")
    outage = below.lines.get(code="x")
    with pytest.raises(InvoicingError, match="can be credited"):
        crediting.credit(below, {outage.pk: Decimal(1)}, reason="no", by="ada")
    with pytest.raises(InvoicingError, match="can be credited"):
        crediting.credit(below, reason="all that is left", by="ada")
    assert list(reconcile_invoices()) == []


def test_a_charge_that_others_settled_comes_back(cast: Cast, below: Invoice) -> None:
    """Also once the invoice has paid the next ones: what is credited is in favour again."""
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    assert balance(below) == -52
    fee = below.lines.get(code="growth")
    crediting.credit(below, {fee.pk: Decimal(49)}, reason="down all month", by="ada")
    assert balance(below) == receivables(below) == -101
    assert list(reconcile_invoices()) == []


def test_it_is_charged_back_by_a_charge(cast: Cast, below: Invoice) -> None:
    with pytest.raises(InvoicingError, match=r"101\.00 in the customer's favour.*charge it back"):
        crediting.void(below, reason="wrong", by="ada")
    adjust(cast, 101)
    charge = finalize(draft_one_off(cast.acme))
    assert (balance(below), balance(charge)) == (0, 0)
    assert receivables(below) == 0
    assert list(reconcile_invoices()) == []
