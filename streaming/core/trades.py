"""Trades from fills: a node writes each side of a trade on its own, the exchange's feed shows both
as one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from streaming.core.decimals import parse_price
from streaming.core.envelope import ORIGIN, Position, end_of

#: The exchange opens a trades subscription with the coin's last 30 trades.
RECENT = 30
#: Blocks a lone side waits for the other. Both belong to one block; this covers a side written late
#: (about 4 s).
MAX_WAIT_BLOCKS = 64
#: Lone sides kept at all; settlements of a whole market come as fills without another side.
MAX_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade as the feed shows it. `first` and `last` are its sides' indices among the block's
    fills.
    """

    coin: str
    px: str
    sz: str
    time_ms: int
    first: int
    last: int
    json: bytes


def render_trades(trades: Iterable[bytes]) -> bytes:
    """The `trades` frame of these trades, in the order given."""
    return b'{"channel":"trades","data":[' + b",".join(trades) + b"]}"


@dataclass(frozen=True, slots=True)
class _Side:
    height: int
    index: int
    user: str
    fill: dict[str, Any]


_Key = tuple[str, int, int]  # coin, time, tid: a tid alone is not unique


class Pairing:
    """Pairs fill sides by trade id, wherever in the block (or the next few blocks) the other side
    stands.

    Counted in `faults`: `bad_fill` (not a fill), `unpaired_fill` (its other side never came).
    """

    def __init__(self, faults: Counter[str], *, behind: Pairing | None = None) -> None:
        """`behind` is asked for sides that came before this one began, and keeps them."""
        self._faults = faults
        self._behind = behind
        self._waiting: dict[_Key, deque[_Side]] = {}
        self._size = 0

    def pair(self, height: int, fills: Sequence[Any], *, begin: int = 0) -> list[Trade]:
        """The trades that block `height` completes, in the order of their first sides.

        `fills` are the events of a fills line, `[user, fill]`, from the block's `begin`th on. A
        trade whose first side came in an earlier block stands at its second side's place.
        """
        trades: list[Trade] = []
        for index, event in enumerate(fills, begin):
            try:
                user, fill = event
                key = (fill["coin"], fill["time"], fill["tid"])
                side = _Side(height, index, user, fill)
                parse_price(fill["px"])
                if fill["side"] not in ("A", "B") or not isinstance(fill["coin"], str):
                    raise ValueError("no side")
                other = self._match(key, side)
                if other is not None:
                    trades.append(_trade(other, side))
            except (KeyError, TypeError, ValueError):
                self._faults["bad_fill"] += 1
        self._expire(height)
        trades.sort(key=lambda trade: trade.first)
        return trades

    def _match(self, key: _Key, side: _Side) -> _Side | None:
        waiting = self._waiting.get(key)
        if waiting is None and self._behind is not None:
            other = self._behind.first(key)
            if other is not None and other.fill["side"] != side.fill["side"]:
                return other
        if waiting is not None and waiting[0].fill["side"] != side.fill["side"]:
            other = waiting.popleft()
            self._size -= 1
            if not waiting:
                del self._waiting[key]
            return other
        self._waiting.setdefault(key, deque()).append(side)
        self._size += 1
        return None

    def first(self, key: _Key) -> _Side | None:
        """The side that waits longest for the other side of `key`."""
        waiting = self._waiting.get(key)
        return waiting[0] if waiting else None

    def _expire(self, height: int) -> None:
        # Oldest first: a key's place in the dict is that of its oldest side.
        while self._waiting:
            key = next(iter(self._waiting))
            sides = self._waiting[key]
            if sides[0].height > height - MAX_WAIT_BLOCKS and self._size <= MAX_WAITING:
                return
            del self._waiting[key]
            self._size -= len(sides)
            self._faults["unpaired_fill"] += len(sides)

    def finish(self) -> None:
        """Count what is still waiting: no more will come."""
        if self._size:
            self._faults["unpaired_fill"] += self._size
        self._waiting.clear()
        self._size = 0


def _trade(one: _Side, other: _Side) -> Trade:
    """The feed's trade. `side` is the aggressor's, `users` are buyer and seller.

    Source: recorded `trades` frames and the fills of the same format.
    """
    fill = one.fill
    buyer, seller = (one, other) if fill["side"] == "B" else (other, one)
    aggressor = other if other.fill["crossed"] and not fill["crossed"] else one
    body = {
        "coin": fill["coin"],
        "side": aggressor.fill["side"],
        "px": fill["px"],
        "sz": fill["sz"],
        "time": fill["time"],
        "hash": fill["hash"],
        "tid": fill["tid"],
        "users": [buyer.user, seller.user],
    }
    first = one.index if one.height == other.height else other.index
    return Trade(
        fill["coin"], fill["px"], fill["sz"], fill["time"], first, other.index, orjson.dumps(body)
    )


@dataclass(slots=True)
class _Coin:
    recent: deque[bytes]
    position: Position = ORIGIN
    last_px: str = ""


@dataclass(frozen=True, slots=True)
class Print:
    """The trades of one coin in one block: one frame, its place, and the place of the coin's frame
    before. `trades` in the frame's order.
    """

    coin: str
    position: Position
    previous: Position
    payload: bytes
    trades: Sequence[Trade] = ()


class Tape:
    """Every coin's trades: frames block by block, and the last 30 for those who join."""

    def __init__(self, faults: Counter[str]) -> None:
        self._pairing = Pairing(faults)
        self._coins: dict[str, _Coin] = {}
        self._since = ORIGIN

    @property
    def coins(self) -> Iterable[str]:
        """The coins that have traded."""
        return self._coins.keys()

    def begin_after(self, height: int) -> None:
        """What comes next claims nothing about block `height` and before."""
        self._since = end_of(height)

    def lost(self, height: int) -> None:
        """Fills up to block `height` are missing: the last trades begin anew behind them, so that
        what opens a subscription has no hole in it.
        """
        self.begin_after(height)
        for state in self._coins.values():
            state.recent.clear()

    def apply(self, height: int, fills: Sequence[Any]) -> list[Print]:
        """The frames of block `height`, one a coin."""
        by_coin: dict[str, list[Trade]] = {}
        for trade in self._pairing.pair(height, fills):
            by_coin.setdefault(trade.coin, []).append(trade)
        return [self._print(height, coin, trades) for coin, trades in by_coin.items()]

    def _print(self, height: int, coin: str, trades: list[Trade]) -> Print:
        state = self._coins.setdefault(coin, _Coin(deque(maxlen=RECENT)))
        state.recent.extend(trade.json for trade in trades)
        state.last_px = trades[-1].px
        previous = max(state.position, self._since)
        state.position = Position(height, max(trade.last for trade in trades))
        payload = render_trades(trade.json for trade in trades)
        return Print(coin, state.position, previous, payload, trades)

    def pairing_ahead(self) -> Pairing:
        """A pairing of its own for fills that this tape has not got yet."""
        return Pairing(Counter(), behind=self._pairing)

    def place(self, coin: str) -> Position:
        """Where the coin's newest trade stands, or the last loss if that is later."""
        state = self._coins.get(coin)
        return max(state.position, self._since) if state else self._since

    def recent(self, coin: str) -> tuple[Position, bytes]:
        """The coin's last trades as one frame, oldest first (empty before the first), and their
        `place`.
        """
        return self.place(coin), render_trades(self.trades(coin))

    def trades(self, coin: str) -> Sequence[bytes]:
        """The coin's last trades, oldest first."""
        state = self._coins.get(coin)
        return state.recent if state else ()

    def last_px(self, coin: str) -> str | None:
        """The price of the coin's last trade as a wire string, or None before the first."""
        state = self._coins.get(coin)
        return state.last_px if state else None

    def finish(self) -> None:
        """Count the sides that are still alone: no more fills will come."""
        self._pairing.finish()
