"""An estimate is what the workers counted, times the hours, by the plan's prices: worked out a
second time here with fractions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.catalogue import services
from gateway.account.errors import BadValue, Unavailable
from gateway.account.estimate import Asked, estimate
from streaming.bus.log import Command
from streaming.bus.rates import RateBook
from streaming.core.catalogue import Catalogue
from streaming.core.topic import Kind, Topic
from tenants.models import Tenant
from tests.billing.catalogue.books import MAY, make_prices, make_tenant, publish

NOW = datetime.fromisoformat("2026-11-20T12:30:00+00:00")
COINS = Catalogue(frozenset({"BTC", "ETH", "SOL"}))
BTC, ETH, SOL = (Topic(Kind.TRADES, coin) for coin in ("BTC", "ETH", "SOL"))


@pytest.fixture
def bus(settings: Any, redis_url: str) -> Iterator[redis.Redis]:
    settings.REDIS_BUS_URL = redis_url.removesuffix("/0") + "/13"
    with redis.Redis.from_url(settings.REDIS_BUS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def acme(db: None) -> Tenant:
    """On a plan of $30 with 30,000 messages, overage on: $5 for each further thousand."""
    tenant = make_tenant("Acme")
    small = publish(make_prices("small", 30))
    publish(make_prices("large", 300, entitlements=replace(MAY, connections=50, coins=None)))
    services.subscribe(tenant, plan=small, now=NOW.replace(day=1))
    services.choose_overage(tenant, is_on=True, now=NOW.replace(day=2))
    return tenant


def count(bus: redis.Redis, minutes: int, *said: tuple[Topic, int, int], workers: int = 2) -> None:
    """Workers that followed these topics for so many minutes until now: messages a minute, and
    bytes of each."""
    for worker in range(workers):
        now_s = [NOW.timestamp() - 60 * minutes]
        book = RateBook(worker=f"w{worker}", clock=lambda now_s=now_s: now_s[0])
        commands: list[Command] = []
        for _ in range(minutes):
            now_s[0] += 60
            for topic, messages, size in said:
                for _ in range(messages):
                    book.add(topic.name, size)
            commands += book.flush([topic.name for topic, _, _ in said])
        with bus.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            pipe.execute()


def test_it_is_what_was_counted(bus: redis.Redis, acme: Tenant) -> None:
    count(bus, 90, (BTC, 7, 250), (ETH, 3, 100))
    asked = [
        Asked(subscription={"type": "trades", "coins": ["BTC", "ETH"]}, hours_per_day=Decimal(8)),
        Asked(subscription={"type": "trades", "coin": "BTC"}, connections=3),
    ]
    found = estimate(acme, asked, now=NOW, catalogue=COINS)

    month_h = Fraction(730)
    messages = math.ceil((7 + 3) * 60 * month_h / 3 + 3 * 7 * 60 * month_h)
    size = math.ceil((7 * 250 + 300) * 60 * month_h / 3 + 3 * 7 * 250 * 60 * month_h)
    assert found.messages_per_month == messages
    assert found.bytes_per_month == size
    # Of a coin the longest: BTC all day, ETH eight hours.
    assert found.coin_minutes_per_month == math.ceil(month_h * 60 + month_h * 60 / 3)
    assert found.messages_per_s == pytest.approx((10 + 21) / 60, abs=0.001)
    assert [line.basis for line in found.lines] == ["measured", "measured"]

    assert found.plan is not None
    over = messages - 30_000
    cents = round(Fraction(5 * over, 1_000) * 100)
    assert found.plan.per_month == Decimal(3_000 + cents) / 100
    assert found.plan.serves_all
    assert [cost.code for cost in found.offers] == ["small", "large"]
    assert found.cheapest == "small"


def test_it_says_how_much_was_measured(bus: redis.Redis, acme: Tenant) -> None:
    count(bus, 90, (BTC, 7, 250))
    btc = Asked(subscription={"type": "trades", "coin": "BTC"})
    found = estimate(acme, [btc], now=NOW, catalogue=COINS)
    assert found.measured_hours == 1.5
    assert not found.is_whole_day
    assert "Less than 24 hours were measured: 1.5 of the least known topic." in found.assumptions


def test_whom_others_follow_is_not_told(bus: redis.Redis, acme: Tenant) -> None:
    followed, other = ("0x" + digit * 40 for digit in "ab")
    count(bus, 90, (Topic(Kind.USER_FILLS, user=followed), 7, 250))
    told = [
        estimate(
            acme,
            [Asked(subscription={"type": "userFills", "user": user})],
            now=NOW,
            catalogue=COINS,
        )
        for user in (followed, other)
    ]
    assert told[0] == told[1]
    assert told[0].lines[0].basis == "average"
    assert told[0].messages_per_month == 7 * 60 * 730


def test_a_whole_day_is_one(bus: redis.Redis, acme: Tenant) -> None:
    count(bus, 24 * 60, (BTC, 1, 10), workers=1)
    btc = Asked(subscription={"type": "trades", "coin": "BTC"})
    found = estimate(acme, [btc], now=NOW, catalogue=COINS)
    assert found.is_whole_day
    assert found.measured_hours == 24
    assert not any("Less than" in line for line in found.assumptions)


def test_what_nobody_followed_is_an_average_and_else_nothing(
    bus: redis.Redis, acme: Tenant
) -> None:
    count(bus, 60, (BTC, 6, 100), (ETH, 2, 100))
    asked = [
        Asked(subscription={"type": "trades", "coin": "SOL"}),
        Asked(subscription={"type": "trades", "coin": "BTC"}, connections=1),
        Asked(subscription={"type": "bbo", "coin": "BTC"}),
    ]
    found = estimate(acme, asked, now=NOW, catalogue=COINS)
    assert [line.basis for line in found.lines] == ["average", "measured", "unmeasured"]
    assert found.lines[0].messages_per_month == 4 * 60 * 730
    assert found.lines[2].messages_per_month == 0
    assert "1 of the topics are users', or were followed by nobody; the average" in "\n".join(
        found.assumptions
    )
    assert "they count as nothing" in "\n".join(found.assumptions)


def test_a_plan_that_is_too_small_is_not_the_cheapest(bus: redis.Redis, acme: Tenant) -> None:
    count(bus, 60, (BTC, 1, 10))
    asked = [Asked(subscription={"type": "trades", "coin": "BTC"}, connections=9)]
    found = estimate(acme, asked, now=NOW, catalogue=COINS)
    assert found.cheapest == "large"
    assert found.plan is not None
    assert found.plan.too_small == ("connections: 9 of 3",)


def test_a_plan_without_the_channel_does_not_serve_it(bus: redis.Redis, acme: Tenant) -> None:
    count(bus, 10, (BTC, 1, 10))
    may = replace(MAY, channels=("bbo",))
    publish(make_prices("narrow", 1, entitlements=may))
    publish(make_prices("named", 2, entitlements=replace(may, channels=("trades",))))
    asked = [Asked(subscription={"type": "trades", "coin": "BTC"}, hours_per_day=Decimal(1))]
    found = estimate(acme, asked, now=NOW, catalogue=COINS)
    missing = {cost.code: cost.missing for cost in found.offers}
    assert (missing["narrow"], missing["named"]) == (("trades",), ())
    assert found.cheapest == "named"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([], "subscriptions: 1 to 100"),
        ([Asked(subscription={"type": "none"})], "There is no subscription type"),
        ([Asked(subscription={"type": "trades", "coin": "NOPE"})], "subscriptions[0]"),
        (
            [Asked(subscription={"type": "trades", "coin": "BTC"}, hours_per_day=Decimal(25))],
            "hours_per_day: 25 is not within 0 and 24",
        ),
        (
            [Asked(subscription={"type": "trades", "coin": "BTC"}, connections=0)],
            "connections: 1 to 10,000",
        ),
    ],
)
def test_bad_input(bus: redis.Redis, acme: Tenant, asked: list[Asked], says: str) -> None:
    with pytest.raises(BadValue, match=says.replace("[", r"\[").replace("]", r"\]")):
        estimate(acme, asked, now=NOW, catalogue=COINS)


def test_statements_do_not_grow_with_what_is_asked(bus: redis.Redis, acme: Tenant) -> None:
    def statements(count: int) -> int:
        asked = [Asked(subscription={"type": "trades", "coin": "BTC"})] * count
        with CaptureQueriesContext(connection) as captured:
            estimate(acme, asked, now=NOW, catalogue=COINS)
        return len(captured)

    statements(1)  # prices are read once a process
    assert statements(1) == statements(50)


def test_without_redis_it_says_so(settings: Any, acme: Tenant) -> None:
    settings.REDIS_BUS_URL = "redis://127.0.0.1:9/0"
    with pytest.raises(Unavailable):
        estimate(acme, [Asked(subscription={"type": "allMids"})], now=NOW)
