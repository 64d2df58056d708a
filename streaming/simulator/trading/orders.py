"""Orders of customers against the matching engine: place, cancel, modify."""

from __future__ import annotations

from decimal import Decimal

from streaming.simulator.engine.accounts import PPM, Account
from streaming.simulator.engine.block import Event
from streaming.simulator.engine.book import Order
from streaming.simulator.engine.coins import Coin
from streaming.simulator.engine.exchange import MIN_NOTIONAL_USDC, Exchange
from streaming.simulator.engine.margin import rejection
from streaming.simulator.engine.prices import mark_px
from streaming.simulator.trading import replies, wire
from streaming.simulator.trading.wire import Trigger, Wish

OPEN_ORDERS, MOST_OPEN_ORDERS = 1_000, 5_000
VOLUME_PER_OPEN_ORDER = 5_000_000 * PPM
FARTHEST = Decimal("0.8")  # of the reference price, either way


class Refusal(Exception):
    """A whole batch is refused by what it says itself; carries the text."""


class OrderDesk:
    """Takes parsed orders; answers one status each, in the exchange's words."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._coins = {number: exchange.coins[name] for name, number in exchange.asset_ids.items()}
        exchange.lacks_means = lambda account, order: rejection(exchange, account, order)

    def place(self, account: Account, wishes: list[Wish], grouping: str) -> list[object]:
        """Place a batch. Raises Refusal where one error answers for all of it."""
        self._validate(wishes, grouping)
        if grouping != "normalTpsl":
            return [self._place(account, wish, grouping=grouping)[1] for wish in wishes]
        return self._place_with_exits(account, wishes)

    def cancel(self, account: Account, asset: int, key: int | str) -> object:
        """Cancel by either id."""
        order = self.find(account, key)
        if order is None or self._exchange.asset_ids[order.coin.name] != asset:
            return replies.about(replies.NOT_PLACED, asset)
        self._end(order)
        return "success"

    def cancel_all(self, account: Account, status: str) -> None:
        """End every order of an account."""
        for order in list(account.orders.values()):
            if order.is_live:
                self._end(order, status)

    def modify(self, account: Account, key: int | str, wish: Wish) -> object:
        """Cancel and replace. What cannot be placed by its own words leaves the old one alone;
        what the book or the margin refuses does not bring it back. Raises Refusal.
        """
        self._validate([wish], "na")
        order = self.find(account, key)
        if order is None:
            return {"error": replies.NOT_MODIFIABLE}
        fault = self._fault(account, wish)
        if fault is not None:
            return fault
        self._end(order)
        return self._place(account, wish, grouping="na")[1]

    def find(self, account: Account, key: int | str) -> Order | None:
        """A live order by the exchange's id or the client's."""
        if isinstance(key, int):
            return account.orders.get(key)
        named = (order for order in reversed(account.orders.values()) if order.cloid == key)
        return next(named, None)

    def sweep(self, account: Account) -> None:
        """End reduce-only orders whose position is gone."""
        for order in list(account.orders.values()):
            is_due = not order.trigger_px or order.is_position_tpsl
            if order.reduce_only and is_due and not self._exchange.reducible(order):
                self._end(order, "reduceOnlyCanceled")

    def coin(self, asset: int) -> Coin | None:
        """What can be traded under that number."""
        coin = self._coins.get(asset)
        return None if coin is None or coin.is_delisted else coin

    # --- checks -----------------------------------------------------------------------------------

    def _validate(self, wishes: list[Wish], grouping: str) -> None:
        """What the batch says itself. Raises Refusal."""
        if not wishes:
            raise Refusal("Batch is empty.")  # ours
        for wish in wishes:
            coin = self.coin(wish.asset)
            if coin is None:
                raise Refusal(f"Asset {wish.asset} cannot be traded.")  # ours
            mark = Decimal(mark_px(self._exchange, coin)).scaleb(-coin.px_decimals)
            if wish.trigger is None and abs(wish.px - mark) > FARTHEST * mark:
                raise Refusal(replies.TOO_FAR)
        triggers = [wish for wish in wishes if wish.trigger is not None]
        if grouping == "normalTpsl" and (
            wishes[0].trigger is not None or len(triggers) != len(wishes) - 1 or len(wishes) > 3
        ):
            raise Refusal(replies.TRIGGER_COUNT)
        if grouping == "positionTpsl" and (len(triggers) != len(wishes) or len(wishes) > 2):
            raise Refusal(replies.TRIGGER_COUNT)
        if grouping != "na" and not all(wish.reduce_only for wish in triggers):
            raise Refusal("TP/SL orders must be reduce only.")  # ours

    def _fault(self, account: Account, wish: Wish) -> Event | None:
        """What is wrong with one order whatever the book holds."""
        coin = self._coins[wish.asset]
        px, sz = wire.scaled(wish.px, coin.px_decimals), wire.scaled(wish.sz, coin.sz_decimals)
        if sz is None:
            return replies.about(replies.INVALID_SIZE, wish.asset)
        if not sz and wish.trigger is None:
            return replies.about(replies.ZERO_SIZE, wish.asset)
        if px is None or not coin.is_valid_px(px):
            return replies.about(replies.INVALID_PRICE, wish.asset)
        if wish.reduce_only and coin.is_spot:
            return replies.about(replies.REJECTIONS["reduceOnlyRejected"], wish.asset)
        scale = 10 ** (coin.px_decimals + coin.sz_decimals)
        if px * sz < MIN_NOTIONAL_USDC * scale and not wish.reduce_only:
            text = replies.MIN_SPOT if coin.is_spot else replies.REJECTIONS["minTradeNtlRejected"]
            return replies.about(text, wish.asset)
        most = min(MOST_OPEN_ORDERS, OPEN_ORDERS + account.volume // VOLUME_PER_OPEN_ORDER)
        is_late = wish.reduce_only or wish.trigger is not None
        if len(account.orders) >= (OPEN_ORDERS if is_late else most):
            return replies.about(
                f"Too many open orders: {len(account.orders)}.", wish.asset
            )  # ours
        return None

    # --- placing ----------------------------------------------------------------------------------

    def _place(self, account: Account, wish: Wish, *, grouping: str) -> tuple[Order | None, object]:
        fault = self._fault(account, wish)
        if fault is not None:
            return None, fault
        if wish.trigger is not None:
            return self._wait(account, wish, wish.trigger, grouping=grouping)
        order = self._order(account, wish)
        return order, self._submit(order)

    def _submit(self, order: Order) -> Event:
        exchange, name = self._exchange, order.coin.name
        status = exchange.submit(order)
        if status.endswith("Rejected"):
            return replies.rejection(status, order, exchange.books[name], exchange.asset_ids[name])
        return replies.accepted(order, exchange.asset_ids[name])

    def _order(self, account: Account, wish: Wish) -> Order:
        coin = self._coins[wish.asset]
        px, sz = wire.scaled(wish.px, coin.px_decimals), wire.scaled(wish.sz, coin.sz_decimals)
        order = self._exchange.new_order(
            account,
            coin,
            is_buy=wish.is_buy,
            px=px or 0,
            sz=sz or 0,
            tif=wish.tif,
            cloid=wish.cloid,
        )
        order.reduce_only = wish.reduce_only
        return order

    def _wait(
        self, account: Account, wish: Wish, trigger: Trigger, *, grouping: str
    ) -> tuple[Order | None, object]:
        order = self._stop(account, wish, trigger)
        order.is_position_tpsl = grouping == "positionTpsl"
        if not self._may_wait(order):
            self._exchange.reject(order, "badTriggerPxRejected")
            return None, replies.about(replies.REJECTIONS["badTriggerPxRejected"], wish.asset)
        self._park(order)
        if grouping == "na":
            return order, replies.accepted(order, wish.asset)
        return order, "waitingForTrigger"

    def _stop(self, account: Account, wish: Wish, trigger: Trigger) -> Order:
        """An order that waits for a price, not parked yet."""
        order = self._order(account, wish)
        order.tif = "Ioc" if trigger.is_market else "Gtc"
        name = "Stop" if trigger.is_stop else "Take Profit"
        order.order_type = f"{name} {'Market' if trigger.is_market else 'Limit'}"
        order.trigger_px = wire.scaled(trigger.px, order.coin.px_decimals) or 0
        order.trigger_above = wish.is_buy is trigger.is_stop
        return order

    def _may_wait(self, order: Order) -> bool:
        """Whether the trigger is a price, and not reached already."""
        mark = mark_px(self._exchange, order.coin)
        is_ahead = order.trigger_px > mark if order.trigger_above else order.trigger_px < mark
        return is_ahead and order.coin.is_valid_px(order.trigger_px)

    def _park(self, order: Order) -> None:
        self._exchange.place_trigger(order, trigger_px=order.trigger_px, above=order.trigger_above)

    def _place_with_exits(self, account: Account, wishes: list[Wish]) -> list[object]:
        """An order with a stop and a take-profit that wait for it, and of which one ends the
        other.
        """
        faults = [fault for wish in wishes if (fault := self._fault(account, wish))]
        if faults:
            return [faults[0]]
        parent = self._order(account, wishes[0])
        exits = [self._stop(account, wish, wish.trigger) for wish in wishes[1:] if wish.trigger]
        if not all(self._may_wait(order) for order in exits):
            asset = wishes[0].asset
            return [replies.about(replies.REJECTIONS["badTriggerPxRejected"], asset)]
        if len(exits) == 2:
            exits[0].sibling, exits[1].sibling = exits[1], exits[0]
        parent.children = tuple(exits)
        status = self._submit(parent)
        if "error" in status:
            return [status]
        if not parent.children:
            return [status, *(["waitingForTrigger"] * len(exits))]
        if parent.is_live:
            return [status, *(["waitingForFill"] * len(exits))]
        # The rest of it was not to be had: what was filled is filled without exits.
        parent.children = ()
        return [status, *([{"error": "Parent order was not filled."}] * len(exits))]  # ours

    def _end(self, order: Order, status: str = "canceled") -> None:
        order.children = ()
        self._exchange.cancel(order, status)
