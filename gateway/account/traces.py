"""A tenant's orders on their way to the exchange and back: one row for each of the last day, how
long the steps took, what was warned of, and what the exchange still takes from an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from gateway.account.errors import BadCursor, BadValue, NotFound, Unavailable
from gateway.account.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from gateway.exchange import trace_selectors
from gateway.exchange.address_budget import AddressBudget
from gateway.exchange.trace_selectors import Shown, Step
from tenants.models import APIKey, Tenant

#: Addresses whose budgets are shown beside a page of traces.
MAX_ADDRESSES = 5


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
        raise BadValue(
            _("limit: %(limit)s is not within 1 and %(most)s.")
            % {"limit": limit, "most": MAX_LIMIT}
        )
    key = None
    if key_id is not None:
        key = APIKey.objects.for_tenant(tenant).filter(pk=key_id).first()
        if key is None:
            raise NotFound(_("There is no key %(id)s.") % {"id": key_id})
    with _readable():
        found = trace_selectors.traces(
            tenant, since=since, key=key, coin=coin, oid=oid, cursor=cursor, limit=limit
        )
    return Page(found.rows, found.cursor)


def trace(tenant: Tenant, trace_id: str) -> Shown:
    """One. Raises NotFound and Unavailable."""
    gone = NotFound(_("There is no such trace; they are kept for a day."))
    if not (trace_id.isalnum() and trace_id.isascii() and len(trace_id) < 32):
        raise gone
    with _readable():
        # Ids sort; what a list shows next after this one's successor is this one.
        rows = trace_selectors.traces(tenant, cursor=f"{trace_id}0", limit=1).rows
    if not rows or rows[0].trace.id != trace_id:
        raise gone
    return rows[0]


def latency(tenant: Tenant) -> Latency:
    """Raises Unavailable."""
    with _readable():
        return Latency(trace_selectors.latency(tenant), trace_selectors.warnings(tenant))


def budgets(addresses: Iterable[str]) -> list[AddressBudget]:
    """Of those that are known, `MAX_ADDRESSES` at most. Raises Unavailable."""
    with _readable():
        asked = dict.fromkeys(address for address in addresses if address)
        found = map(trace_selectors.address_budget, list(asked)[:MAX_ADDRESSES])
        return [one for one in found if one is not None]


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError):
        raise Unavailable(_("Traces cannot be read now: try again.")) from None
    except ValueError:
        raise BadCursor from None
