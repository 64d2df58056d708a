"""ccxt.pro, unchanged but for its addresses: prints what it was given as one JSON object.

    python client.py http://host:port/<key> ws://host:port/<key>/ws COIN FRAMES DEADLINE_S

ccxt has no subscription to bbo for this exchange.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import ccxt.pro


async def collect(exchange: Any, symbol: str, frames: int) -> dict[str, Any]:
    """`frames` of each subscription, one after the other, from one connection."""
    markets = await exchange.load_markets()
    books, trades, tickers = [], [], []
    while len(books) < frames:
        book = await exchange.watch_order_book(symbol)
        books.append({name: book[name] for name in ("symbol", "timestamp", "bids", "asks")})
    while len(trades) < frames:
        trades += await exchange.watch_trades(symbol)
    while len(tickers) < frames:
        found = await exchange.watch_tickers([symbol])
        tickers += [ticker["last"] or ticker["close"] for ticker in found.values()]
    once = await exchange.fetch_order_book(symbol)
    fields = ("symbol", "id", "price", "amount", "side", "timestamp")
    return {
        "markets": sorted(markets),
        "l2Book": books,
        "trades": [{name: trade[name] for name in fields} for trade in trades],
        "allMids": tickers,
        "fetched": {"bids": once["bids"], "asks": once["asks"]},
    }


async def main(base_url: str, ws_url: str, coin: str, frames: int, deadline_s: float) -> None:
    """Point the exchange at the relay, collect, print, close."""
    exchange = ccxt.pro.hyperliquid()
    exchange.urls["api"]["public"] = exchange.urls["api"]["private"] = base_url
    exchange.urls["api"]["ws"]["public"] = ws_url
    try:
        async with asyncio.timeout(deadline_s):
            found = await collect(exchange, f"{coin}/USDC:USDC", frames)
    finally:
        await exchange.close()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
