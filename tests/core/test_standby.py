"""The public feed stands in for nodes that give nothing, and only then."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from streaming.core.topic import Kind, Topic
from streaming.upstream.standby import (
    BACK_AFTER_S,
    BOOKS_OUT_AFTER_S,
    OUT_AFTER_S,
    PAUSE_S,
    SETTLED_AFTER_S,
    Standby,
)

TRADES, BBO = Topic(Kind.TRADES, "BTC"), Topic(Kind.BBO, "BTC")
#: What nodes alone have, and what would spend the ten users of an address.
STAYS = [
    Topic(Kind.L4_BOOK, "BTC"),
    Topic(Kind.L2_BOOK, "BTC", n_levels=100),
    Topic(Kind.TRADES, "BTC", by_event=True),
    Topic(Kind.USER_FILLS, user="0x" + "1" * 40),
]


class Nodes:
    """All nodes together, and who looks at them."""

    def __init__(self, *, is_backed: bool = True) -> None:
        self.standby = Standby()
        self.standby.is_backed = is_backed
        self.now_s, self.height = 100.0, 1_000

    def live(self, for_s: float, *, age_s: float = 0.3, books_ready: bool = True) -> None:
        for _ in range(round(for_s / 0.25)):
            self.height += 3
            self.look(age_s=age_s, books_ready=books_ready)

    def stall(self, for_s: float) -> None:
        for number in range(round(for_s / 0.25)):
            self.look(age_s=0.3 + number * 0.25)

    def look(self, *, age_s: float, books_ready: bool = True) -> bool:
        self.now_s += 0.25
        return self.standby.look(
            height=self.height, age_s=age_s, books_ready=books_ready, now_s=self.now_s
        )


def test_what_the_exchange_has_moves_after_some_seconds_and_comes_back() -> None:
    nodes = Nodes()
    nodes.live(5)
    nodes.stall(OUT_AFTER_S - 0.25)
    assert not nodes.standby.covers(TRADES)
    nodes.stall(0.25)
    assert nodes.standby.covers(TRADES)
    assert nodes.standby.covers(BBO)
    assert not any(nodes.standby.covers(topic) for topic in STAYS)
    nodes.live(BACK_AFTER_S)
    assert nodes.standby.covers(TRADES)  # a single block is no recovery
    nodes.live(0.25)
    assert not nodes.standby.covers(TRADES)


def test_nodes_that_catch_up_are_not_back_yet() -> None:
    nodes = Nodes()
    nodes.live(5)
    nodes.stall(60)
    nodes.live(10, age_s=40.0)
    assert nodes.standby.covers(TRADES)
    nodes.live(0.25)
    assert not nodes.standby.covers(TRADES)


def test_nodes_whose_clock_was_stopped_with_them_are_back_after_a_minute() -> None:
    nodes = Nodes()
    nodes.live(5)
    nodes.stall(60)
    nodes.live(SETTLED_AFTER_S, age_s=60.0)
    assert nodes.standby.covers(TRADES)
    nodes.live(0.25, age_s=60.0)
    assert not nodes.standby.covers(TRADES)


def test_nodes_that_catch_up_slowly_are_waited_for() -> None:
    nodes = Nodes()
    nodes.live(5)
    nodes.stall(100)
    for age_s in range(100, 3, -1):  # a tenth faster than the chain
        nodes.live(10, age_s=float(age_s))
        assert nodes.standby.covers(TRADES)
    nodes.live(10, age_s=2.0)
    assert not nodes.standby.covers(TRADES)


def test_blocks_of_another_day_are_as_old_as_they_are() -> None:
    nodes = Nodes()
    nodes.live(5, age_s=86_400.0)
    nodes.stall(OUT_AFTER_S)
    assert nodes.standby.covers(TRADES)
    nodes.live(BACK_AFTER_S + 0.25, age_s=86_400.0)
    assert not nodes.standby.covers(TRADES)


def test_books_without_a_checkpoint_move_alone() -> None:
    nodes = Nodes()
    nodes.live(BOOKS_OUT_AFTER_S, books_ready=False)
    assert not nodes.standby.covers(BBO)
    nodes.live(0.25, books_ready=False)
    assert nodes.standby.covers(BBO)
    assert not nodes.standby.covers(TRADES)
    nodes.live(0.25)
    assert not nodes.standby.covers(BBO)


def test_nobody_stands_in_where_there_is_nobody() -> None:
    nodes = Nodes(is_backed=False)
    nodes.live(1)
    nodes.stall(60)
    assert not nodes.standby.covers(TRADES)
    assert not nodes.standby.covers(BBO)


def test_who_stood_still_does_not_call_it_silence_of_the_nodes() -> None:
    """A process goes on, and looks before it has read what came meanwhile."""
    nodes = Nodes()
    nodes.live(5)
    nodes.now_s += 60.0
    assert not nodes.look(age_s=60.0, books_ready=False)
    nodes.live(0.25)
    assert not nodes.standby.covers(TRADES)
    assert not nodes.standby.covers(BBO)
    nodes.stall(OUT_AFTER_S)
    assert nodes.standby.covers(TRADES)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.25, 6.0)), max_size=40))
def test_it_changes_its_mind_at_most_once_in_some_seconds(spells) -> None:
    nodes = Nodes()
    nodes.live(1)
    changes, was_out = [], False
    for is_alive, for_s in spells:
        for _ in range(round(for_s / 0.25)):
            (nodes.live if is_alive else nodes.stall)(0.25)
            if nodes.standby.is_out is not was_out:
                was_out = not was_out
                changes.append(nodes.now_s)
    # From out to back and from back to out each take their time.
    assert all(
        b - a >= min(BACK_AFTER_S, OUT_AFTER_S - PAUSE_S) for a, b in itertools.pairwise(changes)
    )
