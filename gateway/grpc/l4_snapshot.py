"""A snapshot of a coin's orders as a message, made between other work.

BTC's has 19 MB and 100,000 orders: in one go it would take the loop a second, and with it everybody
else's messages. All who get the snapshot share the work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
from google.protobuf.message import Message

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
    pieces = await _pieces(head, book, _SIDES, _order)
    return message_field(pb.L4BookUpdate.SNAPSHOT_FIELD_NUMBER, b"".join(pieces))


async def changes(payload: bytes, *, is_reset: bool) -> bytes:
    """The `L4BookUpdatesUpdate` of a frame with a snapshot: each order as a new one. `is_reset`:
    whoever gets it is to forget all others."""
    book = _frames.decode(payload).data.Snapshot
    head = pb.L4BookUpdatesUpdate(time=book.time, height=book.height, snapshot=is_reset)
    number = pb.L4BookUpdatesUpdate.DIFFS_FIELD_NUMBER
    return b"".join(await _pieces(head, book, (number, number), _new))


async def _pieces(
    head: Message,
    book: _Book,
    numbers: tuple[int, int],
    make: Callable[[dict[str, Any]], Message],
) -> list[bytes]:
    """The head, and each order in the field of its side, in slices."""
    pieces = [head.SerializeToString()]
    until_s = time.monotonic() + SLICE_S
    for number, side in zip(numbers, book.levels, strict=True):
        for raw in side:
            order = make(orjson.loads(memoryview(raw)))
            pieces.append(bytes_field(number, order.SerializeToString()))
            if time.monotonic() > until_s:
                await asyncio.sleep(0)
                until_s = time.monotonic() + SLICE_S
    return pieces


def _new(order: dict[str, Any]) -> pb.L4OrderDiff:
    return pb.L4OrderDiff(
        diff_type=pb.L4_ORDER_DIFF_TYPE_NEW,
        coin=order["coin"],
        oid=order["oid"],
        user=order.get("user") or "",
        side=order["side"],
        px=order["limitPx"],
        sz=order["sz"],
    )


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
