"""Another provider's streams of what changed in books: the best prices, levels, orders.

A copy kept of the changes must never be wrong in silence. Levels begin anew by coin, with a
snapshot. Its words for orders have one flag for the message, "forget what you have", so a call for
one coin begins anew in the same way, and one for several ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
import orjson

from gateway.grpc import l4_snapshot
from gateway.grpc.envelopes import Made
from gateway.grpc.generated.hyperliquid import streaming_pb2 as pb
from gateway.grpc.packed import Packed, Piece
from gateway.grpc.plain import made_once
from gateway.grpc.statuses import CallEnds
from gateway.grpc.wire import bytes_field, message_field, number_field
from streaming.core.streams import RelayFrame

AGAIN = "Ask again: the call begins with all orders."

_COIN = pb.L2CoinDiff.COIN_FIELD_NUMBER
_SEQ = pb.L2CoinDiff.SEQ_FIELD_NUMBER
_PREV_SEQ = pb.L2CoinDiff.PREV_SEQ_FIELD_NUMBER
_LEVELS_DIFFS = pb.L2BookDiffUpdate.DIFFS_FIELD_NUMBER
_ORDERS_DIFFS = pb.L4BookUpdatesUpdate.DIFFS_FIELD_NUMBER


def level(row: dict[str, Any]) -> pb.L2Level:
    """One price level; of one that is gone the size is "0"."""
    return pb.L2Level(px=row["px"], sz=row["sz"] if row["n"] else "0", n=row["n"])


class BestPrices:
    """Of one call: the best bid and ask of coins, when they are others than before."""

    def __init__(self) -> None:
        self._told: dict[str, bytes] = {}

    def make(self, frame: RelayFrame) -> Iterable[bytes]:
        """A state is given again after a hole or a change of source, and is no news then."""
        coin = frame.parts.topic.coin
        best = frame.parts.stem.partition(b'"bbo":')[2]
        if self._told.get(coin) == best:
            return ()
        self._told[coin] = best
        return made_once(frame, _best_bytes)


def _best_bytes(payload: bytes, height: int) -> bytes:
    data = orjson.loads(payload)["data"]
    bid, ask = data["bbo"]
    return pb.BboBookUpdate(
        coin=data["coin"],
        time=data["time"],
        block_number=height,
        bid=level(bid) if bid else None,
        ask=level(ask) if ask else None,
    ).SerializeToString()


class Levels:
    """Of one call: the changed levels of coins, each coin's numbered from 1."""

    def __init__(self) -> None:
        self.is_opening_skipped = False
        self._seqs: dict[str, int] = {}
        self.writing = Packed(
            self._cut, snapshot_field=pb.L2BookDiffUpdate.SNAPSHOT_FIELD_NUMBER, is_gap_told=True
        )

    def _cut(self, frame: RelayFrame) -> Piece | None:
        parts = frame.parts
        if parts.forms is None:
            parts.forms = {}
        common: Piece | None = parts.forms.get("l2 changes")
        if common is None:
            common = parts.forms["l2 changes"] = _levels(parts.payload)
        coin = parts.topic.coin
        before = self._seqs.get(coin)
        if before is None and self.is_opening_skipped and common.is_snapshot:
            self._seqs[coin] = 0
            return None
        before = before or 0
        self._seqs[coin] = before + 1
        own = (
            bytes_field(_COIN, coin.encode()),
            number_field(_SEQ, before + 1),
            number_field(_PREV_SEQ, before),
            common.body,
        )
        return common._replace(body=message_field(_LEVELS_DIFFS, b"".join(own)))


def _levels(payload: bytes) -> Piece:
    """What all who get the frame have in common: the levels."""
    data = orjson.loads(payload)["data"]
    bids, asks = data["levels"]
    is_snapshot = bool(data.get("snapshot"))
    diff = pb.L2CoinDiff(
        bids=map(level, bids), asks=map(level, asks), snapshot=is_snapshot
    ).SerializeToString()
    return Piece(data["time"], data["height"], is_snapshot, diff)


class Orders:
    """Of one call: what happened to the orders of coins."""

    def __init__(self) -> None:
        self._begun: set[str] = set()
        self._is_of_one = False
        self.writing = Packed(
            self._cut,
            snapshot_field=pb.L4BookUpdatesUpdate.SNAPSHOT_FIELD_NUMBER,
            is_gap_told=False,
        )
        self.writing.again = AGAIN

    def are_of_one(self) -> None:
        """The call is for one coin, whose orders can begin anew."""
        self._is_of_one = self.writing.is_gap_told = True

    def _cut(self, frame: RelayFrame) -> Piece | Made | None:
        parts = frame.parts
        if parts.forms is None:
            parts.forms = {}
        if b'"Snapshot"' in parts.stem[:64]:
            return self._opening(frame, parts.forms)
        piece: Piece | None = parts.forms.get("l4 changes")
        if piece is None:
            piece = parts.forms["l4 changes"] = _order_changes(parts.payload)
        return piece if piece.body else None

    def _opening(self, frame: RelayFrame, forms: dict[Any, Any]) -> Made:
        """All orders of a coin. The flag is for the first of a call alone: it says to forget all
        orders there are, also those of the coins before."""
        coin = frame.parts.topic.coin
        if not self._is_of_one and coin in self._begun:
            line = f"The book of {coin} begins anew. {AGAIN}"
            raise CallEnds(grpc.StatusCode.DATA_LOSS, line, code="gap")
        is_reset = self._is_of_one or not self._begun
        self._begun.add(coin)
        name = "l4 orders anew" if is_reset else "l4 orders"
        making: asyncio.Future[bytes] | None = forms.get(name)
        if making is None:
            making = asyncio.ensure_future(
                l4_snapshot.changes(frame.parts.payload, is_reset=is_reset)
            )
            forms[name] = making
        return making


def _order_changes(payload: bytes) -> Piece:
    updates = orjson.loads(payload)["data"]["Updates"]
    changes = filter(None, map(_order_change, updates["book_diffs"]))
    body = b"".join(message_field(_ORDERS_DIFFS, change) for change in changes)
    return Piece(updates["time"], updates["height"], False, body)


def _order_change(event: dict[str, Any]) -> bytes | None:
    """One change; None for what no book takes either (`L4Book.apply`)."""
    match event["raw_book_diff"]:
        case {"new": {"sz": sz}}:
            what = pb.L4_ORDER_DIFF_TYPE_NEW
        case {"update": {"newSz": sz}} | {"modified": {"sz": sz}}:
            what = pb.L4_ORDER_DIFF_TYPE_UPDATE
        case "remove":
            what, sz = pb.L4_ORDER_DIFF_TYPE_REMOVE, ""
        case _:
            return None
    try:
        return pb.L4OrderDiff(
            diff_type=what,
            coin=event["coin"],
            oid=event["oid"],
            user=event["user"] or "",
            side=event.get("side") or "",
            px=event["px"] or "",
            sz=sz,
        ).SerializeToString()
    except (TypeError, ValueError):
        return None
