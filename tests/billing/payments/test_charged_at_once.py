"""Several workers and webhooks at the same time: one charge, one payment."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from billing.invoicing import terms_port
from billing.models import Invoice, Payment, PaymentAllocation
from billing.payments import charging, events
from billing.payments.provider import PaymentProvider
from tests.billing.invoicing.books import PlainBook
from tests.billing.payments.conftest import Post, finalize_october, with_card
from tests.support.fake_stripe import FakeStripe
from tests.tenants.cast import Cast


def at_once(*jobs: Callable[[], object]) -> None:
    """Each in a thread of its own, begun together."""
    gate, broken = threading.Barrier(len(jobs)), []

    def run(job: Callable[[], object]) -> None:
        gate.wait(10)
        try:
            job()
        except Exception as error:
            broken.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not broken


@pytest.mark.parametrize("fault", ["", "lost after", "processing"])
def test_one_charge(
    committed_cast: Cast, provider: PaymentProvider, fake: FakeStripe, post: Post, fault: str
) -> None:
    with terms_port.use(PlainBook()):
        with_card(provider, fake, committed_cast.acme)
        finalize_october()
    if fault:
        fake.faults.append(fault)
    at_once(*[lambda: charging.run_due(provider)] * 4)
    if fault == "processing":
        fake.finish(next(iter(fake.intents)), succeeds=True)
    for event in fake.events:
        assert post.send(event) == 200
    invoice = Invoice.objects.get(tenant=committed_cast.acme, state="finalized")
    invoice.charge_attempts.filter(is_open=True).update(next_at=invoice.finalized_at)
    process, ask = (lambda: events.process_due(provider)), (lambda: charging.run_due(provider))
    at_once(process, ask, process, ask)
    # Who met a lock tries again in a while.
    events.ProviderEvent.objects.filter(processed_at=None).update(next_at=invoice.finalized_at)
    events.process_due(provider)
    assert len(fake.intents) == 1
    assert Payment.objects.count() == PaymentAllocation.objects.count() == 1
    assert invoice.charge_attempts.get().state == "succeeded"
