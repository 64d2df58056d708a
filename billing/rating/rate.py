"""Rating: the usage and the terms of one period become the lines of its invoice.

1. A fee is charged by the second of each segment, on one line while its price stays the same.
2. The included amount of a meter is the sum of what its segments include, each by its seconds,
   rounded up to a whole unit once. Usage takes it up in the order of the segments. A trial has an
   amount of its own: what is used for nothing takes nothing from the paid days.
3. What is beyond is charged by the prices in force when it was used: one line, one total and so one
   walk through the tiers for each set of prices, up to their cap (`caps.py`). Where nothing about
   the prices changes, that is the total of the period, and it does not matter how usage is cut by
   hour, channel or segment.
4. Then discounts in the order given, adjustments, the tax on what is left of each line, and last
   the wallet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from billing.rating import money
from billing.rating.caps import Charged, most_of
from billing.rating.invoice import (
    NO_TAX,
    Adjustment,
    CapPart,
    DiscountPart,
    FeePart,
    Line,
    LineKind,
    Rated,
    Tax,
    Usage,
    UsageSource,
)
from billing.rating.money import ZERO
from billing.rating.periods import Period, full_hour, in_utc, seconds_between, usage_hours
from billing.rating.prices import Discount, Meter
from billing.rating.segments import Segment, hours_paid
from billing.rating.tiers import Share, TierPart, charge

_SourceKey = tuple[str, str, str, Decimal]
_ONE = Decimal(1)


def rate(
    period: Period,
    segments: Sequence[Segment],
    usage: Iterable[Usage],
    *,
    discounts: Sequence[Discount] = (),
    adjustments: Sequence[Adjustment] = (),
    tax: Tax = NO_TAX,
    wallet: Decimal = ZERO,
) -> Rated:
    """The priced period. `segments` are `segments.segments(period, plans, …)`, `usage` the counts
    of `usage_hours(period, plans)` in any cut and order, `wallet` the prepaid balance in whole
    cents.

    Raises ValueError for usage of another period, a plan of another interval, fewer than one of an
    add-on, a tax that is not within 0 and 100 percent, an amount that is not in whole cents or a
    wallet below 0; AmountTooLarge.
    """
    if wallet < 0:
        raise ValueError(f"a wallet holds 0 or more, not {wallet}")
    for segment in segments:
        if segment.plan.interval != period.interval:
            raise ValueError(f"plan {segment.plan.code} is not billed by {period.interval}")
        for add_on, quantity in segment.add_ons:
            if quantity < 1:
                raise ValueError(f"{quantity} of add-on {add_on.code}, where 1 is the least")
    if not 0 <= tax.percent <= 100:
        raise ValueError(f"a tax of {money.render(tax.percent)} percent is not within 0 and 100")
    with money.exact():
        counted = _count(period, segments, usage)
        lines = [*_fees(period, segments), *_usage(period, segments, counted), *_free(counted)]
        lines = _discounted(period, discounts, lines)
        lines += [_adjustment(item) for item in adjustments]
        lines = [_taxed(line, tax) for line in lines]
        subtotal = sum((line.amount for line in lines), start=_cents(ZERO))
        tax_total = sum((line.tax for line in lines), start=_cents(ZERO))
        total = subtotal + tax_total
        prepaid = max(_cents(ZERO), min(_cents(wallet), total))
        return Rated(
            period=period,
            segments=tuple(segments),
            lines=tuple(lines),
            unmetered=_sources(counted.unmetered),
            tax=tax,
            subtotal=subtotal,
            tax_total=tax_total,
            total=total,
            prepaid=prepaid,
            due=total - prepaid,
        )


# --- usage ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Counted:
    """Units by where they belong: charged by segment and meter, free by meter and reason."""

    charged: dict[tuple[int, str], dict[_SourceKey, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )
    free: dict[tuple[str, str, str, str], dict[_SourceKey, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )
    unmetered: dict[_SourceKey, int] = field(default_factory=lambda: defaultdict(int))


def _count(period: Period, segments: Sequence[Segment], usage: Iterable[Usage]) -> _Counted:
    first, end = usage_hours(period)
    if segments and not segments[0].follows:
        # Nothing was in force before: the hour in which they begin is theirs.
        first = min(first, full_hour(segments[0].start))
    found = _Counted()
    ranges = hours_paid(period, segments)
    places: dict[datetime, int | None] = {}
    for row in usage:
        if not first <= row.hour < end:
            raise ValueError(f"usage of {row.hour} is not of the period {first} to {end}")
        if row.units < 0:
            raise ValueError(f"usage of {row.hour} is {row.units} units")
        if not row.units:
            continue
        if row.hour not in places:
            places[row.hour] = _place(row.hour, ranges)
        place = places[row.hour]
        meter = None
        if place is not None:
            meter = segments[place].plan.meter_of(row.metric, row.channel)
        if place is None or meter is None:
            found.unmetered[row.metric, row.channel, row.reason, _ONE] += row.units
            continue
        key = (row.metric, row.channel, row.reason, meter.weight(row.channel))
        if meter.is_free(row.reason):
            found.free[meter.code, meter.name, meter.metric, row.reason][key] += row.units
        else:
            found.charged[place, meter.code][key] += row.units
    return found


def _place(hour: datetime, ranges: Sequence[tuple[datetime, datetime]]) -> int | None:
    return next((n for n, (first, end) in enumerate(ranges) if first <= hour < end), None)


@dataclass(slots=True)
class _Total:
    """What one set of prices is asked for."""

    meter: Meter
    is_trial: bool
    quantity: Decimal = ZERO
    included: Decimal = ZERO
    charged: Decimal = ZERO
    refused: Decimal = ZERO
    sources: dict[_SourceKey, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, sources: dict[_SourceKey, int], left: Decimal) -> Decimal:
        """Count `sources`; answers how much of what is `left` included they took."""
        quantity = _weighted(sources)
        taken = min(left, quantity)
        self.quantity += quantity
        self.included += taken
        if self.meter.overage and not self.is_trial:
            self.charged += quantity - taken
        else:
            self.refused += quantity - taken
        for key, units in sources.items():
            self.sources[key] += units
        return taken


def _usage(period: Period, segments: Sequence[Segment], counted: _Counted) -> Iterator[Line]:
    for of_meter in _totals(period, segments, counted):
        for _, line in _usage_lines(of_meter):
            yield line


class _OfMeter(NamedTuple):
    """What one meter counted: the units included, in a trial and after it, and a total for each set
    of prices."""

    code: str
    metric: str
    included: dict[bool, int]
    totals: list[_Total]


def _totals(period: Period, segments: Sequence[Segment], counted: _Counted) -> Iterator[_OfMeter]:
    # By the metric as well: another plan may count something else under the same code.
    found = dict.fromkeys(
        (meter.code, meter.metric) for segment in segments for meter in segment.plan.meters
    )
    for code, metric in found:
        included = {
            is_trial: included_units(period, segments, code, metric, is_trial=is_trial)
            for is_trial in (True, False)
        }
        left = {is_trial: Decimal(units) for is_trial, units in included.items()}
        totals: list[_Total] = []
        for place, segment in enumerate(segments):
            meter, sources = segment.plan.meter(code), counted.charged.get((place, code))
            if meter is None or meter.metric != metric or not sources:
                continue
            total = _total_of(totals, meter, is_trial=segment.is_trial)
            left[total.is_trial] -= total.add(sources, left[total.is_trial])
        yield _OfMeter(code, metric, included, totals)


def included_units(
    period: Period,
    segments: Sequence[Segment],
    code: str,
    metric: str,
    *,
    is_trial: bool = False,
) -> int:
    """Units of a meter that the paid days of `period` include, or those of a trial in it: of each
    segment by its seconds, rounded up once."""
    seconds = sum(
        segment.included(code) * segment.seconds
        for segment in segments
        if segment.is_trial is is_trial
        and (meter := segment.plan.meter(code)) is not None
        and meter.metric == metric
    )
    return -(-seconds // period.full_s)


class MeterTotal(NamedTuple):
    """What one meter counted under one set of prices: `quantity` weighted units, of them `included`
    and `charged`, which cost `cost`; nothing in a trial."""

    meter: Meter
    is_trial: bool
    quantity: Decimal
    included: Decimal
    charged: Decimal
    cost: Decimal


def meter_totals(
    period: Period, segments: Sequence[Segment], usage: Iterable[Usage]
) -> dict[tuple[str, str], tuple[MeterTotal, ...]]:
    """What usage comes to before discounts, by the code and the metric of the meter. Raises as
    `rate`."""
    with money.exact():
        return {
            (of_meter.code, of_meter.metric): tuple(
                MeterTotal(
                    total.meter,
                    total.is_trial,
                    total.quantity,
                    total.included,
                    total.charged,
                    line.exact,
                )
                for total, line in _usage_lines(of_meter)
            )
            for of_meter in _totals(period, segments, _count(period, segments, usage))
        }


def _total_of(totals: list[_Total], meter: Meter, *, is_trial: bool) -> _Total:
    """The total of all segments whose prices are those of `meter`."""
    prices = (meter.pricing, meter.cap, meter.overage, is_trial)
    for total in totals:
        other = total.meter
        if (other.pricing, other.cap, other.overage, total.is_trial) == prices:
            return total
    totals.append(_Total(meter, is_trial))
    return totals[-1]


def _usage_lines(of_meter: _OfMeter) -> Iterator[tuple[_Total, Line]]:
    before: list[Charged] = []
    for total in of_meter.totals:
        line = _usage_line(total, of_meter, most_of(total.meter, before))
        if total.meter.cap is not None:
            before.append(Charged(total.meter.cap, line.amount))
        yield total, line


def _usage_line(total: _Total, of_meter: _OfMeter, most: Decimal | None) -> Line:
    meter = total.meter
    parts: list[TierPart | CapPart] = []
    if total.included:
        up_to = of_meter.included[total.is_trial]
        parts.append(TierPart(share=Share.INCLUDED, quantity=total.included, up_to=up_to))
    parts += charge(meter.pricing, total.charged)
    if total.refused:
        parts.append(TierPart(share=Share.REFUSED, quantity=total.refused))
    exact = sum((part.amount for part in parts), start=ZERO)
    if meter.cap is not None and most is not None and exact > most:
        parts.append(CapPart(price=meter.cap, most=most, amount=most - exact))
        exact = most
    return Line(
        kind=LineKind.USAGE,
        code=meter.code,
        name=meter.name,
        quantity=total.quantity,
        unit=meter.metric,
        exact=exact,
        amount=money.rounded(exact),
        parts=tuple(parts),
        sources=_sources(total.sources),
    )


def _free(counted: _Counted) -> Iterator[Line]:
    for (code, name, metric, reason), sources in sorted(counted.free.items()):
        yield Line(
            kind=LineKind.ZERO_RATED,
            code=code,
            name=name,
            reason=reason,
            quantity=_weighted(sources),
            unit=metric,
            exact=ZERO,
            amount=_cents(ZERO),
            sources=_sources(sources),
        )


def _weighted(sources: dict[_SourceKey, int]) -> Decimal:
    return sum((units * weight for (*_, weight), units in sources.items()), start=ZERO)


def _sources(sources: dict[_SourceKey, int]) -> tuple[UsageSource, ...]:
    return tuple(
        UsageSource(metric, channel, reason, n, weight)
        for (metric, channel, reason, weight), n in sorted(sources.items())
    )


# --- fees -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fee:
    """What makes two segments' fees the same fee."""

    kind: LineKind
    code: str
    name: str
    price: Decimal
    quantity: int


def _fees(period: Period, segments: Sequence[Segment]) -> Iterator[Line]:
    held: dict[_Fee, list[Segment]] = {}
    for segment in segments:
        plan = segment.plan
        held.setdefault(_Fee(LineKind.PLAN_FEE, plan.code, plan.name, plan.fee, 1), []).append(
            segment
        )
    for segment in segments:
        for add_on, quantity in segment.add_ons:
            fee = _Fee(LineKind.ADD_ON_FEE, add_on.code, add_on.name, add_on.fee, quantity)
            held.setdefault(fee, []).append(segment)
    for fee, found in held.items():
        yield _fee_line(period, fee, _joined(found))


def _joined(found: Sequence[Segment]) -> Iterator[tuple[datetime, datetime, bool]]:
    """Stretches of one fee: segments that touch, and differ in something else, are one."""
    start, end, is_trial = found[0].start, found[0].end, found[0].is_trial
    for segment in found[1:]:
        if (segment.start, segment.is_trial) != (end, is_trial):
            yield start, end, is_trial
            start, is_trial = segment.start, segment.is_trial
        end = segment.end
    yield start, end, is_trial


def _fee_line(
    period: Period, fee: _Fee, stretches: Iterable[tuple[datetime, datetime, bool]]
) -> Line:
    parts, paid_s = [], 0
    for start, end, is_trial in stretches:
        seconds = seconds_between(start, end)
        charged_s = 0 if is_trial else seconds
        paid_s += charged_s
        parts.append(
            FeePart(
                start=start,
                end=end,
                seconds=seconds,
                full_s=period.full_s,
                price=fee.price,
                quantity=fee.quantity,
                is_trial=is_trial,
                amount=_share(fee.price * fee.quantity, charged_s, period.full_s),
            )
        )
    # One division for the whole line: parts that are each cut to 80 digits may miss half a cent.
    exact = _share(fee.price * fee.quantity, paid_s, period.full_s)
    return Line(
        kind=fee.kind,
        code=fee.code,
        name=fee.name,
        quantity=Decimal(fee.quantity),
        unit=period.interval.unit,
        exact=exact,
        amount=money.rounded(exact),
        parts=tuple(parts),
    )


def _share(amount: Decimal, seconds: int, full_s: int) -> Decimal:
    return money.quotient(amount * seconds, full_s)


# --- discounts, adjustments, tax --------------------------------------------------------------


def _discounted(period: Period, discounts: Sequence[Discount], lines: Sequence[Line]) -> list[Line]:
    """`lines` with what discounts leave of them, and the lines of the discounts."""
    # A discount takes from its lines in their order, so that the next one on the same lines finds
    # less; and so that a line is taxed on what is left of it: tax on the lines of discounts, each
    # rounded by itself, would leave a cent of tax on an invoice of nothing.
    left = [line.amount for line in lines]
    taking = []
    for discount in discounts:
        places = [n for n, line in enumerate(lines) if _applies(discount, line)]
        base = sum((left[n] for n in places), start=ZERO)
        line = _discount_line(period, discount, base)
        if line is None:
            continue
        off = -line.amount
        for n in places:
            taken = min(off, left[n])
            left[n] -= taken
            off -= taken
        taking.append(line)
    nets = (replace(line, net=net) for line, net in zip(lines, left, strict=True))
    return [*nets, *taking]


def _applies(discount: Discount, line: Line) -> bool:
    kind, _, code = discount.applies_to.partition(":")
    return kind == "invoice" or (kind == line.kind and code in {"", line.code})


def _discount_line(period: Period, discount: Discount, base: Decimal) -> Line | None:
    start = max(period.start, in_utc(discount.starts_at))
    end = period.end if discount.ends_at is None else min(period.end, in_utc(discount.ends_at))
    seconds = seconds_between(start, end)
    if discount.percent is not None:
        # Of what this period charges, however short it was cut; an amount is for a full one.
        full_s = seconds_between(period.start, period.end)
        exact = _share(base * discount.percent / 100, seconds, full_s)
    else:
        full_s = period.full_s
        exact = min(base, _share(discount.amount or ZERO, seconds, full_s))
    if not base or not seconds:
        return None
    return Line(
        kind=LineKind.DISCOUNT,
        code=discount.code,
        name=discount.name,
        quantity=_ONE,
        unit="",
        exact=exact.copy_negate(),
        amount=money.rounded(exact.copy_negate()),
        net=_cents(ZERO),
        parts=(
            DiscountPart(
                base=base,
                percent=discount.percent,
                price=discount.amount,
                seconds=seconds,
                full_s=full_s,
            ),
        ),
    )


def _adjustment(item: Adjustment) -> Line:
    return Line(
        kind=LineKind.ADJUSTMENT,
        code=item.code,
        name=item.name,
        quantity=_ONE,
        unit="",
        exact=item.amount,
        amount=_cents(item.amount),
        net=_cents(item.amount),
        original=item.original,
        is_taxable=item.is_taxable,
    )


def _taxed(line: Line, tax: Tax) -> Line:
    percent = tax.percent if line.is_taxable and not tax.reverse_charge else ZERO
    return replace(line, tax_percent=percent, tax=money.rounded(line.net * percent / 100))


def _cents(amount: Decimal) -> Decimal:
    cents = money.rounded(amount)
    if cents != amount:
        raise ValueError(f"{money.render(amount)} is not in whole cents")
    return cents
