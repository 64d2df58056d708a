"""What is new in a node's files and answers is told once, to one operator, and passes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streaming.bus import keys
from streaming.core.blocks import FileKind, RawBlock
from streaming.core.line_sample import line_sample
from streaming.core.schema_baseline import FIELDS
from streaming.core.schema_sentinel import Change, Finding, SchemaSentinel
from streaming.core.topic import Kind, Topic
from streaming.upstream.build import Upstreams
from streaming.upstream.schema_alerts import SchemaAlerts
from streaming.upstream.schema_watch import BLOCKS, EVERY_NS, SchemaWatch
from streaming.upstream.spec import parse_upstreams
from tests.core.node_events import fill, line
from tests.streaming.node_lines import BY_BLOCK, FILLS, NodeDirectory

DEADLINE_S = 10.0


class Told(list[tuple[str, Finding]]):
    def __call__(self, source: str, finding: Finding) -> None:
        self.append((source, finding))


def fills(height: int, **extra: Any) -> RawBlock:
    user, first = fill(height, "A")
    return RawBlock(FileKind.FILLS, height, [line(height, [[user, first | extra]])], 7)


# --- lines ---


def test_a_new_field_of_a_line_is_told_once() -> None:
    told = Told()
    watch = SchemaWatch(told)
    for number in range(5):
        watch.lines("node0", [fills(100 + number, novel=1)], now_ns=number * EVERY_NS)
    detail = "field events[][].novel was never seen"
    assert told == [("node0", Finding(Change.FIELD, "node_fills", detail))]


def test_one_line_of_a_kind_is_looked_at_each_second() -> None:
    told = Told()
    watch = SchemaWatch(told)
    watch.lines("node0", [fills(100), fills(101, novel=1)], now_ns=EVERY_NS)
    watch.lines("node1", [fills(101, novel=1)], now_ns=2 * EVERY_NS - 1)
    assert told == []
    watch.lines("node1", [fills(102, novel=1)], now_ns=2 * EVERY_NS)
    assert [source for source, _ in told] == ["node1"]


def test_the_pace_of_the_chain_is_learned_and_its_change_is_told_once() -> None:
    told = Told()
    watch = SchemaWatch(told)
    height, time_s, now_ns = 100, 0.0, 0
    for pace_s, count in ((0.08, 40), (0.1, 40), (0.5, 80)):
        for _ in range(count):
            height, time_s, now_ns = height + 10, time_s + 10 * pace_s, now_ns + EVERY_NS
            stamp = f"2026-05-05T17:{int(time_s) // 60:02}:{time_s % 60:09.6f}"
            body = {"local_time": stamp, "block_time": stamp, "block_number": height, "events": []}
            block = RawBlock(FileKind.FILLS, height, [orjson.dumps(body)], 7)
            watch.lines("node0", [block], now_ns=now_ns)
    ((_, finding),) = told
    assert (finding.change, finding.channel) == (Change.CADENCE, BLOCKS)
    assert finding.detail.startswith("comes every 0.5 s; known is 0.0")


def test_recorded_lines_hold_no_news(test_data: Path) -> None:
    told = Told()
    watch = SchemaWatch(told)
    now_ns = 0
    for path in sorted((test_data / "node").glob("*_by_block*.jsonl*")) + sorted(
        (test_data / "node").glob("*_streaming*.jsonl.gz")
    ):
        stem = path.name.partition("_by_block")[0].partition("_streaming")[0]
        data = path.read_bytes()
        for raw in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines():
            # Each event as the one that happens to be first.
            body = orjson.loads(raw)
            for event in body["events"]:
                now_ns += EVERY_NS
                one = orjson.dumps(body | {"events": [event]})
                block = RawBlock(FileKind(stem), body["block_number"], [one], 7)
                watch.lines("node0", [block], now_ns=now_ns)
    assert [f for _, f in told if f.change is not Change.CADENCE] == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    events=st.lists(json_values, max_size=4),
    head=st.dictionaries(st.sampled_from("ab"), json_values),
)
def test_a_sample_is_the_line_with_its_first_event(events: list[Any], head: dict[str, Any]) -> None:
    text = json.dumps(head | {"events": events}, separators=(",", ":"), ensure_ascii=False)
    sample = line_sample(text.encode())
    assert sample == head | {"events": events[:1]} or b'"events":[' in json.dumps(head).encode()


@given(data=st.binary(max_size=60) | st.binary(max_size=40).map(b'{"events":['.__add__))
def test_a_sample_of_anything_is_harmless(data: bytes) -> None:
    line_sample(data)
    watch = SchemaWatch(Told())
    watch.lines("node0", [RawBlock(FileKind.FILLS, 1, [data], 7)], now_ns=0)


GARBLED = rb'{"block_time":"2026-05-05T17:39:13.0","block_number":1e400,"events":[{"a\ud800\n":1}]}'


def test_what_is_told_of_a_garbled_line_is_clean_text() -> None:
    told = Told()
    block = RawBlock(FileKind.FILLS, 1, [GARBLED], 7)
    SchemaWatch(told).lines("node0", [block], now_ns=0)
    details = [finding.detail for _, finding in told]
    assert r"field events[].a\ud800\n was never seen" in details
    for _, finding in told:
        assert orjson.loads(orjson.dumps([*finding])) == [*finding]
        assert finding.key.isprintable()


async def test_a_watch_that_fails_disturbs_nobody() -> None:
    def tell(source: str, finding: Finding) -> None:
        raise ZeroDivisionError

    async def info(payload: bytes) -> bytes:
        return b'{"novel":2}'

    watch = SchemaWatch(tell)
    with capture_logs() as logs:
        watch.lines("node0", [fills(100, novel=1)], now_ns=0)
        watch.lines("node0", [fills(101, other=1)], now_ns=EVERY_NS)
        request = b'{"type":"clearinghouseState"}'
        assert await watch.watched(info, source="node0")(request) == b'{"novel":2}'
    assert [entry["event"] for entry in logs] == ["schema_watch_failed"]


@pytest.mark.alone
def test_a_sample_of_a_large_line_is_cheap() -> None:
    event = fill(1, "A")
    big = line(1, [event] * 3_000)
    assert len(big) > 400_000
    begun_s = time.perf_counter()
    for _ in range(100):
        assert line_sample(big) is not None
    assert (time.perf_counter() - begun_s) / 100 < 0.001  # 30 µs here; decoding all takes 2 ms


# --- answers ---


async def test_a_new_field_of_an_answer_is_told_and_passes() -> None:
    told = Told()
    body = b'{"withdrawable":"0.0","time":1,"assetPositions":[],"novel":2}'

    async def info(payload: bytes) -> bytes:
        return body

    watched = SchemaWatch(told).watched(info, source="polled")
    for payload in (b'{"type":"clearinghouseState"}', b"nonsense", b"[]"):
        assert await watched(payload) == body
    detail = "field novel was never seen"
    assert told == [("polled", Finding(Change.FIELD, "info clearinghouseState", detail))]


def test_recorded_answers_hold_no_news(test_data: Path) -> None:
    recorded = gzip.decompress((test_data / "http" / "python_sdk_cassettes.jsonl.gz").read_bytes())
    seen, sentinel = set(), SchemaSentinel()
    for raw in recorded.splitlines():
        entry = orjson.loads(raw)
        channel = f"info {(entry.get('request') or {}).get('type')}"
        if channel in FIELDS and entry["status"] == 200:
            seen.add(channel)
            sentinel.observe(channel, orjson.loads(entry["response_raw"]), now_ns=0)
    assert len(seen) > 1, seen
    assert sentinel.drain() == []


# --- alerts ---


@pytest.fixture
def bus(redis_url: str) -> Iterator[str]:
    url = redis_url.removesuffix("/0") + "/12"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


async def told_by(bus: str, *findings: Finding) -> list[dict[str, Any]]:
    """What a worker that has found these, and a last one of its own, tells."""
    alerts = SchemaAlerts(bus)
    last = Finding(Change.CHANNEL, f"end-{id(alerts)}", "")
    with capture_logs() as logs:
        for finding in (*findings, last):
            alerts.add("node0", finding)
        running = asyncio.ensure_future(alerts.run())
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if any(entry.get("channel") == last.channel for entry in logs):
                    break
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return [entry for entry in logs if entry.get("channel") != last.channel]


async def test_an_alert_survives_a_takeover(bus: str) -> None:
    field = Finding(Change.FIELD, "node_fills", "field novel was never seen")
    pace = Finding(Change.CADENCE, BLOCKS, "comes every 0.51 s; known is 0.08 s")
    assert len(await told_by(bus, field, field, pace)) == 2
    # Another worker measures a little differently.
    again = pace._replace(detail="comes every 0.5 s; known is 0.07 s")
    assert await told_by(bus, field, again) == []
    later = pace._replace(detail="comes every 5 s; known is 0.07 s")
    assert [entry["detail"] for entry in await told_by(bus, later)] == [later.detail]


async def test_what_cannot_be_told_is_dropped_and_the_rest_told(bus: str) -> None:
    channel, detail = "node_fills", "field novel was never seen"
    field = Finding(Change.FIELD, channel, detail)
    garbled = [field._replace(detail=f"{each}\ud800") for each in "ab"]
    odd: Any = field._replace(channel={1, 2})
    logs = await told_by(bus, *garbled, odd, field)
    assert [entry["event"] for entry in logs] == ["schema_alert_failed", "upstream_schema_changed"]


async def test_a_node_file_is_watched_all_the_way(tmp_path: Path) -> None:
    node = NodeDirectory(tmp_path / "data")
    node.root.mkdir()
    told, came = Told(), asyncio.Event()
    (spec,) = parse_upstreams(f"node://{node.root}")

    def tell(source: str, finding: Finding) -> None:
        told(source, finding)
        came.set()

    upstreams = Upstreams({"node0": spec}, scratch=tmp_path, tell=tell)
    trades = Topic(Kind.TRADES, "BTC")
    upstreams.nodes.want(trades)
    passed: list[int] = []
    running = asyncio.ensure_future(
        upstreams.nodes.run(lambda envelopes: passed.extend(e.position.height for e in envelopes))
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            height = 100
            while not (came.is_set() and passed):
                sides = [fill(height, "A", crossed=True), fill(height, "B")]
                novel = [[user, each | {"novel": 1}] for user, each in sides]
                node.write(FILLS, BY_BLOCK, line(height, novel) + b"\n")
                height += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(came.wait(), 0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [(source, finding.detail) for source, finding in told] == [
        ("node0", "field events[][].novel was never seen")
    ]


@pytest.mark.django_db
def test_the_upstream_page_shows_what_is_new(bus: str, settings: Any, operator: Client) -> None:
    settings.REDIS_BUS_URL = bus
    finding = Finding(Change.FIELD, "node_fills", "field novel was never seen")
    page = "/admin/nodes/upstreamnode/"
    assert "data-news" not in operator.get(page).content.decode()
    asyncio.run(told_by(bus, finding))
    with redis.Redis.from_url(bus) as client:
        client.hset(keys.SCHEMA_ALERTS, "odd", b"of another version")
    shown = operator.get(page).content.decode()
    assert "data-news" in shown
    assert finding.detail in shown
