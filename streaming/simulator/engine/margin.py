"""What a customer may still open: simple, and the same for orders, withdrawals and /info.

One pot of USDC carries the positions of every dex. An order reserves what it would add to a
position, at its limit price and the coin's leverage; nobody is liquidated.
"""

from __future__ import annotations

from streaming.simulator.engine.accounts import WEI_DECIMALS, Account
from streaming.simulator.engine.book import Order
from streaming.simulator.engine.coins import Coin
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.prices import mark_px


def unrealized(exchange: Exchange, account: Account) -> int:
    """What closing every position at its mark would bring, in micro-USDC."""
    total = 0
    for name, position in account.positions.items():
        value = abs(position.szi) * mark_px(exchange, exchange.coins[name])
        total += (value - position.entry_ntl) * (1 if position.szi > 0 else -1)
    return total


def equity(exchange: Exchange, account: Account) -> int:
    """Cash and unrealized profit, in micro-USDC."""
    return account.usdc + unrealized(exchange, account)


def position_margin(exchange: Exchange, account: Account, coin: Coin) -> int:
    """What a position itself ties up: of its value when cross, of its cost when isolated."""
    position, leverage = account.position(coin), account.leverage(coin)
    if leverage.is_cross:
        return abs(position.szi) * mark_px(exchange, coin) // leverage.value
    return position.entry_ntl // leverage.value + position.extra_margin


def order_margin(exchange: Exchange, account: Account, coin: Coin, extra: Order | None) -> int:
    """What a perp's resting orders, and one `extra`, tie up beyond the position."""
    wanted = {True: 0, False: 0}
    for order in (*account.orders.values(), *(() if extra is None else (extra,))):
        if order.coin is coin and not order.reduce_only and not order.trigger_px:
            wanted[order.is_buy] += order.px * order.sz
    value = account.position(coin).szi * mark_px(exchange, coin)
    exposure = max(abs(value), value + wanted[True], wanted[False] - value)
    return (exposure - abs(value)) // account.leverage(coin).value


def reserved(exchange: Exchange, account: Account, extra: Order | None = None) -> int:
    """What positions, resting orders and one `extra` order tie up together, in micro-USDC."""
    names = {order.coin.name for order in account.orders.values() if not order.coin.is_spot}
    names.update(name for name, position in account.positions.items() if position.szi)
    if extra is not None:
        names.add(extra.coin.name)
    coins = [exchange.coins[name] for name in names]
    return sum(
        position_margin(exchange, account, coin) + order_margin(exchange, account, coin, extra)
        for coin in coins
    )


def free(exchange: Exchange, account: Account) -> int:
    """What may be withdrawn or opened with, in micro-USDC; never below zero."""
    return max(0, equity(exchange, account) - reserved(exchange, account))


QUOTE = "USDC"  # of every pair


def spot_hold(account: Account, token: str) -> int:
    """What resting spot orders have reserved of a token, in 10^-8 of it."""
    hold = 0
    for order in account.orders.values():
        if not order.coin.is_spot or order.trigger_px:
            continue
        if order.is_buy and token == QUOTE:
            hold += order.px * order.sz
        elif not order.is_buy and order.coin.base == token:
            hold += wei(order)
    return hold


def spot_free(account: Account, token: str) -> int:
    """What may be sold or sent of a token, in 10^-8 of it; never below zero."""
    balance = account.balances.get(token)
    return max(0, (balance.total if balance else 0) - spot_hold(account, token))


def wei(order: Order) -> int:
    """A spot order's size in 10^-8 of its base token."""
    return int(order.sz * 10 ** (WEI_DECIMALS - order.coin.sz_decimals))


def rejection(exchange: Exchange, account: Account, order: Order) -> str | None:
    """The status to reject a customer's order with for want of means, or None."""
    coin = order.coin
    if coin.is_spot:
        token, needed = (QUOTE, order.px * order.sz) if order.is_buy else (coin.base, wei(order))
        return None if needed <= spot_free(account, token) else "insufficientSpotBalanceRejected"
    if order.reduce_only:
        return None
    before = order_margin(exchange, account, coin, None)
    added = order_margin(exchange, account, coin, order) - before
    # What only closes is never refused, however little is left.
    if not added or added <= equity(exchange, account) - reserved(exchange, account):
        return None
    return "perpMarginRejected"
