"""Celery's doors into billing. The promises are held by what they call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery import shared_task
from django.db import OperationalError
from django.utils import timezone

from billing.catalogue import spending, written
from billing.invoicing import closing, dunning, sending
from billing.metering import chain, coins, ingest, retention
from billing.metering.batch import BatchId
from billing.metering.doorbell import acknowledge
from billing.payments import charging, events
from billing.payments.chosen import provider

#: Of the 240 s that Celery gives a task. What is not done by then the next turn does.
LIMIT_S = 180.0


# A deadlock between two batches or a database that is restarting is tried again here; anything
# longer is the spool's.
@shared_task(
    acks_late=True,
    ignore_result=True,
    autoretry_for=(OperationalError,),
    max_retries=3,
    retry_backoff=1,
)
def ingest_batch(worker: str, seq: int, text: str) -> None:
    """Count a usage batch once, and tell the spool that the database has it."""
    ingest.receive(BatchId(worker, seq), text)
    acknowledge(BatchId(worker, seq))


@shared_task(acks_late=True, ignore_result=True)
def seal_ledger() -> None:
    """Make the seals of the last hour that has ended. Beat's next turn goes on where one was
    stopped."""
    chain.seal_ledger(chain.ended_hour(timezone.now()))


@shared_task(acks_late=True, ignore_result=True)
def apply_terms() -> None:
    """Write down the limits and allowances of tenants whose terms changed by time. A second beat
    finds nothing to do."""
    written.catch_up(timezone.now())


@shared_task(acks_late=True, ignore_result=True)
def limit_spending() -> None:
    """Write down how much more of each meter a spend cap pays for."""
    spending.limit_spending(timezone.now())


@shared_task(acks_late=True, ignore_result=True)
def fold_coins() -> None:
    """Keep the 50 coins of each key and ended day by name."""
    coins.fold_coins(timezone.now().date())


@shared_task(acks_late=True, ignore_result=True)
def delete_expired_usage() -> None:
    """Delete usage in detail that is older than it is kept, as much as a turn has time for."""
    end_s = time.monotonic() + LIMIT_S
    retention.delete_expired(timezone.now(), is_time=lambda: time.monotonic() > end_s)


@shared_task(acks_late=True, ignore_result=True)
def close_periods() -> None:
    """Draft invoices of the periods that have ended."""
    _go_on(closing.close_due_periods, close_periods)


@shared_task(acks_late=True, ignore_result=True)
def finalize_invoices() -> None:
    """Finalize the drafts whose grace is over."""
    _go_on(closing.finalize_due, finalize_invoices)


def _go_on(work: Callable[..., object], task: Any) -> None:
    """Work for as long as a turn may last, and when that was too short ask for another at once: the
    beat's next is a quarter of an hour away. Should the asking fail, it is that one."""
    began_s = time.monotonic()
    work(limit_s=LIMIT_S)
    if time.monotonic() - began_s >= LIMIT_S:
        task.delay()


@shared_task(acks_late=True, ignore_result=True)
def send_invoices() -> None:
    """Mail the invoices and credit notes that were not sent yet."""
    sending.send_due()


@shared_task(acks_late=True, ignore_result=True)
def dun() -> None:
    """Note which invoices are overdue, and take the steps of the dunning schedule."""
    dunning.mark_overdue()
    dunning.dun()


@shared_task(acks_late=True, ignore_result=True)
def charge_invoices() -> None:
    """Charge what is due to be, and ask what became of what was."""
    charging.run_due(provider(), limit_s=LIMIT_S)


@shared_task(acks_late=True, ignore_result=True)
def process_payment_events() -> None:
    """Process the webhooks of the payment provider, and book refunds that wait."""
    events.process_due(provider(), limit_s=LIMIT_S)
