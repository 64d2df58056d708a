"""Allowances and spend caps: what is allowed is what the money pays for, and no unit more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import QuerySet
from hypothesis import given
from hypothesis import strategies as st

from billing.catalogue import services, spending, terms, written
from billing.catalogue.allowed import CAP_SUFFIX, allowed, counting
from billing.models import AppliedTerms
from billing.rating.invoice import LineKind, Usage
from billing.rating.prices import Meter, Metric, PerUnit, PlanPrices
from billing.rating.rate import included_units, rate
from billing.rating.segments import PlanSpan, segments
from tenants.models import Allowance, Plan, Tenant
from tests.billing.catalogue.books import (
    MAY,
    MESSAGES,
    REQUESTS,
    make_prices,
    make_tenant,
    note_usage,
    publish,
    publish_book,
)
from tests.billing.rating import plans
from tests.billing.rating.plans import NOVEMBER, day

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@st.composite
def priced(draw: st.DrawFn) -> PlanPrices:
    meters = tuple(
        replace(meter, pricing=draw(plans.pricings), included=draw(st.integers(0, 10_000)))
        for meter in (MESSAGES, REQUESTS)
    )
    meters = tuple(replace(meter, cap=draw(st.none() | plans.fees)) for meter in meters)
    return replace(plans.make_plan("plan", 0, *meters), meters=meters)


@given(priced(), st.integers(0, 10**6), st.integers(0, 10**6), plans.fees, st.data())
def test_all_that_a_spend_cap_allows_together_costs_no_more_than_it(
    plan: PlanPrices, messages: int, requests: int, cap: Decimal, data: st.DataObject
) -> None:
    found = segments(NOVEMBER, [PlanSpan(plan, NOVEMBER.start)])
    used = {"messages": messages, "requests": requests}
    now = [Usage(day(3), metric, "info", "", units) for metric, units in used.items()]
    spent = _cost(found, now)
    rows = allowed(NOVEMBER, found, found[0], now, spend_cap=cap)
    hard = {row.meter.code: row.units for row in rows if row.is_hard}
    assert all(row.code == row.meter.code + CAP_SUFFIX for row in rows if row.is_hard)
    more = [
        Usage(day(25), metric, "info", "", max(0, min(hard.get(metric, 10**7), 10**9) - units))
        for metric, units in used.items()
    ]
    # What was spent beyond the cap before it was set stays spent.
    assert _cost(found, [*now, *more]) <= max(cap, spent)
    # Neither does any part of it cost more: not so with prices by volume, which may fall.
    if spent <= cap and len(hard) == 2:
        part = [use._replace(units=data.draw(st.integers(0, use.units))) for use in more]
        assert _cost(found, [*now, *part]) <= cap


@given(plans.meters(), st.integers(1, 1_000))
def test_one_meter_can_use_up_its_share(meters: tuple[Meter, ...], cap: int) -> None:
    plan = replace(plans.make_plan("plan", 0), meters=(MESSAGES,))
    found = segments(NOVEMBER, [PlanSpan(plan, NOVEMBER.start)])
    (_, capped) = allowed(NOVEMBER, found, found[0], spend_cap=Decimal(cap))
    assert capped.units == 30_000 + cap * 200


def test_a_spend_cap_is_not_met_where_the_meter_s_own_cap_is_less() -> None:
    """A cap of 50, of which what the first half cost without one takes nothing."""
    before = replace(plans.make_plan("before", 0), meters=(replace(MESSAGES, included=0),))
    meter = replace(MESSAGES, included=0, pricing=PerUnit(Decimal(4), 1_000), cap=Decimal(50))
    after = replace(plans.make_plan("after", 0), meters=(meter,))
    spans = [PlanSpan(before, NOVEMBER.start, day(16)), PlanSpan(after, day(16))]
    found = segments(NOVEMBER, spans)
    used = [Usage(day(3), "messages", "info", "", 14_000)]  # 70 dollars
    (_, capped) = allowed(NOVEMBER, found, found[1], used, spend_cap=Decimal(100))
    assert capped.units == 14_000 + 7_500  # 30 dollars are left
    assert [row.code for row in allowed(NOVEMBER, found, found[1], used, spend_cap=130)] == [
        "messages"
    ]


def test_a_spend_cap_knows_what_other_prices_left_of_a_meter_s_cap() -> None:
    """Of a cap of 50 the first half has used 40: the second can cost 10 more, and no 20."""
    meter = replace(MESSAGES, included=0, pricing=PerUnit(Decimal(5), 1_000), cap=Decimal(50))
    other = replace(meter, pricing=PerUnit(Decimal(4), 1_000))
    first, second = (
        replace(plans.make_plan(name, 0), meters=(one,))
        for name, one in (("first", meter), ("second", other))
    )
    spans = [PlanSpan(first, NOVEMBER.start, day(16)), PlanSpan(second, day(16))]
    found = segments(NOVEMBER, spans)
    used = [Usage(day(3), "messages", "info", "", 8_000)]  # 40 dollars
    (_, capped) = allowed(NOVEMBER, found, found[1], used, spend_cap=Decimal(45))
    assert capped.units == 8_000 + 1_250  # 5 dollars are left
    assert [row.code for row in allowed(NOVEMBER, found, found[1], used, spend_cap=60)] == [
        "messages"
    ]


@given(plans.meters())
def test_the_meters_that_count_are_those_that_rating_asks(meters: tuple[Meter, ...]) -> None:
    shadow = Meter(code="own", name="Own", metric=Metric.MESSAGES, pricing=PerUnit(Decimal(1)))
    plan = replace(plans.make_plan("plan", 0), meters=(shadow, *meters))
    counts = dict((meter.code, channels) for meter, channels in counting(plan))
    for metric in Metric:
        for channel in (*plans.CHANNELS, "another"):
            meter = plan.meter_of(metric, channel)
            named = [m for m, ch in counting(plan) if m.metric == metric and channel in ch]
            rest = [m for m, ch in counting(plan) if m.metric == metric and not ch]
            assert [meter] == (named or rest or [None])
    assert "own" in counts


def _cost(found: tuple, usage: list[Usage]) -> Decimal:
    lines = rate(NOVEMBER, found, usage).lines
    return sum((line.exact for line in lines if line.kind == LineKind.USAGE), start=Decimal(0))


@pytest.fixture
def ada(db: None) -> Tenant:
    tenant = make_tenant()
    services.subscribe(tenant, plan=publish_book()["small"], now=datetime(2026, 11, 1, tzinfo=UTC))
    return tenant


def test_a_spend_cap_follows_what_is_used(ada: Tenant) -> None:
    services.choose_overage(ada, is_on=True, now=NOW)
    services.set_spend_cap(ada, Decimal(100), now=NOW)
    # Messages at 5 a thousand, requests at 1 a thousand, 50 of the 100 for each.
    assert _hard(ada) == {"messages+cap": 40_000, "requests+cap": 51_000}
    assert _soft(ada) == {"messages": 30_000, "requests": 1_000}
    note_usage(ada, NOW, 38_000)
    note_usage(ada, NOW, 9_000, zero_rated="resync")
    assert spending.limit_spending(NOW) == 1
    assert _hard(ada) == {"messages+cap": 44_000, "requests+cap": 31_000}
    assert spending.limit_spending(NOW) == 0
    services.set_spend_cap(ada, None, now=NOW)
    assert _hard(ada) == {}


def test_a_spend_cap_moves_with_all_that_is_charged(ada: Tenant) -> None:
    """By what rating charges and not by what has no reason: `odd` is free on no plan."""
    services.choose_overage(ada, is_on=True, now=NOW)
    services.set_spend_cap(ada, Decimal(100), now=NOW)
    note_usage(ada, NOW, 40_000, zero_rated="odd")
    note_usage(ada, NOW, 90_000, zero_rated="replay")
    spending.limit_spending(NOW)
    assert _hard(ada) == {"messages+cap": 45_000, "requests+cap": 26_000}


def test_many_caps_are_held_with_few_queries_and_the_longest_waiting_first(
    ada: Tenant, django_assert_max_num_queries: Any
) -> None:
    crowd = [ada]
    for n in range(7):
        tenant = make_tenant(f"Ben {n}")
        services.subscribe(
            tenant, plan=Plan.objects.get(code="small"), now=datetime(2026, 11, 1, tzinfo=UTC)
        )
        crowd.append(tenant)
    for tenant in crowd:
        services.choose_overage(tenant, is_on=True, now=NOW)
        services.set_spend_cap(tenant, Decimal(100), now=NOW)
    spending.limit_spending(NOW, is_time=lambda: True)  # time for one
    (first,) = AppliedTerms.objects.exclude(limited_at=None)
    assert first.tenant_id == ada.pk
    later = NOW + timedelta(minutes=1)
    spending.limit_spending(later, is_time=lambda: True)
    assert AppliedTerms.objects.get(limited_at=later).tenant_id == crowd[1].pk
    # Of a tenant its usage, of this period and the next; all else is read for all of them.
    with django_assert_max_num_queries(20 + 3 * len(crowd)):
        assert spending.limit_spending(later + timedelta(minutes=1)) == 0
    assert set(AppliedTerms.objects.values_list("limited_at", flat=True)) == {
        later + timedelta(minutes=1)
    }


def test_without_overage_the_included_is_the_end(ada: Tenant) -> None:
    assert _hard(ada) == {"messages": 30_000, "requests": 1_000}
    assert _soft(ada) == {}


def test_the_next_period_s_are_always_there(ada: Tenant) -> None:
    """So a beat that stands still over the end of a month opens nothing."""
    november, december, january = (
        datetime(year, month, 1, tzinfo=UTC) for year, month in ((2026, 11), (2026, 12), (2027, 1))
    )
    starts = Allowance.objects.filter(code="messages").values_list("starts_at", flat=True)
    assert sorted(starts.all()) == [november, december]
    assert written.catch_up(datetime(2026, 11, 30, 22, 59, tzinfo=UTC)) == 0
    assert written.catch_up(datetime(2026, 11, 30, 23, tzinfo=UTC)) == 1
    assert sorted(starts.all()) == [november, december, january]


def test_only_the_last_period_s_go_on(ada: Tenant) -> None:
    """So doors have them when the jobs stand still for longer than that; and what is planned to
    end, or to have none, leaves none behind."""
    going_on = Allowance.objects.filter(goes_on=True).values_list("starts_at", flat=True)
    assert set(going_on.all()) == {datetime(2026, 12, 1, tzinfo=UTC)}
    written.catch_up(datetime(2026, 11, 30, 23, tzinfo=UTC))
    assert set(going_on.all()) == {datetime(2027, 1, 1, tzinfo=UTC)}
    december = datetime(2026, 12, 5, tzinfo=UTC)
    free = publish(make_prices("free-of-meters", 1, meters=()), now=december)
    services.change_plan(ada, plan=free, at=datetime(2027, 1, 1, tzinfo=UTC), now=december)
    assert not going_on.exists()


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 11, 20, hour, minute, second, tzinfo=UTC)


def test_an_upgrade_allows_more_from_the_next_hour_that_it_pays_for(ada: Tenant) -> None:
    """A second after the full hour and back before the next would be an hour for nothing."""
    big = make_prices("big", 999, meters=(replace(MESSAGES, included=9_000_000), REQUESTS))
    services.change_plan(ada, plan=publish(big), now=at(10, 0, 1))
    assert _hard(ada)["messages"] == 30_000
    written.catch_up(at(11))
    assert _hard(ada)["messages"] > 3_000_000


def test_a_downgrade_within_the_hour_allows_no_more_than_what_is_paid(ada: Tenant) -> None:
    less = make_prices("less", 1, meters=(replace(MESSAGES, included=300), REQUESTS))
    services.change_plan(ada, plan=publish(less), now=at(10, 0, 1))
    period = terms.period_of(ada, NOW)
    included = included_units(period, terms.segments_of(ada, period), "messages", "messages")
    assert _hard(ada)["messages"] == included < 30_000


def test_what_only_the_new_plan_sells_opens_with_the_hour_that_it_pays_for(
    db: None,
) -> None:
    small = replace(MAY, channels=("bbo",))
    l4 = replace(MESSAGES, code="l4-bytes", metric=Metric.BYTES, channels=("l4Book",), included=0)
    tenant = make_tenant()
    small_plan = publish(make_prices("small", 30, entitlements=small))
    services.subscribe(tenant, plan=small_plan, now=at(8))
    services.choose_overage(tenant, is_on=True, now=at(8))
    more = publish(make_prices("more", 300, meters=(MESSAGES, REQUESTS, l4)))
    services.change_plan(tenant, plan=more, now=at(10, 0, 1))
    closed = _of_november(tenant).get(is_hard=True)
    assert (closed.code, closed.units, closed.channels) == ("l4-bytes", 0, ["l4Book"])
    assert (closed.starts_at, closed.ends_at) == (at(10), at(11))
    written.catch_up(at(11))
    assert _hard(tenant) == {}
    assert _soft(tenant)["l4-bytes"] == 0


def test_a_trial_s_amount_holds_until_the_hour_in_which_it_ends_is_over(db: None) -> None:
    tenant = make_tenant()
    began = at(10, 0, 30) - timedelta(days=14)
    services.subscribe(tenant, plan=publish_book()["convert"], now=began)
    for now in (at(9, 1), at(10, 0, 30), at(10, 30), at(11, 0, 30)):
        written.catch_up(now)
        held = Allowance.objects.filter(
            tenant=tenant, code="messages", starts_at__lte=now, ends_at__gt=now
        )
        assert held.count() == 1, now
        ends = at(11) if now < at(11) else datetime(2026, 12, 1, tzinfo=UTC)
        assert held.get().ends_at == ends


def test_the_last_hour_of_a_plan_keeps_its_amounts(ada: Tenant) -> None:
    services.cancel(ada, now=at(10, 0, 30))
    assert _hard(ada)["messages"] > 0
    written.catch_up(at(11))
    assert _hard(ada) == {}


def _hard(tenant: Tenant) -> dict[str, int]:
    return dict(_of_november(tenant).filter(is_hard=True).values_list("code", "units"))


def _soft(tenant: Tenant) -> dict[str, int]:
    return dict(_of_november(tenant).filter(is_hard=False).values_list("code", "units"))


def _of_november(tenant: Tenant) -> QuerySet[Allowance]:
    return Allowance.objects.filter(tenant=tenant, starts_at__lt=datetime(2026, 12, 1, tzinfo=UTC))
