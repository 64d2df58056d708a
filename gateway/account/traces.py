"""A tenant's traced orders of the last day: a list, one, how long the steps took, and what the
exchange still takes from an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from redis.exceptions import RedisError

from gateway.account.errors import BadValue, NotFound, Unavailable
from gateway.account.paging import DEFAULT_LIMIT, Page
from gateway.exchange import trace_selectors as selectors
from gateway.exchange.address_budget import AddressBudget
from gateway.exchange.trace_selectors import Shown, Step
from tenants.models import APIKey, Tenant

#: Addresses whose budgets are shown beside a page of traces.
MAX_ADDRESSES = 5


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
    """The newest first; a page may be short and still have a next one. Raises BadValue, NotFound
    (no such key) and Unavailable."""
    key = None
    if key_id is not None:
        key = APIKey.objects.filter(tenant=tenant, pk=key_id).first()
        if key is None:
            raise NotFound("There is no such key in this account.")
    with _readable():
        found = selectors.traces(
            tenant, since=since, key=key, coin=coin, oid=oid, cursor=cursor, limit=limit
        )
    return Page(found.rows, found.cursor)


def trace(tenant: Tenant, trace_id: str) -> Shown:
    """One. Raises NotFound and Unavailable."""
    gone = NotFound("There is no such trace; they are kept for a day.")
    if not (trace_id.isalnum() and trace_id.isascii() and len(trace_id) < 32):
        raise gone
    with _readable():
        # Ids sort; what a list shows next after this one's successor is this one.
        rows = selectors.traces(tenant, cursor=f"{trace_id}0", limit=1).rows
    if not rows or rows[0].trace.id != trace_id:
        raise gone
    return rows[0]


def latency(tenant: Tenant) -> dict[str, Step]:
    """By step, over a day. Raises Unavailable."""
    with _readable():
        return selectors.latency(tenant)


def budgets(addresses: Iterable[str]) -> list[AddressBudget]:
    """Of those that are known, `MAX_ADDRESSES` at most. Raises Unavailable."""
    with _readable():
        asked = dict.fromkeys(address for address in addresses if address)
        found = map(selectors.address_budget, list(asked)[:MAX_ADDRESSES])
        return [one for one in found if one is not None]


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError):
        raise Unavailable("Traces cannot be read now: try again.") from None
    except ValueError as error:
        raise BadValue(f"{error}.") from None
