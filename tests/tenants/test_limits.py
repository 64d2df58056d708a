"""No bucket spends more than capacity plus refill; no tenant holds more than its plan allows."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay_site.processes import free_port
from tenants.admission.caps import Usage
from tenants.admission.control import AdmissionControl
from tenants.admission.directory import Directory
from tenants.admission.errors import (
    KINDS,
    Denied,
    RateLimited,
    TooManyCoins,
    TooManyConnections,
    TooManySubscriptions,
    TooManyUsers,
)
from tenants.admission.limiter import Rate, TokenBucket
from tenants.admission.principal import Allowed, Limits, Principal
from tenants.admission.quotas import Held, Lease, Occupancy
from tenants.admission.store import RedisStore
from tenants.admission.wrong_keys import WRONG_BURST, WRONG_PER_MINUTE, WrongKeys
from tests.tenants.test_directory import principal


@given(
    capacity=st.floats(0.5, 100),
    refill=st.floats(0.1, 100),
    steps=st.lists(st.tuples(st.floats(-1, 3), st.floats(0, 50)), max_size=60),
)
def test_no_bucket_spends_more_than_capacity_plus_refill(
    capacity: float, refill: float, steps: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(capacity=capacity, refill_per_s=refill, now_s=0.0)
    now_s = latest_s = spent = 0.0
    for step_s, weight in steps:
        now_s += step_s
        latest_s = max(latest_s, now_s)
        if bucket.take(weight, now_s=now_s) == 0.0:
            spent += weight
    assert spent <= capacity + refill * latest_s + 1e-6


@given(st.floats(0.5, 100), st.floats(0.1, 100), st.floats(0.1, 100))
def test_the_wait_it_names_is_enough(capacity: float, refill: float, weight: float) -> None:
    bucket = TokenBucket(capacity=capacity, refill_per_s=refill, now_s=0.0)
    bucket.take(capacity, now_s=0.0)
    wait_s = bucket.take(weight, now_s=0.0)
    if weight > capacity:
        assert wait_s == float("inf")
    else:
        assert bucket.take(weight, now_s=wait_s * (1 + 1e-9) + 1e-9) == 0.0


def test_a_bucket_must_hold_and_refill_something() -> None:
    with pytest.raises(ValueError, match="positive"):
        TokenBucket(capacity=0, refill_per_s=1, now_s=0)


def test_connections_stop_at_the_limit_and_come_back() -> None:
    occupancy = Occupancy()
    first, _second = occupancy.open(principal()), occupancy.open(principal())
    with pytest.raises(TooManyConnections) as refused:
        occupancy.open(principal())
    assert (refused.value.used, refused.value.limit) == (2, 2)
    first.close()
    first.close()
    occupancy.open(principal())
    assert occupancy.held(1) == Held(2, 0)


def test_all_keys_of_a_tenant_share_its_limits_and_tenants_do_not() -> None:
    occupancy = Occupancy()
    occupancy.open(principal("a" * 64, key_id=1))
    occupancy.open(principal("b" * 64, key_id=2))
    with pytest.raises(TooManyConnections):
        occupancy.open(principal("c" * 64, key_id=3))
    occupancy.open(principal("e" * 64, key_id=4, tenant_id=2))


def test_subscriptions_stop_at_the_limit_and_the_others_stay() -> None:
    occupancy = Occupancy()
    lease, other = occupancy.open(principal()), occupancy.open(principal())
    for _ in range(6):
        lease.subscribe()
    for _ in range(4):
        other.subscribe()
    with pytest.raises(TooManySubscriptions) as refused:
        other.subscribe()
    assert (refused.value.used, refused.value.limit) == (10, 10)
    assert (lease.subscriptions, other.subscriptions) == (6, 4)
    lease.close()
    other.subscribe()
    assert occupancy.held(1) == Held(1, 5)


def test_a_lease_gives_back_only_what_it_holds() -> None:
    lease = Occupancy().open(principal())
    with pytest.raises(RuntimeError):
        lease.unsubscribe()
    lease.close()
    with pytest.raises(RuntimeError):
        lease.subscribe()


def test_new_limits_count_at_once_for_what_is_open() -> None:
    occupancy = Occupancy()
    lease = occupancy.open(principal())
    lease.subscribe()
    occupancy.refresh(principal(limits=Limits(2, 1)))
    with pytest.raises(TooManySubscriptions):
        lease.subscribe()
    assert lease.subscriptions == 1


def test_what_other_processes_hold_counts() -> None:
    occupancy = Occupancy()
    occupancy.set_elsewhere({1: Held(1, 9)})
    lease = occupancy.open(principal())
    with pytest.raises(TooManyConnections):
        occupancy.open(principal())
    lease.subscribe()
    with pytest.raises(TooManySubscriptions):
        lease.subscribe()
    occupancy.set_elsewhere({})
    occupancy.open(principal())


async def test_processes_tell_each_other_through_redis(redis_url: str) -> None:
    redis.Redis.from_url(redis_url).flushdb()
    store = RedisStore(redis_url)
    assert await store.trade_occupancy("a", {1: Held(1, 2), 5: Held(1, 0)}) == {}
    assert await store.trade_occupancy("b", {1: Held(3, 4)}) == {1: Held(1, 2), 5: Held(1, 0)}
    assert await store.trade_occupancy("c", {}) == {1: Held(4, 6), 5: Held(1, 0)}
    await store.leave("a")
    assert await store.trade_occupancy("c", {}) == {1: Held(3, 4)}
    await store.aclose()


class OccupancyLaws(RuleBasedStateMachine):
    """Whatever is opened and closed in whatever order, the counts are those of what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.occupancy = Occupancy()
        self.leases: list[Lease] = []

    def _principal(self, tenant_id: int, key: int) -> Principal:
        return principal(f"{tenant_id}-{key}", tenant_id=tenant_id, key_id=key, limits=Limits(3, 5))

    @rule(tenant_id=st.integers(1, 2), key=st.integers(1, 2))
    def open(self, tenant_id: int, key: int) -> None:
        is_full = self.occupancy.held(tenant_id).connections == 3
        try:
            self.leases.append(self.occupancy.open(self._principal(tenant_id, key)))
        except TooManyConnections:
            assert is_full
        else:
            assert not is_full

    @rule(place=st.integers(0, 9))
    def subscribe(self, place: int) -> None:
        if place < len(self.leases):
            lease = self.leases[place]
            is_full = self.occupancy.held(lease.principal.tenant_id).subscriptions == 5
            try:
                lease.subscribe()
            except TooManySubscriptions:
                assert is_full
            else:
                assert not is_full

    @rule(place=st.integers(0, 9))
    def unsubscribe(self, place: int) -> None:
        if place < len(self.leases) and self.leases[place].subscriptions:
            self.leases[place].unsubscribe()

    @rule(place=st.integers(0, 9))
    def close(self, place: int) -> None:
        if place < len(self.leases):
            self.leases.pop(place).close()

    @invariant()
    def counts_are_those_of_what_is_open(self) -> None:
        for tenant_id in (1, 2):
            own = [lease for lease in self.leases if lease.principal.tenant_id == tenant_id]
            held = self.occupancy.held(tenant_id)
            assert held == Held(len(own), sum(lease.subscriptions for lease in own))
        open_keys = {lease.principal.digest for lease in self.leases}
        assert {known.digest for known in self.occupancy.principals()} == open_keys
        assert set(self.occupancy.all_held()) == {
            lease.principal.tenant_id for lease in self.leases
        }


TestOccupancyLaws = OccupancyLaws.TestCase


def test_every_refusal_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS) == len(Denied.__subclasses__())
    assert {kind.http_status for kind in KINDS} == {401, 403, 429, 503}


def test_distinct_coins_and_users_are_counted_over_all_connections() -> None:
    occupancy = Occupancy()
    limited = principal(limits=Limits(9, 90, max_coins=2, max_users=1))
    one, two = occupancy.open(limited), occupancy.open(limited)
    one.subscribe("BTC", "")
    two.subscribe("BTC", "")
    two.subscribe("ETH", "0xada")
    one.subscribe("", "")  # names none
    with pytest.raises(TooManyCoins) as coins:
        one.subscribe("SOL", "")
    with pytest.raises(TooManyUsers) as users:
        one.subscribe("ETH", "0xben")
    assert (coins.value.used, coins.value.limit) == (2, 2)
    assert (users.value.used, users.value.limit) == (1, 1)
    assert occupancy.held(1) == Held(2, 4, 2, 1)
    two.close()
    one.subscribe("SOL", "0xben")
    assert occupancy.held(1) == Held(1, 3, 2, 1)
    one.unsubscribe("BTC", "")
    with pytest.raises(RuntimeError):
        one.unsubscribe("BTC", "")
    occupancy.set_elsewhere({1: Held(coins=2)})
    with pytest.raises(TooManyCoins):
        one.subscribe("BTC", "")
    one.subscribe("SOL", "")


async def test_a_request_that_one_rate_refuses_costs_the_other_nothing() -> None:
    control = AdmissionControl(Directory(load=lambda _: {}), Occupancy(), monotonic=lambda: 1_000.0)
    key = principal(rate=Rate(60, 10), limits=Limits(1, 1, rate=Rate(60, 4)))
    assert await control.charge(key, 4)
    with pytest.raises(RateLimited) as refused:
        await control.charge(key, 2)
    assert refused.value.retry_after_s == pytest.approx(2.0)
    assert dict(refused.value.headers)[b"ratelimit"] == b'"default";r=6;t=4, "plan";r=0;t=4'
    await control.aclose()


def test_wrong_keys_are_counted_by_address_in_bounded_memory() -> None:
    wrong = WrongKeys(max_addresses=10)
    assert not wrong.is_flooding("192.0.2.1", now_s=0)
    for number in range(WRONG_BURST):
        place = f"2001:db8::{number:x}"  # one network
        assert wrong.count(place, now_s=0) == 0.0
    assert wrong.is_flooding("2001:db8::ffff", now_s=0)
    assert wrong.count("2001:db8::1:1", now_s=0) == pytest.approx(60 / WRONG_PER_MINUTE)
    assert not wrong.is_flooding("2001:db8::ffff", now_s=2)
    assert wrong.count("", now_s=0) == 0.0
    for number in range(100):
        wrong.count(f"192.0.2.{number}", now_s=2)
    assert len(wrong) == 10


async def test_a_host_whose_clock_is_ahead_deletes_nobody(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.delete("relay:occupancy")
    ahead, other = RedisStore(redis_url), RedisStore(redis_url)
    await other.trade_occupancy("here", {1: Held(1, 2)})
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 4_000_000_000.0)
        assert await ahead.trade_occupancy("ahead", {}) == {1: Held(1, 2)}
    assert ahead.processes == 2
    assert await other.trade_occupancy("here", {1: Held(1, 2)}) == {}
    assert other.processes == 2
    for store in (ahead, other):
        await store.aclose()


async def admitted_in_a_minute(key: Principal, weight: int) -> int:
    clock = [0.0]
    control = AdmissionControl(
        Directory(load=lambda _: {}), Occupancy(), monotonic=lambda: clock[0]
    )
    admitted = 0
    for tenth in range(600):
        clock[0] = tenth / 10
        with contextlib.suppress(RateLimited):
            while True:
                await control.charge(key, weight, default=Rate(per_minute=1_200, burst=1_200))
                admitted += 1
    await control.aclose()
    return admitted


async def test_a_plan_s_rate_can_be_reached_and_a_key_s_own_narrows_it() -> None:
    plan = Limits(1, 1, rate=Rate(per_minute=30_000, burst=5_000))
    assert await admitted_in_a_minute(principal(limits=plan), 20) == pytest.approx(1_749, abs=3)
    own = principal(limits=plan, rate=Rate(per_minute=600, burst=100))
    assert await admitted_in_a_minute(own, 20) == pytest.approx(34, abs=1)
    assert await admitted_in_a_minute(principal(), 20) == pytest.approx(119, abs=1)


async def test_processes_that_begin_without_redis_give_one_rate_together(settings: Any) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    settings.REDIS_CACHE_URL, settings.RELAY_PROCESSES = nobody, 5
    assert AdmissionControl.from_settings().processes() == 5
    key, clock, admitted = principal(rate=Rate(per_minute=1, burst=100)), [0.0], 0
    for _ in range(4):
        control = AdmissionControl(
            Directory(load=lambda _: {}),
            Occupancy(),
            store=RedisStore(nobody, processes=4),
            quota_url=nobody,
            monotonic=lambda: clock[0],
        )
        for minutes in (0, 1_000):
            clock[0] += minutes * 60
            with contextlib.suppress(RateLimited):
                while True:
                    await control.charge(key, 1)
                    admitted += 1
        await control.aclose()
    assert admitted == 100


async def test_only_connections_of_keys_that_have_a_cap_hear_of_it() -> None:
    control = AdmissionControl(Directory(load=lambda _: {}), Occupancy())
    month = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC))
    allowance = Allowed("messages", "messages", *month, units=10, is_hard=True)
    told: list[str] = []
    keys = {
        "capped": principal("a" * 64, key_id=1, allowances=(allowance,)),
        "free": principal("b" * 64, key_id=2),
        "stranger": principal("c" * 64, key_id=3, tenant_id=2, allowances=(allowance,)),
    }
    for name, key in keys.items():
        control.allowances.know(key)
        control.occupancy.open(key, on_used=lambda _, name=name: told.append(name))  # type: ignore[misc]
    assert control.occupancy.principals_of(1) == [keys["capped"], keys["free"]]
    control.allowances.meter = lambda: [[Usage(1, "trades", 10, 0, 0), Usage(2, "trades", 9, 0, 0)]]
    await control.allowances.settle()
    assert told == ["capped"]
    await control.aclose()


def test_closing_the_last_connection_of_a_key_forgets_the_key() -> None:
    occupancy = Occupancy()
    first, second = occupancy.open(principal()), occupancy.open(principal("b" * 64, key_id=2))
    first.close()
    assert [held.key_id for held in occupancy.principals_of(1)] == [2]
    second.close()
    assert occupancy.principals_of(1) == []
