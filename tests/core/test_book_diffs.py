"""`l2Diff` and `l4Diff`: a copy kept from a snapshot and the changes is the book itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zlib import crc32

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.envelope import Envelope, Position, Role, end_of
from streaming.core.market import Market
from streaming.core.topic import Kind, Topic, parse_name
from tests.core.node_events import BLOCK_MS, diffs, new, order, remove, status, statuses, update

L4, L4_DIFF = Topic(Kind.L4_BOOK, "BTC"), Topic(Kind.L4_DIFF, "BTC")
CHECKPOINT = [("BTC", [order(1)], [order(2, "2.0", side="A", px="101.0")])]

topics = st.builds(
    lambda n, grouping: Topic(
        Kind.L2_DIFF, "BTC", n_levels=n, n_sig_figs=grouping[0], mantissa=grouping[1]
    ),
    st.sampled_from([1, 2, 5, 20]),
    st.sampled_from([(None, None), (2, None), (5, 2)]),
)


def market(*wanted: Topic, height: int = 10) -> Market:
    made = Market(epoch="n-1")
    for topic in wanted:
        made.want(topic)
    made.load_checkpoint(height, CHECKPOINT)
    return made


def data(envelope: Envelope) -> Any:
    frame = orjson.loads(envelope.payload)
    assert frame["channel"] == envelope.topic.split(" ")[0]
    return frame["data"]


class Copy:
    """A customer's book, as the documentation says to keep it."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        assert snapshot["snapshot"] is True
        self.sides: list[dict[str, tuple[str, int]]] = [{}, {}]
        self.take(snapshot)

    def take(self, frame: dict[str, Any]) -> None:
        for side, levels in zip(self.sides, frame["levels"], strict=True):
            for level in levels:
                if level["n"]:
                    side[level["px"]] = (level["sz"], level["n"])
                else:
                    assert level["sz"] == "0.0"
                    del side[level["px"]]
        if "checksum" in frame:
            assert frame["checksum"] == self.checksum()

    def levels(self) -> list[list[dict[str, Any]]]:
        return [
            [
                {"px": px, "sz": side[px][0], "n": side[px][1]}
                for px in sorted(side, key=float, reverse=is_bid)
            ]
            for side, is_bid in zip(self.sides, (True, False), strict=True)
        ]

    def checksum(self) -> int:
        sides = [
            ",".join(f"{level['px']}:{level['sz']}" for level in side[:20])
            for side in self.levels()
        ]
        return crc32("|".join(sides).encode())


@given(topics, st.data())
def test_a_snapshot_and_the_changes_are_the_window(topic: Topic, choices: st.DataObject) -> None:
    book = replace_kind(topic, Kind.L2_BOOK)
    made = market(topic, book, height=49)
    opening = made.snapshot(topic)
    assert (opening.role, opening.previous) == (Role.SNAPSHOT, end_of(49))
    copy, place = Copy(data(opening)), opening.previous
    resting = {1: "1.0"}
    for height in range(50, 50 + choices.draw(st.integers(1, 30))):
        events = []
        for number in range(choices.draw(st.integers(0, 3))):
            oid, px = height * 10 + number, choices.draw(st.integers(90, 110))
            events.append(new(oid, side="B" if px <= 100 else "A", px=f"{px}.0"))
            resting[oid] = "1.0"
            if choices.draw(st.booleans()):
                gone = choices.draw(st.sampled_from(sorted(resting)))
                del resting[gone]
                events.append(remove(gone))
            elif choices.draw(st.booleans()):
                changed = choices.draw(st.sampled_from(sorted(resting)))
                events.append(update(changed, resting[changed], "0.5"))
                resting[changed] = "0.5"
        sent = made.apply(diffs(height, *events, time_ms=BLOCK_MS + height * 70))
        own = [e for e in sent if e.topic == topic.name]
        for frame in own:
            assert (frame.previous, frame.position) == (place, Position(height))
            place = frame.position
            body = data(frame)
            assert ("checksum" in body) == (height % 64 == 0)
            assert "snapshot" not in body
            copy.take(body)
        assert copy.levels() == data(made.snapshot(book))["levels"]
        assert not made.faults


def replace_kind(topic: Topic, kind: Kind) -> Topic:
    return topic._replace(kind=kind)


def test_a_change_outside_the_window_says_nothing() -> None:
    topic = Topic(Kind.L2_DIFF, "BTC", n_levels=1)
    made = market(topic)
    assert made.apply(diffs(11, new(3, px="90.0"))) == []
    (frame,) = made.apply(diffs(12, remove(1)))
    assert data(frame)["levels"] == [
        [{"px": "90.0", "sz": "1.0", "n": 1}, {"px": "100.0", "sz": "0.0", "n": 0}], []
    ]  # fmt: skip
    assert frame.previous == end_of(10)


def test_who_wants_it_later_gets_the_same_changes() -> None:
    topic = Topic(Kind.L2_DIFF, "BTC")
    early, late = market(topic), market()
    for made in (early, late):
        made.apply(diffs(11, new(3, px="99.0")))
    late.want(topic)
    (one,), (other,) = (made.apply(diffs(12, new(4, px="98.0"))) for made in (early, late))
    assert replace_previous(one) == replace_previous(other)
    assert (one.previous, other.previous) == (Position(11), end_of(11))


def replace_previous(envelope: Envelope) -> Envelope:
    return Envelope(
        envelope.topic, envelope.epoch, envelope.position, end_of(0), envelope.role,
        envelope.payload, envelope.times,
    )  # fmt: skip


def test_l4_diff_leaves_out_the_orders_that_changed_nothing() -> None:
    made = market(L4, L4_DIFF)
    block = statuses(11, status(3), status(9, "badAloPxRejected"))
    made.apply(block)
    book, diff = made.apply(diffs(11, new(3)))
    assert [s["order"]["oid"] for s in data(book)["Updates"]["order_statuses"]] == [3, 9]
    assert [s["order"]["oid"] for s in data(diff)["Updates"]["order_statuses"]] == [3]
    (change,) = data(diff)["Updates"]["book_diffs"]
    assert change.pop("side") == "B"  # which l4Book, as upstream, does not say
    assert [change] == data(book)["Updates"]["book_diffs"]
    (book,) = [*made.apply(statuses(12, status(9, "badAloPxRejected"))), *made.apply(diffs(12))]
    assert book.topic == L4.name
    (_, diff) = [*made.apply(statuses(13)), *made.apply(diffs(13, remove(3)))]
    assert (diff.topic, diff.previous, diff.position) == (L4_DIFF.name, Position(11), Position(13))
    assert data(made.snapshot(L4_DIFF)) == data(made.snapshot(L4))


@pytest.mark.parametrize("lines", [False, True])
def test_l4_diff_with_statuses_read_patiently(lines: bool) -> None:
    made = market(L4_DIFF)
    odd = statuses(11, status(3), {"order": {"coin": "BTC"}}, status(4))
    if lines:
        one = statuses(11, {"order": {"coin": "BTC"}})
        odd = replace(odd, lines=[*statuses(11, status(3), status(4)).lines, *one.lines])
    made.apply(odd)
    (diff,) = made.apply(diffs(11, new(3)))
    assert [s["order"]["oid"] for s in data(diff)["Updates"]["order_statuses"]] == [3]


def test_topics_have_names() -> None:
    for topic in (L4_DIFF, Topic(Kind.L2_DIFF, "BTC", n_levels=7, n_sig_figs=5, mantissa=2)):
        assert parse_name(topic.name) == topic
