"""What /exchange answers, in the exchange's words.

Source: official docs, error responses; recorded replies in ccxt's and others' repositories. Texts
that nobody has recorded are marked as ours.
"""

from __future__ import annotations

from streaming.simulator.engine.block import Event
from streaming.simulator.engine.book import Book, Order
from streaming.simulator.engine.coins import Coin, decimal_text

NOT_PLACED = "Order was never placed, already canceled, or filled."
NOT_MODIFIABLE = "Cannot modify canceled or filled order"
INVALID_PRICE = "Price must be divisible by tick size."
INVALID_SIZE = "Order has invalid size."
ZERO_SIZE = "Order has zero size."
TOO_FAR = "Order price cannot be more than 80% away from the reference price"
TRIGGER_COUNT = "Unexpected number of trigger orders"
BUILDER = "Builder fee has not been approved."
TWAP_NOT_PLACED = "TWAP was never placed, already canceled, or filled."
NO_MATCH = "Order could not immediately match against any resting orders."
REJECTIONS = {
    "tickRejected": INVALID_PRICE,
    "minTradeNtlRejected": "Order must have minimum value of $10.",
    "perpMarginRejected": "Insufficient margin to place order.",
    "reduceOnlyRejected": "Reduce only order would increase position.",
    "iocCancelRejected": NO_MATCH,
    "badTriggerPxRejected": "Invalid TP/SL price.",
    "insufficientSpotBalanceRejected": "Order has insufficient spot balance to trade",
}
MIN_SPOT = "Order must have minimum value of 10 USDC."


def done(kind: str = "default", data: object = None) -> Event:
    """An accepted action."""
    response: Event = {"type": kind} if data is None else {"type": kind, "data": data}
    return {"status": "ok", "response": response}


def statuses(kind: str, rows: list[object]) -> Event:
    """An accepted batch, one status an item."""
    return done(kind, {"statuses": rows})


def refused(text: str) -> Event:
    """A refused action."""
    return {"status": "err", "response": text}


def unknown_signer(address: str, *, is_user_signed: bool) -> Event:
    """Nobody has that address."""
    if is_user_signed:
        return refused(f"Must deposit before performing actions. User: {address}")
    return refused(f"User or API Wallet {address} does not exist.")


def too_many_requests(used: int, cap: int, volume: int) -> Event:
    """The address has used its requests up; `volume` in micro-USDC."""
    return refused(
        f"Too many cumulative requests sent ({used} > {cap}) for cumulative volume traded"
        f" ${volume // 10_000 / 100:.2f}. Place taker orders to free up 1 request per USDC traded."
    )


def about(text: str, asset: int) -> Event:
    """An item's error with the asset it is about."""
    return {"error": f"{text} asset={asset}"}


def rejection(status: str, order: Order, book: Book, asset: int) -> Event:
    """Why an order was rejected."""
    coin = order.coin
    if status == "badAloPxRejected":
        bid, ask = book.bids.best, book.asks.best
        prices = [_short(coin, level.px) if level else "0" for level in (bid, ask)]
        text = "Post only order would have immediately matched, bbo was " + "@".join(prices) + "."
        return about(text, asset)
    if status == "minTradeNtlRejected" and coin.is_spot:
        return about(MIN_SPOT, asset)
    return about(REJECTIONS[status], asset)


def accepted(order: Order, asset: int) -> Event:
    """What became of an order that was not rejected: it rests, or something was filled."""
    filled = order.orig_sz - order.sz
    if order.is_live or not filled:
        if not order.is_live:
            return about(NO_MATCH, asset)
        return {"resting": _named(order, {})}
    average = decimal_text(order.spent * 10 // filled, order.coin.px_decimals + 1)
    total = order.coin.sz_text(filled)
    return {"filled": {"totalSz": total, "avgPx": average} | _named(order, {})}


def _named(order: Order, row: Event) -> Event:
    named = row | {"oid": order.oid}
    return named if order.cloid is None else named | {"cloid": order.cloid}


def _short(coin: Coin, px: int) -> str:
    return coin.px_text(px).removesuffix(".0")
