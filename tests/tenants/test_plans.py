"""A tenant is on one plan at a time; operators manage tenants, plans and limits in the admin."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from tenants import selectors, services
from tenants.admission.principal import NO_LIMITS, Limits
from tenants.models import PlanSubscription, Tenant
from tests.tenants.cast import Cast


def test_changing_the_plan_ends_the_old_one_at_that_moment(cast: Cast) -> None:
    at = timezone.now()
    services.change_plan(cast.acme, plan=cast.large, now=at)

    new, old = PlanSubscription.objects.for_tenant(cast.acme)
    assert (old.plan, old.ended_at, old.is_current) == (cast.small, at, None)
    assert (new.plan, new.started_at, new.is_current) == (cast.large, at, True)


def test_changing_to_the_same_plan_changes_nothing(cast: Cast) -> None:
    services.change_plan(cast.acme, plan=cast.small)
    assert PlanSubscription.objects.for_tenant(cast.acme).count() == 1


def test_the_database_refuses_a_second_current_plan(cast: Cast) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        PlanSubscription.objects.create(tenant=cast.acme, plan=cast.large)


@pytest.mark.parametrize(
    "row",
    [
        {"is_current": False},
        {"is_current": None},
        {"is_current": True, "ended_at": timezone.now()},
    ],
)
def test_the_database_refuses_a_plan_that_is_half_ended(cast: Cast, row: dict[str, object]) -> None:
    tenant = Tenant.objects.create(name="New", slug="new")
    with pytest.raises(IntegrityError), transaction.atomic():
        PlanSubscription.objects.create(tenant=tenant, plan=cast.small, **row)


def test_limits_follow_the_plan(cast: Cast) -> None:
    issued = services.issue_key(tenant=cast.acme, name="bot")
    digest = issued.key.digest
    assert selectors.principals_by_digest([digest])[digest].limits == Limits(2, 10)
    services.change_plan(cast.acme, plan=cast.large)
    assert selectors.principals_by_digest([digest])[digest].limits == Limits(100, 1_000)


def test_without_a_plan_nothing_can_be_opened(cast: Cast) -> None:
    issued = services.issue_key(tenant=cast.acme, name="bot")
    current = selectors.current_plan_subscription(cast.acme)
    assert current is not None
    current.is_current, current.ended_at = None, timezone.now()
    current.save()
    principal = selectors.principals_by_digest([issued.key.digest])[issued.key.digest]
    assert principal.limits == NO_LIMITS


def test_a_slug_is_taken_once(cast: Cast) -> None:
    with pytest.raises(ValidationError, match="already exists"):
        services.create_tenant(name="Acme", plan=cast.small)


def test_a_key_s_last_use_is_written_once_a_minute(cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    at = timezone.now()
    assert services.note_use([key.pk, 999_999], at=at) == 1
    assert services.note_use([key.pk], at=at + services.USE_RESOLUTION) == 0
    later = at + services.USE_RESOLUTION * 1.01
    assert services.note_use([key.pk], at=later) == 1


INLINES = {
    f"{prefix}-{field}": 0
    for prefix in (
        "api_keys",
        "plan_subscriptions",
        "memberships",
        "invitations",
        "billing_profile",
        "terms_acceptances",
    )
    for field in ("TOTAL_FORMS", "INITIAL_FORMS")
}


def test_the_admin_makes_a_tenant_on_a_plan(operator: Client, cast: Cast) -> None:
    form = {"name": "Delta", "slug": "delta", "kind": "external", "plan": cast.large.pk, **INLINES}
    answer = operator.post("/admin/tenants/tenant/add/", form)
    assert answer.status_code == 302
    tenant = Tenant.objects.get(slug="delta")
    current = selectors.current_plan_subscription(tenant)
    assert current is not None
    assert current.plan == cast.large


def test_a_tenant_s_page_leaves_its_plan_alone(operator: Client, cast: Cast) -> None:
    services.issue_key(tenant=cast.acme, name="bot")
    page = f"/admin/tenants/tenant/{cast.acme.pk}/change/"
    assert operator.get(page).status_code == 200
    form = {"name": "Acme", "slug": "acme", "kind": "external", "plan": cast.large.pk, **INLINES}
    assert operator.post(page, form).status_code == 302
    current = selectors.current_plan_subscription(cast.acme)
    assert current is not None
    assert current.plan == cast.small


def test_the_admin_changes_a_plans_limits(operator: Client, cast: Cast) -> None:
    page = f"/admin/tenants/plan/{cast.small.pk}/change/"
    assert operator.get(page).status_code == 200
    form = {
        "code": "small",
        "name": "Small",
        "is_active": "on",
        "quota-TOTAL_FORMS": 1,
        "quota-INITIAL_FORMS": 1,
        "quota-0-id": cast.small.quota.pk,
        "quota-0-plan": cast.small.pk,
        "quota-0-max_connections": 5,
        "quota-0-max_subscriptions": 50,
        "quota-0-max_lag_s": 9,
    }
    assert operator.post(page, form).status_code == 302
    cast.small.quota.refresh_from_db()
    assert cast.small.quota.max_connections == 5
    assert cast.small.quota.max_lag_s == 9


def test_the_admin_suspends_and_resumes(operator: Client, cast: Cast) -> None:
    for action, is_suspended in (("suspend", True), ("resume", False)):
        form = {"action": action, "_selected_action": [cast.acme.pk]}
        assert operator.post("/admin/tenants/tenant/", form).status_code == 302
        cast.acme.refresh_from_db()
        assert cast.acme.is_suspended == is_suspended
    assert operator.get("/admin/tenants/tenant/").status_code == 200
