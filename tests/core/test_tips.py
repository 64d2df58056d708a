"""How far each kind of file has come, and what may be said by it."""

from __future__ import annotations

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core import envelope as wire
from streaming.core.blocks import FileKind, RawBlock
from streaming.core.envelope import ORIGIN, BusMessage, Envelope, Position, Role, end_of
from streaming.core.market import BOOK_KINDS, Market
from streaming.core.tips import (
    KINDS,
    QUIET_BLOCKS,
    STOPPED_QUIET_BLOCKS,
    Tips,
    files_of,
    tip_of,
)
from streaming.core.topic import Kind, Topic
from tests.core.relay_world import EPOCH, World, data, events, update

ADA = "0x" + "a" * 40


def block(kind: FileKind, height: int, *, events: str = '{"a":1}', previous: int = 0) -> RawBlock:
    line = b'{"block_number":%d,"events":[%b]}' % (height, events.encode())
    return RawBlock(kind, height, [line], 0, previous or height - 1)


def of(kind: FileKind, heights: tuple[int, ...]) -> int:
    return tip_of(heights, files_of(Topic(Kind.RAW, stream=str(kind))))


def test_the_files_of_a_topic_are_those_its_room_reads() -> None:
    made = Market(epoch="e")
    for kind, room in made._room_of.items():
        if kind is not Kind.RAW:
            assert {KINDS[place] for place in files_of(Topic(kind))} <= room.FILES
            assert files_of(Topic(kind))
    assert all(FileKind.DIFFS in [KINDS[p] for p in files_of(Topic(k))] for k in BOOK_KINDS)
    assert files_of(Topic(Kind.WEB_DATA2, user=ADA)) == ()
    assert files_of(Topic(Kind.RAW, stream="of another release")) == ()


def test_where_every_block_has_a_line_a_kind_is_where_its_last_line_is() -> None:
    tips = Tips()
    tips.note(block(FileKind.MISC, 99, events=""))
    for height in range(100, 140):
        tips.note(block(FileKind.FILLS, height))
        tips.note(block(FileKind.MISC, height, events=""))
    tips.note(block(FileKind.DIFFS, 109))
    assert tips.top == 139
    assert [of(k, tips.heights) for k in (FileKind.FILLS, FileKind.DIFFS)] == [139, 109]
    assert of(FileKind.STATUSES, tips.heights) == 0
    assert tips.stopped == frozenset()
    tips.note(block(FileKind.FILLS, 140))
    assert tips.stopped == {FileKind.DIFFS}
    tips.note(block(FileKind.DIFFS, 110))
    assert tips.stopped == frozenset()


def test_a_kind_without_lines_for_empty_blocks_may_only_be_quiet() -> None:
    tips = Tips()
    for kind in (FileKind.MISC, FileKind.DIFFS, FileKind.FILLS):
        tips.note(block(kind, 100))
    tips.note(block(FileKind.STATUSES, 100 + STOPPED_QUIET_BLOCKS, previous=98))
    quiet = 100 + STOPPED_QUIET_BLOCKS - QUIET_BLOCKS
    assert {of(k, tips.heights) for k in (FileKind.MISC, FileKind.DIFFS)} == {quiet}
    assert tips.stopped == frozenset()
    tips.note(block(FileKind.STATUSES, 101 + STOPPED_QUIET_BLOCKS))
    assert tips.stopped == {FileKind.DIFFS}


def test_a_kind_without_lines_for_empty_blocks_beside_one_with_them_may_be_quiet() -> None:
    tips = Tips()
    tips.note(block(FileKind.DIFFS, 100, previous=98))
    for height in range(100, 101 + STOPPED_QUIET_BLOCKS):
        tips.note(block(FileKind.FILLS, height, events=""))
    assert of(FileKind.DIFFS, tips.heights) == tips.top - QUIET_BLOCKS
    assert of(FileKind.FILLS, tips.heights) == tips.top
    assert tips.stopped == frozenset()
    tips.note(block(FileKind.FILLS, tips.top + 1, events=""))
    assert tips.stopped == {FileKind.DIFFS}


def test_the_death_of_the_node_with_lines_for_empty_blocks_stops_nothing() -> None:
    """The other one goes on without them, and its market may be quiet."""
    tips = Tips()
    for height in range(100, 120):
        for kind in (FileKind.FILLS, FileKind.DIFFS, FileKind.MISC):
            tips.note(block(kind, height, events="" if height % 3 else "1"))
    for height in range(120, 120 + STOPPED_QUIET_BLOCKS):
        tips.note(block(FileKind.STATUSES, height))
        assert tips.stopped == frozenset(), height
    assert of(FileKind.DIFFS, tips.heights) == tips.top - QUIET_BLOCKS
    tips.note(block(FileKind.STATUSES, 120 + STOPPED_QUIET_BLOCKS))
    assert tips.stopped == {FileKind.DIFFS}


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 500), st.booleans())))
def test_no_kind_is_said_to_be_further_than_the_newest_block(
    steps: list[tuple[FileKind, int, bool]],
) -> None:
    tips = Tips()
    own: dict[FileKind, int] = {}
    for kind, height, is_empty in steps:
        tips.note(block(kind, height, events="" if is_empty else "1"))
        own[kind] = max(own.get(kind, 0), height)
        assert tips.top == max(own.values())
        for each in KINDS:
            at = of(each, tips.heights)
            assert own.get(each, 0) <= at <= tips.top
            assert (at == 0) == (each not in own)


def test_a_worker_one_release_older_tells_one_height_for_all() -> None:
    old = msgspec.msgpack.encode([1, "w", [], 7, 70])
    assert wire.decode(old).heights == ()
    new = wire.encode(BusMessage(wire.VERSION, "w", [], 7, 70, (7, 5)))

    class Older(msgspec.Struct, array_like=True):
        """What such an edge reads."""

        version: int
        worker: str
        envelopes: list[Envelope]
        tip_height: int = 0
        tip_ns: int = 0

    assert msgspec.msgpack.decode(new, type=Older).tip_height == 7


UPDATES = Topic(Kind.ORDER_UPDATES, user=ADA)


def order_update(height: int, previous: Position) -> Envelope:
    made = update(height, 0, topic=UPDATES)
    body = {"coin": "BTC", "side": "B", "limitPx": "1.0", "sz": "1.0", "oid": height}
    body |= {"timestamp": height, "origSz": "1.0"}
    one = {"order": body, "status": "open", "statusTimestamp": height}
    payload = orjson.dumps({"channel": "orderUpdates", "data": [one]})
    return msgspec.structs.replace(made, previous=previous, payload=payload)


def heights(**own: int) -> tuple[int, ...]:
    return tuple(own.get(kind.name.lower(), 0) for kind in KINDS)


@pytest.mark.parametrize("lag", [4, 12])
def test_book_changes_that_went_past_say_nothing_of_statuses(lag: int) -> None:
    """A's statuses are behind its book changes; B has only begun, and does not know block 198."""
    world = World()
    desk = world.desk()
    desk.subscribe(type_="orderUpdates", user=ADA, id=1)
    alive = sign_of_life(order_update(100, end_of(100)))
    world.publish(alive)
    world.publish(order_update(101, end_of(100)))
    assert len([f for f in desk.take() if f["channel"] == "orderUpdates"]) == 1

    def hear(diffs: int) -> None:
        own = heights(diffs=diffs, statuses=diffs - lag)
        world.hub.heard("A", tip_height=diffs, tip_ns=0, now_s=world.now_s, now_ns=0, heights=own)

    hear(196 + lag)
    world.publish(order_update(203, end_of(199)), worker="B")
    for diffs in range(197 + lag, 203 + lag):
        world.wait(0.07)
        hear(diffs)
    world.publish(
        order_update(198, Position(101)), order_update(203, Position(198)), is_logged=False
    )
    world.wait()
    frames = desk.take()
    assert [f["data"][0]["order"]["oid"] for f in frames if f["channel"] == "orderUpdates"] == [
        198,
        203,
    ]
    assert events(frames) == []


def sign_of_life(made: Envelope) -> Envelope:
    return msgspec.structs.replace(
        made, role=Role.SNAPSHOT, position=made.previous, previous=ORIGIN, payload=b""
    )


def test_silence_of_the_own_files_is_proof_still() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(type_="trades", coin="BTC")
    world.publish(no_trades_yet(100))
    desk.take()
    world.hub.heard(
        "A", tip_height=300, tip_ns=0, now_s=1, now_ns=0, heights=heights(fills=300, diffs=300)
    )
    claims = msgspec.structs.replace(update(205, 0), previous=end_of(199))
    world.publish(claims, worker="B", is_logged=False)
    world.wait()
    frames = desk.take()
    assert (data(frames), events(frames)) == ([205], [])


def no_trades_yet(height: int) -> Envelope:
    return Envelope(
        "trades BTC",
        EPOCH,
        Position(height),
        ORIGIN,
        Role.SNAPSHOT,
        b'{"channel":"trades","data":[]}',
    )
