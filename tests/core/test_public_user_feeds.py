"""Every other public feed: told apart, never repeated, and open to late joiners."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.dialects import official
from streaming.core.envelope import ORIGIN, Envelope, Role
from streaming.core.public import PublicFeed
from streaming.core.public_frames import ITEMS, SNAPLESS, UNNAMED, slot_of
from streaming.core.topic import Kind, Topic

ADA = "0x" + "a1" * 20
BEN = "0x" + "b2" * 20

FILLS = Topic(Kind.USER_FILLS, user=ADA)
UPDATES = Topic(Kind.ORDER_UPDATES, user=ADA)
FAST_CTXS = Topic(Kind.FAST_ASSET_CTXS)


def feed(*topics: Topic) -> PublicFeed:
    made = PublicFeed("p-1")
    for topic in topics:
        made.subscribed(topic)
    return made


def take(made: PublicFeed, channel: str, data: Any) -> list[Envelope]:
    return made.take(orjson.dumps({"channel": channel, "data": data}), read_ns=9)


def acknowledge(made: PublicFeed, topic: Topic) -> list[Envelope]:
    subscription: dict[str, Any] = {"type": topic.kind}
    subscription |= {"user": topic.user} if topic.user else {}
    return take(made, "subscriptionResponse", {"method": "subscribe", "subscription": subscription})


def fill(tid: int) -> dict[str, Any]:
    return {"coin": "BTC", "px": "1.0", "time": 1_000 + tid, "tid": tid}


def fills(*tids: int, is_snapshot: bool = False, user: str = ADA) -> dict[str, Any]:
    head = {"isSnapshot": True} if is_snapshot else {}
    return {**head, "user": user, "fills": [fill(tid) for tid in tids]}


def tids(payload: bytes) -> list[int]:
    return [item["tid"] for item in orjson.loads(payload)["data"]["fills"]]


# --- told apart -----------------------------------------------------------------------------------

CANDLE = {"t": 60_000, "T": 119_999, "s": "BTC", "i": "1m", "o": "1.0", "n": 1}
SHOWN = [
    (Topic(Kind.CANDLE, "BTC", interval="1m"), CANDLE),
    (Topic(Kind.ACTIVE_ASSET_CTX, "BTC"), {"coin": "BTC", "ctx": {}}),
    (Topic(Kind.ACTIVE_ASSET_CTX, "@107"), {"coin": "@107", "ctx": {}}),
    (Topic(Kind.ASSET_CTXS), {"dex": "", "ctxs": []}),
    (Topic(Kind.ASSET_CTXS, dex="xyz"), {"dex": "xyz", "ctxs": []}),
    (Topic(Kind.SPOT_ASSET_CTXS), []),
    (Topic(Kind.ALL_DEXS_ASSET_CTXS), {"ctxs": []}),
    (Topic(Kind.OUTCOME_META_UPDATES), {"updates": []}),
    (UPDATES, []),
    (Topic(Kind.USER_EVENTS, user=ADA), {"fills": []}),
    (Topic(Kind.NOTIFICATION, user=ADA), {"notification": "hello"}),
    (Topic(Kind.OPEN_ORDERS, user=ADA, dex="xyz"), {"dex": "xyz", "user": ADA, "orders": []}),
    (
        Topic(Kind.CLEARINGHOUSE_STATE, user=ADA),
        {"dex": "", "user": ADA, "clearinghouseState": {}},
    ),
    (
        Topic(Kind.ALL_DEXS_CLEARINGHOUSE_STATE, user=ADA),
        {"user": ADA, "clearinghouseStates": []},
    ),
    (Topic(Kind.SPOT_STATE, user=ADA), {"user": ADA, "spotState": {"balances": []}}),
    (Topic(Kind.ACTIVE_ASSET_DATA, "BTC", user=ADA), {"user": ADA, "coin": "BTC"}),
    (Topic(Kind.TWAP_STATES, user=ADA), {"dex": "", "user": ADA, "states": []}),
    (Topic(Kind.WEB_DATA2, user=ADA), {"user": ADA.upper().replace("X", "x")}),
    (Topic(Kind.WEB_DATA3, user=ADA), {"userState": {"user": ADA}, "perpDexStates": []}),
    *((Topic(kind, user=ADA), {"user": ADA, items: []}) for kind, items in ITEMS.items()),
]


@pytest.mark.parametrize(("topic", "data"), SHOWN, ids=[topic.name for topic, _ in SHOWN])
def test_a_frame_reaches_its_topic_byte_for_byte(topic: Topic, data: Any) -> None:
    raw = b'{"channel": "%b", "data": %b}' % (
        official.channel_of(topic).encode(),
        orjson.dumps(data),
    )
    # Everything else that one connection may carry beside it.
    others = [
        other._replace(user=BEN if other.user else "") for other, _ in SHOWN
        if slot_of(other._replace(user=BEN if other.user else "")) != slot_of(topic)
    ]  # fmt: skip
    made = feed(topic, *(other for other in others if other.kind not in UNNAMED))
    for read_ns in (9, 10):
        envelopes = made.take(raw, read_ns=read_ns)
        # A user feed's repetition is no news.
        assert len(envelopes) == (0 if topic.kind in ITEMS and read_ns == 10 else 1)
        for envelope in envelopes:
            assert (envelope.topic, envelope.payload) == (topic.name, raw)
    assert not made.faults


def test_what_frames_do_not_name_needs_a_connection_of_its_own() -> None:
    assert slot_of(UPDATES) == slot_of(UPDATES._replace(user=BEN))
    assert slot_of(FILLS) == slot_of(FILLS._replace(aggregate=True))
    assert slot_of(FILLS) != slot_of(FILLS._replace(user=BEN))
    made = feed(UPDATES, UPDATES._replace(user=BEN))
    assert take(made, "orderUpdates", []) == []
    assert made.faults["ambiguous"] == 1


def test_aggregated_fills_are_a_topic_of_their_own() -> None:
    made = feed(FILLS._replace(aggregate=True))
    (envelope,) = take(made, "userFills", fills(1, is_snapshot=True))
    assert envelope.topic == FILLS._replace(aggregate=True).name


# --- snapshots of user feeds ----------------------------------------------------------------------


def test_who_joins_late_gets_the_snapshot_and_what_came_after_it() -> None:
    made = feed(FILLS)
    assert made.snapshot(FILLS) is None
    (first,) = take(made, "userFills", fills(3, 2, 1, is_snapshot=True))
    joined = made.snapshot(FILLS)
    assert joined is not None
    assert joined.payload == first.payload
    (last,) = take(made, "userFills", fills(4, 5))
    joined = made.snapshot(FILLS)
    assert joined is not None
    assert tids(joined.payload) == [5, 4, 3, 2, 1]
    assert orjson.loads(joined.payload)["data"]["isSnapshot"] is True
    assert (joined.role, joined.position, joined.previous) == (
        Role.SNAPSHOT, last.position, last.position,
    )  # fmt: skip


def test_an_empty_snapshot_is_one_too() -> None:
    made = feed(FILLS)
    (first,) = take(made, "userFills", fills(is_snapshot=True))
    assert first.role is Role.UPDATE
    assert made.snapshot(FILLS) is not None


def test_after_a_reconnect_only_news_pass() -> None:
    made = feed(FILLS)
    take(made, "userFills", fills(2, 1, is_snapshot=True))
    assert made.reconnected() == []
    assert take(made, "userFills", fills(2, 1, is_snapshot=True)) == []
    made.reconnected()
    (news,) = take(made, "userFills", fills(4, 3, 2, is_snapshot=True))
    assert tids(news.payload) == [3, 4]
    assert "isSnapshot" not in orjson.loads(news.payload)["data"]
    joined = made.snapshot(FILLS)
    assert joined is not None
    assert tids(joined.payload) == [4, 3, 2, 1]


def test_a_snapshot_that_repeats_nothing_leaves_a_gap() -> None:
    made = feed(FILLS)
    (first,) = take(made, "userFills", fills(1, is_snapshot=True))
    made.reconnected()
    gap, news = take(made, "userFills", fills(9, 8, is_snapshot=True))
    assert (gap.role, gap.previous) == (Role.GAP, first.position)
    assert (news.role, news.previous, tids(news.payload)) == (Role.UPDATE, gap.position, [8, 9])


def test_trades_that_repeat_nothing_leave_a_gap() -> None:
    def trade(tid: int) -> dict[str, Any]:
        return {"coin": "BTC", "side": "A", "px": "1.0", "time": tid, "tid": tid}

    made = feed(Topic(Kind.TRADES, "BTC"))
    take(made, "trades", [trade(1), trade(2)])
    made.reconnected()
    (news,) = take(made, "trades", [trade(2), trade(3)])
    assert news.role is Role.UPDATE
    made.reconnected()
    gap, news = take(made, "trades", [trade(8), trade(9)])
    assert (gap.role, news.previous) == (Role.GAP, gap.position)


@given(st.lists(st.lists(st.integers(1, 30), max_size=5, unique=True), max_size=10), st.data())
def test_every_item_comes_once_and_a_late_joiner_has_them_all(batches, data) -> None:
    """Updates and reconnects with overlapping snapshots: what was sent is what was there, once."""
    made = feed(FILLS)
    known = [1]
    sent = tids(take(made, "userFills", fills(1, is_snapshot=True))[0].payload)
    for batch in batches:
        if data.draw(st.booleans()):
            made.reconnected()
            known += [tid for tid in batch if tid not in known]
            frame = fills(*reversed(known), is_snapshot=True)
        else:
            known += [tid for tid in batch if tid not in known]
            frame = fills(*batch)
        envelopes = take(made, "userFills", frame)
        assert all(envelope.role is Role.UPDATE for envelope in envelopes)
        sent += [tid for envelope in envelopes for tid in tids(envelope.payload)]
    assert sent == known
    joined = made.snapshot(FILLS)
    assert joined is not None
    assert sorted(tids(joined.payload)) == sorted(known)


# --- feeds without a snapshot ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(SNAPLESS))
def test_the_acknowledgement_is_the_sign_of_life(kind: Kind) -> None:
    topic = Topic(kind, user="" if kind is Kind.OUTCOME_META_UPDATES else ADA)
    made = feed(topic)
    assert made.snapshot(topic) is None
    (alive,) = acknowledge(made, topic)
    assert (alive.role, alive.payload, alive.position) == (Role.SNAPSHOT, b"", ORIGIN)
    assert made.snapshot(topic) == alive
    assert acknowledge(made, topic) == []


def test_a_reconnect_leaves_a_gap_where_nothing_is_repeated() -> None:
    made = feed(UPDATES)
    acknowledge(made, UPDATES)
    (update,) = take(made, "orderUpdates", [{"order": {}, "status": "open"}])
    (gap,) = made.reconnected()
    assert (gap.topic, gap.role, gap.previous) == (UPDATES.name, Role.GAP, update.position)
    assert b"lost" in gap.payload
    # Not served again before it is acknowledged again.
    assert made.snapshot(UPDATES) is None
    assert made.reconnected() == []
    acknowledge(made, UPDATES)
    (update,) = take(made, "orderUpdates", [])
    assert update.previous == gap.position


def test_an_acknowledgement_of_nothing_we_asked_for_is_only_a_notice() -> None:
    made = feed()
    assert acknowledge(made, UPDATES) == []
    assert take(made, "subscriptionResponse", {"method": "subscribe", "subscription": 7}) == []
    assert take(made, "subscriptionResponse", None) == []


# --- packed contexts ------------------------------------------------------------------------------


def packed(contexts: dict[str, Any]) -> str:
    stream = zlib.compressobj(wbits=-15)
    return base64.b64encode(stream.compress(orjson.dumps(contexts)) + stream.flush()).decode()


def test_packed_contexts_are_joined_for_who_comes_late() -> None:
    made = feed(FAST_CTXS)
    take(made, "fastAssetCtxs", packed({"BTC": {"markPx": "1.0", "midPx": "1.5"}, "ETH": {}}))
    take(made, "fastAssetCtxs", packed({"BTC": {"markPx": "2.0"}}))
    joined = made.snapshot(FAST_CTXS)
    assert joined is not None
    data = base64.b64decode(orjson.loads(joined.payload)["data"])
    assert orjson.loads(zlib.decompress(data, wbits=-15)) == {
        "BTC": {"markPx": "2.0", "midPx": "1.5"},
        "ETH": {},
    }


def test_a_frame_that_unpacks_without_end_is_dropped() -> None:
    made = feed(FAST_CTXS)
    assert take(made, "fastAssetCtxs", packed({"BTC": {"markPx": "0" * 20_000_000}})) == []
    assert made.faults["bad_frame"] == 1


@given(st.binary(max_size=60), st.sampled_from([*SHOWN, (FILLS, {})]))
def test_garbage_breaks_nothing(noise: bytes, shown) -> None:
    topic, data = shown
    made = feed(topic)
    whole = orjson.dumps({"channel": official.channel_of(topic), "data": data})
    cut = len(noise) % (len(whole) + 1)
    made.take(whole[:cut] + noise + whole[cut:], read_ns=0)
