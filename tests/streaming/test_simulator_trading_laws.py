"""No money is made: whatever customers do to each other, what was paid in is still there."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, cast

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from streaming.signing.typed_data import Network
from streaming.simulator.engine.coins import MAIN_PERPS, SPOT_PAIRS
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.margin import equity, order_margin, reserved
from streaming.simulator.trading.desk import Pending, TradingDesk
from tests.support.trading_floor import ALO, GTC, IOC, START_MS, START_NS, stop, wire
from tests.support.wallet import Wallet

BLOCK_NS = 70_000_000
WALLETS = tuple(Wallet(bytes((number,)) * 32) for number in (1, 2, 3))
PAID_IN_USDC = 5_000
TOKENS = 5_000 * 10**8
ETH, PURR = MAIN_PERPS[1], SPOT_PAIRS[0]
ASSETS = {"ETH": 0, "PURR": 10_000}
MIDS = {"ETH": 2_914, "PURR": 0.104}


class Hall:
    """Three customers, one perp and one spot pair, and nobody else."""

    def __init__(self) -> None:
        self.exchange = Exchange(coins=(ETH, PURR), accounts={}, first_oid=1)
        self.desk = TradingDesk(self.exchange, network=Network.MAINNET, faucet_usdc=PAID_IN_USDC)
        self.height, self.nonce, self.fees = 0, START_MS, Counter[str]()
        self.withdrawn = 0
        self.begin()
        for wallet in WALLETS:
            self.desk.customers.promise(wallet.address)
            account = self.desk.customers.open(wallet.address).account
            account.balance("PURR").total = TOKENS
        self.accounts = [self.exchange.accounts[wallet.address] for wallet in WALLETS]

    def begin(self) -> None:
        self.height += 1
        self.exchange.begin(height=self.height, time_ns=START_NS + self.height * BLOCK_NS)

    def send(self, who: int, action: dict[str, Any]) -> Any:
        """One action in a block of its own; stops are looked at afterwards."""
        self.nonce += 1
        outcome = self.desk.receive(WALLETS[who].l1(action, nonce=self.nonce))
        assert isinstance(outcome, Pending), outcome
        self.begin()
        self.desk.run_block()
        for book in self.exchange.books.values():
            if book.mid_twice is not None:
                self.exchange.fire(book.coin, mark_px=book.mid_twice // 2)
        for _, fill in self.exchange.block.fills:
            decimals = 6 if fill["coin"] == "ETH" else 8
            whole, _, part = str(fill["fee"]).partition(".")
            assert not whole.startswith("-")
            self.fees[str(fill["feeToken"])] += int(whole + f"{part:0<{decimals}}") * (
                100 if decimals == 6 else 1
            )
        return outcome.reply

    def check(self) -> None:
        """Everything is where it was paid in, or was paid as a fee."""
        accounts = self.accounts
        assert sum(account.position(ETH).szi for account in accounts) == 0
        cost = sum(
            account.position(ETH).entry_ntl * (1 if account.position(ETH).szi > 0 else -1)
            for account in accounts
            if account.position(ETH).szi
        )
        micro = sum(account.usdc for account in accounts) - cost
        spot = sum(account.balance("USDC").total for account in accounts)
        assert micro * 100 + spot + self.fees["USDC"] == 3 * PAID_IN_USDC * 10**8
        tokens = sum(account.balance("PURR").total for account in accounts)
        assert tokens + self.fees["PURR"] == 3 * TOKENS
        resting = Counter[str]()
        for book in self.exchange.books.values():
            bid, ask = book.bids.best, book.asks.best
            assert bid is None or ask is None or bid.px < ask.px
            for order in (*book.orders.values(), *book.triggers.values()):
                assert self.exchange.accounts[order.user].orders[order.oid] is order
                resting[order.user] += 1
        for account in accounts:
            assert len(account.orders) == resting[account.address]
            assert all(balance.total >= 0 for balance in account.balances.values())


def price(coin: str, factor: float) -> str:
    return f"{MIDS[coin] * factor:.4g}"


def order(rng: random.Random) -> dict[str, Any]:
    """An order near the middle, mostly plain; of two in the perp one in the pair."""
    coin, side = rng.choice(("ETH", "ETH", "PURR")), rng.choice("BA")
    px = price(coin, rng.choice((0.98, 0.99, 0.995, 1, 1.005, 1.01, 1.02)))
    sz = f"{rng.randrange(1, 200) / 100}" if coin == "ETH" else f"{rng.randrange(100, 3_000)}"
    kind = rng.choice((GTC, GTC, GTC, GTC, IOC, ALO, stop(px), stop(px, "tp")))
    only = coin == "ETH" and rng.random() < 0.25
    return wire(side, px, sz, kind, reduce_only=only, asset=ASSETS[coin])


def action(rng: random.Random) -> dict[str, Any]:
    """Whatever a customer may do with orders and leverage."""
    draw, oid = rng.random(), rng.randrange(1, 60)
    if draw < 0.75:
        rows = [order(rng) for _ in range(rng.randrange(1, 4))]
        return {"type": "order", "grouping": "na", "orders": rows}
    if draw < 0.85:
        return {"type": "cancel", "cancels": [{"a": 0, "o": oid}]}
    if draw < 0.93:
        return {"type": "modify", "oid": oid, "order": order(rng)}
    leverage, is_cross = rng.randrange(1, 26), rng.random() < 0.5
    return {"type": "updateLeverage", "asset": 0, "isCross": is_cross, "leverage": leverage}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_no_money_is_made(seed: int) -> None:
    hall, rng, fills = Hall(), random.Random(seed), 0
    for account in hall.accounts:
        # Spot is bought with spot money.
        account.usdc -= 2_000 * 10**6
        account.balance("USDC").total += 2_000 * 10**8
    for _ in range(60):
        hall.send(rng.randrange(3), action(rng))
        hall.check()
        fills += len(hall.exchange.block.fills)
    assert fills, "nothing was traded: the law was not tried"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_reduce_only_never_grows_a_position(seed: int) -> None:
    hall, rng, only, closed = Hall(), random.Random(seed), set[object](), 0
    for _ in range(60):
        hall.send(rng.randrange(3), action(rng))
        for status in hall.exchange.block.statuses:
            row = cast("dict[str, Any]", status["order"])
            if row["reduceOnly"]:
                only.add(row["oid"])
        for _, fill in hall.exchange.block.fills:
            if fill["oid"] in only:
                closed += 1
                assert str(fill["dir"]).startswith("Close"), fill
    event(f"{min(closed, 5)} fills or more")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_what_rests_was_within_its_owners_means(seed: int) -> None:
    """Beyond what fees, and prices that have moved since, took away: nothing moves here but by
    their own trades, and those cost less than 2 %.
    """
    hall, rng = Hall(), random.Random(seed)
    for _ in range(60):
        who = rng.randrange(3)
        account, before = hall.accounts[who], len(hall.accounts[who].orders)
        reply = hall.send(who, {"type": "order", "grouping": "na", "orders": [order(rng)]})
        status = reply["response"]["data"]["statuses"][0]
        if "resting" in status and len(account.orders) == before + 1:
            placed = account.orders[status["resting"]["oid"]]
            if placed.reduce_only or placed.trigger_px or placed.sz < placed.orig_sz:
                continue
            if not hall.exchange.block.fills and not placed.coin.is_spot:
                added = reserved(hall.exchange, account)
                is_free = order_margin(hall.exchange, account, ETH, None) == 0
                assert is_free or added <= equity(hall.exchange, account) + 1
