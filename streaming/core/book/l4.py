"""A coin's resting orders one by one, kept up to date by a node's raw book changes.

Prices and sizes are in units of 1e-8 (`streaming.core.decimals`). The orders of one price stand in
time priority: a dict keeps the order of arrival, and a change of size keeps its place.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

from streaming.core.book.l2 import L2Book
from streaming.core.book.statuses import render_details, unknown_details
from streaming.core.decimals import parse, parse_price, render, render_price

#: Both spellings occur: `A`/`B` in files of 2025 and 2026, the words in the node's documentation.
_IS_BID = {"A": False, "Ask": False, "B": True, "Bid": True}
#: Orders updated to size 0 whose `remove` may still follow; a remove comes within the block or
#: never.
_MAX_EMPTIED = 4096

#: A checkpoint's order: the node's order object, with `user` where the checkpoint names users.
CheckpointOrder = dict[str, Any]


class BadDiff(ValueError):
    """The event is not a book change in any known shape; nothing was changed."""


class Order:
    """One resting order. `details` are its l4Book members from `timestamp` on; None until its
    status was seen.
    """

    __slots__ = ("details", "is_bid", "px", "sz", "time_ms", "user")

    def __init__(self, *, user: str | None, is_bid: bool, px: int, sz: int, time_ms: int) -> None:
        self.user = user
        self.is_bid = is_bid
        self.px = px
        self.sz = sz
        self.time_ms = time_ms
        self.details: bytes | None = None


class L4Book:
    """The orders of one coin by id, and through `l2` their levels.

    What does not fit (an unknown id, a size other than expected) is counted in `faults` and never
    fatal: it is a sign to compare the book with a checkpoint.
    """

    def __init__(self, coin: str, faults: Counter[str] | None = None) -> None:
        self.coin = coin
        self.coin_json = orjson.dumps(coin)
        self.faults: Counter[str] = Counter() if faults is None else faults
        self.orders: dict[int, Order] = {}
        self.l2 = L2Book()
        self.newest_ms = 0
        self._emptied: dict[int, None] = {}

    def load(self, bids: Iterable[CheckpointOrder], asks: Iterable[CheckpointOrder]) -> None:
        """Start again from a checkpoint's sides, each best price first and in time priority.

        Trigger orders that have not triggered do not rest in the book and are left out.
        """
        self.orders = {}
        self._emptied.clear()
        sides: list[dict[int, tuple[int, int]]] = []
        for is_bid, orders in ((True, bids), (False, asks)):
            levels: dict[int, tuple[int, int]] = {}
            for body in orders:
                order = self._load_order(body, is_bid=is_bid)
                if order is not None:
                    sz, n = levels.get(order.px, (0, 0))
                    levels[order.px] = (sz + order.sz, n + 1)
            sides.append(levels)
        self.l2.fill(sides[0], sides[1])

    def _load_order(self, body: CheckpointOrder, *, is_bid: bool) -> Order | None:
        try:
            if body.get("isTrigger"):
                return None
            oid, time_ms, user = int(body["oid"]), int(body["timestamp"]), body.get("user")
            px, sz = parse_price(body["limitPx"]), parse(body["sz"])
            details = render_details(body)
        except (AttributeError, KeyError, TypeError, ValueError):
            self.faults["bad_checkpoint_order"] += 1
            return None
        if oid in self.orders or sz <= 0:
            self.faults["bad_checkpoint_order"] += 1
            return None
        self.newest_ms = max(self.newest_ms, time_ms)
        order = self.orders[oid] = Order(
            user=sys.intern(user) if user else None, is_bid=is_bid, px=px, sz=sz, time_ms=time_ms
        )
        order.details = details
        return order

    def apply(self, diff: dict[str, Any], *, time_ms: int) -> int | None:
        """Apply one event of a raw book diffs line; `time_ms` is its block's time.

        Returns the id of an order that is new in the book, else None. Raises BadDiff.
        Source: the recorded `node_raw_book_diffs_*` lines.
        """
        try:
            oid, change = diff["oid"], diff["raw_book_diff"]
            if type(oid) is not int:
                raise BadDiff("oid is not a number")
            if change == "remove":
                self._remove(oid)
                return None
            ((verb, body),) = change.items()
            if verb == "update":
                self._resize(oid, parse(body["newSz"]), expected=parse(body["origSz"]))
                return None
            if verb == "new":
                return self._insert(oid, diff, sz=parse(body["sz"]), time_ms=time_ms)
            if verb == "modified":
                self._resize(oid, parse(body["sz"]), expected=None)
                return None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadDiff(str(error)) from error
        raise BadDiff("neither new, update, modified nor remove")

    def _insert(self, oid: int, diff: dict[str, Any], *, sz: int, time_ms: int) -> int | None:
        user, is_bid, px = diff["user"], _IS_BID[diff["side"]], parse_price(diff["px"])
        if px < 0 or sz < 0 or not isinstance(user, str | None):
            raise BadDiff("a negative price or size, or no user")
        if oid in self.orders:
            self.faults["duplicate_new"] += 1
            self._take_out(oid)
        if sz == 0:
            self._note_emptied(oid)
            return None
        user = sys.intern(user) if user else None
        self.orders[oid] = Order(user=user, is_bid=is_bid, px=px, sz=sz, time_ms=time_ms)
        self.l2.shift(px, sz, 1, is_bid=is_bid)
        return oid

    def _resize(self, oid: int, sz: int, *, expected: int | None) -> None:
        if sz < 0:
            raise BadDiff("a negative size")
        order = self.orders.get(oid)
        if order is None:
            self.faults["unknown_oid"] += 1
            return
        if expected is not None and expected != order.sz:
            self.faults["size_mismatch"] += 1
        if sz == 0:
            self._take_out(oid)
            self._note_emptied(oid)
            return
        self.l2.shift(order.px, sz - order.sz, 0, is_bid=order.is_bid)
        order.sz = sz

    def _remove(self, oid: int) -> None:
        if oid in self.orders:
            self._take_out(oid)
        elif oid in self._emptied:
            del self._emptied[oid]
        else:
            self.faults["unknown_oid"] += 1

    def _take_out(self, oid: int) -> None:
        order = self.orders.pop(oid)
        self.l2.shift(order.px, -order.sz, -1, is_bid=order.is_bid)

    def _note_emptied(self, oid: int) -> None:
        self._emptied[oid] = None
        if len(self._emptied) > _MAX_EMPTIED:
            del self._emptied[next(iter(self._emptied))]

    def json(self) -> bytes:
        """All orders as l4Book's `levels`: `[[bids],[asks]]`, best price first, time priority
        inside a price.

        A large book takes a while: 0.15 s for the 51,351 orders of the recorded BTC book.
        """
        bids = [(oid, order) for oid, order in self.orders.items() if order.is_bid]
        asks = [(oid, order) for oid, order in self.orders.items() if not order.is_bid]
        bids.sort(key=lambda item: -item[1].px)
        asks.sort(key=lambda item: item[1].px)
        sides = (b",".join([self._order_json(*item) for item in side]) for side in (bids, asks))
        return b"[[%b],[%b]]" % tuple(sides)

    def _order_json(self, oid: int, order: Order) -> bytes:
        return b'{"user":%b,"coin":%b,"side":"%b","limitPx":"%b","sz":"%b","oid":%d,%b}' % (
            orjson.dumps(order.user),
            self.coin_json,
            b"B" if order.is_bid else b"A",
            render_price(order.px).encode(),
            render(order.sz).encode(),
            oid,
            order.details if order.details is not None else unknown_details(order.time_ms),
        )
