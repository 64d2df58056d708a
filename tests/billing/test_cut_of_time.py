"""A range of hours as whole months, days and hours: each hour once, and few rows to add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from billing.metering.rollup import DAILY, HOURLY, MONTHLY, cut

HOUR = timedelta(hours=1)
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.integers(0, 24 * 400).map(lambda hours: BEGINNING + hours * HOUR)


@given(moments, moments)
def test_spans_are_the_range_and_coarse_where_they_can_be(one: datetime, other: datetime) -> None:
    start, end = sorted((one, other))
    spans = list(cut(start, end))
    edges = [start, *(span.end for span in spans)]
    assert [span.start for span in spans] == edges[:-1]
    assert edges[-1] == end
    assert all(first < last for first, last in pairwise(edges))
    for span in spans:
        if span.grain is not HOURLY:
            assert (span.start.hour, span.end.hour) == (0, 0)
        if span.grain is MONTHLY:
            assert (span.start.day, span.end.day) == (1, 1)
    hours = sum((span.end - span.start) // HOUR for span in spans if span.grain is HOURLY)
    days = sum((span.end - span.start).days for span in spans if span.grain is DAILY)
    assert hours <= 46
    assert days <= 60


def test_a_calendar_month_is_one_span() -> None:
    assert [span.grain for span in cut(BEGINNING, BEGINNING + timedelta(days=31))] == [MONTHLY]
