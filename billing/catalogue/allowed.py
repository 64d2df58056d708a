"""What a tenant may use of each meter in a billing period, as values: pure.

Without overage a meter is refused beyond what the period includes. With it, the same amount is only
told of; and a spend cap refuses at the amount that it pays for.

**A spend cap** is the most that usage beyond the included may cost in a period, before discounts
and tax, over all meters. What is left of it is shared out equally among the meters that could still
cost something, so whatever the tenant uses next, all of them together stay within it. A minute
later the shares are made anew from what was used: near its cap a tenant that uses one meter of
three is refused a little early, each minute less so, and never late. What is used while the figures
are on their way counts against the same amounts, so the overshoot is that of the allowances
themselves and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

from billing.rating.caps import Charged, most_of
from billing.rating.fields import MAX_UNITS
from billing.rating.invoice import Usage
from billing.rating.money import ZERO, exact, render
from billing.rating.periods import Period, full_hour
from billing.rating.prices import Meter, PlanPrices
from billing.rating.rate import MeterTotal, included_units, meter_totals
from billing.rating.segments import Segment, entitled, hours_paid
from billing.rating.tiers import units_within

#: What follows the code of a meter in the code of what its spend cap allows.
CAP_SUFFIX = "+cap"
#: So that both fit the column.
MAX_METER_CODE = 40 - len(CAP_SUFFIX)
_SMALLEST = Decimal(1).scaleb(-8)


@dataclass(frozen=True, slots=True)
class Allowed:
    """`units` of what `meter` counts on `channels` (none named: on all that no other names), before
    the tenant is refused (`is_hard`) or told."""

    code: str
    meter: Meter
    channels: tuple[str, ...]
    units: int
    is_hard: bool

    @property
    def weights(self) -> dict[str, str]:
        """By channel, as a document has them."""
        return {channel: render(weight) for channel, weight in self.meter.weights.items()}


def allowed(
    period: Period,
    segments: Sequence[Segment],
    now: Segment,
    usage: Iterable[Usage] = (),
    *,
    spend_cap: Decimal | None = None,
) -> tuple[Allowed, ...]:
    """What the terms of `now`, one of the `segments` of `period`, allow in the hours of `hours_of`,
    given the charged `usage` so far (needed for a spend cap only)."""
    found, open_meters = [], []
    for meter, channels in counting(now.plan):
        units = included_units(period, segments, meter.code, meter.metric, is_trial=now.is_trial)
        included = min(units, MAX_UNITS)
        is_hard = not meter.overage or now.is_trial
        found.append(Allowed(meter.code, meter, channels, included, is_hard))
        if not is_hard:
            open_meters.append((meter, channels))
    if spend_cap is not None and open_meters:
        totals = meter_totals(period, segments, usage)
        with exact():
            spent = sum((total.cost for rows in totals.values() for total in rows), start=ZERO)
            left = max(ZERO, spend_cap - spent)
        share = (left / len(open_meters)).quantize(_SMALLEST, rounding=ROUND_DOWN)
        for meter, channels in open_meters:
            included = included_units(period, segments, meter.code, meter.metric)
            rows = [t for t in totals.get((meter.code, meter.metric), ()) if not t.is_trial]
            paid = _paid_by(share, meter, included, rows)
            if paid is not None:
                code = meter.code + CAP_SUFFIX
                found.append(Allowed(code, meter, channels, min(paid, MAX_UNITS), is_hard=True))
    return tuple(found)


def paying(period: Period, segments: Sequence[Segment], at: datetime) -> Segment | None:
    """Whose terms pay for what is used at `at`: for the rest of an hour those of its beginning.
    Without any in this period, those of `at` itself."""
    hour = full_hour(at)
    for segment, (first, end) in zip(segments, hours_paid(period, segments), strict=True):
        if first <= hour < end:
            return segment
    return _at(segments, at)


def allowed_at(
    period: Period,
    segments: Sequence[Segment],
    at: datetime,
    usage: Sequence[Usage] = (),
    *,
    spend_cap: Decimal | None = None,
) -> tuple[Allowed, ...]:
    """What is allowed at `at`, by the terms that pay for it.

    Where others have begun within the hour, what those include is not allowed before the next: who
    went back to the first within it would have used it for nothing.
    """
    pays = paying(period, segments, at)
    if pays is None:
        return ()
    found = allowed(period, segments, pays, usage, spend_cap=spend_cap)
    if pays is _at(segments, at):
        return found
    as_before = [
        segment
        if segment.start <= pays.start
        else replace(segment, plan=pays.plan, add_ons=pays.add_ons, is_trial=pays.is_trial)
        for segment in segments
    ]
    rows = allowed(period, as_before, pays, usage, spend_cap=spend_cap)
    before = {row.code: row.units for row in rows}
    return tuple(
        replace(row, units=min(row.units, before.get(row.code, row.units))) for row in found
    )


def not_yet(period: Period, segments: Sequence[Segment], at: datetime) -> tuple[Meter, ...]:
    """The meters of terms that began within the hour, of channels that the terms which pay for it
    do not open: nothing of them is paid for before the next hour."""
    pays, now = paying(period, segments, at), _at(segments, at)
    opened = None if pays is None else entitled(pays).channels
    if pays is None or now is None or pays is now or opened is None:
        return ()
    return tuple(
        replace(meter, channels=closed)
        for meter, channels in counting(now.plan)
        if (
            closed := tuple(
                channel
                for channel in channels
                if channel not in opened and pays.plan.meter_of(meter.metric, channel) is None
            )
        )
    )


def _at(segments: Sequence[Segment], at: datetime) -> Segment | None:
    return next((segment for segment in segments if segment.start <= at < segment.end), None)


def hours_of(
    period: Period, segments: Sequence[Segment], now: Segment
) -> tuple[datetime, datetime] | None:
    """The hours that the amounts of `allowed` are for: a trial's, or those of the paid days, which
    have amounts of their own. None when all they pay for is another's."""
    paid = zip(segments, hours_paid(period, segments), strict=True)
    ranges = [(first, end) for segment, (first, end) in paid if segment.is_trial is now.is_trial]
    found = [(first, end) for first, end in ranges if first < end]
    return (found[0][0], found[-1][1]) if found else None


def counting(plan: PlanPrices) -> Iterator[tuple[Meter, tuple[str, ...]]]:
    """The meters that count anything, with their channels: of two that could count the same, the
    first does (`PlanPrices.meter_of`)."""
    named: dict[str, set[str]] = {}
    for meter in plan.meters:
        named.setdefault(meter.metric, set())
    rest: set[str] = set()
    for meter in plan.meters:
        if meter.channels:
            free = tuple(ch for ch in meter.channels if ch not in named[meter.metric])
            named[meter.metric].update(free)
            if free:
                yield meter, free
        elif meter.metric not in rest:
            rest.add(meter.metric)
            yield meter, ()


def _paid_by(
    share: Decimal,
    meter: Meter,
    included: int,
    totals: Sequence[MeterTotal],
) -> int | None:
    """Weighted units of the whole period at which `meter` has cost `share` more than it has. None
    when it cannot cost so much, because of its cap."""
    with exact():
        used = sum((total.quantity for total in totals), start=ZERO)
        taken = sum((total.included for total in totals), start=ZERO)
        charged, cost = ZERO, ZERO
        before: list[Charged] = []
        for total in totals:
            prices = (total.meter.pricing, total.meter.cap, total.meter.overage)
            if prices == (meter.pricing, meter.cap, True):
                charged, cost = total.charged, total.cost
                break
            if total.meter.cap is not None:
                before.append(Charged(total.meter.cap, total.cost))
        most = most_of(meter, before)
        budget = cost + share
        if most is not None and budget >= most:
            return None
        paid = units_within(meter.pricing, budget)
        if paid is None:
            return None
        return int(used + max(ZERO, included - taken) + max(ZERO, paid - charged))
