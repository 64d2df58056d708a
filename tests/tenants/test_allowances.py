"""Allowances and key quotas: what counts, what is refused, and that Redis may lose all of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tenants.admission import allowances as room
from tenants.admission.allowances import SETTLE_EVERY_S, Allowances, Used
from tenants.admission.caps import MICRO, Standing, Usage, caps_of, next_change, standing
from tenants.admission.errors import QuotaExhausted
from tenants.admission.principal import Allowed, Principal
from tenants.admission.used_store import Line, Settlement, UsedStore
from tests.tenants.test_directory import principal

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MONTH = datetime(2026, 11, 1, tzinfo=UTC)
NEXT = datetime(2026, 12, 1, tzinfo=UTC)


def allowed(code: str = "messages", units: int = 1_000, **changes: Any) -> Allowed:
    made = Allowed(code, "messages", MONTH, NEXT, units, is_hard=True)
    return made._replace(**changes)


def customer(*allowances: Allowed, **changes: Any) -> Principal:
    return principal(allowances=allowances, **changes)


# --- what counts (pure) ---


def test_an_allowance_without_channels_counts_what_no_other_names() -> None:
    weights = (("l4Book", "2.5"),)
    everything, bulk = caps_of(
        customer(allowed(), allowed("l4", channels=("l4Book",), weights=weights)), NOON
    )
    trades, book = Usage(7, "trades", 10, 900, 3), Usage(7, "l4Book", 10, 900, 3)
    assert (everything.micros(trades), everything.micros(book)) == (10 * MICRO, 0)
    assert (bulk.micros(trades), bulk.micros(book)) == (0, 25 * MICRO)
    assert not everything.is_whole
    assert caps_of(customer(allowed()), NOON)[0].is_whole


def test_an_allowance_counts_in_its_time_and_of_its_metric() -> None:
    assert caps_of(customer(allowed()), NEXT) == ()
    assert caps_of(customer(allowed()), MONTH) != ()
    (cap,) = caps_of(customer(allowed(metric="bytes")), NOON)
    assert cap.micros(Usage(7, "info", 0, 5, 1)) == 5 * MICRO


def test_a_days_quota_begins_anew_at_midnight_utc() -> None:
    key = customer(daily_quota=100, monthly_quota=1_000, family_id=3)
    day, month = caps_of(key, datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC))
    assert (day.ends_at, month.ends_at) == (NEXT, NEXT)
    after, _ = caps_of(key, NEXT)
    assert after.name != day.name
    assert after.starts_at == NEXT
    assert day.micros(Usage(7, "info", 2, 100, 3)) == 5 * MICRO
    assert next_change(key, NOON) == NEXT


@given(st.integers(1, 10**12), st.integers(0, 2 * 10**12))
def test_thresholds_are_passed_at_their_unit(units: int, used: int) -> None:
    (cap,) = caps_of(customer(allowed(units=units)), NOON)
    current = standing(cap, used * MICRO)
    passed = [percent for percent in (75, 80, 100, 150) if used * 100 >= percent * units]
    assert current.threshold == max(passed, default=0)
    assert current.is_exhausted == (used >= units)


def test_of_nothing_nothing_is_warned_before_it_is_used() -> None:
    (cap,) = caps_of(customer(allowed(units=0)), NOON)
    assert standing(cap, 0) == Standing(cap, 0, 0)
    assert standing(cap, 0).is_exhausted
    assert standing(cap, 1).threshold == 150


# --- processes that settle ---


class Process:
    """One process: its own book on the common Redis, and a meter in the test's hand."""

    def __init__(self, relay: Relay, name: str) -> None:
        self.store = UsedStore(relay.url, process=name)
        self.counted: list[Usage] = []
        self.told: list[Standing] = []
        self.warned: list[Standing] = []
        self.is_down = self.is_deaf = False
        self.book = Allowances(
            self,
            load_used=relay.load_used,
            processes=lambda: relay.processes,
            on_standing=self.told.append,
            warn=self.warned.extend,
            now=lambda: relay.now,
        )
        self.book.meter = self._meter

    def _meter(self) -> list[list[Usage]]:
        counted, self.counted = self.counted, []
        return [counted]

    async def settle(self, settlements: list[Settlement]) -> list[list[int | None]]:
        if self.is_down:
            raise OSError("down")
        answers = await self.store.settle(settlements)
        if self.is_deaf:
            raise TimeoutError
        return answers

    async def read(self, tenant_id: int, names: list[str]) -> list[int | None]:
        if self.is_down:
            raise OSError("down")
        return await self.store.read(tenant_id, names)

    async def use(self, key: Principal, messages: int, channel: str = "trades") -> None:
        self.book.know(key)
        self.counted.append(Usage(key.key_id, channel, messages, messages * 100, 0))
        await self.book.settle()

    def refusal(self, key: Principal, channel: str | None = None) -> QuotaExhausted | None:
        return self.book.refusal(key, "messages", channel=channel)


class Relay:
    def __init__(self, url: str) -> None:
        self.url = url.removesuffix("/0") + "/10"
        self.redis = redis.Redis.from_url(self.url)
        self.redis.flushdb()
        self.now = NOON
        self.processes = 2
        self.database: list[Used] = []
        self.asked = 0
        self.opened: list[Process] = []

    def load_used(self, tenant_id: int, start: datetime, end: datetime) -> list[Used]:
        assert (tenant_id, start <= self.now < end) == (1, True)
        self.asked += 1
        return self.database

    def start(self) -> Process:
        self.opened.append(Process(self, f"p{len(self.opened)}"))
        return self.opened[-1]

    @property
    def used(self) -> list[int]:
        return sorted(int(self.redis.get(key) or 0) for key in self.redis.keys("relay:used:*"))


@pytest.fixture
async def relay(redis_url: str) -> Any:
    relay = Relay(redis_url)
    yield relay
    for process in relay.opened:
        await process.store.aclose()
    relay.redis.close()


async def settled(*processes: Process) -> None:
    """Until everything that was used is told: nobody had told, the database says so, it is told."""
    for _ in range(4):
        for process in processes:
            await process.book.settle()


async def test_processes_add_up_and_refuse_together(relay: Relay) -> None:
    one, two, key = relay.start(), relay.start(), customer(allowed(units=1_000))
    await one.use(key, 600)
    await settled(one)
    await two.use(key, 399)
    await settled(two, one)
    assert relay.used == [999_000]
    assert one.refusal(key) is None
    await two.use(key, 1)
    denied = two.refusal(key)
    assert denied is not None
    assert (denied.used, denied.limit, denied.resets_at) == (1_000, 1_000, NEXT)
    assert denied.retry_after_s == (NEXT - NOON).total_seconds()
    await one.use(key, 1)
    assert one.refusal(key) is not None
    assert all(relay.redis.ttl(name) > 0 for name in relay.redis.keys("relay:*"))


async def test_a_process_that_has_just_begun_knows_before_it_lets_in(relay: Relay) -> None:
    one, two, key = relay.start(), relay.start(), customer(allowed(units=10))
    await one.use(key, 10)
    await settled(one)
    two.book.know(key)
    await two.book.learn(key)
    assert two.refusal(key) is not None


async def test_an_allowance_of_one_channel_leaves_the_others_open(relay: Relay) -> None:
    one = relay.start()
    key = customer(allowed(units=10), allowed("l4", 5, channels=("l4Book",)))
    await one.use(key, 5, "l4Book")
    assert one.refusal(key, "l4Book") is not None
    assert one.refusal(key, "trades") is None
    assert one.refusal(key) is None


async def test_what_is_soft_is_told_and_never_refused(relay: Relay) -> None:
    one, key = relay.start(), customer(allowed(units=100, is_hard=False))
    for _ in range(16):
        await one.use(key, 10)
    assert one.refusal(key) is None
    assert [standing.threshold for standing in one.warned] == [80, 100, 150]
    assert [standing.threshold for standing in one.told] == [80, 100, 150]


async def test_a_settlement_that_was_not_answered_counts_once(relay: Relay) -> None:
    one, key = relay.start(), customer(allowed())
    await one.use(key, 1)
    await settled(one)
    one.is_deaf = True
    await one.use(key, 100)
    await one.use(key, 10)
    assert relay.used == [101_000]
    one.is_deaf = False
    await settled(one)
    assert relay.used == [111_000]


async def test_the_same_number_adds_nothing(relay: Relay) -> None:
    one = relay.start()
    first, second = (Settlement(1, number, (Line("x", 7, 0, NEXT),)) for number in (5, 6))
    assert await one.store.settle([first]) == [[None]]  # nobody had told: nothing was, now
    assert await one.store.settle([second, second, first]) == [[7], [7], [7]]


async def test_a_redis_that_lost_all_neither_resets_nor_doubles(relay: Relay) -> None:
    one, two, key = relay.start(), relay.start(), customer(allowed(units=10_000))
    await one.use(key, 1_000)
    await settled(one)
    await two.use(key, 500)
    await settled(two, one)
    one.is_down = two.is_down = True
    relay.database = [Used(7, "messages", "trades", 1_700)]  # some of what is not told yet
    await one.use(key, 200)
    await two.use(key, 300)
    relay.redis.flushdb()
    one.is_down = two.is_down = False
    fresh = relay.start()
    await fresh.use(key, 7)
    await settled(one, two, fresh)
    assert relay.used == [2_007_000]


async def test_a_redis_of_yesterday_is_put_right(relay: Relay) -> None:
    one, key = relay.start(), customer(allowed(units=10_000))
    await one.use(key, 1_000)
    await settled(one)
    (name,) = relay.redis.keys("relay:used:*")
    relay.redis.set(name, 3_000)  # from an old file
    await one.use(key, 1)
    await settled(one)
    assert relay.used == [1_001_000]


async def test_where_all_is_lost_the_database_says_what_was_used(relay: Relay) -> None:
    one = relay.start()
    key = customer(allowed(weights=(("bbo", "0.5"),)), daily_quota=500, family_id=3)
    relay.database = [
        Used(3, "messages", "trades", 100),
        Used(3, "messages", "bbo", 100),
        Used(3, "requests", "info", 10),
        Used(4, "messages", "trades", 7),
        Used(4, "bytes", "trades", 10**9),
    ]
    await one.use(key, 1)
    await settled(one)
    assert relay.used == [157_000 + 1_000, 210_000 + 1_000]
    assert relay.asked == 2


async def test_a_tenant_whose_question_fails_or_hangs_keeps_no_other_waiting() -> None:
    asked: list[int] = []
    hangs, now = threading.Event(), [NOON]

    def load(tenant_id: int, *_: datetime) -> list[Used]:
        asked.append(tenant_id)
        if tenant_id == 1:
            raise OSError("down")
        if tenant_id == 2:
            hangs.wait(60)
        return [Used(tenant_id, "messages", "trades", 10)]

    book = Allowances(None, load_used=load, now=lambda: now[0])
    keys = [customer(allowed(units=10), tenant_id=number, key_id=number) for number in range(1, 9)]
    for key in keys:
        book.know(key)
        book.refusal(key, "messages")
    try:
        for second in range(5):
            now[0] = NOON + timedelta(seconds=second)
            await book.settle()
        refused = [key.tenant_id for key in keys if book.refusal(key, "messages")]
    finally:
        hangs.set()
    assert refused == [3, 4, 5, 6, 7, 8]
    assert sorted(asked) == [1, 2, 3, 4, 5, 6, 7, 8]
    now[0] = NOON + timedelta(seconds=6)
    await book.settle()
    assert asked.count(1) == 2  # after a pause


async def test_nobody_asks_the_database_at_midnight(relay: Relay) -> None:
    one, key = relay.start(), customer(daily_quota=10)
    await one.use(key, 10)
    await settled(one)
    asked = relay.asked
    assert one.refusal(key) is not None
    relay.now = NEXT
    assert one.refusal(key) is None
    await one.use(key, 4)
    await settled(one)
    assert relay.asked == asked
    assert relay.used == [4_000, 10_000]
    relay.now = NEXT + timedelta(minutes=3)
    await one.use(key, 6)
    assert one.refusal(key) is not None


async def test_without_redis_a_process_has_its_share_of_what_was_left(relay: Relay) -> None:
    one, key = relay.start(), customer(allowed(units=1_000))
    await one.use(key, 200)
    await settled(one)
    one.is_down = True
    await one.use(key, 399)
    assert one.refusal(key) is None
    await one.use(key, 1)  # half of 800
    assert one.refusal(key) is not None
    assert one.book.is_alone
    one.is_down = False
    await settled(one)
    assert one.refusal(key) is None
    assert relay.used == [600_000]


async def test_a_larger_allowance_lets_in_again_and_is_told_anew(relay: Relay) -> None:
    one, small, large = relay.start(), customer(allowed(units=10)), customer(allowed(units=20))
    await one.use(small, 10)
    assert one.refusal(small) is not None
    one.book.know(large)
    assert one.refusal(large) is None
    await one.use(large, 5)
    assert [(told.threshold, told.cap.units) for told in one.warned] == [(100, 10), (75, 20)]


async def test_what_a_plan_has_none_of_is_told_to_who_uses_it(relay: Relay) -> None:
    one, key = relay.start(), customer(allowed(), allowed("l4", units=0, channels=("l4Book",)))
    await one.use(key, 1)
    assert one.refusal(key, "l4Book") is not None
    await settled(one)
    assert (one.told, one.warned) == ([], [])
    await one.use(key, 1, "l4Book")
    assert [(told.cap.code, told.is_exhausted) for told in one.told] == [("l4", True)]


async def test_coin_minutes_are_asked_of_the_database_each_minute(relay: Relay) -> None:
    one, key = relay.start(), customer(allowed("coins", 100, metric="coin_minutes"))
    relay.database = [Used(7, "coin_minutes", "coins", 60), Used(7, "messages", "bbo", 10**6)]
    one.book.know(key)
    await one.book.learn(key)
    await settled(one)
    assert one.book.refusal(key, "coin_minutes", channel="coins") is None
    relay.database = [Used(7, "coin_minutes", "coins", 100)]
    await one.use(key, 10)
    assert (one.told, relay.asked) == ([], 1)
    relay.now += timedelta(seconds=60)
    await one.book.settle()
    denied = one.book.refusal(key, "coin_minutes", channel="coins")
    assert denied is not None
    assert (denied.used, denied.limit) == (100, 100)
    assert one.refusal(key, "trades") is None
    assert [(told.used, told.is_exhausted) for told in one.told] == [(100, True)]
    assert relay.used == []  # they are no process' to tell


async def test_who_is_gone_is_not_asked_about_each_minute(relay: Relay) -> None:
    asked: list[int] = []
    book = Allowances(
        None,
        load_used=lambda tenant_id, *_: asked.append(tenant_id) or [],  # type: ignore[func-returns-value]
        is_open=lambda tenant_id: tenant_id == 2,
        now=lambda: relay.now,
    )
    for tenant_id in (1, 2):
        key = customer(allowed(metric="coin_minutes"), tenant_id=tenant_id, key_id=tenant_id)
        book.know(key)
        await book.learn(key)
    for _ in range(3):
        await book.settle()
        relay.now += timedelta(seconds=60)
    assert asked == [2, 2, 2]


async def test_a_day_that_is_over_closes_nothing(relay: Relay) -> None:
    one, key = relay.start(), customer(daily_quota=10)
    await one.use(key, 11)
    await settled(one)
    assert one.told[-1].is_exhausted
    relay.now = NEXT + timedelta(seconds=1)
    one.told.clear()
    await one.use(key, 1)
    await settled(one)
    assert one.refusal(key) is None
    assert one.told == []
    assert [name.rpartition(":")[2] for name in one.book._accounts[1]] == ["20261201"]


async def test_a_cap_that_was_taken_away_closes_nothing(relay: Relay) -> None:
    one, soft = relay.start(), allowed(units=10**6, is_hard=False)
    capped = customer(soft, allowed("messages+cap", 20))
    await one.use(capped, 30)
    await settled(one)
    assert one.told[-1].is_exhausted
    one.told.clear()
    idle = customer(soft, allowed("messages+cap", 20), key_id=8)
    one.book.know(idle)  # used long ago, and knows the cap as it was
    free = customer(soft)
    for _ in range(3):
        await one.use(free, 1)
    assert one.refusal(free) is None
    assert one.told == []


async def test_what_is_taken_away_is_told_first(relay: Relay) -> None:
    one, key = relay.start(), customer(allowed(units=1_000))
    await one.use(key, 5)
    await settled(one)
    one.is_down = True
    await one.use(key, 7)
    one.book.know(customer())
    await settled(one)
    one.is_down = False
    await settled(one)
    assert relay.used == [12_000]
    assert one.book._accounts == {}


async def test_a_spend_cap_that_moves_is_told_once(relay: Relay) -> None:
    one = relay.start()
    await one.use(customer(allowed(units=100)), 85)
    for units in (99, 101, 98, 103):
        await one.use(customer(allowed(units=units)), 1)
    assert [told.threshold for told in one.told] == [80]
    assert [told.threshold for told in one.warned] == [80]


async def test_a_code_of_two_metrics_is_two_caps(relay: Relay) -> None:
    key = customer(allowed("all", 10_000), allowed("all", 50, metric="bytes"))
    assert len({cap.name for cap in caps_of(key, NOON)}) == 2
    one = relay.start()
    await one.use(key, 2)
    assert one.book.refusal(key, "messages") is None
    assert one.book.refusal(key, "bytes") is not None


async def test_rotations_share_a_quota_and_other_keys_do_not(relay: Relay) -> None:
    one = relay.start()
    first = customer(daily_quota=10, key_id=3, family_id=3)
    second = customer(daily_quota=10, key_id=4, family_id=3)
    other = customer(daily_quota=10, key_id=5, family_id=5)
    await one.use(first, 6)
    await one.use(second, 4)
    one.book.know(other)
    assert one.refusal(first) is not None
    assert one.refusal(second) is not None
    assert one.refusal(other) is None


async def test_a_key_without_caps_costs_nothing(relay: Relay) -> None:
    one = relay.start()
    await one.use(customer(), 1_000)
    await settled(one)
    assert relay.redis.dbsize() == 0


async def test_the_overshoot_is_what_two_settlements_let_through(relay: Relay) -> None:
    """Each of three processes delivers 50 a second and closes when it hears: the last hears of the
    end two settlements after it at most."""
    relay.processes = 3
    processes, rate = [relay.start() for _ in range(3)], 50
    key = customer(allowed(units=1_000))
    for process in processes:
        process.book.know(key)
    delivered = 0
    for _ in range(40):
        for process in processes:
            if process.refusal(key) is None:
                delivered += rate
                await process.use(key, rate)
            else:
                await process.book.settle()
    assert all(process.refusal(key) is not None for process in processes)
    assert 1_000 <= delivered <= 1_000 + 2 * SETTLE_EVERY_S * rate * len(processes)
    assert room.SETTLE_EVERY_S == 1.0
