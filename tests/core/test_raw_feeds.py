"""Node files as topics: the node's own bytes, every block once, by coin when asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import orjson
import pytest

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.envelope import Position, Role, end_of
from streaming.core.raw_feeds import RawFeeds
from streaming.core.topic import Kind, Topic, parse_name
from tests.core.node_events import diffs, fill, fills, new, status, statuses

FILLS = Topic(Kind.RAW, stream="node_fills")
BTC_FILLS = Topic(Kind.RAW, "BTC", stream="node_fills")


def feeds(*topics: Topic) -> RawFeeds:
    made = RawFeeds(Counter())
    made.epoch = "n-1"
    for topic in topics:
        made.want(topic)
    return made


def events_in(block: RawBlock) -> bytes:
    (line,) = block.lines
    return line[line.index(b'"events":[') + 10 : -2]


def test_a_block_is_one_frame_with_the_nodes_own_bytes() -> None:
    made = feeds(FILLS)
    block = fills(7, fill(1, "A"), fill(1, "B"))
    (frame,) = made.apply(block)
    assert events_in(block) in frame.payload
    data = orjson.loads(frame.payload)
    assert (data["channel"], data["data"]["stream"]) == ("raw", "node_fills")
    assert (data["data"]["height"], len(data["data"]["events"])) == (7, 2)
    assert (frame.position, frame.previous, frame.epoch) == (Position(7), end_of(6), "n-1")
    assert frame.times.block_ns > 0
    assert frame.times.in_ns == block.read_ns


def test_lines_of_one_block_are_joined() -> None:
    one, two = fills(7, fill(1, "A")), fills(7, fill(1, "B"))
    (frame,) = feeds(FILLS).apply(replace(one, lines=[*one.lines, *two.lines]))
    assert orjson.loads(frame.payload)["data"]["events"] == [
        *orjson.loads(b"[%b]" % events_in(one)),
        *orjson.loads(b"[%b]" % events_in(two)),
    ]


def test_an_empty_block_makes_no_frame_and_breaks_no_chain() -> None:
    made = feeds(FILLS)
    made.apply(fills(7, fill(1, "A")))
    assert made.apply(fills(8)) == []
    (frame,) = made.apply(fills(9, fill(2, "A")))
    assert frame.previous == Position(7)


@pytest.mark.parametrize(
    ("stream", "mine", "other"),
    [
        ("node_fills", fills(7, fill(1, "A")), fills(8, fill(2, "A", coin="ETH"))),
        ("node_order_statuses", statuses(7, status(1)), statuses(8, status(2, coin="ETH"))),
        ("node_raw_book_diffs", diffs(7, new(1)), diffs(8, new(2, coin="ETH"))),
    ],
)
def test_only_the_events_of_a_coin(stream: str, mine: RawBlock, other: RawBlock) -> None:
    made = feeds(Topic(Kind.RAW, "BTC", stream=stream))
    both = replace(mine, lines=[*mine.lines, *other.lines])
    (frame,) = made.apply(both)
    assert b"[%b]" % events_in(mine) in frame.payload
    assert made.apply(replace(other, height=9)) == []


def test_a_loss_is_told() -> None:
    made = feeds(FILLS, BTC_FILLS)
    made.apply(fills(7, fill(1, "A")))
    gaps = made.lost(FileKind.FILLS, 11)
    assert {(g.role, g.previous, g.position) for g in gaps} == {(Role.GAP, Position(7), end_of(11))}
    assert all(frame.previous == end_of(11) for frame in made.apply(fills(12, fill(2, "A"))))


def test_who_comes_later_begins_behind_the_last_block() -> None:
    made = feeds()
    assert made.snapshot(FILLS).role is Role.NOT_READY
    made.apply(fills(7, fill(1, "A")))
    made.want(FILLS)
    opening = made.snapshot(FILLS)
    assert (opening.role, opening.payload, opening.position) == (Role.SNAPSHOT, b"", end_of(7))
    (frame,) = made.apply(fills(8, fill(2, "A")))
    assert frame.previous == end_of(7)
    made.unwant(FILLS)
    assert made.apply(fills(9, fill(3, "A"))) == []


@pytest.mark.parametrize("line", [b"", b"{}", b'{"events":[1]}', b"\xff\xfe", b'"events":'])
def test_what_is_no_line_of_a_node_is_counted(line: bytes) -> None:
    made = feeds(FILLS, BTC_FILLS)
    assert made.apply(RawBlock(FileKind.FILLS, 7, [line], 1)) == []
    assert made._faults == Counter(bad_line=1)


def test_topics_have_names() -> None:
    for topic in (FILLS, BTC_FILLS):
        assert parse_name(topic.name) == topic
