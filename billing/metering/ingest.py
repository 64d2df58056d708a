"""Batch → ledger and rollups. Each batch id counts once, however often and in whatever order it
arrives."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing import metrics
from billing.metering.batch import (
    MAX_UNITS,
    Batch,
    BatchId,
    MalformedBatch,
    UsageLine,
    decode,
)
from billing.metering.ledger import Posting, post
from billing.metering.rollup import add_to_rollups
from billing.models import SUSPENSE, Metric, QuarantinedBatch, UsageBatch
from tenants import selectors, services

log = structlog.get_logger(__name__)


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
    """Post a batch to the ledger, add it to the rollups and remember its id, in one transaction.
    False if it was counted before."""
    sums = _sums(batch)
    with transaction.atomic():
        row = _remember(batch, sums)
        if row is None:
            metrics.batches.labels("repeated").inc()
            return False
        _add(row, sums)
    metrics.batches.labels("ingested").inc()
    used = {line.key_id for line in batch.lines}
    services.note_use(used, at=timezone.now())
    return True


def _remember(batch: Batch, sums: Counter[Posting]) -> UsageBatch | None:
    totals: Counter[str] = Counter()
    for posting, units in sums.items():
        totals[posting.metric] += units
    try:
        with transaction.atomic():
            return UsageBatch.objects.create(
                worker=batch.worker,
                flush_seq=batch.seq,
                hour=batch.hour,
                line_count=len(batch.lines),
                message_total=totals[Metric.MESSAGES.value],
                byte_total=totals[Metric.BYTES.value],
                request_total=totals[Metric.REQUESTS.value],
                entry_count=len(sums),
            )
    except IntegrityError:
        # Another violation would be a bug of ours and must not pass for "seen".
        if UsageBatch.objects.filter(worker=batch.worker, flush_seq=batch.seq).exists():
            return None
        raise


def _sums(batch: Batch) -> Counter[Posting]:
    tenant_of = selectors.tenant_ids_of_keys({line.key_id for line in batch.lines})
    unknown = {line.key_id for line in batch.lines if line.key_id not in tenant_of}
    if unknown:
        log.warning("usage_of_unknown_keys", key_ids=sorted(unknown)[:10], keys=len(unknown))
    sums: Counter[Posting] = Counter()
    for line in batch.lines:
        account = tenant_of.get(line.key_id, SUSPENSE)
        for metric, units in _units(line):
            if units:
                # The meter tells no reason to zero-rate, so nothing is.
                posting = Posting(account, batch.hour, line.key_id, metric, line.channel, "")
                sums[posting] += units
    return sums


def _units(line: UsageLine) -> Iterator[tuple[str, int]]:
    yield Metric.MESSAGES.value, line.messages
    yield Metric.BYTES.value, line.payload_bytes
    yield Metric.REQUESTS.value, line.requests


def _check_sums(batch: Batch) -> None:
    totals: Counter[str] = Counter()
    for line in batch.lines:
        for metric, units in _units(line):
            totals[metric] += units
    if max(totals.values(), default=0) > MAX_UNITS:
        raise MalformedBatch("its units add up to more than a row can hold")


def _add(row: UsageBatch, sums: Counter[Posting]) -> None:
    # First, because it locks the accounts, and with them the rollups of their tenants.
    post(row.pk, sums)
    add_to_rollups(row.pk, row.hour)


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
