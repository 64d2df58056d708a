"""Minutes add up to hours and days, once each, and are forgotten in time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import redis

from gateway.operations import sampling
from gateway.operations.freshness import Look
from gateway.operations.models import Freshness
from streaming.bus import keys

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 30, 14, 7, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def sums(span: str, subject: str = "feed:books") -> list[tuple[int, int, int, int, int]]:
    rows = Freshness.objects.filter(span=span, subject=subject).order_by("start")
    return list(rows.values_list("looks", "fresh", "aged", "age_ms_sum", "age_ms_max"))


def test_looks_add_up() -> None:
    for n, look in enumerate([Look(True, 300), Look(True, 500), Look(False), Look(True)]):
        sampling.record({"feed:books": look}, NOW + n * MINUTE)
    assert sums("hour") == sums("day") == [(4, 3, 2, 800, 500)]
    assert len(sums("minute")) == 4


def test_two_beats_in_one_minute_are_one_look() -> None:
    sampling.record({"feed:books": Look(True, 300)}, NOW)
    sampling.record({"feed:books": Look(False)}, NOW + timedelta(seconds=20))
    assert sums("minute") == sums("hour") == sums("day") == [(1, 1, 1, 300, 300)]


def test_a_new_hour_and_a_new_day_begin_anew() -> None:
    for at in (NOW, NOW + timedelta(hours=1), NOW + timedelta(days=1)):
        sampling.record({"feed:books": Look(True, 100)}, at)
    assert [row[0] for row in sums("hour")] == [1, 1, 1]
    assert [row[0] for row in sums("day")] == [2, 1]


def test_what_is_old_is_forgotten_by_its_span() -> None:
    sampling.record({"feed:books": Look(True, 100)}, NOW)
    assert sampling.forget(NOW + timedelta(hours=47)) == 0
    assert sampling.forget(NOW + timedelta(days=3)) == 1
    assert sampling.forget(NOW + timedelta(days=46)) == 1
    assert len(sums("day")) == 1
    assert sampling.forget(NOW + timedelta(days=402)) == 1


@pytest.fixture
def bus(redis_url: str, settings: Any) -> Any:
    settings.REDIS_BUS_URL = redis_url
    client = redis.Redis.from_url(redis_url)
    client.delete(keys.WORKERS)
    yield client
    client.delete(keys.WORKERS)
    client.close()


def heartbeat(client: Any, **source: Any) -> None:
    """A worker's, as upstream/worker.py writes it."""
    state = {
        "at_s": time.time(),
        "sources": {
            "node0": {
                "kind": "node", "via": "files", "height": 1_000, "lag": 0, "silent_s": 0.1,
                "block_age_s": 0.4, "marks": [], "books_ready": True,
                "kinds": {k: {"height": 1_000, "silent_s": 0.1} for k in (
                    "node_fills", "node_raw_book_diffs", "node_order_statuses", "misc_events"
                )},
            } | source,
            "polled": {"kind": "polled", "topics": 0},
        },
    }  # fmt: skip
    client.sadd(keys.WORKERS, "w1")
    client.set(keys.WORKER.format(worker="w1"), orjson.dumps(state), ex=60)


def test_a_real_heartbeat_is_read(bus: Any) -> None:
    heartbeat(bus)
    assert sampling.sample(NOW) == 5
    assert sums("minute", "feed:trades") == [(1, 1, 1, 500, 500)]
    assert sums("minute", "upstream:node0") == [(1, 1, 1, 500, 500)]
    assert not Freshness.objects.filter(subject="upstream:polled").exists()


def test_a_stalled_node_is_stale(bus: Any) -> None:
    heartbeat(bus, marks=["stalled"], silent_s=12.0)
    sampling.sample(NOW)
    assert sums("minute", "feed:trades") == [(1, 0, 0, 0, 0)]


def test_when_workers_or_redis_are_gone_what_was_there_is_stale(bus: Any, settings: Any) -> None:
    heartbeat(bus)
    sampling.sample(NOW)
    bus.delete(keys.WORKERS)
    sampling.sample(NOW + MINUTE)
    settings.REDIS_BUS_URL = "redis://127.0.0.1:1/0"
    sampling.sample(NOW + 2 * MINUTE)
    assert [row[1] for row in sums("minute", "feed:books")] == [1, 0, 0]


def test_what_was_taken_away_an_hour_ago_is_not_missed(bus: Any) -> None:
    sampling.record({"upstream:node7": Look(True, 1)}, NOW - timedelta(hours=2))
    assert sampling.sample(NOW) == 0
