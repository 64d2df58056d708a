"""Frames of the public WebSocket pass byte for byte; repeated trades are cut out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.envelope import ORIGIN, Envelope, Position, Role
from streaming.core.public import MAX_REMEMBERED, MAX_TOPICS, Notice, PublicFeed
from streaming.core.public_frames import slot_in
from streaming.core.topic import Kind, Topic

BOOK = Topic(Kind.L2_BOOK, "BTC")
FAST = Topic(Kind.L2_BOOK, "BTC", n_levels=5, fast=True)
GROUPED = Topic(Kind.L2_BOOK, "BTC", n_sig_figs=3)
TRADES, ETH = Topic(Kind.TRADES, "BTC"), Topic(Kind.TRADES, "ETH")
BBO = Topic(Kind.BBO, "BTC")


def feed(*topics: Topic) -> PublicFeed:
    made = PublicFeed("p1")
    for topic in topics:
        made.subscribed(topic)
    return made


def take(made: PublicFeed, channel: str, data: Any) -> list[Envelope]:
    return made.take(orjson.dumps({"channel": channel, "data": data}), read_ns=9)


def book(time_ms: int = 1000, **others: Any) -> dict[str, Any]:
    return {"coin": "BTC", "time": time_ms, "levels": [[], []], **others}


def trades(*tids: int, coin: str = "BTC") -> list[dict[str, Any]]:
    return [{"coin": coin, "side": "A", "px": "1.0", "time": tid * 10, "tid": tid} for tid in tids]


def tids(envelope: Envelope | None) -> list[int]:
    assert envelope is not None
    return [trade["tid"] for trade in orjson.loads(envelope.payload)["data"]]


def test_a_frame_passes_byte_for_byte() -> None:
    raw = b'{ "channel":"bbo", "data":{"coin":"BTC","time":1000,"bbo":[null, null]} }'
    (envelope,) = feed(BBO).take(raw, read_ns=9)
    assert envelope.payload is raw
    assert envelope.topic == "bbo BTC"
    assert (envelope.position, envelope.previous, envelope.role) == (
        Position(1),
        ORIGIN,
        Role.UPDATE,
    )
    assert (envelope.times.block_ns, envelope.times.in_ns) == (1_000_000_000, 9)


def test_what_was_left_and_is_wanted_again_has_another_epoch() -> None:
    made = feed(BOOK, TRADES)
    (first,) = take(made, "l2Book", book())
    (known,) = take(made, "trades", trades(1, 2))
    for topic in (BOOK, TRADES):
        made.unsubscribed(topic)
        made.subscribed(topic)
        assert made.snapshot(topic) is None  # nothing is known of the time between
    (again,) = take(made, "l2Book", book())
    (news,) = take(made, "trades", trades(1, 2, 3))
    assert len({first.epoch, again.epoch}) == len({known.epoch, news.epoch}) == 2
    assert (again.previous, news.previous, tids(news)) == (ORIGIN, ORIGIN, [3])


def test_positions_count_the_feeds_frames_and_chain_per_topic() -> None:
    made = feed(BOOK, BBO)
    (first,) = take(made, "l2Book", book())
    take(made, "bbo", {"coin": "BTC", "time": 1, "bbo": [None, None]})
    (second,) = take(made, "l2Book", book())
    assert (second.position, second.previous) == (Position(3), first.position)


@pytest.mark.parametrize(
    ("subscribed", "data", "topic"),
    [
        ([BOOK], book(), BOOK),
        ([FAST], book(fast=True), FAST),
        ([GROUPED], book(spread="1.0"), GROUPED),
        ([GROUPED], book(), GROUPED),
        ([BOOK, FAST], book(fast=True), FAST),
        ([BOOK, FAST], book(), BOOK),
        ([BOOK, GROUPED], book(spread="1.0"), GROUPED),
        ([BOOK, GROUPED], book(), BOOK),
    ],
)
def test_the_book_variant_is_told_from_what_is_subscribed(subscribed, data, topic) -> None:
    (envelope,) = take(feed(*subscribed), "l2Book", data)
    assert envelope.topic == topic.name


@pytest.mark.parametrize(
    ("subscribed", "data", "reason"),
    [
        ([], book(), "not_subscribed"),
        ([BOOK], book(fast=True), "not_subscribed"),
        ([BOOK], book(spread="1.0"), "not_subscribed"),
        (
            [GROUPED, Topic(Kind.L2_BOOK, "BTC", n_sig_figs=4)],
            book(spread="1.0"),
            "ambiguous_l2_book",
        ),
    ],
)
def test_a_book_that_cannot_be_told_is_dropped_and_counted(subscribed, data, reason) -> None:
    made = feed(*subscribed)
    assert take(made, "l2Book", data) == []
    assert made.faults == Counter({reason: 1})


def test_mids_of_a_dex() -> None:
    made = feed(Topic(Kind.ALL_MIDS), Topic(Kind.ALL_MIDS, dex="xyz"))
    (main,) = take(made, "allMids", {"mids": {"BTC": "1.0"}})
    (dex,) = take(made, "allMids", {"dex": "xyz", "mids": {}})
    assert (main.topic, dex.topic) == ("allMids", "allMids xyz")


# --- trades ---------------------------------------------------------------------------------------


def test_repeated_trades_are_cut_out() -> None:
    made = feed(TRADES)
    (whole,) = take(made, "trades", trades(1, 2, 3))
    assert whole.payload == orjson.dumps({"channel": "trades", "data": trades(1, 2, 3)})
    assert take(made, "trades", trades(2, 3)) == []
    (part,) = take(made, "trades", trades(2, 3, 4, 5))
    assert part.payload == orjson.dumps({"channel": "trades", "data": trades(4, 5)})
    assert part.previous == whole.position
    assert not made.faults


@given(st.lists(st.lists(st.integers(1, 40), max_size=6), max_size=12))
def test_every_trade_comes_once_and_in_order(frames) -> None:
    made = feed(TRADES)
    sent = [
        tid for frame in frames for e in take(made, "trades", trades(*frame)) for tid in tids(e)
    ]
    assert sent == list(dict.fromkeys(tid for frame in frames for tid in frame))
    if sent:
        assert tids(made.snapshot(TRADES)) == sent[-30:]


def test_memory_of_trades_is_bounded_but_survives_a_resubscription() -> None:
    made = feed(TRADES)
    for tid in range(1, MAX_REMEMBERED + 500):
        take(made, "trades", trades(tid))
    newest = range(MAX_REMEMBERED + 470, MAX_REMEMBERED + 500)
    made.unsubscribed(TRADES)
    made.subscribed(TRADES)
    assert take(made, "trades", trades(*newest)) == []
    assert len(take(made, "trades", trades(1))) == 1


def test_a_frame_of_two_coins_is_split() -> None:
    one, two = take(feed(TRADES, ETH), "trades", trades(1) + trades(2, coin="ETH"))
    assert (one.topic, tids(one), two.topic, tids(two)) == ("trades BTC", [1], "trades ETH", [2])


# --- snapshots, notices, garbage ------------------------------------------------------------------


def test_snapshot_is_the_last_frame() -> None:
    made = feed(BOOK)
    assert made.snapshot(BOOK) is None
    take(made, "l2Book", book(1000))
    (last,) = take(made, "l2Book", book(2000))
    snapshot = made.snapshot(BOOK)
    assert snapshot is not None
    assert (snapshot.role, snapshot.payload) == (Role.SNAPSHOT, last.payload)
    assert (snapshot.position, snapshot.epoch) == (last.position, "p1")
    made.unsubscribed(BOOK)
    assert made.snapshot(BOOK) is None


@pytest.mark.parametrize(
    ("raw", "notice"),
    [
        (b'{"channel":"pong"}', Notice("pong", None)),
        (b'{"channel":"error","data":"no"}', Notice("error", "no")),
        (
            b'{"channel":"subscriptionResponse","data":{"method":"subscribe"}}',
            Notice("subscriptionResponse", {"method": "subscribe"}),
        ),
        (
            b"Websocket connection established.",
            Notice("greeting", "Websocket connection established."),
        ),
    ],
)
def test_notices_are_set_aside(raw: bytes, notice: Notice) -> None:
    made = feed()
    assert made.take(raw, read_ns=0) == []
    assert made.notice == notice
    assert not made.faults
    take(made, "trades", trades(1))
    assert made.notice is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"<html>502</html>", "not_json"),
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (b"[]", "bad_frame"),
        (b"7", "bad_frame"),
        (b"{}", "bad_frame"),
        (b'{"channel":7,"data":{}}', "unknown_channel"),
        (b'{"channel":"webData4","data":{}}', "unknown_channel"),
        (b'{"channel":"webData2","data":{}}', "bad_frame"),
        (b'{"channel":"candle","data":{"t":1,"s":"BTC"}}', "bad_frame"),
        (b'{"channel":"openOrders","data":{"user":"0x1","dex":null,"orders":[]}}', "bad_frame"),
        (b'{"channel":"userFills","data":{"user":"0x1","fills":[]}}', "not_subscribed"),
        (b'{"channel":"userFundings","data":{"user":"0x1","fundings":[7]}}', "bad_frame"),
        (b'{"channel":"orderUpdates","data":[]}', "not_subscribed"),
        (b'{"channel":"fastAssetCtxs","data":"%%"}', "bad_frame"),
        (b'{"channel":"fastAssetCtxs","data":"AAAA"}', "bad_frame"),
        (b'{"channel":"bbo"}', "bad_frame"),
        (b'{"channel":"bbo","data":{"coin":7,"time":1}}', "bad_frame"),
        (b'{"channel":"bbo","data":{"coin":"BTC","time":"1"}}', "bad_frame"),
        (b'{"channel":"l2Book","data":{"coin":"BTC","time":1}}', "bad_frame"),
        (b'{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[]}}', "bad_frame"),
        (b'{"channel":"allMids","data":{"mids":[]}}', "bad_frame"),
        (b'{"channel":"trades","data":{}}', None),
        (b'{"channel":"trades","data":[{"coin":"BTC","time":1}]}', "bad_frame"),
        (b'{"channel":"trades","data":[{"coin":"BTC","time":1,"tid":"1"}]}', "bad_frame"),
        (b'{"channel":"trades","data":[]}', None),
    ],
)
def test_what_cannot_be_used_is_counted(raw: bytes, reason: str | None) -> None:
    fundings = Topic(Kind.USER_FUNDINGS, user="0x1")
    made = feed(BOOK, BBO, TRADES, fundings, Topic(Kind.FAST_ASSET_CTXS))
    assert made.take(raw, read_ns=0) == []
    assert made.faults == (Counter({reason: 1}) if reason else Counter())


def test_what_nobody_asked_for_is_neither_stored_nor_published() -> None:
    made = feed(TRADES)
    for number in range(MAX_TOPICS + 10):
        made_up = {"coin": f"C{number}", "time": 1, "bbo": [None, None]}
        assert take(made, "bbo", made_up) == []
    (only,) = take(made, "trades", trades(1) + trades(2, coin="NOPE"))
    assert (only.topic, tids(only)) == (TRADES.name, [1])
    assert made.faults == Counter(not_subscribed=MAX_TOPICS + 11)
    assert made._states.keys() == {TRADES}


def test_what_was_on_its_way_when_its_topic_was_left_is_no_fault() -> None:
    made = feed(TRADES, BBO)
    made.unsubscribed(TRADES)
    made.unsubscribed(BBO)
    bbo = {"coin": "BTC", "time": 1, "bbo": [None, None]}
    assert take(made, "trades", trades(1)) + take(made, "bbo", bbo) == []
    assert not made.faults
    left = {"method": "unsubscribe", "subscription": {"type": "bbo", "coin": "BTC"}}
    take(made, "subscriptionResponse", left)
    assert take(made, "bbo", bbo) == []
    assert made.faults == Counter(not_subscribed=1)


def test_trades_of_coins_that_were_followed_make_room() -> None:
    made = feed()
    for number in range(MAX_TOPICS + 10):
        coin = f"C{number}"
        made.subscribed(topic := Topic(Kind.TRADES, coin))
        assert len(take(made, "trades", trades(1, coin=coin))) == 1
        made.unsubscribed(topic)
    assert len(made._states) == MAX_TOPICS
    assert not made.faults


def test_time_never_runs_backwards() -> None:
    made = feed(BOOK)
    take(made, "l2Book", book(2000))
    assert take(made, "l2Book", book(1999)) == []
    assert len(take(made, "l2Book", book(2000))) == 1
    assert made.faults == Counter(time_backwards=1)


def test_what_the_exchange_has() -> None:
    assert all(PublicFeed.can_serve(topic) for topic in (BOOK, FAST, GROUPED, TRADES))
    assert not PublicFeed.can_serve(Topic(Kind.L4_BOOK, "BTC"))
    assert not PublicFeed.can_serve(Topic(Kind.L2_BOOK, "BTC", n_levels=100))


def test_recorded_single_frames_are_all_understood(recorded_frames: list[str]) -> None:
    for raw in recorded_frames:
        frame = orjson.loads(raw)
        made = feed(BOOK, FAST, Topic(Kind.L2_BOOK, "MATIC"), Topic(Kind.ORDER_UPDATES, user="0x1"))
        body = frame.get("data")
        for trade in body if frame["channel"] == "trades" else ():
            made.subscribed(Topic(Kind.TRADES, trade["coin"]))
        slot = slot_in(frame["channel"], body)
        if slot is not None and slot.kind not in (Kind.L2_BOOK, Kind.ORDER_UPDATES):
            made.subscribed(Topic(**slot._asdict()))
        envelopes = made.take(raw.encode(), read_ns=0)
        assert not made.faults
        if made.notice is None:
            assert [envelope.payload for envelope in envelopes] == [raw.encode()], raw
