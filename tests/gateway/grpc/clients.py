"""What tests say as customers of `hlrelay.v1`, and as the worker behind it."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from streaming.core.envelope import Envelope, Position, Role, Times
from tests.core import relay_world
from tests.support.edge import DEADLINE_S

EPOCH = "n-0123456789ab"
STREAM = "/hlrelay.v1.Relay/Stream"


def trade(coin: str, height: int, role: Role = Role.UPDATE) -> Envelope:
    """One trade of a block, after the block before."""
    data = [relay_world.trade(coin, height)]
    payload = json.dumps({"channel": "trades", "data": data}).encode()
    return Envelope(f"trades {coin}", EPOCH, Position(height), Position(height - 1), role, payload)


def raw(stream: str, height: int, events: list[Any] | bytes, role: Role = Role.UPDATE) -> Envelope:
    """One block of a node file."""
    text = events if isinstance(events, bytes) else json.dumps(events).encode()[1:-1]
    payload = b'{"channel":"raw","data":{"stream":"%b","height":%d,"index":0,"events":[%b]}}' % (
        stream.encode(),
        height,
        text,
    )
    times = Times(1_700_000_000_000_000_001 + height, 1_700_000_001_000_000_002 + height, 5, 6)
    here, before = Position(height), Position(height - 1)
    return Envelope(f"raw stream={stream}", EPOCH, here, before, role, payload, times)


def alive(stream: str, height: int) -> Envelope:
    """A worker's answer to a lease of a node file: told from this place on."""
    here = Position(height)
    return Envelope(f"raw stream={stream}", EPOCH, here, here, Role.SNAPSHOT, b"")


class Stream:
    """A bidi call whose requests are said one by one, on bytes or messages."""

    def __init__(self, channel: grpc.Channel, metadata: Any, *, method: str = STREAM) -> None:
        self._asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.call = channel.stream_stream(method)(iter(self._asked.get, None), metadata=metadata)
        self._waiting: list[pb.Envelope] = []

    def send(self, data: bytes) -> None:
        """Any bytes."""
        self._asked.put(data)

    def subscribe(self, **fields: Any) -> None:
        """One subscribe."""
        self.send(pb.StreamRequest(subscribe=pb.Subscribe(**fields)).SerializeToString())

    def ping(self, nonce: int) -> None:
        """One ping."""
        self.send(pb.StreamRequest(ping=pb.Ping(nonce=nonce)).SerializeToString())

    def done(self) -> None:
        """Say no more."""
        self._asked.put(None)

    def __iter__(self) -> Iterator[pb.Envelope]:
        timer = threading.Timer(DEADLINE_S, self.call.cancel)
        timer.start()
        try:
            while True:
                if not self._waiting:
                    data = next(self.call)
                    self._waiting = list(pb.StreamResponse.FromString(data).envelopes)
                yield self._waiting.pop(0)
        finally:
            timer.cancel()

    def until(self, fits: Callable[[pb.Envelope], bool]) -> list[pb.Envelope]:
        """Envelopes up to the first that fits, that one included; none about age, because this
        process has no worker of its own."""
        got = []
        for envelope in self:
            if envelope.WhichOneof("what") not in ("stale", "fresh"):
                got.append(envelope)
            if fits(envelope):
                return got
        raise AssertionError("the call ended")

    def until_kind(self, kind: str) -> list[pb.Envelope]:
        """Up to the first of this kind."""
        return self.until(lambda envelope: envelope.WhichOneof("what") == kind)

    def end(self) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        """Read to the end, and say how it was."""
        try:
            for _ in self:
                pass
        except grpc.RpcError:
            pass
        trailing = {key: str(value) for key, value in self.call.trailing_metadata() or ()}
        return self.call.code(), self.call.details() or "", trailing


def tids(envelopes: list[pb.Envelope]) -> list[int]:
    """The trades of `json` envelopes."""
    return [
        row["tid"]
        for envelope in envelopes
        if envelope.WhichOneof("what") == "json"
        for row in json.loads(envelope.json)["data"]
    ]
