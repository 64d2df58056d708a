"""Whatever breaks, and in whatever order it is told: the books say what the provider took, and an
invoice is paid once."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing.invoicing.standing import stand_of
from billing.models import (
    ChargeAttempt,
    Invoice,
    InvoiceStanding,
    Payment,
    PaymentAllocation,
    ProviderEvent,
)
from billing.payments import charging, events
from billing.payments.provider import PaymentProvider
from tests.billing.invoicing.books import PlainBook
from tests.billing.payments.conftest import Post, finalize_october, with_card
from tests.support.fake_stripe import FAULTS, FakeStripe
from tests.tenants.cast import Cast


class Story:
    """A random history of charging two customers."""

    def __init__(self, seed: int, provider: PaymentProvider, fake: FakeStripe, post: Post) -> None:
        self.random = random.Random(seed)
        self.provider, self.fake, self.post = provider, fake, post
        self.now: datetime = timezone.now() + timedelta(minutes=1)
        self.told = 0
        self.waiting: list[dict[str, Any]] = []

    def step(self) -> None:
        self.waiting += self.fake.events[self.told :]
        self.told = len(self.fake.events)
        match self.random.choices(
            ("run", "fault", "post", "process", "wait", "down", "finish"),
            weights=(6, 5, 4, 4, 4, 1, 2),
        )[0]:
            case "run":
                charging.run_due(self.provider, now=self.now)
            case "fault":
                self.fake.faults.append(self.random.choice(FAULTS))
            case "post" if self.waiting:
                event = self.random.choice(self.waiting)  # out of order
                if self.random.random() < 0.7:  # and some of them again
                    self.waiting.remove(event)
                assert self.post.send(event) == 200
            case "process":
                events.process_due(self.provider, now=self.now)
            case "wait":
                self.now += timedelta(hours=self.random.choice([0.1, 1, 5, 23, 80]))
            case "down":
                self.fake.is_down = not self.fake.is_down
            case "finish":
                names = [
                    name
                    for name, row in self.fake.intents.items()
                    if row["status"] not in {"succeeded", "canceled"}
                ]
                if names:
                    # What had failed too: its customer confirmed it at the provider.
                    name = self.random.choice(names)
                    self.fake.finish(name, succeeds=self.random.random() < 0.5)

    def settle(self) -> None:
        """Nothing breaks any more; all webhooks come, of which half had been lost."""
        self.fake.is_down = False
        self.fake.faults.clear()
        for intent in self.fake.intents.values():
            if intent["status"] == "processing":
                self.fake.finish(intent["id"], succeeds=self.random.random() < 0.5)
        rest = list(self.fake.events)
        self.random.shuffle(rest)
        for event in rest:
            assert self.post.send(event) == 200
        for _ in range(12):
            self.now += timedelta(hours=30)
            events.process_due(self.provider, now=self.now)
            charging.run_due(self.provider, now=self.now)

    def hold(self) -> None:
        """At any time: nothing in the books that was not taken, and no invoice paid twice."""
        taken: dict[str, Decimal] = {
            name: Decimal(row["amount_received"]).scaleb(-2)
            for name, row in self.fake.intents.items()
            if row["status"] == "succeeded"
        }
        for payment in Payment.objects.all():
            assert taken[payment.reference] == payment.amount
        for invoice in Invoice.objects.finalized():
            row = InvoiceStanding.objects.get(invoice=invoice)
            assert (row.state, row.balance) == stand_of(invoice)
            assert row.balance >= 0
            paid = self.fake.intents.values()
            mine = [r for r in paid if r["metadata"].get("invoice") == invoice.number]
            assert sum(r["amount_received"] for r in mine) <= 100 * invoice.due
            assert invoice.charge_attempts.filter(is_open=True).count() <= 1


@pytest.mark.parametrize("seed", range(12))
def test_what_was_taken_is_what_is_recorded(
    seed: int,
    provider: PaymentProvider,
    fake: FakeStripe,
    cast: Cast,
    book: PlainBook,
    post: Post,
) -> None:
    for tenant in (cast.acme, cast.other):
        with_card(provider, fake, tenant)
    finalize_october()
    story = Story(seed, provider, fake, post)
    for _ in range(40):
        story.step()
        story.hold()
    story.settle()
    story.hold()
    recorded = sum(payment.amount for payment in Payment.objects.all())
    assert int(100 * recorded) == fake.taken()
    kind = PaymentAllocation.Kind.PAYMENT
    assert PaymentAllocation.objects.filter(kind=kind).count() == Payment.objects.count()
    assert not ChargeAttempt.objects.filter(state__in=["unknown", "held", "pending"]).exists()
    assert not ProviderEvent.objects.filter(processed_at=None).exists()
    assert {r["status"] for r in fake.intents.values()} <= {
        *("succeeded", "canceled", "requires_payment_method"),
    }
