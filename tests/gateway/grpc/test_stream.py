"""`hlrelay.v1.Relay/Stream` at a real process: subscribed, resumed, refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from streaming.core.envelope import Envelope, Position, Role
from tests.gateway.grpc.clients import EPOCH, Stream, alive, raw, tids, trade
from tests.support.grpc_edge import GrpcEdge


@pytest.fixture
def channel(edge: GrpcEdge) -> Iterator[grpc.Channel]:
    with edge.channel() as channel:
        yield channel


@pytest.fixture
def stream(edge: GrpcEdge, channel: grpc.Channel) -> Iterator[Stream]:
    stream = Stream(channel, edge.metadata)
    yield stream
    stream.call.cancel()


def test_many_subscriptions_in_one_call_each_with_its_own_numbers(
    edge: GrpcEdge, stream: Stream
) -> None:
    stream.subscribe(id="one", channel="trades", coins=["MANYA", "MANYB"])
    stream.subscribe(id="two", channel="trades", coins=["MANYA"])
    for coin in ("MANYA", "MANYB"):
        edge.wait_for_lease(f"trades {coin}")
        edge.tell(trade(coin, 100, Role.SNAPSHOT))
    for height in (101, 102, 103):
        edge.tell(trade("MANYA", height), trade("MANYB", height))
    got = stream.until(lambda e: e.sub_id == "one" and e.height == 103 and "MANYB" in str(e.json))
    numbers = {
        name: [e.seq for e in got if e.sub_id == name and e.WhichOneof("what") == "json"]
        for name in ("one", "two")
    }
    assert numbers == {"one": list(range(1, 9)), "two": list(range(1, 5))}
    last = got[-1]
    assert (last.epoch, last.cursor != "", last.snapshot) == (EPOCH, True, False)
    assert json.loads(last.json) == json.loads(trade("MANYB", 103).payload)


def test_resumed_after_a_kill_with_nothing_lost_and_nothing_twice(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    edge = GrpcEdge(
        tmp_path_factory.mktemp("grpc") / "var", redis_url=redis_url.removesuffix("/0") + "/8"
    )
    edge.start()
    try:
        with edge.channel() as channel:
            stream = Stream(channel, edge.metadata)
            stream.subscribe(id="t", channel="trades", coins=["CUT"])
            edge.wait_for_lease("trades CUT")
            edge.tell(trade("CUT", 100, Role.SNAPSHOT), *(trade("CUT", h) for h in range(101, 120)))
            got = stream.until(lambda e: e.height == 119)
            edge.restart()
            edge.tell(*(trade("CUT", h) for h in range(120, 300)))
        with edge.channel() as channel:
            again = Stream(channel, edge.metadata)
            again.subscribe(id="t", channel="trades", coins=["CUT"], cursor=got[-1].cursor)
            edge.wait_for_lease("trades CUT")
            replayed = again.until_kind("replay_complete")
            edge.publish(trade("CUT", 299, Role.SNAPSHOT))  # a worker answers the lease
            edge.tell(trade("CUT", 300))
            live = again.until(lambda e: e.height == 300)
            assert tids(got) + tids(replayed) + tids(live) == list(range(100, 301))
            assert all(e.replay for e in replayed if e.WhichOneof("what") == "json")
            assert not live[-1].replay
            again.call.cancel()
    finally:
        edge.stop()


def test_from_a_height_begins_with_that_block(
    edge: GrpcEdge, channel: grpc.Channel, stream: Stream
) -> None:
    stream.subscribe(id="keep", channel="trades", coins=["HIGH"])
    edge.wait_for_lease("trades HIGH")
    edge.tell(trade("HIGH", 100, Role.SNAPSHOT), *(trade("HIGH", h) for h in range(101, 111)))
    stream.until(lambda e: e.height == 110)
    other = Stream(channel, edge.metadata)
    other.subscribe(id="from", channel="trades", coins=["HIGH"], height=105)
    got = other.until_kind("replay_complete")
    other.call.cancel()
    assert [e.height for e in got if e.WhichOneof("what") == "json"] == list(range(105, 111))


def test_what_is_gone_is_said_and_not_begun_from_now(
    edge: GrpcEdge, channel: grpc.Channel, stream: Stream
) -> None:
    stream.subscribe(id="keep", channel="trades", coins=["GONE"])
    edge.wait_for_lease("trades GONE")
    edge.tell(trade("GONE", 100, Role.SNAPSHOT), trade("GONE", 101))
    stream.until(lambda e: e.height == 101)
    other = Stream(channel, edge.metadata)
    other.subscribe(id="old", channel="trades", coins=["GONE"], height=50)
    failed = other.until_kind("resume_failed")[-1]
    other.call.cancel()
    assert failed.sub_id == "old"
    assert failed.resume_failed.oldest_cursor
    assert failed.resume_failed.topic == pb.Topic(channel="trades", coin="GONE")


def test_a_hole_is_a_gap_with_its_cursors(edge: GrpcEdge, stream: Stream) -> None:
    stream.subscribe(id="g", channel="trades", coins=["HOLE"])
    edge.wait_for_lease("trades HOLE")
    edge.tell(trade("HOLE", 100, Role.SNAPSHOT), trade("HOLE", 101))
    edge.tell(trade("HOLE", 105))
    gap = stream.until_kind("gap")[-1]
    assert (gap.gap.from_height, gap.gap.to_height) == (101, 104)
    assert gap.cursor == gap.gap.to_cursor != ""


def test_typed_updates_are_messages_and_others_stay_text(edge: GrpcEdge, stream: Stream) -> None:
    stream.subscribe(id="t", channel="trades", coins=["TYPE"], encoding="ENCODING_TYPED")
    stream.subscribe(id="m", channel="allMids", encoding="ENCODING_TYPED")
    edge.wait_for_lease("trades TYPE")
    edge.wait_for_lease("allMids")
    edge.tell(trade("TYPE", 100, Role.SNAPSHOT))
    (first,) = stream.until_kind("trades")[-1:]
    want = json.loads(trade("TYPE", 100).payload)["data"][0]
    (got,) = first.trades.trades
    assert (got.px, got.sz, got.side, got.time, got.tid) == (
        want["px"],
        want["sz"],
        want["side"],
        want["time"],
        want["tid"],
    )
    mids = b'{"channel":"allMids","data":{"mids":{"TYPE":"1.5"}}}'
    place = Position(100)
    edge.publish(Envelope("allMids", EPOCH, place, Position(99), Role.SNAPSHOT, mids))
    assert stream.until_kind("json")[-1].json == mids


def test_an_update_larger_than_a_part_comes_in_parts(
    edge: GrpcEdge, stream: Stream, height: int
) -> None:
    stream.subscribe(id="r", channel="raw", stream="misc_events")
    stream.until_kind("subscribed")  # others may hold the lease still
    edge.wait_for_lease("raw stream=misc_events")
    edge.tell(alive("misc_events", height))
    rows = [{"text": "é" * 50, "n": n} for n in range(40_000)]
    large = raw("misc_events", height + 1, rows)
    edge.tell(large, raw("misc_events", height + 2, [1]))
    got = [e for e in stream.until(lambda e: e.height == height + 2) if e.height == height + 1]
    assert len(got) > 2
    assert [(e.part, e.parts) for e in got] == [(n, len(got)) for n in range(1, len(got) + 1)]
    assert max(e.ByteSize() for e in got) <= 1_000_000
    assert len({(e.seq, e.cursor) for e in got}) == 1
    assert b"".join(e.json for e in got) == large.payload


def test_what_is_refused_is_named_and_the_rest_goes_on(edge: GrpcEdge, stream: Stream) -> None:
    stream.subscribe(id="a", channel="nonsense")
    stream.subscribe(id="b", channel="trades", coins=["REF"], cursor="%%%")
    stream.subscribe(id="c", channel="trades", coins=["REF"], flush_event=True, max_age_ms=0)
    stream.subscribe(id="d", channel="trades", coins=["REF"])
    stream.subscribe(id="d", channel="bbo", coins=["REF"])
    stream.ping(9)
    got = stream.until_kind("pong")
    assert got[-1].pong.nonce == 9
    errors = [(e.sub_id, e.error.code) for e in got if e.WhichOneof("what") == "error"]
    assert errors == [
        ("a", "unknown_type"),
        ("b", "bad_cursor"),
        ("c", "bad_field"),
        ("d", "already"),
    ]
    stream.send(pb.StreamRequest(unsubscribe=pb.Unsubscribe(id="d")).SerializeToString())
    assert stream.until_kind("unsubscribed")[-1].sub_id == "d"


def test_the_call_goes_on_when_the_client_has_said_all(edge: GrpcEdge, stream: Stream) -> None:
    stream.subscribe(channel="trades", coins=["HALF"])
    stream.done()
    edge.wait_for_lease("trades HALF")
    edge.tell(trade("HALF", 100, Role.SNAPSHOT))
    assert stream.until_kind("json")[-1].sub_id == "s1"
