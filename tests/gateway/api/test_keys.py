"""Keys over the API: shown once, made once, and never more than the key that asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.core.cache.backends.redis import RedisCache
from django.db import OperationalError
from django.utils import timezone

from gateway.account import keys
from gateway.api import once
from tenants import guarding
from tenants.models import APIKey, ExchangeRails
from tests.gateway.api.client import Answer, Api, api_of
from tests.tenants.cast import Cast

pytestmark = pytest.mark.usefixtures("redis_server")


@pytest.fixture
def ada(cast: Cast) -> Api:
    return api_of(cast.acme, "account", "ws", "info")


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


def test_a_key_is_shown_once(ada: Api) -> None:
    made = ada("POST", "keys", {"name": "bot", "scopes": ["ws"], "daily_quota": 5})
    assert made.status == 201
    assert made.json["key"].startswith("hlr_live_")
    assert made.headers["cache-control"] == "no-store"
    about = made.json["about"]
    assert (about["scopes"], about["daily_quota"], about["state"]) == (["ws"], 5, "active")
    shown = ada.get(f"keys/{about['id']}")
    assert shown == about
    assert made.json["key"] not in str(shown)


def test_the_same_idempotency_key_makes_one(ada: Api) -> None:
    header = {"Idempotency-Key": f"make-{ada.key.pk}-{ada.raw_key[-6:]}"}
    first = ada("POST", "keys", {"name": "bot"}, headers=header)
    again = ada("POST", "keys", {"name": "bot"}, headers=header)
    other = ada("POST", "keys", {"name": "another"}, headers=header)
    assert (first.status, again.status) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json == {**first.json, "key": None}
    assert refused(other) == (422, "idempotency_mismatch")
    assert APIKey.objects.filter(name="bot").count() == 1
    assert APIKey.objects.filter(name="another").count() == 0


def test_what_was_refused_can_be_asked_again(ada: Api) -> None:
    header = {"Idempotency-Key": f"again-{ada.raw_key[-6:]}"}
    bad = ada("POST", "keys", {"name": ""}, headers=header)
    good = ada("POST", "keys", {"name": "bot"}, headers=header)
    # Another request under the same name, but of the first nothing was done.
    assert (bad.status, good.status) == (400, 201)


def test_what_was_made_and_could_not_be_told_is_undone(ada: Api, monkeypatch: Any) -> None:
    header = {"Idempotency-Key": f"lost-{ada.raw_key[-6:]}"}
    show = keys.key

    def lost(tenant: Any, key_id: int) -> Any:
        monkeypatch.setattr(keys, "key", show)
        raise OperationalError("the server has gone away")

    monkeypatch.setattr(keys, "key", lost)
    first = ada("POST", "keys", {"name": "bot"}, headers=header)
    again = ada("POST", "keys", {"name": "bot"}, headers=header)
    assert (first.status, again.status) == (503, 201)
    assert again.json["key"] is not None
    assert APIKey.objects.filter(name="bot").count() == 1


def test_an_idempotency_key_is_of_its_tenant(ada: Api, cast: Cast) -> None:
    header = {"Idempotency-Key": f"shared-{ada.raw_key[-6:]}"}
    ada("POST", "keys", {"name": "bot"}, headers=header)
    cleo = api_of(cast.other, "account", "ws")
    made = cleo("POST", "keys", {"name": "bot"}, headers=header)
    assert made.json["key"] is not None
    assert "idempotency-replayed" not in made.headers


def test_without_the_cache_nothing_is_done_twice(ada: Api, monkeypatch: Any) -> None:
    monkeypatch.setattr(once, "cache", RedisCache("redis://127.0.0.1:9/0", {}))
    answer = ada("POST", "keys", {"name": "bot"}, headers={"Idempotency-Key": "x"})
    assert refused(answer) == (503, "unavailable")
    assert not APIKey.objects.filter(name="bot").exists()


@pytest.mark.parametrize("scope", ["exchange", "grpc", "evm", "history"])
def test_no_key_gives_a_scope_that_it_has_not(ada: Api, scope: str) -> None:
    made = ada("POST", "keys", {"name": "more", "scopes": ["ws", scope]})
    assert refused(made) == (403, "not_allowed")
    plain = ada("POST", "keys", {"name": "plain", "scopes": ["ws"]}).json["about"]["id"]
    assert refused(ada("PATCH", f"keys/{plain}", {"scopes": [scope]})) == (403, "not_allowed")
    assert ada("PATCH", f"keys/{plain}", {"scopes": ["info", "account_read"]}).status == 200


def test_no_key_gets_hold_of_a_stronger_one(ada: Api, cast: Cast) -> None:
    trading = api_of(cast.acme, "exchange").key
    assert refused(ada("POST", f"keys/{trading.pk}/rotate", {})) == (403, "not_allowed")
    # What it has already stays where something else is changed, and can be taken away.
    assert ada("PATCH", f"keys/{trading.pk}", {"note": "kept"}).json["scopes"] == ["exchange"]
    kept = {"scopes": ["exchange", "ws"]}
    assert ada("PATCH", f"keys/{trading.pk}", kept).status == 200
    assert ada("DELETE", f"keys/{trading.pk}").status == 204


NARROW = {
    "allowed_networks": ["127.0.0.0/24", "2001:db8::/32"],
    "allowed_origins": ["https://desk.example"],
    "rate_per_minute": 60,
    "rate_burst": 30,
    "daily_quota": 1_000,
    "monthly_quota": 9_000,
}
WIDER = [
    ("allowed_networks", []),
    ("allowed_networks", ["127.0.0.1", "127.0.0.0/16"]),
    ("allowed_networks", ["::/0"]),
    ("allowed_origins", []),
    ("allowed_origins", ["https://desk.example", "https://evil.example"]),
    ("rate_per_minute", 61),
    ("rate_burst", 31),
    ("daily_quota", None),
    ("daily_quota", 1_001),
    ("monthly_quota", None),
    ("monthly_quota", 9_001),
    ("expires_at", None),
    ("expires_at", "2999-01-01T00:00:00Z"),
]


@pytest.fixture
def narrow(cast: Cast) -> Api:
    """A key with every limit, asked as from its page."""
    ends_at = timezone.now() + timedelta(days=3)
    api = api_of(cast.acme, "account", "ws", **NARROW, expires_at=ends_at)
    api.headers["origin"] = "https://desk.example"
    return api


@pytest.mark.parametrize(("field", "value"), WIDER)
def test_no_key_gives_what_is_wider_than_itself(
    narrow: Api, cast: Cast, field: str, value: Any
) -> None:
    rate = {"rate_per_minute": 60, "rate_burst": 30} if field.startswith("rate") else {}
    made = narrow("POST", "keys", {"name": "wide", **rate, field: value})
    assert refused(made) == (403, "not_allowed")
    assert made.json["error"]["message"].startswith(f"{field}: this key ")
    assert not APIKey.objects.filter(name="wide").exists()
    plain = narrow("POST", "keys", {"name": "plain", "scopes": ["ws"]}).json["about"]
    changed = narrow("PATCH", f"keys/{plain['id']}", {field: value})
    assert refused(changed) == (403, "not_allowed")
    # Who has a role, and no key's limits, gives what it likes.
    keys.issue(cast.acme, by=keys.member("owner"), name="wide", scopes=["ws"])


def test_what_a_key_makes_has_its_limits_or_less(narrow: Api) -> None:
    made = narrow("POST", "keys", {"name": "same", "scopes": ["ws"]}).json["about"]
    assert {name: made[name] for name in NARROW} == NARROW
    assert made["expires_at"] == narrow.get(f"keys/{narrow.key.pk}")["expires_at"]
    less = {
        "allowed_networks": ["127.0.0.7/32", "2001:db8:1::/48"],
        "rate_per_minute": 10,
        "rate_burst": 30,
        "daily_quota": 5,
        "expires_at": (timezone.now() + timedelta(days=1)).isoformat(),
    }
    assert narrow("POST", "keys", {"name": "less", "scopes": ["ws"], **less}).status == 201


def test_what_another_key_has_already_stays_and_is_not_got_hold_of(narrow: Api, cast: Cast) -> None:
    wide = api_of(cast.acme, "ws", daily_quota=5_000).key
    path = f"keys/{wide.pk}"
    kept = {"note": "x", "daily_quota": 4_000, "allowed_networks": [], "expires_at": None}
    assert narrow("PATCH", path, kept).status == 200
    assert refused(narrow("PATCH", path, {"daily_quota": 4_001})) == (403, "not_allowed")
    # More of it would open from everywhere, and for ever.
    assert refused(narrow("PATCH", path, {"scopes": ["ws", "account"]})) == (403, "not_allowed")
    assert refused(narrow("POST", f"{path}/rotate", {})) == (403, "not_allowed")
    assert narrow("POST", f"keys/{narrow.key.pk}/rotate", {"overlap_s": 60}).status == 201


def test_no_key_changes_itself(ada: Api) -> None:
    for change in ({"expires_at": None}, {"allowed_networks": []}, {"scopes": ["account"]}):
        assert refused(ada("PATCH", f"keys/{ada.key.pk}", change)) == (403, "not_allowed")


def test_a_key_rotates_itself_and_so_does_its_successor(ada: Api) -> None:
    made = ada("POST", f"keys/{ada.key.pk}/rotate", {"overlap_s": 60})
    assert made.status == 201
    ada.key.refresh_from_db()
    assert ada.key.expires_at is not None
    assert ada.key.expires_at - timezone.now() <= timedelta(seconds=60)
    successor = Api(made.json["key"], ada.key)
    assert successor("GET", "account").status == 200
    assert made.json["about"]["family_id"] == ada.key.pk
    # It is of the same family, so no other either.
    assert refused(successor("PATCH", f"keys/{ada.key.pk}", {"note": "x"})) == (403, "not_allowed")
    assert refused(ada("POST", f"keys/{ada.key.pk}/rotate", {})) == (409, "conflict")


def test_a_tenant_has_so_many_keys_and_no_more(ada: Api, settings: Any) -> None:
    settings.RELAY_MAX_KEYS = 2
    made = ada("POST", "keys", {"name": "bot", "scopes": ["ws"]})
    more = ada("POST", "keys", {"name": "more", "scopes": ["ws"]})
    assert refused(more) == (409, "conflict")
    assert "at most 2 keys" in more.json["error"]["message"]
    assert ada("DELETE", f"keys/{made.json['about']['id']}").status == 204
    assert ada("POST", "keys", {"name": "more", "scopes": ["ws"]}).status == 201


def test_a_revoked_key_opens_nothing(ada: Api) -> None:
    assert ada("DELETE", f"keys/{ada.key.pk}").status == 204
    assert refused(ada("GET", "account")) == (401, "invalid_key")


def test_a_key_is_good_where_its_list_says(cast: Cast) -> None:
    elsewhere = api_of(cast.acme, "account", allowed_networks=["203.0.113.0/24"])
    assert refused(elsewhere("GET", "account")) == (403, "address_not_allowed")
    page = api_of(cast.acme, "account", allowed_origins=["https://desk.example"])
    assert refused(page("GET", "account")) == (403, "origin_not_allowed")
    assert page("GET", "account", headers={"origin": "https://desk.example"}).status == 200


def test_the_kill_switch(ada: Api, cast: Cast) -> None:
    bot = api_of(cast.acme, "exchange").key
    assert ada("POST", f"keys/{bot.pk}/kill").json["is_killed"] is True
    assert ExchangeRails.objects.get(key=bot).is_killed
    rails = ada("PATCH", f"keys/{bot.pk}/rails", {"coins": ["BTC"], "max_order_usd": "10.50"})
    assert (rails.json["is_killed"], rails.json["coins"]) == (True, ["BTC"])
    assert rails.json["max_order_usd"] == "10.50"
    assert ada("POST", f"keys/{bot.pk}/revive").json["is_killed"] is False
    assert ada.get(f"keys/{bot.pk}")["rails"]["coins"] == ["BTC"]


def test_all_keys_at_once(ada: Api, cast: Cast) -> None:
    bots = [api_of(cast.acme, "exchange").key for _ in range(2)]
    stranger = api_of(cast.other, "exchange").key
    assert ada("POST", "keys/kill").json == {"families": 3}  # itself among them
    assert ExchangeRails.objects.filter(key__in=bots, is_killed=True).count() == 2
    assert not ExchangeRails.objects.filter(key=stranger).exists()
    assert refused(ada("POST", "keys/revive")) == (403, "not_allowed")
    other = api_of(cast.acme, "account")
    assert other("POST", "keys/revive").json == {"families": 3}
    assert not ExchangeRails.objects.filter(is_killed=True).exists()


def test_a_key_stops_itself_and_no_more(ada: Api) -> None:
    mine = f"keys/{ada.key.pk}"
    assert ada("POST", f"{mine}/kill").status == 200
    assert ada("PATCH", f"{mine}/rails", {"is_cancel_only": True}).status == 200
    assert refused(ada("POST", f"{mine}/revive")) == (403, "not_allowed")
    assert refused(ada("PATCH", f"{mine}/rails", {"coins": []})) == (403, "not_allowed")
    assert ExchangeRails.objects.get(key=ada.key).is_killed


def test_a_key_makes_none_that_is_past_its_guard_rails(cast: Cast) -> None:
    ada = api_of(cast.acme, "account", "exchange", "ws")
    bot, plain = api_of(cast.acme, "exchange").key, api_of(cast.acme, "ws").key
    guarding.set_rails(ada.key, max_order_usd="10")
    for scope in ("exchange", "account"):
        made = ada("POST", "keys", {"name": "free", "scopes": ["ws", scope]})
        assert refused(made) == (403, "not_allowed")
        changed = ada("PATCH", f"keys/{plain.pk}", {"scopes": [scope]})
        assert refused(changed) == (403, "not_allowed")
    assert refused(ada("POST", f"keys/{bot.pk}/rotate", {})) == (403, "not_allowed")
    assert ada("POST", "keys", {"name": "reader", "scopes": ["ws"]}).status == 201
    # Its successor has the same rails.
    assert ada("POST", f"keys/{ada.key.pk}/rotate", {"overlap_s": 60}).status == 201


def test_the_audit_log_names_the_key(ada: Api) -> None:
    made = ada("POST", "keys", {"name": "bot"}).json["about"]
    entry = LogEntry.objects.filter(object_pk=str(made["id"])).latest("timestamp")
    assert entry.actor_email == f"API key {ada.key.prefix}…"
    assert entry.remote_addr == "127.0.0.1"


def test_what_was_changed_meanwhile_is_not_undone(ada: Api, cast: Cast, monkeypatch: Any) -> None:
    bot = api_of(cast.acme, "ws").key
    find = keys._find

    def slow(tenant: Any, key_id: int) -> APIKey:
        found = find(tenant, key_id)
        APIKey.objects.filter(pk=key_id).update(scopes=["info"])
        return found

    monkeypatch.setattr(keys, "_find", slow)
    assert refused(ada("PATCH", f"keys/{bot.pk}", {"note": "x"})) == (409, "conflict")
