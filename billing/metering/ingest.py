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
    encode,
)
from billing.metering.coins import add_minutes, add_to_coins
from billing.metering.ledger import Posting, post
from billing.metering.rollup import add_to_rollups
from billing.models import SUSPENSE, Metric, QuarantinedBatch, UsageBatch
from tenants import selectors, services

log = structlog.get_logger(__name__)


class OtherwiseToldError(MalformedBatch):
    """The id was counted before, with other units: one of the two is wrong."""


def receive(batch_id: BatchId, text: str) -> bool:
    """Count a batch as it came from the spool; what cannot be read, or tells an id that was counted
    otherwise, is put aside. Answers whether it counted.

    When this returns, the database has the batch. Raises django.db.Error when it has not.
    """
    try:
        return count(batch_id, text)
    except MalformedBatch as error:
        _quarantine(batch_id, text, reason=str(error))
        return False


def count(batch_id: BatchId, text: str) -> bool:
    """Count a batch as it came. False if it was counted before. Raises MalformedBatch."""
    batch = decode(text)
    if batch.id != batch_id:
        raise MalformedBatch(f"it names itself {batch.id}")
    _check_sums(batch)
    return _ingest(batch)


def ingest(batch: Batch) -> bool:
    """Post a batch to the ledger, add it to the rollups and remember its id, in one transaction.
    False if it was counted before; if with other units, it is put aside."""
    try:
        return _ingest(batch)
    except OtherwiseToldError as error:
        _quarantine(batch.id, encode(batch).decode(), reason=str(error))
        return False


def _ingest(batch: Batch) -> bool:
    used = {line.key_id for line in batch.lines}
    tenant_of = _tenants(used | {line.key_id for line in batch.minutes})
    sums = _sums(batch, tenant_of)
    try:
        with transaction.atomic():
            if batch.minutes:
                # Before the batch's own row, which tells how many entries there are. It locks all
                # the accounts at once, because there is an order to it.
                accounts = {tenant_of.get(key_id, SUSPENSE) for key_id in used}
                sums += add_minutes(batch.minutes, tenant_of, accounts)
            row = _remember(batch, sums)
            _add(row, sums, batch, tenant_of)
    except _Repeated:
        metrics.batches.labels("repeated").inc()
        _compare(batch)
        return False
    metrics.batches.labels("ingested").inc()
    services.note_use(used, at=timezone.now())
    return True


def _compare(batch: Batch) -> None:
    """Raises OtherwiseToldError when a repeated batch is not what was counted under its id."""
    row = UsageBatch.objects.get(worker=batch.worker, flush_seq=batch.seq)
    totals: Counter[str] = Counter()
    for line in batch.lines:
        totals.update(dict(_units(line)))
    told = {
        "hour": batch.hour,
        "line_count": len(batch.lines),
        "message_total": totals[Metric.MESSAGES.value],
        "byte_total": totals[Metric.BYTES.value],
        "request_total": totals[Metric.REQUESTS.value],
    }
    wrong = [
        f"{name} {value}, counted {counted}"
        for name, value in told.items()
        if value != (counted := getattr(row, name))
    ]
    if wrong:
        raise OtherwiseToldError(f"counted before, otherwise: {'; '.join(wrong)}")


class _Repeated(Exception):
    """The batch was counted before; what this transaction did is to be undone."""


def _remember(batch: Batch, sums: Counter[Posting]) -> UsageBatch:
    totals: Counter[str] = Counter()
    for posting, units in sums.items():
        totals[posting.metric] += units
    try:
        with transaction.atomic():
            return UsageBatch.objects.create(
                worker=batch.worker,
                flush_seq=batch.seq,
                hour=batch.hour,
                region=batch.region,
                line_count=len(batch.lines),
                message_total=totals[Metric.MESSAGES.value],
                byte_total=totals[Metric.BYTES.value],
                request_total=totals[Metric.REQUESTS.value],
                entry_count=len(sums),
            )
    except IntegrityError:
        # Another violation would be a bug of ours and must not pass for "seen".
        if UsageBatch.objects.filter(worker=batch.worker, flush_seq=batch.seq).exists():
            raise _Repeated from None
        raise


def _tenants(key_ids: set[int]) -> dict[int, int]:
    """Tenants by key id, without the keys that are in no table."""
    tenant_of = selectors.tenant_ids_of_keys(key_ids)
    unknown = key_ids - tenant_of.keys()
    if unknown:
        log.warning("usage_of_unknown_keys", key_ids=sorted(unknown)[:10], keys=len(unknown))
    return tenant_of


def _sums(batch: Batch, tenant_of: dict[int, int]) -> Counter[Posting]:
    sums: Counter[Posting] = Counter()
    for line in batch.lines:
        account = tenant_of.get(line.key_id, SUSPENSE)
        for metric, units in _units(line):
            if units:
                posting = Posting(
                    account, batch.hour, line.key_id, metric, line.channel, line.reason
                )
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


def _add(row: UsageBatch, sums: Counter[Posting], batch: Batch, tenant_of: dict[int, int]) -> None:
    # First, because it locks the accounts, and with them the rollups of their tenants.
    post(row.pk, sums)
    # Minutes may be of another hour than the messages, and an hour names the day and month.
    hours = {posting.hour for posting in sums}
    for hour in sorted(hours):
        add_to_rollups(row.pk, hour, is_alone=len(hours) == 1)
    add_to_coins(batch, tenant_of)


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
