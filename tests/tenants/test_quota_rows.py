"""What an operator and billing write down of limits is what the door knows of a key."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tenants import selectors, services
from tenants.admission.limiter import Rate
from tenants.admission.principal import NO_LIMITS, Limits, Principal
from tenants.models import (
    Allowance,
    Notice,
    PlanSubscription,
    QuotaOverride,
    QuotaWarning,
    Tenant,
)
from tenants.quota_warnings import warn
from tests.tenants.cast import Cast


def principal_of(tenant: Tenant) -> Principal:
    key = tenant.api_keys.first() or services.issue_key(tenant=tenant, name="bot").key
    return selectors.principals_by_digest([key.digest])[key.digest]


def test_a_tenant_s_own_limits_stand_in_place_of_its_plan_s(cast: Cast) -> None:
    quota = cast.acme.plan_subscriptions.get().plan.quota
    quota.channels, quota.max_coins = ["bbo"], 3
    quota.save()
    assert principal_of(cast.acme).limits == Limits(2, 10, max_coins=3, channels=frozenset({"bbo"}))
    own = QuotaOverride.objects.create(
        tenant=cast.acme,
        max_connections=0,
        requests_per_s=5,
        burst=50,
        products=["ws"],
        regions=[],
        retention_hours=24,
        max_users=0,
    )
    assert principal_of(cast.acme).limits == Limits(
        0,
        1_000,
        max_users=0,
        rate=Rate(300, 50),
        retention_hours=24,
        products=frozenset({"ws"}),
        regions=frozenset(),
    )
    assert principal_of(cast.other).limits == Limits(100, 1_000)
    own.delete()
    assert principal_of(cast.acme).limits.max_connections == 2


def test_a_tenant_without_a_plan_may_have_limits_of_its_own(cast: Cast) -> None:
    PlanSubscription.objects.filter(tenant=cast.acme).delete()
    assert principal_of(cast.acme).limits == NO_LIMITS
    QuotaOverride.objects.create(tenant=cast.acme, max_connections=1)
    known = principal_of(cast.acme)
    assert (known.limits.max_connections, known.plan_code) == (1, "")


def test_a_key_knows_the_allowances_of_now_and_later(cast: Cast) -> None:
    now = timezone.now()
    for hours, units in ((-48, 1), (-1, 2), (23, 3)):
        Allowance.objects.create(
            tenant=cast.acme,
            code="messages",
            metric="messages",
            starts_at=now + timedelta(hours=hours),
            ends_at=now + timedelta(hours=hours + 24),
            units=units,
            weights={"l4Book": "2.5"},
        )
    known = principal_of(cast.acme)
    assert [(row.units, row.weights) for row in known.allowances] == [
        (2, (("l4Book", "2.5"),)),
        (3, (("l4Book", "2.5"),)),
    ]
    assert principal_of(cast.other).allowances == ()


def test_the_questions_do_not_grow_with_the_keys(
    cast: Cast, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    digests = [
        services.issue_key(tenant=tenant, name=str(number)).key.digest
        for tenant in (cast.acme, cast.other)
        for number in range(5)
    ]
    with django_assert_num_queries(5):  # type: ignore[operator]
        assert len(selectors.principals_by_digest(digests)) == 10


def told(tenant: Tenant, threshold: int, period: str = "messages:1", limit: int = 1_000) -> bool:
    return warn(
        tenant.pk,
        "messages",
        threshold,
        used=80,
        limit=limit,
        resets_at=timezone.now(),
        period=period,
    )


def test_a_threshold_is_told_once_a_period(cast: Cast) -> None:
    assert told(cast.acme, 75)
    assert not told(cast.acme, 75)
    assert told(cast.acme, 80)
    assert told(cast.other, 75)
    assert told(cast.acme, 75, period="messages:2")
    assert QuotaWarning.objects.for_tenant(cast.acme).count() == 3


def test_a_larger_limit_is_warned_of_again_and_one_that_moves_is_not(cast: Cast) -> None:
    assert told(cast.acme, 80)
    assert told(cast.acme, 100)
    assert told(cast.acme, 80, limit=10_000)
    assert told(cast.acme, 100, limit=10_000)
    assert not told(cast.acme, 80, limit=10_000)
    for moved in (9_000, 10_400, 11_000):
        assert not told(cast.acme, 100, limit=moved)
    dedupes = Notice.objects.filter(tenant=cast.acme).values_list("dedupe", flat=True)
    assert len(set(dedupes)) == 4


def test_processes_that_say_it_at_once_say_it_once(committed_cast: Cast) -> None:
    news: list[bool] = []

    def say() -> None:
        try:
            news.append(told(committed_cast.acme, 100))
        finally:
            connection.close()

    if connection.vendor == "sqlite":
        for _ in range(3):
            say()
    else:
        threads = [threading.Thread(target=say) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(news) == 1
    assert QuotaWarning.objects.count() == 1
