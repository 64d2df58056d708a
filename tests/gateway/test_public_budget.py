"""What one address may ask the public API in a minute: never more, and fairly between tenants."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.budget import KEPT_S, LEND_S, SLOT_S, WINDOW_S, Budget, Window
from gateway.http.lent import MOST, Lent, Loan
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


@pytest.mark.parametrize("began_s", [0.0, 2.5, 4.999])
def test_what_was_lent_and_spent_last_still_counts_for_its_whole_minute(began_s: float) -> None:
    assert KEPT_S - LEND_S >= WINDOW_S
    limit, budget, lent = 20.0, Budget(20.0), Lent()
    slot = budget.lend("acme", 8, now_s=began_s)
    assert slot is not None
    lent.add(Loan("acme", 8.0, began_s + LEND_S, slot))
    spent: deque[float] = deque()
    for tick in range(900):
        now_s = began_s + tick / 10
        # As late as it may be, and then whatever there is.
        is_served = LEND_S - 0.15 < tick / 10 and lent.spend("acme", 1, now_s=now_s)
        while is_served or (tick > 600 and not budget.take("acme", 1, now_s=now_s, is_action=True)):
            spent.append(now_s)
            is_served = lent.spend("acme", 1, now_s=now_s)
        while spent and spent[0] <= now_s - WINDOW_S:
            spent.popleft()
        assert len(spent) <= limit
    assert spent


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["acme", "bolt"]),
            st.sampled_from([1, 1, 2, 9]),
            st.floats(0, 3),
            st.booleans(),
        ),
        max_size=200,
    )
)
def test_processes_that_lend_spend_no_more_than_there_is(
    history: list[tuple[int, str, int, float, bool]],
) -> None:
    """Also when they die with what was lent to them."""
    limit, now_s = 40.0, 1_000.0
    budget, lents = Budget(limit, 0.2), [Lent() for _ in range(3)]
    spent: deque[tuple[float, float]] = deque()
    for process, tenant, weight, pause_s, is_killed in history:
        now_s += pause_s
        lent = lents[process]
        for loan in lent.over(now_s=now_s):
            budget.give_back(loan.tenant, loan.left, slot=loan.slot)
        if is_killed and pause_s < 0.3:
            lents[process] = lent = Lent()
        is_served = lent.spend(tenant, weight, now_s=now_s)
        if not is_served and not budget.take(tenant, weight, now_s=now_s, is_action=True):
            is_served = True
        if is_served:
            spent.append((now_s, weight))
            wanted = lent.wanted(tenant, now_s=now_s)
            assert wanted <= MOST
            slot = budget.lend(tenant, wanted, now_s=now_s) if wanted else None
            if slot is not None:
                lent.add(Loan(tenant, wanted, now_s + LEND_S, slot))
        while spent and spent[0][0] <= now_s - WINDOW_S:
            spent.popleft()
        assert sum(each for _, each in spent) <= limit


def test_what_was_lent_and_not_spent_is_there_again() -> None:
    budget, lent = Budget(100.0), Lent()
    assert not lent.spend("acme", 5, now_s=14.0)
    assert budget.take("acme", 5, now_s=14.0, is_action=True) == 0.0
    slot = budget.lend("acme", lent.wanted("acme", now_s=14.0), now_s=14.0)
    assert slot is not None
    lent.add(Loan("acme", 5.0, 14.0 + LEND_S, slot))
    assert budget.spent(now_s=14.0) == 10
    assert lent.spend("acme", 2, now_s=16.0)
    assert lent.over(now_s=16.0) == []
    [rest] = lent.over(now_s=18.0)
    budget.give_back(rest.tenant, rest.left, slot=rest.slot)
    assert budget.spent(now_s=18.0) == 7
    assert not lent.spend("acme", 1, now_s=18.0)


def test_nothing_is_lent_of_what_gets_scarce() -> None:
    budget = Budget(100.0)
    budget.take("bolt", 45, now_s=1.0)
    assert budget.lend("acme", 5, now_s=1.0) is not None
    assert budget.lend("acme", 1, now_s=1.0) is None


async def test_who_acts_again_and_again_does_not_wait_for_redis(redis_url: str) -> None:
    client: Any = redis.asyncio.from_url(redis_url)
    await client.delete(KEY)
    edges = [
        SharedBudget(client, limit=1_200.0, processes=lambda: 2, for_actions=0.2) for _ in range(2)
    ]
    asked: list[bool] = []
    for number in range(80):
        taking = asyncio.ensure_future(edges[number % 2].take("acme", 1, is_action=True))
        await asyncio.sleep(0)  # one turn of the loop: no answer of Redis fits into it
        asked.append(not taking.done())
        assert await taking == 0.0
        await asyncio.gather(*(edge._working for edge in edges if edge._working is not None))
    assert sum(asked) <= 8
    assert not any(asked[20:])
    await client.delete(KEY)
    await client.aclose()


async def test_what_lies_here_refuses_nobody_here(redis_url: str) -> None:
    """A burst gets as much as without loans, whoever's they are."""
    client: Any = redis.asyncio.from_url(redis_url)
    await client.delete(KEY)
    edge = SharedBudget(client, limit=100.0, processes=lambda: 1)
    for _ in range(10):
        assert await edge.take("bolt", 1, is_action=True) == 0.0
    burst = await asyncio.gather(*(edge.take("acme", 1, is_action=True) for _ in range(100)))
    alone = Budget(100.0)
    for _ in range(10):
        alone.take("bolt", 1, now_s=0.0, is_action=True)
    expected = sum(not alone.take("acme", 1, now_s=0.0, is_action=True) for _ in range(100))
    assert burst.count(0.0) == expected
    await client.delete(KEY)
    await client.aclose()
