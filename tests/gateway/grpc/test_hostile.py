"""What must not hurt: HTTP/2 that no client library sends, metadata and deadlines without sense."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from streaming.core.envelope import Role
from tests.gateway.grpc.clients import STREAM, Stream, tids, trade
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_HEADERS = 4
RESETS = 5_000
#: Of memory, for what a flood leaves behind.
MAX_GROWTH_BYTES = 40_000_000


@pytest.fixture
def channel(edge: GrpcEdge) -> Iterator[grpc.Channel]:
    with edge.channel() as channel:
        yield channel


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + struct.pack(">I", stream)
        + payload
    )


def literal(name: bytes, value: bytes) -> bytes:
    """A header field, not indexed, not Huffman; lengths below 127."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def headers(edge: GrpcEdge, *, path: bytes = STREAM.encode()) -> bytes:
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"relay",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
        b"x-api-key": edge.api_key.encode(),
    }
    return b"".join(literal(*field) for field in fields.items())


@contextlib.contextmanager
def raw_connection(edge: GrpcEdge) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", edge.grpc_port), DEADLINE_S) as peer:
        yield peer


def is_ended(peer: socket.socket) -> bool:
    """Whether the server ends the connection, in whatever way."""
    with contextlib.suppress(OSError):
        while peer.recv(65_536):
            pass
    return True


def rss_bytes(edge: GrpcEdge) -> int:
    pages = Path(f"/proc/{edge.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def flood(edge: GrpcEdge, data: bytes) -> None:
    """Send it, whether or not all of it is taken, and wait for the end, or for quiet."""
    with raw_connection(edge) as peer:
        with contextlib.suppress(OSError):
            peer.sendall(data)
            peer.settimeout(1.0)
            while peer.recv(65_536):
                pass


def hostile_bytes(edge: GrpcEdge) -> dict[str, bytes]:
    begin = PREFACE + frame(SETTINGS)
    opened = begin + frame(HEADERS, headers(edge), flags=END_HEADERS, stream=1)
    return {
        "no preface": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
        "garbage": bytes(range(256)) * 400,
        "a frame of 16 MB": begin
        + b"\xff\xff\xff"
        + bytes((DATA, 0))
        + b"\0\0\0\1"
        + b"x" * 99_999,
        "data of no stream": begin + frame(DATA, b"x" * 100, stream=9),
        "headers that are none": begin + frame(HEADERS, b"\xff" * 200, flags=4, stream=1),
        "an even stream": begin + frame(HEADERS, headers(edge), flags=4, stream=2),
        "endless continuations": begin
        + frame(HEADERS, headers(edge), stream=1)
        + frame(CONTINUATION, literal(b"x-more", b"y" * 100) * 100, stream=1) * 200,
        "settings of five bytes": begin + frame(SETTINGS, b"12345"),
        "a message that is compressed": opened + frame(DATA, b"\1\0\0\0\4abcd", stream=1),
        "a message of 4 GB": opened + frame(DATA, b"\0\xff\xff\xff\xff" + b"x" * 9_000, stream=1),
        "half a message": opened + frame(DATA, b"\0\0\0\0\x40half", flags=1, stream=1),
        "pings": begin + frame(PING, b"12345678") * 20_000,
        "settings": begin + frame(SETTINGS) * 20_000,
    }


def test_no_bytes_disturb_the_others(edge: GrpcEdge, channel: grpc.Channel) -> None:
    other = Stream(channel, edge.metadata)
    other.subscribe(id="o", channel="trades", coins=["CALM"])
    edge.wait_for_lease("trades CALM")
    edge.tell(trade("CALM", 1, Role.SNAPSHOT))
    other.until_kind("json")
    before = rss_bytes(edge)
    for number, (name, data) in enumerate(hostile_bytes(edge).items()):
        flood(edge, data)
        assert edge.process.poll() is None, name
        edge.tell(trade("CALM", 2 + number))
        assert tids(other.until_kind("json")) == [2 + number], name
    assert rss_bytes(edge) - before < MAX_GROWTH_BYTES
    other.call.cancel()


def test_calls_that_are_reset_at_once_leave_nothing_behind(
    edge: GrpcEdge, channel: grpc.Channel
) -> None:
    other = Stream(channel, edge.metadata)
    other.ping(1)
    other.until_kind("pong")
    before = rss_bytes(edge)
    head, cancel = headers(edge), struct.pack(">I", 8)
    calls = b"".join(
        frame(HEADERS, head, flags=END_HEADERS, stream=number)
        + frame(RST_STREAM, cancel, stream=number)
        for number in range(1, 2 * RESETS, 2)
    )
    flood(edge, PREFACE + frame(SETTINGS) + calls)
    other.ping(2)
    assert other.until_kind("pong")[-1].pong.nonce == 2
    assert rss_bytes(edge) - before < MAX_GROWTH_BYTES
    # Their connections are given back: the plan's are all there for who comes now.
    again = Stream(channel, edge.metadata)
    again.ping(3)
    assert again.until_kind("pong")
    for stream in (other, again):
        stream.call.cancel()


def test_metadata_beyond_eight_kilobytes_is_refused(edge: GrpcEdge, channel: grpc.Channel) -> None:
    for size in (20_000, 200_000):
        stream = Stream(channel, (*edge.metadata, ("x-large", "y" * size)))
        stream.ping(1)
        code, _, _ = stream.end()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_deadline_that_is_past_says_so(edge: GrpcEdge, channel: grpc.Channel) -> None:
    asked = pb.StreamRequest(ping=pb.Ping(nonce=1)).SerializeToString()
    follow = channel.stream_stream(STREAM)
    for timeout_s in (0.0, 0.3):
        call = follow(iter([asked]), metadata=edge.metadata, timeout=timeout_s)
        with pytest.raises(grpc.RpcError):
            for _ in call:
                pass
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_key_beyond_its_rate_is_told_when_to_come_back(
    edge: GrpcEdge, channel: grpc.Channel
) -> None:
    slow = edge.shell(
        "from tenants.models import Plan, Quota\nfrom tenants.services import *\n"
        "plan = Plan.objects.create(code='hostile', name='hostile')\n"
        "Quota.objects.create(plan=plan, max_connections=1, max_subscriptions=9,"
        " requests_per_s=1, burst=3)\n"
        "print(issue_key(tenant=create_tenant(name='h', slug='h', plan=plan), name='h',"
        " scopes=['grpc']).raw)"
    )
    metadata = (("x-api-key", slow),)
    ping = channel.unary_unary("/hyperliquid.Streaming/Ping")
    codes, deadline_s = [], time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        try:
            ping(b"", metadata=metadata)
        except grpc.RpcError as error:
            codes.append(error.code())
            trailing = dict(error.trailing_metadata())
            break
    assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert trailing["hlrelay-code"] == "rate_limited"
    assert int(trailing["retry-after"]) >= 1
