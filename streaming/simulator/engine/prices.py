"""What positions are valued at, and what holding them costs. Pure reads of an exchange."""

from __future__ import annotations

import zlib

from streaming.simulator.engine.coins import Coin
from streaming.simulator.engine.exchange import Exchange

FUNDING_DECIMALS = 10


def mark_px(exchange: Exchange, coin: Coin) -> int:
    """The price positions are valued at: the mid rounded to a tick, else the last trade."""
    book = exchange.books.get(coin.name)
    twice = book.mid_twice if book else None
    return exchange.tapes[coin.name].last_px if twice is None else coin.snap_down(twice / 2)


def oracle_shift(coin: Coin, now_ms: int) -> int:
    """How far the oracle is from the mark, in 10^-5 of it: one of 61 steps within ±3 bp a minute,
    by coin.
    """
    return zlib.crc32(f"{coin.name}{now_ms // 60_000}".encode()) % 61 - 30


def oracle_px(exchange: Exchange, coin: Coin, now_ms: int) -> int:
    """The oracle's price, in the coin's scale."""
    shift = oracle_shift(coin, now_ms)
    return coin.snap_down(mark_px(exchange, coin) * (1 + shift / 100_000))


def funding_rate(coin: Coin, now_ms: int) -> int:
    """What longs pay shorts an hour, in 10^-10 of the notional."""
    return 125_000 - oracle_shift(coin, now_ms) * 2_000
