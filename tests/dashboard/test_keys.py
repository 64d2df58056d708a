"""The pages of keys: what they show, what they refuse, and that nothing is made twice."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from gateway.dashboard.once import new_ticket
from tenants import dashboard_tokens, services
from tenants.admission import keys
from tenants.admission.principal import Scope
from tenants.models import APIKey, ExchangeRails
from tenants.people.roles import Role
from tests.tenants.cast import Cast
from tests.tenants.people import make_member, owner_of, signed_in

pytestmark = pytest.mark.django_db
FORM = {"name": "Bot", "environment": "live", "scopes": ["ws", "info"]}


@pytest.fixture(autouse=True)
def _redis(redis_url: str) -> None:
    """Tickets are remembered there; the settings name its socket."""
    cache.clear()


@pytest.fixture
def ada(cast: Cast) -> Client:
    return signed_in(owner_of(cast.acme).user)


def _new(browser: Client, **changes: Any) -> Any:
    return browser.post("/app/acme/keys/new", FORM | {"once": new_ticket()} | changes)


def _raw(answer: Any) -> str:
    found = set(re.findall(keys.SCANNER_PATTERN, answer.content.decode()))
    assert len(found) == 1
    return str(found.pop())


def test_a_key_is_shown_once_and_works(ada: Client, cast: Cast) -> None:
    raw = _raw(_new(ada, allowed_networks="192.0.2.0/24\n2001:db8::/32", daily_quota="1000"))
    made = APIKey.objects.get(digest=keys.digest(raw))
    assert made.tenant == cast.acme
    assert made.allowed_networks == ["192.0.2.0/24", "2001:db8::/32"]
    assert made.daily_quota == 1000
    for path in ("/app/acme/keys/", f"/app/acme/keys/{made.pk}/", "/app/acme/start/"):
        page = ada.get(path).content.decode()
        assert raw not in page
        assert not re.search(keys.SCANNER_PATTERN, page)


def test_a_form_that_is_sent_twice_makes_one_key(ada: Client) -> None:
    ticket = new_ticket()
    _raw(_new(ada, once=ticket))
    again = _new(ada, once=ticket)
    assert again.status_code == 302
    assert APIKey.objects.filter(name="Bot").count() == 1
    assert _new(ada, once="").status_code == 302  # and without a ticket none
    assert APIKey.objects.filter(name="Bot").count() == 1


def test_the_first_key_is_made_once_too(ada: Client) -> None:
    ticket = new_ticket()
    _raw(ada.post("/app/acme/start/", {"once": ticket}))
    assert ada.post("/app/acme/start/", {"once": ticket}).status_code == 302
    assert APIKey.objects.count() == 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": ""}, "required"),
        ({"scopes": []}, "at least one scope"),
        ({"scopes": ["all"]}, "valid choice"),
        ({"allowed_networks": "home"}, "no address"),
        ({"allowed_origins": "desk.example"}, "no origin"),
        ({"rate_per_minute": "10"}, "burst"),
        ({"daily_quota": "10", "monthly_quota": "5"}, "below"),
        ({"expires_at": "2001-01-01T00:00"}, "expire"),
        ({"environment": "web"}, "valid choice"),
    ],
)
def test_what_no_key_can_have_is_said_beside_it(
    ada: Client, wrong: dict[str, Any], why: str
) -> None:
    answer = _new(ada, **wrong)
    assert answer.status_code == 422
    assert why in answer.content.decode().lower()
    assert not APIKey.objects.exists()


def test_an_older_copy_does_not_undo_what_was_changed(ada: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="Bot").key
    opened_as = APIKey.objects.get(pk=key.pk).opened_as
    first = FORM | {"allowed_networks": "192.0.2.7", "opened_as": opened_as}
    assert ada.post(f"/app/acme/keys/{key.pk}/edit", first).status_code == 302
    second = ada.post(f"/app/acme/keys/{key.pk}/edit", FORM | {"opened_as": opened_as})
    assert second.status_code == 422
    assert str(services.CHANGED) in second.content.decode()
    assert APIKey.objects.get(pk=key.pk).allowed_networks == ["192.0.2.7/32"]


def test_a_key_of_somebody_else_is_not_there(ada: Client, cast: Cast) -> None:
    theirs = services.issue_key(tenant=cast.other, name="Theirs").key
    assert ada.get(f"/app/acme/keys/{theirs.pk}/").status_code == 404
    for act in ("edit", "rotate", "revoke", "rails", "kill"):
        assert ada.post(f"/app/acme/keys/{theirs.pk}/{act}", FORM).status_code == 404
    assert not ExchangeRails.objects.exists()
    assert APIKey.objects.get(pk=theirs.pk).revoked_at is None


def test_what_dashboards_are_counted_under_is_no_key(ada: Client, cast: Cast) -> None:
    ada.post("/app/acme/token")
    (counting,) = APIKey.objects.filter(is_dashboard=True)
    for path in ("/app/acme/keys/", "/app/acme/keys/?show=ended"):
        assert "hlr_web_" not in ada.get(path).content.decode()
    assert ada.get(f"/app/acme/keys/{counting.pk}/").status_code == 404


def test_rails_and_the_switch(ada: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="Bot", scopes=["exchange"]).key
    path = f"/app/acme/keys/{key.pk}"
    assert (
        ada.post(f"{path}/rails", {"coins": "BTC\nETH", "max_order_usd": "100"}).status_code == 302
    )
    for _ in range(2):  # twice is once
        ada.post(f"{path}/kill", {"on": "1"})
    rails = ExchangeRails.objects.get(key=key)
    assert (rails.is_killed, rails.coins) == (True, ["BTC", "ETH"])
    # Saving the other rails does not start it again.
    ada.post(f"{path}/rails", {"coins": "BTC"})
    rails.refresh_from_db()
    assert (rails.is_killed, rails.coins) == (True, ["BTC"])
    ada.post(f"{path}/kill", {"on": "0"})
    rails.refresh_from_db()
    assert not rails.is_killed
    wrong = ada.post(f"{path}/rails", {"signers": "me"})
    assert wrong.status_code == 422
    assert "no address" in wrong.content.decode()


def test_names_are_text(ada: Client, cast: Cast) -> None:
    name = "<script>alert(1)</script>"
    key = services.issue_key(tenant=cast.acme, name=name).key
    for path in ("/app/acme/keys/", f"/app/acme/keys/{key.pk}/"):
        assert name not in ada.get(path).content.decode()


def test_the_token_is_json_and_of_this_page(ada: Client) -> None:
    told = ada.post("/app/acme/token").json()
    assert told["ws"] == "ws://testserver/ws"
    assert 0 < told["expires_in"] <= dashboard_tokens.LIFE.total_seconds()
    assert keys.is_well_formed(told["token"])
    assert ada.get("/app/acme/token").status_code == 405


@pytest.mark.parametrize("scope", ["account", "account_read"])
def test_a_developer_makes_no_key_that_does_what_a_developer_may_not(
    ada: Client, cast: Cast, scope: str
) -> None:
    dev = signed_in(make_member(cast.acme, "dev", Role.DEVELOPER).user)
    refused = _new(dev, scopes=["ws", scope])
    assert refused.status_code == 422
    assert "your role" in refused.content.decode()
    manager = services.issue_key(tenant=cast.acme, name="Manager", scopes=[scope]).key
    rotated = dev.post(
        f"/app/acme/keys/{manager.pk}/rotate", {"overlap": 3600, "once": new_ticket()}
    )
    assert rotated.status_code == 302
    assert [key for key in APIKey.objects.all() if scope in key.scopes] == [manager]
    _raw(_new(dev, scopes=["ws", "exchange"]))
    _raw(_new(ada, scopes=["ws", scope]))


def test_every_scope_can_be_given_and_none_is_lost_by_an_edit(ada: Client) -> None:
    every = [str(scope) for scope in Scope]
    made = APIKey.objects.get(digest=keys.digest(_raw(_new(ada, scopes=every))))
    shown = ada.get(f"/app/acme/keys/{made.pk}/").content.decode()
    chosen = re.findall(r'name="scopes" value="(\w+)"[^>]*checked', shown)
    assert set(chosen) == set(every)


def test_the_page_tells_no_keys_from_keys_that_have_ended(ada: Client, cast: Cast) -> None:
    APIKey.objects.filter(tenant=cast.acme).delete()
    assert "No keys yet" in ada.get("/app/acme/keys/").content.decode()
    services.revoke_key(services.issue_key(tenant=cast.acme, name="Bot").key)
    page = ada.get("/app/acme/keys/").content.decode()
    assert "No keys yet" not in page
    assert "No key works now" in page
    assert "Bot" in ada.get("/app/acme/keys/?show=ended").content.decode()
