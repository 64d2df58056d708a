"""Usage over time, cut by one dimension: what a chart draws, and the table and file beside it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db.models import Sum
from django.utils.translation import gettext as _

from billing.exports.csv import encode, number, text, time
from gateway.account.errors import BadValue
from gateway.account.usage import (
    UsageQuery,
    instant,
    is_by_coin,
    names_of_keys,
    product_of,
    rows_of,
)
from tenants.models import Tenant

Dimension = Literal["key", "product", "channel", "coin", "zero_rated", "none"]
DIMENSIONS: tuple[Dimension, ...] = ("channel", "key", "product", "coin", "zero_rated", "none")
#: What is counted by coin.
COIN_METRICS = ("messages", "bytes")
_COLUMNS = (*time("at"), *text("by", "name", "label", "metric"), *number("units", "free_units"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One value of the dimension: a number for each point of time, and its sum, `free` of which
    cost nothing. `label` is `name` for people, of a key its name and prefix."""

    name: str
    label: str
    values: tuple[int, ...]
    free_values: tuple[int, ...]

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.values)

    @property
    def free(self) -> int:
        """What of it is free of charge."""
        return sum(self.free_values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Units of `metric` at `times`, the largest series first; `reasons` are sums of what is free by
    why it is."""

    query: UsageQuery
    by: Dimension
    metric: str
    times: tuple[datetime, ...]
    series: tuple[Series, ...]
    reasons: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """All of it."""
        return sum(one.total for one in self.series)

    @property
    def free(self) -> int:
        """What of it is free of charge."""
        return sum(one.free for one in self.series)

    def csv(self) -> Iterator[bytes]:
        """The numbers as CSV, in blocks: a row for each time and series with any units."""
        return encode(_COLUMNS, self._cells())

    def _cells(self) -> Iterator[Sequence[Any]]:
        for place, at in enumerate(self.times):
            for one in self.series:
                if units := one.values[place]:
                    about = (at, self.by, one.name, one.label, self.metric)
                    yield (*about, units, one.free_values[place])


def breakdown(
    tenant: Tenant, query: UsageQuery, *, metric: str = "messages", by: Dimension = "channel"
) -> Breakdown:
    """Two statements at most. Raises BadValue."""
    query = replace(query, metric=metric, by_coin=query.by_coin or by == "coin").checked()
    if is_by_coin(query) and metric not in COIN_METRICS:
        raise BadValue(
            _("metric: by coin there are %(metrics)s.") % {"metrics": _(" and ").join(COIN_METRICS)}
        )
    rows, time_column = rows_of(tenant, query)
    column = {"key": "key_id", "product": "channel", "none": ""}.get(by, by)
    names = list(dict.fromkeys([time_column, *([column] if column else []), "zero_rated"]))
    units_of = metric if is_by_coin(query) else "units"
    found = rows.order_by().values_list(*names).annotate(total=Sum(units_of))
    times = _times(query)
    place = {at: n for n, at in enumerate(times)}
    lines: dict[str, list[int]] = defaultdict(lambda: [0] * len(times))
    free: dict[str, list[int]] = defaultdict(lambda: [0] * len(times))
    reasons: Counter[str] = Counter()
    for row in found:
        name = str(row[names.index(column)]) if column else ""
        name = product_of(name) if by == "product" else name
        reason, units, at = row[names.index("zero_rated")], int(row[-1]), place[instant(row[0])]
        lines[name][at] += units
        if reason:
            free[name][at] += units
            reasons[reason] += units
    keys = names_of_keys(int(name) for name in lines) if by == "key" else {}
    series = [
        Series(
            name=name,
            label=_label(by, name, keys),
            values=tuple(values),
            free_values=tuple(free[name]),
        )
        for name, values in lines.items()
        if any(values)
    ]
    return Breakdown(
        query=query,
        by=by,
        metric=metric,
        times=times,
        series=tuple(sorted(series, key=lambda one: (-one.total, one.name))),
        reasons=tuple(reasons.most_common()),
    )


def _label(by: Dimension, name: str, keys: Mapping[int, tuple[str, str]]) -> str:
    if by == "key":
        prefix, shown = keys.get(int(name), ("", ""))
        return f"{shown} ({prefix}…)" if prefix else name
    return name


def _times(query: UsageQuery) -> tuple[datetime, ...]:
    step = timedelta(hours=1) if query.step == "hour" else timedelta(days=1)
    count = (query.end - query.start) // step
    return tuple(query.start + n * step for n in range(count))
