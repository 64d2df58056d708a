"""Who trades: balances, positions and what one fill does to them.

Perp money counts micro-USDC (10^-6). Spot money counts 10^-8 of a token, for USDC as for the base
token.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import StrEnum

from streaming.simulator.engine.book import Order
from streaming.simulator.engine.coins import Coin, decimal_text

PPM = 1_000_000
USDC_DECIMALS = 6
WEI_DECIMALS = 8
MAX_FILLS_KEPT = 2_000  # what userFills answers at most
MAX_ROWS_KEPT = 500  # what the other histories answer at most
MAX_STATUSES_KEPT = 5_000  # of a customer's own orders
#: Statuses after which an order can still trade.
LIVE_STATUSES = frozenset({"open", "triggered"})


class Role(StrEnum):
    """How a simulated user behaves."""

    MAKER = "maker"
    TAKER = "taker"
    TWAP = "twap"
    CUSTOMER = "customer"  # somebody outside: acts through /exchange alone


@dataclass(slots=True)
class Position:
    """A perp position: signed size in the coin's scale, and its cost in micro-USDC.

    The three funding sums are micro-USDC paid (received counts down): ever, since the position was
    opened, since its size last changed. `extra_margin` is what its owner has added to an isolated
    one, micro-USDC.
    """

    szi: int = 0
    entry_ntl: int = 0
    funding_ever: int = 0
    funding_since_open: int = 0
    funding_since_change: int = 0
    extra_margin: int = 0

    def pay_funding(self, micro_usdc: int) -> None:
        """Count a funding payment; negative when received."""
        self.funding_ever += micro_usdc
        self.funding_since_open += micro_usdc
        self.funding_since_change += micro_usdc


@dataclass(slots=True)
class Balance:
    """A spot balance and what it cost, both in 10^-8."""

    total: int = 0
    entry_ntl: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What a fill meant for one of its two users, in the words of a fill row."""

    start_position: str
    direction: str
    closed_pnl: str
    fee: str
    fee_in: str


@dataclass(frozen=True, slots=True)
class Leverage:
    """How a user holds one perp."""

    value: int
    is_cross: bool = True


@dataclass(slots=True)
class Account:
    """One simulated user. Fee rates are parts per million; a negative maker rate is a rebate.

    `orders` are the live ones and `statuses` the last status of each, by order id, the newest last:
    kept for customers, whose orders must not be forgotten among everybody's.
    """

    address: str
    role: Role
    taker_ppm: int
    maker_ppm: int
    usdc: int
    builder: str | None = None
    volume: int = 0
    requests: int = 0
    bought_requests: int = 0
    positions: dict[str, Position] = field(default_factory=dict)
    balances: dict[str, Balance] = field(default_factory=dict)
    fills: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=MAX_FILLS_KEPT))
    # As the user feeds show them, oldest first.
    fundings: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=MAX_ROWS_KEPT))
    ledger: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=MAX_ROWS_KEPT))
    twaps: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=MAX_ROWS_KEPT))
    running_twaps: dict[int, dict[str, object]] = field(default_factory=dict)
    leverages: dict[str, Leverage] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    statuses: OrderedDict[int, dict[str, object]] = field(default_factory=OrderedDict)

    def position(self, coin: Coin) -> Position:
        """The user's position in a perp, created flat on first use."""
        return self.positions.setdefault(coin.name, Position())

    def leverage(self, coin: Coin) -> Leverage:
        """How the user holds a perp: at its highest leverage and cross, until told otherwise."""
        return self.leverages.get(coin.name) or Leverage(coin.max_leverage)

    def note(self, order: Order, event: dict[str, object]) -> None:
        """Remember a status of an own order, and whether the order lives on."""
        self.statuses[order.oid] = event
        self.statuses.move_to_end(order.oid)
        if len(self.statuses) > MAX_STATUSES_KEPT:
            self.statuses.popitem(last=False)
        if event["status"] in LIVE_STATUSES:
            self.orders[order.oid] = order
        else:
            self.orders.pop(order.oid, None)

    def balance(self, token: str) -> Balance:
        """The user's balance of a spot token, created empty on first use."""
        return self.balances.setdefault(token, Balance())

    def inventory(self, coin: Coin) -> int:
        """How much of the coin the user holds, in the coin's size scale; spot counts from its
        endowment.
        """
        if not coin.is_spot:
            return self.position(coin).szi
        return self.spot_units(coin) - SPOT_ENDOWMENT * int(10**coin.sz_decimals)

    def spot_units(self, coin: Coin) -> int:
        """The balance of a pair's base token, in the coin's size scale."""
        return self.balance(coin.base).total // int(10 ** (WEI_DECIMALS - coin.sz_decimals))

    def settle(self, coin: Coin, *, is_buy: bool, px: int, sz: int, is_taker: bool) -> Settled:
        """Book one fill and say what it meant."""
        ppm = self.taker_ppm if is_taker else self.maker_ppm
        notional = px * sz
        self.volume += notional // 100 if coin.is_spot else notional
        if coin.is_spot:
            return self._settle_spot(coin, is_buy=is_buy, notional=notional, sz=sz, ppm=abs(ppm))
        return self._settle_perp(coin, is_buy=is_buy, px=px, sz=sz, ppm=ppm)

    def _settle_perp(self, coin: Coin, *, is_buy: bool, px: int, sz: int, ppm: int) -> Settled:
        position = self.position(coin)
        start, delta = position.szi, sz if is_buy else -sz
        closed_pnl = 0
        if start * delta >= 0:
            position.entry_ntl += px * sz
        else:
            closing = min(abs(start), sz)
            basis = position.entry_ntl * closing // abs(start)
            closed_pnl = (px * closing - basis) * (1 if start > 0 else -1)
            position.entry_ntl -= basis
            if sz > closing:
                position.entry_ntl = px * (sz - closing)
        position.szi += delta
        position.funding_since_change = 0
        if start == 0 or start * position.szi < 0:
            position.funding_since_open = 0
        if start * position.szi <= 0:
            position.extra_margin = 0
        # Truncated towards zero: the recorded fee of 0.00033 BTC at 81308 is 0.010866, a rebate
        # likewise.
        fee = px * sz * abs(ppm) // PPM * (1 if ppm >= 0 else -1)
        self.usdc += closed_pnl - fee
        return Settled(
            start_position=coin.sz_text(start),
            direction=perp_direction(start, delta),
            closed_pnl=decimal_text(closed_pnl, USDC_DECIMALS),
            fee=decimal_text(fee, USDC_DECIMALS),
            fee_in="USDC",
        )

    def _settle_spot(
        self, coin: Coin, *, is_buy: bool, notional: int, sz: int, ppm: int
    ) -> Settled:
        base, quote = self.balance(coin.base), self.balance("USDC")
        start, amount, closed_pnl = base.total, sz * 10 ** (WEI_DECIMALS - coin.sz_decimals), 0
        if is_buy:
            fee = amount * ppm // PPM
            base.total += amount - fee
            base.entry_ntl += notional
            quote.total -= notional
        else:
            fee = notional * ppm // PPM
            basis = base.entry_ntl * amount // start if start > 0 else notional
            closed_pnl = notional - basis
            base.total -= amount
            base.entry_ntl -= basis
            quote.total += notional - fee
        return Settled(
            start_position=decimal_text(start, WEI_DECIMALS),
            direction="Buy" if is_buy else "Sell",
            closed_pnl=decimal_text(closed_pnl, WEI_DECIMALS),
            fee=decimal_text(fee, WEI_DECIMALS),
            fee_in=coin.base if is_buy else "USDC",
        )


def perp_direction(start: int, delta: int) -> str:
    """The `dir` of a perp fill, from the signed position before it and the signed change."""
    if start * delta >= 0:
        return "Open Long" if delta > 0 else "Open Short"
    if abs(delta) > abs(start):
        return "Long > Short" if start > 0 else "Short > Long"
    return "Close Long" if start > 0 else "Close Short"


SPOT_ENDOWMENT = 50_000_000  # whole tokens, so that a demo left running for weeks never runs dry
MAKER_USDC = 50_000_000 * PPM
TAKER_USDC = 2_000_000 * PPM
BUILDER = "0x" + hashlib.sha256(b"hl-simulator builder").hexdigest()[:40]


def address_of(index: int) -> str:
    """The address of simulated user `index`: the same whatever the seed, so that examples can name
    it.
    """
    return "0x" + hashlib.sha256(f"hl-simulator user {index}".encode()).hexdigest()[:40]


# Taker and maker parts per million by fee tier; the last maker tier earns a rebate. Source:
# recorded fills (0.010866 on 26.83 USDC taken, -0.000804 on the same made).
MAKER_TIERS = ((350, -10), (315, -30), (380, 0), (400, 40), (350, -20), (315, -30))
TAKER_TIERS = ((450, 150), (432, 144), (405, 120), (450, 150))
MAKERS, TAKERS = 6, 10


def cast(coins: tuple[Coin, ...]) -> dict[str, Account]:
    """Every simulated user, by address: six makers, ten takers and one that works TWAPs."""
    plan = [(Role.MAKER, MAKER_TIERS[i % len(MAKER_TIERS)]) for i in range(MAKERS)]
    plan += [(Role.TAKER, TAKER_TIERS[i % len(TAKER_TIERS)]) for i in range(TAKERS)]
    plan += [(Role.TWAP, TAKER_TIERS[0])]
    accounts = {}
    for index, (role, (taker_ppm, maker_ppm)) in enumerate(plan):
        account = Account(
            address=address_of(index),
            role=role,
            taker_ppm=taker_ppm,
            maker_ppm=maker_ppm,
            usdc=MAKER_USDC if role is Role.MAKER else TAKER_USDC,
            builder=BUILDER if index == MAKERS else None,
        )
        account.balance("USDC").total = SPOT_ENDOWMENT * 10**WEI_DECIMALS
        for coin in coins:
            if coin.is_spot:
                balance = account.balance(coin.base)
                balance.total = SPOT_ENDOWMENT * 10**WEI_DECIMALS
                balance.entry_ntl = int(SPOT_ENDOWMENT * coin.start_px * 10**WEI_DECIMALS)
        accounts[account.address] = account
    return accounts
