"""Made-up node lines in the real shapes, and a naive book to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from streaming.core.blocks import FileKind, RawBlock

BLOCK_MS = 1_778_002_753_000  # 2026-05-05T17:39:13 UTC
ADA = "0x" + "ad" * 20
BEN = "0x" + "be" * 20


def iso(time_ms: int) -> str:
    """A node's time text."""
    second = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{time_ms % 1000:03d}084407"


def line(height: int, events: Sequence[Any], *, time_ms: int = BLOCK_MS) -> bytes:
    """One line of any node file."""
    head = {"local_time": iso(time_ms + 300), "block_time": iso(time_ms), "block_number": height}
    return orjson.dumps({**head, "events": list(events)})


def block(
    kind: FileKind,
    height: int,
    events: Sequence[Any],
    *,
    time_ms: int = BLOCK_MS,
    is_streaming: bool = False,
) -> RawBlock:
    """A closed block, as one line or as one line an event."""
    batches = [[event] for event in events] if is_streaming else [list(events)]
    lines = [line(height, batch, time_ms=time_ms) for batch in batches]
    return RawBlock(kind, height, lines, read_ns=time_ms * 1_000_000 + 400_000_000)


def diffs(height: int, *events: Any, time_ms: int = BLOCK_MS) -> RawBlock:
    """A block of book changes."""
    return block(FileKind.DIFFS, height, events, time_ms=time_ms)


def statuses(height: int, *events: Any, time_ms: int = BLOCK_MS) -> RawBlock:
    """A block of order statuses."""
    return block(FileKind.STATUSES, height, events, time_ms=time_ms)


def fills(height: int, *events: Any, time_ms: int = BLOCK_MS) -> RawBlock:
    """A block of fills."""
    return block(FileKind.FILLS, height, events, time_ms=time_ms)


def diff(
    oid: int, change: Any, *, side: str = "B", px: str = "100.0", coin: str = "BTC", user: str = ADA
) -> dict[str, Any]:
    """A book change."""
    base = {"user": user, "oid": oid, "coin": coin, "side": side, "px": px}
    return {**base, "raw_book_diff": change}


def new(
    oid: int, sz: str = "1.0", *, side: str = "B", px: str = "100.0", coin: str = "BTC"
) -> dict[str, Any]:
    """An order that begins to rest."""
    return diff(oid, {"new": {"sz": sz}}, side=side, px=px, coin=coin)


def update(oid: int, orig_sz: str, new_sz: str, *, coin: str = "BTC") -> dict[str, Any]:
    """A change of size."""
    return diff(oid, {"update": {"origSz": orig_sz, "newSz": new_sz}}, coin=coin)


def remove(oid: int, *, coin: str = "BTC") -> dict[str, Any]:
    """The end of an order."""
    return diff(oid, "remove", coin=coin)


def order(
    oid: int,
    sz: str = "1.0",
    *,
    side: str = "B",
    px: str = "100.0",
    coin: str = "BTC",
    timestamp: int = BLOCK_MS,
    **others: Any,
) -> dict[str, Any]:
    """A node's order object."""
    body = {
        "coin": coin,
        "side": side,
        "limitPx": px,
        "sz": sz,
        "oid": oid,
        "timestamp": timestamp,
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "children": [],
        "isPositionTpsl": False,
        "reduceOnly": False,
        "orderType": "Limit",
        "origSz": sz,
        "tif": "Alo",
        "cloid": None,
    }
    return {**body, **others}


def status(
    oid: int, name: str = "open", *, time_ms: int = BLOCK_MS, **others: Any
) -> dict[str, Any]:
    """An order status."""
    head = {"time": iso(time_ms), "user": ADA, "hash": None, "builder": None, "status": name}
    return {**head, "order": order(oid, timestamp=time_ms, **others)}


def fill(
    tid: int,
    side: str,
    *,
    user: str = ADA,
    crossed: bool = False,
    px: str = "100.0",
    coin: str = "BTC",
    time_ms: int = BLOCK_MS,
) -> list[Any]:
    """One side of a trade."""
    body = {"coin": coin, "px": px, "sz": "0.5", "side": side, "time": time_ms, "hash": "0x00"}
    return [user, {**body, "oid": tid * 10, "crossed": crossed, "fee": "0.0", "tid": tid}]


class NaiveBook:
    """Orders in a dict, everything else computed from scratch with Decimals."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[str, Decimal, Decimal]] = {}  # oid → side, px, sz

    def apply(self, event: dict[str, Any]) -> None:
        change, oid = event["raw_book_diff"], event["oid"]
        if change == "remove":
            self.orders.pop(oid, None)
        elif "new" in change:
            sz = Decimal(change["new"]["sz"])
            self.orders[oid] = (event["side"], Decimal(event["px"]), sz)
        else:
            side, px, _ = self.orders[oid]
            sz = Decimal(change["update"]["newSz"])
            self.orders[oid] = (side, px, sz)
            if not sz:
                del self.orders[oid]

    def levels(
        self, side: str, *, n_sig_figs: int | None = None, mantissa: int = 1
    ) -> list[tuple[Decimal, Decimal, int]]:
        """Price, size, orders; best first."""
        found: dict[Decimal, tuple[Decimal, int]] = {}
        for own_side, px, sz in self.orders.values():
            if own_side == side:
                shown = px if n_sig_figs is None else _bucket(px, side, n_sig_figs, mantissa)
                total, n = found.get(shown, (Decimal(0), 0))
                found[shown] = (total + sz, n + 1)
        prices = sorted(found, reverse=side == "B")
        return [(px, *found[px]) for px in prices]


def _bucket(px: Decimal, side: str, n_sig_figs: int, mantissa: int) -> Decimal:
    # The exponent of the last significant figure, never finer than 1e-8.
    exponent = max(px.adjusted() - n_sig_figs + 1, -8)
    step = Decimal(mantissa).scaleb(exponent)
    quotient = px // step
    if side == "A" and quotient * step < px:
        quotient += 1
    return quotient * step
