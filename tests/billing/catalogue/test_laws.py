"""Whatever is changed, in whatever order: segments cover the time on a plan and no other, what was
billed stays as it was, and what is written down is what the terms say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.catalogue import services, terms, written
from billing.catalogue.allowed import hours_of, paying
from billing.models import AddOn, AddOnSubscription, OwnTerms
from billing.rating.invoice import Rated, Usage
from billing.rating.periods import HOUR, Period, full_hour, in_utc, usage_hours
from billing.rating.prices import Override
from billing.rating.rate import included_units, rate
from billing.rating.segments import entitled
from tenants.models import Allowance, Plan, QuotaOverride, Tenant
from tests.billing.catalogue.books import (
    MESSAGES,
    START,
    make_add_on,
    make_prices,
    make_tenant,
    publish,
    publish_book,
)

PLANS = ("small", "large", "year")
ACTS = (
    *("change", "change", "plan a change", "cancel", "plan an end", "keep", "publish", "move"),
    *("add on", "end add on", "own terms", "end own terms", "overage on", "overage off", "nothing"),
)


@dataclass
class World:
    """The tenant, and in plain lists what it should come to."""

    plans: dict[str, Plan]
    tenant: Tenant
    held: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    planned: tuple[datetime, str | None] | None = None
    versions: dict[str, int] = field(default_factory=dict)

    def is_held(self) -> bool:
        return bool(self.held) and self.held[-1][1] is None

    def pass_time(self, now: datetime) -> None:
        if self.planned is not None and self.planned[0] <= now:
            at, code = self.planned
            self.planned = None
            self.end(at) if code is None else self.begin(at)

    def begin(self, at: datetime) -> None:
        if not self.is_held():
            self.held.append((at, None))

    def end(self, at: datetime) -> None:
        if self.is_held():
            self.held[-1] = (self.held[-1][0], at)

    def expected(self, period: Period) -> int:
        """Seconds of `period` on a plan."""
        spans = list(self.held)
        if self.planned is not None:
            at, code = self.planned
            if self.is_held():
                spans[-1] = (spans[-1][0], at)
            spans += [(at, None)] if code is not None else []
        total = 0
        for start, end in spans:
            first, last = max(start, period.start), min(end or period.end, period.end)
            total += max(0, (last - first) // timedelta(seconds=1))
        return total


def act(world: World, name: str, code: str, now: datetime, hours: int) -> None:
    later = now + timedelta(hours=hours)
    plan, tenant = world.plans[code], world.tenant
    match name:
        case "change" if world.is_held():
            services.change_plan(tenant, plan=plan, now=now)
            world.planned = None
        case "change":
            services.subscribe(tenant, plan=plan, now=now)
            world.planned = None
            world.begin(now)
        case "plan a change":
            services.change_plan(tenant, plan=plan, at=later, now=now)
            world.planned = (later, code)
        case "cancel" if world.is_held():
            services.cancel(tenant, now=now)
            world.planned = None
            world.end(now)
        case "plan an end" if world.is_held():
            services.cancel(tenant, at=later, now=now)
            world.planned = (later, None)
        case "keep":
            services.keep_plan(tenant, now=now)
            world.planned = None
        case "publish":
            version = world.versions.get(code, 1) + 1
            from_ = now.replace(minute=0, second=0) + timedelta(hours=1)
            fields = {"interval": terms.prices().plans[plan.pk, version - 1].interval}
            publish(make_prices(code, hours, version, effective_from=from_, **fields), now=now)
            world.versions[code] = version
        case "move":
            version = world.versions.get(code, 1)
            if terms.prices().plans[plan.pk, version].effective_from <= now:
                services.move_subscribers(plan, to_version=version, now=now)
        case "add on":
            services.add_add_on(tenant, add_on=AddOn.objects.get(), quantity=2, now=now)
        case "end add on":
            row = AddOnSubscription.objects.filter(ended_at=None).first()
            if row is not None:
                services.end_add_on(row, now=now)
        case "own terms":
            start = now.replace(minute=0, second=0) + timedelta(hours=1)
            if not OwnTerms.objects.filter(plan=plan).exclude(ends_at__lte=start).exists():
                meters = (replace(MESSAGES, included=hours * 1_000),)
                own = Override(plan=code, starts_at=start, fee=Decimal(hours), meters=meters)
                services.set_own_terms(tenant, own, now=now)
        case "end own terms":
            own_row = OwnTerms.objects.filter(ends_at=None).first()
            if own_row is not None:
                services.end_own_terms(own_row, now=now)
        case "overage on":
            services.choose_overage(tenant, is_on=True, now=now)
        case "overage off":
            services.choose_overage(tenant, is_on=False, now=now)


def bill(tenant: Tenant, period: Period) -> Rated:
    first, end = usage_hours(period)
    every = timedelta(hours=41)
    hours = [first + n * every for n in range((end - first) // every)]
    usage = [Usage(hour, "messages", "bbo", "", 3_000) for hour in hours]
    return rate(period, terms.segments_of(tenant, period), usage)


def check(world: World, billed: dict[Period, Rated], now: datetime) -> None:
    tenant = world.tenant
    for period, rated in billed.items():
        assert bill(tenant, period) == rated
    for period in terms.periods_between(tenant, START, now + timedelta(days=40)):
        segments = terms.segments_of(tenant, period)
        assert sum(segment.seconds for segment in segments) == world.expected(period)
        if period.end <= now:
            billed.setdefault(period, bill(tenant, period))
        for segment in segments:
            assert terms.entitlements_of(tenant, segment.start) == entitled(segment)
    written.catch_up(now)
    check_written(tenant, now)


def check_written(tenant: Tenant, now: datetime) -> None:
    allowed = terms.entitlements_of(tenant, now)
    own = QuotaOverride.objects.filter(tenant=tenant).first()
    if own is not None:
        assert own.max_connections == (allowed.connections if allowed else 0)
    running = Allowance.objects.filter(tenant=tenant, starts_at__lte=now, ends_at__gt=now)
    if allowed is None:
        # What is left of the hour that the last terms pay for.
        assert not running.filter(ends_at__gt=full_hour(now) + HOUR).exists()
        return
    period = terms.period_of(tenant, now)
    segments = terms.segments_of(tenant, period)
    segment = next(s for s in segments if s.start <= now < s.end)
    pays = paying(period, segments, now)
    assert pays is not None
    hours = hours_of(period, segments, pays)
    if hours is None:
        return
    rows = {
        row.code: row
        for row in Allowance.objects.filter(tenant=tenant, starts_at=hours[0], ends_at=hours[1])
    }
    assert rows.keys() >= {meter.code for meter in pays.plan.meters}
    for meter in pays.plan.meters:
        included = included_units(
            period, segments, meter.code, meter.metric, is_trial=pays.is_trial
        )
        # Within the hour of a change never more than is paid for; else exactly that.
        assert rows[meter.code].units <= included
        assert rows[meter.code].units == included or pays is not segment
        assert rows[meter.code].is_hard == (not meter.overage or pays.is_trial)


@pytest.mark.django_db
# A failure is short enough as it comes, and shrinking it takes minutes.
@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ACTS),
            st.sampled_from(PLANS),
            st.integers(0, 40 * 24 * 3_600),
            st.integers(1, 1_500),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["calendar", "anniversary"]),
)
def test_any_changes(steps: list[tuple[str, str, int, int]], periods: str) -> None:
    with transaction.atomic(), override_settings(RELAY_BILLING_PERIODS=periods):
        world = World(publish_book(), make_tenant())
        services.publish_add_on_version(make_add_on(), now=START)
        now = in_utc(START + timedelta(hours=5))
        act(world, "change", "small", now, 1)
        billed: dict[Period, Rated] = {}
        for name, code, seconds, hours in steps:
            now += timedelta(seconds=seconds)
            world.pass_time(now)
            act(world, name, code, now, hours)
            check(world, billed, now)
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_twice_caught_up_is_once() -> None:
    world = World(publish_book(), make_tenant())
    services.subscribe(world.tenant, plan=world.plans["convert"], now=START)
    end = START + timedelta(days=100)
    now = START
    while now < end:
        now += timedelta(hours=7)
        written.catch_up(now)
        before = list(Allowance.objects.values()), list(QuotaOverride.objects.values())
        assert written.catch_up(now) == 0
        assert (list(Allowance.objects.values()), list(QuotaOverride.objects.values())) == before
    # Of January to April, and of the next.
    assert Allowance.objects.filter(code="messages").count() == 5
