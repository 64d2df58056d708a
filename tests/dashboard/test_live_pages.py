"""Requests, traces and connections as the server draws them: narrowed, paged, bounded, and honest
about what it cannot ask."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from gateway.dashboard.pages.traces import row_of
from gateway.dashboard.templatetags import live
from gateway.exchange.trace import Trace, id_of
from gateway.exchange.trace_selectors import Shown
from gateway.exchange.trace_store import Batch, TraceStore
from gateway.requests.models import RequestRecord
from tenants import services
from tenants.models import Tenant
from tests.tenants.cast import Cast
from tests.tenants.people import owner_of, signed_in

#: For everything of a page: session, user, membership, and what it shows.
MAX_QUERIES = 25
NOWHERE = "unix:///nowhere/redis.sock"


@pytest.fixture
def ada(cast: Cast, redis_url: str, settings: Any) -> Client:
    """Acme's owner, and a Redis of the session's."""
    settings.REDIS_CACHE_URL = redis_url
    return signed_in(owner_of(cast.acme).user)


def _fail(tenant: Tenant, count: int, **values: Any) -> None:
    now = timezone.now()
    known = {"door": "info", "method": "POST", "kind": "l2Book", "status": 429, "total_ms": 1.5}
    RequestRecord.objects.bulk_create(
        RequestRecord(
            at=now - timedelta(minutes=place),
            request_id=f"{tenant.slug}-{values.get('status', 429)}-{place}",
            tenant=tenant,
            **known | values,
        )
        for place in range(count)
    )


@pytest.mark.django_db
def test_failed_requests_are_narrowed_and_paged(
    ada: Client, cast: Cast, django_assert_max_num_queries: Any
) -> None:
    _fail(cast.acme, 30, code="rate_limited")
    _fail(cast.acme, 25, status=502, code="upstream_failed", upstream_ms=800.0)
    _fail(cast.other, 5, status=500)
    with django_assert_max_num_queries(MAX_QUERIES):
        first = ada.get("/app/acme/requests")
    assert len(first.context["records"]) == 50
    second = ada.get(f"/app/acme/requests{first.context['older']}")
    assert len(second.context["records"]) == 5
    assert second.context["newer"]
    ids = {row.request_id for page in (first, second) for row in page.context["records"]}
    assert len(ids) == 55
    assert not any(each.startswith(cast.other.slug) for each in ids)

    name, choices, chosen = first.context["facets"][0]
    assert (str(name), chosen) == ("Status", "")
    assert [(each.text, each.count) for each in choices] == [("429", 30), ("502", 25)]
    narrowed = ada.get(f"/app/acme/requests{choices[1].url}")
    assert {row.status for row in narrowed.context["records"]} == {502}
    ((again,),) = [each for _, each, chosen in narrowed.context["facets"] if chosen]
    assert again.is_chosen
    assert ada.get(f"/app/acme/requests{again.url}").context["is_narrowed"] is False


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["?status=x", "?period=year"])
def test_choices_nobody_offered_are_no_page(ada: Client, query: str) -> None:
    assert ada.get(f"/app/acme/requests{query}").status_code == 404


@pytest.mark.django_db
def test_a_forged_cursor_is_said_to_be_one(ada: Client) -> None:
    assert b"none of this list" in ada.get("/app/acme/requests?cursor=made-up").content


@pytest.mark.django_db
def test_a_request_of_another_is_none(ada: Client, cast: Cast) -> None:
    _fail(cast.other, 1)
    assert ada.get(f"/app/acme/requests/{cast.other.slug}-429-0").status_code == 404
    _fail(cast.acme, 1, upstream_ms=1.0)
    page = ada.get("/app/acme/requests/acme-429-0")
    assert page.context["own_ms"] == 0.5


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["connections", "connections/part", "requests", "traces"])
def test_what_cannot_be_asked_is_said(ada: Client, settings: Any, path: str) -> None:
    settings.REDIS_CACHE_URL = settings.REDIS_BUS_URL = settings.REDIS_QUOTA_URL = NOWHERE
    page = ada.get(f"/app/acme/{path}")
    assert page.status_code == 200
    assert b"try again" in page.content


@pytest.mark.django_db
def test_traces_are_the_tenants_own(
    ada: Client, cast: Cast, redis_url: str, django_assert_max_num_queries: Any
) -> None:
    key = services.issue_key(tenant=cast.acme, name="Bot").key
    mine = _trace(key.pk, coin="BTC", oid=7)
    asyncio.run(_keep(redis_url, cast.acme, mine, _trace(key.pk, coin="ETH", oid=8, number=2)))
    asyncio.run(_keep(redis_url, cast.other, _trace(1, coin="SOL", oid=9, number=3)))
    with django_assert_max_num_queries(MAX_QUERIES):
        page = ada.get("/app/acme/traces")
    assert [row.shown.trace.coin for row in page.context["rows"]] == ["ETH", "BTC"]
    narrowed = ada.get(f"/app/acme/traces?coin=BTC&key={key.pk}&oid=7")
    assert [row.shown.trace.id for row in narrowed.context["rows"]] == [mine.id]
    one = ada.get(f"/app/acme/traces/{mine.id}")
    assert [since for _, _, since in one.context["moments"]] == [0, 1, 101, 181, 251]
    assert ada.get(f"/app/{cast.acme.slug}/traces/{mine.id[:-1]}z").status_code == 410
    assert ada.get("/app/acme/traces?key=999999").context["error"]
    assert ada.get("/app/acme/traces?oid=x").status_code == 404


async def _keep(url: str, tenant: Tenant, *traces: Trace) -> None:
    store = TraceStore(url, max_bytes=1 << 20, process="test")
    batch = Batch(rows={each.id: each for each in traces}, new={each.id for each in traces})
    await store.write({tenant.pk: batch}, now_ms=time.time() * 1e3)
    await store.aclose()


def _trace(key_id: int, *, coin: str, oid: int, number: int = 1) -> Trace:
    at_ms = float(int(time.time() * 1e3) - 5_000 + number)
    return Trace(
        id_of(at_ms, number, "test"), "r", key_id, "hlr_live_x", "order", 0, at_ms, coin=coin,
        oid=oid, status="filled", sent_ms=at_ms + 1, acked_ms=at_ms + 181,
        block_ms=int(at_ms) + 101, fill_ms=int(at_ms) + 251, fills=1, state="seen",
    )  # fmt: skip


def test_a_bar_is_whole_and_tells_the_truth() -> None:
    row = row_of(Shown(_trace(1, coin="BTC", oid=1), ""))
    assert row.total_ms == 251
    assert sum(each.width for each in row.segments) == pytest.approx(100)
    assert [each.step for each in row.segments] == ["sent", "block", "acked", "fill"]
    assert [each.took_ms for each in row.segments] == [1, 100, 180, 150]
    nothing = row_of(Shown(Trace("i", "r", 1, "k", "order", 0, 5.0), "nothing was sent"))
    assert (nothing.segments, nothing.total_ms) == ([], None)


def test_times_and_amounts_as_people_read_them() -> None:
    assert [live.age(each) for each in (None, 12.9, 754, 7_300, 90_000)] == [
        *("–", "12 s", "12 min 34 s", "2 h 1 min", "1 d 1 h"),
    ]
    assert [live.ms(each) for each in (None, 0.424, 12.34, 1234.5)] == [
        "–",
        "0.42",
        "12.3",
        "1,234",
    ]
    assert [live.amount_of_bytes(each) for each in (12, 2048, 5 << 20)] == [
        *("12 B", "2.0 KiB", "5.0 MiB"),
    ]
    assert live.topic("l2Book BTC 20 0 0 0") == "l2Book BTC 20"
    assert live.moment(1_700_000_000_123.0) == "2023-11-14 22:13:20.123"
