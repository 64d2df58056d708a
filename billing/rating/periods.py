"""Billing periods: half-open `[start, end)` in UTC, one after the other, none twice.

The n-th boundary is the anchor plus n intervals, always counted from the anchor: a tenant that
began on the 31st is billed on the 28th of February and on the 31st of March.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import NamedTuple, Protocol

from billing.rating.prices import Interval, Unit

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


class Anchor(NamedTuple):
    """From `at` on, periods are one `interval` long, counted from there."""

    at: datetime
    interval: Interval


@dataclass(frozen=True, slots=True)
class Period:
    """`[start, end)`, part of the full interval `[start, full_end)`.

    The two ends differ only where a new anchor cut the period short; prices are for the full one.
    `is_first` is the tenant's first of all.
    """

    start: datetime
    end: datetime
    full_end: datetime
    interval: Interval
    is_first: bool = False

    @property
    def full_s(self) -> int:
        """Seconds of the full interval: what a fee is divided by."""
        return seconds_between(self.start, self.full_end)

    def __contains__(self, at: datetime) -> bool:
        return self.start <= at < self.end


class Held(Protocol):
    """Something that holds in `[start, end)`; None is without end."""

    @property
    def start(self) -> datetime:
        """From when on."""

    @property
    def end(self) -> datetime | None:
        """Until before when."""


def in_utc(at: datetime) -> datetime:
    """`at` in UTC, cut to the second: what all prorating uses. Raises ValueError without a zone."""
    if at.tzinfo is None or at.utcoffset() is None:
        raise ValueError(f"{at} has no time zone")
    return at.astimezone(UTC).replace(microsecond=0)


def seconds_between(start: datetime, end: datetime) -> int:
    """Whole seconds from `start` to `end`, 0 if that is earlier."""
    return max(0, (end - start) // SECOND)


def full_hour(at: datetime) -> datetime:
    """The beginning of the UTC hour that `at` lies in."""
    return in_utc(at).replace(minute=0, second=0)


def usage_hours(period: Period, plans: Iterable[Held] = ()) -> tuple[datetime, datetime]:
    """The half-open range of hours whose usage belongs to `period`, of a tenant on `plans`.

    Usage is summed by the hour, so an hour in which one period ends and the next begins belongs
    wholly to the period of `paid_at`: the one that ends, unless the tenant had no plan and joined
    one in the next. The first hour of a tenant is in its first period. Each hour is in one period.
    """
    held = list(plans)
    first = full_hour(period.start) if period.is_first else _first_paid(period.start, held)
    return first, _first_paid(period.end, held)


def paid_at(hour: datetime, plans: Iterable[Held]) -> datetime:
    """Whose terms at which instant pay for the whole of an hour: those in force at its beginning,
    because usage prices change on full hours; without any, those that begin first within it."""
    spans = [(in_utc(span.start), None if span.end is None else in_utc(span.end)) for span in plans]
    if any(start <= hour and (end is None or hour < end) for start, end in spans):
        return hour
    begun = (start for start, end in spans if end is None or start < end)
    return min((start for start in begun if hour < start < hour + HOUR), default=hour)


def boundary(anchor: Anchor, n: int) -> datetime:
    """The n-th boundary (n ≥ 0; the 0-th is the anchor itself) in UTC."""
    at, (unit, every) = in_utc(anchor.at), (anchor.interval.unit, anchor.interval.every)
    if unit is Unit.DAY:
        return at + timedelta(days=n * every)
    months = at.year * 12 + at.month - 1 + n * every * (12 if unit is Unit.YEAR else 1)
    year, month = divmod(months, 12)
    return at.replace(year=year, month=month + 1, day=min(at.day, _days(year, month + 1)))


def periods(anchors: Sequence[Anchor], *, has_earlier: bool = False) -> Iterator[Period]:
    """All periods from the first anchor on, without end; a later anchor cuts the running one short
    and begins its own. `has_earlier`: these are not all anchors, so the first period is not the
    tenant's first.

    Their union is all time from the first anchor on, and no two overlap. Raises ValueError when an
    anchor is not after the one before.
    """
    for n, anchor in enumerate(anchors):
        until = in_utc(anchors[n + 1].at) if n + 1 < len(anchors) else None
        if until is not None and until <= in_utc(anchor.at):
            raise ValueError(f"anchor {until} is not after {anchor.at}")
        for k in count():
            start, full_end = boundary(anchor, k), boundary(anchor, k + 1)
            if until is not None and start >= until:
                break
            yield Period(
                start,
                min(full_end, until or full_end),
                full_end,
                anchor.interval,
                is_first=n == k == 0 and not has_earlier,
            )


def period_at(anchors: Sequence[Anchor], at: datetime) -> Period:
    """The one period that `at` lies in. Raises ValueError when it is before the first anchor."""
    at = in_utc(at)
    begun = [anchor for anchor in anchors if in_utc(anchor.at) <= at]
    if not begun:
        raise ValueError(f"{at} is before the first anchor")
    # Only the anchor in force and the one that cuts it: the walk is as long as that one's periods.
    near = anchors[len(begun) - 1 : len(begun) + 1]
    for period in periods(near, has_earlier=len(begun) > 1):
        if at in period:
            return period
    raise AssertionError("periods end only with the calendar")


def _first_paid(at: datetime, plans: Sequence[Held]) -> datetime:
    """The first hour that is paid for by terms of `at` or later."""
    hour = full_hour(at)
    return hour if paid_at(hour, plans) >= at else hour + HOUR


def _days(year: int, month: int) -> int:
    first = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return (first - timedelta(days=1)).day
