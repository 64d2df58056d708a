"""What a tenant used: by key, product, channel, coin, hour or day, with what was free and why.

Reads the sums (`UsageRollup`, `DailyRollup`, `CoinRollup`) and never the ledger. Ranges are
half-open UTC and bounded; however long a list, a page of it is two statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from django.db.models import QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from billing.channels import CHANNELS, COINS, REQUESTS, SUBSCRIPTIONS
from billing.exports.csv import encode, number, text, time
from billing.exports.scope import paged
from billing.models import CoinRollup, DailyRollup, UsageRollup
from billing.models.usage import Metric
from gateway.account.errors import BadValue
from gateway.account.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, page
from tenants.models import APIKey, Tenant

Step = Literal["hour", "day"]

#: How much may be asked for at once.
MAX_DAYS: Mapping[str, int] = {"hour": 31, "day": 400}
_TOO_LONG: Mapping[str, Any] = {
    "hour": gettext_lazy("end: by the hour at most %(most)s days are told at once."),
    "day": gettext_lazy("end: by the day at most %(most)s days are told at once."),
}
#: What is streamed, by name; everything else is a channel of its own.
STREAMS = "streams"
PRODUCTS = (STREAMS, *REQUESTS, "grpc")
METRICS = tuple(str(metric) for metric in Metric)
#: Why usage may be free of charge, for people.
REASONS: Mapping[str, str] = {
    "replay": gettext_noop("read from the log again"),
    "resync": gettext_noop("a state given again, because what was told before it was not whole"),
    "dashboard": gettext_noop("shown in the dashboard"),
    "duplicate": gettext_noop("the second copy of a frame"),
    "empty_block": gettext_noop("a block in which nothing happened"),
    "failover": gettext_noop("what a change of upstreams repeated"),
    "heartbeat": gettext_noop("a sign of life"),
}
_COLUMNS = (
    *time("at"),
    *text("key", "key_name", "product", "channel", "coin", "zero_rated", "metric"),
    *number("units"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """What is asked for: usage of `[start, end)` in hours or days. Empty filters are none; `coin`
    "" are all. By coin there are days, messages and bytes."""

    start: datetime
    end: datetime
    step: Step = "day"
    by_coin: bool = False
    key_ids: tuple[int, ...] = ()
    channels: tuple[str, ...] = ()
    product: str = ""
    metric: str = ""
    coin: str = ""
    is_free: bool | None = None

    def checked(self) -> UsageQuery:
        """Itself, its range rounded down to whole steps (the end up). Raises BadValue."""
        if not all(2000 <= at.year < 3000 for at in (self.start, self.end)):
            raise BadValue(_("start: times are of the years 2000 to 2999."))
        start, end = self.start.astimezone(UTC), self.end.astimezone(UTC)
        if self.step not in MAX_DAYS:
            raise BadValue(
                _("step: %(step)r is none of %(known)s.")
                % {"step": self.step[:20], "known": ", ".join(MAX_DAYS)}
            )
        if self.metric and self.metric not in METRICS:
            raise BadValue(
                _("metric: %(metric)r is none of %(known)s.")
                % {"metric": self.metric[:40], "known": ", ".join(METRICS)}
            )
        if self.product and self.product not in PRODUCTS:
            raise BadValue(
                _("product: %(product)r is none of %(known)s.")
                % {"product": self.product[:40], "known": ", ".join(PRODUCTS)}
            )
        if (self.by_coin or self.coin) and self.step != "day":
            raise BadValue(_("by_coin: coins are told by the day: ask for step=day."))
        step = timedelta(hours=1) if self.step == "hour" else timedelta(days=1)
        first = _floor(start, step)
        last = _floor(end, step)
        last += step if last < end else timedelta(0)
        if not first < last:
            raise BadValue(_("start: it must be before end."))
        most = MAX_DAYS[self.step]
        if last - first > timedelta(days=most):
            raise BadValue(_TOO_LONG[self.step] % {"most": most})
        return replace(self, start=first, end=last)


def last_days(days: int = 30, *, step: Step = "day", now: datetime | None = None) -> UsageQuery:
    """The query of the last `days`, with what is running."""
    at = now or timezone.now()
    return UsageQuery(start=at - timedelta(days=days), end=at, step=step)


def before(end: datetime, *, days: int) -> datetime:
    """So many days before a moment, or the first there is. Raises BadValue."""
    try:
        return end - timedelta(days=days)
    except OverflowError:
        raise BadValue(_("end: no time that anything was used in.")) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """Units of one metric that a key used; `at` is when its hour or day begins. `zero_rated` is why
    it is free, "" for what is charged; `coin` is "" where that is not told or there is none."""

    at: datetime
    key_id: int
    key_prefix: str
    key_name: str
    product: str
    channel: str
    coin: str
    zero_rated: str
    metric: str
    units: int


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """The sum of a metric over a range, by why it is free."""

    metric: str
    zero_rated: str
    units: int


def product_of(channel: str) -> str:
    """The product that a channel is of: what is streamed is one, each other channel its own."""
    return channel if channel in PRODUCTS else STREAMS


def usage_page(
    tenant: Tenant, query: UsageQuery, *, cursor: str = "", limit: int = DEFAULT_LIMIT
) -> Page[UsageRow]:
    """Rows, the newest first. By coin a place in the list may be two rows, messages and bytes.
    Raises BadValue and BadCursor."""
    query = query.checked()
    rows, time_column = rows_of(tenant, query)
    last = ("channel", "coin") if is_by_coin(query) else ("metric", "channel")
    order = (f"-{time_column}", "key_id", *last, "zero_rated")
    found = page(
        rows, order, of=f"usage.{time_column}", tenant_id=tenant.pk, cursor=cursor, limit=limit
    )
    keys = names_of_keys(row.key_id for row in found.rows)
    shown = [
        _shown(query, row, time_column, keys, metric, units)
        for row in found.rows
        for metric, units in _units(query, row)
    ]
    return Page(shown, found.next_cursor)


def usage_totals(tenant: Tenant, query: UsageQuery) -> list[UsageTotal]:
    """Sums of the range by metric and reason. One statement."""
    query = query.checked()
    rows = rows_of(tenant, query)[0]
    if is_by_coin(query):
        sums = rows.order_by("zero_rated").values("zero_rated")
        found = sums.annotate(of_messages=Sum("messages"), of_bytes=Sum("bytes"))
        return [
            UsageTotal(metric, row["zero_rated"], row[f"of_{metric}"])
            for row in found
            for metric in ("messages", "bytes")
            if query.metric in ("", metric) and row[f"of_{metric}"]
        ]
    sums = rows.order_by("metric", "zero_rated").values("metric", "zero_rated")
    return [
        UsageTotal(row["metric"], row["zero_rated"], row["total"])
        for row in sums.annotate(total=Sum("units"))
    ]


def usage_csv(tenant: Tenant, query: UsageQuery) -> Iterator[bytes]:
    """All rows of a range as CSV, in blocks, the oldest first. Raises BadValue at once."""
    query = query.checked()
    return encode(_COLUMNS, _cells(tenant, query))


def _cells(tenant: Tenant, query: UsageQuery) -> Iterator[Sequence[Any]]:
    rows, time_column = rows_of(tenant, query)
    keys = _names(APIKey.objects.for_tenant(tenant))
    by_coin = is_by_coin(query)
    middle = ("channel", "coin") if by_coin else ("metric", "channel")
    values = ("messages", "bytes") if by_coin else ("units",)
    for at, key_id, one, other, zero_rated, *units in paged(
        rows, (time_column, "key_id", *middle, "zero_rated"), values
    ):
        channel, coin = (one, other) if by_coin else (other, "")
        prefix, name = keys.get(key_id, ("", ""))
        about = (instant(at), prefix, name, product_of(channel), channel, coin, zero_rated)
        for metric, count in zip(values if by_coin else (one,), units, strict=True):
            if not by_coin or (count and query.metric in ("", metric)):
                yield (*about, metric, count)


def is_by_coin(query: UsageQuery) -> bool:
    """Whether it is answered from the sums by coin, which know days, messages and bytes."""
    return query.by_coin or bool(query.coin)


def rows_of(tenant: Tenant, query: UsageQuery) -> tuple[QuerySet[Any], str]:
    """The rows that a checked query asks for, and the column of their time."""
    rows: Any
    if is_by_coin(query):
        rows, column = CoinRollup.objects.for_tenant(tenant), "day"
    elif query.step == "day":
        rows, column = DailyRollup.objects.for_tenant(tenant), "day"
    else:
        rows, column = UsageRollup.objects.for_tenant(tenant), "hour"
    within: tuple[Any, Any] = (query.start, query.end)
    if column == "day":
        within = (query.start.date(), query.end.date())
    rows = rows.filter(**{f"{column}__gte": within[0], f"{column}__lt": within[1]})
    if query.key_ids:
        rows = rows.filter(key_id__in=query.key_ids[:MAX_LIMIT])
    if query.channels:
        rows = rows.filter(channel__in=query.channels[: len(CHANNELS)])
    if query.product:
        rows = rows.filter(channel__in=_channels_of(query.product))
    if query.coin:
        rows = rows.filter(coin=query.coin)
    if query.metric and not is_by_coin(query):
        rows = rows.filter(metric=query.metric)
    if query.is_free is not None:
        rows = rows.exclude(zero_rated="") if query.is_free else rows.filter(zero_rated="")
    return rows, column


def _channels_of(product: str) -> tuple[str, ...]:
    return (*SUBSCRIPTIONS, COINS) if product == STREAMS else (product,)


def _units(query: UsageQuery, row: Any) -> Iterator[tuple[str, int]]:
    if not is_by_coin(query):
        yield row.metric, row.units
        return
    for metric in ("messages", "bytes"):
        if query.metric in ("", metric) and (units := getattr(row, metric)):
            yield metric, units


def _shown(
    query: UsageQuery,
    row: Any,
    time_column: str,
    keys: Mapping[int, tuple[str, str]],
    metric: str,
    units: int,
) -> UsageRow:
    prefix, name = keys.get(row.key_id, ("", ""))
    return UsageRow(
        at=instant(getattr(row, time_column)),
        key_id=row.key_id,
        key_prefix=prefix,
        key_name=name,
        product=product_of(row.channel),
        channel=row.channel,
        coin=row.coin if is_by_coin(query) else "",
        zero_rated=row.zero_rated,
        metric=metric,
        units=units,
    )


def names_of_keys(ids: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Prefix and name by id. The rows that named them are the tenant's, and so are they."""
    return _names(APIKey.objects.filter(pk__in=set(ids)))


def _names(keys: QuerySet[APIKey]) -> dict[int, tuple[str, str]]:
    rows = keys.order_by().values_list("pk", "prefix", "name")
    return {pk: (prefix, name) for pk, prefix, name in rows}


def instant(at: datetime | date) -> datetime:
    """When an hour or a day begins."""
    if isinstance(at, datetime):
        return at.astimezone(UTC)
    return datetime(at.year, at.month, at.day, tzinfo=UTC)


def _floor(at: datetime, step: timedelta) -> datetime:
    begin = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return begin + (at - begin) // step * step
