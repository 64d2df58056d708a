"""Books as the frames customers get: the official forms, and `order_book_server`'s l4Book.

Source: recorded frames of 2026 for the official ones; `order_book_server` for l4Book.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from streaming.core.book import l4_statuses
from streaming.core.book.l2 import View
from streaming.core.book.l4 import L4Book
from streaming.core.decimals import render


def l2_book(book: L4Book, view: View, *, time_ms: int, n_levels: int, is_fast: bool) -> bytes:
    """A whole book by price. An aggregated view names its spread, a fast one says so, last, as
    upstream.
    """
    tail = b""
    if view.grouping is not None:
        spread = view.spread()
        tail = b"" if spread is None else b',"spread":"%b"' % render(spread).encode()
    if is_fast:
        tail += b',"fast":true'
    return b'{"channel":"l2Book","data":{"coin":%b,"time":%d,"levels":[[%b],[%b]]%b}}' % (
        book.coin_json,
        time_ms,
        view.bids.json(n_levels),
        view.asks.json(n_levels),
        tail,
    )


def bbo(book: L4Book, *, time_ms: int) -> bytes:
    """The best bid and ask; null for an empty side."""
    exact = book.l2.exact
    return b'{"channel":"bbo","data":{"coin":%b,"time":%d,"bbo":[%b,%b]}}' % (
        book.coin_json,
        time_ms,
        exact.bids.best_json(),
        exact.asks.best_json(),
    )


def all_mids(mids: Mapping[str, str], *, dex: str) -> bytes:
    """All mids by coin, sorted as strings; a builder dex is named first."""
    data = {"dex": dex} if dex else {}
    return orjson.dumps(
        {"channel": "allMids", "data": {**data, "mids": dict(sorted(mids.items()))}}
    )


def l4_snapshot(book: L4Book, *, channel: str = "l4Book", time_ms: int, height: int) -> bytes:
    """Every order of a coin."""
    return b'{"channel":"%b","data":{"Snapshot":{"coin":%b,"time":%d,"height":%d,"levels":%b}}}' % (
        channel.encode(),
        book.coin_json,
        time_ms,
        height,
        book.json(),
    )


def l4_updates(
    *,
    channel: str = "l4Book",
    time_ms: int,
    height: int,
    statuses: Iterable[l4_statuses.Status | dict[str, Any]],
    diffs: Iterable[dict[str, Any]],
) -> bytes:
    """What happened to a coin's orders in one block. `diffs` are node events, cut to the channel's
    fields here.
    """
    updates = {
        "time": time_ms,
        "height": height,
        "order_statuses": list(statuses),
        "book_diffs": [{field: event.get(field) for field in _FIELDS[channel]} for event in diffs],
    }
    return _encoder.encode({"channel": channel, "data": {"Updates": updates}})


_encoder = msgspec.json.Encoder()
_OFFICIAL = ("user", "oid", "px", "coin", "raw_book_diff")
#: Without most statuses the side of an order would have to be looked up.
_FIELDS = {"l4Book": _OFFICIAL, "l4Diff": (*_OFFICIAL, "side")}
