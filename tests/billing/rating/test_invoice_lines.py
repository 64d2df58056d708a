"""Each kind of line, worked out by hand. November 2026 has 30 days of 86,400 s: 2,592,000 s."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.rating.invoice import (
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
from billing.rating.money import AmountTooLarge
from billing.rating.periods import Anchor, period_at
from billing.rating.prices import (
    AddOnPrices,
    Discount,
    Entitlements,
    Flat,
    Graduated,
    Interval,
    Meter,
    Metric,
    Override,
    Package,
    PerUnit,
    PlanPrices,
    Tier,
    Trial,
    Unit,
    Volume,
)
from billing.rating.rate import rate
from billing.rating.segments import AddOnSpan, PlanSpan, Segment, begin_trial, entitled, segments
from billing.rating.tiers import Share, TierPart
from tests.billing.rating.plans import (
    JANUARY,
    MESSAGES,
    NOVEMBER,
    day,
    make_plan,
    november_with,
    used,
)

MILLION = 1_000_000
FIVE_PER_MILLION = PerUnit(Decimal(5), MILLION)
STARTER = make_plan("starter", "49", replace(MESSAGES, pricing=FIVE_PER_MILLION, included=MILLION))
GROWTH = make_plan(
    "growth",
    "299",
    replace(MESSAGES, pricing=PerUnit(Decimal(3), MILLION), included=10 * MILLION),
)
FREE = make_plan("free", "0", replace(MESSAGES, overage=False, included=MILLION))
BOOKS = AddOnPrices(
    code="order-book",
    name="Order book",
    version=1,
    effective_from=JANUARY,
    fee=Decimal(199),
    included={"messages": 3 * MILLION},
)


def on(plan: PlanPrices) -> list[PlanSpan]:
    return [PlanSpan(plan, NOVEMBER.start)]


def november(
    spans: list[PlanSpan], usage: list[Usage], add_ons: list[AddOnSpan] | None = None, **more: Any
) -> Rated:
    return rate(NOVEMBER, segments(NOVEMBER, spans, add_ons or []), usage, **more)


def only(rated: Rated, kind: LineKind) -> Line:
    (line,) = (line for line in rated.lines if line.kind is kind)
    return line


def shares(line: Line) -> list[tuple[Share, Decimal, Decimal]]:
    return [(p.share, p.quantity, p.amount) for p in line.parts if isinstance(p, TierPart)]


def amounts(rated: Rated) -> list[tuple[str, str, str]]:
    return [(line.kind.value, line.code, f"{line.amount:f}") for line in rated.lines]


# --- pricing models ---------------------------------------------------------------------------

TIERS = (
    Tier(1_000, Decimal("0.01")),
    Tier(5_000, Decimal("0.005")),
    Tier(None, Decimal("0.001")),
)


@pytest.mark.parametrize(
    ("pricing", "units", "total"),
    [
        (Flat(Decimal("12.50")), 0, "0.00"),
        (Flat(Decimal("12.50")), 1, "12.50"),
        (Flat(Decimal("12.50")), 10**12, "12.50"),
        (PerUnit(Decimal("0.0000005")), 3_000_000, "1.50"),
        (PerUnit(Decimal("0.0000001")), 49_999, "0.00"),
        (PerUnit(Decimal("0.0000001")), 50_000, "0.01"),
        (PerUnit(Decimal("0.09"), 10**9), 1_234_567_890_123, "111.11"),
        (Graduated(TIERS), 1_000, "10.00"),
        (Graduated(TIERS), 1_001, "10.01"),  # 10.005
        (Graduated(TIERS), 6_000, "31.00"),  # 10 + 20 + 1
        (Volume(TIERS), 1_000, "10.00"),
        (Volume(TIERS), 1_001, "5.01"),  # 5.005
        (Volume(TIERS), 6_000, "6.00"),
        (Package(Decimal(10), 1_000), 1, "10.00"),
        (Package(Decimal(10), 1_000), 1_000, "10.00"),
        (Package(Decimal(10), 1_000), 1_001, "20.00"),
    ],
)
def test_a_pricing_model(pricing: Any, units: int, total: str) -> None:
    assert f"{november_with(pricing, units).total:f}" == total


def test_the_tiers_of_a_line_are_shown() -> None:
    line = only(november_with(Graduated(TIERS), 6_500, included=500), LineKind.USAGE)
    assert [
        (p.share, p.above, p.up_to, f"{p.quantity:f}", f"{p.amount:.3f}")
        for p in line.parts
        if isinstance(p, TierPart)
    ] == [
        (Share.INCLUDED, 0, 500, "500", "0.000"),
        (Share.TIER, 0, 1_000, "1000", "10.000"),
        (Share.TIER, 1_000, 5_000, "4000", "20.000"),
        (Share.TIER, 5_000, None, "1000", "1.000"),
    ]


def test_weights_multiply_what_is_counted() -> None:
    meter = replace(
        MESSAGES,
        pricing=PerUnit(Decimal("0.01")),
        weights={"l4Book": Decimal("2.5"), "l2Diff": Decimal("0.5"), "bbo": Decimal(0)},
    )
    usage = [used(day(1), 101, channel) for channel in ("l4Book", "l2Diff", "bbo", "trades")]
    line = only(november(on(make_plan("p", "0", meter)), usage), LineKind.USAGE)
    assert line.quantity == Decimal(101) * 4  # 2.5 + 0.5 + 0 + 1
    assert line.amount == Decimal("4.04")
    assert UsageSource("messages", "l4Book", "", 101, Decimal("2.5")) in line.sources


def test_a_channel_is_counted_by_the_meter_that_names_it() -> None:
    named = replace(MESSAGES, code="l4", channels=("l4Book",), pricing=PerUnit(Decimal(1)))
    rest = replace(MESSAGES, pricing=PerUnit(Decimal("0.1")))
    plan = make_plan("p", "0", rest, named)
    rated = november(on(plan), [used(day(1), 3, "l4Book"), used(day(1), 5, "trades")])
    assert amounts(rated)[1:] == [("usage", "messages", "0.50"), ("usage", "l4", "3.00")]


def test_usage_beyond_without_overage_is_shown_and_free() -> None:
    rated = november(on(FREE), [used(day(2), 1_500_000)])
    assert shares(only(rated, LineKind.USAGE)) == [
        (Share.INCLUDED, Decimal(MILLION), Decimal(0)),
        (Share.REFUSED, Decimal(500_000), Decimal(0)),
    ]
    assert rated.total == 0


def test_zero_rated_usage_is_shown_and_free() -> None:
    meter = replace(MESSAGES, pricing=PerUnit(Decimal(1)), zero_rated=("dashboard",))
    usage = [used(day(1), 2), used(day(1), 40, reason="dashboard"), used(day(2), 3, reason="odd")]
    rated = november(on(make_plan("p", "0", meter)), usage)
    free = only(rated, LineKind.ZERO_RATED)
    assert (free.reason, free.quantity, free.amount) == ("dashboard", 40, 0)
    assert free.sources == (UsageSource("messages", "l2Book", "dashboard", 40, Decimal(1)),)
    # A reason that the meter does not zero-rate is charged like any other.
    assert only(rated, LineKind.USAGE).amount == 5


@pytest.mark.parametrize("reason", ["replay", "resync"])
def test_no_meter_can_charge_what_is_sent_again(reason: str) -> None:
    meter = replace(MESSAGES, pricing=PerUnit(Decimal(1)), zero_rated=())
    rated = november(on(make_plan("p", "0", meter)), [used(day(1), 7, reason=reason)])
    assert (only(rated, LineKind.ZERO_RATED).quantity, rated.total) == (7, 0)


def test_usage_that_nothing_meters_is_named() -> None:
    rated = november(on(STARTER), [Usage(day(1), "bytes", "l4Book", "", 77)])
    assert rated.unmetered == (UsageSource("bytes", "l4Book", "", 77, Decimal(1)),)


def test_a_cap_is_met_exactly() -> None:
    below = november_with(PerUnit(Decimal("0.01")), 4_999, cap=Decimal(50))
    at = november_with(PerUnit(Decimal("0.01")), 5_000, cap=Decimal(50))
    beyond = november_with(PerUnit(Decimal("0.01")), 5_001, cap=Decimal(50))
    assert [str(rated.total) for rated in (below, at, beyond)] == ["49.99", "50.00", "50.00"]
    cap = only(beyond, LineKind.USAGE).parts[-1]
    assert isinstance(cap, CapPart)
    assert (cap.price, cap.most, cap.amount) == (50, 50, Decimal("-0.01"))
    assert november_with(PerUnit(Decimal(1)), 5, cap=Decimal(0)).total == 0


def of(price: str, cap: str | None = None, *, code: str = "messages") -> Any:
    """A plan whose messages cost `price` each."""
    meter = replace(MESSAGES, pricing=PerUnit(Decimal(price)), cap=Decimal(cap) if cap else None)
    return make_plan(f"{price}-{cap}", "0", meter)


def halves(first: Any, second: Any, *, used_of_first: int, used_of_second: int) -> list[str]:
    """What half a month of each costs."""
    spans = [PlanSpan(first, NOVEMBER.start, day(16)), PlanSpan(second, day(16))]
    rated = november(spans, [used(day(2), used_of_first), used(day(20), used_of_second)])
    return [amount for *_, amount in amounts(rated)][2:]


def test_two_capped_prices_together_cost_no_more_than_the_larger_cap() -> None:
    assert halves(of("1", "50"), of("2", "50"), used_of_first=30, used_of_second=11) == [
        "30.00",
        "20.00",
    ]
    assert halves(of("1", "50"), of("2", "80"), used_of_first=60, used_of_second=50) == [
        "50.00",
        "30.00",
    ]
    assert halves(of("1", "80"), of("2", "50"), used_of_first=20, used_of_second=50) == [
        "20.00",
        "50.00",
    ]


def test_the_part_says_what_other_prices_left_of_a_cap() -> None:
    spans = [PlanSpan(of("1", "50"), NOVEMBER.start, day(16)), PlanSpan(of("2", "50"), day(16))]
    rated = november(spans, [used(day(2), 30), used(day(20), 11)])
    cap = rated.lines[3].parts[-1]
    assert isinstance(cap, CapPart)
    assert (cap.price, cap.most, cap.amount) == (50, 20, -2)


def test_what_has_no_cap_takes_nothing_of_a_later_one() -> None:
    assert halves(of("1"), of("1", "50"), used_of_first=400, used_of_second=400) == [
        "400.00",
        "50.00",
    ]


def test_a_cap_is_no_cent_more_than_it_says() -> None:
    assert november_with(PerUnit(Decimal(1)), 9, cap=Decimal("1.015")).total == Decimal("1.01")


def test_who_leaves_after_an_hour_owes_what_the_hour_cost_up_to_the_cap() -> None:
    """All of a month's use may lie in one hour: a share of the cap by time would give it away."""
    for then in ([], [PlanSpan(of("3"), day(1, 1))]):
        spans = [PlanSpan(of("1", "500"), NOVEMBER.start, day(1, 1)), *then]
        rated = november(spans, [used(day(1), 10_000)])
        assert only(rated, LineKind.USAGE).amount == 500


def test_a_trial_has_no_part_of_a_cap() -> None:
    plan = of("1", "50")
    spans = [PlanSpan(plan, NOVEMBER.start, trial_end=day(16))]
    rated = november(spans, [used(day(2), 400), used(day(20), 400)])
    assert rated.total == 50


# --- segments ---------------------------------------------------------------------------------


def test_a_plan_change_splits_the_fee_by_the_second() -> None:
    change = day(11, 6, 30) + timedelta(seconds=1)  # 887,401 s of 2,592,000
    rated = november([PlanSpan(STARTER, NOVEMBER.start, change), PlanSpan(GROWTH, change)], [])
    # 49 × 887,401 / 2,592,000 = 16.77571…; 299 × 1,704,599 / 2,592,000 = 196.63485…
    assert amounts(rated) == [("plan_fee", "starter", "16.78"), ("plan_fee", "growth", "196.63")]
    first, second = (part for line in rated.lines for part in line.parts)
    assert isinstance(first, FeePart)
    assert isinstance(second, FeePart)
    assert (first.start, first.end, first.seconds) == (NOVEMBER.start, change, 887_401)
    assert (second.seconds, second.full_s) == (1_704_599, 2_592_000)
    assert (first.quantity, first.price) == (1, Decimal(49))


def test_what_is_included_is_shared_by_the_period() -> None:
    """Half a month of 1 M and half of 10 M include 5.5 M, whenever they are used; what is beyond
    costs what it cost at its time."""
    spans = [PlanSpan(STARTER, NOVEMBER.start, day(16)), PlanSpan(GROWTH, day(16))]
    early = november(spans, [used(day(2), 5_500_000)])
    assert early.total == Decimal("174.00")  # 24.50 + 149.50
    rated = november(spans, [used(day(2), 5_000_000), used(day(20), 2_500_000)])
    usage = [line for line in rated.lines if line.kind is LineKind.USAGE]
    assert [shares(line) for line in usage] == [
        [(Share.INCLUDED, Decimal(5_000_000), Decimal(0))],
        [(Share.INCLUDED, Decimal(500_000), 0), (Share.TIER, Decimal(2_000_000), Decimal(6))],
    ]


def test_what_is_included_is_rounded_up_to_a_whole_unit_once() -> None:
    change = NOVEMBER.start + timedelta(seconds=1)
    tiny = make_plan("tiny", "0", replace(MESSAGES, pricing=PerUnit(Decimal(1)), included=1))
    line = only(
        november([PlanSpan(tiny, NOVEMBER.start, change)], [used(day(1), 3)]), LineKind.USAGE
    )
    assert shares(line) == [(Share.INCLUDED, 1, 0), (Share.TIER, 2, 2)]


def test_an_hour_is_paid_by_the_terms_in_force_at_its_beginning() -> None:
    spans = [PlanSpan(FREE, NOVEMBER.start, day(10, 12, 30)), PlanSpan(STARTER, day(10, 12, 30))]
    found = segments(NOVEMBER, spans)
    by_hour = {
        hour: rate(NOVEMBER, found, [used(day(10, hour), 10 * MILLION)]).total for hour in (12, 13)
    }
    fee = rate(NOVEMBER, found, []).total
    assert by_hour[12] == fee
    assert by_hour[13] > fee


@pytest.mark.parametrize("plan", ["free", "cheaper"])
def test_a_second_on_another_plan_reprices_no_hour(plan: str) -> None:
    other = replace(FREE if plan == "free" else GROWTH, fee=Decimal(0))
    out, back = day(10, 10, 59) + timedelta(seconds=59), day(10, 11)
    spans = [
        PlanSpan(STARTER, NOVEMBER.start, out),
        PlanSpan(other, out, back),
        PlanSpan(STARTER, back),
    ]
    whole = november(on(STARTER), [used(day(10, 10), 101 * MILLION)])
    assert november(spans, [used(day(10, 10), 101 * MILLION)]).total == whole.total
    assert whole.total == Decimal("549.00")


def test_one_code_of_two_metrics_is_two_lines() -> None:
    """Each with what it includes and its own cap: bytes are no messages."""
    pricing = PerUnit(Decimal(1), 1_000)
    use = replace(MESSAGES, code="use", pricing=pricing, included=3_000, cap=Decimal(9))
    one = make_plan("one", "0", use)
    more = replace(use, metric=Metric.BYTES, included=0, cap=Decimal("4.50"))
    other = make_plan("other", "0", more)
    spans = [PlanSpan(one, NOVEMBER.start, day(11)), PlanSpan(other, day(11))]
    rated = november(spans, [used(day(2), 4_000), Usage(day(20), "bytes", "", "", 5_000)])
    assert [
        (line.unit, line.quantity, f"{line.amount:f}")
        for line in rated.lines
        if line.kind is LineKind.USAGE
    ] == [("messages", 4_000, "3.00"), ("bytes", 5_000, "4.50")]


def test_the_first_hour_of_a_tenant_is_paid_by_what_begins_in_it() -> None:
    begin = day(1, 10, 30)
    period = period_at([Anchor(begin, Interval())], begin)
    rated = rate(period, segments(period, [PlanSpan(STARTER, begin)]), [used(day(1, 10), MILLION)])
    assert (rated.unmetered, only(rated, LineKind.USAGE).quantity) == ((), MILLION)


def test_the_last_hour_of_a_tenant_is_in_its_last_period() -> None:
    begin = day(1, 10, 30)
    anchors = [Anchor(begin, Interval())]
    last, after = period_at(anchors, begin), period_at(anchors, begin + timedelta(days=40))
    spans = [PlanSpan(STARTER, begin, last.end)]
    hour = used(last.end.replace(minute=0), 41 * MILLION)
    assert rate(last, segments(last, spans), [hour]).total == Decimal("249.00")
    with pytest.raises(ValueError, match="is not of the period"):
        rate(after, segments(after, spans), [hour])


def test_a_plan_that_ends_pays_for_its_last_hour() -> None:
    spans = [PlanSpan(STARTER, NOVEMBER.start, day(10, 12, 30))]
    assert not november(spans, [used(day(10, 12), 1)]).unmetered
    assert november(spans, [used(day(10, 13), 1)]).unmetered


def test_add_ons_bring_a_fee_and_more_included() -> None:
    add_ons = [AddOnSpan(BOOKS, day(16)), AddOnSpan(BOOKS, day(21), day(26), quantity=2)]
    rated = november(on(STARTER), [used(day(3), 4 * MILLION)], add_ons)
    # 199 / 2 = 99.50; 2 × 199 / 6 = 66.333…; included 1 + 3 / 2 + 2 × 3 / 6 = 3.5 M
    assert amounts(rated) == [
        ("plan_fee", "starter", "49.00"),
        ("add_on_fee", "order-book", "99.50"),
        ("add_on_fee", "order-book", "66.33"),
        ("usage", "messages", "2.50"),
    ]
    # The plan's fee is one stretch: add-ons that come and go do not cut it.
    assert len(rated.lines[0].parts) == 1
    assert len(rated.segments) == 4


def test_a_trial_is_free_and_charges_from_its_end() -> None:
    plan = replace(STARTER, trial=Trial(10))
    rated = november([begin_trial(plan, NOVEMBER.start)], [used(day(5), 5 * MILLION)])
    fee = only(rated, LineKind.PLAN_FEE)
    assert fee.amount == Decimal("32.67")  # 49 × 20 / 30
    assert [p.is_trial for p in fee.parts if isinstance(p, FeePart)] == [True, False]
    # In the trial nothing beyond the included is charged.
    assert [share for share, *_ in shares(only(rated, LineKind.USAGE))] == [
        Share.INCLUDED,
        Share.REFUSED,
    ]


def test_what_is_used_in_a_trial_takes_nothing_from_the_paid_days() -> None:
    """30 M in 14 free days, then exactly what 16 paid days of 30 M a month include."""
    plan = make_plan("p", "49", replace(MESSAGES, pricing=FIVE_PER_MILLION, included=30 * MILLION))
    spans = [begin_trial(replace(plan, trial=Trial(14)), NOVEMBER.start)]
    rated = november(spans, [used(day(5), 30 * MILLION), used(day(20), 16 * MILLION)])
    free, paid = (line for line in rated.lines if line.kind is LineKind.USAGE)
    assert [(share, quantity) for share, quantity, _ in shares(free)] == [
        (Share.INCLUDED, 14 * MILLION),
        (Share.REFUSED, 16 * MILLION),
    ]
    assert shares(paid) == [(Share.INCLUDED, 16 * MILLION, 0)]
    more = november(spans, [used(day(5), 1), used(day(20), 17 * MILLION)])
    assert more.total - rated.total == 5


def test_a_trial_that_does_not_convert_ends_the_plan() -> None:
    plan = replace(STARTER, trial=Trial(10, converts=False))
    rated = november([begin_trial(plan, NOVEMBER.start)], [])
    assert [(s.start, s.end) for s in rated.segments] == [(day(1), day(11))]
    assert rated.total == 0


def test_own_terms_replace_the_plans() -> None:
    own_meter = replace(MESSAGES, pricing=PerUnit(Decimal(1), MILLION), included=2 * MILLION)
    own = Override(plan="starter", starts_at=day(16), fee=Decimal(40), meters=(own_meter,))
    elsewhere = Override(plan="growth", starts_at=day(1), fee=Decimal(1))
    found = segments(NOVEMBER, on(STARTER), overrides=[own, elsewhere])
    rated = rate(NOVEMBER, found, [used(day(20), 3_500_000)])
    # 1.5 M are included, 2 M at $1
    assert amounts(rated) == [
        ("plan_fee", "starter", "24.50"),
        ("plan_fee", "starter", "20.00"),
        ("usage", "messages", "2.00"),
    ]


def test_a_tenants_own_rate_wins_over_what_the_plan_names() -> None:
    l4 = replace(MESSAGES, code="l4", channels=("l4Book",), pricing=PerUnit(Decimal(9)))
    rest = replace(MESSAGES, pricing=PerUnit(Decimal(2)))
    plan = make_plan("p", "0", l4, rest)
    usage = [used(day(2), 1, "l4Book"), used(day(2), 1, "bbo")]

    def cost(*meters: Meter) -> list[str]:
        own = Override(plan="p", starts_at=day(1), meters=meters)
        rated = rate(NOVEMBER, segments(NOVEMBER, on(plan), overrides=[own]), usage)
        return [f"{line.code} {line.amount:f}" for line in rated.lines if line.sources]

    one = PerUnit(Decimal(1))
    assert cost() == ["l4 9.00", "messages 2.00"]
    # A rate for everything is for everything.
    assert cost(replace(rest, code="flat-rate", pricing=one)) == ["flat-rate 2.00"]
    assert cost(replace(l4, channels=(), pricing=one)) == ["l4 2.00"]
    # In place of the plan's meter of all others, it is for all others.
    assert cost(replace(rest, pricing=one)) == ["messages 1.00", "l4 9.00"]
    assert cost(replace(rest, code="books", channels=("l4Book",), pricing=one)) == [
        "books 1.00",
        "messages 2.00",
    ]


def test_two_plans_at_one_time_are_refused() -> None:
    with pytest.raises(ValueError, match="2 terms hold at"):
        segments(NOVEMBER, [*on(FREE), PlanSpan(STARTER, day(3), day(4))])


def test_entitlements_of_add_ons_come_on_top() -> None:
    plan = replace(
        FREE,
        entitlements=Entitlements(
            products=("ws",), channels=("bbo",), regions=None, connections=2, users=None
        ),
    )
    more = replace(
        BOOKS,
        entitlements=Entitlements(
            products=("ws", "grpc"), channels=("l4Book",), connections=5, users=3, coins=None
        ),
    )
    both = entitled(Segment(start=day(1), end=day(2), plan=plan, add_ons=((more, 2),)))
    assert both == Entitlements(
        products=("ws", "grpc"),
        channels=("bbo", "l4Book"),
        regions=None,
        connections=12,
        users=None,
        coins=None,
    )


# --- discounts, adjustments, tax, wallet ------------------------------------------------------


def discount(**fields: Any) -> Discount:
    return Discount(**{"code": "d", "name": "D", "starts_at": JANUARY, **fields})


def test_discounts_apply_in_order_and_to_their_lines() -> None:
    usage = [used(day(3), 3 * MILLION)]  # $10 beyond the included
    rated = november(
        on(STARTER),
        usage,
        discounts=[
            discount(code="usage", applies_to="usage:messages", percent=Decimal("12.5")),
            discount(code="none", applies_to="usage:bytes", percent=Decimal(50)),
            discount(code="all", percent=Decimal(10)),
            discount(code="fee", applies_to="plan_fee", amount=Decimal(100)),
        ],
    )
    # 49 + 10; −1.25 of usage; 10 % of 57.75 = 5.775, which takes the fee to 43.22 first; the rest
    # of the fee is all that the last one can take.
    assert amounts(rated)[2:] == [
        ("discount", "usage", "-1.25"),
        ("discount", "all", "-5.78"),
        ("discount", "fee", "-43.22"),
    ]
    assert rated.total == Decimal("8.75")


def test_a_discount_takes_the_share_of_its_time() -> None:
    half = discount(
        percent=Decimal(20), starts_at=day(16), ends_at=datetime(2027, 1, 1, tzinfo=UTC)
    )
    rated = november(on(STARTER), [], discounts=[half])
    line = only(rated, LineKind.DISCOUNT)
    assert line.amount == Decimal("-4.90")
    (part,) = line.parts
    assert isinstance(part, DiscountPart)
    assert (part.base, part.seconds, part.full_s) == (Decimal(49), 1_296_000, 2_592_000)
    over = discount(percent=Decimal(20), ends_at=NOVEMBER.start)
    assert len(november(on(STARTER), [], discounts=[over]).lines) == 1


def test_adjustments_are_lines_of_their_own() -> None:
    original = (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    rated = november(
        on(STARTER),
        [],
        discounts=[discount(percent=Decimal(100))],
        adjustments=[
            Adjustment(code="late", name="Late usage", amount=Decimal("1.25"), original=original),
            Adjustment(code="sla", name="Gap of 3 November", amount=Decimal("-2.00")),
        ],
    )
    assert amounts(rated)[2:] == [("adjustment", "late", "1.25"), ("adjustment", "sla", "-2.00")]
    assert rated.lines[2].original == original
    assert (rated.total, rated.prepaid, rated.due) == (Decimal("-0.75"), 0, Decimal("-0.75"))


def test_tax_is_rounded_on_each_line() -> None:
    rated = november(
        on(STARTER),
        [used(day(3), 1_002_000)],  # one cent
        adjustments=[
            Adjustment(code="deposit", name="Deposit", amount=Decimal(5), is_taxable=False)
        ],
        tax=Tax("VAT", Decimal("7.7")),
    )
    assert [f"{line.tax:f}" for line in rated.lines] == ["3.77", "0.00", "0.00"]
    assert (rated.subtotal, rated.tax_total) == (Decimal("54.01"), Decimal("3.77"))


def test_an_invoice_of_nothing_owes_no_tax() -> None:
    """5 % of each 0.10 would be a cent, and of −0.30 two: a cent of tax on nothing."""
    meters = [
        replace(MESSAGES, code=metric, metric=metric, pricing=PerUnit(Decimal("0.10")))
        for metric in (Metric.MESSAGES, Metric.BYTES, Metric.REQUESTS)
    ]
    usage = [Usage(day(2), metric, "", "", 1) for metric in ("messages", "bytes", "requests")]
    free, vat = discount(percent=Decimal(100)), Tax("VAT", Decimal(5))
    rated = november(on(make_plan("p", "0", *meters)), usage, discounts=[free], tax=vat)
    assert (rated.subtotal, rated.tax_total, rated.total) == (0, 0, 0)
    assert [line.net for line in rated.lines] == [0] * 5


def test_reverse_charge_leaves_the_tax_to_the_customer() -> None:
    tax = Tax("VAT", Decimal(19), reverse_charge="Reverse charge, art. 196")
    rated = november(on(STARTER), [], tax=tax)
    assert (rated.tax_total, rated.tax.reverse_charge) == (0, "Reverse charge, art. 196")


@pytest.mark.parametrize(
    ("wallet", "prepaid", "due"),
    [("0", "0.00", "58.31"), ("20", "20.00", "38.31"), ("100", "58.31", "0.00")],
)
def test_the_wallet_pays_last(wallet: str, prepaid: str, due: str) -> None:
    rated = november(on(STARTER), [], tax=Tax("VAT", Decimal(19)), wallet=Decimal(wallet))
    assert (f"{rated.prepaid:f}", f"{rated.due:f}") == (prepaid, due)


def test_a_period_cut_short_pays_its_part() -> None:
    anchors = [Anchor(NOVEMBER.start, Interval()), Anchor(day(16), Interval(Unit.YEAR))]
    period = period_at(anchors, day(3))
    found = segments(period, on(STARTER))
    fifth = discount(amount=Decimal(10))
    rated = rate(period, found, [used(day(3), 600_000)], discounts=[fifth])
    # Half the fee, half a million included, 0.1 M at $5, half the discount.
    assert [amount for *_, amount in amounts(rated)] == ["24.50", "0.50", "-5.00"]


def test_what_does_not_fit_is_refused() -> None:
    found = segments(NOVEMBER, on(STARTER))
    with pytest.raises(ValueError, match="is not of the period"):
        rate(NOVEMBER, found, [used(NOVEMBER.end, 1)])
    with pytest.raises(ValueError, match="-1 units"):
        rate(NOVEMBER, found, [used(day(1), -1)])
    with pytest.raises(ValueError, match="wallet"):
        rate(NOVEMBER, found, [], wallet=Decimal(-1))
    with pytest.raises(ValueError, match="whole cents"):
        rate(NOVEMBER, found, [], wallet=Decimal("0.001"))
    with pytest.raises(ValueError, match="whole cents"):
        rate(
            NOVEMBER,
            found,
            [],
            adjustments=[Adjustment(code="a", name="A", amount=Decimal("0.1234"))],
        )
    yearly = make_plan("yearly", "500", interval=Interval(Unit.YEAR))
    with pytest.raises(ValueError, match="plan yearly is not billed by"):
        november(on(yearly), [])
    with pytest.raises(ValueError, match="-1 of add-on order-book"):
        november(on(STARTER), [], [AddOnSpan(BOOKS, day(1), quantity=-1)])
    for percent in ("-5", "100.01"):
        with pytest.raises(ValueError, match="is not within 0 and 100"):
            rate(NOVEMBER, found, [], tax=Tax("VAT", Decimal(percent)))
    with pytest.raises(AmountTooLarge):
        november_with(PerUnit(Decimal(1_000)), 10**17)


def test_no_usage_and_no_plan_is_an_empty_invoice() -> None:
    rated = november([], [])
    assert (rated.lines, f"{rated.total:f}", rated.segments) == ((), "0.00", ())


def test_a_new_name_alone_does_not_begin_new_tiers() -> None:
    renamed: Meter = replace(STARTER.meters[0], name="Updates")
    spans = [
        PlanSpan(STARTER, NOVEMBER.start, day(16)),
        PlanSpan(replace(STARTER, version=2, meters=(renamed,)), day(16)),
    ]
    rated = november(spans, [used(day(2), MILLION), used(day(20), MILLION)])
    assert only(rated, LineKind.USAGE).amount == 5
