"""An `l4Book` snapshot as a message, made between other work.

BTC's has 19 MB and 100,000 orders: in one go it would take the loop a second, and with it everybody
else's messages. All who get the snapshot share the work.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import orjson

from gateway.grpc.generated.hyperliquid import streaming_pb2 as pb
from gateway.grpc.wire import bytes_field, message_field

#: Of each turn of the loop.
SLICE_S = 0.002

_S = pb.L4BookSnapshot
_SIDES = (_S.BIDS_FIELD_NUMBER, _S.ASKS_FIELD_NUMBER)


class _Book(msgspec.Struct):
    coin: str
    time: int
    height: int
    levels: tuple[list[msgspec.Raw], list[msgspec.Raw]]


class _Data(msgspec.Struct):
    Snapshot: _Book


class _Frame(msgspec.Struct):
    data: _Data


# Orders are only skipped here: 19 MB in 20 ms.
_frames = msgspec.json.Decoder(_Frame)


async def message(payload: bytes) -> bytes:
    """The `L4BookUpdate` of a frame with a snapshot."""
    book = _frames.decode(payload).data.Snapshot
    head = pb.L4BookSnapshot(coin=book.coin, time=book.time, height=book.height)
    pieces = [head.SerializeToString()]
    until_s = time.monotonic() + SLICE_S
    for number, side in zip(_SIDES, book.levels, strict=True):
        for raw in side:
            pieces.append(
                bytes_field(number, _order(orjson.loads(memoryview(raw))).SerializeToString())
            )
            if time.monotonic() > until_s:
                await asyncio.sleep(0)
                until_s = time.monotonic() + SLICE_S
    return message_field(pb.L4BookUpdate.SNAPSHOT_FIELD_NUMBER, b"".join(pieces))


def _order(order: dict[str, Any]) -> pb.L4Order:
    return pb.L4Order(
        user=order.get("user") or "",
        coin=order["coin"],
        side=order["side"],
        limit_px=order["limitPx"],
        sz=order["sz"],
        oid=order["oid"],
        timestamp=order["timestamp"],
        trigger_condition=order.get("triggerCondition") or "",
        is_trigger=bool(order.get("isTrigger")),
        trigger_px=order.get("triggerPx") or "",
        is_position_tpsl=bool(order.get("isPositionTpsl")),
        reduce_only=bool(order.get("reduceOnly")),
        order_type=order.get("orderType") or "",
        tif=order.get("tif"),
        cloid=order.get("cloid"),
    )
