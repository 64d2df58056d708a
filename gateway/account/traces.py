"""A tenant's orders on their way to the exchange and back: one row for each of the last day, how
long the steps took, and what was warned of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from redis.exceptions import RedisError

from gateway.account.errors import BadCursor, BadValue, NotFound, Unavailable
from gateway.account.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from gateway.exchange import trace_selectors
from gateway.exchange.trace_selectors import Shown, Step
from tenants.models import APIKey, Tenant


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the last day: by step its count, p50 and p99; by the id of a key how often its answers
    carried each warning."""

    steps: dict[str, Step]
    warnings: dict[int, dict[str, int]]


def trace_page(
    tenant: Tenant,
    *,
    since: datetime | None = None,
    key_id: int | None = None,
    coin: str = "",
    oid: int | None = None,
    cursor: str = "",
    limit: int = DEFAULT_LIMIT,
) -> Page[Shown]:
    """Traces of the last 24 hours, the newest first, of one key, coin or order. A page may be
    short, or empty, and still have a cursor. Raises BadValue, BadCursor, NotFound, Unavailable."""
    if not 1 <= limit <= MAX_LIMIT:
        raise BadValue(f"limit: {limit} is not within 1 and {MAX_LIMIT}.")
    key = None
    if key_id is not None:
        key = APIKey.objects.for_tenant(tenant).filter(pk=key_id).first()
        if key is None:
            raise NotFound(f"There is no key {key_id}.")
    try:
        found = trace_selectors.traces(
            tenant, since=since, key=key, coin=coin, oid=oid, cursor=cursor, limit=limit
        )
    except ValueError:
        raise BadCursor from None
    except (RedisError, OSError):
        raise _away() from None
    return Page(found.rows, found.cursor)


def latency(tenant: Tenant) -> Latency:
    """Raises Unavailable."""
    try:
        return Latency(trace_selectors.latency(tenant), trace_selectors.warnings(tenant))
    except (RedisError, OSError):
        raise _away() from None


def _away() -> Unavailable:
    return Unavailable("Traces cannot be read now: try again.")
