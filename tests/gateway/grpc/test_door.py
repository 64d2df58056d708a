"""Who is let in over gRPC, what becomes of open calls, and what hostile clients get."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from gateway.grpc.server import NOT_SERVED, REFLECTION, SERVICES
from streaming.bus import keys
from streaming.core.envelope import Role
from tests.gateway.grpc.clients import STREAM, Stream, alive, raw, tids, trade
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge
from tests.support.services import wait_until

REVOKED_WITHIN_S = 5.0
MAX_HELD_BYTES = 1024 * 1024 + 100_000
UNARY = ("GetBook", "GetBlock", "GetFills", "GetCoverage")


@pytest.fixture
def channel(edge: GrpcEdge) -> Iterator[grpc.Channel]:
    with edge.channel() as channel:
        yield channel


def ended(edge: GrpcEdge, metadata: tuple[tuple[str, str], ...], method: str = STREAM) -> str:
    with edge.channel() as channel:
        code, line, _ = Stream(channel, metadata, method=method).end()
    assert line
    return f"{code.name} {line}"


def test_the_key_in_each_place_it_may_be(edge: GrpcEdge, channel: grpc.Channel) -> None:
    for metadata in (
        (("x-api-key", edge.api_key),),
        (("x-token", edge.api_key),),
        (("authorization", f"Bearer {edge.api_key}"),),
    ):
        stream = Stream(channel, metadata)
        stream.ping(1)
        assert stream.until_kind("pong")
        stream.call.cancel()


def test_no_method_answers_who_has_no_key(edge: GrpcEdge) -> None:
    pool = descriptor_pool.Default()
    methods = [
        f"/{name}/{method.name}"
        for name in SERVICES
        for method in pool.FindServiceByName(name).methods
        if f"/{name}/{method.name}" not in NOT_SERVED
    ]
    assert len(methods) > len(SERVICES)
    methods += [f"/{name}/ServerReflectionInfo" for name in REFLECTION]
    for method in methods:
        with edge.channel() as channel:
            stream = Stream(channel, (), method=method)
            stream.send(b"")
            stream.done()
            code, line, trailing = stream.end()
        assert (code, trailing["hlrelay-code"]) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "missing_key",
        ), method
        assert "x-api-key" in line
    assert ended(edge, (("x-api-key", "hlr_test_wrong"),)).startswith("UNAUTHENTICATED")


def test_a_key_without_the_scope_and_one_that_is_revoked(edge: GrpcEdge) -> None:
    issue = (
        "from tenants import services\nfrom tenants.models import APIKey, Tenant\n"
        "print(services.issue_key(tenant=Tenant.objects.get(slug='demo'), name={name!r},"
        " scopes={scopes!r}).raw)"
    )
    other = edge.shell(issue.format(name="no grpc", scopes=["ws"]))
    assert ended(edge, (("x-api-key", other),)).startswith("PERMISSION_DENIED")
    raw_key = edge.shell(issue.format(name="to be revoked", scopes=["grpc"]))
    with edge.channel() as channel:
        stream = Stream(channel, (("x-api-key", raw_key),))
        stream.subscribe(id="t", channel="trades", coins=["REVOKE"])
        stream.until_kind("subscribed")
        edge.shell(
            "from tenants import services\nfrom tenants.models import APIKey\n"
            "services.revoke_key(APIKey.objects.get(name='to be revoked'))"
        )
        begun_s = time.monotonic()
        code, line, trailing = stream.end()
    assert (code, trailing["hlrelay-code"]) == (grpc.StatusCode.UNAUTHENTICATED, "invalid_key")
    assert line == "This API key is not valid."
    assert time.monotonic() - begun_s < REVOKED_WITHIN_S


def test_an_operator_sees_the_call_and_ends_it(edge: GrpcEdge, channel: grpc.Channel) -> None:
    stream = Stream(channel, edge.metadata)
    stream.subscribe(id="t", channel="trades", coins=["SEEN"])
    stream.until_kind("subscribed")
    key = keys.SESSIONS.format(edge=edge.name)

    def seen() -> dict[str, object]:
        rows = [json.loads(row) for row in edge.redis.hvals(key)]
        return next((row for row in rows if "trades SEEN" in row.get("topics", ())), {})

    wait_until(lambda: bool(seen()), process=edge.process, what="the row", log=edge.log)
    row = seen()
    assert (row["door"], row["dialect"], row["address"]) == ("grpc", "hlrelay.v1", "127.0.0.1")
    edge.redis.rpush(keys.DISCONNECTS.format(edge=edge.name), str(row["id"]))
    code, line, _ = stream.end()
    assert (code, line) == (grpc.StatusCode.UNAVAILABLE, "disconnected on request")


def test_garbage_huge_messages_and_unknown_values_have_their_own_status(
    edge: GrpcEdge, channel: grpc.Channel
) -> None:
    hostile = {
        b"\xff" * 100: grpc.StatusCode.INVALID_ARGUMENT,
        b"": grpc.StatusCode.INVALID_ARGUMENT,
        b"\x0a\xff\xff\xff\xff\x0f": grpc.StatusCode.INVALID_ARGUMENT,
        b"x" * 10_000_000: grpc.StatusCode.RESOURCE_EXHAUSTED,
        pb.StreamRequest(
            subscribe=pb.Subscribe(id="x", on_slow=17)
        ).SerializeToString():  # type: ignore[arg-type]
        grpc.StatusCode.INVALID_ARGUMENT,
        pb.StreamRequest(
            subscribe=pb.Subscribe(id="x" * 65)
        ).SerializeToString(): grpc.StatusCode.INVALID_ARGUMENT,
    }
    for data, want in hostile.items():
        stream = Stream(channel, edge.metadata)
        stream.send(data)
        code, line, _ = stream.end()
        assert (code, bool(line)) == (want, True), data[:40]
    for name in UNARY:
        with pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary(f"/hlrelay.v1.Relay/{name}")(b"\xff", metadata=edge.metadata)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    still = Stream(channel, edge.metadata)
    still.ping(2)
    assert still.until_kind("pong")
    still.call.cancel()


def test_ten_thousand_subscriptions_are_refused_and_others_go_on(
    edge: GrpcEdge, channel: grpc.Channel
) -> None:
    other = Stream(channel, edge.metadata)
    other.subscribe(id="o", channel="trades", coins=["OTHER"])
    edge.wait_for_lease("trades OTHER")
    flood = Stream(channel, edge.metadata)
    for number in range(10_000):
        flood.subscribe(id=str(number), channel="trades", coins=[f"F{number}"])
    code, line, trailing = flood.end()
    assert (code, trailing["hlrelay-code"]) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "rate_limited",
    ), line
    edge.tell(trade("OTHER", 100, Role.SNAPSHOT))
    assert tids(other.until_kind("json")) == [100]
    other.call.cancel()


def test_who_never_reads_is_bounded_and_cut_with_where_to_go_on(edge: GrpcEdge) -> None:
    channel = edge.channel(**{"grpc.http2.bdp_probe": 0, "grpc.http2.lookahead_bytes": 65_535})
    stream = Stream(channel, edge.metadata)
    stream.subscribe(id="slow", channel="trades", coins=["SLOW"])
    edge.wait_for_lease("trades SLOW")
    edge.tell(trade("SLOW", 1, Role.SNAPSHOT))
    key = keys.SESSIONS.format(edge=edge.name)
    held, height = [], 2
    end_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s:
        rows = [json.loads(row) for row in edge.redis.hvals(key)]
        held += [row.get("held_bytes", 0) for row in rows]
        edge.tell(*(trade("SLOW", h) for h in range(height, height + 2_000)))
        height += 2_000
        if "trades SLOW" not in str(rows) and height > 6_000:
            break
        time.sleep(0.05)
    got = []
    try:
        for envelope in stream:
            got.append(envelope)
    except grpc.RpcError:
        pass
    trailing = {name: str(value) for name, value in stream.call.trailing_metadata()}
    assert stream.call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert trailing["hlrelay-code"] == "slow"
    data = [e for e in got if e.WhichOneof("what") == "json"]
    assert trailing["hlrelay-resume"] == f"slow {data[-1].cursor}"
    assert data[-1].cursor in (stream.call.details() or "")
    assert tids(data) == list(range(1, len(data) + 1))
    assert max(held) <= MAX_HELD_BYTES
    again = Stream(channel, edge.metadata)
    again.subscribe(id="slow", channel="trades", coins=["SLOW"], cursor=data[-1].cursor)
    rest = again.until(lambda e: e.height == height - 1)
    assert tids(data) + tids(rest) == list(range(1, height))
    again.call.cancel()
    channel.close()


def test_health_is_open_and_says_that_nothing_is_fresh(
    edge: GrpcEdge, channel: grpc.Channel
) -> None:
    assert edge.health(channel) == "NOT_SERVING"  # it has no worker


def test_reflection_lists_what_is_served(edge: GrpcEdge, channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="hlrelay.v1.Relay"),
    ]
    listed, found = stub.ServerReflectionInfo(iter(asked), metadata=edge.metadata)
    names = {service.name for service in listed.list_services_response.service}
    assert set(SERVICES) <= names
    assert found.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("method", sorted(NOT_SERVED))
def test_what_is_not_served_says_so(edge: GrpcEdge, method: str) -> None:
    assert ended(edge, edge.metadata, method).startswith("UNIMPLEMENTED")
    assert ended(edge, (), "/hlrelay.v1.Relay/Nonsense").startswith("UNIMPLEMENTED")


def test_blocks_and_fills_from_the_log(edge: GrpcEdge, channel: grpc.Channel, height: int) -> None:
    keep = Stream(channel, edge.metadata)
    keep.subscribe(id="k", channel="raw", stream="node_fills")
    keep.until_kind("subscribed")  # others may hold the lease still
    edge.wait_for_lease("raw stream=node_fills")
    last = height + 10
    told = (raw("node_fills", h, [[h]]) for h in range(height + 1, last + 1))
    edge.tell(alive("node_fills", height), *told)
    keep.until(lambda e: e.height == last)
    get = channel.unary_unary(
        "/hlrelay.v1.Relay/GetFills",
        request_serializer=pb.GetFillsRequest.SerializeToString,
        response_deserializer=pb.GetFillsResponse.FromString,
    )
    for asked, found in ((height + 5, height + 5), (0, last)):
        answer = get(pb.GetFillsRequest(height=asked), metadata=edge.metadata)
        body = json.loads(answer.json)
        assert (answer.height, body["block_number"], body["events"]) == (
            found,
            found,
            [[found]],
        )
    with pytest.raises(grpc.RpcError) as failed:
        get(pb.GetFillsRequest(height=7), metadata=edge.metadata)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    coverage = channel.unary_unary(
        "/hlrelay.v1.Relay/GetCoverage",
        request_serializer=pb.GetCoverageRequest.SerializeToString,
        response_deserializer=pb.GetCoverageResponse.FromString,
    )
    asked_for = pb.Subscribe(channel="raw", stream="node_fills")
    kept = coverage(pb.GetCoverageRequest(subscription=asked_for), metadata=edge.metadata)
    assert (kept.is_kept, kept.newest_height) == (True, last)
    assert 0 < kept.oldest_height <= height
    keep.call.cancel()
