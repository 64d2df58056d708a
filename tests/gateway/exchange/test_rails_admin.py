"""Guard rails in the admin: an older page undoes nothing, and the kill switch is one click."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from gateway.exchange.trace_store import HOUR_MS, warned_key
from tenants import guarding, services
from tenants.models import ExchangeRails
from tests.tenants.cast import Cast

LIST = "admin:tenants_exchangerails_changelist"


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("op", "op@example.org", "x"))
    return client


@pytest.fixture
def rails(cast: Cast) -> ExchangeRails:
    return guarding.set_rails(services.issue_key(tenant=cast.acme, name="bot").key, coins=["BTC"])


def form(client: Client, url: str) -> dict[str, Any]:
    """What the page would post as it stands."""
    initial = client.get(url).context["adminform"].form
    data = {name: initial[name].value() for name in initial.fields}
    return {name: "" if value is None else value for name, value in data.items() if value}


def test_a_page_that_is_older_than_a_change_is_refused(
    operator: Client, rails: ExchangeRails
) -> None:
    url = reverse("admin:tenants_exchangerails_change", args=[rails.pk])
    opened = form(operator, url)
    guarding.set_rails(rails.key, coins=["BTC", "ETH"])
    answer = operator.post(url, opened | {"max_order_usd": "5"})
    assert b"since you opened this page" in answer.content
    rails.refresh_from_db()
    assert (rails.coins, rails.max_order_usd) == (["BTC", "ETH"], None)
    assert operator.post(url, form(operator, url) | {"max_order_usd": "5"}).status_code == 302
    rails.refresh_from_db()
    assert (rails.coins, rails.max_order_usd) == (["BTC", "ETH"], 5)


def test_the_kill_switch_is_an_action_and_no_form_undoes_it(
    operator: Client, rails: ExchangeRails
) -> None:
    url = reverse("admin:tenants_exchangerails_change", args=[rails.pk])
    opened = form(operator, url)
    chosen = {"_selected_action": [rails.pk]}
    operator.post(reverse(LIST), {"action": "kill", **chosen})
    rails.refresh_from_db()
    assert rails.is_killed
    operator.post(url, opened | {"is_killed": ""})
    rails.refresh_from_db()
    assert rails.is_killed
    operator.post(reverse(LIST), {"action": "revive", **chosen})
    rails.refresh_from_db()
    assert not rails.is_killed


def test_a_key_whose_rotations_have_rails_gets_no_second_ones(
    operator: Client, rails: ExchangeRails
) -> None:
    add = reverse("admin:tenants_exchangerails_add")
    answer = operator.post(add, {"key": rails.key_id, "coins": "ETH"})
    assert b"guard rails" in answer.content
    other = services.issue_key(tenant=rails.key.tenant, name="second").key
    assert operator.post(add, {"key": other.pk, "coins": "ETH\n@107", "signers": "0x12"})
    assert not ExchangeRails.objects.filter(key=other).exists()
    assert operator.post(add, {"key": other.pk, "coins": "ETH\n@107"}).status_code == 302
    assert ExchangeRails.objects.get(key=other).coins == ["ETH", "@107"]


def test_a_key_without_rails_is_killed_from_the_list_of_keys(operator: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    keys = reverse("admin:tenants_apikey_changelist")
    operator.post(keys, {"action": "release", "_selected_action": [key.pk]})
    assert not ExchangeRails.objects.filter(key=key).exists()
    operator.post(keys, {"action": "kill", "_selected_action": [key.pk]})
    assert guarding.is_killed(key)
    successor = services.rotate_key(key, overlap=timedelta(0)).key
    assert guarding.is_killed(successor)
    operator.post(keys, {"action": "release", "_selected_action": [successor.pk]})
    assert not guarding.is_killed(key)


def test_all_keys_of_a_tenant_are_killed_and_nobody_else_s(cast: Cast) -> None:
    keys = [services.issue_key(tenant=cast.acme, name=f"bot {n}").key for n in range(3)]
    services.revoke_key(keys[0])
    other = services.issue_key(tenant=cast.other, name="other").key
    assert guarding.kill_tenant(cast.acme) >= 2
    assert [guarding.is_killed(key) for key in (*keys, other)] == [False, True, True, False]
    assert guarding.kill_tenant(cast.acme) == 0
    assert guarding.revive_tenant(cast.acme) >= 2
    assert not guarding.is_killed(keys[1])


def test_the_page_says_what_was_warned_of(
    operator: Client, rails: ExchangeRails, redis_url: str, settings: Any
) -> None:
    url = reverse("admin:tenants_exchangerails_change", args=[rails.pk])
    settings.REDIS_CACHE_URL = "redis://127.0.0.1:1/0"
    assert "not known now" in operator.get(url).content.decode()
    settings.REDIS_CACHE_URL = redis_url
    hour = int(time.time() * 1e3 // HOUR_MS)
    with redis.Redis.from_url(redis_url) as client:
        name = warned_key(rails.key.tenant_id, hour)
        client.delete(name)
        client.hset(name, mapping={f"{rails.key_id}:nonce_reused": 3, "0:clock_skew": 9})
    page = operator.get(url).content.decode()
    assert "nonce_reused: 3" in page
    assert "clock_skew" not in page
