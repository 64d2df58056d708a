"""Level views of a book: the arrays of l2Book and bbo."""

from __future__ import annotations

from collections.abc import Iterable

from streaming.simulator.engine.book import Book, Level
from streaming.simulator.engine.coins import Coin

LevelDict = dict[str, object]

DEFAULT_LEVELS = 20
FAST_LEVELS = 5


def level_dict(coin: Coin, *, px: int, sz: int, n: int) -> LevelDict:
    """One level in the exchange's key order."""
    return {"px": coin.px_text(px), "sz": coin.sz_text(sz), "n": n}


def l2_levels(
    book: Book,
    *,
    count: int = DEFAULT_LEVELS,
    n_sig_figs: int | None = None,
    mantissa: int | None = None,
) -> list[list[LevelDict]]:
    """Bids and asks, best first, at most `count` a side, grouped as `n_sig_figs` and `mantissa`
    ask.
    """
    if n_sig_figs is None:
        return [
            [level_dict(book.coin, px=lv.px, sz=lv.sz, n=len(lv.orders)) for lv in side.top(count)]
            for side in (book.bids, book.asks)
        ]
    return [
        _grouped(
            book.coin,
            side,
            is_buy=is_buy,
            count=count,
            n_sig_figs=n_sig_figs,
            mantissa=mantissa or 1,
        )
        for is_buy, side in ((True, book.bids), (False, book.asks))
    ]


def _grouped(
    coin: Coin, side: Iterable[Level], *, is_buy: bool, count: int, n_sig_figs: int, mantissa: int
) -> list[LevelDict]:
    rows: list[LevelDict] = []
    at, total, orders = 0, 0, 0
    for level in side:
        px = bucket_px(level.px, is_buy=is_buy, n_sig_figs=n_sig_figs, mantissa=mantissa)
        if px != at and orders:
            rows.append(level_dict(coin, px=at, sz=total, n=orders))
            if len(rows) == count:
                return rows
            total = orders = 0
        at = px
        total += level.sz
        orders += len(level.orders)
    if orders:
        rows.append(level_dict(coin, px=at, sz=total, n=orders))
    return rows


def bucket_px(px: int, *, is_buy: bool, n_sig_figs: int, mantissa: int) -> int:
    """The price `px` is shown at: bids rounded down and asks up to `mantissa` units of the n-th
    figure.

    Source: hyperliquid-dex/order_book_server, `order_book/levels.rs`.
    """
    step = mantissa * int(10 ** max(0, len(str(px)) - n_sig_figs))
    if len(str(px)) < n_sig_figs:
        step = 1
    low = px - px % step
    return low if is_buy or low == px else low + step


def bbo_levels(book: Book) -> list[LevelDict | None]:
    """Best bid and best ask, None for an empty side."""
    return [
        None if best is None else level_dict(book.coin, px=best.px, sz=best.sz, n=len(best.orders))
        for best in (book.bids.best, book.asks.best)
    ]


def spread_text(book: Book) -> str:
    """Best ask minus best bid as text; zero when a side is empty."""
    bid, ask = book.bids.best, book.asks.best
    return book.coin.px_text(ask.px - bid.px) if bid and ask else "0.0"
