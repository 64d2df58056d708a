"""No money is made: whatever customers do to each other, what was paid in is still there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.signing.typed_data import Network
from streaming.simulator.engine.coins import MAIN_PERPS, SPOT_PAIRS
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.margin import equity, reserved
from streaming.simulator.trading.desk import Pending, TradingDesk
from tests.support.trading_floor import ALO, GTC, IOC, START_MS, START_NS, stop, wire
from tests.support.wallet import Wallet

BLOCK_NS = 70_000_000
WALLETS = tuple(Wallet(bytes((number,)) * 32) for number in (1, 2, 3))
PAID_IN_USDC = 5_000
TOKENS = 10**6 * 10**8
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


factors = st.integers(97, 103).map(lambda percent: percent / 100)
whoever = st.integers(0, len(WALLETS) - 1)
orders = st.builds(
    lambda who, coin, side, at, size, kind, only: (
        who,
        {
            "type": "order",
            "grouping": "na",
            "orders": [
                wire(
                    side,
                    price(coin, at),
                    f"{size / 100}" if coin == "ETH" else f"{size * 100}",
                    kind(price(coin, at)) if callable(kind) else kind,
                    reduce_only=only and coin == "ETH",
                    asset=ASSETS[coin],
                )
            ],
        },
    ),
    whoever,
    st.sampled_from(("ETH", "ETH", "PURR")),
    st.sampled_from("BA"),
    factors,
    st.integers(1, 900),
    st.sampled_from((GTC, GTC, GTC, IOC, ALO, stop, lambda px: stop(px, "tp"))),
    st.booleans(),
)
cancels = st.tuples(whoever, st.integers(1, 40)).map(
    lambda pair: (pair[0], {"type": "cancel", "cancels": [{"a": 0, "o": pair[1]}]})
)
modifies = st.tuples(whoever, st.integers(1, 40), factors).map(
    lambda row: (
        row[0],
        {"type": "modify", "oid": row[1], "order": wire("B", price("ETH", row[2]), "0.5", asset=0)},
    )
)
leverages = st.tuples(whoever, st.integers(1, 25), st.booleans()).map(
    lambda row: (
        row[0],
        {"type": "updateLeverage", "asset": 0, "isCross": row[2], "leverage": row[1]},
    )
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(orders | orders | orders | cancels | modifies | leverages, max_size=40))
def test_no_money_is_made(steps: list[tuple[int, dict[str, Any]]]) -> None:
    hall = Hall()
    for account in hall.accounts:
        # Spot is bought with spot money.
        account.usdc -= 2_000 * 10**6
        account.balance("USDC").total += 2_000 * 10**8
    for who, action in steps:
        account = hall.accounts[who]
        reply = hall.send(who, action)
        hall.check()
        rows = reply["response"]["data"]["statuses"] if action["type"] == "order" else []
        if rows and "resting" in rows[0] and not action["orders"][0]["r"]:
            # Whatever rests was within its owner's means when it came; fees may take the rest.
            slack = account.volume // 1_000
            is_stop = "trigger" in action["orders"][0]["t"]
            means = equity(hall.exchange, account) + slack
            assert is_stop or reserved(hall.exchange, account) <= max(means, slack)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(orders, min_size=5, max_size=40))
def test_reduce_only_never_grows_a_position(steps: list[tuple[int, dict[str, Any]]]) -> None:
    hall = Hall()
    for who, action in steps:
        before = {account.address: account.position(ETH).szi for account in hall.accounts}
        hall.send(who, action)
        user, row = WALLETS[who].address, action["orders"][0]
        only_reduces = {
            str(status["order"]["oid"])  # type: ignore[index]
            for status in hall.exchange.block.statuses
            if status["order"]["reduceOnly"]  # type: ignore[index]
        }
        for _, fill in hall.exchange.block.fills:
            if str(fill["oid"]) in only_reduces and fill["coin"] == "ETH":
                assert str(fill["dir"]).startswith("Close"), fill
        if row["r"] and row["a"] == 0 and "limit" in row["t"]:
            after = hall.exchange.accounts[user].position(ETH).szi
            assert abs(after) <= abs(before[user])
        hall.check()
