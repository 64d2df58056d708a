"""Orders on their way, over the API: a tenant's own, narrowed, in pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from gateway.exchange.trace import Trace, id_of
from gateway.exchange.trace_store import Batch, TraceStore
from tests.gateway.api.client import Api, api_of
from tests.tenants.cast import Cast


@pytest.fixture
def url(settings: Any, redis_url: str) -> Iterator[str]:
    settings.REDIS_CACHE_URL = redis_url.removesuffix("/0") + "/5"
    with redis.Redis.from_url(settings.REDIS_CACHE_URL) as client:
        client.flushdb()
        yield settings.REDIS_CACHE_URL
        client.flushdb()


def keep(url: str, api: Api, count: int) -> None:
    """Orders of a tenant: of BTC and ETH in turn, each sent 2 ms after it came."""
    now_ms = time.time() * 1e3
    batch = Batch()
    for n in range(count):
        at_ms = now_ms - 1_000 + n
        one = Trace(
            id=id_of(at_ms, n, "test"),
            request_id=f"r{n}",
            key_id=api.key.pk,
            key_prefix=api.key.prefix,
            kind="order",
            place=0,
            received_ms=at_ms,
            coin="BTC" if n % 2 else "ETH",
            oid=100 + n,
            status="resting",
            sent_ms=at_ms + 2,
            acked_ms=at_ms + 52,
        )
        batch.rows[one.id] = one
        batch.new.add(one.id)

    async def write() -> None:
        store = TraceStore(url, max_bytes=10_000_000, process="test")
        await store.write({api.key.tenant_id: batch}, now_ms=now_ms)
        await store.aclose()

    asyncio.run(write())


def test_traces_are_told_in_pages(cast: Cast, url: str) -> None:
    ada, cleo = api_of(cast.acme), api_of(cast.other)
    keep(url, ada, 7)
    keep(url, cleo, 1)
    seen, cursor = [], ""
    while True:
        page = ada.get("traces", limit=3, cursor=cursor)
        seen += [row["oid"] for row in page["rows"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == [106, 105, 104, 103, 102, 101, 100]
    assert [row["oid"] for row in ada.get("traces", coin="BTC")["rows"]] == [105, 103, 101]
    (row,) = ada.get("traces", oid=104)["rows"]
    assert (row["outcome"], row["status"], row["block_at"]) == ("answered", "resting", None)
    assert row["missing"] == "no block was seen"
    assert row["received_at"] < row["sent_at"] < row["acked_at"]
    assert len(cleo.get("traces")["rows"]) == 1
    assert cleo("GET", "traces", key=ada.key.pk).code == "not_found"
    assert ada("GET", "traces", cursor="no-cursor").code == "bad_cursor"


def test_latency_has_every_step(cast: Cast, url: str) -> None:
    found = api_of(cast.acme).get("traces/latency")
    assert [step["step"] for step in found["steps"]] == ["sent", "acked", "block", "fill"]
    assert found["warnings"] == []


def test_without_redis(cast: Cast, settings: Any) -> None:
    settings.REDIS_CACHE_URL = "redis://127.0.0.1:9/0"
    answer = api_of(cast.acme)("GET", "traces")
    assert (answer.status, answer.code) == (503, "unavailable")
