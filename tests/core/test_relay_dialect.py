"""The relay dialect's requests: what is understood, and what bad input gets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core import cursor as cursors
from streaming.core import replay_bound
from streaming.core.catalogue import Catalogue
from streaming.core.cursor import Cursor
from streaming.core.dialects import relay
from streaming.core.dialects.relay import Refusal
from streaming.core.envelope import ORIGIN, Position
from tests.core.relay_world import CATALOGUE, Desk, Lease, World, begun, check, events, update


@pytest.fixture
def desk() -> Desk:
    return World().desk()


def the_error(frames: list[dict[str, Any]]) -> dict[str, Any]:
    (frame,) = frames
    assert frame["channel"] == "relay"
    error: dict[str, Any] = frame["data"]
    assert error["type"] == "error"
    return error


def subscribe(**fields: Any) -> str:
    subscription = fields.pop("subscription", {"type": "trades", "coin": "BTC"})
    return orjson.dumps({"method": "subscribe", "subscription": subscription, **fields}).decode()


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("{", "bad_json", None),
        ("[1]", "bad_json", None),
        ("\ud83d", "bad_json", None),
        ('{"method":"sub"}', "unknown_method", "method"),
        ("{}", "unknown_method", "method"),
        ('{"method":"subscribe"}', "bad_field", "subscription"),
        (subscribe(subscription={"type": "trade"}), "unknown_type", "type"),
        (subscribe(subscription={"type": "trades", "coin": 1}), "bad_field", "coin"),
        (subscribe(subscription={"type": "trades", "coin": "BTCC"}), "unknown_coin", None),
        (subscribe(subscription={"type": "trades", "coins": []}), "bad_field", "coins"),
        (subscribe(subscription={"type": "trades", "coins": ["BTC", 1]}), "bad_field", "coins"),
        (
            subscribe(subscription={"type": "trades", "coin": "BTC", "coins": ["ETH"]}),
            "bad_field",
            "coins",
        ),
        (
            subscribe(subscription={"type": "trades", "marketTypes": ["future"]}),
            "bad_field",
            "marketTypes",
        ),
        (
            subscribe(subscription={"type": "raw", "stream": "node_fill"}),
            "bad_field",
            "stream",
        ),
        (
            subscribe(subscription={"type": "l2Diff", "coin": "BTC", "nLevels": 101}),
            "bad_field",
            "subscription",
        ),
        (subscribe(id=-1), "bad_field", "id"),
        (subscribe(id="x" * 65), "bad_field", "id"),
        (subscribe(id=True), "bad_field", "id"),
        (subscribe(onSlow="drop"), "bad_field", "onSlow"),
        (subscribe(flush="tick"), "bad_field", "flush"),
        (subscribe(maxAgeMs=0), "bad_field", "maxAgeMs"),
        (subscribe(maxAgeMs=1.5), "bad_field", "maxAgeMs"),
        (subscribe(**{"from": "nonsense"}), "bad_cursor", "from"),
        (subscribe(**{"from": {"height": -1}}), "bad_cursor", "from"),
        (subscribe(**{"from": {"height": True}}), "bad_cursor", "from"),
        (subscribe(**{"from": {"ms": 1, "height": 1}}), "bad_cursor", "from"),
        (subscribe(**{"from": 7}), "bad_cursor", "from"),
        ('{"method":"unsubscribe","id":9}', "not_subscribed", None),
        ('{"method":"post","id":"x","request":{}}', "bad_field", None),
    ],
)
def test_bad_input_is_named(desk: Desk, text: str, code: str, field: str | None) -> None:
    error = the_error(desk.send_text(text))
    assert error["code"] == code
    assert error.get("field") == field
    assert desk.lease.used == 0


@pytest.mark.parametrize(
    ("subscription", "near"),
    [
        ({"type": "trades", "coin": "btc"}, "BTC"),
        ({"type": "trades", "coin": "KPEPE"}, "kPEPE"),
        ({"type": "l2book", "coin": "BTC"}, "l2Book"),
        ({"type": "trades", "coins": ["BTC", "xyz:GOLDD"]}, "xyz:GOLD"),
    ],
)
def test_near_matches_are_offered(desk: Desk, subscription: Any, near: str) -> None:
    error = the_error(desk.send_text(subscribe(subscription=subscription, id=3)))
    assert near in error["near"]
    assert error["id"] == 3


def test_the_same_twice_is_answered_and_changes_nothing(desk: Desk) -> None:
    desk.subscribe(coin="BTC", id=1)
    assert the_error(desk.subscribe(coin="BTC", id=1))["code"] == "already"
    assert the_error(desk.subscribe(coin="BTC", id=2))["code"] == "already"
    assert desk.lease.used == 1
    (ack,) = desk.send(method="unsubscribe", id=1)
    assert (ack["data"]["method"], ack["id"], desk.lease.used) == ("unsubscribe", 1, 0)
    assert the_error(desk.send(method="unsubscribe", id=1))["code"] == "not_subscribed"


def test_unsubscribe_also_goes_by_what_was_subscribed(desk: Desk) -> None:
    desk.subscribe(coins=["ETH", "BTC"], id="both")
    (ack,) = desk.send(
        method="unsubscribe", subscription={"type": "trades", "coins": ["ETH", "BTC"]}
    )
    assert ack["id"] == "both"
    assert desk.lease.used == 0


def test_over_the_limit_none_is_made() -> None:
    desk = World().desk(lease=Lease(limit=3))
    desk.subscribe("bbo", coin="BTC")
    error = the_error(desk.subscribe(coins=["BTC", "ETH", "SOL"], id=5))
    assert (error["code"], error["limit"], error["used"], error["asked"]) == ("limit", 3, 1, 3)
    assert desk.lease.used == 1
    assert len(desk.session.topics) == 1


def test_without_coins_the_perpetuals_are_meant(desk: Desk) -> None:
    (ack,) = desk.subscribe(id=1)
    assert ack["data"]["subscription"] == {"type": "trades", "marketTypes": ["perp"]}
    assert sorted(topic.coin for topic in desk.session.topics) == ["BTC", "ETH", "SOL", "kPEPE"]
    desk.send(method="unsubscribe", id=1)
    desk.subscribe(marketTypes=["spot", "outcome", "hip3"])
    assert sorted(topic.coin for topic in desk.session.topics) == ["#7510", "@107", "xyz:GOLD"]


def test_fields_that_mean_nothing_are_mentioned_once(desk: Desk) -> None:
    _, notice = desk.send_text(subscribe(speed="fast"))
    assert notice["data"]["code"] == "ignored_field"
    desk.send(method="unsubscribe", id=1)
    assert len(desk.send_text(subscribe(speed="fast"))) == 1


def test_a_cursor_from_the_future_is_refused() -> None:
    world = World()
    desk = world.desk()
    world.hear("A", 1_000)
    ahead = cursors.encode(Cursor("n", Position(50_000)))
    error = the_error(desk.subscribe(coin="BTC", from_=ahead, id=1))
    assert (error["code"], error["tipHeight"]) == ("cursor_ahead", 1_000)
    assert desk.lease.used == 0


@pytest.mark.parametrize(
    ("start", "is_kept"),
    [
        ({"height": 100_000 - 51_000}, True),  # at 70 ms a block
        ({"height": 100_000 - 52_000}, False),
        ({"ms": (100_000 - 3_600) * 1_000}, True),
        ({"ms": (100_000 - 3_601) * 1_000}, False),
        (cursors.encode(Cursor("n", Position(99_000))), True),
        (cursors.encode(Cursor("n", Position(9_000))), False),
    ],
)
def test_nothing_begins_before_what_the_plan_keeps(start: Any, is_kept: bool) -> None:
    world = World()
    desk = world.desk()
    desk.lease.retention_s = 3_600.0
    world.hear("A", 100_000)  # a block a second, by its times
    answer, *_ = desk.subscribe(coin="BTC", from_=start, id=1)
    if is_kept:
        assert answer["channel"] == "subscriptionResponse"
    else:
        error = the_error([answer])
        assert (error["code"], error["field"], error["limit"]) == (
            "beyond_retention",
            "from",
            3_600,
        )
        assert desk.lease.used == 0


def test_who_was_replayed_too_much_waits_or_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_bound, "BURST_BYTES", 100)
    monkeypatch.setattr(replay_bound, "BYTES_A_MINUTE", 60)
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1)
    world.publish(begun(100, 100), *(update(height, height - 1) for height in range(101, 110)))
    world.hear("A", 110)
    start = {"height": 101}
    desk.send(method="unsubscribe", id=1)
    desk.take()
    frames = desk.subscribe(coin="BTC", from_=start, id=2)
    world.wait(3)
    frames += desk.take()
    assert any(frame.get("replay") for frame in frames)
    desk.send(method="unsubscribe", id=2)
    error = the_error(desk.subscribe(coin="BTC", from_=start, id=2))
    assert (error["code"], error["field"]) == ("replay_limit", "from")
    (ack, *_) = desk.subscribe(coin="BTC", id=3)
    assert ack["channel"] == "subscriptionResponse"


def test_what_was_replayed_comes_back_by_the_minute() -> None:
    bound = replay_bound.ReplayBound()
    bound.spend(1, replay_bound.BURST_BYTES, now_s=0)
    assert bound.wait_s(1, now_s=0) == 0
    bound.spend(1, replay_bound.BYTES_A_MINUTE, now_s=0)
    assert bound.wait_s(1, now_s=0) == 60
    assert bound.wait_s(1, now_s=45) == 15
    assert bound.wait_s(2, now_s=0) == 0


def test_how_an_allowance_stands_is_a_frame_of_the_schema(desk: Desk) -> None:
    fields = {"allowance": "messages", "percent": 80, "used": 80, "limit": 100}
    for code in ("allowance_used", "quota_exhausted"):
        desk.session.allowance(code, "80 % are used.", **fields, resetsAt="2026-12-01T00:00:00Z")
    desk.world.hub.flush()
    told = [frame["data"] for frame in desk.take()]
    assert [data["code"] for data in told] == ["allowance_used", "quota_exhausted"]
    assert all(data["type"] == "notice" and data["limit"] == 100 for data in told)


def test_a_height_from_the_future_is_refused() -> None:
    world = World()
    desk = world.desk()
    world.hear("A", 1_000)
    error = the_error(desk.subscribe(coin="BTC", from_={"height": 1_032}, id=1))
    assert error["code"] == "cursor_ahead"
    assert the_error(desk.subscribe(coin="NONE"))["code"] == "unknown_coin"
    (ack,) = desk.subscribe(coin="BTC", from_={"height": 1_031}, id=1)
    assert ack["channel"] == "subscriptionResponse"


def test_a_cursor_from_the_future_of_an_edge_that_has_just_begun_is_told() -> None:
    """No worker has spoken yet, so it cannot be refused; but not followed in silence either."""
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", from_={"height": 50_000}, id=1)
    world.hear("A", 1_000)
    world.publish(begun(999, 999))
    world.wait(1)
    assert desk.take() == []  # the other worker may be further
    world.wait(2)
    (frame,) = desk.take()
    assert (frame["data"]["type"], frame["data"]["oldestHeight"]) == ("resumeFailed", None)
    assert cursors.decode(frame["data"]["oldest"]).position == ORIGIN  # nothing is kept: anew


@pytest.mark.parametrize(
    "other",
    [
        {"type": "l2Diff", "coin": "BTC"},
        {"type": "raw", "stream": "node_fills"},
        {"type": "orderUpdates", "user": "0x" + "a" * 40},
    ],
)
def test_a_cursor_of_another_kind_of_topic_is_refused(other: dict[str, str]) -> None:
    """An index counts within one file: the 9,000th status is not behind the 57th fill."""
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1)
    world.publish(begun(3, 3), update(4, 3))
    cursor = desk.take()[-1]["cursor"]
    kind = other.pop("type")
    error = the_error(world.desk().subscribe(kind, **other, from_=cursor))
    assert (error["code"], error["field"]) == ("bad_cursor", "from")
    by_event = world.desk().subscribe(coin="BTC", flush="event", from_=cursor)
    assert the_error(by_event)["code"] == "bad_cursor"
    assert "error" not in events(world.desk().subscribe(coin="ETH", from_=cursor))


def test_a_cursor_of_a_public_source_that_ended_is_refused() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1)
    world.publish(begun(3, 3, epoch="p-2"), update(4, 3, epoch="p-2"))
    cursor = cursors.encode(Cursor("p-1", Position(3)))
    other = world.desk()
    assert the_error(other.subscribe(coin="BTC", from_=cursor))["code"] == "bad_cursor"


def test_the_relays_own_topics() -> None:
    topics, echo, _ = relay.parse_subscription(
        {"type": "l2Diff", "coin": "BTC", "nLevels": 50}, CATALOGUE
    )
    assert topics[0].name == "l2Diff BTC 50 0 0 0"
    assert orjson.loads(echo)["nLevels"] == 50
    topics, _, _ = relay.parse_subscription({"type": "l4Diff", "coin": "BTC"}, CATALOGUE)
    assert topics[0].name == "l4Diff BTC"
    topics, _, _ = relay.parse_subscription({"type": "raw", "stream": "node_fills"}, CATALOGUE)
    assert topics[0].name == "raw stream=node_fills"


def test_ten_unreadable_frames_in_a_row_are_enough(desk: Desk) -> None:
    for _ in range(9):
        desk.send_text("nonsense")
    desk.send(method="ping")
    assert not desk.session.is_unreadable
    for _ in range(10):
        desk.send_text("nonsense")
    assert desk.session.is_unreadable


def test_pings_and_posts_are_as_everywhere(desk: Desk) -> None:
    assert desk.send(method="ping") == [{"channel": "pong"}]
    post = desk.session.receive(
        '{"method":"post","id":1,"request":{"type":"info","payload":{"type":"meta"}}}', now_s=0.0
    )
    assert post is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
fields = st.sampled_from(
    ["method", "id", "subscription", "from", "onSlow", "maxAgeMs", "flush", "type", "coin", "coins"]
)


@given(
    st.dictionaries(
        fields,
        json_values
        | st.sampled_from(["subscribe", "unsubscribe", "trades", "BTC", "raw", "l2Diff"])
        | st.dictionaries(
            st.sampled_from(["type", "coin", "coins", "users", "marketTypes", "stream", "nLevels"]),
            json_values | st.sampled_from(["trades", "l2Diff", "raw", "userFills", "BTC"]),
        ),
    )
)
def test_whatever_is_sent_is_answered_by_the_schema_or_refused(frame: dict[str, Any]) -> None:
    text = orjson.dumps(frame).decode()
    try:
        relay.parse(text, CATALOGUE)
    except Refusal as refusal:
        check(relay.error(refusal))


def test_a_refused_name_is_compared_with_few() -> None:
    """However many coins there are, and whatever the name: a customer may send 1,000 at once."""
    compared: list[int] = []

    def watched(word: str, names: list[str], n: int) -> list[str]:
        compared.append(len(names))
        return names[:n]

    coins = frozenset(f"COIN{number}" for number in range(3_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streaming.core.dialects.relay.difflib.get_close_matches", watched)
        for name in ("COIN", "COIN1500x", "zzz", "A" * 5_000):
            with pytest.raises(Refusal):
                relay.parse_subscription({"type": "trades", "coin": name}, Catalogue(coins))
    assert max(compared) <= 2 * relay.NEIGHBOURS
