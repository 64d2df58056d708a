"""What one address may ask the public API in a minute: never more, and fairly between tenants."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.budget import SLOT_S, WINDOW_S, Budget, Window
from gateway.http.shared_budget import KEY, SharedBudget

LIMIT = 1_200.0

asks = st.lists(
    st.tuples(
        st.sampled_from(["acme", "bolt", "cleo"]),
        st.sampled_from([2, 20, 60, 500]),
        st.floats(0, 20),
    ),
    max_size=200,
)


@given(asks)
def test_no_minute_has_more_than_the_limit(history: list[tuple[str, int, float]]) -> None:
    budget, now_s = Budget(LIMIT), 1_000.0
    spent: deque[tuple[float, int]] = deque()
    for tenant, weight, pause_s in history:
        now_s += pause_s
        if not budget.take(tenant, weight, now_s=now_s):
            spent.append((now_s, weight))
        while spent and spent[0][0] <= now_s - WINDOW_S:
            spent.popleft()
        assert sum(each for _, each in spent) <= LIMIT


@given(st.integers(1, 300), st.sampled_from([2, 20]))
def test_one_who_comes_later_gets_a_share_at_once(greedy: int, weight: int) -> None:
    """Whatever somebody else asked before, there is a reserve for who has asked nothing yet."""
    budget = Budget(LIMIT)
    for number in range(greedy):
        budget.take("greedy", weight, now_s=number / 10)
    assert budget.take("late", weight, now_s=greedy / 10) == 0.0


def test_two_who_ask_for_all_get_half_each_from_the_second_minute_on() -> None:
    budget, got = Budget(LIMIT), {"a": 0, "b": 0}
    for tick in range(3_000):  # five minutes, ten asks a second of each
        for tenant in got:
            if not budget.take(tenant, 20, now_s=tick / 10) and tick > 1_200:
                got[tenant] += 20
    assert abs(got["a"] - got["b"]) <= 0.1 * sum(got.values())
    assert sum(got.values()) >= 0.8 * LIMIT * 3  # and little of it is left lying


def test_who_is_alone_has_nearly_all_and_is_told_when_to_come_back() -> None:
    budget = Budget(LIMIT)
    count = 0
    while not (wait_s := budget.take("acme", 20, now_s=10.0)):
        count += 1
    assert count * 20 >= 0.85 * LIMIT
    assert 0 < wait_s <= WINDOW_S + 2 * SLOT_S
    assert budget.take("acme", 20, now_s=10.0 + wait_s) == 0.0


def test_none_is_none() -> None:
    assert Budget(0.0).take("acme", 2, now_s=0.0) > 0


async def test_processes_share_it_through_redis_and_each_has_a_part_without(redis_url: str) -> None:
    client: Any = redis.asyncio.from_url(redis_url)
    await client.delete(KEY)
    edges = [SharedBudget(client, limit=200.0, processes=lambda: 2) for _ in range(2)]
    granted = [not await edges[number % 2].take("acme", 20) for number in range(20)]
    assert 8 <= sum(granted) <= 10
    window = msgspec.msgpack.decode(await client.get(KEY), type=Window)
    assert sum(sum(slot.used.values()) for slot in window.slots) == sum(granted) * 20
    assert 0 < await client.ttl(KEY) <= 2 * WINDOW_S
    await client.delete(KEY)
    await client.aclose()
    away: Any = redis.asyncio.from_url("redis://127.0.0.1:9/0", socket_connect_timeout=0.2)
    alone = SharedBudget(away, limit=200.0, processes=lambda: 2)
    granted = [not await alone.take("acme", 20) for _ in range(20)]
    assert 4 <= sum(granted) <= 5
    await away.aclose()


@pytest.mark.parametrize("weight", [LIMIT + 1, 10**9])
def test_what_is_heavier_than_all_is_served_by_an_idle_minute(weight: float) -> None:
    assert Budget(LIMIT).take("acme", weight, now_s=0.0) == 0.0


def test_who_polls_all_there_is_can_still_cancel() -> None:
    """And so can who begins to act later, each within a share of what is for actions."""
    budget = Budget(LIMIT, 0.2)
    reads = 0
    while not budget.take("acme", 20, now_s=10.0):
        reads += 20
    assert reads >= 0.85 * 0.8 * LIMIT
    acted = {"acme": 0, "bolt": 0}
    for _ in range(2_000):
        for tenant in acted:
            if not budget.take(tenant, 1, now_s=11.0, is_action=True):
                acted[tenant] += 1
    assert min(acted.values()) >= 0.1 * LIMIT
    assert reads + sum(acted.values()) <= LIMIT
    # Minute by minute reads leave as much as that again.
    for tick in range(200):
        budget.take("acme", 20, now_s=12.0 + tick)
    assert budget.take("acme", 1, now_s=212.0, is_action=True) == 0.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acme", "bolt"]),
            st.sampled_from([1, 20, 300]),
            st.booleans(),
            st.floats(0, 5),
        ),
        max_size=200,
    )
)
def test_no_minute_has_more_than_the_limit_with_actions_either(
    history: list[tuple[str, int, bool, float]],
) -> None:
    budget, now_s = Budget(LIMIT, 0.2), 1_000.0
    spent: deque[tuple[float, int]] = deque()
    for tenant, weight, is_action, pause_s in history:
        now_s += pause_s
        if not budget.take(tenant, weight, now_s=now_s, is_action=is_action):
            spent.append((now_s, weight))
        while spent and spent[0][0] <= now_s - WINDOW_S:
            spent.popleft()
        assert sum(each for _, each in spent) <= LIMIT


def test_a_window_that_an_older_process_wrote_is_read() -> None:
    old = msgspec.msgpack.encode([[[7, {"acme": 5.0}, {}, 0.0]]])
    assert msgspec.msgpack.decode(old, type=Window).slots[0].acted == {}
