"""An operator looks at a customer's pages: read only, said so, written down, for half an hour."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway.backoffice import groups
from tenants.models import APIKey, CustomerView, Tenant
from tests.dashboard.test_access import ROWS, _ask
from tests.tenants.cast import Cast
from tests.tenants.people import owner_of, signed_in

pytestmark = pytest.mark.django_db
WHY = "Ticket 4711: the usage page looks wrong"


@pytest.fixture(autouse=True)
def _settings(redis_url: str, settings: Any) -> None:
    settings.REDIS_CACHE_URL = redis_url
    settings.RELAY_STAFF_MFA = False


def operator(group: str) -> Client:
    groups.update_groups()
    user = User.objects.create_user(f"op-{group}", f"op-{group}@relay.example", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    return signed_in(user)


def look(client: Client, tenant: Tenant, reason: str = WHY) -> Any:
    way = reverse("admin:tenants_tenant_view_as_customer", args=[tenant.pk])
    return client.post(way, {"reason": reason})


@pytest.fixture
def support(cast: Cast) -> Client:
    owner_of(cast.acme)
    client = operator("support")
    assert client.get("/app/acme/").status_code in (302, 404)
    assert look(client, cast.acme)["Location"] == "/app/acme/"
    return client


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_page_says_so_and_nothing_is_written(cast: Cast, support: Client, name: str) -> None:
    answer = _ask(support, name, cast)
    if ROWS[name].method == "post":
        assert answer.status_code == 403
        assert b"nothing can be changed here" in answer.content
    elif not answer.streaming and b"<!doctype html>" in answer.content:  # a part is within one
        assert b"You look at Acme as its people see it" in answer.content
        assert WHY.encode() in answer.content
    keys = APIKey.objects.for_tenant(cast.acme)
    # None but the row's own, which is not revoked; and no token is counted under one.
    assert not keys.exclude(name="bot", revoked_at=None).exists()


def test_a_form_of_a_page_that_is_also_shown_is_refused(cast: Cast, support: Client) -> None:
    for name in ("team", "settings"):
        url = reverse(f"dashboard:{name}", kwargs={"slug": "acme"})
        assert support.post(url, {"name": "x"}).status_code == 403
    take_out = reverse("dashboard:take_out", kwargs={"slug": "acme"})
    assert support.get(take_out).status_code == 403
    assert support.get(reverse("dashboard:close", kwargs={"slug": "acme"})).status_code == 403


def test_of_one_tenant_and_half_an_hour(cast: Cast, support: Client) -> None:
    assert support.get(f"/app/{cast.other.slug}/").status_code in (302, 404)
    view = CustomerView.objects.get()
    assert view.ends_at - view.began_at == timedelta(minutes=30)
    now = timezone.now()
    CustomerView.objects.update(
        began_at=now - timedelta(minutes=31), ends_at=now - timedelta(minutes=1)
    )
    assert b"You look at" not in support.get("/app/acme/").content
    assert support.get("/app/acme/").status_code in (302, 404)


def test_it_is_ended_and_a_lost_permission_ends_it(cast: Cast, support: Client) -> None:
    User.objects.get(username="op-support").groups.clear()
    assert support.get("/app/acme/").status_code in (302, 404)
    User.objects.get(username="op-support").groups.add(Group.objects.get(name="support"))
    assert support.get("/app/acme/").status_code == 200
    back = support.post(reverse("dashboard:end_view"))
    assert back["Location"] == reverse("admin:tenants_tenant_change", args=[cast.acme.pk])
    assert CustomerView.objects.get().ended_at is not None
    assert support.get("/app/acme/").status_code in (302, 404)


def test_the_customer_reads_who_and_why(cast: Cast, support: Client) -> None:
    view = CustomerView.objects.select_related("operator", "tenant").get()
    assert (view.operator.username, view.tenant, view.reason) == ("op-support", cast.acme, WHY)
    ada = cast.acme.memberships.get().user
    url = reverse("dashboard:audit", kwargs={"slug": "acme"})
    page = signed_in(ada).get(f"{url}?actor=support").content.decode()
    assert WHY in page
    assert "op-support" not in page


def test_who_may_not_look(cast: Cast) -> None:
    owner_of(cast.acme)
    for group in ("finance", "read-only"):
        assert look(operator(group), cast.acme).status_code == 403
    allowed = operator("operator")
    assert look(allowed, cast.acme, "  ").status_code == 200
    assert not CustomerView.objects.exists()
    # Another's view opens nothing.
    look(allowed, cast.acme)
    thief = operator("support")
    session = thief.session
    session["dashboard.customer_view"] = CustomerView.objects.get().pk
    session.save()
    assert thief.get("/app/acme/").status_code in (302, 404)
