"""An invoice is charged once, whatever the provider does, and what it took is in the books."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing.invoicing import crediting, payments
from billing.invoicing.standing import stand_of
from billing.models import (
    ChargeAttempt,
    Invoice,
    InvoiceStanding,
    Payment,
    ProviderCustomer,
    ProviderEvent,
)
from billing.payments import attempts, charging, customers
from billing.payments.provider import PaymentProvider
from tenants.models import Notice
from tests.billing.invoicing.books import PlainBook
from tests.billing.payments.conftest import Post, finalize_october, later
from tests.support.fake_stripe import FakeStripe
from tests.tenants.cast import Cast


def states(invoice: Invoice) -> list[str]:
    return list(invoice.charge_attempts.order_by("number").values_list("state", flat=True))


def balance(invoice: Invoice) -> Decimal:
    row = InvoiceStanding.objects.get(invoice=invoice)
    assert (row.state, row.balance) == stand_of(invoice)
    return row.balance


def test_a_finalized_invoice_is_charged(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, post: Post
) -> None:
    assert charging.run_due(provider) == 1
    assert states(invoice) == ["succeeded"]
    assert balance(invoice) == 0
    payment = Payment.objects.get()
    assert (payment.amount, payment.method) == (Decimal(49), "card")
    assert fake.taken() == 4900
    post.bring()
    assert charging.run_due(provider) == 0
    assert Payment.objects.get() == payment
    assert not ProviderEvent.objects.exclude(error="").exists()


def test_nothing_without_a_card(
    provider: PaymentProvider, fake: FakeStripe, cast: Cast, book: PlainBook
) -> None:
    """Neither an invoice finalized before the card was left, nor who took the card back."""
    finalize_october()
    row = customers.ensure_customer(provider, cast.acme)
    assert charging.run_due(provider) == 0
    fake.leave_method(row.reference)
    customers.refresh_method(provider, row)
    Invoice.objects.get(tenant=cast.acme)
    assert ProviderCustomer.objects.get().method == "pm_card"
    assert charging.run_due(provider) == 0
    fake.leave_method(row.reference, "")
    customers.refresh_method(provider, row)
    assert ProviderCustomer.objects.get().method_since is None
    assert fake.taken() == 0


def test_a_customer_is_made_once(provider: PaymentProvider, fake: FakeStripe, cast: Cast) -> None:
    assert customers.setup_method(provider, cast.acme).startswith(fake.base)
    assert provider.ensure_customer(cast.acme) == ProviderCustomer.objects.get().reference
    assert len(fake.customers) == 1


def test_the_webhook_tells_that_a_card_was_left(
    provider: PaymentProvider, fake: FakeStripe, cast: Cast, post: Post
) -> None:
    row = customers.ensure_customer(provider, cast.acme)
    fake.leave_method(row.reference, "pm_other")
    post.bring()
    row.refresh_from_db()
    assert row.method == "pm_other"


@pytest.mark.parametrize("fault", ["lost after", "500 after"])
@pytest.mark.parametrize("webhook_first", [False, True])
def test_charged_without_an_answer(
    provider: PaymentProvider,
    fake: FakeStripe,
    invoice: Invoice,
    post: Post,
    fault: str,
    webhook_first: bool,
) -> None:
    fake.faults.append(fault)
    charging.run_due(provider)
    assert states(invoice) == ["unknown"]
    assert fake.taken() == 4900
    if webhook_first:
        post.bring()
    else:
        later(provider, minutes=2)
        post.bring()
    assert states(invoice) == ["succeeded"]
    assert balance(invoice) == 0
    later(provider, days=1)
    assert len(fake.intents) == 1


@pytest.mark.parametrize("fault", ["lost before", "429", "401"])
def test_a_request_that_did_nothing_is_made_again_under_its_key(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, fault: str
) -> None:
    fake.faults.append(fault)
    charging.run_due(provider)
    assert states(invoice) == ["unknown"]
    later(provider, minutes=2)
    assert states(invoice) == ["succeeded"]
    assert len(fake.intents) == 1


def test_a_kept_500_ends_with_the_key(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice
) -> None:
    """The provider answers 500 for as long as it knows the key; then another is used."""
    fake.faults.append("500 before")
    charging.run_due(provider)
    for hours in (2, 12, 22):
        later(provider, hours=hours)
        assert states(invoice) == ["unknown"]
    later(provider, hours=24)
    assert states(invoice) == ["failed", "scheduled"]
    later(provider, hours=26)
    assert states(invoice) == ["failed", "succeeded"]
    assert fake.taken() == 4900


def test_a_failure_is_told_and_tried_again_by_the_schedule(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, post: Post
) -> None:
    at = timezone.now() + timedelta(minutes=1)
    for number, pause in enumerate((*attempts.RETRIES, timedelta(0)), 1):
        fake.faults.append("declined")
        assert charging.run_due(provider, now=at) == 1
        post.bring()
        assert ChargeAttempt.objects.filter(state="failed").count() == number
        at += pause
        if pause:
            assert charging.run_due(provider, now=at - timedelta(seconds=1)) == 0
    assert states(invoice) == ["failed"] * 5
    assert charging.run_due(provider, now=at + timedelta(days=30)) == 0
    told = Notice.objects.filter(kind="payment.failed").order_by("pk")
    assert len(told) == 5
    assert told[0].payload["reason"] == "Your card was declined"
    assert [bool(notice.payload["next_attempt_at"]) for notice in told] == [True] * 4 + [False]
    assert fake.taken() == 0
    assert {row["status"] for row in list(fake.intents.values())[:-1]} == {"canceled"}


def test_a_failed_charge_that_succeeds_after_all_is_not_followed(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice
) -> None:
    """The customer confirms it at the provider, and the webhook is lost."""
    fake.faults.append("authentication_required")
    charging.run_due(provider)
    assert states(invoice) == ["requires_action", "scheduled"]
    fake.finish(next(iter(fake.intents)), succeeds=True)
    later(provider, hours=2)
    assert balance(invoice) == 0
    later(provider, hours=4)
    assert states(invoice) == ["succeeded", "cancelled"]
    assert fake.taken() == 4900


def test_paid_by_transfer_meanwhile(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice
) -> None:
    """Not asked for again; what had been taken all the same is there, for nothing yet."""
    fake.faults.append("lost before")
    charging.run_due(provider)
    payments.record_payment(
        invoice.tenant,
        Decimal(49),
        method="bank_transfer",
        reference="tx",
        received_at=timezone.now(),
        invoice=invoice,
    )
    later(provider, minutes=10)
    assert states(invoice) == ["unknown"]
    later(provider, hours=2)
    assert states(invoice) == ["cancelled"]
    assert fake.taken() == 0


def test_what_was_taken_for_a_void_invoice_is_kept(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice
) -> None:
    fake.faults.append("lost after")
    charging.run_due(provider)
    crediting.void(invoice, by="ben", reason="wrong")
    later(provider, minutes=2)
    payment = Payment.objects.get()
    assert payments.remainder(payment) == 49


def test_under_way_then_done(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, post: Post
) -> None:
    fake.faults.append("processing")
    charging.run_due(provider)
    assert states(invoice) == ["pending"]
    fake.finish(next(iter(fake.intents)), succeeds=True)
    late, *_ = fake.events
    post.bring()
    assert states(invoice) == ["succeeded"]
    assert post.send(late | {"id": "evt_late"}) == 200  # "created", after all is over
    post.bring()
    assert states(invoice) == ["succeeded"]


@pytest.mark.parametrize("wrong", [{"amount_received": 100}, {"currency": "eur"}])
def test_another_amount_waits_for_an_operator(
    provider: PaymentProvider,
    fake: FakeStripe,
    invoice: Invoice,
    post: Post,
    wrong: dict[str, Any],
) -> None:
    fake.faults.append("lost after")
    charging.run_due(provider)
    next(iter(fake.intents.values())).update(wrong)
    post.bring()
    assert states(invoice) == ["held"]
    assert not Payment.objects.exists()
    assert ProviderEvent.objects.exclude(error="").exists()
    later(provider, days=2)
    assert len(fake.intents) == 1
    attempts.set_aside(invoice.charge_attempts.get(), by="ben")
    post.send(fake.events[-1] | {"id": "evt_again"})
    post.bring()
    assert states(invoice) == ["cancelled"]


def test_a_charge_of_nobody_is_kept_for_an_operator(
    provider: PaymentProvider, fake: FakeStripe, customer: ProviderCustomer, post: Post
) -> None:
    """Made on the provider's own pages, or by another shop of the same account."""
    form = {"amount": "700", "currency": "usd", "customer": customer.reference}
    fake.answer("POST", "/v1/payment_intents", form, "")
    fake.tell("payment_intent.succeeded", {"id": "pi_elsewhere", "object": "payment_intent"})
    post.bring()
    errors = set(ProviderEvent.objects.exclude(error="").values_list("error", flat=True))
    assert "pi_000004 is no charge of ours: 7.00 USD" in errors
    assert any("pi_elsewhere" in error and "resource_missing" in error for error in errors)
    assert not Payment.objects.exists()
