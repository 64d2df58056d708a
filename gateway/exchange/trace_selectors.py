"""Reads: a tenant's traces of the last day, how long the steps took, and what was warned of.

From Redis, so that they raise redis.RedisError or OSError where that is away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from django.conf import settings

from gateway.exchange import address_budget as budgets
from gateway.exchange import trace as trace_
from gateway.exchange.address_budget import AddressBudget
from gateway.exchange.trace import Trace
from gateway.exchange.trace_store import (
    HOUR_MS,
    KEPT_MS,
    TraceReader,
    times_key,
    warned_key,
)
from tenants.models import APIKey, Tenant

#: Of a page, and how many traces one page may look at: narrow it, or go on with its cursor.
MAX_PAGE, MAX_LOOKED_AT = 500, 20_000
_CHUNK = 500


class Shown(NamedTuple):
    """A trace as it is told. `missing` is why block or fill are not known, "" where nothing is
    missing; one line."""

    trace: Trace
    missing: str


class Page(NamedTuple):
    """Newest first; `cursor` begins the next page, "" at the end."""

    rows: list[Shown]
    cursor: str


class Step(NamedTuple):
    """How long a step took, in ms, up to a tenth too much; None where it never was."""

    counted: int
    p50_ms: float | None
    p99_ms: float | None


_MISSING = {
    trace_.UNFOLLOWED: "not followed: no node is read, or too many orders wait at one time",
    trace_.NEVER: "no block was seen",
}
_GONE = "lost sight of: the process that followed it has ended"
_NOT_YET = "not seen yet"


def traces(
    tenant: Tenant,
    *,
    since: datetime | None = None,
    key: APIKey | None = None,
    coin: str = "",
    oid: int | None = None,
    cursor: str = "",
    limit: int = 50,
) -> Page:
    """A tenant's orders, cancels and other actions of the last 24 h, since a moment, of one key,
    coin or order. A page may be short, or empty, and still have a cursor: it looked at as many as
    it may. Raises ValueError for a bad cursor or limit."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit must be 1 to {MAX_PAGE}, not {limit}")
    if cursor and not (cursor.isalnum() and cursor.isascii() and len(cursor) <= 32):
        raise ValueError("cursor is none that a page gave")
    since_ms = time.time() * 1e3 - KEPT_MS
    if since is not None:
        since_ms = max(since_ms, since.timestamp() * 1e3)
    found: list[Trace] = []
    looked_at, before = 0, cursor
    with _reader() as reader:
        while True:
            rows = reader.page(
                tenant.pk, before=before, since=trace_.first_id(since_ms), count=_CHUNK
            )
            for trace in rows:
                before = trace.id
                if _is_asked_for(trace, key, coin, oid):
                    found.append(trace)
                    if len(found) == limit:
                        return Page(_shown(reader, found), before)
            looked_at += len(rows)
            if len(rows) < _CHUNK:
                return Page(_shown(reader, found), "")
            if looked_at >= MAX_LOOKED_AT:
                return Page(_shown(reader, found), before)


def traced_tenants(*, limit: int) -> list[int]:
    """The ids of tenants with traces of the last 24 h, whose newest is the newest first."""
    with _reader() as reader:
        return reader.tenants(since_ms=time.time() * 1e3 - KEPT_MS, count=limit)


def latency(tenant: Tenant) -> dict[str, Step]:
    """Of the last 24 h, by step: `sent` since it was received, `acked` since it was sent, `block`
    since it was sent, `fill` since its block (of what was filled at once)."""
    with _reader() as reader:
        counts = reader.summed([times_key(tenant.pk, hour) for hour in _hours()])
    found = {}
    for step in trace_.STEPS:
        buckets = {
            int(label.partition(":")[2]): count
            for label, count in counts.items()
            if label.partition(":")[0] == step
        }
        found[step] = Step(
            sum(buckets.values()), trace_.quantile(buckets, 0.5), trace_.quantile(buckets, 0.99)
        )
    return found


def warnings(tenant: Tenant) -> dict[int, dict[str, int]]:
    """How often each key's answers carried each warning within 24 h, by the key's id."""
    with _reader() as reader:
        counts = reader.summed([warned_key(tenant.pk, hour) for hour in _hours()])
    found: dict[int, dict[str, int]] = {}
    for label, count in sorted(counts.items()):
        key_id, _, code = label.partition(":")
        found.setdefault(int(key_id), {})[code] = count
    return found


def address_budget(address: str) -> AddressBudget | None:
    """What the exchange still takes from an address, as of a minute ago at most while it trades
    here; None of one that has not traded here within the hour."""
    address = address.lower()
    with _reader() as reader:
        return budgets.read(address, reader.get(budgets.KEY.format(address=address)))


def moment(ms: float | None) -> datetime | None:
    """A time of a trace."""
    return None if ms is None else datetime.fromtimestamp(ms / 1e3, UTC)


def _is_asked_for(trace: Trace, key: APIKey | None, coin: str, oid: int | None) -> bool:
    return (
        (key is None or trace.key_id == key.pk)
        and (not coin or trace.coin == coin)
        and (oid is None or trace.oid == oid)
    )


def _shown(reader: TraceReader, found: list[Trace]) -> list[Shown]:
    living = reader.living(list({trace.follower for trace in found if trace.is_waiting}))
    return [Shown(trace, _missing(trace, living)) for trace in found]


def _missing(trace: Trace, living: set[str]) -> str:
    if trace.outcome in (trace_.REFUSED, trace_.NOT_SENT):
        return f"nothing was sent: {trace.text}" if trace.text else "nothing was sent"
    if trace.status == "error":
        return "the exchange refused it"
    if trace.is_waiting and trace.follower not in living:
        return _GONE
    if trace.state == trace_.WAITS:
        return _NOT_YET
    if trace.block_ms is None:
        return _MISSING.get(trace.state, "")
    if trace.lacks_fill:
        return _NOT_YET if trace.is_waiting else "no fill was seen"
    return ""


def _hours() -> range:
    now = int(time.time() * 1e3 // HOUR_MS)
    return range(now - 23, now + 1)


@contextmanager
def _reader() -> Iterator[TraceReader]:
    reader = TraceReader(settings.REDIS_CACHE_URL)
    try:
        yield reader
    finally:
        reader.close()
