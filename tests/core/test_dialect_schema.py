"""The published schema describes what is in the frames, field by field: what the relay makes is
valid, and with a field taken out it is not."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from jsonschema_rs import ValidationError

from streaming.core.blocks import RawBlock
from streaming.core.envelope import Envelope, Position, Role
from streaming.core.market import Market
from streaming.core.topic import Kind, Topic
from tests.core import node_events
from tests.core.node_events import ADA, BEN, diffs, new, order, remove, status, statuses
from tests.core.relay_world import EPOCH, VALIDATOR, World, check
from tests.core.test_user_feeds import fill, funding, misc, twap

CHECKPOINT = [("BTC", [order(1)], [order(2, "2.0", side="A", px="101.0")])]
ENVELOPE = {
    "id": 1, "seq": 1, "prevSeq": 0, "epoch": EPOCH, "cursor": "AgAAAAAAAAA",
    "t": {"block": 1, "node": 1, "in": 1, "out": 1},
}  # fmt: skip
SUBSCRIPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {"coin": "BTC"}) for kind in ("trades", "l2Book", "bbo", "l2Diff", "l4Book")),
    ("l4Diff", {"coin": "BTC"}),
    ("raw", {"stream": "node_fills"}),
    ("raw", {"stream": "node_raw_book_diffs", "coin": "BTC"}),
    *((kind, {"user": ADA}) for kind in ("orderUpdates", "userFills", "userEvents")),
    *((kind, {"user": ADA}) for kind in ("userFundings", "userHistoricalOrders")),
    *((kind, {"user": ADA}) for kind in ("userTwapSliceFills", "userTwapHistory")),
]


def blocks(height: int) -> list[RawBlock]:
    """Something of everything."""
    oid = 100 + height
    return [
        diffs(height, new(oid, sz="0.5"), *([remove(oid - 1)] if height > 12 else [])),
        statuses(height, {**status(oid, "open"), "user": ADA}, status(oid, "marginCanceled")),
        node_events.fills(
            height,
            fill(ADA, tid=height, twapId=4),
            fill(BEN, tid=height, side="A", crossed=False),
        ),
        misc(height, funding(ADA)),
        twap(height),
    ]


def frames_of(kind: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    """What a customer of one subscription gets from a real market."""
    world, market = World(), Market(epoch=EPOCH)
    market.load_checkpoint(10, CHECKPOINT)
    desk = world.desk()
    desk.subscribe(kind, id=1, **options)
    topic = desk.session.topics[0]
    market.want(topic)
    for height in range(11, 20):
        made = [envelope for block in blocks(height) for envelope in market.apply(block)]
        world.hear("A", height)
        world.publish(market.snapshot(topic), worker="A", is_logged=False)
        world.publish(*made, worker="A")
    assert not world.hub.counters.sink_failures
    return [frame for frame in desk.take() if "seq" in frame]


@pytest.mark.parametrize(("kind", "options"), SUBSCRIPTIONS, ids=lambda value: str(value)[:24])
def test_what_the_relay_makes_is_described(kind: str, options: dict[str, Any]) -> None:
    frames = frames_of(kind, options)
    assert frames
    for frame in frames:
        for field in required(frame["data"]):
            broken = copy.deepcopy(frame)
            del first(broken["data"])[field]
            with pytest.raises(ValidationError):
                VALIDATOR.validate(broken)


def first(data: Any) -> Any:
    return data[0] if isinstance(data, list) else data


def required(data: Any) -> list[str]:
    """The fields of a frame's data that are always there."""
    optional = {"isSnapshot", "snapshot", "checksum", "dex"}
    return [] if not data else [name for name in first(data) if name not in optional]


def test_recorded_frames_of_the_exchange_are_described(recorded_frames: list[str]) -> None:
    seen = set()
    for text in recorded_frames:
        frame = orjson.loads(text)
        if frame["channel"] in ("pong", "post", "subscriptionResponse", "error"):
            continue
        own = {k: v for k, v in ENVELOPE.items() if k != "prevSeq" or frame["channel"] == "l2Diff"}
        check(orjson.dumps({**frame, **own}))
        seen.add(frame["channel"])
    assert {"trades", "l2Book", "bbo"} <= seen


def test_a_frame_of_diffs_names_the_one_before_of_its_coin() -> None:
    """Two coins of one subscription share its numbering, and a slow reader changes nothing."""
    world = World()
    desk = world.desk()
    desk.subscribe("l2Diff", coins=["BTC", "ETH"], id=1)

    def diff(coin: str, height: int, role: Role) -> Envelope:
        payload = b'{"channel":"l2Diff","data":{"coin":"%b","time":1,"height":%d,"levels":[[],[]]}}'
        name = Topic(Kind.L2_DIFF, coin).name
        before = Position(height - 1)
        made = payload % (coin.encode(), height)
        return Envelope(name, EPOCH, Position(height), before, role, made)

    world.publish(diff("BTC", 10, Role.SNAPSHOT), diff("ETH", 10, Role.SNAPSHOT))
    world.publish(diff("BTC", 10, Role.UPDATE), diff("ETH", 10, Role.UPDATE))
    desk.socket.is_blocked = True
    for height in range(11, 14):
        world.publish(diff("BTC", height, Role.UPDATE))
    world.publish(diff("ETH", 11, Role.UPDATE))
    desk.socket.read()
    frames = [frame for frame in desk.take() if "seq" in frame]
    last = {"BTC": 0, "ETH": 0}
    for frame in frames:
        coin = frame["data"]["coin"]
        assert frame["prevSeq"] == last[coin]
        last[coin] = frame["seq"]
    assert [frame["seq"] for frame in frames] == list(range(1, 7))
