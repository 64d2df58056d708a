"""A call that is over is freed by its reference counts, however it ended: nothing of it waits for
the collector, which looks at what grew old once in 15 minutes (R12)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from gateway.grpc.generated.hyperliquid import streaming_pb2
from gateway.grpc.quicknode import BOOKS
from streaming.core.envelope import Role
from streaming.ws.close_codes import INBOUND_BURST, MAX_REFUSED_FRAMES
from tests.gateway.grpc.clients import STREAM, Stream, trade
from tests.support.collector import Heap, Observer
from tests.support.edge import DEADLINE_S
from tests.support.environment import VAR
from tests.support.grpc_edge import GrpcEdge

TIMES = 3
#: What was never asked for before.
numbers = itertools.count()


@dataclass
class Street:
    """A process, who looks at it, and a customer's channel."""

    edge: GrpcEdge
    observer: Observer
    channel: grpc.Channel

    def stream(self, **call: Any) -> Stream:
        """One that follows a coin of its own and got a frame of it."""
        stream = Stream(call.pop("channel", self.channel), self.edge.metadata, **call)
        self.follow(stream, f"C{next(numbers)}")
        return stream

    def follow(self, stream: Stream, coin: str) -> None:
        """Until it has a frame."""
        stream.subscribe(id=coin, channel="trades", coins=[coin])
        stream.until_kind("subscribed")
        self.edge.wait_for_lease(f"trades {coin}")
        self.edge.tell(trade(coin, 1, Role.SNAPSHOT))
        stream.until_kind("json")


@pytest.fixture(scope="module")
def street(redis_url: str) -> Iterator[Street]:
    observer = Observer(VAR / "freed-grpc")
    edge = GrpcEdge(
        VAR / "freed-grpc-edge",
        redis_url=redis_url.removesuffix("/0") + "/5",
        variables=observer.variables,
    )
    edge.start()
    observer.begin(edge.process, log=edge.log)
    with edge.channel() as channel:
        yield Street(edge, observer, channel)
    edge.stop()


def cancelled(street: Street) -> None:
    street.stream().call.cancel()


def cancelled_with_many(street: Street) -> None:
    stream = street.stream()
    for number in range(20):
        stream.subscribe(id=f"m{number}", channel="trades", coins=[f"MANY{number}"])
        stream.until_kind("subscribed")
    stream.call.cancel()


def unsubscribed(street: Street) -> None:
    stream = street.stream()
    stream.subscribe(id="u", channel="trades", coins=["U"])
    stream.until_kind("subscribed")
    stream.send(pb.StreamRequest(unsubscribe=pb.Unsubscribe(id="u")).SerializeToString())
    stream.until_kind("unsubscribed")
    stream.call.cancel()


def said_all(street: Street) -> None:
    """Who says no more still gets what they follow; then they leave."""
    stream = street.stream()
    stream.done()
    stream.call.cancel()


def past_its_deadline(street: Street) -> None:
    call = street.channel.stream_stream(STREAM)(
        iter(()), metadata=street.edge.metadata, timeout=0.05
    )
    with pytest.raises(grpc.RpcError):
        list(call)


def disconnected(street: Street) -> None:
    with street.edge.channel(**{"grpc.use_local_subchannel_pool": 1}) as channel:
        street.stream(channel=channel)


def cut_while_frames_wait(street: Street) -> None:
    """More than gRPC takes for who does not read, less than we hold for them."""
    stream, coin = street.stream(), f"C{next(numbers)}"
    street.follow(stream, coin)
    many = [trade(coin, height) for height in range(2, 1_500)]
    street.edge.tell(*many)
    stream.until_kind("json")
    stream.call.cancel()


def of_another_surface(street: Street) -> None:
    coin = f"Q{next(numbers)}"
    asked = streaming_pb2.BboBookRequest(coins=[coin]).SerializeToString()
    call = street.channel.unary_stream(f"/{BOOKS}/StreamBboBook")(
        asked, metadata=street.edge.metadata
    )
    street.edge.wait_for_lease(f"bbo {coin}")
    call.cancel()


def another_surface_refuses(street: Street) -> None:
    call = street.channel.unary_stream(f"/{BOOKS}/StreamBboBook")(
        b"\xff", metadata=street.edge.metadata
    )
    with pytest.raises(grpc.RpcError):
        list(call)


def flooded(street: Street) -> None:
    stream = street.stream()
    for _ in range(INBOUND_BURST + MAX_REFUSED_FRAMES + 200):
        stream.ping(1)
    assert stream.end()[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def bad_requests(street: Street) -> None:
    for data in (b"\xff", b""):
        stream = Stream(street.channel, street.edge.metadata)
        stream.send(data)
        assert stream.end()[0] is grpc.StatusCode.INVALID_ARGUMENT


def without_a_key(street: Street) -> None:
    for metadata in ((), (("x-api-key", "nonsense"),)):
        stream = Stream(street.channel, metadata)
        assert stream.end()[0] is grpc.StatusCode.UNAUTHENTICATED


def unary(
    method: str, status: grpc.StatusCode, data: bytes, *, has_key: bool = True
) -> Callable[[Street], None]:
    """One call."""

    def ask(street: Street) -> None:
        call = street.channel.unary_unary(method)
        metadata = street.edge.metadata if has_key else ()
        try:
            call(data, metadata=metadata, timeout=DEADLINE_S)
        except grpc.RpcError as error:
            got = error.code()
        else:
            got = grpc.StatusCode.OK
        assert got is status

    return ask


RELAY = "/hlrelay.v1.Relay"
STATUS = grpc.StatusCode
CASES: dict[str, Callable[[Street], None]] = {
    case.__name__: case
    for case in (
        cancelled, cancelled_with_many, unsubscribed, said_all, past_its_deadline, disconnected,
        cut_while_frames_wait, of_another_surface, another_surface_refuses, flooded, bad_requests,
        without_a_key,
    )
} | {
    "ping": unary("/hyperliquid.Streaming/Ping", STATUS.OK, b""),
    "read": unary(
        f"{RELAY}/GetCoverage", STATUS.OK,
        pb.GetCoverageRequest(
            subscription=pb.Subscribe(channel="trades", coins=["COVER"])
        ).SerializeToString(),
    ),
    "read_refused": unary(f"{RELAY}/GetBlock", STATUS.INVALID_ARGUMENT, b"\xff"),
    "read_of_nothing": unary(
        f"{RELAY}/GetFills", STATUS.NOT_FOUND,
        pb.GetFillsRequest(height=1).SerializeToString(),
    ),
    "read_without_a_key": unary(f"{RELAY}/GetBook", STATUS.UNAUTHENTICATED, b"", has_key=False),
    "not_served": unary(f"/{BOOKS}/StreamTpslUpdates", STATUS.UNIMPLEMENTED, b""),
    "not_known": unary("/nonesuch/Get", STATUS.UNIMPLEMENTED, b""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_call_that_ended_is_freed(street: Street, name: str) -> None:
    for _ in range(TIMES):
        CASES[name](street)
    left = [heap for heap in street.observer.left() if not _is_of_grpc(heap)]
    assert not left, "\n".join(map(str, left))


def _is_of_grpc(heap: Heap) -> bool:
    """gRPC looks for a call's method in a function that refers to itself: six objects a call, left
    as it begins, and nothing of it."""
    is_search = any(kind.endswith("_find_method_handler") for kind in heap.kinds)
    return is_search and heap.kinds.total() <= 6
