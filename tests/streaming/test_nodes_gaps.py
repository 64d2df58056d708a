"""The gap ledger: each gap once, whoever reports it and however often; what is nonsense is
refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from django.db import IntegrityError, transaction
from django.test import Client

from streaming.bus import gap_reports, keys
from streaming.bus.gap_reports import GapReport, GapReporter
from streaming.core.envelope import Position, end_of
from streaming.nodes import ingest, tasks
from streaming.nodes.models import GapRecord

pytestmark = pytest.mark.django_db
BASE = "/admin/nodes/gaprecord/"


@pytest.fixture
def bus(settings: Any, redis_url: str) -> Iterator[redis.Redis]:
    settings.REDIS_BUS_URL = redis_url.removesuffix("/0") + "/12"
    with redis.Redis.from_url(settings.REDIS_BUS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


def report(settings: Any, *gaps: dict[str, Any], edge: str = "edge1") -> None:
    """Report as an edge or worker does."""

    async def go() -> None:
        async with redis.asyncio.from_url(settings.REDIS_BUS_URL) as client:
            reporter = GapReporter(client=client, edge=edge, clock=lambda: 1_700_000_000.0)
            for gap in gaps:
                reporter.report(**gap)
            await reporter._write()

    asyncio.run(go())


def gap(begin: int, end: int, **fields: Any) -> dict[str, Any]:
    return {
        "topic": "trades BTC",
        "epoch": "n-0123456789ab",
        "begin": end_of(begin),
        "end": end_of(end),
        "reason": "both nodes were silent",
    } | fields


def test_a_gap_is_one_row_however_often_it_is_told(bus: redis.Redis, settings: Any) -> None:
    report(settings, gap(5, 7), gap(5, 7), gap(9, 12))
    assert ingest.ingest_waiting() == 3
    report(settings, gap(5, 7))
    report(settings, gap(5, 7, epoch="n-after-a-flush"), edge="edge2")
    tasks.ingest_gaps()
    assert bus.xlen(keys.GAPS) == 0
    rows = GapRecord.objects.order_by("from_height", "edge")
    assert [(r.from_height, r.edge) for r in rows] == [(5, "edge1"), (5, "edge2"), (9, "edge1")]
    row = rows[0]
    assert (row.kind, row.coin, row.source, row.end) == ("trades", "BTC", "node", end_of(7))
    assert row.detected_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert row.filled_at is None


def test_a_gap_that_was_filled_is_marked(bus: redis.Redis, settings: Any) -> None:
    report(settings, gap(5, 7))
    ingest.ingest_waiting()
    report(settings, gap(5, 7, is_filled=True), gap(8, 9, is_filled=True))
    ingest.ingest_waiting()
    assert [row.filled_at is not None for row in GapRecord.objects.all()] == [True, True]


def test_a_crash_between_database_and_redis_repeats_nothing(
    bus: redis.Redis, settings: Any
) -> None:
    report(settings, gap(5, 7))
    rows: Any = bus.xrange(keys.GAPS)
    ingest.record([gap_reports.decode(fields[b"d"]) for _, fields in rows])
    assert ingest.ingest_waiting() == 1
    assert GapRecord.objects.count() == 1


def test_nonsense_is_refused_and_the_rest_taken(bus: redis.Redis, settings: Any) -> None:
    bus.xadd(keys.GAPS, {"d": b"\xff nonsense"})
    bus.xadd(keys.GAPS, {"x": b"1"})
    report(
        settings,
        gap(7, 5),
        gap(5, 5),
        gap(-5, 5),
        gap(1, 2) | {"end": Position(2**63)},
    )
    report(settings, gap(5, 7, topic="future=kind " + "x" * 400, reason="r" * 999))
    assert ingest.ingest_waiting() == 7
    row = GapRecord.objects.get()
    assert (row.kind, row.coin, len(row.topic), len(row.reason)) == ("future=kind", "", 200, 200)


def test_without_redis_the_task_waits_for_the_next_beat(settings: Any) -> None:
    settings.REDIS_BUS_URL = "redis://127.0.0.1:9/0"
    tasks.ingest_gaps()


def test_the_database_refuses_an_empty_gap() -> None:
    now = ingest._at(GapReport(topic="", source="", begin=Position(1), end=Position(1), reason="",
                               at_ms=0))  # fmt: skip
    with pytest.raises(IntegrityError), transaction.atomic():
        GapRecord.objects.create(
            topic="trades BTC", kind="trades", source="node", from_height=5, from_index=1,
            to_height=5, to_index=1, reason="", detected_at=now,
        )  # fmt: skip


def test_operators_read_it_and_change_nothing(
    bus: redis.Redis, settings: Any, operator: Client
) -> None:
    report(settings, gap(985_148_182, 985_148_190))
    report(settings, gap(1, 2, topic="userFills user=0xabc", epoch="p-12ab"), edge="")
    ingest.ingest_waiting()
    page = operator.get(BASE).content.decode()
    assert "985,148,182, its end" in page
    assert "edge1" in page
    page = operator.get(f"{BASE}?seen_by=edge").content.decode()
    assert "985,148,182, its end" in page
    assert "after 1, its end" not in page
    for row in GapRecord.objects.all():
        assert operator.get(f"{BASE}{row.pk}/change/").status_code == 200
        assert operator.post(f"{BASE}{row.pk}/change/", {}).status_code == 403
        assert operator.post(f"{BASE}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert operator.get(f"{BASE}add/").status_code == 403


async def test_a_reporter_keeps_what_redis_did_not_take(redis_url: str) -> None:
    url = redis_url.removesuffix("/0") + "/13"
    async with redis.asyncio.from_url(url) as client:
        await client.flushdb()
        await client.set(keys.GAPS, "in the way")
        reporter = GapReporter(client=client)
        running = asyncio.ensure_future(reporter.run())
        reporter.report(**gap(5, 7))
        with pytest.raises(redis.ResponseError):
            await reporter._write()
        await client.delete(keys.GAPS)
        assert await client.xread({keys.GAPS: "0"}, block=5_000), "not written again"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.flushdb()
