"""Every route against a visitor who is not signed in, Cleo of another company, and a viewer.

The routes come from the URLconf: one without a row here fails, and so does a row without a route.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from gateway.account import webhooks
from gateway.dashboard import urls
from gateway.dashboard.access import who_may
from gateway.requests.models import RequestRecord
from tenants.models import Invitation, Membership, Plan
from tenants.people import services
from tenants.people.roles import May, Role
from tenants.services import issue_key
from tests.billing.catalogue.books import make_prices, publish
from tests.dashboard.books import credit_note_of, invoice_of
from tests.tenants.cast import Cast
from tests.tenants.people import OPERATOR, make_member, make_person, owner_of, signed_in

pytestmark = pytest.mark.django_db
Arguments = Callable[[Cast], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """What a viewer gets from a route in a tenant: the page (`viewer=True`) or 403. `arguments`
    are the route's beside the slug, made in Acme; `data` is posted."""

    viewer: bool
    method: str = "get"
    arguments: Arguments = lambda cast: {}
    data: dict[str, Any] = field(default_factory=dict)
    #: What the owner gets, where the data name nobody.
    owner: int = 0


def _key(cast: Cast) -> dict[str, Any]:
    return {"key_id": issue_key(tenant=cast.acme, name="bot").key.pk}


def _failed(cast: Cast) -> str:
    """The id of a request of Acme's that failed."""
    at = timezone.now()
    RequestRecord.objects.create(
        at=at, request_id="r-1", tenant=cast.acme, door="info", method="POST", kind="l2Book",
        status=429, code="rate_limited", total_ms=1.5,
    )  # fmt: skip
    return "r-1"


def _webhook(cast: Cast) -> dict[str, Any]:
    return {"uid": webhooks.add(cast.acme, url="https://example.com/hook").endpoint.uid}


def _delivery(cast: Cast) -> dict[str, Any]:
    return {"uid": webhooks.ping(cast.acme, _webhook(cast)["uid"]).uid}


def _invited(cast: Cast) -> dict[str, Any]:
    found = Invitation.objects.filter(tenant=cast.acme).first()
    if found is None:
        owner_role, email = str(Role.OWNER), "new@example.com"
        found = services.invite(tenant=cast.acme, email=email, role=owner_role, by=OPERATOR)
    return {"pk": found.pk}


def _guest(cast: Cast) -> dict[str, Any]:
    found = Membership.objects.filter(tenant=cast.acme, user__email="guest@example.com").first()
    return {"pk": (found or make_member(cast.acme, "guest", Role.VIEWER)).pk}


def _priced(cast: Cast) -> dict[str, Any]:
    if not Plan.objects.filter(code="priced").exists():
        publish(make_prices("priced", 30))
    return {"code": "priced"}


def _invoiced(cast: Cast) -> dict[str, Any]:
    return {"number": invoice_of(cast.acme).number}


def _invoice_file(cast: Cast) -> dict[str, Any]:
    return _invoiced(cast) | {"format": "csv"}


def _credited(cast: Cast) -> dict[str, Any]:
    return {"number": credit_note_of(invoice_of(cast.acme)).number, "format": "csv"}


MONEY_ROWS: dict[str, Row] = {
    "plan": Row(viewer=True),
    "plan_change": Row(viewer=False, arguments=_priced),
    "plan_confirm": Row(viewer=False, method="post", arguments=_priced),
    "plan_keep": Row(viewer=False, method="post"),
    "plan_cancel": Row(viewer=False, method="post"),
    "plan_add_on": Row(viewer=False, method="post", data={"code": "more"}),
    "billing_profile": Row(viewer=False),
    "payment_method": Row(viewer=False, method="post"),
    "invoices": Row(viewer=False),
    "invoices_export": Row(viewer=False, data={"what": "invoices", "period": "2026"}),
    "payments": Row(viewer=False),
    "credit_notes": Row(viewer=False),
    "credit_note_file": Row(viewer=False, arguments=_credited),
    "invoice_file": Row(viewer=False, arguments=_invoice_file),
    "invoice": Row(viewer=False, arguments=_invoiced),
    "team": Row(viewer=True),
    "team_invitation": Row(viewer=False, method="post", arguments=_invited, data={"withdraw": "1"}),
    "team_member": Row(viewer=False, method="post", arguments=_guest, data={"role": "viewer"}),
    "team_leave": Row(viewer=True, method="post"),
    "team_transfer": Row(viewer=False, method="post", data={"to": "0"}, owner=404),
    "team_second_factor": Row(viewer=False, method="post", data={"on": "1"}),
    "sessions": Row(viewer=True),
    "session_end": Row(viewer=True, method="post", data={"others": "1"}),
    "audit": Row(viewer=False),
    "settings": Row(viewer=False),
    "terms_accept": Row(viewer=False, method="post"),
    "take_out": Row(viewer=False),
    "close": Row(viewer=False),
}
ROWS: dict[str, Row] = {
    "overview": Row(viewer=True),
    "overview_now": Row(viewer=True),
    "overview_month": Row(viewer=True),
    "overview_freshness": Row(viewer=True),
    "start": Row(viewer=False),
    "keys": Row(viewer=False),
    "key_new": Row(viewer=False),
    "key": Row(viewer=False, arguments=_key),
    "key_edit": Row(viewer=False, method="post", arguments=_key),
    "key_rotate": Row(viewer=False, method="post", arguments=_key),
    "key_revoke": Row(viewer=False, method="post", arguments=_key),
    "key_rails": Row(viewer=False, method="post", arguments=_key),
    "key_kill": Row(viewer=False, method="post", arguments=_key),
    "token": Row(viewer=True, method="post"),
    "market": Row(viewer=True),
    "connections": Row(viewer=False),
    "connections_part": Row(viewer=False),
    # What is gone is 410, and said so.
    "connection": Row(viewer=False, arguments=lambda cast: {"connection_id": "gone-1"}),
    "disconnect": Row(
        viewer=False, method="post", arguments=lambda cast: {"connection_id": "gone-1"}
    ),
    "requests": Row(viewer=False),
    "request": Row(viewer=False, arguments=lambda cast: {"request_id": _failed(cast)}),
    "traces": Row(viewer=False),
    "trace": Row(viewer=False, arguments=lambda cast: {"trace_id": "0"}),
    "usage": Row(viewer=True),
    "usage-csv": Row(viewer=True),
    "usage-cost": Row(viewer=True),
    "usage-live": Row(viewer=True),
    "receipts": Row(viewer=True),
    "receipts-script": Row(viewer=True),
    "receipts-file": Row(viewer=True, arguments=lambda cast: {"month": "2026-11"}),
    "receipts-check": Row(viewer=True, arguments=lambda cast: {"month": "2026-11"}),
    "estimator": Row(viewer=True),
    "estimator-part": Row(viewer=True),
    "alerts": Row(viewer=True),
    "alerts-save": Row(viewer=False, method="post"),
    "alerts-told": Row(viewer=False, method="post"),
    "webhooks": Row(viewer=False),
    "webhook-add": Row(viewer=False, method="post", data={"url": "https://example.com/hook"}),
    "webhook": Row(viewer=False, arguments=_webhook),
    "webhook-update": Row(
        viewer=False, method="post", arguments=_webhook, data={"url": "https://example.com/other"}
    ),
    "webhook-turn": Row(viewer=False, method="post", arguments=_webhook),
    "webhook-rotate": Row(viewer=False, method="post", arguments=_webhook, data={"hours": "24"}),
    "webhook-ping": Row(viewer=False, method="post", arguments=_webhook),
    "webhook-log": Row(viewer=False, arguments=_webhook),
    "webhook-delivery": Row(viewer=False, arguments=_delivery),
    "webhook-replay": Row(viewer=False, method="post", arguments=_delivery),
    **MONEY_ROWS,
}
#: Outside any tenant: for everybody who is signed in.
FREE = {"home", "end_view"}


def _routes(patterns: list[Any]) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            found += _routes(pattern.url_patterns)
        elif isinstance(pattern, URLPattern):
            assert pattern.name, f"a route without a name: {pattern.pattern}"
            found.append(pattern.name)
    return found


def _ask(client: Client, name: str, cast: Cast, slug: str = "acme") -> Any:
    row = ROWS[name]
    url = reverse(f"dashboard:{name}", kwargs={"slug": slug, **row.arguments(cast)})
    return getattr(client, row.method)(url, row.data)


@pytest.fixture(autouse=True)
def _shared(redis_url: str, settings: Any) -> None:
    settings.REDIS_CACHE_URL = redis_url


def test_every_route_has_a_row() -> None:
    assert set(_routes(urls.urlpatterns)) == set(ROWS) | FREE


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_visitor_is_led_to_sign_in(cast: Cast, name: str) -> None:
    answer = _ask(Client(), name, cast)
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("account_login"))
    part = _ask(Client(headers={"HX-Request": "true"}), name, cast)
    assert part.status_code == 401
    assert part["HX-Redirect"].startswith(reverse("account_login"))


@pytest.mark.parametrize("name", sorted(ROWS))
def test_cleo_finds_nothing(cast: Cast, name: str) -> None:
    """The same as for a tenant that does not exist."""
    owner_of(cast.acme)
    cleo = signed_in(owner_of(cast.other, "cleo").user)
    assert _ask(cleo, name, cast).status_code == 404
    assert _ask(cleo, name, cast, "no-such").status_code == 404


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_viewer_gets_what_the_row_says(cast: Cast, name: str) -> None:
    owner_of(cast.acme)
    answer = _ask(signed_in(make_member(cast.acme, "vera", Role.VIEWER).user), name, cast)
    if ROWS[name].viewer:
        assert answer.status_code not in (403, 404, 405), answer.status_code
        assert answer.status_code < 500
    else:
        assert answer.status_code == 403
        assert b"Your role does not allow this" in answer.content
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_an_owner_gets_every_page(cast: Cast, name: str) -> None:
    answer = _ask(signed_in(owner_of(cast.acme).user), name, cast)
    if ROWS[name].owner:
        assert answer.status_code == ROWS[name].owner
        return
    assert answer.status_code not in (403, 404, 405), answer.status_code
    assert answer.status_code < 500


def test_who_has_left_finds_nothing(cast: Cast) -> None:
    owner_of(cast.acme)
    vera = make_member(cast.acme, "vera", Role.VIEWER)
    client = signed_in(vera.user)
    assert _ask(client, "overview", cast).status_code == 200
    services.remove_member(vera, by=OPERATOR)
    assert _ask(client, "overview", cast).status_code == 404


def test_who_may_see_a_page_and_not_send_its_form_is_told_so(cast: Cast) -> None:
    owner_of(cast.acme)
    vera = signed_in(make_member(cast.acme, "vera", Role.VIEWER).user)
    team = reverse("dashboard:team", kwargs={"slug": "acme"})
    answer = vera.post(team, {"email": "new@example.com", "role": "viewer"})
    assert answer.status_code == 403
    assert b"Your role does not allow this" in answer.content
    assert not Invitation.objects.exists()


def test_an_unverified_address_comes_first(cast: Cast) -> None:
    user = make_person("new", verified=False)
    services.make_first_owner(tenant=cast.acme, user=user)
    answer = _ask(signed_in(user), "overview", cast)
    assert answer["Location"] == reverse("account_email")


def test_home_leads_to_the_tenant_looked_at_last(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    client = signed_in(ada.user)
    assert client.get("/app/")["Location"] == "/app/acme/start/"  # nobody has made a key
    issue_key(tenant=cast.acme, name="bot")
    assert client.get("/app/")["Location"] == "/app/acme/"
    services.make_first_owner(tenant=cast.other, user=ada.user)
    _ask(client, "overview", cast, cast.other.slug)
    assert client.get("/app/")["Location"] == f"/app/{cast.other.slug}/start/"
    nobody = signed_in(make_person("nobody"))
    assert b"You belong to no account" in nobody.get("/app/").content


def test_a_suspended_tenant_says_so(cast: Cast) -> None:
    from tenants.services import suspend_tenant

    ada = owner_of(cast.acme)
    suspend_tenant(cast.acme, reason="The invoice is not paid.")
    assert b"The invoice is not paid." in _ask(signed_in(ada.user), "overview", cast).content


def test_an_old_form_is_refused_kindly(cast: Cast) -> None:
    client = signed_in(owner_of(cast.acme).user, enforce_csrf_checks=True)
    answer = client.post(reverse("set_language"), {"language": "en"})
    assert answer.status_code == 403
    assert b"The form has expired" in answer.content


def test_an_old_form_leads_back_to_its_page_and_nowhere_else(cast: Cast) -> None:
    """Where it was sent to, there is nothing to open."""
    client = signed_in(owner_of(cast.acme).user, enforce_csrf_checks=True)
    leave = reverse("dashboard:team_leave", kwargs={"slug": "acme"})
    team = "http://testserver/app/acme/team"
    for came_from, back in ((team, team), ("https://evil.example/x", "/app/"), ("", "/app/")):
        answer = client.post(leave, headers={"Referer": came_from})
        assert f'href="{back}"' in answer.content.decode(), came_from
        assert f'href="{leave}"' not in answer.content.decode()


def test_the_refusal_names_the_roles_that_may() -> None:
    assert who_may(May.MANAGE_KEYS) == ["owner", "admin", "developer"]
    assert who_may(May.DELETE_TENANT) == ["owner"]
