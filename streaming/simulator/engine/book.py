"""One coin's order book with price-time priority."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from streaming.simulator.engine.coins import Coin


@dataclass(slots=True)
class Order:
    """An order from its acceptance to its end; `sz` is what is still open, both sizes scaled by the
    coin.

    `spent` is what it has taken as taker so far: price times size, scaled. `trigger_px` is 0 for a
    plain order; `children` are stops that begin to wait once this order is filled, and of two
    siblings the one that is filled ends the other. `order_type` is what it was placed as, where
    that is not plain. `is_live` says whether it rests in a book or waits for its trigger.
    """

    oid: int
    user: str
    coin: Coin
    is_buy: bool
    px: int
    sz: int
    orig_sz: int
    timestamp_ms: int
    tif: str
    cloid: str | None = None
    twap_id: int | None = None
    builder: str | None = None
    trigger_px: int = 0
    trigger_above: bool = False
    children: tuple[Order, ...] = ()
    sibling: Order | None = field(default=None, repr=False, compare=False)
    reduce_only: bool = False
    is_position_tpsl: bool = False
    order_type: str = ""
    is_live: bool = False
    spent: int = 0

    @property
    def side(self) -> str:
        """`B` for a bid, `A` for an ask."""
        return "B" if self.is_buy else "A"

    def as_dict(self) -> dict[str, object]:
        """The order as node files and snapshots show it, in their key order."""
        coin = self.coin
        triggered = self.trigger_px > 0
        condition = "N/A"
        if triggered:
            where = "above" if self.trigger_above else "below"
            condition = f"Price {where} {coin.px_text(self.trigger_px).removesuffix('.0')}"
        return {
            "coin": coin.name,
            "side": self.side,
            "limitPx": coin.px_text(self.px),
            "sz": coin.sz_text(self.sz),
            "oid": self.oid,
            "timestamp": self.timestamp_ms,
            "triggerCondition": condition,
            "isTrigger": triggered,
            "triggerPx": coin.px_text(self.trigger_px) if triggered else "0.0",
            "children": [child.as_dict() for child in self.children] if self.children else [],
            "isPositionTpsl": self.is_position_tpsl,
            "reduceOnly": self.reduce_only,
            "orderType": self.order_type or ("Stop Limit" if triggered else "Limit"),
            "origSz": coin.sz_text(self.orig_sz),
            "tif": self.tif,
            "cloid": self.cloid,
        }


@dataclass(slots=True)
class Level:
    """All orders at one price, oldest first, with their summed open size."""

    px: int
    sz: int = 0
    orders: dict[int, Order] = field(default_factory=dict)


class Side:
    """One side of a book: levels best first.

    Prices are kept as ascending keys, negated for bids, so that the best is always the first; with
    a few hundred levels a plain list with bisection beats every tree (0.2 µs an insert).
    """

    def __init__(self, *, is_buy: bool) -> None:
        self._sign = -1 if is_buy else 1
        self._keys: list[int] = []
        self._levels: dict[int, Level] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Level]:
        return (self._levels[key] for key in self._keys)

    @property
    def best(self) -> Level | None:
        """The level that trades first, or None when the side is empty."""
        return self._levels[self._keys[0]] if self._keys else None

    @property
    def worst(self) -> Level | None:
        """The level furthest from the other side, or None when the side is empty."""
        return self._levels[self._keys[-1]] if self._keys else None

    def from_worst(self) -> Iterator[Level]:
        """Every level, worst first."""
        return (self._levels[key] for key in reversed(self._keys))

    def top(self, count: int) -> list[Level]:
        """At most `count` levels, best first."""
        return [self._levels[key] for key in self._keys[:count]]

    def add(self, order: Order) -> None:
        """Rest `order` behind every other at its price."""
        key = self._sign * order.px
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = Level(order.px)
            insort(self._keys, key)
        level.orders[order.oid] = order
        level.sz += order.sz

    def reduce(self, order: Order, by: int) -> None:
        """Take `by` off a resting order; the order leaves the side when nothing is left of it."""
        key = self._sign * order.px
        level = self._levels[key]
        level.sz -= by
        order.sz -= by
        if order.sz == 0:
            self._drop(order, key, level)

    def remove(self, order: Order) -> None:
        """Take a resting order off the side; its open size stays readable on the order."""
        key = self._sign * order.px
        level = self._levels[key]
        level.sz -= order.sz
        self._drop(order, key, level)

    def _drop(self, order: Order, key: int, level: Level) -> None:
        del level.orders[order.oid]
        order.is_live = False
        if not level.orders:
            del self._levels[key]
            del self._keys[bisect_left(self._keys, key)]


class Book:
    """Both sides of one coin, its resting orders by id, and the stops that wait beside it."""

    def __init__(self, coin: Coin) -> None:
        self.coin = coin
        self.bids = Side(is_buy=True)
        self.asks = Side(is_buy=False)
        self.orders: dict[int, Order] = {}
        self.triggers: dict[int, Order] = {}

    def side(self, *, is_buy: bool) -> Side:
        """The side an order of that direction rests on."""
        return self.bids if is_buy else self.asks

    def rest(self, order: Order) -> None:
        """Put an order on its side, last in time at its price."""
        order.is_live = True
        self.orders[order.oid] = order
        self.side(is_buy=order.is_buy).add(order)

    def reduce(self, order: Order, by: int) -> None:
        """Fill `by` of a resting order."""
        self.side(is_buy=order.is_buy).reduce(order, by)
        if not order.is_live:
            del self.orders[order.oid]

    def remove(self, order: Order) -> None:
        """Take a resting order out unfilled."""
        self.side(is_buy=order.is_buy).remove(order)
        del self.orders[order.oid]

    @property
    def mid_twice(self) -> int | None:
        """Best bid plus best ask in scaled units (twice the mid, so that it stays whole); None when
        one side is empty.
        """
        bid, ask = self.bids.best, self.asks.best
        return None if bid is None or ask is None else bid.px + ask.px

    def crosses(self, *, is_buy: bool, px: int) -> bool:
        """Whether an order at `px` would trade at once."""
        best = self.asks.best if is_buy else self.bids.best
        return best is not None and (px >= best.px if is_buy else px <= best.px)
