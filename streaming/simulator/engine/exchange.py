"""The matching engine: orders in, fills, book changes and order statuses out."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from streaming.simulator.engine.accounts import Account, Role
from streaming.simulator.engine.block import Block, Event, iso_ns
from streaming.simulator.engine.book import Book, Level, Order
from streaming.simulator.engine.coins import Coin
from streaming.simulator.engine.rows import BUILDER_FEE_PPM, asset_ids, fill_row, trade_id
from streaming.simulator.engine.tape import Tape

ZERO_HASH = "0x" + "0" * 64
MIN_NOTIONAL_USDC = 10
MAX_STATUSES_KEPT = 20_000
# Every so many full fills are written as an update to size zero before their remove, as seen on
# mainnet in 2026-06.
ZERO_UPDATE_EVERY = 4


class Exchange:
    """Books, accounts and the tape, advanced one block at a time.

    Between `begin` and `end` the caller submits, cancels and modifies; everything that happened
    lies in the returned `Block`. Order ids grow by one and start where `first_oid` says.
    `lacks_means` is asked of every customer's order that could trade: the status to reject it with,
    or None.
    """

    def __init__(
        self, *, coins: tuple[Coin, ...], accounts: dict[str, Account], first_oid: int
    ) -> None:
        self.coins = {coin.name: coin for coin in coins}
        self.books = {coin.name: Book(coin) for coin in coins if not coin.is_delisted}
        self.tapes = {coin.name: Tape(coin) for coin in coins}
        self.accounts = accounts
        self.asset_ids = asset_ids(coins)
        self.next_oid = first_oid
        self.last_status: OrderedDict[int, Event] = OrderedDict()
        self.lacks_means: Callable[[Account, Order], str | None] = lambda account, order: None
        self.block = Block(height=0, time_ns=0)
        self._iso = ""
        self._action = 0
        self._full_fills = 0

    def begin(self, *, height: int, time_ns: int) -> None:
        """Open block `height`."""
        self.block = Block(height=height, time_ns=time_ns)
        self._iso = iso_ns(time_ns)
        self._action = 0

    @property
    def iso_time(self) -> str:
        """The open block's time as node files print it."""
        return self._iso

    def end(self) -> Block:
        """Close the open block and hand it over."""
        return self.block

    def new_order(
        self,
        account: Account,
        coin: Coin,
        *,
        is_buy: bool,
        px: int,
        sz: int,
        tif: str,
        cloid: str | None = None,
        twap_id: int | None = None,
    ) -> Order:
        """An order with the next id, not yet submitted. `tif` is Alo, Gtc or Ioc."""
        oid, self.next_oid = self.next_oid, self.next_oid + 1
        account.requests += 1
        return Order(
            oid=oid,
            user=account.address,
            coin=coin,
            is_buy=is_buy,
            px=px,
            sz=sz,
            orig_sz=sz,
            timestamp_ms=self.block.time_ms,
            tif=tif,
            cloid=cloid,
            twap_id=twap_id,
            builder=account.builder if tif != "Alo" and twap_id is None else None,
        )

    def submit(self, order: Order) -> str:
        """Match and rest an order; the answer is its last status of this call (`open`, `filled`,
        `canceled` or a rejection).
        """
        if order.twap_id is None:
            self.block.actions.append((order.user, self._order_action(order)))
        rejection = self._rejection(order)
        if rejection is not None:
            self._status(order, rejection)
            return rejection
        tx_hash = ZERO_HASH if order.twap_id is not None else self.next_hash()
        # A real Alo order's diff precedes its status in streaming files; one that trades announces
        # itself first.
        rests = not self.books[order.coin.name].crosses(is_buy=order.is_buy, px=order.px)
        if rests:
            self._rest(order)
            self._status(order, "open", tx_hash)
            return "open"
        if order.twap_id is None:
            self._status(order, "open", tx_hash)
        return self._trade(order, tx_hash)

    def place_trigger(self, order: Order, *, trigger_px: int, above: bool) -> None:
        """Park a stop order beside the book until `fire` finds its price reached."""
        order.trigger_px, order.trigger_above, order.is_live = trigger_px, above, True
        self.books[order.coin.name].triggers[order.oid] = order
        self._status(order, "open", self.next_hash())

    def fire(self, coin: Coin, *, mark_px: int) -> None:
        """Turn every stop of the coin whose price `mark_px` has reached into a plain order and
        match it.
        """
        book = self.books[coin.name]
        reached = [
            order
            for order in book.triggers.values()
            if (mark_px >= order.trigger_px if order.trigger_above else mark_px <= order.trigger_px)
        ]
        for order in reached:
            # Its sibling may have been filled a moment ago.
            if order.is_live:
                self._trigger(order)

    def _trigger(self, order: Order) -> None:
        book = self.books[order.coin.name]
        del book.triggers[order.oid]
        order.is_live = False
        self._status(order, "triggered")
        order.trigger_px = 0
        if order.is_position_tpsl and not order.orig_sz:
            order.sz = order.orig_sz = self.reducible(order)
        account = self.accounts[order.user]
        if order.reduce_only and not self.reducible(order):
            self._status(order, "reduceOnlyCanceled")
        elif account.role is Role.CUSTOMER and self.lacks_means(account, order):
            self._status(order, "marginCanceled")
        elif order.tif == "Ioc" or book.crosses(is_buy=order.is_buy, px=order.px):
            self._trade(order, self.next_hash())
        else:
            self._rest(order)

    def cancel(self, order: Order, status: str = "canceled") -> None:
        """Take a live order out of its book, or a stop from beside it."""
        book = self.books[order.coin.name]
        if status == "canceled":
            cancel = {"a": self.asset_ids[order.coin.name], "o": order.oid}
            self.block.actions.append((order.user, {"type": "cancel", "cancels": [cancel]}))
        if order.oid in book.triggers:
            del book.triggers[order.oid]
            order.is_live = False
        else:
            book.remove(order)
            self._diff(order, "remove")
        self._status(order, status)

    def modify(self, order: Order, *, px: int, sz: int) -> str:
        """Cancel and replace: the new order has a new id and keeps the client's, as on the
        exchange.
        """
        account = self.accounts[order.user]
        self.cancel(order)
        successor = self.new_order(
            account, order.coin, is_buy=order.is_buy, px=px, sz=sz, tif=order.tif, cloid=order.cloid
        )
        return self.submit(successor)

    def _order_action(self, order: Order) -> Event:
        coin = order.coin
        wire: Event = {
            "a": self.asset_ids[coin.name],
            "b": order.is_buy,
            "p": coin.px_text(order.px).removesuffix(".0"),
            "s": coin.sz_text(order.sz).removesuffix(".0"),
            "r": order.reduce_only,
            "t": {"limit": {"tif": order.tif.capitalize()}},
        }
        if order.cloid is not None:
            wire["c"] = order.cloid
        return {"type": "order", "orders": [wire], "grouping": "na"}

    def _rejection(self, order: Order) -> str | None:
        coin, book = order.coin, self.books[order.coin.name]
        if not coin.is_valid_px(order.px):
            return "tickRejected"
        scale = 10 ** (coin.px_decimals + coin.sz_decimals)
        may_be_small = order.twap_id is not None or order.reduce_only
        if order.px * order.sz < MIN_NOTIONAL_USDC * scale and not may_be_small:
            return "minTradeNtlRejected"
        if order.reduce_only and not self.reducible(order):
            return "reduceOnlyRejected"
        crosses = book.crosses(is_buy=order.is_buy, px=order.px)
        if order.tif == "Alo" and crosses:
            return "badAloPxRejected"
        if order.tif == "Ioc" and not crosses:
            return "iocCancelRejected"
        account = self.accounts[order.user]
        if account.role is Role.CUSTOMER:
            return self.lacks_means(account, order)
        if coin.is_spot:
            short = not order.is_buy and account.spot_units(coin) < order.sz
            return "insufficientSpotBalanceRejected" if short else None
        worth = abs(account.position(coin).szi) * order.px + order.sz * order.px
        return "perpMarginRejected" if worth > account.usdc * coin.max_leverage else None

    def reducible(self, order: Order) -> int:
        """How much of the owner's position an order can still take away, in the coin's scale."""
        position = self.accounts[order.user].positions.get(order.coin.name)
        szi = 0 if position is None else position.szi
        return max(0, -szi if order.is_buy else szi)

    def _is_spent(self, order: Order) -> bool:
        return order.reduce_only and not self.reducible(order)

    def _trade(self, order: Order, tx_hash: str) -> str:
        book = self.books[order.coin.name]
        opposite = book.side(is_buy=not order.is_buy)
        while order.sz and not self._is_spent(order) and (level := opposite.best) is not None:
            if (level.px > order.px) if order.is_buy else (level.px < order.px):
                break
            self._trade_level(order, level, tx_hash)
        if order.sz == 0:
            if order.twap_id is None:
                self._filled(order)
            return "filled"
        if self._is_spent(order):
            self._status(order, "reduceOnlyCanceled")
            return "canceled"
        if order.tif == "Ioc":
            if order.twap_id is None:
                self._status(order, "canceled")
            return "canceled"
        self._rest(order)
        return "open"

    def _trade_level(self, order: Order, level: Level, tx_hash: str) -> None:
        book = self.books[order.coin.name]
        for maker in list(level.orders.values()):
            if maker.oid not in book.orders:
                continue  # its sibling was filled a moment ago
            if maker.user == order.user:
                self.cancel(maker, "selfTradeCanceled")
                continue
            if self._is_spent(maker):
                self.cancel(maker, "reduceOnlyCanceled")
                continue
            sz = min(order.sz, maker.sz)
            if order.reduce_only:
                sz = min(sz, self.reducible(order))
            if maker.reduce_only:
                sz = min(sz, self.reducible(maker))
            before = maker.sz
            order.sz -= sz
            book.reduce(maker, sz)
            self._fill_diffs(maker, before)
            self._fills(order, maker, sz=sz, tx_hash=tx_hash)
            if not maker.is_live:
                self._filled(maker)
            elif self._is_spent(maker):
                self.cancel(maker, "reduceOnlyCanceled")
            if order.sz == 0 or self._is_spent(order):
                return

    def _filled(self, order: Order) -> None:
        children, order.children = order.children, ()
        self._status(order, "filled")
        for child in children:
            self.place_trigger(child, trigger_px=child.trigger_px, above=child.trigger_above)
        if order.sibling is not None and order.sibling.is_live:
            self.cancel(order.sibling, "siblingFilledCanceled")

    def _fill_diffs(self, maker: Order, before: int) -> None:
        sz_text = maker.coin.sz_text
        if maker.sz:
            self._diff(maker, {"update": {"origSz": sz_text(before), "newSz": sz_text(maker.sz)}})
            return
        self._full_fills += 1
        if self._full_fills % ZERO_UPDATE_EVERY == 0:
            self._diff(maker, {"update": {"origSz": sz_text(before), "newSz": "0.0"}})
        self._diff(maker, "remove")

    def _fills(self, taker: Order, maker: Order, *, sz: int, tx_hash: str) -> None:
        coin, px, time_ms = taker.coin, maker.px, self.block.time_ms
        taker.spent += px * sz
        buy, sell = (taker, maker) if taker.is_buy else (maker, taker)
        tid = trade_id(buy.oid, sell.oid)
        rows = []
        for order in (buy, sell):
            account = self.accounts[order.user]
            settled = account.settle(
                coin, is_buy=order.is_buy, px=px, sz=sz, is_taker=order is taker
            )
            row = fill_row(
                order,
                settled,
                px=px,
                sz=sz,
                time_ms=time_ms,
                tx_hash=tx_hash,
                tid=tid,
                crossed=order is taker,
            )
            account.fills.append(row)
            rows.append((order.user, row))
        self.block.add_fills(rows[0], rows[1])
        trade: Event = {
            "coin": coin.name,
            "side": taker.side,
            "px": coin.px_text(px),
            "sz": coin.sz_text(sz),
            "time": time_ms,
            "hash": tx_hash,
            "tid": tid,
            "users": [buy.user, sell.user],
        }
        self.block.trades.setdefault(coin.name, []).append(trade)
        self.tapes[coin.name].print_trade(trade, px=px, sz=sz, time_ms=time_ms)

    def _rest(self, order: Order) -> None:
        self.books[order.coin.name].rest(order)
        self._diff(order, {"new": {"sz": order.coin.sz_text(order.sz)}})

    def _diff(self, order: Order, change: object) -> None:
        self.block.changed.add(order.coin.name)
        self.block.add_diff(
            {
                "user": order.user,
                "oid": order.oid,
                "coin": order.coin.name,
                "side": order.side,
                "px": order.coin.px_text(order.px),
                "raw_book_diff": change,
            }
        )

    def reject(self, order: Order, status: str) -> None:
        """Refuse an order that is not submitted."""
        self._status(order, status)

    def _status(self, order: Order, status: str, tx_hash: str | None = None) -> None:
        builder = (
            {"b": order.builder, "f": BUILDER_FEE_PPM // 10} if order.builder and tx_hash else None
        )
        event: Event = {
            "time": self._iso,
            "user": order.user,
            "hash": tx_hash,
            "builder": builder,
            "status": status,
            "order": order.as_dict(),
        }
        self.block.add_status(event)
        account = self.accounts[order.user]
        if account.role is Role.CUSTOMER:
            account.note(order, event)
        self.last_status[order.oid] = event
        self.last_status.move_to_end(order.oid)
        if len(self.last_status) > MAX_STATUSES_KEPT:
            self.last_status.popitem(last=False)

    def next_hash(self) -> str:
        """The hash of the open block's next action."""
        # Shaped as the real ones: the height stands in bytes 8 to 13, the action's index after it.
        self._action += 1
        noise = hashlib.blake2b(
            f"{self.block.height}:{self._action}".encode(), digest_size=24
        ).hexdigest()
        return f"0x{noise[:20]}{self.block.height:010x}{self._action:06x}{noise[20:48]}"
