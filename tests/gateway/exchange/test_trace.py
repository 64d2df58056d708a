"""What a trace holds, and what Redis keeps of it: bounded, each tenant by itself, for a day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import asked, trace, trace_selectors
from gateway.exchange.passage import Outcome, Passed
from gateway.exchange.trace import Row, Trace
from gateway.exchange.trace_store import ENTRY_BYTES, KEPT_MS, TraceStore, keys_of
from gateway.exchange.tracing import Tracer
from gateway.upstreams.posts import Answer
from tenants.models import Tenant
from tests.gateway.exchange.test_rails import body, order, placing
from tests.gateway.exchange.test_service import TRADER

CLOID = "0x" + "0a" * 16
ACME, OTHER = Tenant(pk=981), Tenant(pk=982)


def answered(*statuses: Any, kind: str = "order") -> bytes:
    data = {"type": kind, "data": {"statuses": list(statuses)}}
    return orjson.dumps({"status": "ok", "response": data})


def test_a_batch_is_traced_one_by_one() -> None:
    sent = asked.read(placing(order(c=CLOID), order(a=0), order()))
    told = answered({"resting": {"oid": 7, "cloid": CLOID}}, {"error": "Too small."}, "waiting")
    assert trace.rows_of(sent, told) == [
        Row(0, 4, 7, CLOID, "resting"),
        Row(1, 0, None, "", "error", "Too small."),
        Row(2, 4, None, "", "waiting"),
    ]
    refused = orjson.dumps({"status": "err", "response": "No such wallet."})
    assert [row.text for row in trace.rows_of(sent, refused)] == ["No such wallet."] * 3
    assert [row.status for row in trace.rows_of(sent, None)] == [""] * 3


def test_cancels_and_modifications_name_what_they_are_of() -> None:
    cancels = [{"a": 4, "o": 7}, {"a": 0, "o": 8}]
    sent = asked.read(body({"type": "cancel", "cancels": cancels}))
    told = answered("success", {"error": "Gone."}, kind="cancel")
    assert trace.rows_of(sent, told) == [
        Row(0, 4, 7, "", "success"),
        Row(1, 0, 8, "", "error", "Gone."),
    ]
    changed = {"type": "batchModify", "modifies": [{"oid": 7, "order": order(c=CLOID)}]}
    (row,) = trace.rows_of(asked.read(body(changed)), answered({"resting": {"oid": 9}}))
    assert row == Row(0, 4, 9, CLOID, "resting")


@pytest.mark.parametrize(
    ("named", "user"),
    [("0x" + "AB" * 20, "0x" + "ab" * 20), ("0x" + "z" * 40, "me"), ("x: y\r\n" * 6, "me")],
)
def test_a_vault_is_an_address_or_nobody(named: str, user: str) -> None:
    sent = body({"type": "order", "orders": [order()]}, vaultAddress=named)
    assert trace.user_of(asked.read(sent), "me") == user


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    ),
    st.binary(max_size=40),
)
def test_whatever_was_sent_and_answered_has_rows(content: Any, answer: bytes) -> None:
    for kind in ("order", "cancel", "modify", "batchModify", "twapOrder", "multiSig", "odd"):
        for name in ("orders", "cancels", "modifies", "order", "twap", "payload"):
            sent = asked.read(body({"type": kind, name: content}))
            assert trace.rows_of(sent, answer)
            assert trace.rows_of(sent, orjson.dumps({"status": "ok", "response": {"data": 1}}))
            assert trace.kind_of(sent)


def test_quantiles_are_right_to_a_tenth() -> None:
    counts: dict[int, int] = {}
    for ms in range(1, 1_001):
        counts[trace.bucket_of(ms)] = counts.get(trace.bucket_of(ms), 0) + 1
    assert 500 <= (trace.quantile(counts, 0.5) or 0) <= 550
    assert 990 <= (trace.quantile(counts, 0.99) or 0) <= 1_090
    assert trace.quantile({}, 0.5) is None


@pytest.fixture
async def url(redis_url: str, settings: Any) -> AsyncIterator[str]:
    """Of a Redis without traces, which the selectors read."""
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter("relay:trace*"):
            client.delete(key)
        settings.REDIS_CACHE_URL = redis_url
        yield redis_url


def tracer_of(url: str, *, process: str = "edge1", max_bytes: int = 1 << 20) -> Tracer:
    store = TraceStore(url, max_bytes=max_bytes, process=process)
    return Tracer(store, process=process, coin_of={4: "ETH", 0: "BTC"}.get)


def note(tracer: Tracer, oid: int, *, tenant: Tenant = ACME, ago_ms: float = 0.0) -> None:
    """An order that rests."""
    passed = Passed(
        Outcome.ANSWERED,
        Answer(200, b"application/json", answered({"resting": {"oid": oid}})),
        "",
        2_000_000,
        5_000_000,
    )
    tracer.note(
        asked.read(placing(order(p="4321.5"))),
        replace(TRADER, tenant_id=tenant.pk),
        request_id=f"r{oid}",
        received_ms=time.time() * 1e3 - ago_ms,
        received_ns=1_000_000,
        signer="0x" + "ab" * 20,
        passed=passed,
    )


async def test_what_was_noted_is_found_by_page_key_coin_and_order(url: str) -> None:
    tracer = tracer_of(url)
    for oid in range(5):
        note(tracer, oid)
    await tracer.flush()
    first = trace_selectors.traces(ACME, limit=2)
    assert [row.trace.oid for row in first.rows] == [4, 3]
    rest = trace_selectors.traces(ACME, cursor=first.cursor, limit=10)
    assert [row.trace.oid for row in rest.rows] == [2, 1, 0]
    assert rest.cursor == ""
    (one,) = trace_selectors.traces(ACME, oid=3, coin="ETH").rows
    assert one.trace.sent_ms == pytest.approx(one.trace.received_ms + 1)
    assert one.trace.acked_ms == pytest.approx(one.trace.received_ms + 4)
    assert trace_selectors.traces(ACME, coin="BTC").rows == []
    assert trace_selectors.traces(OTHER).rows == []
    steps = trace_selectors.latency(ACME)
    assert steps["acked"].counted == 5
    assert steps["acked"].p99_ms == pytest.approx(3, rel=0.11)
    assert b"4321" not in trace.encode(one.trace)  # what was signed is not kept
    await tracer.aclose()


async def test_one_tenant_s_orders_push_out_none_of_another_s(url: str) -> None:
    size = len(trace.encode(Trace("0" * 22, "r1", 7, "hlr_live_abcd", "order", 0, 1e12)))
    tracer = tracer_of(url, max_bytes=4 * 20 * (size + ENTRY_BYTES + 100))
    note(tracer, 1, tenant=OTHER)
    for oid in range(200):
        note(tracer, oid)
    await tracer.flush()
    kept = [row.trace.oid for row in trace_selectors.traces(ACME, limit=500).rows]
    assert 10 <= len(kept) <= 25
    assert kept[0] == 199
    assert len(trace_selectors.traces(OTHER).rows) == 1
    with redis.Redis.from_url(url) as client:
        rows, ids, held = keys_of(ACME.pk)
        assert client.hlen(rows) == client.zcard(ids) == len(kept)
        assert int(client.get(held) or 0) <= 20 * (size + ENTRY_BYTES + 100)
    await tracer.aclose()


async def test_after_a_day_a_trace_is_gone_also_when_its_tenant_trades_no_more(url: str) -> None:
    tracer = tracer_of(url)
    note(tracer, 1, ago_ms=KEPT_MS - 500)
    note(tracer, 2)
    await tracer.flush()
    assert len(trace_selectors.traces(ACME).rows) == 2
    await asyncio.sleep(0.6)
    for _ in range(2):  # those that trade no more are looked at in turn
        await tracer.flush()
    with redis.Redis.from_url(url) as client:
        assert client.hlen(keys_of(ACME.pk)[0]) == 1
    await tracer.aclose()


async def test_a_process_that_died_is_named_and_what_it_wrote_stays(url: str) -> None:
    tracer = tracer_of(url, process="dead")
    note(tracer, 1)
    await tracer.flush()
    (row,) = trace_selectors.traces(ACME).rows
    row.trace.state = trace.WAITS
    tracer.changed(ACME.pk, row.trace)
    await tracer.flush()
    assert trace_selectors.traces(ACME).rows[0].missing == "not seen yet"
    with redis.Redis.from_url(url) as client:
        client.delete("relay:traces:follower:dead")  # as it expires
    assert trace_selectors.traces(ACME).rows[0].missing.startswith("lost sight of")
    await tracer.aclose()


async def test_without_redis_orders_go_on_and_traces_wait_within_their_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.exchange.tracing.MAX_WAITING", 50)
    tracer = tracer_of("redis://127.0.0.1:1/0")
    for oid in range(100):
        note(tracer, oid)
    await tracer.flush()
    assert tracer._count == 50
    await tracer.aclose()
