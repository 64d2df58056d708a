"""Caps: the most that what a meter counts costs under one set of prices.

A cap is for a full period, and goes by the second like a fee: of the time that its prices held, and
rounded down to the cent, so that all shares of one cap are never more than it. Each set of prices
has its own, so what was used under others takes nothing of it. A second belongs to the terms that
pay for the usage of its hour: else one second on a capped plan would bound an hour's use by the
price of that second. For the same reason it is the time of the plan, not of a choice of overage. A
trial costs nothing, and has no part of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate, pairwise

from billing.rating import money
from billing.rating.invoice import CapPart
from billing.rating.money import ZERO
from billing.rating.periods import Period, seconds_between
from billing.rating.prices import Meter
from billing.rating.segments import Segment, hours_paid


def cap_of(period: Period, segments: Sequence[Segment], meter: Meter) -> CapPart | None:
    """The share of its cap that the prices of `meter` have in a period, and for how many seconds of
    it (`amount` is not known here: 0); None without a cap."""
    if meter.cap is None:
        return None
    seconds = sum(
        seconds
        for segment, seconds in zip(segments, seconds_paid(period, segments), strict=True)
        if not segment.is_trial
        and (other := segment.plan.meter(meter.code)) is not None
        and (other.metric, other.pricing, other.cap) == (meter.metric, meter.pricing, meter.cap)
    )
    most = money.rounded_down(money.quotient(meter.cap * seconds, period.full_s))
    return CapPart(price=meter.cap, seconds=seconds, full_s=period.full_s, most=most, amount=ZERO)


def seconds_paid(period: Period, segments: Sequence[Segment]) -> tuple[int, ...]:
    """For each segment how many seconds any was in force in the hours whose usage it pays for:
    together as many as all of them last. What of a period's first hour is paid by the one before
    counts for the first."""
    starts = [segment.start for segment in segments]
    lasted = [0, *accumulate(segment.seconds for segment in segments)]

    def before(at: datetime) -> int:
        n = bisect_right(starts, at)
        if not n:
            return 0
        last = segments[n - 1]
        return lasted[n - 1] + seconds_between(last.start, min(at, last.end))

    edges = [0, *(before(end) for _, end in hours_paid(period, segments))]
    return tuple(end - start for start, end in pairwise(edges))
