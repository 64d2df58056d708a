"""Writes: records of a batch, and the end of old ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.requests.entry import CODE_CHARS, KIND_CHARS, Entry
from gateway.requests.models import RequestRecord

#: Deleted in one transaction.
_FORGET_AT_ONCE = 1_000


def write(entries: Sequence[Entry]) -> None:
    """One statement for all. Raises django.db.Error."""
    RequestRecord.objects.bulk_create([_record(entry) for entry in entries])


def forget(*, before: datetime, keep: int) -> int:
    """Delete what is older than `before`, and of the rest all but the newest `keep`; how many were
    deleted. In short transactions."""
    forgotten = _delete(before)
    newest = RequestRecord.objects.order_by("-at", "-pk")
    if (bound := newest.values_list("at", flat=True)[keep : keep + 1].first()) is not None:
        forgotten += _delete(bound)
    return forgotten


def _delete(before: datetime) -> int:
    deleted = 0
    while True:
        old = RequestRecord.objects.filter(at__lt=before).order_by("at")
        # MySQL knows no LIMIT in the subquery of a DELETE.
        if not (ids := list(old.values_list("pk", flat=True)[:_FORGET_AT_ONCE])):
            return deleted
        deleted += RequestRecord.objects.filter(pk__in=ids).delete()[0]


def _record(entry: Entry) -> RequestRecord:
    return RequestRecord(
        at=datetime.fromtimestamp(entry.at_s, UTC),
        request_id=entry.request_id,
        tenant_id=entry.tenant_id,
        key_prefix=entry.key_prefix[:16],
        door=entry.door,
        method=entry.method[:8],
        kind=entry.kind[:KIND_CHARS],
        status=entry.status,
        code=entry.code[:CODE_CHARS],
        upstream_ms=None if entry.upstream_ms is None else round(entry.upstream_ms, 3),
        total_ms=round(entry.total_ms, 3),
    )
