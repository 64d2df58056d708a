"""What has traded in one coin: the last prints, candles and the day's volume."""

from __future__ import annotations

import math
import zlib
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from streaming.simulator.engine.block import Event
from streaming.simulator.engine.coins import Coin

MAX_TRADES_KEPT = 500
MAX_CANDLES_KEPT = 5_000  # what candleSnapshot answers at most
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

INTERVALS_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": 0,  # a calendar month
}


def candle_span(interval: str, at_ms: int) -> tuple[int, int]:
    """First and last millisecond of the candle that holds `at_ms`. Raises KeyError for an unknown
    interval.
    """
    length_ms = INTERVALS_MS[interval]
    if length_ms:
        start_ms = at_ms - at_ms % length_ms
        return start_ms, start_ms + length_ms - 1
    day = datetime.fromtimestamp(at_ms / 1_000, UTC)
    first = datetime(day.year, day.month, 1, tzinfo=UTC)
    after = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()) * 1_000, int(after.timestamp()) * 1_000 - 1


@dataclass(slots=True)
class Candle:
    """One candle in scaled units; both ends inclusive milliseconds."""

    start_ms: int
    end_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    trades: int = 0

    def as_dict(self, coin: Coin, interval: str) -> Event:
        """The candle in the exchange's key order."""
        return {
            "t": self.start_ms,
            "T": self.end_ms,
            "s": coin.name,
            "i": interval,
            "o": coin.px_text(self.open),
            "c": coin.px_text(self.close),
            "h": coin.px_text(self.high),
            "l": coin.px_text(self.low),
            "v": coin.sz_text(self.volume),
            "n": self.trades,
        }


class Tape:
    """The trades of one coin. `origin_ms` is when trading began; candles before it are drawn from a
    fixed curve.
    """

    def __init__(self, coin: Coin, *, origin_ms: int = 0) -> None:
        self.coin = coin
        self.origin_ms = origin_ms
        self.last_px = coin.snap_down(coin.start_px * 10**coin.px_decimals)
        self.last_tid = 0
        self.count = 0
        self.recent: deque[Event] = deque(maxlen=MAX_TRADES_KEPT)
        self.candles = {
            interval: deque[Candle](maxlen=MAX_CANDLES_KEPT) for interval in INTERVALS_MS
        }
        self._hours: deque[tuple[int, int, int]] = deque(maxlen=24)
        self._seed = zlib.crc32(coin.name.encode())

    def print_trade(self, trade: Event, *, px: int, sz: int, time_ms: int) -> None:
        """Take one trade into the prints, the candles and the volume."""
        self.recent.append(trade)
        self.last_px, self.last_tid = px, int(str(trade["tid"]))
        self.count += 1
        for interval, row in self.candles.items():
            if not row or row[-1].end_ms < time_ms:
                start_ms, end_ms = candle_span(interval, time_ms)
                row.append(Candle(start_ms, end_ms, px, px, px, px, sz, 1))
                continue
            candle = row[-1]
            candle.close = px
            candle.volume += sz
            candle.trades += 1
            if px > candle.high:
                candle.high = px
            elif px < candle.low:
                candle.low = px
        hour = time_ms // HOUR_MS
        if self._hours and self._hours[-1][0] == hour:
            _, notional, base = self._hours.pop()
            self._hours.append((hour, notional + px * sz, base + sz))
        else:
            self._hours.append((hour, px * sz, sz))

    def day_volume(self, now_ms: int) -> tuple[int, int]:
        """Notional and base volume of the last 24 hours, scaled; hours before the origin carry an
        invented amount.
        """
        since = now_ms // HOUR_MS - 23
        hours = [row for row in self._hours if row[0] >= since]
        before = max(0, min(23, self.origin_ms // HOUR_MS - since))
        base_units = before * int(
            self.coin.activity * 1_500_000 / self.coin.start_px * 10**self.coin.sz_decimals
        )
        notional = base_units * int(self.coin.start_px * 10**self.coin.px_decimals)
        return sum(row[1] for row in hours) + notional, sum(row[2] for row in hours) + base_units

    def prev_day_px(self, now_ms: int) -> int:
        """The price 24 hours ago."""
        at_ms = now_ms - DAY_MS
        if at_ms >= self.origin_ms:
            for candle in reversed(self.candles["1h"]):
                if candle.start_ms <= at_ms:
                    return candle.close
        return self._curve(at_ms)

    def candle_snapshot(self, interval: str, *, start_ms: int, end_ms: int) -> list[Event]:
        """The newest 5,000 candles that overlap `[start_ms, end_ms]`, oldest first."""
        live = [
            row
            for row in self.candles[interval]
            if row.end_ms >= start_ms and row.start_ms <= end_ms
        ]
        first_live_ms = live[0].start_ms if live else self.origin_ms
        drawn: list[Candle] = []
        at_ms = min(end_ms, first_live_ms - 1)
        while at_ms >= max(start_ms, 0) and len(drawn) + len(live) < MAX_CANDLES_KEPT:
            row = self._drawn(interval, at_ms)
            drawn.append(row)
            at_ms = row.start_ms - 1
        return [row.as_dict(self.coin, interval) for row in (*reversed(drawn), *live)]

    def _drawn(self, interval: str, at_ms: int) -> Candle:
        start_ms, end_ms = candle_span(interval, at_ms)
        open_px, close_px = self._curve(start_ms), self._curve(end_ms + 1)
        noise = zlib.crc32(f"{self.coin.name}{start_ms}".encode())
        wick = self.coin.tick(open_px) * (1 + noise % 5)
        minutes = max(1, (end_ms + 1 - start_ms) // MINUTE_MS)
        trades = int((8 + noise % 23) * minutes)
        hour_base = self.coin.activity * 1_500_000 / self.coin.start_px * 10**self.coin.sz_decimals
        volume = int(hour_base * minutes / 60 * (0.6 + noise % 100 / 125))
        high, low = max(open_px, close_px) + wick, max(min(open_px, close_px) - wick, 1)
        return Candle(start_ms, end_ms, open_px, high, low, close_px, volume, trades)

    def _curve(self, at_ms: int) -> int:
        # Three waves of 5 h, 31 h and 11 d that meet the starting price at the origin: a chart that
        # looks alive.
        def wave(ms: int) -> float:
            hours, phase = ms / HOUR_MS, self._seed % 360
            return (
                0.004 * math.sin(hours / 0.8 + phase)
                + 0.013 * math.sin(hours / 5 + phase * 2)
                + 0.05 * math.sin(hours / 42 + phase * 3)
            )

        px = self.coin.start_px * (1 + wave(at_ms) - wave(self.origin_ms))
        return self.coin.snap_down(px * 10**self.coin.px_decimals)
