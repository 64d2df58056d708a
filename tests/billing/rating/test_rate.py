"""The lines of an invoice are what usage and terms of the period cost, to the cent (R22)."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating import money
from billing.rating.invoice import CapPart, LineKind, Rated, Tax, Usage
from billing.rating.periods import HOUR, Anchor, Period, period_at, periods, usage_hours
from billing.rating.prices import (
    AddOnPrices,
    Discount,
    Graduated,
    Interval,
    Override,
    PlanPrices,
    Tier,
    Unit,
    Volume,
)
from billing.rating.rate import rate
from billing.rating.segments import AddOnSpan, PlanSpan, Segment, hours_paid, segments
from billing.rating.tiers import TierPart
from tests.billing.rating import plans as random_plans
from tests.billing.rating.plans import make_plan, november_with
from tests.billing.rating.second import (
    cents,
    discount_again,
    period_of_hour,
    rate_again,
    settle_again,
)

few = settings(max_examples=40)
CHANNELS = (*random_plans.CHANNELS, "bbo")
METRICS = (*random_plans.CODES, "archive_bytes")


class Month(NamedTuple):
    """A period, what held in it and what was used."""

    period: Period
    plans: tuple[PlanSpan, ...]
    add_ons: tuple[AddOnSpan, ...]
    overrides: tuple[Override, ...]
    usage: list[Usage]

    @property
    def segments(self) -> tuple[Segment, ...]:
        return segments(self.period, self.plans, self.add_ons, self.overrides)

    def rated(self, usage: list[Usage] | None = None, **options: Any) -> Rated:
        return rate(self.period, self.segments, self.usage if usage is None else usage, **options)


def instants_in(period: Period) -> st.SearchStrategy[datetime]:
    length_s = int((period.full_end - period.start).total_seconds())
    return st.one_of(
        st.integers(1, length_s - 1).map(lambda n: period.start + timedelta(seconds=n)),
        st.integers(1, 24 * 27).map(lambda n: period.start + n * HOUR),
    )


@st.composite
def months(draw: st.DrawFn, pricing: st.SearchStrategy[Any] = random_plans.pricings) -> Month:
    interval = draw(st.sampled_from([Interval(), Interval(Unit.YEAR), Interval(Unit.DAY, 30)]))
    anchor = draw(st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31)))  # noqa: DTZ001
    anchors = [Anchor(anchor.replace(tzinfo=UTC), interval)]
    period = period_at(anchors, anchors[0].at + timedelta(days=draw(st.integers(0, 100))))
    if draw(st.booleans()):
        anchors.append(Anchor(draw(instants_in(period)), interval))
        period = period_at(anchors, period.start)

    def plan(code: str) -> PlanPrices:
        meters = tuple(replace(m, pricing=draw(pricing)) for m in draw(random_plans.meters()))
        return make_plan(code, draw(random_plans.fees), *meters, interval=interval)

    on_sale = [plan(f"plan-{n}") for n in range(draw(st.integers(1, 3)))]
    changes = sorted(draw(st.sets(instants_in(period), max_size=3)))
    starts = [period.start, *changes]
    ends: list[datetime | None] = [*changes, None]
    spans = [
        PlanSpan(
            draw(st.sampled_from(on_sale)),
            start,
            end,
            draw(st.one_of(st.none(), st.none(), instants_in(period))),
        )
        for start, end in zip(starts, ends, strict=True)
        # Sometimes a time without a plan.
        if draw(st.integers(0, 5))
    ]
    add_ons = [
        AddOnSpan(
            AddOnPrices(
                code=f"add-on-{n}",
                name="More",
                version=1,
                effective_from=period.start,
                fee=draw(random_plans.fees),
                included={"messages": draw(random_plans.amounts_included)},
            ),
            draw(instants_in(period)),
            draw(st.one_of(st.none(), st.just(period.full_end))),
            draw(st.integers(1, 3)),
        )
        for n in range(draw(st.integers(0, 2)))
    ]
    overrides = []
    if draw(st.booleans()):
        meters = tuple(replace(m, pricing=draw(pricing)) for m in draw(random_plans.meters()))
        overrides.append(
            Override(
                plan="plan-0",
                starts_at=draw(instants_in(period)).replace(minute=0, second=0),
                fee=draw(st.one_of(st.none(), random_plans.fees)),
                meters=meters,
            )
        )
    usage = draw(usage_of(period, spans))
    return Month(period, tuple(spans), tuple(add_ons), tuple(overrides), usage)


def usage_of(period: Period, spans: list[PlanSpan]) -> st.SearchStrategy[list[Usage]]:
    first, end = usage_hours(period, spans)
    count = int((end - first) / HOUR)
    if not count:
        return st.just([])
    units = st.one_of(st.integers(0, 10**8), st.integers(0, 100), st.just(10**12))
    return st.lists(
        st.builds(
            Usage,
            st.integers(0, count - 1).map(lambda n: first + n * HOUR),
            st.sampled_from(METRICS),
            st.sampled_from(CHANNELS),
            st.sampled_from(["", "", *random_plans.REASONS]),
            units,
        ),
        max_size=12,
    )


def amounts_by_kind(rated: Rated) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"plan_fee": [], "add_on_fee": [], "usage": []}
    for line in rated.lines:
        if line.kind is LineKind.ZERO_RATED:
            assert line.amount == line.tax == 0
        else:
            found[line.kind].append(int(line.amount * 100))
    return {
        **{kind: sorted(amounts) for kind, amounts in found.items()},
        "tax": [int(rated.tax_total * 100)],
        "total": [int(rated.total * 100)],
    }


@settings(max_examples=150)
@given(months(), st.decimals(0, 30, places=2))
def test_two_implementations_agree_to_the_cent(month: Month, percent: Decimal) -> None:
    rated = month.rated(tax=Tax("VAT", percent))
    again = rate_again(
        month.period,
        month.plans,
        month.usage,
        add_ons=month.add_ons,
        overrides=month.overrides,
        tax_percent=Fraction(percent),
    )
    assert amounts_by_kind(rated) == again


@few
@given(months())
def test_lines_sum_to_the_total_and_parts_to_their_line(month: Month) -> None:
    rated = month.rated(tax=Tax("VAT", Decimal("19")))
    assert rated.subtotal == sum(line.amount for line in rated.lines)
    assert rated.tax_total == sum(line.tax for line in rated.lines)
    assert rated.total == rated.subtotal + rated.tax_total == rated.due
    for line in rated.lines:
        assert line.amount.as_tuple().exponent == line.tax.as_tuple().exponent == -2
        assert int(line.amount * 100) == cents(Fraction(line.exact))
        if line.kind is LineKind.USAGE:
            tiers = [part for part in line.parts if isinstance(part, TierPart)]
            caps = [part for part in line.parts if isinstance(part, CapPart)]
            with money.exact():
                assert sum((part.amount for part in (*tiers, *caps)), Decimal(0)) == line.exact
                assert sum((part.quantity for part in tiers), Decimal(0)) == line.quantity


@few
@given(months())
def test_every_unit_of_usage_is_in_one_place(month: Month) -> None:
    rated = month.rated()
    used: Counter[tuple[str, str, str]] = Counter()
    for row in month.usage:
        used[row.metric, row.channel, row.reason] += row.units
    shown: Counter[tuple[str, str, str]] = Counter()
    for line in rated.lines:
        with money.exact():
            quantity = sum((s.units * s.weight for s in line.sources), Decimal(0))
        assert not line.sources or quantity == line.quantity
        for source in line.sources:
            shown[source.metric, source.channel, source.reason] += source.units
    for source in rated.unmetered:
        shown[source.metric, source.channel, source.reason] += source.units
    assert +shown == +used


@few
@given(months(), random_plans.discounts, st.lists(random_plans.discounts, max_size=3))
def test_a_discount_takes_its_share_and_no_more(
    month: Month, first: Discount, others: list[Discount]
) -> None:
    charged = month.rated()
    lines = [(line.kind.value, line.code, int(line.amount * 100)) for line in charged.lines]
    base, exact = discount_again(first, month.period, lines)
    off = charged.total - month.rated(discounts=[first]).total
    assert off * 100 == cents(exact) <= base
    assert 0 <= month.rated(discounts=[first, *others]).total <= charged.total - off


@few
@given(months(), st.lists(random_plans.discounts, max_size=4), st.decimals(0, 30, places=2))
def test_what_discounts_leave_is_taxed(
    month: Month, discounts: list[Discount], percent: Decimal
) -> None:
    lines = [(line.kind.value, line.code, int(line.amount * 100)) for line in month.rated().lines]
    rated = month.rated(discounts=discounts, tax=Tax("VAT", percent))
    again = settle_again(discounts, month.period, lines, Fraction(percent))
    assert (int(rated.subtotal * 100), int(rated.tax_total * 100)) == again
    assert sum(line.net for line in rated.lines) == rated.subtotal
    free = Discount(code="all", name="All", starts_at=month.period.start, percent=Decimal(100))
    assert month.rated(discounts=[*discounts, free], tax=Tax("VAT", percent)).total == 0


@few
@given(months())
def test_an_hour_is_paid_by_the_first_segment_in_it(month: Month) -> None:
    ranges = hours_paid(month.period, month.segments)
    hour, end = usage_hours(month.period, month.plans)
    for edge in sorted({at for s in month.segments for at in (s.start, s.end)}):
        for at in (edge.replace(minute=0, second=0) + n * HOUR for n in (-1, 0, 1)):
            if hour <= at < end:
                within = [
                    n for n, s in enumerate(month.segments) if s.start < at + HOUR and s.end > at
                ]
                paying = [n for n, (first, until) in enumerate(ranges) if first <= at < until]
                assert paying == within[:1]


@few
@given(st.data())
def test_over_all_periods_nothing_is_left_out_and_nothing_twice(data: st.DataObject) -> None:
    """The usage of an hour in which a plan held is on a line of one invoice, and of another hour
    unmetered in one."""
    daily = Interval(Unit.DAY)
    at = random_plans.day(1) + timedelta(seconds=data.draw(st.integers(0, 7_200)))
    anchors = [Anchor(at, daily)]
    if data.draw(st.booleans()):
        anchors.append(Anchor(at + timedelta(seconds=data.draw(st.integers(1, 200_000))), daily))
    found = list(islice(periods(anchors), 4))
    near_s = st.one_of(
        st.integers(0, 300_000),
        st.builds(
            lambda period, s: int((period.start - at).total_seconds()) + s,
            st.sampled_from(found),
            st.integers(0, 4_000),
        ),
    )
    edges = [at + timedelta(seconds=s) for s in sorted(data.draw(st.sets(near_s, max_size=6)))]
    plans = [
        make_plan(code, "0", random_plans.MESSAGES, interval=daily) for code in ("one", "other")
    ]
    spans = [
        PlanSpan(data.draw(st.sampled_from(plans)), start, end)
        for start, end in pairwise([at, *edges])
        if start < end and data.draw(st.integers(0, 2))
    ]
    hours = [at.replace(minute=0, second=0) + n * HOUR for n in range(24 * 4)]
    hours = [hour for hour in hours if hour + HOUR <= found[3].end]
    hours = [hour for hour in hours if period_of_hour(hour, found, spans) < 3]
    billed: Counter[int] = Counter()
    unmetered: Counter[int] = Counter()
    for period in found[:3]:
        first, end = usage_hours(period, spans)
        # Each hour has a bit of its own.
        rows = [
            random_plans.used(hour, 2**n) for n, hour in enumerate(hours) if first <= hour < end
        ]
        rated = rate(period, segments(period, spans), rows)
        for line in rated.lines:
            billed.update(bits(sum(source.units for source in line.sources)))
        unmetered.update(bits(sum(source.units for source in rated.unmetered)))
    held = {
        n
        for n, hour in enumerate(hours)
        if any(s.start < hour + HOUR and hour < (s.end or hour) for s in spans)
    }
    assert billed == dict.fromkeys(held, 1)
    assert unmetered == dict.fromkeys(set(range(len(hours))) - held, 1)


def bits(number: int) -> list[int]:
    """The powers of two in a sum of some."""
    return [n for n in range(number.bit_length()) if number >> n & 1]


@few
@given(months(), st.randoms(use_true_random=False))
def test_it_does_not_matter_how_usage_is_cut(month: Month, chance: random.Random) -> None:
    """In any order, in pieces, and over the hours of a segment."""
    _, end = usage_hours(month.period)
    # An hour is paid for by what holds at its beginning or else begins in it: edges of both sides.
    instants = {at for s in month.segments for at in (s.start, s.end)}
    edges = {at.replace(minute=0, second=0) for at in instants}
    edges |= {at + HOUR for at in edges}
    pieces = []
    for row in month.usage:
        at = chance.randint(0, row.units)
        for units in (at, row.units - at):
            later = row.hour + chance.randint(0, 5) * HOUR
            crosses = any(row.hour < edge <= later for edge in edges) or later >= end
            pieces.append(row._replace(units=units, hour=row.hour if crosses else later))
    chance.shuffle(pieces)
    assert month.rated(pieces) == month.rated()


@few
@given(months(), st.data())
def test_channels_of_one_weight_are_one(month: Month, data: st.DataObject) -> None:
    """Usage moved between two channels that no price names costs the same."""
    moved = []
    for row in month.usage:
        there = data.draw(st.integers(0, row.units)) if row.channel == "bbo" else 0
        moved += [row._replace(units=row.units - there)]
        moved += [row._replace(channel="candle", units=there)]
    one, other = month.rated(), month.rated(moved)
    assert [(line.code, line.quantity, line.parts, line.exact) for line in one.lines] == [
        (line.code, line.quantity, line.parts, line.exact) for line in other.lines
    ]


@few
@given(months(), st.integers(0, 1_000))
def test_a_change_that_changes_nothing_costs_nothing(month: Month, after_h: int) -> None:
    """Leaving a plan and joining it again at once, anywhere."""
    cut = month.period.start + after_h * HOUR
    spans: list[PlanSpan] = []
    for span in month.plans:
        if span.start < cut and (span.end is None or cut < span.end):
            spans += [replace(span, end=cut), replace(span, start=cut)]
        else:
            spans.append(span)
    assert month._replace(plans=tuple(spans)).rated() == month.rated()


without_volume = random_plans.pricings.filter(lambda pricing: not isinstance(pricing, Volume))


@few
@given(months(without_volume), st.data())
def test_more_usage_never_costs_less(month: Month, data: st.DataObject) -> None:
    if not month.usage:
        return
    more = list(month.usage)
    place = data.draw(st.integers(0, len(more) - 1))
    more[place] = more[place]._replace(units=more[place].units + data.draw(st.integers(1, 10**9)))
    assert month.rated(more).total >= month.rated().total


def test_but_by_volume_it_may_and_the_tier_shows_why() -> None:
    tiers = (Tier(100, Decimal("1")), Tier(None, Decimal("0.5")))
    at_100, at_101 = (november_with(Volume(tiers), units) for units in (100, 101))
    assert (at_100.total, at_101.total) == (Decimal("100.00"), Decimal("50.50"))
    (part,) = at_101.lines[-1].parts
    assert isinstance(part, TierPart)
    assert (part.above, part.up_to, part.price) == (100, None, Decimal("0.5"))


@few
@given(months())
def test_capped_prices_cost_their_caps_at_most_and_together_the_largest(month: Month) -> None:
    """Read from the lines alone: a period's lines of one meter whose prices all have a cap."""
    meters = [meter for segment in month.segments for meter in segment.plan.meters]
    for code, metric in {(meter.code, meter.metric) for meter in meters}:
        caps = [m.cap for m in meters if (m.code, m.metric) == (code, metric)]
        costs = [
            line.amount
            for line in month.rated().lines
            if (line.kind, line.code, line.unit) == (LineKind.USAGE, code, metric)
        ]
        known = [cap for cap in caps if cap is not None]
        if len(known) == len(caps):
            assert sum(costs) <= max(known)


def test_nothing_hangs_on_the_callers_context() -> None:
    with localcontext() as ambient:
        ambient.prec = 4
        tiers = (Tier(7, Decimal("0.1234567")), Tier(None, Decimal("0.00000001"), 10))
        rated = november_with(Graduated(tiers), 2**63 - 1)
    expected = 7 * Fraction("0.1234567") + (2**63 - 8) * Fraction(1, 10**9)
    assert Fraction(rated.lines[-1].exact) == expected
    assert int(rated.total.scaleb(2)) == cents(expected)
