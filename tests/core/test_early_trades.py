"""Trades as they are written: the same frames, whichever node was first, however much was seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.blocks import FileKind, OpenBlock, RawBlock
from streaming.core.envelope import Envelope, Position, Role
from streaming.core.market import Market
from streaming.core.topic import Kind, Topic, parse_name
from tests.core.node_events import ADA, BEN, fill, fills, line
from tests.core.relay_world import World, begun, events, update

COINS = ("BTC", "ETH")
TOPICS = {coin: Topic(Kind.TRADES, coin, by_event=True) for coin in COINS}
FIRST = 10


def market() -> Market:
    made = Market(epoch="n-1")
    for topic in TOPICS.values():
        made.want(topic)
    made.apply(fills(FIRST))
    return made


def opened(height: int, written: list[Any], size: int, *, per_line: int = 1) -> OpenBlock:
    """The first `size` fills of a block, as a node would have them in its file."""
    parts = [written[i : min(i + per_line, size)] for i in range(0, size, per_line)]
    lines = [line(height, part) for part in parts]
    return OpenBlock(FileKind.FILLS, height, lines, 1, height - 1)


def closed(height: int, written: list[Any]) -> RawBlock:
    return replace(fills(height, *written), previous=height - 1)


def shape(envelopes: list[Envelope]) -> list[tuple[str, Position, Position, bytes, Role]]:
    return [(e.topic, e.position, e.previous, e.payload, e.role) for e in envelopes]


def of(topic: Topic, envelopes: list[Envelope]) -> list[Envelope]:
    return [e for e in envelopes if e.topic == topic.name]


def tids(envelopes: list[Envelope]) -> Counter[int]:
    return Counter(
        trade["tid"]
        for e in envelopes
        if e.role is Role.UPDATE
        for trade in orjson.loads(e.payload)["data"]
    )


@st.composite
def chains(draw: st.DrawFn) -> list[list[Any]]:
    """Blocks of fills: both sides of some trades, shuffled, some across two blocks."""
    blocks: list[list[Any]] = [[] for _ in range(draw(st.integers(1, 4)))]
    for tid in range(1, draw(st.integers(1, 12)) + 1):
        coin, at = draw(st.sampled_from(COINS)), draw(st.integers(0, len(blocks) - 1))
        then = min(at + draw(st.sampled_from((0, 0, 0, 1))), len(blocks) - 1)
        blocks[at].append(fill(tid, "A", coin=coin, user=ADA, crossed=True))
        blocks[then].append(fill(tid, "B", coin=coin, user=BEN))
    return [draw(st.permutations(block)) for block in blocks]


@settings(max_examples=150)
@given(chains(), st.data())
def test_what_is_handed_out_does_not_depend_on_how_it_was_seen(
    blocks: list[list[Any]], data: st.DataObject
) -> None:
    at_close, as_written = market(), market()
    ours: list[Envelope] = []
    theirs: list[Envelope] = []
    for height, written in enumerate(blocks, FIRST + 1):
        theirs += at_close.apply(closed(height, written))
        for _ in range(data.draw(st.integers(0, 6)) if written else 0):
            source = data.draw(st.sampled_from(("a", "b")))
            size = data.draw(st.integers(1, len(written)))
            # One node writes a fill a line, the other two; a line comes whole.
            per_line = 1 if source == "a" else 2
            size = min(-(-size // per_line) * per_line, len(written))
            block = opened(height, written, size, per_line=per_line)
            ours += as_written.apply_open(block, source=source)
            for topic in TOPICS.values():
                snapshot = as_written.snapshot(topic)
                assert all(e.position == snapshot.position for e in of(topic, ours)[-1:])
        ours += as_written.apply(closed(height, written))
    for topic in TOPICS.values():
        assert shape(of(topic, ours)) == shape(of(topic, theirs))
    assert all(count == 1 for count in tids(ours).values())
    for topic in TOPICS.values():
        chain = of(topic, ours)
        assert all(a.position == b.previous for a, b in pairwise(chain))
        assert as_written.snapshot(topic).payload == at_close.snapshot(topic).payload


def test_nodes_that_wrote_a_block_differently_lose_no_trade() -> None:
    made = market()
    one = [fill(1, "A"), fill(1, "B"), fill(2, "A"), fill(2, "B")]
    sent = made.apply_open(opened(11, one[2:], 2), source="a")
    sent += made.apply(closed(11, one))
    assert tids(sent) == {1: 1, 2: 1}
    positions = [e.position for e in sent]
    assert positions == sorted(set(positions))


def test_a_block_that_is_not_known_to_be_the_next_is_not_shown() -> None:
    made, written = market(), [fill(1, "A"), fill(1, "B")]
    block = opened(13, written, 2)
    assert made.apply_open(block, source="a") == []
    assert made.apply_open(replace(block, previous=None), source="a") == []
    assert tids(made.apply_open(replace(block, previous=FIRST), source="a")) == {1: 1}


def test_the_topic_has_a_name_of_its_own() -> None:
    for topic in TOPICS.values():
        assert parse_name(topic.name) == topic
        assert topic.name != topic._replace(by_event=False).name


def test_a_customer_gets_each_trade_marked_and_pays_for_the_block_once() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1, flush="event")
    topic = TOPICS["BTC"]
    world.publish(begun(10, 10, topic=topic))
    desk.take()
    places = [Position(10), Position(11, 1), Position(11, 3), Position(12, 1)]
    for before, (height, index) in pairwise(places):
        made = update(height, 0, index=index, topic=topic)
        world.publish(msgspec.structs.replace(made, previous=before))
    frames = desk.socket.taken[-3:]
    assert [(f.counted.channel, f.counted.messages) for f in frames if f.counted] == [
        ("trades", 1),
        ("trades", 0),
        ("trades", 1),
    ]
    assert [f["final"] for f in desk.take()] == [False] * 3


def test_other_types_say_that_their_frames_are_whole_blocks() -> None:
    desk = World().desk()
    (refused,) = desk.subscribe("l2Book", coin="BTC", id=1, flush="event")
    assert events([refused]) == ["error"]
    assert (refused["data"]["field"], refused["data"]["id"]) == ("flush", 1)
