"""/info about the market: listings, contexts, books, trades, candles. Pure reads of an exchange."""

from __future__ import annotations

from streaming.simulator.engine.block import Event
from streaming.simulator.engine.book import Book
from streaming.simulator.engine.coins import Coin, decimal_text
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.levels import l2_levels, spread_text
from streaming.simulator.engine.prices import FUNDING_DECIMALS, funding_rate, mark_px, oracle_px

USDC_TOKEN: Event = {
    "name": "USDC",
    "szDecimals": 8,
    "weiDecimals": 8,
    "index": 0,
    "tokenId": "0x6d1e7cde53ba9467b783cb7c530ce054",
    "isCanonical": True,
    "evmContract": None,
    "fullName": None,
    "deployerTradingFeeShare": "0.0",
}
# index, token id and wei decimals as listed on mainnet
TOKENS = {
    "PURR": (1, "0xc1fb593aeffbeb02f85e0308e9956a90", 5, "597683272.12003005"),
    "HYPE": (150, "0x0d01dc56dcaaca66ad901c959b4011ec", 8, "999990391.9123"),
}
BUILDER_DEX: Event = {
    "name": "xyz",
    "fullName": "XYZ",
    "deployer": "0x88806a71d74ad0a510b350545c9ae490912f0888",
    "oracleUpdater": None,
    "feeRecipient": "0x9cd0a696c7cbb9d44de99268194cb08e5684e5fe",
    "assetToStreamingOiCap": [["xyz:SP500", "100000000.0"]],
    "subDeployers": [],
    "deployerFeeScale": "1.0",
    "lastDeployerFeeScaleChangeTime": "1970-01-01T00:00:00",
    "assetToFundingMultiplier": [],
    "assetToFundingInterestRate": [],
}


def perps(exchange: Exchange, dex: str) -> list[Coin]:
    """The perps of one dex, in listing order: the index is the asset id."""
    return [coin for coin in exchange.coins.values() if not coin.is_spot and coin.dex == dex]


def spots(exchange: Exchange) -> list[Coin]:
    """The spot pairs in listing order."""
    return [coin for coin in exchange.coins.values() if coin.is_spot]


def meta(exchange: Exchange, dex: str) -> Event:
    """`meta`: the universe of one dex."""
    universe: list[Event] = []
    for coin in perps(exchange, dex):
        row: Event = {
            "szDecimals": coin.sz_decimals,
            "name": coin.name,
            "maxLeverage": coin.max_leverage,
            "marginTableId": coin.max_leverage,
        }
        if coin.is_delisted:
            row["isDelisted"] = True
        universe.append(row)
    tables = sorted({coin.max_leverage for coin in perps(exchange, dex)})
    return {
        "universe": universe,
        "marginTables": [
            [each, {"description": "", "marginTiers": [{"lowerBound": "0.0", "maxLeverage": each}]}]
            for each in tables
        ],
        "collateralToken": 0,
    }


def spot_meta(exchange: Exchange) -> Event:
    """`spotMeta`: pairs and tokens."""
    pairs, tokens = [], [USDC_TOKEN]
    for coin in spots(exchange):
        index, token_id, wei_decimals, _ = TOKENS[coin.base]
        is_canonical = coin.spot_index == 0
        pairs.append(
            {
                "tokens": [index, 0],
                "name": coin.name,
                "index": coin.spot_index,
                "isCanonical": is_canonical,
            }
        )
        tokens.append(
            {
                "name": coin.base,
                "szDecimals": coin.sz_decimals,
                "weiDecimals": wei_decimals,
                "index": index,
                "tokenId": token_id,
                "isCanonical": is_canonical,
                "evmContract": None,
                "fullName": None,
                "deployerTradingFeeShare": "0.0",
            }
        )
    return {"universe": pairs, "tokens": tokens}


def mid_text(exchange: Exchange, coin: Coin) -> str:
    """The mid to half a tick, or the last trade when a side is empty."""
    book = exchange.books.get(coin.name)
    twice = book.mid_twice if book else None
    if twice is None:
        return coin.px_text(exchange.tapes[coin.name].last_px)
    return decimal_text(twice * 5, coin.px_decimals + 1)


def all_mids(exchange: Exchange, dex: str) -> dict[str, str]:
    """`allMids`, sorted as strings; the main dex includes spot pairs but no builder dex."""
    coins = [c for c in exchange.coins.values() if c.dex == dex]
    return {coin.name: mid_text(exchange, coin) for coin in sorted(coins, key=lambda c: c.name)}


def ctx(exchange: Exchange, coin: Coin, now_ms: int) -> Event:
    """The asset context of a perp or a spot pair."""
    return _spot_ctx(exchange, coin, now_ms) if coin.is_spot else _perp_ctx(exchange, coin, now_ms)


def still_ctx(px: str, *, mid: str | None) -> Event:
    """The context of a perp in which nothing was ever traded."""
    return {
        "funding": "0.0",
        "openInterest": "0.0",
        "prevDayPx": px,
        "dayNtlVlm": "0.0",
        "premium": None,
        "oraclePx": px,
        "markPx": px,
        "midPx": mid,
        "impactPxs": None,
        "dayBaseVlm": "0.0",
    }


def _perp_ctx(exchange: Exchange, coin: Coin, now_ms: int) -> Event:
    tape, book = exchange.tapes[coin.name], exchange.books.get(coin.name)
    mark = mark_px(exchange, coin)
    if book is None:
        return still_ctx(coin.px_text(mark), mid=None)
    notional, base = tape.day_volume(now_ms)
    oracle = oracle_px(exchange, coin, now_ms)
    bid, ask = book.bids.best, book.asks.best
    return {
        "funding": decimal_text(funding_rate(coin, now_ms), FUNDING_DECIMALS),
        "openInterest": coin.sz_text(open_interest(exchange, coin)),
        "prevDayPx": coin.px_text(tape.prev_day_px(now_ms)),
        "dayNtlVlm": decimal_text(notional, 6),
        "premium": decimal_text((mark - oracle) * 10**FUNDING_DECIMALS // oracle, FUNDING_DECIMALS),
        "oraclePx": coin.px_text(oracle),
        "markPx": coin.px_text(mark),
        "midPx": mid_text(exchange, coin) if bid and ask else None,
        "impactPxs": [coin.px_text(bid.px), coin.px_text(ask.px)] if bid and ask else None,
        "dayBaseVlm": coin.sz_text(base),
    }


def _spot_ctx(exchange: Exchange, coin: Coin, now_ms: int) -> Event:
    tape, supply = exchange.tapes[coin.name], TOKENS[coin.base][3]
    notional, base = tape.day_volume(now_ms)
    return {
        "prevDayPx": coin.px_text(tape.prev_day_px(now_ms)),
        "dayNtlVlm": decimal_text(notional, 8),
        "markPx": coin.px_text(mark_px(exchange, coin)),
        "midPx": mid_text(exchange, coin),
        "circulatingSupply": supply,
        "coin": coin.name,
        "totalSupply": supply,
        "dayBaseVlm": coin.sz_text(base),
    }


def open_interest(exchange: Exchange, coin: Coin) -> int:
    """The sum of all long positions; every long has its short, as fills always have two sides."""
    held = (account.positions.get(coin.name) for account in exchange.accounts.values())
    return sum(position.szi for position in held if position is not None and position.szi > 0)


def l2_book(
    book: Book,
    *,
    time_ms: int,
    n_sig_figs: int | None,
    mantissa: int | None,
    count: int = 20,
    fast: bool = False,
) -> Event:
    """The `data` of an l2Book frame, and the body of /info l2Book."""
    data: Event = {
        "coin": book.coin.name,
        "time": time_ms,
        "levels": l2_levels(book, count=count, n_sig_figs=n_sig_figs, mantissa=mantissa),
    }
    if n_sig_figs is not None:
        data["spread"] = spread_text(book)
    if fast:
        data["fast"] = True
    return data
