"""Batch → hourly rollups. Each batch id counts once, however often and in whatever order it
arrives."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import metrics
from billing.metering.batch import MAX_UNITS, Batch, BatchId, MalformedBatch, decode
from billing.models import Metric, QuarantinedBatch, UsageBatch, UsageRollup
from tenants import selectors, services

log = structlog.get_logger(__name__)

#: Six parameters a row; SQLite's smallest common bound is 32,766 of them.
ROWS_PER_STATEMENT = 500


class _Sum(NamedTuple):
    """A rollup's key; sorting by it is the order in which rows are locked."""

    hour: datetime
    key_id: int
    metric: str
    channel: str


def receive(batch_id: BatchId, text: str) -> bool:
    """Count a batch as it came from the spool; what cannot be read is put aside. Answers whether it
    counted.

    When this returns, the database has the batch. Raises django.db.Error when it has not.
    """
    try:
        batch = decode(text)
        if batch.id != batch_id:
            raise MalformedBatch(f"it names itself {batch.id}")
        _check_sums(batch)
    except MalformedBatch as error:
        _quarantine(batch_id, text, reason=str(error))
        return False
    return ingest(batch)


def ingest(batch: Batch) -> bool:
    """Add a batch to the rollups and remember its id, in one transaction. False if it was counted
    before."""
    with transaction.atomic():
        if not _remember(batch):
            metrics.batches.labels("repeated").inc()
            return False
        _add(_sums(batch))
    metrics.batches.labels("ingested").inc()
    used = {line.key_id for line in batch.lines}
    services.note_use(used, at=timezone.now())
    return True


def _remember(batch: Batch) -> bool:
    try:
        with transaction.atomic():
            UsageBatch.objects.create(
                worker=batch.worker,
                flush_seq=batch.seq,
                hour=batch.hour,
                line_count=len(batch.lines),
                message_total=sum(line.messages for line in batch.lines),
            )
    except IntegrityError:
        # Another violation would be a bug of ours and must not pass for "seen".
        if UsageBatch.objects.filter(worker=batch.worker, flush_seq=batch.seq).exists():
            return False
        raise
    return True


def _sums(batch: Batch) -> Counter[_Sum]:
    sums: Counter[_Sum] = Counter()
    for line in batch.lines:
        for metric, units in (
            (Metric.MESSAGES, line.messages),
            (Metric.BYTES, line.payload_bytes),
            (Metric.REQUESTS, line.requests),
        ):
            if units:
                sums[_Sum(batch.hour, line.key_id, metric.value, line.channel)] += units
    return sums


def _check_sums(batch: Batch) -> None:
    total = sum(line.messages for line in batch.lines)
    if max(total, *_sums(batch).values(), 0) > MAX_UNITS:
        raise MalformedBatch("its units add up to more than a row can hold")


def _add(sums: Counter[_Sum]) -> None:
    tenant_of = selectors.tenant_ids_of_keys({key.key_id for key in sums})
    unknown = {key.key_id for key in sums if key.key_id not in tenant_of}
    if unknown:
        log.warning("usage_of_unknown_keys", key_ids=sorted(unknown)[:10], keys=len(unknown))
    # Sorted, so that two batches lock the rows they share in the same order instead of deadlocking.
    rows = [
        (key.hour, tenant_of.get(key.key_id), key.key_id, key.metric, key.channel, units)
        for key, units in sorted(sums.items())
    ]
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        _upsert(rows[start : start + ROWS_PER_STATEMENT])


def _upsert(rows: list[tuple[datetime, int | None, int, str, str, int]]) -> None:
    """Insert rollup rows, or add their units to the rows that are there.

    In SQL, because Django's `bulk_create(update_conflicts=True)` can only replace a value, and
    read-add-write would need a lock on rows that do not exist yet.
    """
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, ("hour", "tenant_id", "key_id", "metric", "channel", "units")))
    values = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(rows))
    table, units = quote(UsageRollup._meta.db_table), quote("units")
    if connection.vendor == "mysql":
        conflict = f"ON DUPLICATE KEY UPDATE {units} = {units} + VALUES({units})"
    else:
        unique = ", ".join(map(quote, ("hour", "key_id", "metric", "channel")))
        conflict = (
            f"ON CONFLICT ({unique}) DO UPDATE SET {units} = {table}.{units} + excluded.{units}"
        )
    adapt = connection.ops.adapt_datetimefield_value
    parameters: list[Any] = [value for hour, *rest in rows for value in (adapt(hour), *rest)]
    with connection.cursor() as cursor:
        # Only names from the model's own metadata are put into the text.
        cursor.execute(f"INSERT INTO {table} ({columns}) VALUES {values} {conflict}", parameters)  # noqa: S608


def _quarantine(batch_id: BatchId, text: str, *, reason: str) -> None:
    _, is_new = QuarantinedBatch.objects.get_or_create(
        digest=hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
        defaults={
            "worker": batch_id.worker[:64],
            "flush_seq": batch_id.seq,
            "reason": reason[:200],
            "text": text,
        },
    )
    if is_new:
        metrics.batches.labels("quarantined").inc()
        log.error(
            "usage_batch_quarantined", worker=batch_id.worker, seq=batch_id.seq, reason=reason[:200]
        )
