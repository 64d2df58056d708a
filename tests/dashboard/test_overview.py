"""The figures of the overview, and what they cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from gateway.account import overview
from gateway.requests.models import RequestRecord
from tests.tenants.cast import Cast
from tests.tenants.people import owner_of, signed_in

pytestmark = pytest.mark.django_db
#: Of a page with its frame: session, user, verified address, membership, where else, and its own.
MOST_QUERIES = 22


@pytest.fixture(autouse=True)
def _redis(redis_url: str) -> None:
    cache.clear()


@pytest.fixture
def ada(cast: Cast) -> Client:
    return signed_in(owner_of(cast.acme).user)


def test_a_rate_is_of_the_frames_between_two_looks(cast: Cast) -> None:
    tenant = cast.acme
    assert overview._per_s(tenant, {}, 100.0) == 0.0
    assert overview._per_s(tenant, {"a-1": 1_000}, 100.0) is None
    assert overview._per_s(tenant, {"a-1": 1_500, "a-2": 100}, 110.0) == 60.0
    # Asked again at once: the same, not a burst or a pause.
    assert overview._per_s(tenant, {"a-1": 1_500, "a-2": 100}, 111.0) == 60.0
    # One that was closed takes nothing away.
    assert overview._per_s(tenant, {"a-1": 1_600}, 120.0) == 10.0
    assert overview._per_s(tenant, {"a-1": 1_600}, 140.0) == 0.0


def test_errors_are_of_the_last_hour_and_ones_own(cast: Cast) -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    for tenant, ago in ((cast.acme, 5), (cast.acme, 90), (cast.other, 5)):
        at = now - timedelta(minutes=ago)
        RequestRecord.objects.create(
            tenant=tenant, at=at, request_id="r", door="info", status=429, total_ms=1
        )
    assert overview.errors(cast.acme, now=now) == 1


def test_parts_stand_alone_where_redis_is_away(ada: Client, settings: Any) -> None:
    settings.REDIS_BUS_URL = "redis://127.0.0.1:1/0"
    now = ada.get("/app/acme/overview/now")
    assert now.status_code == 200
    assert "cannot be read now" in now.content.decode()
    assert ada.get("/app/acme/overview/freshness").status_code == 200


def test_pages_ask_little(ada: Client, django_assert_max_num_queries: Any) -> None:
    for path in ("", "overview/now", "overview/month", "overview/freshness", "keys/", "start/"):
        ada.get(f"/app/acme/{path}")  # the tenant of the session is written once
        with django_assert_max_num_queries(MOST_QUERIES):
            assert ada.get(f"/app/acme/{path}").status_code == 200
