"""Actions that move money or change how an account trades. None of them makes money."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from streaming.simulator.engine.accounts import PPM, WEI_DECIMALS, Account, Leverage
from streaming.simulator.engine.block import Event
from streaming.simulator.engine.coins import decimal_text
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.margin import (
    equity,
    free,
    position_margin,
    reserved,
    spot_free,
)
from streaming.simulator.engine.prices import mark_px
from streaming.simulator.trading import replies, wire
from streaming.simulator.trading.customers import Agent, Customer, Customers, usdc_text

WITHDRAWAL_FEE = PPM  # 1 USDC
WEIGHT_PRICE = 500  # micro-USDC a reserved request
#: Tenths of a basis point a builder may be approved for at most: 1 %, of spot.
MOST_BUILDER_FEE = 1_000
WEI_PER_MICRO = 100
VALID_UNTIL = re.compile(r"(.*?) ?valid_until (\d{1,15})\Z")
NOT_ENOUGH_PERP = "Insufficient balance for withdrawal."  # ours
NOT_ENOUGH_SPOT = "Insufficient balance for token transfer."  # ours

Reader = Callable[[Event, str], object]
#: The fields without which the exchange cannot read an action.
SHAPES: Mapping[str, Mapping[str, Reader]] = {
    "updateLeverage": {"asset": wire.number, "isCross": wire.flag, "leverage": wire.number},
    "updateIsolatedMargin": {"asset": wire.number, "isBuy": wire.flag, "ntli": wire.signed},
    "reserveRequestWeight": {"weight": wire.number},
    "approveAgent": {"agentAddress": wire.address, "nonce": wire.number},
    "approveBuilderFee": {
        "maxFeeRate": wire.string,
        "builder": wire.address,
        "nonce": wire.number,
    },
    "usdSend": {"destination": wire.address, "amount": wire.amount, "time": wire.number},
    "spotSend": {
        "destination": wire.address,
        "token": wire.string,
        "amount": wire.amount,
        "time": wire.number,
    },
    "sendAsset": {
        "destination": wire.address,
        "sourceDex": wire.string,
        "destinationDex": wire.string,
        "token": wire.string,
        "amount": wire.amount,
        "fromSubAccount": wire.string,
        "nonce": wire.number,
    },
    "usdClassTransfer": {"amount": wire.amount, "toPerp": wire.flag, "nonce": wire.number},
    "withdraw3": {"destination": wire.address, "amount": wire.amount, "time": wire.number},
}


def check_shape(kind: str, action: Event) -> None:
    """Whether an action has its fields. Raises Unparsable."""
    for key, read in SHAPES.get(kind, {}).items():
        read(action, key)
    if kind == "approveAgent" and action.get("agentName") is not None:
        wire.string(action, "agentName")


class MoneyDesk:
    """Runs every action that is not about orders. Each answers with a whole reply, and expects an
    action of its `SHAPES`.
    """

    def __init__(self, exchange: Exchange, customers: Customers) -> None:
        self._exchange, self._customers = exchange, customers
        self._coins = {number: exchange.coins[name] for name, number in exchange.asset_ids.items()}
        self.handlers: dict[str, Callable[[Customer, Event], Event]] = {
            "noop": lambda customer, action: replies.done(),
            "setReferrer": lambda customer, action: replies.done(),
            "updateLeverage": self._update_leverage,
            "updateIsolatedMargin": self._update_isolated_margin,
            "reserveRequestWeight": self._reserve_weight,
            "approveAgent": self._approve_agent,
            "approveBuilderFee": self._approve_builder,
            "usdSend": self._usd_send,
            "spotSend": self._spot_send,
            "sendAsset": self._send_asset,
            "usdClassTransfer": self._class_transfer,
            "withdraw3": self._withdraw,
        }

    # --- how one trades ---------------------------------------------------------------------------

    def _update_leverage(self, customer: Customer, action: Event) -> Event:
        coin = self._coins.get(wire.number(action, "asset"))
        value, is_cross = wire.number(action, "leverage"), wire.flag(action, "isCross")
        if coin is None or coin.is_spot or not 1 <= value <= coin.max_leverage:
            return replies.refused("Invalid leverage value")
        account = customer.account
        held, before = account.position(coin), account.leverage(coin)
        if held.szi and before.is_cross is not is_cross:
            return replies.refused("Cannot switch leverage type with open position.")
        account.leverages[coin.name] = Leverage(value, is_cross)
        # A lower leverage ties up more: only what is free may be tied up.
        if value < before.value and self._is_overdrawn(account):
            account.leverages[coin.name] = before
            return replies.refused("Insufficient margin to change leverage.")  # ours
        return replies.done()

    def _is_overdrawn(self, account: Account) -> bool:
        return reserved(self._exchange, account) > equity(self._exchange, account)

    def _update_isolated_margin(self, customer: Customer, action: Event) -> Event:
        coin = self._coins.get(wire.number(action, "asset"))
        micro, account = wire.signed(action, "ntli"), customer.account
        held = None if coin is None else account.positions.get(coin.name)
        if coin is None or held is None or not held.szi or account.leverage(coin).is_cross:
            return replies.refused("No isolated position to change the margin of.")  # ours
        least = abs(held.szi) * mark_px(self._exchange, coin) // coin.max_leverage
        after = position_margin(self._exchange, account, coin) + micro
        if micro > free(self._exchange, account) or (micro < 0 and after < least):
            return replies.refused("Insufficient margin for isolated margin update.")  # ours
        held.extra_margin += micro
        return replies.done()

    def _reserve_weight(self, customer: Customer, action: Event) -> Event:
        weight, account = wire.number(action, "weight"), customer.account
        if weight * WEIGHT_PRICE > free(self._exchange, account):
            return replies.refused(NOT_ENOUGH_PERP)
        account.usdc -= weight * WEIGHT_PRICE
        account.bought_requests += weight
        return replies.done()

    def _approve_agent(self, customer: Customer, action: Event) -> Event:
        name = "" if action.get("agentName") is None else wire.string(action, "agentName")
        until: int | None = None
        found = VALID_UNTIL.match(name)
        if found is not None:
            name, until = found[1], int(found[2])
        agent = Agent(wire.address(action, "agentAddress"), until)
        refusal = self._customers.approve(customer, name, agent)
        return replies.done() if refusal is None else replies.refused(refusal)

    def _approve_builder(self, customer: Customer, action: Event) -> Event:
        rate = wire.string(action, "maxFeeRate")
        percent = rate.removesuffix("%")
        if percent == rate or not wire.NUMBER.match(percent):
            return replies.refused("Invalid fee rate.")  # ours
        tenths = int(Decimal(percent) * 1_000)  # 0.001 % is a tenth of a basis point
        if tenths > MOST_BUILDER_FEE:
            return replies.refused("Builder fee exceeds the maximum.")  # ours
        customer.builders[wire.address(action, "builder")] = tenths
        return replies.done()

    # --- what one has -----------------------------------------------------------------------------

    def _usd_send(self, customer: Customer, action: Event) -> Event:
        micro = _micro(action)
        if micro is None or not 0 < micro <= free(self._exchange, customer.account):
            return replies.refused(NOT_ENOUGH_PERP)
        receiver = self._customers.receiver(wire.address(action, "destination"))
        customer.account.usdc -= micro
        receiver.usdc += micro
        delta: Event = {
            "type": "internalTransfer",
            "usdc": usdc_text(micro),
            "user": customer.account.address,
            "destination": receiver.address,
            "fee": "0.0",
        }
        self._tell(customer.account, receiver, delta)
        return replies.done()

    def _class_transfer(self, customer: Customer, action: Event) -> Event:
        account, to_perp = customer.account, wire.flag(action, "toPerp")
        micro = _micro(action)
        most = (
            spot_free(account, "USDC") // WEI_PER_MICRO
            if to_perp
            else free(self._exchange, account)
        )
        if micro is None or not 0 < micro <= most:
            return replies.refused(NOT_ENOUGH_SPOT if to_perp else NOT_ENOUGH_PERP)
        account.usdc += micro if to_perp else -micro
        account.balance("USDC").total += (-micro if to_perp else micro) * WEI_PER_MICRO
        delta: Event = {"type": "accountClassTransfer", "usdc": usdc_text(micro), "toPerp": to_perp}
        self._customers.tell((account,), delta)
        return replies.done()

    def _withdraw(self, customer: Customer, action: Event) -> Event:
        account, micro = customer.account, _micro(action)
        if micro is None or not WITHDRAWAL_FEE < micro <= free(self._exchange, account):
            return replies.refused(NOT_ENOUGH_PERP)
        account.usdc -= micro
        delta: Event = {
            "type": "withdraw",
            "usdc": usdc_text(micro - WITHDRAWAL_FEE),
            "nonce": wire.number(action, "time"),
            "fee": usdc_text(WITHDRAWAL_FEE),
        }
        self._customers.tell((account,), delta)
        return replies.done()

    def _spot_send(self, customer: Customer, action: Event) -> Event:
        return self._move_spot(customer, action, nonce=wire.number(action, "time"))

    def _send_asset(self, customer: Customer, action: Event) -> Event:
        if wire.string(action, "fromSubAccount"):
            return replies.refused("The simulator has no sub-accounts.")  # ours
        places = [wire.string(action, key) for key in ("sourceDex", "destinationDex")]
        if places == ["spot", "spot"]:
            return self._move_spot(customer, action, nonce=wire.number(action, "nonce"))
        if places == ["", ""] and wire.string(action, "token").partition(":")[0] == "USDC":
            return self._usd_send(customer, action)
        return replies.refused("The simulator sends within a dex only.")  # ours

    def _move_spot(self, customer: Customer, action: Event, *, nonce: int) -> Event:
        token, sender = wire.string(action, "token").partition(":")[0], customer.account
        wei = wire.scaled(wire.amount(action, "amount"), WEI_DECIMALS)
        if wei is None or not 0 < wei <= spot_free(sender, token):
            return replies.refused(NOT_ENOUGH_SPOT)
        receiver = self._customers.receiver(wire.address(action, "destination"))
        sender.balance(token).total -= wei
        receiver.balance(token).total += wei
        delta: Event = {
            "type": "spotTransfer",
            "token": token,
            "amount": decimal_text(wei, WEI_DECIMALS),
            "usdcValue": self._worth(token, wei),
            "user": sender.address,
            "destination": receiver.address,
            "fee": "0.0",
            "nativeTokenFee": "0.0",
            "nonce": nonce,
            "feeToken": "",
        }
        self._tell(sender, receiver, delta)
        return replies.done()

    def _worth(self, token: str, wei: int) -> str:
        for coin in self._exchange.coins.values():
            if coin.is_spot and coin.base == token:
                value = wei * mark_px(self._exchange, coin) // 10**coin.px_decimals
                return decimal_text(value, WEI_DECIMALS)
        return decimal_text(wei, WEI_DECIMALS)

    def _tell(self, sender: Account, receiver: Account, delta: Event) -> None:
        parties = (sender,) if sender is receiver else (sender, receiver)
        self._customers.tell(parties, delta)


def _micro(action: Event) -> int | None:
    return wire.scaled(wire.amount(action, "amount"), 6)
