"""Who is on what, from when: subscriptions, changes now and planned, trials, add-ons, own terms."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection

from billing.catalogue import services, terms, written
from billing.models import AddOn, BillingAnchor, PlannedChange
from billing.rating.prices import Override
from billing.tasks import apply_terms, limit_spending
from tenants import services as tenants
from tenants.models import Allowance, Plan, PlanSubscription, QuotaOverride, Tenant
from tenants.people.signup import open_account
from tests.billing.catalogue.books import (
    MESSAGES,
    make_add_on,
    make_prices,
    make_tenant,
    publish,
    publish_book,
)


def nov(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)


DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def book(db: None) -> dict[str, Plan]:
    return publish_book()


@pytest.fixture
def ada(book: dict[str, Plan]) -> Tenant:
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"], now=nov(10, 12, 30, 5))
    return tenant


def test_a_month_is_the_calendar_s_and_the_first_is_paid_from_its_beginning(ada: Tenant) -> None:
    period = terms.period_of(ada, nov(20))
    assert (period.start, period.end, period.full_end) == (nov(1), DECEMBER, DECEMBER)
    (segment,) = terms.segments_of(ada, period)
    assert (segment.start, segment.end) == (nov(10, 12, 30, 5), DECEMBER)


def test_a_month_is_counted_from_its_beginning_where_the_setting_says_so(
    book: dict[str, Plan], settings: object
) -> None:
    settings.RELAY_BILLING_PERIODS = "anniversary"  # type: ignore[attr-defined]
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"], now=nov(10, 12))
    settings.RELAY_BILLING_PERIODS = "calendar"  # type: ignore[attr-defined]
    period = terms.period_of(tenant, nov(20))
    assert (period.start, period.end) == (nov(10, 12), datetime(2026, 12, 10, 12, tzinfo=UTC))


def test_another_interval_cuts_the_running_period_and_a_month_later_ends_with_the_calendar_s(
    ada: Tenant, book: dict[str, Plan]
) -> None:
    services.change_plan(ada, plan=book["year"], now=nov(16, 7, 8, 9))
    at = nov(16, 7, 8, 9)
    first, year = terms.period_of(ada, nov(15)), terms.period_of(ada, nov(20))
    assert (first.start, first.end, first.full_end) == (nov(1), at, DECEMBER)
    assert (year.start, year.end) == (at, at.replace(year=2027))

    back = datetime(2027, 2, 10, 6, tzinfo=UTC)
    services.change_plan(ada, plan=book["small"], now=back)
    ends = [period.end for period in terms.periods_between(ada, nov(1), back.replace(month=4))]
    assert ends == [at, back, *(datetime(2027, month, 1, tzinfo=UTC) for month in (3, 4))]
    for period in terms.periods_between(ada, nov(1), back.replace(month=4)):
        assert {s.plan.interval for s in terms.segments_of(ada, period)} == {period.interval}


def test_a_change_that_is_planned_is_in_the_terms_at_once_and_is_carried_out_by_the_beat(
    ada: Tenant, book: dict[str, Plan]
) -> None:
    services.change_plan(ada, plan=book["large"], at=DECEMBER, now=nov(20))
    year_end = terms.period_of(ada, DECEMBER)
    assert [s.plan.code for s in terms.segments_of(ada, year_end)] == ["large"]
    assert QuotaOverride.objects.get(tenant=ada).max_connections == 3

    late = DECEMBER + timedelta(minutes=7)
    before = terms.segments_of(ada, year_end)
    assert written.catch_up(late) == 1
    new, old = PlanSubscription.objects.for_tenant(ada)
    assert (new.plan.code, new.started_at, old.ended_at) == ("large", DECEMBER, DECEMBER)
    assert QuotaOverride.objects.get(tenant=ada).max_connections == 50
    assert terms.segments_of(ada, year_end) == before
    assert written.catch_up(late) == 0


def test_a_planned_end_can_be_taken_back(ada: Tenant) -> None:
    services.cancel(ada, at=DECEMBER, now=nov(20))
    assert terms.entitlements_of(ada, DECEMBER) is None
    services.keep_plan(ada, now=nov(21))
    assert terms.entitlements_of(ada, DECEMBER) is not None
    assert not PlannedChange.objects.exists()


def test_a_trial_that_does_not_convert_ends_and_then_nothing_opens(book: dict[str, Plan]) -> None:
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["trial"], now=nov(1, 6))
    end = nov(15, 6)
    assert terms.entitlements_of(tenant, end) is None
    assert written.catch_up(end) == 1
    assert PlanSubscription.objects.get(tenant=tenant).ended_at == end
    assert QuotaOverride.objects.get(tenant=tenant).max_connections == 0
    assert not Allowance.objects.filter(tenant=tenant, ends_at__gt=end).exists()
    with pytest.raises(ValidationError, match="no plan"):
        services.cancel(tenant, now=nov(16))
    # Once is once.
    again = services.subscribe(tenant, plan=book["trial"], now=nov(17))
    assert again.trial_ends_at is None


def test_a_trial_that_converts_is_paid_from_its_end(book: dict[str, Plan]) -> None:
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["convert"], now=nov(1, 6))
    services.choose_overage(tenant, is_on=True, now=nov(1, 7))
    period = terms.period_of(tenant, nov(2))
    found = [(s.start, s.end, s.is_trial) for s in terms.segments_of(tenant, period)]
    assert found[-2:] == [(nov(1, 7), nov(15, 6), True), (nov(15, 6), DECEMBER, False)]
    now = Allowance.objects.filter(tenant=tenant, code="messages", ends_at__lte=DECEMBER)
    assert now.get().is_hard
    assert written.catch_up(nov(15, 6)) == 1
    assert not now.get().is_hard


def test_who_signs_up_is_on_the_plan_as_it_is_sold_at_once(
    book: dict[str, Plan], settings: object
) -> None:
    """Its limits, its trial and its allowances; not the bare plan until a beat finds it."""
    settings.RELAY_SIGNUP_PLAN = "convert"  # type: ignore[attr-defined]
    user = User.objects.create_user("dora", "dora@example.com")
    tenant = open_account(user=user, company="Dora", from_address=None).tenant
    (row,) = PlanSubscription.objects.for_tenant(tenant)
    assert row.trial_ends_at == row.started_at + timedelta(days=14)
    assert QuotaOverride.objects.get(tenant=tenant).products == ["ws"]
    assert Allowance.objects.filter(tenant=tenant, code="messages", is_hard=True).exists()


def test_a_sign_up_plan_without_prices_has_its_own_limits(db: None, settings: object) -> None:
    settings.RELAY_SIGNUP_PLAN = "demo"  # type: ignore[attr-defined]
    Plan.objects.create(code="demo", name="Demo")
    user = User.objects.create_user("dora", "dora@example.com")
    tenant = open_account(user=user, company="Dora", from_address=None).tenant
    assert PlanSubscription.objects.get(tenant=tenant).plan.code == "demo"
    assert not QuotaOverride.objects.exists()


def test_what_tenants_own_services_did_is_adopted(book: dict[str, Plan]) -> None:
    publish(make_prices("small", 40, 2, effective_from=nov(5)), now=nov(4))
    tenant = tenants.create_tenant(name="Cleo", plan=book["small"])
    PlanSubscription.objects.update(started_at=nov(10))
    assert written.catch_up(nov(10, 1)) == 1
    assert PlanSubscription.objects.get(tenant=tenant).version == 2
    assert QuotaOverride.objects.get(tenant=tenant).max_connections == 3
    assert BillingAnchor.objects.get(tenant=tenant).at == nov(1)
    assert written.catch_up(nov(10, 1)) == 0


def test_a_plan_without_prices_keeps_its_own_limits(db: None) -> None:
    tenant = tenants.create_tenant(name="Cleo", plan=Plan.objects.create(code="demo", name="Demo"))
    assert written.catch_up(nov(10)) == 1
    assert not QuotaOverride.objects.exists()
    tenants.set_limits(tenant, {"max_connections": 9})
    written.write_down(tenant, nov(11))
    assert QuotaOverride.objects.get(tenant=tenant).max_connections == 9
    with pytest.raises(terms.NoTerms):
        terms.period_of(tenant, nov(10))
    assert terms.periods_between(tenant, nov(1), DECEMBER) == ()


def test_what_billing_closed_opens_with_a_plan_without_prices(
    ada: Tenant, book: dict[str, Plan]
) -> None:
    """Also where it had been left without a plan in between."""
    services.cancel(ada, now=nov(12))
    assert QuotaOverride.objects.get(tenant=ada).max_connections == 0
    demo = Plan.objects.create(code="demo", name="Demo")
    tenants.change_plan(ada, plan=demo, now=nov(13))
    written.catch_up(nov(13))
    assert not QuotaOverride.objects.exists()
    tenants.set_limits(ada, {"max_connections": 9})
    written.write_down(ada, nov(14))
    assert QuotaOverride.objects.get(tenant=ada).max_connections == 9


def test_add_ons_add_and_end(ada: Tenant) -> None:
    services.publish_add_on_version(make_add_on(), now=nov(1))
    row = services.add_add_on(ada, add_on=AddOn.objects.get(), quantity=2, now=nov(20))
    assert QuotaOverride.objects.get(tenant=ada).max_connections == 5
    services.end_add_on(row, at=nov(25), now=nov(21))
    assert written.catch_up(nov(25)) == 1
    assert QuotaOverride.objects.get(tenant=ada).max_connections == 3
    with pytest.raises(ValidationError, match="ended"):
        services.end_add_on(row, now=nov(26))
    with pytest.raises(ValidationError, match="1 to 10000"):
        services.add_add_on(ada, add_on=AddOn.objects.get(), quantity=0, now=nov(20))


def test_own_terms_hold_when_they_say_and_never_two_at_once(ada: Tenant) -> None:
    own = Override(
        plan="small",
        starts_at=nov(20),
        ends_at=nov(25),
        meters=(replace(MESSAGES, included=60_000),),
    )
    services.set_own_terms(ada, own, now=nov(15))
    with pytest.raises(ValidationError, match="end them first"):
        services.set_own_terms(ada, replace(own, starts_at=nov(24), ends_at=None), now=nov(15))
    with pytest.raises(ValidationError, match="before the running billing period"):
        services.set_own_terms(
            ada, replace(own, starts_at=nov(1) - timedelta(hours=1), ends_at=nov(2)), now=nov(15)
        )
    with pytest.raises(ValidationError, match="no plan"):
        services.set_own_terms(ada, replace(own, plan="none", ends_at=None), now=nov(15))
    later = services.set_own_terms(ada, replace(own, starts_at=nov(25), ends_at=None), now=nov(15))
    services.end_own_terms(later, now=nov(26, 3, 1))
    # What ended before it began is in nobody's way.
    never = services.set_own_terms(ada, replace(own, starts_at=nov(29), ends_at=None), now=nov(27))
    services.end_own_terms(never, now=nov(28))
    services.set_own_terms(ada, replace(own, starts_at=nov(29), ends_at=nov(30)), now=nov(28))
    found = terms.segments_of(ada, terms.period_of(ada, nov(20)))[:3]
    assert [(s.start, s.included("messages")) for s in found] == [
        (nov(10, 12, 30, 5), 30_000),
        (nov(20), 60_000),
        (nov(26, 4), 30_000),
    ]


def test_overage_is_chosen_by_the_hour(ada: Tenant) -> None:
    services.choose_overage(ada, is_on=True, now=nov(12, 5, 30))
    services.choose_overage(ada, is_on=False, now=nov(14, 5, 30))
    services.set_spend_cap(ada, Decimal(20), now=nov(14, 5, 40))
    found = terms.segments_of(ada, terms.period_of(ada, nov(20)))
    assert [(s.start, s.plan.meters[0].overage) for s in found] == [
        (nov(10, 12, 30, 5), False),
        (nov(12, 5), True),
        (nov(14, 6), False),
    ]
    services.choose_overage(ada, is_on=True, now=nov(14, 5, 50))
    found = terms.segments_of(ada, terms.period_of(ada, nov(20)))
    assert [s.start for s in found] == [nov(10, 12, 30, 5), nov(12, 5)]
    assert terms.timeline_of(ada).choice_at(nov(15)).spend_cap == Decimal(20)
    for cap in ("-1", "0.001", "NaN", "1e12"):
        with pytest.raises(ValidationError, match="spend cap"):
            services.set_spend_cap(ada, Decimal(cap), now=nov(15))


def test_subscribers_keep_their_version_until_moved(ada: Tenant, book: dict[str, Plan]) -> None:
    publish(make_prices("small", 99, 2, effective_from=nov(20)), now=nov(19))
    december = terms.period_of(ada, DECEMBER)
    assert [s.plan.fee for s in terms.segments_of(ada, december)] == [30]
    assert services.move_subscribers(book["small"], to_version=2, at=DECEMBER, now=nov(21)) == (
        1,
        [],
    )
    assert [s.plan.fee for s in terms.segments_of(ada, december)] == [99]
    assert services.move_subscribers(book["small"], to_version=2, at=DECEMBER, now=nov(21)) == (
        0,
        [ada],
    )
    with pytest.raises(ValidationError, match="not published"):
        services.move_subscribers(book["small"], to_version=3, now=nov(21))


def test_publishing_says_all_that_is_wrong(book: dict[str, Plan], ada: Tenant) -> None:
    wrong = make_prices("small", 40, 1, effective_from=nov(3))
    with pytest.raises(ValidationError) as caught:
        services.publish_plan_version(wrong, now=nov(10))
    assert [line.split(":")[0] for line in caught.value.messages] == [
        "version",
        "effective_from",
    ]
    with pytest.raises(ValidationError) as caught:
        services.publish_plan_version('{"format": 1, "code": "A", "fee": 3}')
    assert len(caught.value.messages) > 5


def test_a_plan_somebody_is_on_gets_no_prices_from_the_past(db: None) -> None:
    plan = Plan.objects.create(code="demo", name="Demo")
    tenants.create_tenant(name="Cleo", plan=plan)
    with pytest.raises(ValidationError, match="somebody is on this plan"):
        services.publish_plan_version(make_prices("demo", 5), now=nov(10))


def test_limits_go_with_the_plan_they_are_of(ada: Tenant) -> None:
    unpriced = Plan.objects.create(code="demo", name="Demo")
    tenants.change_plan(ada, plan=unpriced, now=nov(20))
    assert written.catch_up(nov(20)) == 1
    assert not QuotaOverride.objects.exists()
    assert terms.entitlements_of(ada, nov(20)) is None


def test_the_beats_are_tasks_that_run(ada: Tenant) -> None:
    apply_terms()
    limit_spending()
    assert Allowance.objects.filter(tenant=ada, code="messages").exists()


@pytest.mark.django_db(transaction=True)
def test_two_who_change_a_plan_at_once_leave_one() -> None:
    plans = publish_book()
    tenant = make_tenant()
    services.subscribe(tenant, plan=plans["small"], now=nov(10))

    def change(code: str) -> None:
        try:
            services.change_plan(tenant, plan=plans[code], now=nov(11))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, ["large", "year", "large", "convert", "year", "large"]))
    assert PlanSubscription.objects.for_tenant(tenant).current().count() == 1
    period = terms.period_of(tenant, nov(12))
    (segment,) = terms.segments_of(tenant, period)
    assert segment.plan.interval == period.interval
