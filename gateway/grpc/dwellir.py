"""`hyperliquid_l1_gateway.v1` and `.v2`: node files over gRPC, by another provider's names and
numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from gateway.grpc import handlers, node_text
from gateway.grpc.call import Call
from gateway.grpc.door import Door
from gateway.grpc.generated.hyperliquid_l1_gateway.v1 import gateway_pb2 as v1
from gateway.grpc.generated.hyperliquid_l1_gateway.v2 import gateway_pb2 as v2
from gateway.grpc.plain import Plain
from gateway.grpc.reads import Reads
from gateway.grpc.requests import read
from gateway.grpc.statuses import bad_argument
from gateway.grpc.wire import bytes_field
from streaming.core.blocks import FileKind
from streaming.core.streams import RelayFrame
from tenants.admission.principal import Principal

V1 = v1.DESCRIPTOR.services_by_name["HyperLiquidL1Gateway"].full_name
V2 = v2.DESCRIPTOR.services_by_name["HyperliquidL1Gateway"].full_name
#: `{1: bytes data}`, of every message that they send.
DATA = 1

#: The relay dialect's `from`; None: now.
Start = dict[str, int] | None


def data_of(frame: RelayFrame) -> Iterable[bytes]:
    """A frame of a raw topic as a message with `data`, made once for all who get it."""
    parts = frame.parts
    forms = parts.forms
    if forms is None:
        forms = parts.forms = {}
    message = forms.get("data")
    if message is None:
        message = forms["data"] = bytes_field(DATA, node_text.line(parts.payload, parts.times))
    return (message,)


def position_of(data: bytes) -> Start:
    """Where a `v2.Position` begins, that place included. Raises CallEnds."""
    position = read(v2.Position, data)
    match position.WhichOneof("position"):
        case "timestamp_ms":
            return _from("timestamp_ms", "ms", position.timestamp_ms)
        case "block_height":
            return _from("block_height", "height", position.block_height)
    return None


def timestamp_of(data: bytes) -> Start:
    """The same of a `v1.Timestamp`."""
    return _from("timestamp", "ms", read(v1.Timestamp, data).timestamp)


def _from(field: str, name: str, value: int) -> Start:
    if not 0 <= value < 2**53:
        raise bad_argument(field, f"{value} is not between 0 and 2^53")
    return {name: value} if value else None


class DwellirService:
    """Both versions."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._reads = Reads(door)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """What a server is given."""
        first = {
            "StreamBlocks": handlers.stream(self._stream(V1, FileKind.BLOCKS, timestamp_of)),
            "StreamBlockFills": handlers.stream(self._stream(V1, FileKind.FILLS, timestamp_of)),
        }
        second = {
            "StreamBlocks": handlers.stream(self._stream(V2, FileKind.BLOCKS, position_of)),
            "StreamFills": handlers.stream(self._stream(V2, FileKind.FILLS, position_of)),
            "GetBlock": handlers.unary(self._get(FileKind.BLOCKS)),
            "GetFills": handlers.unary(self._get(FileKind.FILLS)),
        }
        return (
            grpc.method_handlers_generic_handler(V1, first),
            grpc.method_handlers_generic_handler(V2, second),
        )

    def _stream(self, service: str, kind: FileKind, start_of: Any) -> Any:
        dialect = service.rpartition(".")[0]

        async def stream(data: bytes, context: Any) -> None:
            async def ask(call: Call, _: Any) -> None:
                start = start_of(data)
                frame: dict[str, Any] = {
                    "method": "subscribe",
                    "id": 1,
                    "subscription": {"type": "raw", "stream": kind.value},
                }
                call.ask(frame | ({"from": start} if start else {}))

            call = Call(self._door, Plain(data_of), dialect=dialect, has_words=False)
            await call.serve(context, ask)

        return stream

    def _get(self, kind: FileKind) -> Any:
        async def answering(principal: Principal, data: bytes) -> bytes:
            start = position_of(data) or {}
            found = await self._reads.block(
                principal, kind, height=start.get("height", 0), ms=start.get("ms", 0)
            )
            return bytes_field(DATA, found.text)

        name = "GetBlock" if kind is FileKind.BLOCKS else "GetFills"

        async def get(data: bytes, context: Any) -> bytes:
            return await self._reads.answer(answering, data, context, f"v2.{name}")

        return get
