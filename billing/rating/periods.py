"""Billing periods: half-open `[start, end)` in UTC, one after the other, none twice.

The n-th boundary is the anchor plus n intervals, always counted from the anchor: a tenant that
began on the 31st is billed on the 28th of February and on the 31st of March.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import NamedTuple

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
    """

    start: datetime
    end: datetime
    full_end: datetime
    interval: Interval

    @property
    def full_s(self) -> int:
        """Seconds of the full interval: what a fee is divided by."""
        return seconds_between(self.start, self.full_end)

    def __contains__(self, at: datetime) -> bool:
        return self.start <= at < self.end


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


def usage_hours(period: Period) -> tuple[datetime, datetime]:
    """The half-open range of hours whose usage belongs to `period`.

    Usage is summed by the hour, so an hour in which one period ends and the next begins belongs
    wholly to the next: it is in one of them, and the first hour of a tenant is in its first.
    """
    return full_hour(period.start), full_hour(period.end)


def boundary(anchor: Anchor, n: int) -> datetime:
    """The n-th boundary (n ≥ 0; the 0-th is the anchor itself) in UTC."""
    at, (unit, every) = in_utc(anchor.at), (anchor.interval.unit, anchor.interval.every)
    if unit is Unit.DAY:
        return at + timedelta(days=n * every)
    months = at.year * 12 + at.month - 1 + n * every * (12 if unit is Unit.YEAR else 1)
    year, month = divmod(months, 12)
    return at.replace(year=year, month=month + 1, day=min(at.day, _days(year, month + 1)))


def periods(anchors: Sequence[Anchor]) -> Iterator[Period]:
    """All periods from the first anchor on, without end; a later anchor cuts the running one short
    and begins its own.

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
            yield Period(start, min(full_end, until or full_end), full_end, anchor.interval)


def period_at(anchors: Sequence[Anchor], at: datetime) -> Period:
    """The one period that `at` lies in. Raises ValueError when it is before the first anchor."""
    at = in_utc(at)
    begun = [anchor for anchor in anchors if in_utc(anchor.at) <= at]
    if not begun:
        raise ValueError(f"{at} is before the first anchor")
    # Only the anchor in force and the one that cuts it: the walk is as long as that one's periods.
    for period in periods(anchors[len(begun) - 1 : len(begun) + 1]):
        if at in period:
            return period
    raise AssertionError("periods end only with the calendar")


def _days(year: int, month: int) -> int:
    first = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return (first - timedelta(days=1)).day
