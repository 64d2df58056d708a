"""Clients made from the tables of the two other surfaces, at a real process."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from streaming.bus import keys
from streaming.core import envelope as wire
from streaming.core.envelope import BusMessage, Envelope, Position, Role
from tests.gateway.grpc.clients import EPOCH, Stream, alive, raw
from tests.gateway.grpc.tables import DWELLIR_V1, DWELLIR_V2, QUICKNODE, classes
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge

V1 = classes("hyperliquid_l1_gateway.v1", DWELLIR_V1)
V2 = classes("hyperliquid_l1_gateway.v2", DWELLIR_V2)
QN = classes("hyperliquid", QUICKNODE)
DWELLIR_2 = "/hyperliquid_l1_gateway.v2.HyperliquidL1Gateway"
#: QuickNode's types and the files they are of.
TYPES = {
    1: "node_fills",
    2: "node_order_statuses",
    3: "node_raw_book_diffs",
    4: "node_twap_statuses",
    5: "misc_events",
    6: "replica_cmds",
    7: "system_and_core_writer_actions",
}


@pytest.fixture
def channel(edge: GrpcEdge) -> Iterator[grpc.Channel]:
    with edge.channel() as channel:
        yield channel


@pytest.fixture
def keep(edge: GrpcEdge, channel: grpc.Channel) -> Iterator[Any]:
    """Has files followed, so that the log of them can be asked, and a worker that tells them."""
    streams: list[Stream] = []

    def follow(stream: str, height: int) -> Stream:
        kept = Stream(channel, edge.metadata)
        kept.subscribe(id="k", channel="raw", stream=stream)
        edge.wait_for_lease(f"raw stream={stream}")
        edge.tell(alive(stream, height))
        streams.append(kept)
        return kept

    yield follow
    for kept in streams:
        kept.call.cancel()


def server_stream(
    channel: grpc.Channel, edge: GrpcEdge, method: str, request: Any, response: Any
) -> Any:
    """A server stream by its name, with the token as that provider's clients send it."""
    call = channel.unary_stream(
        method, request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=response.FromString,
    )  # fmt: skip
    return call(request, metadata=(("x-token", edge.api_key),), timeout=DEADLINE_S)


def test_dwellir_streams_include_the_block_that_is_asked_for(
    edge: GrpcEdge, channel: grpc.Channel, keep: Any, height: int
) -> None:
    kept = keep("node_fills", height)
    edge.tell(*(raw("node_fills", h, [["0xa", {"h": h}]]) for h in range(height + 1, height + 6)))
    kept.until(lambda e: e.height == height + 5)
    asked = V2["Position"](block_height=height + 3)
    got = server_stream(channel, edge, f"{DWELLIR_2}/StreamFills", asked, V2["BlockFills"])
    lines = [json.loads(next(got).data) for _ in range(3)]
    assert [line["block_number"] for line in lines] == [height + 3, height + 4, height + 5]
    assert lines[0].keys() == {"local_time", "block_time", "block_number", "events"}
    assert lines[0]["block_time"] == f"2023-11-14T22:13:20.{height + 4:09d}"
    edge.tell(raw("node_fills", height + 6, [["0xa", {"h": 1}]]))
    assert json.loads(next(got).data)["block_number"] == height + 6
    edge.tell(raw("node_fills", height + 9, [["0xa", {"h": 1}]]))  # two are missing
    with pytest.raises(grpc.RpcError) as hole:
        next(got)
    assert hole.value.code() is grpc.StatusCode.DATA_LOSS
    assert f"Ask again from block {height + 9} on" in (hole.value.details() or "")


def test_dwellir_blocks_as_they_stand_in_the_file(
    edge: GrpcEdge, channel: grpc.Channel, keep: Any, height: int
) -> None:
    kept = keep("replica_cmds", height)
    line = b'{"abci_block":{"time":"x","round":1},"resps":{"Full":[]}}'
    edge.tell(raw("replica_cmds", height + 1, line))
    kept.until(lambda e: e.height == height + 1)
    get = channel.unary_unary(
        f"{DWELLIR_2}/GetBlock",
        request_serializer=V2["Position"].SerializeToString,
        response_deserializer=V2["Block"].FromString,
    )
    for asked in (V2["Position"](block_height=height + 1), V2["Position"]()):
        assert get(asked, metadata=edge.metadata).data == line
    old = server_stream(
        channel,
        edge,
        f"{DWELLIR_2}/StreamBlocks",
        V2["Position"](block_height=5),
        V2["Block"],
    )
    with pytest.raises(grpc.RpcError) as gone:
        next(old)
    assert gone.value.code() is grpc.StatusCode.OUT_OF_RANGE
    first = "/hyperliquid_l1_gateway.v1.HyperLiquidL1Gateway/StreamBlocks"
    got = server_stream(channel, edge, first, V1["Timestamp"](), V1["Block"])
    threading.Timer(0.5, lambda: edge.tell(raw("replica_cmds", height + 2, line))).start()
    assert next(got).data == line


class StreamData:
    """QuickNode's bidi stream."""

    def __init__(self, channel: grpc.Channel, edge: GrpcEdge) -> None:
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        call = channel.stream_stream(
            "/hyperliquid.Streaming/StreamData",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=QN["SubscribeUpdate"].FromString,
        )
        metadata = (("x-token", edge.api_key),)
        self.call = call(iter(self._asked.get, None), metadata=metadata, timeout=DEADLINE_S)

    def subscribe(
        self, stream_type: int, *, start: int = 0, name: str = "", **filters: list[str]
    ) -> None:
        """One subscribe."""
        subscribe = QN["StreamSubscribe"](
            stream_type=stream_type,
            start_block=start,
            filter_name=name,
            filters=[
                QN["Entry"](key=field, value=QN["FilterValues"](values=values))
                for field, values in filters.items()
            ],
        )
        self._asked.put(QN["SubscribeRequest"](subscribe=subscribe))

    def ping(self, timestamp: int) -> None:
        """One ping."""
        self._asked.put(QN["SubscribeRequest"](ping=QN["Ping"](timestamp=timestamp)))


@pytest.mark.parametrize("stream_type", TYPES)
def test_quicknode_streams_of_every_type(
    edge: GrpcEdge, channel: grpc.Channel, keep: Any, height: int, stream_type: int
) -> None:
    kept = keep(TYPES[stream_type], height)
    events = [{"type": stream_type, "coin": "BTC"}]
    edge.tell(raw(TYPES[stream_type], height + 1, events))
    kept.until(lambda e: e.height == height + 1)
    stream = StreamData(channel, edge)
    stream.subscribe(stream_type, start=height + 1)
    got = next(stream.call).data
    body = json.loads(got.data)
    assert got.block_number == height + 1
    if stream_type == 6:
        assert body == events[0]
    else:
        assert (body["block_number"], body["events"]) == (height + 1, events)
    stream.ping(77)
    assert next(stream.call).pong.timestamp == 77
    stream.call.cancel()


def test_quicknode_filters(edge: GrpcEdge, channel: grpc.Channel, keep: Any, height: int) -> None:
    kept = keep("node_fills", height)
    fills = [["0xA", {"coin": "BTC", "n": 1}], ["0xb", {"coin": "ETH", "n": 2}]]
    edge.tell(raw("node_fills", height + 1, fills), raw("node_fills", height + 2, fills[1:]))
    edge.tell(raw("node_fills", height + 3, fills))
    kept.until(lambda e: e.height == height + 3)
    stream = StreamData(channel, edge)
    stream.subscribe(1, start=height + 1, name="mine", coin=["BTC", "SOL"], user=["0xa"])
    got = [next(stream.call).data for _ in range(2)]
    assert [each.block_number for each in got] == [height + 1, height + 3]
    assert [json.loads(each.data)["events"] for each in got] == [fills[:1], fills[:1]]
    stream.subscribe(1, name="other", n=["2"])
    stream.ping(1)
    assert next(stream.call).pong.timestamp == 1
    edge.tell(raw("node_fills", height + 4, fills))
    assert json.loads(next(stream.call).data.data)["events"] == fills
    stream.subscribe(1, name="many", coin=[str(n) for n in range(2_000)])
    with pytest.raises(grpc.RpcError) as refused:
        next(stream.call)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_quicknode_books_and_ping(edge: GrpcEdge, channel: grpc.Channel) -> None:
    ping = channel.unary_unary(
        "/hyperliquid.Streaming/Ping",
        request_serializer=QN["PingRequest"].SerializeToString,
        response_deserializer=QN["PingResponse"].FromString,
    )
    assert ping(QN["PingRequest"](count=3), metadata=edge.metadata).count == 3
    books = "/hyperliquid.OrderBookStreaming"
    l2 = server_stream(
        channel, edge, f"{books}/StreamL2Book", QN["L2BookRequest"](coin="QNB"), QN["L2BookUpdate"]
    )
    edge.wait_for_lease("l2Book QNB 20 0 0 0")
    rows = [[{"px": "1", "sz": "2", "n": 3}], [{"px": "4", "sz": "5", "n": 6}]]
    data = {"coin": "QNB", "time": 9, "levels": rows}
    payload = json.dumps({"channel": "l2Book", "data": data}).encode()
    here, before = Position(50), Position(49)
    edge.publish(Envelope("l2Book QNB 20 0 0 0", EPOCH, here, before, Role.SNAPSHOT, payload))
    book = next(l2)
    (bid,), (ask,) = book.bids, book.asks
    assert (book.coin, book.time, book.block_number) == ("QNB", 9, 50)
    assert (bid.px, bid.sz, bid.n, ask.px) == ("1", "2", 3, "4")
    l4 = server_stream(
        channel, edge, f"{books}/StreamL4Book", QN["L4BookRequest"](coin="QNB"), QN["L4BookUpdate"]
    )
    edge.wait_for_lease("l4Book QNB")
    order = {"user": "0xa", "coin": "QNB", "side": "B", "limitPx": "1", "sz": "2", "oid": 7}
    order |= {"timestamp": 8, "orderType": "Limit", "tif": "Gtc"}
    snapshot = {"coin": "QNB", "time": 9, "height": 50, "levels": [[order], []]}
    payload = json.dumps({"channel": "l4Book", "data": {"Snapshot": snapshot}}).encode()
    edge.publish(Envelope("l4Book QNB", EPOCH, here, here, Role.SNAPSHOT, payload))
    first = next(l4).snapshot
    (bid,) = first.bids
    assert (first.height, bid.user, bid.limit_px, bid.oid, bid.order_type, bid.tif) == (
        50,
        "0xa",
        "1",
        7,
        "Limit",
        "Gtc",
    )
    updates = {"time": 10, "height": 51, "order_statuses": [], "book_diffs": [{"oid": 7}]}
    payload = json.dumps({"channel": "l4Book", "data": {"Updates": updates}}).encode()
    edge.publish(Envelope("l4Book QNB", EPOCH, Position(51), here, Role.UPDATE, payload))
    diff = next(l4).diff
    assert (diff.height, json.loads(diff.data)["book_diffs"]) == (51, [{"oid": 7}])


def test_blocks_are_given_as_far_back_as_the_plan_goes(redis_url: str, tmp_path: Path) -> None:
    edge = GrpcEdge(tmp_path / "var", redis_url=redis_url.removesuffix("/0") + "/13")
    edge.start()
    try:
        short = edge.shell(
            "from tenants.models import Plan, Quota\nfrom tenants.services import *\n"
            "plan = Plan.objects.create(code='short', name='short')\n"
            "Quota.objects.create(plan=plan, max_connections=9, max_subscriptions=9,"
            " retention_hours=1)\n"
            "print(issue_key(tenant=create_tenant(name='s', slug='s', plan=plan), name='s',"
            " scopes=['grpc']).raw)"
        )
        with edge.channel() as channel:
            kept = Stream(channel, edge.metadata)
            kept.subscribe(id="k", channel="raw", stream="node_fills")
            edge.wait_for_lease("raw stream=node_fills")
            edge.tell(alive("node_fills", 100), raw("node_fills", 101, [["0xa", {}]]))
            kept.until(lambda e: e.height == 101)
            # An hour of blocks and some more.
            tip = BusMessage(wire.VERSION, "test", [], 101 + 60_000, time.time_ns())
            edge.redis.publish(keys.BUS_CHANNEL.format(edge=edge.name), wire.encode(tip))
            kept.ping(1)
            kept.until_kind("pong")
            get = channel.unary_unary(
                f"{DWELLIR_2}/GetFills",
                request_serializer=V2["Position"].SerializeToString,
                response_deserializer=V2["BlockFills"].FromString,
            )
            asked = V2["Position"](block_height=101)
            assert get(asked, metadata=edge.metadata).data
            with pytest.raises(grpc.RpcError) as beyond:
                get(asked, metadata=(("x-token", short),))
            assert beyond.value.code() is grpc.StatusCode.PERMISSION_DENIED
            line = beyond.value.details() or ""
            assert line == "The plan goes 1 h back, and this is 1.2 h old."
            kept.call.cancel()
    finally:
        edge.stop()
