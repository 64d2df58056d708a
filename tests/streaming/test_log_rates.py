"""Rates: what topics say in an hour, whether one worker counts them, two, or one after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from streaming.bus import keys, rates
from streaming.bus.rates import RateBook
from streaming.core.topic import Kind, Topic
from streaming.nodes import selectors

BTC, ETH = Topic(Kind.TRADES, "BTC"), Topic(Kind.TRADES, "ETH")
NOON_S = 472_222 * 3600.0


class FakeClock:
    """Wall time in seconds, moved by the test."""

    def __init__(self) -> None:
        self.now_s = NOON_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def bus(settings: Any, redis_url: str) -> Iterator[redis.Redis]:
    settings.REDIS_BUS_URL = redis_url.removesuffix("/0") + "/15"
    with redis.Redis.from_url(settings.REDIS_BUS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


def flush(bus: redis.Redis, book: RateBook, *leased: Topic) -> None:
    for command in book.flush([topic.name for topic in leased]):
        bus.execute_command(*command)


def test_two_workers_that_count_the_same_make_one_rate(bus: redis.Redis) -> None:
    clock = FakeClock()
    books = [RateBook(worker=name, clock=clock) for name in ("one", "two")]
    for _ in range(90):  # minutes
        clock.now_s += 60
        for book in books:
            for _ in range(4):
                book.add(BTC.name, 250)
            flush(bus, book, BTC, ETH)
    rate = selectors.topic_rates(BTC, now_s=clock.now_s)
    assert (rate.messages_per_hour, rate.bytes_per_hour, rate.minutes) == (240.0, 60_000.0, 180)
    assert selectors.topic_rates(ETH, now_s=clock.now_s).messages_per_hour == 0.0
    assert selectors.topic_rates(ETH, now_s=clock.now_s).minutes == 180
    assert selectors.topic_rates(Kind.TRADES, now_s=clock.now_s).messages_per_hour == 120.0
    assert selectors.topic_rates(Kind.BBO, now_s=clock.now_s).minutes == 0


def test_a_worker_that_follows_another_goes_on(bus: redis.Redis) -> None:
    clock = FakeClock()
    for name in ("one", "two"):
        book = RateBook(worker=name, clock=clock)
        for _ in range(10):
            clock.now_s += 60
            book.add(BTC.name, 100)
            flush(bus, book, BTC)
    rate = selectors.topic_rates(BTC, now_s=clock.now_s)
    assert (rate.messages_per_hour, rate.minutes) == (60.0, 20)


def test_what_is_older_than_a_day_is_forgotten(bus: redis.Redis) -> None:
    clock = FakeClock()
    book = RateBook(worker="one", clock=clock)
    book.add(BTC.name, 100)
    flush(bus, book, BTC)
    for key in bus.scan_iter("relay:rates:*"):
        assert 0 < bus.ttl(key) <= rates.KEEP_S
    assert selectors.topic_rates(BTC, now_s=clock.now_s + 26 * 3600).minutes == 0


def test_redis_holds_a_bounded_number_of_topics(
    bus: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "MAX_TOPICS", 10)
    clock = FakeClock()
    book = RateBook(worker="one", clock=clock)
    for number in range(50):
        book.add(f"trades C{number}", 100)
    flush(bus, book)
    hour = int(clock.now_s // 3600)
    assert bus.hlen(keys.RATES.format(hour=hour, worker="one")) == 3 * 11
    # Nothing is lost to the kind.
    assert selectors.topic_rates(Kind.TRADES, now_s=clock.now_s).minutes == 50


def test_minutes_are_kept_by_kind(bus: redis.Redis) -> None:
    books = [RateBook(worker=name) for name in ("one", "two")]
    for book in books:
        book.add(BTC.name, 100)
        book.add(ETH.name, 50)
        book.add("bbo BTC", 10)
        flush(bus, book)
    minutes = selectors.minute_rates()
    assert 1 <= len(minutes) <= 2  # the clock of Redis may have passed a minute in between
    assert minutes[-1][1] == {"trades": (2, 150), "bbo": (1, 10)}
