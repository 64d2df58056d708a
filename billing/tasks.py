"""Celery's doors into billing. The promises are held by what they call."""

from __future__ import annotations

import time

from celery import shared_task
from django.db import OperationalError
from django.utils import timezone

from billing.catalogue import spending, written
from billing.invoicing import closing, dunning, sending
from billing.metering import chain, coins, ingest, retention
from billing.metering.batch import BatchId
from billing.metering.doorbell import acknowledge

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
    closing.close_due_periods(limit_s=LIMIT_S)


@shared_task(acks_late=True, ignore_result=True)
def finalize_invoices() -> None:
    """Finalize the drafts whose grace is over."""
    closing.finalize_due(limit_s=LIMIT_S)


@shared_task(acks_late=True, ignore_result=True)
def send_invoices() -> None:
    """Mail the invoices that were not sent yet."""
    sending.send_due()


@shared_task(acks_late=True, ignore_result=True)
def dun() -> None:
    """Note which invoices are overdue, and take the steps of the dunning schedule."""
    dunning.mark_overdue()
    dunning.dun()
