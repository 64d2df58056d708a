"""Operators look at a customer's order traces: of one tenant, narrowed, a page at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from gateway.backoffice import groups
from gateway.exchange import trace_admin
from tests.gateway.api.client import api_of
from tests.gateway.api.test_traces import keep
from tests.tenants.cast import Cast
from tests.tenants.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def url(settings: Any, redis_url: str) -> Iterator[str]:
    settings.RELAY_STAFF_MFA = False
    settings.REDIS_CACHE_URL = redis_url.removesuffix("/0") + "/6"
    with redis.Redis.from_url(settings.REDIS_CACHE_URL) as client:
        client.flushdb()
        yield settings.REDIS_CACHE_URL
        client.flushdb()


@pytest.fixture
def reader() -> Client:
    groups.update_groups()
    user = User.objects.create_user("op", "op@relay.example", is_staff=True)
    user.groups.add(Group.objects.get(name="read-only"))
    return signed_in(user)


def listed(client: Client, **asked: Any) -> str:
    answer = client.get(reverse("admin:exchange_ordertrace_changelist"), asked)
    assert answer.status_code == 200
    return answer.content.decode()


def ids(page: str) -> list[str]:
    return re.findall(r'data-trace="(\w+)"', page)


def test_one_tenants_traces_a_page_at_a_time(
    cast: Cast, url: str, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_admin, "ROWS", 3)
    ada, cleo = api_of(cast.acme), api_of(cast.other)
    assert "Nobody sent an order" in listed(reader)
    keep(url, ada, 5)
    keep(url, cleo, 1)
    page = listed(reader)
    assert "2 tenants sent orders" in page
    assert not ids(page)
    first = listed(reader, tenant=cast.acme.pk)
    assert len(ids(first)) == 3
    assert "50.0" in first  # from sent to answered
    older = re.search(r'href="\?([^"]+)">Older', first)
    assert older is not None
    way = reverse("admin:exchange_ordertrace_changelist")
    second = reader.get(f"{way}?{older[1].replace('&amp;', '&')}").content.decode()
    assert len(ids(second)) == 2
    assert len({*ids(first), *ids(second)}) == 5
    assert not {*ids(first), *ids(second)}.intersection(ids(listed(reader, tenant=cast.other.pk)))
    assert len(ids(listed(reader, tenant=cast.acme.pk, coin="ETH"))) == 3
    assert len(ids(listed(reader, tenant=cast.acme.pk, oid="103"))) == 1
    assert len(ids(listed(reader, tenant=cast.acme.pk, key=ada.key.prefix))) == 3


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"tenant": "999999"}, "There is no such tenant."),
        ({"tenant": "x"}, "There is no such tenant."),
        ({"tenant": "", "coin": "<script>"}, "choose one."),
        ({"key": "hlr_live_zzz"}, "Acme has no key whose prefix begins so."),
        ({"oid": "9" * 60}, "An order id is a whole number."),
        ({"cursor": "../x"}, "That page is none of this list"),
    ],
)
def test_what_is_nothing_is_said_in_a_line(
    cast: Cast, url: str, reader: Client, asked: dict[str, str], says: str
) -> None:
    keep(url, api_of(cast.acme), 1)
    page = listed(reader, **{"tenant": str(cast.acme.pk), **asked})
    assert says in page
    assert "<script>x" not in page
    assert not ids(page)


def test_without_redis_the_page_says_so(
    cast: Cast, url: str, reader: Client, settings: Any
) -> None:
    settings.REDIS_CACHE_URL = "redis://127.0.0.1:9/0"
    assert "Redis does not answer" in listed(reader, tenant=cast.acme.pk)


def test_who_may_not_look(cast: Cast, url: str, reader: Client) -> None:
    User.objects.get(username="op").groups.clear()
    way = reverse("admin:exchange_ordertrace_changelist")
    assert reader.get(way).status_code == 403
    assert Client().get(way).status_code == 302
