"""A coin-minute is a minute in which a key followed a coin at any moment, and is told once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.ws.following import Following

START = 29_000_000 * 60.0


class Clock:
    """A wall clock that may be set, a monotonic one that may not, and what was marked."""

    def __init__(self) -> None:
        self.wall_s, self.clock_s = START, 5.0
        self.marked: set[tuple[int, str, int]] = set()
        self.following = Following(self, wall_s=lambda: self.wall_s, clock_s=lambda: self.clock_s)

    def mark(self, key_id: int, coin: str, minute: int) -> None:
        self.marked.add((key_id, coin, minute - int(START // 60)))

    def wait(self, seconds: float) -> None:
        """Time passes; nobody looks."""
        self.wall_s += seconds
        self.clock_s += seconds

    def live(self, seconds: int) -> None:
        """Time passes, and the loop looks every second."""
        for _ in range(seconds):
            self.wait(1.0)
            asyncio.run(self.following.tick())


def test_a_coin_counts_from_the_minute_it_is_followed_in_to_that_it_is_left_in() -> None:
    clock = Clock()
    clock.live(50)
    clock.following.begin(7, "BTC")
    clock.live(130)
    clock.following.end(7, "BTC")
    clock.live(200)
    assert clock.marked == {(7, "BTC", minute) for minute in (0, 1, 2, 3)}


def test_many_followers_of_a_coin_are_one_and_keys_are_not() -> None:
    clock = Clock()
    for key in (7, 7, 8):
        clock.following.begin(key, "BTC")
    clock.following.begin(7, "")  # of no coin: nothing
    clock.following.end(7, "BTC")
    clock.live(60)
    clock.following.end(7, "BTC")
    clock.following.end(7, "BTC")  # nobody there: nothing
    clock.live(60)
    assert clock.marked == {
        (7, "BTC", 0),
        (7, "BTC", 1),
        (8, "BTC", 0),
        (8, "BTC", 1),
        (8, "BTC", 2),
    }


def test_minutes_in_which_the_process_stood_still_are_counted() -> None:
    clock = Clock()
    clock.following.begin(7, "BTC")
    clock.live(1)
    clock.wait(200.0)
    clock.following.begin(7, "ETH")  # comes first after it woke, and was not followed before
    clock.live(1)
    assert {minute for _, coin, minute in clock.marked if coin == "BTC"} == {0, 1, 2, 3}
    assert {minute for _, coin, minute in clock.marked if coin == "ETH"} == {3}


@pytest.mark.parametrize("step_s", [7_200.0, -7_200.0, 61.0])
def test_a_clock_that_is_set_makes_no_minutes(step_s: float) -> None:
    clock = Clock()
    clock.following.begin(7, "BTC")
    clock.live(61)
    clock.wall_s += step_s
    clock.live(1)
    now = int((clock.wall_s - START) // 60)
    assert clock.marked == {(7, "BTC", minute) for minute in (0, 1, now)}


def test_a_coin_that_is_left_while_the_minute_is_being_marked_is_marked() -> None:
    clock = Clock()
    coins = [f"C{n}" for n in range(1_000)]
    for coin in coins:
        clock.following.begin(7, coin)
    clock.wait(60.0)

    async def leave_meanwhile() -> None:
        ticking = asyncio.ensure_future(clock.following.tick())
        await asyncio.sleep(0)
        for coin in coins:
            clock.following.end(7, coin)
        await ticking

    asyncio.run(leave_meanwhile())
    assert Counter(minute for *_, minute in clock.marked) == {0: 1_000, 1: 1_000}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["begin", "end"]), st.sampled_from(["A", "B"])),
            st.tuples(st.just("live"), st.integers(1, 90)),
        ),
        max_size=25,
    )
)
def test_the_minutes_are_those_of_each_second_looked_at(acts: list[tuple[str, object]]) -> None:
    clock, followed = Clock(), Counter[str]()
    expected: set[tuple[int, str, int]] = set()

    def note() -> None:
        minute = int((clock.wall_s - START) // 60)
        expected.update((7, coin, minute) for coin in +followed)

    for act, value in acts:
        if act == "live":
            for _ in range(int(str(value))):
                clock.wait(1.0)
                note()
                asyncio.run(clock.following.tick())
        elif act == "begin":
            clock.following.begin(7, str(value))
            followed[str(value)] += 1
            note()
        elif followed[str(value)]:
            clock.following.end(7, str(value))
            followed[str(value)] -= 1
    assert clock.marked == expected
