"""Guard rails: what a key may not do on the exchange, checked before anything is sent. Pure.

They are off until somebody sets them, because a relay that refuses an order costs its customer
money. A refusal has the exchange's own shape, so that every client shows its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from gateway.exchange.asked import ORDERS, SETTINGS, Asked, Order, label_of
from tenants.admission.rails import Rails

ZERO = Decimal(0)


class Refused(Exception):
    """Stopped by a rail; the text says which, and where it is set."""


#: The coin of an asset id, None where it is not known.
CoinOf = Callable[[int], str | None]
#: What a coin costs now, in USD, None where it is not known.
PriceOf = Callable[[str], Decimal | None]
_WHERE = "(a guard rail of this API key)"


def check(
    asked: Asked,
    rails: Rails,
    *,
    signers: Iterable[str] = (),
    coin_of: CoinOf,
    price_of: PriceOf,
) -> Decimal:
    """The USD that its orders would add at most, 0 when nobody asks. Raises Refused, or BadAction
    for what cannot be read and so not be checked.

    `signers` is who signed it, on the relay's own network.
    """
    if rails.is_killed:
        raise Refused(f"The kill switch is on: nothing is sent {_WHERE}.")
    kind = asked.inner["type"]
    named = label_of(kind)
    if rails.is_cancel_only and not asked.is_cancel:
        raise Refused(f"Only cancels are sent, and this is {named!r} {_WHERE}.")
    if rails.kinds and not {kind, asked.kind} <= rails.kinds:
        raise Refused(f"Actions of type {named!r} are not allowed {_WHERE}.")
    if rails.signers and not rails.signers & set(signers):
        who = next(iter(signers), "nobody that can be recovered")
        raise Refused(f"Signed by {who}, which is not an allowed signer {_WHERE}.")
    if asked.is_cancel or not (rails.coins or rails.need_prices):
        return ZERO  # what takes back is always let through
    if kind not in ORDERS | SETTINGS and kind not in rails.kinds:
        raise Refused(
            f"Coins or USD are limited, and of {named!r} they cannot be read: allow that type of "
            f"action by name {_WHERE}."
        )
    if rails.coins:
        for asset in asked.assets():
            if (coin := coin_of(asset)) is None:
                raise Refused(f"Which coin asset {asset} is is not known now {_WHERE}.")
            if coin not in rails.coins:
                raise Refused(f"{coin} is not an allowed coin {_WHERE}.")
    return _check_amounts(asked, rails, coin_of, price_of) if rails.need_prices else ZERO


def _check_amounts(asked: Asked, rails: Rails, coin_of: CoinOf, price_of: PriceOf) -> Decimal:
    total = ZERO
    for order in asked.orders():
        if order.is_reduce_only and rails.max_order_usd is None:
            continue  # a way out is not closed for a price that is not known
        amount = _amount(order, coin_of, price_of)
        most = rails.max_order_usd
        if most is not None and amount > most:
            raise Refused(f"An order of {amount:.2f} USD, {most} at most {_WHERE}.")
        if not order.is_reduce_only:
            total += amount
    if rails.max_minute_usd is not None and total > rails.max_minute_usd:
        raise Refused(
            f"Orders of {total:.2f} USD, {rails.max_minute_usd} a minute at most {_WHERE}."
        )
    return total


def _amount(order: Order, coin_of: CoinOf, price_of: PriceOf) -> Decimal:
    """What an order is worth: at its limit, at what triggers it or at the market, whichever is
    most. A sale's limit may be far below what it brings, and a market order's is; what waits for a
    trigger is filled at another price than today's."""
    coin = coin_of(order.asset)
    now = price_of(coin) if coin is not None else None
    if now is None:
        # A purchase at a limit costs that at most; of everything else nothing is known.
        if order.is_buy and order.is_limit and order.price is not None:
            return order.price * order.size
        raise Refused(
            f"What {coin or f'asset {order.asset}'} costs is not known now, so no limit in USD "
            f"can be checked {_WHERE}."
        )
    return max(now, order.price or ZERO, order.trigger_price or ZERO) * order.size
