"""A node's blocks become the frames of the wanted topics, each in its place."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.books import build_books
from streaming.core.decimals import parse
from streaming.core.envelope import Envelope, Position, Role, end_of
from streaming.core.market import NOT_READY, CheckpointTooOld, Market
from streaming.core.topic import Kind, Topic
from tests.core.node_events import (
    ADA,
    BEN,
    BLOCK_MS,
    diffs,
    fill,
    fills,
    new,
    order,
    remove,
    status,
    statuses,
    update,
)

BOOK = Topic(Kind.L2_BOOK, "BTC")
BBO = Topic(Kind.BBO, "BTC")
TRADES = Topic(Kind.TRADES, "BTC")
MIDS = Topic(Kind.ALL_MIDS)
L4 = Topic(Kind.L4_BOOK, "BTC")
ALL = [BOOK, BBO, TRADES, MIDS, L4]

#: One bid of 1.0 at 100.0 and one ask of 2.0 at 101.0, after block 10.
CHECKPOINT = [("BTC", [order(1)], [order(2, "2.0", side="A", px="101.0")])]


def market(*topics: Topic, checkpoint: Any = CHECKPOINT, **options: Any) -> Market:
    made = Market(epoch="e1", **options)
    for topic in topics:
        made.want(topic)
    if checkpoint is not None:
        made.load_checkpoint(10, checkpoint)
    return made


def data(envelope: Envelope) -> Any:
    frame = orjson.loads(envelope.payload)
    assert frame["channel"] == envelope.topic.split(" ")[0]
    return frame["data"]


def of(topic: Topic, envelopes: list[Envelope]) -> list[Envelope]:
    return [envelope for envelope in envelopes if envelope.topic == topic.name]


# --- frames ---------------------------------------------------------------------------------------


def test_book_frame_byte_for_byte() -> None:
    (frame,) = market(BOOK).apply(diffs(11, new(3, "0.5")))
    assert frame.payload == (
        b'{"channel":"l2Book","data":{"coin":"BTC","time":%d,"levels":'
        b'[[{"px":"100.0","sz":"1.5","n":2}],[{"px":"101.0","sz":"2.0","n":1}]]}}' % BLOCK_MS
    )
    assert (frame.role, frame.epoch, frame.position) == (Role.UPDATE, "e1", Position(11))
    assert frame.times.block_ns // 1_000_000 == BLOCK_MS
    assert frame.times.node_ns // 1_000_000 == BLOCK_MS + 300
    assert frame.times.in_ns // 1_000_000 == BLOCK_MS + 400
    assert frame.times.out_ns == 0


def test_aggregated_and_fast_frames_end_as_upstream() -> None:
    grouped = Topic(Kind.L2_BOOK, "BTC", n_sig_figs=2)
    fast = Topic(Kind.L2_BOOK, "BTC", n_levels=5, fast=True)
    made = market(grouped, fast)
    envelopes = made.apply(diffs(11, *[new(20 + i, px=f"{90 - i}.5") for i in range(9)]))
    assert of(grouped, envelopes)[0].payload.endswith(b'],"spread":"10.0"}}')
    last = of(fast, envelopes)[0]
    assert last.payload.endswith(b'],"fast":true}}')
    assert [len(side) for side in data(last)["levels"]] == [5, 1]


def test_only_coins_that_changed_are_sent() -> None:
    eth = Topic(Kind.L2_BOOK, "ETH")
    made = market(BOOK, eth, checkpoint=[*CHECKPOINT, ("ETH", [], [])])
    envelopes = made.apply(diffs(11, new(3, coin="ETH")))
    assert [envelope.topic for envelope in envelopes] == [eth.name]


def test_bbo_only_when_the_best_changes() -> None:
    made = market(BBO)
    assert made.apply(diffs(11, new(3, px="99.0"))) == []
    (frame,) = made.apply(diffs(12, update(1, "1.0", "0.5")))
    assert data(frame)["bbo"][0] == {"px": "100.0", "sz": "0.5", "n": 1}
    (frame,) = made.apply(diffs(13, remove(2)))
    assert data(frame)["bbo"][1] is None
    assert made.apply(diffs(14, new(4, px="98.0"), remove(4))) == []


def test_all_mids_once_a_second_of_block_time() -> None:
    made = market(MIDS, checkpoint=[*CHECKPOINT, ("ETH", [], []), ("xyz:SP500", [], [])])
    sent = []
    for height in range(11, 41):
        sent += made.apply(diffs(height, new(height), time_ms=BLOCK_MS + (height - 10) * 100))
    assert [envelope.times.block_ns // 10**9 for envelope in sent] == [
        BLOCK_MS // 1000 + second for second in (1, 2, 3)
    ]
    assert data(sent[-1]) == {"mids": {"BTC": "100.5"}}


def test_all_mids_by_dex_and_last_price() -> None:
    books = [
        ("xyz:SP500", [order(1)], [order(2, side="A", px="100.01")]),
        ("ETH", [], []),
        *CHECKPOINT,
    ]
    made = market(checkpoint=books)
    made.apply(
        fills(11, fill(1, "A", coin="ETH", px="2296.45"), fill(1, "B", coin="ETH", px="2296.45"))
    )
    assert made.snapshot(MIDS).payload == (
        b'{"channel":"allMids","data":{"mids":{"BTC":"100.5","ETH":"2296.45"}}}'
    )
    assert made.snapshot(Topic(Kind.ALL_MIDS, dex="xyz")).payload == (
        b'{"channel":"allMids","data":{"dex":"xyz","mids":{"xyz:SP500":"100.005"}}}'
    )


def test_trades_need_no_book() -> None:
    made = market(TRADES, checkpoint=None)
    (frame,) = made.apply(fills(7, fill(5, "A", crossed=True), fill(5, "B", user=BEN)))
    assert data(frame)[0]["users"] == [BEN, ADA]
    assert (frame.position, frame.previous) == (Position(7, 1), end_of(6))
    snapshot = made.snapshot(TRADES)
    assert (snapshot.role, snapshot.position) == (Role.SNAPSHOT, Position(7, 1))
    assert data(snapshot) == data(frame)


def test_primed_fills_are_history_only() -> None:
    made = market(TRADES, checkpoint=None)
    made.prime([fills(5, fill(1, "A"), fill(1, "B"))])
    assert len(data(made.snapshot(TRADES))) == 1
    following = replace(fills(7, fill(2, "A"), fill(2, "B")), previous=5)
    (frame,) = made.apply(following)
    assert frame.previous == Position(5, 1)
    assert len(data(made.snapshot(TRADES))) == 2


def test_history_that_does_not_reach_up_to_the_first_block_is_forgotten() -> None:
    made = market(TRADES, checkpoint=None)
    made.prime([fills(5, fill(1, "A"), fill(1, "B"))])
    (frame,) = made.apply(fills(7, fill(2, "A"), fill(2, "B")))
    assert frame.previous == end_of(6)
    assert [trade["tid"] for trade in data(made.snapshot(TRADES))] == [2]


@given(st.data())
def test_every_topic_is_one_chain_and_ends_at_its_snapshot(choices) -> None:
    """Each frame names the one before; the last frame says what the snapshot says."""
    made = market(*ALL)
    sent: list[Envelope] = []
    resting = [1, 2]
    for height in range(11, 11 + choices.draw(st.integers(1, 12))):
        events = []
        for _ in range(choices.draw(st.integers(0, 3))):
            oid = height * 100 + len(events)
            px = choices.draw(st.integers(95, 106))
            events.append(new(oid, side="B" if px <= 100 else "A", px=f"{px}.0"))
            resting.append(oid)
            if choices.draw(st.booleans()):
                events.append(remove(resting.pop(choices.draw(st.integers(0, len(resting) - 1)))))
        time_ms = BLOCK_MS + height * 400
        blocks = [
            diffs(height, *events, time_ms=time_ms),
            statuses(height, status(height, "badAloPxRejected"), time_ms=time_ms),
            fills(height, fill(height, "A"), fill(height, "B"), time_ms=time_ms),
        ]
        for block in choices.draw(st.permutations(blocks)):
            sent += made.apply(block)
    assert not made.faults
    for topic in ALL:
        own = of(topic, sent)
        begin = end_of(10)
        assert [after.previous for after in own] == [begin, *(e.position for e in own)][: len(own)]
        assert all(before.position < after.position for before, after in pairwise(own))
    for topic, part in ((BOOK, "levels"), (BBO, "bbo")):
        own = of(topic, sent)
        if own:
            assert data(own[-1])[part] == data(made.snapshot(topic))[part]


# --- wanting --------------------------------------------------------------------------------------


def test_want_and_unwant() -> None:
    grouped = Topic(Kind.L2_BOOK, "BTC", n_sig_figs=2)
    made = market()
    for topic in (*ALL, grouped, grouped):
        made.want(topic)
    assert made.wanted == [*ALL, grouped]
    assert made.apply(diffs(11, new(3)))
    for topic in (*ALL, grouped, grouped):
        made.unwant(topic)
    assert made.wanted == []
    assert made.apply(diffs(12, new(4))) == []
    assert made.apply(fills(12, fill(1, "A"), fill(1, "B"))) == []
    assert data(made.snapshot(grouped))["levels"][0] == [{"px": "100.0", "sz": "3.0", "n": 3}]


def test_coins_are_those_of_books_and_trades() -> None:
    made = market(checkpoint=None)
    assert made.coins() == frozenset()
    made.apply(fills(7, fill(1, "A", coin="SOL"), fill(1, "B", coin="SOL")))
    made.load_checkpoint(10, CHECKPOINT)
    made.apply(diffs(11, new(3, coin="ETH")))
    assert made.coins() == {"SOL", "BTC", "ETH"}


# --- checkpoints ----------------------------------------------------------------------------------


def test_without_a_checkpoint_books_say_so() -> None:
    made = market(*ALL, checkpoint=None)
    assert not made.is_ready
    assert not made.has_diffs
    assert made.apply(diffs(11, new(3))) == []
    assert made.has_diffs
    for topic in (BOOK, BBO, MIDS, L4):
        answer = made.snapshot(topic)
        assert (answer.role, answer.payload.decode()) == (Role.NOT_READY, NOT_READY)
    assert made.snapshot(TRADES).role is Role.SNAPSHOT


def test_a_coin_the_checkpoint_lacks_has_an_empty_book() -> None:
    """Delisted coins are valid: acknowledged, then empty. Before a checkpoint nothing is known."""
    assert b'"bbo":[null,null]' in market().snapshot(Topic(Kind.BBO, "NOPE")).payload
    assert Market(epoch="e1").snapshot(Topic(Kind.BBO, "NOPE")).role is Role.NOT_READY


@given(st.integers(10, 16), st.integers(0, 6))
def test_a_checkpoint_joins_the_changes_wherever_it_falls(height: int, before: int) -> None:
    """Loaded before, among or after the changes: the same book, details included."""
    changes = [diffs(11 + i, new(20 + i, px=f"{100 - i}.0")) for i in range(6)]
    told = [statuses(11 + i, status(20 + i, cloid=hex(i))) for i in range(6)]
    whole = market()
    for block in (*changes, *told):
        whole.apply(block)
    resting = [order(20 + i, px=f"{100 - i}.0", cloid=hex(i)) for i in range(height - 10)]
    bids = [{**o, "user": None if o["oid"] == 1 else ADA} for o in [order(1), *resting]]
    joined = market(checkpoint=None)
    for block in (*changes[:before], *told[: before // 2]):
        joined.apply(block)
    joined.load_checkpoint(height, [("BTC", bids, CHECKPOINT[0][2])])
    for block in (*changes[before:], *told[before // 2 :]):
        joined.apply(block)
    assert not joined.faults
    assert (
        data(joined.snapshot(L4))["Snapshot"]["levels"]
        == data(whole.snapshot(L4))["Snapshot"]["levels"]
    )
    assert data(joined.snapshot(BOOK))["levels"] == data(whole.snapshot(BOOK))["levels"]


def test_a_checkpoint_older_than_what_was_kept_is_refused() -> None:
    made = market(checkpoint=None)
    made.apply(diffs(12, new(3)))
    with pytest.raises(CheckpointTooOld, match="block 10, oldest change kept is of block 12"):
        made.load_checkpoint(10, CHECKPOINT)
    assert not made.is_ready
    made.load_checkpoint(11, CHECKPOINT)
    assert made.is_ready
    assert made.height == 12


def test_a_promise_of_coverage_admits_an_older_checkpoint() -> None:
    made = market(checkpoint=None)
    made.covers_from(11)
    made.apply(diffs(13, new(3)))
    made.load_checkpoint(10, CHECKPOINT)
    assert made.height == 13


def test_what_is_kept_is_bounded_and_says_so() -> None:
    made = market(checkpoint=None, buffer_bytes=1000)
    for height in range(11, 21):
        made.apply(diffs(height, new(height)))
    dropped = made.faults["kept_block_dropped"]
    assert 0 < dropped < 10
    with pytest.raises(CheckpointTooOld):
        made.load_checkpoint(10 + dropped - 1, CHECKPOINT)
    made.load_checkpoint(10 + dropped, CHECKPOINT)
    assert data(made.snapshot(BBO))["bbo"][0]["n"] == 1 + 10 - dropped


def test_changes_up_to_the_checkpoint_are_ignored() -> None:
    made = market(BOOK)
    assert made.apply(diffs(9, remove(1))) == []
    assert made.apply(diffs(10, remove(1))) == []
    assert len(made.apply(diffs(11, new(3)))) == 1
    assert not made.faults


def test_a_built_checkpoint_is_the_same() -> None:
    made = market(checkpoint=build_books(CHECKPOINT))
    made.apply(diffs(11, remove(99)))
    assert made.faults == Counter(unknown_oid=1)
    assert made.snapshot(BOOK).payload == market().snapshot(BOOK).payload


def test_an_older_checkpoint_does_not_turn_books_back() -> None:
    made = market()
    made.apply(diffs(11, new(3)))
    with pytest.raises(CheckpointTooOld):
        made.load_checkpoint(10, CHECKPOINT)
    assert made.height == 11


@pytest.mark.parametrize("every_block", [True, False])
def test_a_missing_block_counts_where_every_block_has_a_line(every_block: bool) -> None:
    made = market(*ALL, every_block=every_block)
    made.apply(diffs(11, new(3)))
    envelopes = made.apply(diffs(13, new(4)))
    assert made.is_ready is not every_block
    if not every_block:
        return
    assert made.faults == Counter(missing_blocks=1)
    assert {e.topic for e in envelopes if e.role is Role.NOT_READY} == {
        topic.name for topic in (BOOK, BBO, MIDS, L4)
    }
    assert made.apply(diffs(14, new(5))) == []
    with pytest.raises(CheckpointTooOld):
        made.load_checkpoint(11, CHECKPOINT)
    made.load_checkpoint(13, CHECKPOINT)
    assert data(made.snapshot(BBO))["bbo"][0]["n"] == 2


def test_an_empty_line_teaches_that_every_block_has_one() -> None:
    made = market()
    made.apply(diffs(11))
    made.apply(diffs(13))
    assert not made.is_ready


def test_a_new_listing_starts_with_an_empty_book() -> None:
    l4, book = Topic(Kind.L4_BOOK, "NEW"), Topic(Kind.L2_BOOK, "NEW")
    made = market(l4, book)
    envelopes = made.apply(diffs(11, new(3, coin="NEW")))
    assert data(of(book, envelopes)[0])["levels"] == [[{"px": "100.0", "sz": "1.0", "n": 1}], []]
    (start,) = of(l4, envelopes)
    assert start.role is Role.SNAPSHOT
    assert "Snapshot" in data(start)


# --- l4Book ---------------------------------------------------------------------------------------


def test_l4_snapshot_in_its_form() -> None:
    made = market()
    made.apply(diffs(11, new(3, "0.5", px="100.5")))
    made.apply(statuses(11, status(3, px="100.5", cloid="0xaa")))
    snapshot = data(made.snapshot(L4))["Snapshot"]
    assert list(snapshot) == ["coin", "time", "height", "levels"]
    assert snapshot["height"] == 11
    assert snapshot["levels"][0][0] == {
        "user": ADA,
        "coin": "BTC",
        "side": "B",
        "limitPx": "100.5",
        "sz": "0.5",
        "oid": 3,
        "timestamp": BLOCK_MS,
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "isPositionTpsl": False,
        "reduceOnly": False,
        "orderType": "Limit",
        "tif": "Alo",
        "cloid": "0xaa",
    }


def test_l4_updates_need_both_files_and_other_frames_do_not_wait() -> None:
    made = market(L4, BOOK)
    (first,) = made.apply(diffs(11, new(3), new(4, coin="ETH")))
    assert first.topic == BOOK.name
    (frame,) = made.apply(
        statuses(11, status(3), status(9, "badAloPxRejected"), status(4, coin="ETH"))
    )
    updates = data(frame)["Updates"]
    assert list(updates) == ["time", "height", "order_statuses", "book_diffs"]
    assert updates["height"] == 11
    assert [own["status"] for own in updates["order_statuses"]] == ["open", "badAloPxRejected"]
    assert list(updates["order_statuses"][0]) == ["time", "user", "status", "order"]
    assert updates["order_statuses"][0]["order"]["user"] is None
    assert "children" not in updates["order_statuses"][0]["order"]
    assert updates["book_diffs"] == [
        {
            "user": ADA,
            "oid": 3,
            "px": "100.0",
            "coin": "BTC",
            "raw_book_diff": {"new": {"sz": "1.0"}},
        }
    ]


def test_l4_blocks_come_in_order_whichever_file_is_first() -> None:
    made = market(L4)
    assert made.apply(statuses(11, status(3))) == []
    assert made.apply(statuses(12, status(4))) == []
    (first,) = made.apply(diffs(11, new(3)))
    # Streaming files have no line for a block without changes: a later one says that 12 had none.
    later = made.apply(diffs(14, new(5)))
    assert [first.position.height, *(e.position.height for e in later)] == [11, 12]
    assert [e.position.height for e in made.finish()] == [14]


def test_l4_goes_on_without_statuses_after_a_while() -> None:
    made = market(L4)
    sent = []
    for height in range(11, 91):
        sent += made.apply(diffs(height, new(height)))
    assert [e.position.height for e in sent] == list(range(11, 27))
    assert made.faults["block_without_statuses"] == 16
    (bid,) = [o for o in data(made.snapshot(L4))["Snapshot"]["levels"][0] if o["oid"] == 11]
    assert (bid["timestamp"], bid["tif"], bid["orderType"]) == (BLOCK_MS, None, "Limit")


@pytest.mark.parametrize("late", ["statuses", "diffs"])
def test_l4_blocks_whose_other_file_is_too_late_are_a_gap_and_not_half_a_frame(late: str) -> None:
    """Both files are there, and one falls 75 blocks (5 s) behind the other."""
    made = market(L4)

    def give(kind: str, height: int) -> list[Envelope]:
        return made.apply(
            diffs(height, new(height)) if kind == "diffs" else statuses(height, status(height))
        )

    early = "diffs" if late == "statuses" else "statuses"
    sent = give("diffs", 11) + give("statuses", 11)
    for height in range(12, 87):
        sent += give(early, height)
    for height in range(12, 87):
        sent += give(late, height)
    frames = [e for e in sent if e.role is Role.UPDATE]
    for frame in frames:
        updates = data(frame)["Updates"]
        assert len(updates["order_statuses"]) == len(updates["book_diffs"]) == 1
    gaps = [(e.previous, e.position) for e in sent if e.role is Role.GAP]
    assert gaps == [(Position(11), end_of(12)), (end_of(12), end_of(22))]
    assert [e.position.height for e in frames] == [11, *range(23, 87)]
    chained = [e for e in sent if e.role is not Role.SNAPSHOT]
    assert all(a.position == b.previous for a, b in pairwise(chained))
    assert made.faults["block_cut"] == 11


def test_l4_customer_rebuilds_the_book_from_snapshot_and_updates() -> None:
    made = market(L4)
    start = data(made.snapshot(L4))["Snapshot"]
    sizes = {o["oid"]: parse(o["sz"]) for side in start["levels"] for o in side}
    frames = made.apply(diffs(11, new(3), update(2, "2.0", "1.5"))) + made.apply(statuses(11))
    frames += made.apply(diffs(12, remove(1))) + made.apply(statuses(12))
    for frame in frames:
        for change in data(frame)["Updates"]["book_diffs"]:
            match change["raw_book_diff"]:
                case {"new": {"sz": sz}} | {"update": {"newSz": sz}}:
                    sizes[change["oid"]] = parse(sz)
                case "remove":
                    del sizes[change["oid"]]
    end = data(made.snapshot(L4))["Snapshot"]
    assert sizes == {o["oid"]: parse(o["sz"]) for side in end["levels"] for o in side}


# --- what cannot be used --------------------------------------------------------------------------


def test_garbage_is_counted_by_reason_and_never_raises() -> None:
    made = market(*ALL)
    good = diffs(11, new(3))
    lines = [b"", b"{", b'"x"', b"[]", b"null", b"\xff\xfe", good.lines[0][:-9], *diffs(12).lines]
    made.apply(RawBlock(FileKind.DIFFS, 11, [*lines, *good.lines], 0))
    # What the bad ones said of the book nobody knows.
    assert made.faults == Counter(bad_line=len(lines), lost_blocks=1, missing_blocks=1)
    assert not made.is_ready
    made.load_checkpoint(11, CHECKPOINT)
    made.apply(diffs(12, None, "x", {}, {"coin": 7, "oid": 1, "raw_book_diff": "remove"}, new(4)))
    assert made.faults["bad_diff"] == 4
    made.apply(fills(12, None, [], [ADA, {}]))
    assert made.faults["bad_fill"] == 3
    made.apply(statuses(11, None, {}, {"order": None}, {"order": {"coin": "BTC"}}, status(3)))
    made.apply(diffs(12, remove(1)))
    assert made.faults["old_block"] == 1
    assert made.is_ready


@given(st.lists(st.tuples(st.sampled_from(FileKind), st.integers(1, 20), st.binary(max_size=80))))
def test_no_bytes_raise(noise) -> None:
    made = market(*ALL)
    for kind, height, text in noise:
        made.apply(RawBlock(kind, height, [text], 0))
        made.apply(RawBlock(kind, height, [b'{"block_number":%d,"events":[' % height + text], 0))
    made.finish()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["coin", "oid", "raw_book_diff", "new", "sz", "order"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=4), st.sampled_from(FileKind))
def test_no_event_of_any_shape_raises(events, kind) -> None:
    made = market(*ALL)
    for block in (diffs, statuses, fills):
        for envelope in made.apply(block(11, *events)):
            orjson.loads(envelope.payload)
    made.apply(RawBlock(kind, 12, [orjson.dumps(event) for event in events], 0))
    for topic in ALL:
        shown = made.snapshot(topic)
        if shown.role is not Role.NOT_READY:  # a line that is none ends the books
            orjson.loads(shown.payload)
