"""Two workers that read nodes with another number of events in a block: each trade once all the
same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streaming.core.envelope import ORIGIN, Envelope, Position, Role
from tests.core.relay_world import BTC, EPOCH, Desk, World, begun, data, events, trades


@dataclass
class Teller:
    """A worker whose node has so many more events before the coin's in some blocks."""

    name: str
    shifts: dict[int, int]
    place: Position

    def tell(self, height: int) -> Envelope:
        before, self.place = self.place, Position(height, 1 + self.shifts.get(height, 0))
        return Envelope(BTC.name, EPOCH, self.place, before, Role.UPDATE, trades(height))


blocks = st.lists(
    st.tuples(
        st.sampled_from(["AB", "BA", "A", "B"]), st.sampled_from([0, 0, 2]), st.sampled_from([0, 2])
    ),
    min_size=1,
    max_size=12,
)


@given(blocks)
@settings(deadline=None, max_examples=60)
def test_each_block_is_told_once_live_and_from_the_log(
    steps: list[tuple[str, int, int]],
) -> None:
    world = World()
    world.log.page = 100
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(5))
    desk.take()
    tellers = {
        name: Teller(
            name, place=Position(5), shifts={6 + n: step[at] for n, step in enumerate(steps)}
        )
        for at, name in ((1, "A"), (2, "B"))
    }
    for height, (order, _, _) in enumerate(steps, start=6):
        told = {name: teller.tell(height) for name, teller in tellers.items()}
        for name in order:
            world.publish(told[name], worker=name)
        world.wait(0.06)
    world.wait()
    frames = desk.take()
    everything = list(range(6, 6 + len(steps)))
    assert data(frames) == everything
    if all(len(order) == 2 for order, _, _ in steps):
        # Else the other's version is missed, and may have held more.
        assert events(frames) == []
        assert world.ledger.gaps == []
    again = world.desk()
    again.subscribe(coin="BTC", from_={"height": 6})
    world.wait()
    assert data(again.take()) == everything


#: For each block how its events are spaced at two nodes, and who tells the next of them.
uneven = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4),
        st.randoms(use_true_random=False),
    ),
    min_size=1,
    max_size=6,
)


def spaced(height: int, steps: list[int], before: Position, first: int) -> list[Envelope]:
    """A block's frames at places so far apart: the events are `first` and those after it."""
    frames: list[Envelope] = []
    for number, step in enumerate(steps):
        here = Position(height, step + (frames[-1].position.index if frames else 0))
        payload = trades(first + number)
        frames.append(Envelope(BTC.name, EPOCH, here, before, Role.UPDATE, payload))
        before = here
    return frames


def interleaved(told: dict[str, list[Envelope]], random: Random) -> Iterator[tuple[str, Envelope]]:
    """What each says in its own order, the two mixed anyhow."""
    left = {name: list(frames) for name, frames in told.items()}
    while names := [name for name, frames in left.items() if frames]:
        name = random.choice(names)
        yield name, left[name].pop(0)


@given(uneven, st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_block_of_several_frames_is_told_to_its_end_by_who_began_it(
    blocks: list[tuple[list[tuple[int, int]], Random]], is_apart: bool
) -> None:
    """`is_apart`: no place of the one is a place of the other, so the log can tell them apart."""
    world = World()
    world.log.page = 100
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(5))
    desk.take()
    at = {"A": Position(5), "B": Position(5)}
    count = 0
    for height, (steps, random) in enumerate(blocks, start=6):
        told = {}
        for number, name in enumerate(at):
            own = [step[number] for step in steps]
            if is_apart:
                own = [2 * step for step in own]
                own[0] += number
            told[name] = spaced(height, own, at[name], count)
            at[name] = told[name][-1].position
        count += len(steps)
        for name, frame in interleaved(told, random):
            world.publish(frame, worker=name)
        world.wait(0.06)
    world.wait()
    frames = desk.take()
    assert data(frames) == list(range(count))
    assert events(frames) == []
    assert world.ledger.gaps == []
    if is_apart:
        again = world.desk()
        again.subscribe(coin="BTC", id=1, from_={"height": 6})
        world.wait()
        frames = again.take()
        assert data(frames) == list(range(count))
        assert "gap" not in events(frames)


def is_seen_first(
    order: list[tuple[str, Envelope]], whole: list[Envelope], part: list[Envelope]
) -> bool:
    """Whether what B lacks first is told before anything that B says is right behind it."""
    places = {frame.position for frame in part}
    lacking = next((f.position for f in whole if f.position not in places), None)
    for name, frame in order:
        if lacking is None or (name == "A" and frame.position == lacking):
            return True
        if name == "B" and frame.position > lacking:
            return False
    return True


partial = st.lists(
    st.tuples(st.lists(st.booleans(), min_size=1, max_size=4), st.randoms(use_true_random=False)),
    min_size=1,
    max_size=6,
)


@given(partial)
@settings(deadline=None, max_examples=60)
def test_who_told_a_block_without_one_of_its_files_takes_nothing_from_the_other(
    blocks: list[tuple[list[bool], Random]],
) -> None:
    """The places are the same at both; B lacks some of the events."""
    world = World()
    world.log.page = 100
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(5))
    desk.take()
    at = {"A": Position(5), "B": Position(5)}
    everything, certain = [], set()
    for height, (has, random) in enumerate(blocks, start=6):
        whole = spaced(height, [1] * len(has), at["A"], 10 * height)
        part: list[Envelope] = []
        for frame, is_there in zip(whole, has, strict=True):
            if is_there:
                before = part[-1].position if part else at["B"]
                part.append(replace(frame, previous=before))
        at["A"] = whole[-1].position
        at["B"] = part[-1].position if part else at["B"]
        everything += [10 * height + number for number in range(len(has))]
        order = list(interleaved({"A": whole, "B": part}, random))
        is_whole = is_seen_first(order, whole, part)
        certain |= {
            10 * height + number for number, is_there in enumerate(has) if is_whole or is_there
        }
        for name, frame in order:
            world.publish(frame, worker=name)
        world.wait(0.06)
    world.wait()
    given_ = data(desk.take())
    assert given_ == sorted(set(given_))
    assert certain <= set(given_)
    again = world.desk()
    again.subscribe(coin="BTC", id=1, from_={"height": 6})
    world.wait()
    assert data(again.take()) == everything


def test_a_claim_that_only_reaches_less_far_back_contradicts_nothing() -> None:
    def claims(previous: Position, position: Position) -> Envelope:
        return Envelope(BTC.name, EPOCH, position, previous, Role.UPDATE, b"")

    assert claims(Position(5, 1), Position(6, 3)).contradicts(Position(6, 1))
    assert not claims(Position(6, 1), Position(6, 3)).contradicts(Position(6, 1))
    assert not claims(Position(6, 2), Position(6, 3)).contradicts(Position(6, 1))
    assert not claims(ORIGIN, Position(7, 3)).contradicts(Position(6, 1))


@dataclass
class Chain:
    """The same blocks as two nodes of another count tell them: frames by worker, in order."""

    told: dict[str, list[Envelope]]
    everything: list[int]

    @classmethod
    def of(cls, blocks: list[list[tuple[int, int]]]) -> Chain:
        """`blocks`: how far apart the events of each stand at the two nodes."""
        chain = cls({"A": [], "B": []}, [])
        for height, steps in enumerate(blocks, start=6):
            for number, name in enumerate(chain.told):
                own = [2 * step[number] for step in steps]
                own[0] += number  # no place of the one is a place of the other
                before = chain.told[name][-1].position if chain.told[name] else Position(5)
                chain.told[name] += spaced(height, own, before, 10 * height)
            chain.everything += [10 * height + number for number in range(len(steps))]
        return chain

    def unexplained(self, frames: list[dict[str, Any]]) -> list[int]:
        """Events that were neither given nor named by a gap."""
        given_ = data(frames)
        gaps = [
            (frame["data"]["fromHeight"], frame["data"]["toHeight"])
            for frame in frames
            if frame["channel"] == "relay" and frame["data"]["type"] == "gap"
        ]
        return [
            tid
            for tid in self.everything
            if tid not in given_ and not any(a <= tid // 10 <= b for a, b in gaps)
        ]


chains = st.lists(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3),
    min_size=1,
    max_size=5,
).map(Chain.of)


def followed() -> tuple[World, Desk]:
    world = World()
    world.log.page = 100
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(5))
    desk.take()
    return world, desk


@given(chains, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_one_may_be_blocks_ahead_of_the_other(chain: Chain, random: Random) -> None:
    world, desk = followed()
    for name, frame in interleaved(chain.told, random):
        world.publish(frame, worker=name)
    world.wait()
    frames = desk.take()
    assert data(frames) == chain.everything
    assert events(frames) == []
    assert world.ledger.gaps == []


@given(chains, st.randoms(use_true_random=False), st.data())
@settings(deadline=None, max_examples=100)
def test_a_block_whose_teller_died_in_it_is_told_or_said_to_be_missing(
    chain: Chain, random: Random, choices: st.DataObject
) -> None:
    """Whoever dies, and after whatever frame: in the live frames, and in those read again."""
    world, desk = followed()
    dies = choices.draw(st.sampled_from(["A", "B"]))
    last = choices.draw(st.integers(0, len(chain.told[dies])))
    is_slow, hears = choices.draw(st.booleans()), choices.draw(st.booleans())
    told = {name: frames[: last if name == dies else None] for name, frames in chain.told.items()}
    for name, frame in interleaved(told, random):
        if hears and frame is chain.told[name][-1]:
            world.hear(name, frame.position.height)
        world.publish(frame, worker=name)
        if is_slow:
            world.wait(0.06)
    survivor = "B" if dies == "A" else "A"
    for height in range(20, 24):
        world.hear(survivor, height)
        world.wait(0.1)
        world.hub.check_age(now_s=world.now_s)
    (after,) = spaced(24, [0], chain.told[survivor][-1].position, 240)
    world.publish(after, worker=survivor)
    world.wait()
    frames = desk.take()
    given_ = data(frames)
    assert given_ == sorted(set(given_))
    assert given_[-1] == 240
    assert chain.unexplained(frames) == []
    again = world.desk()
    again.subscribe(coin="BTC", id=1, from_={"height": 6})
    world.wait()
    assert chain.unexplained(again.take()) == []
