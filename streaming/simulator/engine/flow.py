"""Simulated users at work: makers quote around a wandering fair price, takers trade against them.

Everything is drawn from one `random.Random`, so a seed decides every order of every block.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from streaming.simulator.engine.accounts import Account, Role
from streaming.simulator.engine.book import Book, Order, Side
from streaming.simulator.engine.coins import Coin
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.twaps import SLICES, TwapDesk

STEP_SHARE = (
    0.00004  # a rung of the ladder: 0.4 basis points of the price, or one tick where that is wider
)
RUNGS = 80
MIN_LEVELS = 52
MAX_RESTING = 420  # orders a coin
MAX_TRIGGERS = 8
STALE_RUNGS = 150
VOLATILITY = 0.000022  # of the fair price, a block: 2.4 % a day, as BTC
PULL = 0.0003  # share of the way back to the start price, a block: a demo may run for weeks
QUIET_BLOCK_SHARE = 0.01
TWAP_EVERY_BLOCKS = 37
CHILD_SHARE = 0.01  # of resting orders: they carry a stop of their own


@dataclass(slots=True)
class Desk:
    """What the flow keeps about one coin; `fair` is in scaled price units.

    `oids` may hold ids of orders that are gone: picking one at random drops it then, which is
    cheaper than keeping the list exact.
    """

    coin: Coin
    book: Book
    fair: float
    start: float
    oids: list[int] = field(default_factory=list)

    @property
    def scale(self) -> int:
        """What a price times a size is divided by to give quote units."""
        return int(10 ** (self.coin.px_decimals + self.coin.sz_decimals))

    @property
    def rung(self) -> float:
        """Distance between two ladder prices."""
        return max(float(self.coin.tick(int(self.fair))), self.fair * STEP_SHARE)


class Flow:
    """Drives an exchange. `activity` scales how much happens; `reject_share` is the wanted share of
    rejected statuses.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        rng: random.Random,
        activity: float = 1.0,
        reject_share: float = 0.0,
    ) -> None:
        self._exchange = exchange
        self._rng = rng
        self._activity = activity
        self._reject_share = reject_share
        self._makers = [a for a in exchange.accounts.values() if a.role is Role.MAKER]
        self._takers = [a for a in exchange.accounts.values() if a.role is Role.TAKER]
        twapper = next(a for a in exchange.accounts.values() if a.role is Role.TWAP)
        self._twaps = TwapDesk(exchange, twapper)
        self._blocks = 0
        self.desks = {
            name: Desk(book.coin, book, start, start)
            for name, book in exchange.books.items()
            for start in (book.coin.start_px * 10**book.coin.px_decimals,)
        }

    def open_market(self) -> None:
        """Fill every book before the first block of trading: one order a rung and side, some rungs
        two.
        """
        for desk in self.desks.values():
            for rung in range(RUNGS):
                for is_buy in (True, False):
                    self._quote(desk, is_buy=is_buy, rung=rung)
                    if self._rng.random() < 0.3:
                        self._quote(desk, is_buy=is_buy, rung=rung)

    def run_block(self) -> None:
        """Let everybody act once; about one block in a hundred is empty, as real ones are."""
        rng = self._rng
        self._blocks += 1
        if rng.random() < QUIET_BLOCK_SHARE:
            return
        for desk in self.desks.values():
            drift = PULL * (desk.start - desk.fair) / desk.start
            desk.fair *= 1 + rng.gauss(drift, VOLATILITY)
            wanted = desk.coin.activity * self._activity
            for _ in range(int(wanted) + (rng.random() < wanted % 1)):
                self._act(desk)
            self._arbitrage(desk)
            self._tend(desk)
            twice = desk.book.mid_twice
            if desk.book.triggers and twice is not None:
                self._exchange.fire(desk.coin, mark_px=twice // 2)
        if self._blocks % TWAP_EVERY_BLOCKS == 0:
            self._twap_slice()
        if self._reject_share:
            self._reject()

    def _act(self, desk: Desk) -> None:
        draw = self._rng.random()
        is_buy = self._rng.random() < 0.5
        if draw < 0.40:
            # A third fights for the top of the book, the rest thins out with the distance.
            mean = 1.5 if self._rng.random() < 0.35 else 16
            self._quote(desk, is_buy=is_buy, rung=int(self._rng.expovariate(1 / mean)))
        elif draw < 0.68:
            self._cancel_one(desk)
        elif draw < 0.82:
            self._modify_one(desk)
        elif draw < 0.97:
            self._take(desk)
        elif draw < 0.985:
            self._stop(desk, is_buy=is_buy)
        else:
            self._miss(desk, is_buy=is_buy)

    def _quote(self, desk: Desk, *, is_buy: bool, rung: int) -> None:
        account = self._rng.choice(self._makers)
        px = self._rung_px(
            desk, is_buy=is_buy, rung=min(rung, RUNGS), lean=self._lean(desk, account)
        )
        self._submit(desk, account, is_buy=is_buy, px=px, sz=self._size(desk, px, 6_000), tif="Alo")

    def _lean(self, desk: Desk, account: Account) -> float:
        # A maker who is long quotes lower on both sides, at most three rungs, so that nobody's
        # position runs away.
        worth = account.inventory(desk.coin) * desk.fair / desk.scale
        return max(-3.0, min(3.0, -worth / 400_000))

    def _rung_px(self, desk: Desk, *, is_buy: bool, rung: int, lean: float) -> int:
        offset = (rung + 0.5 + self._rng.random() * 0.5) * desk.rung
        middle = desk.fair + lean * desk.rung
        return (
            desk.coin.snap_down(middle - offset) if is_buy else desk.coin.snap_up(middle + offset)
        )

    def _size(self, desk: Desk, px: int, typical_usd: float) -> int:
        usd = max(15.0, typical_usd * self._rng.lognormvariate(0, 1))
        return max(1, -int(-usd * desk.scale // px))

    def _submit(
        self, desk: Desk, account: Account, *, is_buy: bool, px: int, sz: int, tif: str
    ) -> None:
        cloid = f"0x{self._rng.getrandbits(128):032x}" if self._rng.random() < 0.6 else None
        order = self._exchange.new_order(
            account, desk.coin, is_buy=is_buy, px=px, sz=sz, tif=tif, cloid=cloid
        )
        if tif != "Ioc" and self._rng.random() < CHILD_SHARE:
            order.children = (self._take_profit(desk, account, order),)
        self._exchange.submit(order)
        if order.is_live:
            desk.oids.append(order.oid)

    def _take_profit(self, desk: Desk, account: Account, parent: Order) -> Order:
        is_buy = not parent.is_buy
        px = self._limit(desk, is_buy=is_buy, rungs=-RUNGS)
        child = self._exchange.new_order(
            account, desk.coin, is_buy=is_buy, px=px, sz=parent.sz, tif="Gtc"
        )
        child.trigger_px, child.trigger_above = px, not is_buy
        return child

    def _pick(self, desk: Desk) -> Order | None:
        oids = desk.oids
        while oids:
            index = int(self._rng.random() * len(oids))
            order = desk.book.orders.get(oids[index])
            if order is not None:
                return order
            oids[index] = oids[-1]
            oids.pop()
        return None

    def _cancel_one(self, desk: Desk) -> None:
        order = self._pick(desk)
        if order is not None:
            self._exchange.cancel(order)

    def _modify_one(self, desk: Desk) -> None:
        order = self._pick(desk)
        if order is None or order.tif != "Alo":
            return
        rung = int(self._rng.expovariate(1 / 6))
        px = self._rung_px(desk, is_buy=order.is_buy, rung=min(rung, RUNGS), lean=0.0)
        self._exchange.modify(order, px=px, sz=self._size(desk, px, 6_000))
        newest = self._exchange.next_oid - 1
        if newest in desk.book.orders:
            desk.oids.append(newest)

    def _take(self, desk: Desk) -> None:
        account = self._rng.choice(self._takers)
        held = account.inventory(desk.coin) * desk.fair / desk.scale
        is_buy = self._rng.random() < 0.5 - max(-0.4, min(0.4, held / 100_000))
        rungs = 20 if self._rng.random() < 0.85 else 1
        px = self._limit(desk, is_buy=is_buy, rungs=rungs)
        tif = "Ioc" if rungs > 1 else "Gtc"
        self._submit(desk, account, is_buy=is_buy, px=px, sz=self._size(desk, px, 1_500), tif=tif)

    def _limit(self, desk: Desk, *, is_buy: bool, rungs: float) -> int:
        reach = rungs * desk.rung
        return (
            desk.coin.snap_up(desk.fair + reach)
            if is_buy
            else desk.coin.snap_down(desk.fair - reach)
        )

    def _stop(self, desk: Desk, *, is_buy: bool) -> None:
        ours = [order for order in desk.book.triggers.values() if self._is_ours(order)]
        if len(ours) >= MAX_TRIGGERS:
            self._exchange.cancel(ours[0])
            return
        account = self._rng.choice(self._takers)
        trigger = self._limit(desk, is_buy=is_buy, rungs=4)
        px = self._limit(desk, is_buy=is_buy, rungs=12)
        order = self._exchange.new_order(
            account, desk.coin, is_buy=is_buy, px=px, sz=self._size(desk, px, 1_000), tif="Gtc"
        )
        self._exchange.place_trigger(order, trigger_px=trigger, above=is_buy)

    def _miss(self, desk: Desk, *, is_buy: bool) -> None:
        # An order that the exchange must refuse: an Ioc out of reach, or a post-only one through
        # the book.
        account = self._rng.choice(self._takers)
        if self._rng.random() < 0.5:
            px, tif = self._limit(desk, is_buy=is_buy, rungs=-25), "Ioc"
        else:
            px, tif = self._limit(desk, is_buy=is_buy, rungs=25), "Alo"
        self._submit(desk, account, is_buy=is_buy, px=px, sz=self._size(desk, px, 500), tif=tif)

    def _arbitrage(self, desk: Desk) -> None:
        """Trade away quotes that the fair price has left behind by more than two rungs, so that
        books follow it.
        """
        for is_buy, best in ((False, desk.book.bids.best), (True, desk.book.asks.best)):
            edge = 2 * desk.rung
            if best is None or (
                best.px <= desk.fair + edge if not is_buy else best.px >= desk.fair - edge
            ):
                continue
            account = self._rng.choice(self._takers)
            self._submit(desk, account, is_buy=is_buy, px=best.px, sz=best.sz, tif="Ioc")

    def _tend(self, desk: Desk) -> None:
        """Keep at least `MIN_LEVELS` a side, and drop what lies too far out or is too much."""
        for is_buy in (True, False):
            side = desk.book.side(is_buy=is_buy)
            for _ in range(4):
                if len(side) >= MIN_LEVELS + 4:
                    break
                self._quote(desk, is_buy=is_buy, rung=int(self._rng.random() * RUNGS))
            while len(side) < MIN_LEVELS:
                self._extend(desk, is_buy=is_buy)
            worst = side.worst
            if worst is not None and len(side) > MIN_LEVELS + 8:
                if len(desk.book.orders) > MAX_RESTING:
                    self._drop_worst(side, beyond=0)
                elif abs(worst.px - desk.fair) > STALE_RUNGS * desk.rung:
                    self._drop_worst(side, beyond=STALE_RUNGS * desk.rung, fair=desk.fair)

    def _drop_worst(self, side: Side, *, beyond: float, fair: float = 0) -> None:
        """Cancel the order furthest from trading, if it is further than `beyond` from `fair`.
        Customers' orders we leave alone.
        """
        worst = self._worst(side)
        if worst is not None and abs(worst.px - fair) > beyond:
            self._exchange.cancel(worst)

    def _worst(self, side: Side) -> Order | None:
        orders = (order for level in side.from_worst() for order in level.orders.values())
        return next((order for order in orders if self._is_ours(order)), None)

    def _is_ours(self, order: Order) -> bool:
        return self._exchange.accounts[order.user].role is not Role.CUSTOMER

    def _extend(self, desk: Desk, *, is_buy: bool) -> None:
        """One more level behind our last one: a customer's may lie at half the price."""
        worst = self._worst(desk.book.side(is_buy=is_buy))
        at = desk.fair if worst is None else float(worst.px)
        px = desk.coin.snap_down(at - desk.rung) if is_buy else desk.coin.snap_up(at + desk.rung)
        account = self._rng.choice(self._makers)
        self._submit(desk, account, is_buy=is_buy, px=px, sz=self._size(desk, px, 6_000), tif="Alo")

    def _twap_slice(self) -> None:
        twap = self._twaps.running
        if twap is None:
            desk = self._rng.choice(list(self.desks.values()))
            is_buy = self._rng.random() < 0.5
            px = self._limit(desk, is_buy=is_buy, rungs=30)
            sz = self._size(desk, px, 200) * SLICES
            self._twaps.begin(desk.coin, is_buy=is_buy, sz=sz)
        else:
            desk, is_buy = self.desks[twap.coin.name], twap.is_buy
        self._twaps.slice(px=self._limit(desk, is_buy=is_buy, rungs=30))

    def _reject(self) -> None:
        """Post-only orders through the book until their rejections make up the wanted share of the
        block's statuses.
        """
        accepted = len(self._exchange.block.statuses)
        wanted = int(accepted * self._reject_share / (1 - self._reject_share))
        desks = list(self.desks.values())
        for index in range(wanted):
            desk = desks[index % len(desks)]
            is_buy = index % 2 == 0
            px = self._limit(desk, is_buy=is_buy, rungs=25)
            self._submit(
                desk,
                self._makers[index % len(self._makers)],
                is_buy=is_buy,
                px=px,
                sz=self._size(desk, px, 500),
                tif="Alo",
            )
