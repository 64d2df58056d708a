"""A user's TWAPs: one at a time, in slices that take from the book, told at begin and end.

Source: the node's TWAP statuses; `state` has the keys of the public `twapStates`.
"""

from __future__ import annotations

from streaming.simulator.engine.accounts import USDC_DECIMALS, WEI_DECIMALS, Account
from streaming.simulator.engine.block import Event, Stream
from streaming.simulator.engine.coins import Coin, decimal_text
from streaming.simulator.engine.exchange import Exchange

SLICES = 20
#: What a TWAP says of its length: the exchange's shortest. Ours run 52 s, so that a test sees ends.
MINUTES = 5
FIRST_ID = 1_790_000
ACTIVATED, FINISHED, TERMINATED = "activated", "finished", "terminated"


class Twap:
    """One TWAP of a whole size, scaled by its coin."""

    def __init__(
        self,
        *,
        id: int,
        account: Account,
        coin: Coin,
        is_buy: bool,
        sz: int,
        begun_ms: int,
        minutes: int = MINUTES,
        most_slices: int = SLICES,
        reduce_only: bool = False,
        randomize: bool = False,
    ) -> None:
        self.id, self.account, self.coin = id, account, coin
        self.is_buy, self.sz, self.begun_ms = is_buy, sz, begun_ms
        self.minutes, self.most_slices = minutes, most_slices
        self.reduce_only, self.randomize = reduce_only, randomize
        self.executed = self.executed_ntl = self.slices = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do, or all slices have been tried."""
        return self.slices >= self.most_slices or self.executed >= self.sz

    def state(self) -> Event:
        """In the exchange's key order."""
        decimals = WEI_DECIMALS if self.coin.is_spot else USDC_DECIMALS
        return {
            "coin": self.coin.name,
            "user": self.account.address,
            "side": "B" if self.is_buy else "A",
            "sz": self.coin.sz_text(self.sz),
            "executedSz": self.coin.sz_text(self.executed),
            "executedNtl": decimal_text(self.executed_ntl, decimals),
            "minutes": self.minutes,
            "reduceOnly": self.reduce_only,
            "randomize": self.randomize,
            "timestamp": self.begun_ms,
        }


class TwapDesk:
    """Begins TWAPs, works their slices and ends them. Every third one its owner calls off."""

    def __init__(self, exchange: Exchange, account: Account) -> None:
        self._exchange, self._account = exchange, account
        self._running: Twap | None = None
        # Blocks since the exchange began are not known here: ids follow order ids, which only grow
        # across restarts.
        self._next_id = FIRST_ID + exchange.next_oid // 1_000 % 100_000_000

    def begin(self, coin: Coin, *, is_buy: bool, sz: int) -> None:
        """Start another TWAP."""
        self._running = Twap(
            id=self._next_id,
            account=self._account,
            coin=coin,
            is_buy=is_buy,
            sz=sz,
            begun_ms=self._exchange.block.time_ms,
        )
        self._next_id += 1
        tell_twap(self._exchange, self._running, ACTIVATED)

    @property
    def running(self) -> Twap | None:
        """The TWAP at work, if any."""
        return self._running

    def slice(self, *, px: int) -> None:
        """Take one slice at `px` or better, and end the TWAP after its last, or when called off."""
        twap = self._running
        if twap is None:
            return
        twap.slices += 1
        sz = min(max(1, twap.sz // SLICES), twap.sz - twap.executed)
        order = self._exchange.new_order(
            self._account,
            twap.coin,
            is_buy=twap.is_buy,
            px=px,
            sz=sz,
            tif="Ioc",
            twap_id=twap.id,
        )
        self._exchange.submit(order)
        twap.executed += order.orig_sz - order.sz
        twap.executed_ntl += order.spent
        self._account.running_twaps[twap.id] = twap.state()
        if twap.is_over:
            self._end(twap, FINISHED)
        elif twap.id % 3 == 0 and twap.slices * 2 >= SLICES:
            self._end(twap, TERMINATED)

    def _end(self, twap: Twap, status: str) -> None:
        self._running = None
        tell_twap(self._exchange, twap, status)


def tell_twap(exchange: Exchange, twap: Twap, status: str) -> None:
    """Write down that a TWAP begins or ends."""
    state, account = twap.state(), twap.account
    exchange.block.add_rare(
        Stream.TWAPS,
        {"time": exchange.iso_time, "twap_id": twap.id, "state": state, "status": status},
    )
    account.twaps.append(
        {
            "time": exchange.block.time_ms // 1_000,
            "state": state,
            "status": {"status": status},
            "twapId": twap.id,
        }
    )
    if status == ACTIVATED:
        account.running_twaps[twap.id] = state
    else:
        account.running_twaps.pop(twap.id, None)
