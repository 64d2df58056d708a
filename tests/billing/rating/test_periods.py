"""Every instant is in exactly one period (R23)."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.periods import (
    HOUR,
    Anchor,
    boundary,
    full_hour,
    period_at,
    periods,
    seconds_between,
    usage_hours,
)
from billing.rating.prices import Interval, Unit
from billing.rating.segments import PlanSpan
from tests.billing.rating.plans import make_plan
from tests.billing.rating.second import period_of_hour

MONTHLY = Interval(Unit.MONTH, 1)
YEARLY = Interval(Unit.YEAR, 1)


def wall(*fields: int) -> datetime:
    """What a clock on a wall shows, before anybody says where it hangs."""
    return datetime(*fields)  # noqa: DTZ001


zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
)
instants = st.builds(
    lambda zone, naive, fold: naive.replace(tzinfo=ZoneInfo(zone), fold=fold),
    zones,
    st.one_of(
        st.datetimes(wall(2024, 1, 1), wall(2032, 12, 31)),
        # gaps and folds of Berlin, New York and Lord Howe; leap days; ends of years
        st.sampled_from(
            [
                wall(2026, 3, 29, 2, 30),
                wall(2026, 10, 25, 2, 30),
                wall(2026, 3, 8, 2, 30),
                wall(2026, 11, 1, 1, 30),
                wall(2026, 4, 5, 1, 45),
                wall(2028, 2, 29),
                wall(2026, 12, 31, 23, 59, 59),
                wall(2027, 1, 1),
                wall(2027, 1, 31),
            ]
        ),
    ),
    st.integers(0, 1),
)
intervals = st.one_of(
    st.builds(Interval, st.just(Unit.MONTH), st.integers(1, 13)),
    st.builds(Interval, st.just(Unit.YEAR), st.integers(1, 3)),
    st.builds(Interval, st.just(Unit.DAY), st.integers(1, 400)),
)


@st.composite
def anchors(draw: st.DrawFn) -> list[Anchor]:
    at = draw(instants)
    found = [Anchor(at, draw(intervals))]
    for gap_s in draw(st.lists(st.integers(1, 100_000_000), max_size=3)):
        at = at.astimezone(UTC) + timedelta(seconds=gap_s)
        found.append(Anchor(at, draw(intervals)))
    return found


def at_utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)


@given(anchors())
def test_periods_touch_and_never_overlap(found: list[Anchor]) -> None:
    first, *rest = islice(periods(found), 40)
    assert first.start == found[0].at.astimezone(UTC).replace(microsecond=0)
    for one, after in pairwise([first, *rest]):
        assert one.start < one.end == after.start
        assert one.end <= one.full_end
        assert one.start.tzinfo is UTC


@given(anchors(), st.integers(0, 10**9), st.integers(0, 999_999))
def test_every_instant_is_in_exactly_one_period(
    found: list[Anchor], after_s: int, micro: int
) -> None:
    first = found[0].at.astimezone(UTC).replace(microsecond=0)
    at = first + timedelta(seconds=after_s, microseconds=micro)
    period = period_at(found, at)
    holding = []
    for candidate in periods(found):
        if candidate.start > at:
            break
        if at in candidate:
            holding.append(candidate)
    assert holding == [period]


@st.composite
def stays(draw: st.DrawFn, found: list[Anchor]) -> list[PlanSpan]:
    """Plans one after the other, some with a time without one between; often around a boundary."""
    near = [period.start for period in islice(periods(found), 4)]
    edges = draw(
        st.sets(
            st.builds(
                lambda at, seconds: at + timedelta(seconds=seconds),
                st.sampled_from(near),
                st.integers(-5_000, 5_000),
            ),
            max_size=6,
        )
    )
    ends: list[datetime | None] = [*sorted(edges)[1:], None]
    spans = zip(sorted(edges), ends, strict=True) if edges else []
    return [
        PlanSpan(make_plan("p", "0"), start, end) for start, end in spans if draw(st.booleans())
    ]


@given(anchors(), st.data())
def test_every_hour_of_usage_is_in_exactly_one_period(
    found: list[Anchor], data: st.DataObject
) -> None:
    plans = data.draw(st.one_of(st.just([]), stays(found)))
    some = list(islice(periods(found), 5))
    ranges = [usage_hours(period, plans) for period in some]
    for (_, end), (start, _) in pairwise(ranges):
        assert end == start
    assert ranges[0][0] <= found[0].at < ranges[0][0] + timedelta(hours=1)
    # Around each boundary but the last, where the period after is not among them.
    for near in (period.start for period in some[:-1]):
        for hour in (full_hour(near) + n * HOUR for n in (-1, 0, 1)):
            if hour >= ranges[-1][1]:
                continue  # periods may last seconds, and it is after all of these
            holding = [n for n, (first, end) in enumerate(ranges) if first <= hour < end]
            is_before = hour < full_hour(found[0].at)
            assert holding == ([] if is_before else [period_of_hour(hour, some, plans)])


def test_the_hour_of_a_boundary_stays_with_the_period_that_ends() -> None:
    first, second = islice(periods([Anchor(at_utc(2026, 11, 1, 10, 30), MONTHLY)]), 2)
    assert usage_hours(first) == (at_utc(2026, 11, 1, 10), at_utc(2026, 12, 1, 11))
    assert usage_hours(second)[0] == at_utc(2026, 12, 1, 11)
    # Unless nothing was in force then, and the next period begins with a plan.
    back = [PlanSpan(make_plan("p", "0"), at_utc(2026, 12, 1, 10, 40))]
    assert usage_hours(first, back)[1] == usage_hours(second, back)[0] == at_utc(2026, 12, 1, 10)


def test_a_period_is_the_first_however_it_is_found() -> None:
    found = [Anchor(at_utc(2026, 11, 1), MONTHLY), Anchor(at_utc(2026, 12, 1), MONTHLY)]
    listed = list(islice(periods(found), 3))
    assert [period.is_first for period in listed] == [True, False, False]
    assert [period_at(found, period.start) for period in listed] == listed


@given(instants, st.integers(1, 13), st.integers(0, 60))
def test_months_are_counted_from_the_anchor(at: datetime, every: int, n: int) -> None:
    """Counted a second way: a month at a time, by the calendar."""
    start = at.astimezone(UTC).replace(microsecond=0)
    year, month = start.year, start.month
    for _ in range(n * every):
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    last = calendar.monthrange(year, month)[1]
    day = start.day if start.day <= last else last
    expected = datetime.combine(
        datetime(year, month, day, tzinfo=UTC).date(), start.time(), tzinfo=UTC
    )
    assert boundary(Anchor(at, Interval(Unit.MONTH, every)), n) == expected


@pytest.mark.parametrize("day", [29, 30, 31])
def test_the_last_days_of_a_month_come_back(day: int) -> None:
    anchor = Anchor(at_utc(2026, 12, day, 10), MONTHLY)
    assert [boundary(anchor, n) for n in range(4)] == [
        at_utc(2026, 12, day, 10),
        at_utc(2027, 1, day, 10),
        at_utc(2027, 2, 28, 10),
        at_utc(2027, 3, day, 10),
    ]


def test_a_leap_day_comes_back_in_leap_years() -> None:
    anchor = Anchor(at_utc(2028, 2, 29), YEARLY)
    assert [boundary(anchor, n) for n in range(5)] == [
        at_utc(2028, 2, 29),
        at_utc(2029, 2, 28),
        at_utc(2030, 2, 28),
        at_utc(2031, 2, 28),
        at_utc(2032, 2, 29),
    ]
    assert boundary(Anchor(at_utc(2027, 12, 31), MONTHLY), 2) == at_utc(2028, 2, 29)


def test_the_boundary_itself_is_in_the_later_period() -> None:
    anchor = Anchor(at_utc(2026, 11, 1), MONTHLY)
    end = at_utc(2026, 12, 1)
    assert period_at([anchor], end - timedelta(microseconds=1)).end == end
    assert period_at([anchor], end).start == end


def test_a_new_anchor_cuts_the_period_but_not_what_it_is_priced_for() -> None:
    cut = at_utc(2026, 11, 16)
    first, second = islice(periods([Anchor(at_utc(2026, 11, 1), MONTHLY), Anchor(cut, YEARLY)]), 2)
    assert (first.end, first.full_end, first.full_s) == (cut, at_utc(2026, 12, 1), 30 * 86_400)
    assert (second.start, second.end) == (cut, at_utc(2027, 11, 16))
    assert seconds_between(first.start, first.end) == 15 * 86_400


def test_what_has_no_period_is_refused() -> None:
    anchor = Anchor(at_utc(2026, 11, 1), MONTHLY)
    with pytest.raises(ValueError, match="before the first anchor"):
        period_at([anchor], at_utc(2026, 10, 31, 23, 59, 59))
    with pytest.raises(ValueError, match="no time zone"):
        period_at([anchor], wall(2026, 11, 1))
    with pytest.raises(ValueError, match="not after"):
        list(periods([anchor, anchor]))
