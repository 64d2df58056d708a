"""A block that was short when it was told: whoever got it hears of it, live or when they come back,
and once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.corrections import REACH_BLOCKS
from streaming.core.envelope import Envelope, Position, Role, end_of
from streaming.core.freshness import MARGIN_BLOCKS
from tests.core.relay_world import BTC, EPOCH, Desk, World, begun, data, events, trades, update


def short(first: int, last: int) -> Envelope:
    """A worker learns, when it has told block `last`, that it told only part of block `first`."""
    before = end_of(first - 1)
    return Envelope(BTC.name, EPOCH, end_of(last), before, Role.RESET, b"came late")


def followed() -> tuple[World, Desk]:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1)
    world.publish(begun(10), worker="A")
    world.publish(begun(10), worker="B")
    desk.take()
    return world, desk


def gaps(frames: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """From and to which height something is said to be missing."""
    told = [frame["data"] for frame in frames if frame["channel"] == "relay"]
    return [(e["fromHeight"], e["toHeight"]) for e in told if e["type"] == "gap"]


def test_a_gap_that_reaches_back_is_told_from_its_beginning_and_once() -> None:
    world, desk = followed()
    for height in (11, 12, 13):
        world.publish(update(height, height - 1))
    desk.take()
    world.publish(short(12, 13))
    (frame,) = desk.take()
    assert gaps([frame]) == [(11, 13)]
    assert frame["data"]["reason"] == "came late"
    # The other tells the same of it, some blocks later.
    world.publish(update(14, 13), worker="B")
    world.publish(short(12, 14), worker="B")
    world.wait()
    world.publish(replaced(15, end_of(13)), worker="A")
    world.publish(replaced(15, end_of(14)), worker="B")
    world.wait()
    frames = desk.take()
    assert data(frames) == [14, 15]
    assert events(frames) == []
    assert world.ledger.gaps == [(BTC.name, end_of(11), end_of(13))]


def replaced(height: int, previous: Position) -> Envelope:
    return Envelope(BTC.name, EPOCH, Position(height), previous, Role.UPDATE, trades(height))


def test_nobodys_silence_takes_it_back() -> None:
    world, desk = followed()
    for worker in "AB":
        world.publish(update(12, 10), worker=worker)
    world.publish(short(12, 14))
    world.hear("B", 14 + MARGIN_BLOCKS)
    world.wait()
    assert gaps(desk.take()) == [(11, 14)]
    assert world.ledger.gaps == [(BTC.name, end_of(11), end_of(14))]


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_what_the_bus_lost_of_it_is_read_from_the_log(failures: int) -> None:
    world, desk = followed()
    world.log.failures = failures
    for height in (11, 12):
        for worker in "AB":
            world.publish(update(height, height - 1), worker=worker)
    world.log.append(short(12, 12))
    world.publish(update(13, 12), worker="B")  # it hides the place that A goes on from
    world.publish(replaced(13, end_of(12)), worker="A")
    world.wait(3.0)
    frames = desk.take()
    assert data(frames) == [11, 12, 13]
    assert gaps(frames) == [(11, 12)]


def test_who_got_it_and_was_away_is_told_when_he_comes_back() -> None:
    world, desk = followed()
    for height in (11, 12, 13):
        world.publish(update(height, height - 1), worker="B")
    cursor = desk.take()[-1]["cursor"]
    desk.session.close(now_s=world.now_s)
    world.publish(short(12, 12))
    again = world.desk()
    again.subscribe(coin="BTC", id=1, from_=cursor)
    world.wait()
    frames = again.take()
    assert gaps(frames) == [(11, 12)]
    assert events(frames) == ["gap", "replayComplete"]
    # Not who begins at a later time, nor who is far beyond.
    other = world.desk()
    other.subscribe(coin="BTC", id=1, from_={"ms": 13_000})
    for height in range(14, 14 + REACH_BLOCKS):
        world.publish(update(height, height - 1), worker="B")
    world.wait()
    frames = other.take()
    assert events(frames) == ["replayComplete"]
    again.session.close(now_s=world.now_s)
    last = world.desk()
    last.subscribe(coin="BTC", id=1, from_=[f for f in frames if "cursor" in f][-1]["cursor"])
    world.wait()
    assert events(last.take()) == ["replayComplete"]


def test_another_block_within_what_the_second_names_is_another_correction() -> None:
    world, desk = followed()
    for height in (11, 12):
        for worker in "AB":
            world.publish(update(height, height - 1), worker=worker)
    world.publish(short(11, 12), worker="A")
    for height in (13, 14, 15):
        world.publish(update(height, height - 1), worker="B")
    world.publish(short(11, 15), worker="B")  # the same, told later
    world.publish(replaced(13, end_of(12)), worker="A")
    for height in (14, 15, 16):
        world.publish(update(height, height - 1), worker="A")
    world.publish(short(14, 16), worker="A")  # and now of block 14 too
    world.publish(replaced(16, end_of(15)), worker="B")
    world.publish(replaced(17, end_of(16)), worker="A")
    world.publish(update(17, 16), worker="B")
    world.wait()
    frames = desk.take()
    assert data(frames) == [11, 12, 13, 14, 15, 16, 17]
    assert gaps(frames) == [(10, 12), (13, 16)]
    assert world.ledger.gaps == [
        (BTC.name, end_of(10), end_of(12)),
        (BTC.name, end_of(13), end_of(16)),
    ]


BEGUN = Position(10)


@dataclass
class Teller:
    """A worker that tells of one block only part, and learns it when it has told `learns_at`."""

    learns_at: int
    tip: int = 10
    place: Position = BEGUN

    def tell(self, first: int) -> list[Envelope]:
        self.tip += 1
        told = [replaced(self.tip, self.place)]
        self.place = told[0].position
        if self.tip == self.learns_at:
            told.append(short(first, self.tip))
            self.place = end_of(self.tip)
        return told


@given(
    first=st.integers(11, 14),
    delays=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    order=st.permutations("AAAAAAAABBBBBBBB"),
    away=st.tuples(st.integers(0, 16), st.integers(0, 16)),
    is_slow=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_whoever_got_a_short_block_hears_of_it(
    first: int, delays: tuple[int, int], order: list[str], away: tuple[int, int], is_slow: bool
) -> None:
    """Both told the same part of it; the customer is away for some steps, or for none."""
    world, desk = followed()
    world.log.page = 100
    tellers = {name: Teller(first + delay) for name, delay in zip("AB", delays, strict=True)}
    frames: list[dict[str, Any]] = []
    leaves, returns = away
    for step, name in enumerate(order):
        if step == leaves < returns:
            frames += desk.take()
            desk.session.close(now_s=world.now_s)
        world.publish(*tellers[name].tell(first), worker=name)
        if is_slow:
            world.wait(0.06)
        if step + 1 == returns > leaves:
            cursors = [f["cursor"] for f in frames if "cursor" in f]
            desk = world.desk()
            desk.subscribe(coin="BTC", id=1, from_=cursors[-1] if cursors else {"height": 11})
            world.wait(0.2)
    world.wait()
    frames += desk.take()
    assert data(frames) == list(range(11, 19))
    told = gaps(frames)
    assert told, "nothing is missing in silence"
    assert {after for after, _ in told} == {first - 1}
    if leaves >= returns:
        assert len(told) == 1
    assert [(after, until.height >= first) for _, after, until in world.ledger.gaps] == [
        (end_of(first - 1), True)
    ]
