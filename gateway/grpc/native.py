"""`hlrelay.v1.Relay`: the relay dialect over gRPC."""

from __future__ import annotations

from typing import Any

import grpc

from gateway.grpc import handlers
from gateway.grpc.call import Call
from gateway.grpc.door import Door
from gateway.grpc.envelopes import Envelopes, form_of
from gateway.grpc.estimating import Estimating
from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from gateway.grpc.reads import Reads
from gateway.grpc.requests import read, subscribe_frame
from gateway.grpc.statuses import bad_argument

SERVICE = pb.DESCRIPTOR.services_by_name["Relay"].full_name


class RelayService:
    """The service's methods, on bytes."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._reads = Reads(door)
        self._estimating = Estimating(door, self._reads)

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server is given."""
        methods = {
            "Stream": handlers.bidi(self._stream),
            "GetBook": handlers.unary(self._reads.get_book),
            "GetBlock": handlers.unary(self._reads.get_block),
            "GetFills": handlers.unary(self._reads.get_fills),
            "GetCoverage": handlers.unary(self._reads.get_coverage),
            "EstimateCost": handlers.unary(self._estimating.estimate_cost),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _stream(self, _: Any, context: Any) -> None:
        call = Call(self._door, Envelopes(), dialect="hlrelay.v1", has_words=True)
        call.begin_mute()
        await call.serve(context, _read)


async def _read(call: Call, context: Any) -> None:
    numbers = 0
    while (data := await context.read()) is not grpc.aio.EOF:
        if call.is_flooding():
            continue
        request = read(pb.StreamRequest, data)
        match request.WhichOneof("request"):
            case "subscribe":
                asked = request.subscribe
                if not asked.id:
                    numbers += 1
                    asked.id = f"s{numbers}"
                _subscribe(call, asked)
            case "unsubscribe":
                call.ask({"method": "unsubscribe", "id": request.unsubscribe.id or None})
            case "ping":
                call.mute_since_s = None
                call.say(b'{"channel":"pong","nonce":%d}' % request.ping.nonce)
            case _:
                raise bad_argument("request", "it is none of subscribe, unsubscribe, ping")


def _subscribe(call: Call, asked: pb.Subscribe) -> None:
    frame = subscribe_frame(asked)
    is_typed = asked.encoding == pb.ENCODING_TYPED
    before = set(call.session.subscriptions)
    call.ask(frame)
    for name, subscription in call.session.subscriptions.items():
        if name not in before:
            form_of(subscription, is_typed=is_typed)
