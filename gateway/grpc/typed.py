"""Updates as messages instead of text, for those kinds whose shape is fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from streaming.core.topic import Kind


def level(row: dict[str, Any]) -> pb.Level:
    """One price level."""
    return pb.Level(px=row["px"], sz=row["sz"], n=row["n"])


def book(data: dict[str, Any]) -> pb.L2Book:
    """An `l2Book`'s data."""
    bids, asks = data["levels"]
    return pb.L2Book(
        coin=data["coin"],
        time=data["time"],
        bids=[level(row) for row in bids],
        asks=[level(row) for row in asks],
    )


def _bbo(data: dict[str, Any]) -> pb.Bbo:
    bid, ask = data["bbo"]
    return pb.Bbo(
        coin=data["coin"],
        time=data["time"],
        bid=level(bid) if bid else None,
        ask=level(ask) if ask else None,
    )


def _trades(data: list[dict[str, Any]]) -> pb.Trades:
    return pb.Trades(
        coin=data[0]["coin"],
        trades=[
            pb.Trade(
                side=row["side"],
                px=row["px"],
                sz=row["sz"],
                time=row["time"],
                tid=row["tid"],
                hash=row.get("hash", ""),
                users=row.get("users", ()),
            )
            for row in data
        ],
    )


_MAKERS: dict[Kind, tuple[int, Callable[[Any], Any]]] = {
    Kind.TRADES: (pb.Envelope.TRADES_FIELD_NUMBER, _trades),
    Kind.BBO: (pb.Envelope.BBO_FIELD_NUMBER, _bbo),
    Kind.L2_BOOK: (pb.Envelope.L2_BOOK_FIELD_NUMBER, book),
}


def typed(kind: Kind, payload: bytes) -> tuple[int, bytes] | None:
    """The field of an envelope and its bytes; None where the kind, or this text, has no message."""
    if kind not in _MAKERS:
        return None
    number, make = _MAKERS[kind]
    try:
        return number, make(orjson.loads(payload)["data"]).SerializeToString()
    except (IndexError, KeyError, TypeError, ValueError):
        return None  # a source of another shape: its text says more than we could
