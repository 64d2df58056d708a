"""What was overpaid goes back once, by whatever two ways it is asked for."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing.invoicing import approving, conceding, crediting, payments
from billing.invoicing.carrying import in_favour_of
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.errors import ApprovalError, InvoicingError
from billing.models import Concession, Invoice, Payment, ProviderCustomer
from billing.payments import charging, events, returns
from billing.payments.provider import PaymentProvider, RefusedError
from tests.billing.invoicing.books import DECEMBER
from tests.billing.payments.conftest import Post
from tests.support.fake_stripe import FakeStripe
from tests.tenants.cast import Cast


@pytest.fixture
def card(provider: PaymentProvider, invoice: Invoice, post: Post, settings: Any) -> Payment:
    """49.00 of a card, left over from an invoice that is credited."""
    charging.run_due(provider)
    post.bring()
    crediting.credit(invoice, by="eve", reason="not wanted")
    settings.RELAY_CREDIT_LIMIT = 40
    return Payment.objects.get()


@pytest.fixture
def bank(card: Payment, cast: Cast) -> Payment:
    """Another 49.00, which November is still to be paid with: so 49.00 of 98.00 are owed."""
    ProviderCustomer.objects.update(method="", method_since=None)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + timedelta(hours=72))
    return payments.record_payment(
        cast.acme,
        Decimal(49),
        method="bank_transfer",
        reference="b1",
        received_at=timezone.now(),
        by="eve",
    )


def test_what_a_provider_is_sending_back_is_not_owed(
    provider: PaymentProvider, fake: FakeStripe, card: Payment, bank: Payment, post: Post
) -> None:
    tenant = bank.tenant_id
    assert in_favour_of(tenant) == 49
    fake.faults.append("lost before")
    row = returns.send_back(provider, card, Decimal(49), by="mallory")
    assert (row.state, in_favour_of(tenant)) == ("asked", 0)
    gift = conceding.refund(bank, Decimal(49), by="mallory")
    assert gift is not None
    assert (gift.state, gift.amount) == ("waiting", Decimal(49))
    with pytest.raises(InvoicingError, match=r"0\.00 of the payment is left"):
        conceding.refund(card, Decimal(49), by="mallory")
    approving.reject(gift, by="ben")
    events.process_due(provider)
    post.bring()
    row.refresh_from_db()
    assert row.booked_at is not None
    assert in_favour_of(tenant) == 0


def test_a_refund_that_waits_is_not_owed_to_another(card: Payment, bank: Payment) -> None:
    """Nor the same again by the same, which is one request."""
    tenant = bank.tenant_id
    assert conceding.refund(card, Decimal(4), by="ben") is None
    gift = conceding.refund(bank, Decimal(49), by="mallory")
    assert gift is not None
    assert (gift.state, gift.amount, in_favour_of(tenant)) == ("given", Decimal(4), Decimal(-4))
    more = conceding.refund(card, Decimal(45), by="mallory")
    assert more is not None
    assert (more.state, more.amount) == ("waiting", Decimal(45))
    same = conceding.refund(card, Decimal(45), by="mallory")
    assert same is not None
    assert same.pk == more.pk
    assert in_favour_of(tenant) == -49
    twin = conceding.refund(card, Decimal(45), by="carol")
    assert twin is not None
    assert twin.amount == 45
    approving.approve(more, by="ben")
    with pytest.raises(InvoicingError, match="of the payment is left"):
        approving.approve(twin, by="ben")


@pytest.mark.parametrize("is_approved", [False, True])
def test_what_a_provider_refuses_was_not_given(
    provider: PaymentProvider,
    card: Payment,
    cast: Cast,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    is_approved: bool,
) -> None:
    """However often it is asked for, its sum is not used up; nor is anything on its way."""
    ProviderCustomer.objects.update(method="", method_since=None)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + timedelta(hours=72))  # so nothing of the 49.00 is owed

    def refuse(*_: Any) -> None:
        raise RefusedError("card_closed", "the card is closed")

    monkeypatch.setattr(type(provider), "refund", refuse)
    settings.RELAY_CREDIT_LIMIT = 40 if is_approved else 50
    for _ in range(2):
        if is_approved:
            with pytest.raises(ApprovalError):
                returns.send_back(provider, card, Decimal(49), by="mallory")
            approving.approve(Concession.objects.get(state="waiting"), by="ben")
            returns.send_again(provider)
        else:
            with pytest.raises(InvoicingError, match="refused: "):
                returns.send_back(provider, card, Decimal(49), by="mallory")
    rows = Concession.objects.filter(kind="provider_refund")
    assert list(rows.values_list("state", flat=True)) == ["rejected", "rejected"]
    assert in_favour_of(cast.acme.pk) == 0


def test_what_comes_back_was_not_given(
    provider: PaymentProvider, fake: FakeStripe, card: Payment, post: Post, settings: Any
) -> None:
    ProviderCustomer.objects.update(method="", method_since=None)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + timedelta(hours=72))
    settings.RELAY_CREDIT_LIMIT = 50
    row = returns.send_back(provider, card, Decimal(49), by="mallory")
    post.bring()
    given = Concession.objects.get(kind="provider_refund")
    assert given.state == "given"
    fake.fail_refund(row.reference or "")
    post.bring()
    given.refresh_from_db()
    assert given.state == "rejected"
