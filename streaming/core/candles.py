"""Candles from trades: every interval up to a day, of every coin, at the cost of one per trade.

A trade changes its coin's minute alone; a minute that is over is added to the longer intervals it
lies in. All begin at multiples of their length since 1970, UTC. How the exchange aligns 3d, 1w and
1M is not known to us, so those are left to the exchange.

A candle is shown only if its interval began within what was seen without a hole: otherwise its open
and its volume would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from streaming.core.decimals import parse, parse_price, render
from streaming.core.trades import Trade

MINUTE_MS = 60_000
#: Those made here, in ms.
INTERVALS = {
    name: minutes * MINUTE_MS
    for name, minutes in (
        ("1m", 1), ("3m", 3), ("5m", 5), ("15m", 15), ("30m", 30), ("1h", 60), ("2h", 120),
        ("4h", 240), ("8h", 480), ("12h", 720), ("1d", 1_440),
    )
}  # fmt: skip
_LONGER = tuple(item for item in INTERVALS.items() if item[0] != "1m")


@dataclass(slots=True)
class Bar:
    """What was traded from `start_ms` on. Prices as the trades have them, volume in 1e-8."""

    start_ms: int
    open: str
    close: str
    high: str
    low: str
    volume: int
    count: int

    def add(self, later: Bar) -> None:
        """Take in what followed."""
        self.close = later.close
        if parse_price(later.high) > parse_price(self.high):
            self.high = later.high
        if parse_price(later.low) < parse_price(self.low):
            self.low = later.low
        self.volume += later.volume
        self.count += later.count


@dataclass(slots=True)
class _Coin:
    minute: Bar
    closed: dict[str, Bar] = field(default_factory=dict)  # by interval, without the open minute


class Candles:
    """The open candles of all coins. `since_ms` is the block time from which on all trades are
    known; None before the first block.
    """

    def __init__(self) -> None:
        self.since_ms: int | None = None
        self._coins: dict[str, _Coin] = {}

    def begin(self, time_ms: int) -> None:
        """Nothing is known of what was traded before `time_ms`."""
        self.since_ms = time_ms
        self._coins.clear()

    def add(self, trades: Iterable[Trade]) -> None:
        """Take in trades, in order. Raises ValueError for a price or size that is no number."""
        for trade in trades:
            minute_ms = trade.time_ms - trade.time_ms % MINUTE_MS
            bar = Bar(minute_ms, *(trade.px,) * 4, parse(trade.sz), 1)
            coin = self._coins.get(trade.coin)
            if coin is None:
                self._coins[trade.coin] = _Coin(bar)
            elif minute_ms > coin.minute.start_ms:
                _close(coin)
                coin.minute = bar
            else:
                # A trade whose second side came late belongs to a minute that may be over.
                coin.minute.add(bar)

    def is_whole(self, interval: str, *, now_ms: int) -> bool:
        """Whether all of the interval that is open at `now_ms` is known."""
        length_ms = INTERVALS.get(interval)
        if length_ms is None or self.since_ms is None:
            return False
        return now_ms - now_ms % length_ms >= self.since_ms

    def frame(self, coin: str, interval: str, *, now_ms: int) -> bytes | None:
        """The coin's open candle as a frame; None when nothing was traded in it, or not all of it
        is known.
        """
        state = self._coins.get(coin)
        if state is None or not self.is_whole(interval, now_ms=now_ms):
            return None
        length_ms = INTERVALS[interval]
        start_ms = now_ms - now_ms % length_ms
        minute, whole = state.minute, None
        closed = state.closed.get(interval)
        if closed is not None and closed.start_ms == start_ms:
            whole = Bar(*(getattr(closed, name) for name in Bar.__slots__))
        if minute.start_ms >= start_ms:
            if whole is None:
                whole = minute
            else:
                whole.add(minute)
        return None if whole is None else _render(coin, interval, start_ms, length_ms, whole)


def _close(coin: _Coin) -> None:
    minute = coin.minute
    for name, length_ms in _LONGER:
        start_ms = minute.start_ms - minute.start_ms % length_ms
        bar = coin.closed.get(name)
        if bar is not None and bar.start_ms == start_ms:
            bar.add(minute)
        else:
            coin.closed[name] = Bar(
                start_ms, minute.open, minute.close, minute.high, minute.low, minute.volume,
                minute.count,
            )  # fmt: skip


def _render(coin: str, interval: str, start_ms: int, length_ms: int, bar: Bar) -> bytes:
    """The `candle` frame. Names hold nothing that JSON escapes: they were checked as topics."""
    text = (
        f'{{"channel":"candle","data":{{"t":{start_ms},"T":{start_ms + length_ms - 1},'
        f'"s":"{coin}","i":"{interval}","o":"{bar.open}","c":"{bar.close}","h":"{bar.high}",'
        f'"l":"{bar.low}","v":"{render(bar.volume)}","n":{bar.count}}}}}'
    )
    return text.encode()
