"""What a customer of gRPC counts for itself is what the meter says, also after a kill."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import grpc

from billing.metering.batch import decode
from billing.metering.spool import Spool, recover
from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from streaming.core.envelope import Role
from tests.gateway.grpc.clients import Stream, alive, raw, trade
from tests.gateway.grpc.tables import QUICKNODE, classes
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge


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
