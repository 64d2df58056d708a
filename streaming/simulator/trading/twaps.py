"""TWAPs of customers: slices every 30 s of block time, each at 3 % from the mark at worst."""

from __future__ import annotations

from streaming.simulator.engine.accounts import Account
from streaming.simulator.engine.block import Event
from streaming.simulator.engine.coins import Coin
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.prices import mark_px
from streaming.simulator.engine.twaps import ACTIVATED, FINISHED, TERMINATED, Twap, tell_twap
from streaming.simulator.trading import replies, wire

SLICE_MS = 30_000
MINUTES = range(5, 1_441)
SLIPPAGE = 0.03
FIRST_ID = 77_000_000


class CustomerTwaps:
    """Begins, works and ends them."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._running: dict[int, tuple[Twap, int]] = {}  # with the time of its next slice
        self._next_id = FIRST_ID + exchange.next_oid // 1_000 % 100_000_000

    def begin(self, account: Account, coin: Coin, twap: Event) -> Event:
        """`twapOrder`'s reply. Raises Unparsable."""
        sz = wire.scaled(wire.amount(twap, "s"), coin.sz_decimals)
        minutes = wire.number(twap, "m")
        if not sz or minutes not in MINUTES or coin.is_spot:
            return _status({"error": "Invalid TWAP duration or size."})  # ours
        started = Twap(
            id=self._next_id,
            account=account,
            coin=coin,
            is_buy=wire.flag(twap, "b"),
            sz=sz,
            begun_ms=self._exchange.block.time_ms,
            minutes=minutes,
            most_slices=minutes * 60_000 // SLICE_MS,
            reduce_only=wire.flag(twap, "r"),
            randomize=wire.flag(twap, "t"),
        )
        self._next_id += 1
        self._running[started.id] = started, started.begun_ms
        tell_twap(self._exchange, started, ACTIVATED)
        return _status({"running": {"twapId": started.id}})

    def cancel(self, account: Account, coin: Coin, twap_id: int) -> Event:
        """`twapCancel`'s reply."""
        twap, _ = self._running.get(twap_id, (None, 0))
        if twap is None or twap.account is not account or twap.coin is not coin:
            return _status({"error": replies.TWAP_NOT_PLACED}, kind="twapCancel")
        self._end(twap, TERMINATED)
        return _status("success", kind="twapCancel")

    def run_block(self) -> None:
        """Take the slices that are due."""
        now_ms = self._exchange.block.time_ms
        for twap, due_ms in list(self._running.values()):
            if now_ms >= due_ms:
                self._running[twap.id] = twap, due_ms + SLICE_MS
                self._slice(twap)

    def _slice(self, twap: Twap) -> None:
        exchange, coin = self._exchange, twap.coin
        twap.slices += 1
        left = twap.sz - twap.executed
        sz = min(left, max(1, -(-left // (twap.most_slices - twap.slices + 1))))
        mark = mark_px(exchange, coin)
        px = (
            coin.snap_up(mark * (1 + SLIPPAGE))
            if twap.is_buy
            else coin.snap_down(mark * (1 - SLIPPAGE))
        )
        order = exchange.new_order(
            twap.account, coin, is_buy=twap.is_buy, px=px, sz=sz, tif="Ioc", twap_id=twap.id
        )
        order.reduce_only = twap.reduce_only
        exchange.submit(order)
        twap.executed += order.orig_sz - order.sz
        twap.executed_ntl += order.spent
        twap.account.running_twaps[twap.id] = twap.state()
        if twap.is_over:
            self._end(twap, FINISHED)

    def _end(self, twap: Twap, status: str) -> None:
        del self._running[twap.id]
        tell_twap(self._exchange, twap, status)


def _status(status: object, *, kind: str = "twapOrder") -> Event:
    return replies.done(kind, {"status": status})
