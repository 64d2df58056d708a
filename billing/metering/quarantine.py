"""Batches that were put aside: received again after a mend, or given up; and those that are missing
in a worker's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models import Count, F, Max, Value, Window
from django.db.models.functions import Coalesce, Lag
from django.utils import timezone

from billing.metering import ingest
from billing.metering.batch import BatchId
from billing.models import QuarantinedBatch, UsageBatch

log = structlog.get_logger(__name__)

WORKER_CHARACTERS = 32


class Hole(NamedTuple):
    """Numbers `first` to `last` of a worker that never came, though the next one did, at
    `next_at`, with usage of `next_hour`."""

    worker: str
    first: int
    last: int
    next_hour: datetime
    next_at: datetime


def holes() -> Iterator[Hole]:
    """All of them, without the numbers that are in quarantine. What a worker has sealed after its
    highest number here may be on its way, and is none."""
    crowded = UsageBatch.objects.order_by().values("worker").annotate(held=Count("pk"))
    with_holes = crowded.annotate(top=Max("flush_seq")).filter(held__lt=F("top"))
    for worker in list(with_holes.order_by("worker").values_list("worker", flat=True)):
        rows: Any = UsageBatch.objects.filter(worker=worker).annotate(
            before=Coalesce(Window(Lag("flush_seq"), order_by="flush_seq"), Value(0))
        )
        after = rows.filter(flush_seq__gt=F("before") + 1).order_by("flush_seq")
        aside = set(
            QuarantinedBatch.objects.filter(worker=worker).values_list("flush_seq", flat=True)
        )
        for before, seq, hour, at in after.values_list(
            "before", "flush_seq", "hour", "received_at"
        ):
            inside = sorted(number for number in aside if before < number < seq)
            for low, high in zip([before, *inside], [*inside, seq], strict=True):
                if high - low > 1:
                    yield Hole(worker, low + 1, high - 1, hour, at)


@transaction.atomic
def release(number: int) -> bool:
    """Receive a quarantined row again, after whatever was wrong was mended. Answers whether it
    counted; False: its id was counted before with the same units. Then it is in quarantine no more.

    Exactly once, also by two at once: a batch id counts once. Raises MalformedBatch when it still
    cannot be counted, and QuarantinedBatch.DoesNotExist.
    """
    row = QuarantinedBatch.objects.select_for_update().get(pk=number)
    is_counted = ingest.count(BatchId(row.worker, row.flush_seq), row.text)
    row.delete()
    log.warning("usage_batch_released", worker=row.worker, seq=row.flush_seq, counted=is_counted)
    return is_counted


@transaction.atomic
def discard(number: int) -> None:
    """Give a quarantined row up: its units are on nobody's bill. Its id counts as a batch of
    nothing, so it is no hole. Raises QuarantinedBatch.DoesNotExist."""
    row = QuarantinedBatch.objects.select_for_update().get(pk=number)
    give_up(BatchId(row.worker, row.flush_seq), hour=row.received_at)
    row.delete()
    log.warning("usage_batch_discarded", worker=row.worker, seq=row.flush_seq, reason=row.reason)


def give_up(batch_id: BatchId, *, hour: datetime | None = None) -> bool:
    """Count an id that never came as a batch of nothing; should it come yet, it is quarantined.
    Answers whether it was new."""
    if len(batch_id.worker) > WORKER_CHARACTERS or batch_id.seq < 1:
        return False  # no id that any worker has
    at = (hour or timezone.now()).astimezone(UTC)
    _, is_new = UsageBatch.objects.get_or_create(
        worker=batch_id.worker,
        flush_seq=batch_id.seq,
        defaults={
            "hour": at.replace(minute=0, second=0, microsecond=0),
            "line_count": 0,
            "message_total": 0,
            "entry_count": 0,
        },
    )
    return is_new
