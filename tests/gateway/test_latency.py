"""How long doors took: counted small, kept a week, each tenant by itself."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.call import Call, Reply
from gateway.http.edge import Edge
from gateway.requests import latency, latency_store
from gateway.requests.latency import KEPT_HOURS, MAX_TENANTS, Latencies, bucket_of, by_door, top_of
from gateway.requests.latency_store import LatencyWriter, latencies

TIMES = st.lists(st.floats(0.1, 90_000), min_size=1, max_size=200)


@given(TIMES)
def test_a_quantile_is_at_most_a_tenth_too_much(times: list[float]) -> None:
    counts = Counter(f"info:{bucket_of(each)}" for each in times)
    told = by_door(counts)["info"]
    assert told.requests == len(times)
    for share, value in ((0.5, told.p50_ms), (0.99, told.p99_ms)):
        exact = sorted(times)[math.ceil(len(times) * share) - 1]
        assert value is not None
        assert exact * 0.999 <= value <= exact * 1.101


def test_extremes_have_a_bucket() -> None:
    assert bucket_of(0.0) == 0
    assert bucket_of(1e12) == bucket_of(1e9)
    assert top_of(bucket_of(1e12)) > 60_000
    assert by_door({}) == {}


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "MAX_TENANTS", 2)
    counts = Latencies()
    for tenant_id in (1, 2, 3, 1):
        counts.note(tenant_id, "info", 5.0)
    taken = counts.take()
    assert {tenant_id: sum(each.values()) for tenant_id, each in taken.items()} == {1: 2, 2: 1}
    counts.note(3, "info", 5.0)
    counts.give_back(taken)
    assert set(counts.take()) == {3, 1}
    assert MAX_TENANTS < 100_000


def test_what_edges_write_is_added_up_by_tenant(redis_url: str) -> None:
    async def write() -> None:
        for _ in range(2):
            writer = LatencyWriter(redis_url)
            writer.note(7_001, "info", 3.0)
            writer.note(7_001, "evm", 30.0)
            writer.note(7_002, "info", 900.0)
            await writer.flush()
            await writer.flush()  # nothing is left to count twice
            if writer._redis is not None:
                await writer._redis.aclose()

    asyncio.run(write())
    mine = latencies(redis_url, 7_001, hours=24)
    assert {door: told.requests for door, told in mine.items()} == {"evm": 2, "info": 2}
    assert latencies(redis_url, 7_003, hours=24) == {}
    with redis.Redis.from_url(redis_url) as client:
        (key,) = client.keys("relay:latency:7001:*")
        assert 0 < client.ttl(key) <= (KEPT_HOURS + 1) * 3_600


def test_batches_are_cut_between_tenants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_store, "AT_ONCE", 2)
    left = {number: Counter({"info:1": 1, "evm:1": 1}) for number in range(3)}
    assert list(latency_store._some_of(left)) == [0]


def test_a_redis_that_is_away_loses_nothing_yet() -> None:
    async def flush() -> int:
        writer = LatencyWriter("unix:///nowhere/redis.sock")
        writer.note(1, "info", 1.0)
        await writer.flush()
        return len(writer.counts)

    assert asyncio.run(flush()) == 1


class _Door:
    """Knows whose request it is, and answers as it is told."""

    name = "info"

    def __init__(self, status: int, principal: Any) -> None:
        self._status, self._principal = status, principal

    async def reply(self, call: Call) -> Reply:
        call.principal = self._principal
        return Reply(self._status, [], b"{}")


@pytest.mark.parametrize(
    ("status", "is_known", "counted"),
    [(200, True, 1), (502, True, 1), (429, True, 0), (401, False, 0)],
)
def test_the_edge_times_what_it_answered_to_tenants(
    status: int, is_known: bool, counted: int
) -> None:
    """Not what was refused for its rate, which takes no time and comes by the thousand."""
    principal = SimpleNamespace(tenant_id=7, key_prefix="hlr_live_x") if is_known else None
    timed: list[tuple[int, str, float]] = []
    edge = Edge(
        {"/info": _Door(status, principal)},
        note=lambda: lambda entry: None,
        timed=lambda: lambda *told: timed.append(told),
    )
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/info", "headers": []}
    asyncio.run(edge(scope, _nothing, send))
    assert sent[0]["status"] == status
    assert len(timed) == counted
    assert all(told[:2] == (7, "info") and told[2] >= 0 for told in timed)


async def _nothing() -> Any:
    return {"type": "http.request", "body": b"{}"}
