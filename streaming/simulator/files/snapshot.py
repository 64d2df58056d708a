"""fileSnapshot: the per-order state of every book, as a node writes it to `outPath`."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from streaming.simulator.engine.book import Book, Order


def render_l4(
    books: Iterable[Book], *, height: int | None, include_users: bool, include_triggers: bool
) -> bytes:
    """`[height,[[coin,[bids,asks]],…]]`, or the inner list alone when `height` is None.

    Best price first, time order within a price, waiting stop orders last; entries are `[user,
    order]`, or plain orders without users. Source: a recorded snapshot of mainnet, height
    985148181.
    """

    def entry(order: Order) -> object:
        return [order.user, order.as_dict()] if include_users else order.as_dict()

    coins = []
    for book in books:
        sides = []
        for is_buy in (True, False):
            rows = [
                entry(order)
                for level in book.side(is_buy=is_buy)
                for order in level.orders.values()
            ]
            if include_triggers:
                rows += [entry(order) for order in book.triggers.values() if order.is_buy is is_buy]
            sides.append(rows)
        coins.append([book.coin.name, sides])
    return orjson.dumps(coins if height is None else [height, coins])
