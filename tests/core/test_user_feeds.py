"""User feeds from node files: the exchange's frames, in places every worker agrees on."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.envelope import Envelope, Position, Role, end_of
from streaming.core.topic import Kind, Topic
from streaming.core.user_feeds import MAX_ITEMS, UserFeeds
from tests.core import node_events
from tests.core.node_events import ADA, BEN, BLOCK_MS, iso, status

FILL = {
    "coin": "BTC", "px": "100.0", "sz": "0.5", "side": "B", "time": BLOCK_MS,
    "startPosition": "0.0", "dir": "Open Long", "closedPnl": "0.0", "hash": "0x00", "oid": 10,
    "crossed": True, "fee": "0.01", "tid": 1, "feeToken": "USDC", "twapId": None,
}  # fmt: skip
FUNDING = {"coin": "BTC", "funding_amount": "-1.5", "szi": "2.0", "funding_rate": "0.0000125"}
TWAP_STATE = {"coin": "BTC", "user": ADA, "side": "B", "sz": "1.0", "executedSz": "0.5"}

FILLS, ORDERS = Topic(Kind.USER_FILLS, user=ADA), Topic(Kind.ORDER_UPDATES, user=ADA)
EVENTS = Topic(Kind.USER_EVENTS, user=ADA)
ALL = [Topic(kind, user=ADA) for kind in sorted(UserFeeds.KINDS)]


def feeds(*topics: Topic) -> UserFeeds:
    made = UserFeeds(Counter())
    made.epoch = "n-0123456789ab"
    for topic in topics:
        made.want(topic)
    return made


def fill(user: str = ADA, **changes: Any) -> list[Any]:
    return [user, {**FILL, **changes}]


def misc(height: int, *inner: Any, previous: int | None = None) -> RawBlock:
    events = [{"time": iso(BLOCK_MS), "hash": "0xab", "inner": each} for each in inner]
    made = node_events.block(FileKind.MISC, height, events)
    return RawBlock(made.kind, height, made.lines, made.read_ns, previous)


def funding(*users: str) -> dict[str, Any]:
    return {"Funding": {"deltas": [{"user": user, **FUNDING} for user in users]}}


def twap(height: int, name: Any = "activated") -> RawBlock:
    event = {"time": iso(BLOCK_MS), "twap_id": 7, "state": TWAP_STATE, "status": name}
    return node_events.block(FileKind.TWAP, height, [event])


def body(envelope: Envelope) -> Any:
    return orjson.loads(envelope.payload)["data"]


def places(envelopes: list[Envelope]) -> list[tuple[Position, Position, Role]]:
    return [(e.previous, e.position, e.role) for e in envelopes]


# --- what frames look like ------------------------------------------------------------------------


def test_fills_have_the_exchange_s_fields_in_its_order() -> None:
    room = feeds(FILLS)
    full = fill(cloid="0x1", liquidation={"method": "market"}, builder="0xb", builderFee="0.1")
    (made,) = room.apply(node_events.fills(5, fill(BEN), full))
    assert list(body(made)) == ["user", "fills"]
    assert list(body(made)["fills"][0]) == [
        "coin", "px", "sz", "side", "time", "startPosition", "dir", "closedPnl", "hash", "oid",
        "crossed", "fee", "tid", "cloid", "liquidation", "feeToken", "builderFee", "twapId",
    ]  # fmt: skip
    assert (made.previous, made.position) == (end_of(4), Position(5, 1))
    assert made.epoch == room.epoch
    assert made.times.block_ns // 1_000_000 == BLOCK_MS


def test_a_recorded_frame_is_made_from_its_own_fills(recorded_frames: list[str]) -> None:
    frame = next(f for f in recorded_frames if "USUAL" in f and "userFills" in f)
    data = orjson.loads(frame)["data"]
    room = feeds(topic := Topic(Kind.USER_FILLS, user=data["user"]))
    room.apply(node_events.fills(5, [data["user"], data["fills"][0]]))
    assert room.snapshot(topic).payload == frame.encode()


def test_order_updates_leave_out_what_only_the_node_says(recorded_frames: list[str]) -> None:
    frames = [f for f in recorded_frames if '"orderUpdates","data":[' in f]
    assert frames
    for height, frame in enumerate(frames, 5):
        (update,) = orjson.loads(frame)["data"]
        made = status(1, update["status"], time_ms=update["statusTimestamp"])
        made["order"] |= update["order"]
        (envelope,) = feeds(ORDERS).apply(node_events.statuses(height, made))
        assert envelope.payload == frame.encode()


def test_an_order_without_cloid_shows_none() -> None:
    (made,) = feeds(ORDERS).apply(node_events.statuses(5, status(1)))
    assert "cloid" not in body(made)[0]["order"]


def test_historical_orders_show_the_order_whole() -> None:
    (made,) = feeds(Topic(Kind.USER_HISTORICAL_ORDERS, user=ADA)).apply(
        node_events.statuses(5, status(1, "filled"))
    )
    (item,) = body(made)["orderHistory"]
    assert list(item) == ["order", "status", "statusTimestamp"]
    assert item["order"] == status(1)["order"]
    assert item["statusTimestamp"] == BLOCK_MS


def test_only_twap_fills_are_slices() -> None:
    room = feeds(Topic(Kind.USER_TWAP_SLICE_FILLS, user=ADA))
    (made,) = room.apply(node_events.fills(5, fill(), fill(twapId=9), fill(tid=2)))
    (item,) = body(made)["twapSliceFills"]
    assert item["twapId"] == 9
    assert "twapId" not in item["fill"]
    assert made.position == Position(5, 1)


def test_funding_and_ledger_come_from_misc_events() -> None:
    room = feeds(Topic(Kind.USER_FUNDINGS, user=ADA), Topic(Kind.USER_LEDGER, user=ADA))
    delta = {"type": "send", "user": BEN, "destination": ADA}
    ledger = {"LedgerUpdate": {"users": [BEN, ADA], "delta": delta}}
    one, other = room.apply(misc(5, {"CDeposit": {"user": ADA}}, funding(BEN, ADA), ledger))
    assert body(one)["fundings"] == [
        {"time": BLOCK_MS, "coin": "BTC", "usdc": "-1.5", "szi": "2.0",
         "fundingRate": "0.0000125", "nSamples": None}
    ]  # fmt: skip
    assert body(other)["nonFundingLedgerUpdates"] == [
        {"time": BLOCK_MS, "hash": "0xab", "delta": delta}
    ]
    assert (one.position, other.position) == (Position(5, 1), Position(5, 2))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("finished", {"status": "finished"}),
        ({"error": "No margin."}, {"status": "error", "description": "No margin."}),
    ],
)
def test_twap_history_counts_in_seconds(name: Any, shown: Any) -> None:
    (made,) = feeds(Topic(Kind.USER_TWAP_HISTORY, user=ADA)).apply(twap(5, name))
    assert body(made)["history"] == [
        {"time": BLOCK_MS // 1000, "state": TWAP_STATE, "status": shown, "twapId": 7}
    ]


def test_aggregated_fills_add_up() -> None:
    room = feeds(Topic(Kind.USER_FILLS, user=ADA, aggregate=True))
    parts = [
        fill(px="100.0", sz="1.0"), fill(oid=11, sz="7.0"), fill(px="103.0", sz="2.0", tid=2),
    ]  # fmt: skip
    (made,) = room.apply(node_events.fills(5, *parts))
    shown = [(f["oid"], f["px"], f["sz"], f["fee"], f["tid"]) for f in body(made)["fills"]]
    assert shown == [(10, "102.0", "3.0", "0.02", 1), (11, "100.0", "7.0", "0.01", 1)]


# --- what opens a feed ----------------------------------------------------------------------------


def test_a_snapshot_holds_older_fills_newest_first() -> None:
    room = feeds()
    room.prime([node_events.fills(3, fill(tid=1)), node_events.fills(4, fill(tid=2))])
    room.apply(node_events.fills(5, fill(tid=3), fill(BEN)))
    for wanted in (False, True):
        if wanted:
            room.want(FILLS)
        opening = room.snapshot(FILLS)
        assert opening.role is Role.SNAPSHOT
        assert opening.position == end_of(5)
        assert list(body(opening)) == ["isSnapshot", "user", "fills"]
        assert [f["tid"] for f in body(opening)["fills"]] == [3, 2, 1]


def test_a_snapshot_has_no_hole_in_it() -> None:
    room = feeds(FILLS)
    room.prime([node_events.fills(3, fill(tid=1))])
    room.apply(node_events.fills(5, fill(tid=2)))
    assert [f["tid"] for f in body(room.snapshot(FILLS))["fills"]] == [2]
    room.lost(FileKind.FILLS, 6)
    assert body(room.snapshot(FILLS))["fills"] == []


def test_a_snapshot_is_bounded() -> None:
    room = feeds(FILLS)
    room.apply(node_events.fills(5, *(fill(tid=tid) for tid in range(MAX_ITEMS + 5))))
    assert len(body(room.snapshot(FILLS))["fills"]) == MAX_ITEMS


def test_history_is_bounded_in_bytes() -> None:
    room = UserFeeds(Counter(), history_bytes=2_000)
    for height in range(5, 50):
        room.apply(node_events.fills(height, fill(tid=height)))
    shown = [f["tid"] for f in body(room.snapshot(FILLS))["fills"]]
    assert 1 < len(shown) < 6
    assert shown[0] == 49


def test_orders_have_no_opening_frame() -> None:
    room = feeds(ORDERS)
    assert room.snapshot(ORDERS).role is Role.NOT_READY
    room.apply(node_events.statuses(5))
    opening = room.snapshot(ORDERS)
    # Nothing of hers was in block 5: everything is told since the one before.
    assert (opening.role, opening.payload, opening.position) == (Role.SNAPSHOT, b"", end_of(4))


# --- continuity -----------------------------------------------------------------------------------


def test_a_loss_is_told_and_what_follows_claims_nothing_of_it() -> None:
    room = feeds(FILLS, ORDERS)
    room.apply(node_events.fills(5, fill()))
    gaps = room.lost(FileKind.FILLS, 8)
    assert places(gaps) == [(Position(5, 0), end_of(8), Role.GAP)]
    assert gaps[0].payload == b"no node has the fills"
    after = room.apply(node_events.fills(9, fill()))
    assert places(after) == [(end_of(8), Position(9, 0), Role.UPDATE)]


def test_who_comes_later_claims_less() -> None:
    room = feeds()
    room.apply(node_events.fills(5, fill()))
    room.want(FILLS)
    assert places(room.apply(node_events.fills(9, fill()))) == [
        (end_of(5), Position(9, 0), Role.UPDATE)
    ]
    room.unwant(FILLS)
    assert room.apply(node_events.fills(10, fill())) == []


def test_an_old_block_is_counted() -> None:
    faults: Counter[str] = Counter()
    room = UserFeeds(faults)
    room.apply(node_events.fills(5))
    assert room.apply(node_events.fills(5)) == []
    assert faults == {"old_block": 1}


# --- userEvents -----------------------------------------------------------------------------------


def test_user_events_wait_for_every_file_of_a_block() -> None:
    room = feeds(EVENTS)
    for block in (node_events.statuses(4), node_events.fills(4), misc(4), twap(4)):
        room.apply(block)
    assert room.apply(node_events.fills(5, fill(twapId=3))) == []
    assert room.apply(misc(5, funding(ADA, ADA))) == []
    assert room.apply(RawBlock(FileKind.TWAP, 5, misc(5).lines, 0)) == []
    made = room.apply(node_events.statuses(5, status(8, "marginCanceled"), status(9, "canceled")))
    assert [list(body(e)) for e in made] == [
        ["fills"], ["twapSliceFills"], ["nonUserCancel"], ["funding"], ["funding"]
    ]  # fmt: skip
    assert body(made[2]) == {"nonUserCancel": [{"coin": "BTC", "oid": 8}]}
    assert [e.position for e in made] == sorted({e.position for e in made})
    assert made[0].payload.startswith(b'{"channel":"user","data":{"fills":[{"coin":')


def test_user_events_do_not_wait_for_a_silent_file() -> None:
    room = feeds(EVENTS)
    room.apply(misc(4))
    assert room.apply(node_events.fills(5, fill())) == []
    assert len(room.apply(node_events.fills(8))) == 1


def test_a_late_event_is_told_as_a_gap_once() -> None:
    room = feeds(EVENTS)
    room.apply(misc(4))
    room.apply(node_events.fills(5, fill()))
    room.apply(node_events.fills(9))
    late = room.apply(misc(5, funding(ADA, ADA)))
    assert places(late) == [(Position(5, 0), end_of(6), Role.GAP)]
    assert room.apply(misc(6)) == []  # late, and nothing of hers


def test_a_loss_in_one_file_takes_the_block_from_user_events() -> None:
    room = feeds(EVENTS)
    room.apply(misc(4))
    room.apply(node_events.fills(5, fill()))
    (gap,) = room.lost(FileKind.MISC, 6)
    assert (gap.position, gap.role) == (end_of(6), Role.GAP)
    assert room.apply(node_events.fills(6, fill())) == []
    last = (misc(7), node_events.fills(7, fill()), node_events.fills(10))
    (made,) = [envelope for block in last for envelope in room.apply(block)]
    assert (made.previous, made.position) == (end_of(6), Position(7, 0))


# --- bad input ------------------------------------------------------------------------------------

odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5) | st.just(ADA),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["user", "inner", "Funding", "deltas", "order", "time", "status"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(UserFeeds.FILES)), st.lists(odd, max_size=3), st.booleans())
def test_odd_events_never_raise(kind: FileKind, events: list[Any], is_streaming: bool) -> None:
    room = feeds(*ALL)
    for height in (5, 6, 9):
        room.apply(node_events.block(kind, height, [*events, [ADA, {}]], is_streaming=is_streaming))


@given(st.sampled_from(sorted(UserFeeds.FILES)), st.binary(max_size=30))
def test_garbage_lines_never_raise(kind: FileKind, garbage: bytes) -> None:
    room = feeds(*ALL)
    assert room.apply(RawBlock(kind, 5, [garbage, ADA.encode() + garbage], 0)) == []


def test_one_odd_status_does_not_cost_the_others() -> None:
    faults: Counter[str] = Counter()
    room = UserFeeds(faults)
    room.want(ORDERS)
    (made,) = room.apply(node_events.statuses(5, {"user": ADA}, status(1), {"user": 7}))
    assert made.position == Position(5, 1)
    assert faults == {"bad_user_event": 1}


# --- laws -----------------------------------------------------------------------------------------

users = st.sampled_from([ADA, BEN])


@st.composite
def chains(draw: st.DrawFn) -> list[RawBlock]:
    """Ten blocks of every file, a file at most two blocks behind another."""
    blocks: list[RawBlock] = []
    for height in range(100, 110):
        orders = [
            {**status(oid, draw(st.sampled_from(["open", "marginCanceled"]))), "user": draw(users)}
            for oid in range(draw(st.integers(0, 3)))
        ]
        own = [
            fill(draw(users), tid=tid, twapId=draw(st.sampled_from([None, 4])))
            for tid in range(draw(st.integers(0, 3)))
        ]
        row = [
            node_events.fills(height, *own),
            node_events.statuses(height, *orders),
            misc(height, *([funding(draw(users))] if draw(st.booleans()) else [])),
            twap(height),
        ]
        blocks += draw(st.permutations(row))
    return blocks


@given(chains(), st.data())
def test_rooms_begun_at_different_blocks_publish_the_same(
    blocks: list[RawBlock], data: st.DataObject
) -> None:
    late_by = data.draw(st.integers(0, len(blocks) - 1))
    first, second = feeds(*ALL), feeds(*ALL)
    said = {(e.topic, e.position): e for block in blocks for e in first.apply(block)}
    for block in blocks[late_by:]:
        for later in second.apply(block):
            earlier = said[later.topic, later.position]
            assert later.role is Role.UPDATE
            assert (later.payload, later.times) == (earlier.payload, earlier.times)
            assert earlier.previous <= later.previous < later.position


@given(chains())
def test_places_rise_and_join(blocks: list[RawBlock]) -> None:
    room = feeds(*ALL)
    at: dict[str, Position] = {}
    for block in blocks:
        for envelope in room.apply(block):
            if envelope.topic in at and envelope.topic != EVENTS.name:
                assert envelope.previous == at[envelope.topic]
            assert at.get(envelope.topic, end_of(99)) <= envelope.previous < envelope.position
            at[envelope.topic] = envelope.position


@given(chains())
def test_a_snapshot_stands_where_the_next_frame_begins(blocks: list[RawBlock]) -> None:
    """However quiet the topic is: who resumes from its last frame has missed nothing."""
    room = feeds(*ALL)
    told: dict[str, Position] = {}
    for number, block in enumerate(blocks):
        for envelope in room.apply(block):
            assert told.get(envelope.topic, envelope.previous) == envelope.previous
            told[envelope.topic] = envelope.position
        if number >= 3:  # every file has begun
            told = {topic.name: room.snapshot(topic).previous for topic in ALL}
            for topic in ALL:
                assert room.snapshot(topic).position >= told[topic.name]


@given(chains())
def test_many_followed_users_change_nothing(blocks: list[RawBlock]) -> None:
    one, many = feeds(*ALL), feeds(*ALL)
    for number in range(40):
        many.want(Topic(Kind.ORDER_UPDATES, user=f"0x{number:040x}"))
        many.want(Topic(Kind.USER_EVENTS, user=f"0x{number:040x}"))
    for block in blocks:
        assert one.apply(block) == many.apply(block)


# --- recorded blocks ------------------------------------------------------------------------------


def recorded(kind: FileKind, mode: str) -> list[RawBlock]:
    folder = Path(os.environ.get("RELAY_TEST_DATA") or "") / "node"
    paths = list(folder.glob(f"{kind.value}_{mode}.*.jsonl.gz"))
    if not paths:
        pytest.skip("RELAY_TEST_DATA is not set: recorded blocks are not here")
    by_height: dict[int, list[bytes]] = {}
    for line in gzip.decompress(paths[0].read_bytes()).splitlines():
        by_height.setdefault(orjson.loads(line)["block_number"], []).append(line)
    return [RawBlock(kind, height, lines, 1) for height, lines in by_height.items()]


@pytest.mark.parametrize("kind", [FileKind.FILLS, FileKind.STATUSES])
def test_both_ways_of_writing_files_make_the_same_frames(kind: FileKind) -> None:
    whole, streaming = recorded(kind, "by_block"), recorded(kind, "streaming")
    text = b"".join(line for block in whole for line in block.lines).decode()
    names = {piece[:42] for piece in text.split('"0x') if kind is FileKind.FILLS}
    names = {"0x" + name[:40] for name in names} | {
        "0x" + piece[:40] for piece in text.split('"user":"0x')[1:]
    }
    topics = [
        Topic(wanted, user=name)
        for name in sorted(names)
        for wanted in (Kind.USER_FILLS, Kind.ORDER_UPDATES, Kind.USER_HISTORICAL_ORDERS)
    ]

    def said(blocks: list[RawBlock]) -> list[tuple[str, Position, bytes]]:
        room = feeds(*topics)
        return sorted((e.topic, e.position, e.payload) for b in blocks for e in room.apply(b))

    made = said(whole)
    assert made == said(streaming)
    shown = sum(len(body(Envelope(t, "", p, p, Role.UPDATE, d)) if "orderU" in t else
                    orjson.loads(d)["data"].get("fills", ())) for t, p, d in made)  # fmt: skip
    events = sum(len(orjson.loads(line)["events"]) for b in whole for line in b.lines)
    assert shown == events
