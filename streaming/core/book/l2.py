"""Price levels, exact and aggregated, kept up to date by changes.

A frame costs what changed, not what the book holds: prices stay sorted, and each level keeps its
JSON until it changes, so a 20-level side is one join. Prices and sizes are in units of 1e-8
(`streaming.core.decimals`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from streaming.core.decimals import render, render_price


class _Level:
    """What rests at one price: total size, number of orders, and both as JSON once asked for."""

    __slots__ = ("json", "n", "sz")

    def __init__(self, sz: int, n: int) -> None:
        self.sz = sz
        self.n = n
        self.json: bytes | None = None


class Best(NamedTuple):
    """The best level of a side."""

    px: int
    sz: int
    n: int


class Ladder:
    """One side of a book by price, best first."""

    __slots__ = ("_is_bid", "_keys", "_levels")

    def __init__(self, *, is_bid: bool) -> None:
        self._is_bid = is_bid
        self._levels: dict[int, _Level] = {}
        # Sorted with the best price *last* (asks negated): nearly all levels come and go near the
        # best, and a list inserts near its end without moving the other 10,000.
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self._levels)

    def shift(self, px: int, d_sz: int, d_n: int) -> None:
        """Add `d_sz` and `d_n` (either may be negative) to the level at `px`; a level without
        orders vanishes.
        """
        level = self._levels.get(px)
        if level is None:
            self._levels[px] = _Level(d_sz, d_n)
            insort(self._keys, px if self._is_bid else -px)
            return
        level.sz += d_sz
        level.n += d_n
        level.json = None
        if level.n <= 0:
            del self._levels[px]
            del self._keys[bisect_left(self._keys, px if self._is_bid else -px)]

    def fill(self, levels: dict[int, tuple[int, int]]) -> None:
        """Start again from `levels`: price → (size, orders)."""
        self._levels = {px: _Level(sz, n) for px, (sz, n) in levels.items()}
        self._keys = sorted(levels if self._is_bid else [-px for px in levels])

    def best(self) -> Best | None:
        """The best level, or None when the side is empty."""
        if not self._keys:
            return None
        px = abs(self._keys[-1])
        level = self._levels[px]
        return Best(px, level.sz, level.n)

    def top(self, n_levels: int) -> list[tuple[int, int, int]]:
        """The best `n_levels` as (price, size, orders)."""
        prices = [abs(key) for key in self._keys[: -n_levels - 1 : -1]]
        return [(px, self._levels[px].sz, self._levels[px].n) for px in prices]

    def json(self, n_levels: int) -> bytes:
        """The best `n_levels` as JSON objects joined by commas, without brackets."""
        return b",".join([self._json(abs(key)) for key in self._keys[: -n_levels - 1 : -1]])

    def best_json(self) -> bytes:
        """The best level as a JSON object, `null` when the side is empty."""
        return self._json(abs(self._keys[-1])) if self._keys else b"null"

    def levels(self) -> dict[int, tuple[int, int]]:
        """All levels: price → (size, orders)."""
        return {px: (level.sz, level.n) for px, level in self._levels.items()}

    def _json(self, px: int) -> bytes:
        level = self._levels[px]
        if level.json is None:
            text = f'{{"px":"{render_price(px)}","sz":"{render(level.sz)}","n":{level.n}}}'
            level.json = text.encode()
        return level.json


class Grouping(NamedTuple):
    """An aggregation: significant figures (2 to 5), and the step's mantissa (1, 2 or 5) when there
    are five.
    """

    n_sig_figs: int
    mantissa: int = 1

    def bucket(self, px: int, *, is_bid: bool) -> int:
        """The price `px` is shown at: rounded away from the spread, so a view never looks better
        than its book.

        Source: `order_book_server`, order_book/levels.rs.
        """
        step: int = self.mantissa * 10 ** max(0, len(str(px)) - self.n_sig_figs)
        return px // step * step if is_bid else -(-px // step) * step


class View:
    """Both sides of a book, exact or aggregated."""

    __slots__ = ("asks", "bids", "grouping")

    def __init__(self, grouping: Grouping | None = None) -> None:
        self.grouping = grouping
        self.bids = Ladder(is_bid=True)
        self.asks = Ladder(is_bid=False)

    def shift(self, px: int, d_sz: int, d_n: int, *, is_bid: bool) -> None:
        """Pass on a change of the book's level at `px`."""
        if self.grouping is not None:
            px = self.grouping.bucket(px, is_bid=is_bid)
        (self.bids if is_bid else self.asks).shift(px, d_sz, d_n)

    def spread(self) -> int | None:
        """Best ask less best bid, or None when a side is empty."""
        bid, ask = self.bids.best(), self.asks.best()
        return None if bid is None or ask is None else ask.px - bid.px


class L2Book:
    """A book by price, with the aggregated views somebody asked for."""

    __slots__ = ("_views", "exact")

    def __init__(self) -> None:
        self.exact = View()
        self._views: dict[Grouping, View] = {}

    def shift(self, px: int, d_sz: int, d_n: int, *, is_bid: bool) -> None:
        """Change the level at `px`, in every view."""
        self.exact.shift(px, d_sz, d_n, is_bid=is_bid)
        for view in self._views.values():
            view.shift(px, d_sz, d_n, is_bid=is_bid)

    def fill(self, bids: dict[int, tuple[int, int]], asks: dict[int, tuple[int, int]]) -> None:
        """Start again from whole sides: price → (size, orders)."""
        self.exact.bids.fill(bids)
        self.exact.asks.fill(asks)
        for grouping in list(self._views):
            self._views[grouping] = self._grouped(grouping)

    def view(self, grouping: Grouping | None) -> View:
        """The exact book, or an aggregation; an aggregation is made on first use and then follows
        the book.
        """
        if grouping is None:
            return self.exact
        if grouping not in self._views:
            self._views[grouping] = self._grouped(grouping)
        return self._views[grouping]

    def drop(self, grouping: Grouping) -> None:
        """Forget an aggregation nobody follows any more."""
        self._views.pop(grouping, None)

    def _grouped(self, grouping: Grouping) -> View:
        view = View(grouping)
        for is_bid, side in ((True, self.exact.bids), (False, self.exact.asks)):
            for px, (sz, n) in side.levels().items():
                view.shift(px, sz, n, is_bid=is_bid)
        return view
