"""What a customer of gRPC counts for itself is what the meter says, also after a kill."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from billing.metering.batch import decode
from billing.metering.spool import Spool, recover
from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from streaming.core.envelope import Envelope, Position, Role
from tests.gateway.grpc.clients import EPOCH, Stream, alive, raw, trade
from tests.gateway.grpc.tables import QUICKNODE, classes
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge


def server_stream(channel: grpc.Channel, edge: GrpcEdge, method: str, coins: list[str]) -> Any:
    """A call of another provider's for changes in books, on bytes."""
    asked = classes("hyperliquid", QUICKNODE)["BboBookRequest"](coins=coins)
    call = channel.unary_stream(f"/hyperliquid.OrderBookStreaming/{method}")
    return call(asked.SerializeToString(), metadata=edge.metadata, timeout=DEADLINE_S)


def changed_levels(coin: str, height: int, role: Role) -> Envelope:
    rows = [[{"px": "1", "sz": "2", "n": 3}], []]
    data = {"coin": coin, "time": 1, "height": height, "levels": rows}
    if role is Role.SNAPSHOT:
        data["snapshot"] = True
    payload = json.dumps({"channel": "l2Diff", "data": data}).encode()
    here, before = Position(height), Position(height - 1)
    return Envelope(f"l2Diff {coin} 20 0 0 0", EPOCH, here, before, role, payload)


def best_prices(coin: str, height: int, px: str) -> Envelope:
    data = {"coin": coin, "time": 1, "bbo": [{"px": px, "sz": "2", "n": 3}, None]}
    payload = json.dumps({"channel": "bbo", "data": data}, separators=(",", ":")).encode()
    here, before = Position(height), Position(height - 1)
    return Envelope(f"bbo {coin}", EPOCH, here, before, Role.UPDATE, payload)


def test_what_was_delivered_is_what_is_metered(redis_url: str, tmp_path: Path) -> None:
    edge = GrpcEdge(tmp_path / "var", redis_url=redis_url.removesuffix("/0") + "/11")
    edge.start()
    counted: Counter[tuple[str, str, str, str]] = Counter()

    def count(envelopes: list[pb.Envelope], channel: str, coin: str) -> None:
        for envelope in envelopes:
            if envelope.WhichOneof("what") in ("json", "trades"):
                reason = "replay" if envelope.replay else ""
                counted[channel, coin, reason, "messages"] += envelope.part <= 1
                counted[channel, coin, reason, "bytes"] += envelope.ByteSize()

    with edge.channel() as channel:
        stream = Stream(channel, edge.metadata)
        stream.subscribe(id="t", channel="trades", coins=["BTC"])
        edge.wait_for_lease("trades BTC")
        edge.tell(trade("BTC", 1, Role.SNAPSHOT), *(trade("BTC", h) for h in range(2, 60)))
        live = stream.until(lambda e: e.height == 59)
        again = Stream(channel, edge.metadata)
        again.subscribe(id="again", channel="trades", coins=["BTC"], height=30)
        count(live, "trades", "BTC")
        count(again.until_kind("replay_complete"), "trades", "BTC")
        large = Stream(channel, edge.metadata)
        large.subscribe(id="r", channel="raw", stream="misc_events")
        edge.wait_for_lease("raw stream=misc_events")
        edge.tell(alive("misc_events", 100), raw("misc_events", 101, [["x" * 100] * 30_000]))
        count(large.until(lambda e: e.parts > 0 and e.part == e.parts), "raw", "")

        messages = classes("hyperliquid", QUICKNODE)
        filtered = Stream(channel, edge.metadata, method="/hyperliquid.Streaming/StreamData")
        wanted = messages["FilterValues"](values=["no"])
        subscribe = messages["StreamSubscribe"](
            stream_type=1, filters=[messages["Entry"](key="coin", value=wanted)]
        )
        filtered.send(messages["SubscribeRequest"](subscribe=subscribe).SerializeToString())
        edge.wait_for_lease("raw stream=node_fills")
        edge.tell(alive("node_fills", 100), raw("node_fills", 101, [{"coin": "BTC"}]))

        levels = server_stream(channel, edge, "StreamL2BookDiff", ["AAA", "BBB"])
        for coin in ("AAA", "BBB"):
            edge.wait_for_lease(f"l2Diff {coin} 20 0 0 0")
        for height, role in ((100, Role.SNAPSHOT), (101, Role.UPDATE)):
            edge.publish(*(changed_levels(coin, height, role) for coin in ("AAA", "BBB")))
            update = messages["L2BookDiffUpdate"].FromString(next(levels))
            assert [diff.coin for diff in update.diffs] == ["AAA", "BBB"]
            of_head = update.ByteSize()
            for diff in update.diffs:
                size_bytes = messages["L2BookDiffUpdate"](diffs=[diff]).ByteSize()
                of_head -= size_bytes
                counted["l2Diff", diff.coin, "", "messages"] += 1
                counted["l2Diff", diff.coin, "", "bytes"] += size_bytes
            counted["l2Diff", "AAA", "", "bytes"] += of_head
        prices = server_stream(channel, edge, "StreamBboBook", ["AAA"])
        edge.wait_for_lease("bbo AAA")
        for height, px in ((100, "1"), (101, "1"), (102, "2")):  # once nothing is new
            edge.publish(best_prices("AAA", height, px))
        for height in (100, 102):
            data = next(prices)
            assert messages["BboBookUpdate"].FromString(data).block_number == height
            counted["bbo", "AAA", "", "messages"] += 1
            counted["bbo", "AAA", "", "bytes"] += len(data)

        # What was written before an answer is counted before it.
        for each in (stream, again, large):
            each.ping(1)
            each.until_kind("pong")
        ping = messages["SubscribeRequest"](ping=messages["Ping"](timestamp=5))
        filtered.send(ping.SerializeToString())
        pong = messages["SubscribeUpdate"].FromString(next(filtered.call))
        assert pong.pong.timestamp == 5
        ask = channel.unary_unary("/hyperliquid.Streaming/Ping")
        answer = ask(b"\x08\x07", metadata=edge.metadata, timeout=DEADLINE_S)
        counted["grpc", "", "", "bytes"] += len(answer)
        edge.process.kill()
        edge.process.wait(DEADLINE_S)
        assert stream.end()[0] is grpc.StatusCode.UNAVAILABLE
    spool = Spool(edge.var / "usage" / "spool")
    recover(edge.var / "usage" / "meters", spool, now=datetime.now(UTC))
    metered: Counter[tuple[str, str, str, str]] = Counter()
    requests = 0
    for batch in (decode(spool.read(batch_id) or b"") for batch_id in spool.ids()):
        for line in batch.lines:
            place = (line.channel, line.coin, line.reason)
            metered[*place, "messages"] += line.messages
            metered[*place, "bytes"] += line.payload_bytes
            requests += line.requests
    assert +metered == +counted
    assert counted["trades", "BTC", "replay", "messages"] == 30
    assert requests == 1
