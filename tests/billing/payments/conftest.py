"""Acme with a card at a fake Stripe, on plain terms of 49.00 a month."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing.invoicing import terms_port
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.models import Invoice, ProviderCustomer
from billing.payments import charging, chosen, customers, events
from billing.payments.provider import PaymentProvider
from tenants.models import Tenant
from tests.billing.invoicing.books import NOVEMBER, PlainBook
from tests.support import fake_stripe
from tests.support.fake_stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe
from tests.tenants.cast import Cast


@pytest.fixture
def book() -> Iterator[PlainBook]:
    plain = PlainBook()
    with terms_port.use(plain):
        yield plain


@pytest.fixture(scope="session")
def stripe_server() -> Iterator[FakeStripe]:
    """One server for all tests; each begins with an empty one."""
    with fake_stripe.running() as fake:
        yield fake


@pytest.fixture
def fake(stripe_server: FakeStripe, settings: Any) -> FakeStripe:
    base = stripe_server.base
    stripe_server.__init__()  # type: ignore[misc]
    stripe_server.base = base
    settings.RELAY_PAYMENTS = "stripe"
    settings.STRIPE_SECRET_KEY = SECRET_KEY
    settings.STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
    settings.STRIPE_API_BASE = base
    return stripe_server


@pytest.fixture
def provider(fake: FakeStripe) -> PaymentProvider:
    return chosen.provider()


@pytest.fixture
def customer(provider: PaymentProvider, fake: FakeStripe, cast: Cast) -> ProviderCustomer:
    """Acme's, with a card."""
    return with_card(provider, fake, cast.acme)


@pytest.fixture
def invoice(customer: ProviderCustomer, cast: Cast, book: PlainBook) -> Invoice:
    """Acme's of October, finalized after the card was left."""
    finalize_october()
    return Invoice.objects.get(tenant=cast.acme, state="finalized")


def with_card(provider: PaymentProvider, fake: FakeStripe, tenant: Tenant) -> ProviderCustomer:
    row = customers.ensure_customer(provider, tenant)
    fake.leave_method(row.reference)
    customers.refresh_method(provider, row)
    row.refresh_from_db()
    # The invoices of these tests are finalized at fixed times, of which some are over.
    row.method_since = NOVEMBER
    row.save()
    return row


def finalize_october() -> None:
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))


class Post:
    """Brings the fake's webhooks, as Stripe does."""

    def __init__(self, fake: FakeStripe, provider: PaymentProvider) -> None:
        self._fake, self._provider, self._client, self._next = fake, provider, Client(), 0

    def send(self, event: dict[str, Any], **signed: Any) -> int:
        body = self._fake.body(event)
        return self._client.post(
            "/webhooks/stripe/",
            body,
            content_type="application/json",
            headers={"Stripe-Signature": self._fake.signature(body, **signed)},
        ).status_code

    def bring(self) -> None:
        """Everything that is new, in order, and have it processed."""
        new, self._next = self._fake.events[self._next :], len(self._fake.events)
        for event in new:
            assert self.send(event) == 200
        events.process_due(self._provider)


@pytest.fixture
def post(fake: FakeStripe, provider: PaymentProvider) -> Post:
    return Post(fake, provider)


def later(provider: PaymentProvider, **by: float) -> None:
    """Charges that are due so much later."""
    charging.run_due(provider, now=timezone.now() + timedelta(**by))
