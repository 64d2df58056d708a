"""ccxt.pro on user feeds, unchanged but for its addresses: prints what it was given as one JSON
object.

    python user_feeds.py http://host:port/<key> ws://host:port/<key>/ws USER COIN FRAMES DEADLINE_S

ccxt has no subscription to userEvents.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import ccxt.pro


async def collect(exchange: Any, user: str, symbol: str, frames: int) -> dict[str, Any]:
    """At least `frames` of each, one feed after the other, from one connection."""
    await exchange.load_markets()
    orders, fills, candles = [], [], []
    while len(orders) < frames:
        orders += await exchange.watch_orders(params={"user": user})
    while len(fills) < frames:
        fills += await exchange.watch_my_trades(params={"user": user})
    while len(candles) < frames:
        candles.append((await exchange.watch_ohlcv(symbol, "1m"))[-1])
    return {
        "orders": [{name: each[name] for name in ("id", "status", "symbol")} for each in orders],
        "fills": [{name: each["info"][name] for name in ("tid", "coin", "px")} for each in fills],
        "candles": candles,
    }


async def main(
    base_url: str, ws_url: str, user: str, coin: str, frames: int, deadline_s: float
) -> None:
    """Point the exchange at the relay, collect, print, close."""
    exchange = ccxt.pro.hyperliquid()
    exchange.urls["api"]["public"] = exchange.urls["api"]["private"] = base_url
    exchange.urls["api"]["ws"]["public"] = ws_url
    try:
        async with asyncio.timeout(deadline_s):
            found = await collect(exchange, user, f"{coin}/USDC:USDC", frames)
    finally:
        await exchange.close()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5], int(sys.argv[5]), float(sys.argv[6])))
