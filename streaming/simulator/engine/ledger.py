"""Money that moves without a trade: fundings, deposits, withdrawals, transfers, and what the
HyperEVM sends. Low in volume, and every row changes the balances it names.

Source: recorded lines of misc_events_by_block; official L1 data schemas.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from streaming.simulator.engine.accounts import (
    PPM,
    USDC_DECIMALS,
    WEI_DECIMALS,
    Account,
    Role,
)
from streaming.simulator.engine.block import Event, Stream
from streaming.simulator.engine.coins import Coin, decimal_text
from streaming.simulator.engine.exchange import ZERO_HASH, Exchange
from streaming.simulator.engine.prices import (
    FUNDING_DECIMALS,
    funding_rate,
    mark_px,
    oracle_px,
)

LEDGER_EVERY_BLOCKS = 41  # 2.9 s
ORACLE_EVERY_BLOCKS = 43  # builders push their prices about every 3 s
WITHDRAWAL_FEE_USDC = 1
#: The address from which the HyperEVM sends HYPE to the exchange.
SYSTEM_USER = "0x2222222222222222222222222222222222222222"


class Ledger:
    """Books what is due in each block. `funding_ns` is the time between two fundings; the rate is
    the hourly one however short that is.
    """

    def __init__(self, exchange: Exchange, *, rng: random.Random, funding_ns: int) -> None:
        self._exchange, self._rng, self._funding_ns = exchange, rng, funding_ns
        self._period: int | None = None
        self._blocks = 0
        # A maker's money is its market; what moves between users is what takers have.
        self._users = [a for a in exchange.accounts.values() if a.role is not Role.MAKER]
        self._kinds: tuple[Callable[[], None], ...] = (
            self._deposit,
            self._withdraw,
            self._to_spot,
            self._send,
            self._spot_transfer,
            self._from_evm,
        )

    def run_block(self) -> None:
        """Whatever is due in the open block."""
        self._blocks += 1
        period = self._exchange.block.time_ns // self._funding_ns
        if self._period is not None and period != self._period:
            self._fund()
        self._period = period
        if self._blocks % LEDGER_EVERY_BLOCKS == 0:
            self._kinds[self._blocks // LEDGER_EVERY_BLOCKS % len(self._kinds)]()
        if self._blocks % ORACLE_EVERY_BLOCKS == 0:
            self._push_oracle()

    # --- fundings ---------------------------------------------------------------------------------

    def _fund(self) -> None:
        exchange, now_ms = self._exchange, self._exchange.block.time_ms
        deltas: list[Event] = []
        for coin in exchange.coins.values():
            if coin.is_spot or coin.is_delisted:
                continue
            rate, px = funding_rate(coin, now_ms), oracle_px(exchange, coin, now_ms)
            for account in exchange.accounts.values():
                position = account.positions.get(coin.name)
                if position is not None and position.szi:
                    paid = position.szi * px * rate // 10**FUNDING_DECIMALS
                    deltas.append(self._pay(account, coin, paid=paid, rate=rate))
        if deltas:
            self._misc({"Funding": {"deltas": deltas}}, ZERO_HASH)

    def _pay(self, account: Account, coin: Coin, *, paid: int, rate: int) -> Event:
        position = account.position(coin)
        account.usdc -= paid
        position.pay_funding(paid)
        usdc, szi = decimal_text(-paid, USDC_DECIMALS), coin.sz_text(position.szi)
        rate_text = decimal_text(rate, FUNDING_DECIMALS)
        account.fundings.append(
            {
                "time": self._exchange.block.time_ms,
                "coin": coin.name,
                "usdc": usdc,
                "szi": szi,
                "fundingRate": rate_text,
                "nSamples": None,
            }
        )
        return {
            "user": account.address,
            "coin": coin.name,
            "funding_amount": usdc,
            "szi": szi,
            "funding_rate": rate_text,
        }

    # --- one row each -----------------------------------------------------------------------------

    def _deposit(self) -> None:
        account, amount = self._one(), self._rng.randrange(100, 5_000) * PPM
        account.usdc += amount
        self._tell((account,), {"type": "deposit", "usdc": _usdc(amount)})

    def _withdraw(self) -> None:
        account, amount = self._one(), self._rng.randrange(100, 2_000) * PPM
        account.usdc -= amount + WITHDRAWAL_FEE_USDC * PPM
        delta: Event = {
            "type": "withdraw",
            "usdc": _usdc(amount),
            "nonce": self._exchange.block.time_ms,
            "fee": _usdc(WITHDRAWAL_FEE_USDC * PPM),
        }
        self._tell((account,), delta)

    def _to_spot(self) -> None:
        account, amount = self._one(), self._rng.randrange(50, 500) * PPM
        to_perp = self._rng.random() < 0.5
        account.usdc += amount if to_perp else -amount
        account.balance("USDC").total += (-amount if to_perp else amount) * 100
        self._tell(
            (account,),
            {"type": "accountClassTransfer", "usdc": _usdc(amount), "toPerp": to_perp},
        )

    def _send(self) -> None:
        sender, receiver = self._rng.sample(self._users, 2)
        amount = self._rng.randrange(10, 400) * PPM
        sender.usdc -= amount
        receiver.usdc += amount
        delta: Event = {
            "type": "send",
            "user": sender.address,
            "destination": receiver.address,
            "sourceDex": "",
            "destinationDex": "",
            "token": "USDC",
            "amount": _usdc(amount),
            "usdcValue": _usdc(amount),
            "fee": "0.0",
            "nativeTokenFee": "0.0",
            "nonce": self._exchange.block.time_ms,
            "feeToken": "",
        }
        self._tell((sender, receiver), delta)

    def _spot_transfer(self) -> None:
        sender, receiver = self._rng.sample(self._users, 2)
        coin = self._hype()
        if coin is not None:
            self._move_spot(coin, sender, receiver, user=sender.address)

    def _from_evm(self) -> None:
        receiver, coin = self._one(), self._hype()
        if coin is None:
            return
        wei = self._move_spot(coin, None, receiver, user=SYSTEM_USER)
        exchange = self._exchange
        event: Event = {
            "user": SYSTEM_USER,
            "nonce": exchange.block.time_ms,
            "evm_tx_hash": exchange.next_hash(),
            "action": {
                "type": "SystemSpotSendAction",
                "destination": receiver.address,
                "token": 150,
                "wei": wei,
            },
        }
        exchange.block.add_rare(Stream.SYSTEM, event)

    def _move_spot(
        self, coin: Coin, sender: Account | None, receiver: Account, *, user: str
    ) -> int:
        """Move some of a token; the answer is how many 10^-8 of it."""
        wei = self._rng.randrange(1, 50) * 10**WEI_DECIMALS
        worth = wei // 10 ** (WEI_DECIMALS - coin.sz_decimals) * mark_px(self._exchange, coin)
        if sender is not None:
            sender.balance(coin.base).total -= wei
        receiver.balance(coin.base).total += wei
        delta: Event = {
            "type": "spotTransfer",
            "token": coin.base,
            "amount": decimal_text(wei, WEI_DECIMALS),
            "usdcValue": decimal_text(worth, WEI_DECIMALS),
            "user": user,
            "destination": receiver.address,
            "fee": "0.0",
            "nativeTokenFee": "0.0",
            "nonce": self._exchange.block.time_ms,
            "feeToken": "",
        }
        parties = (receiver,) if sender is None else (sender, receiver)
        self._tell(parties, delta, user=user)
        return wei

    def _hype(self) -> Coin | None:
        return next((c for c in self._exchange.coins.values() if c.base == "HYPE"), None)

    def _one(self) -> Account:
        return self._rng.choice(self._users)

    def _tell(self, parties: tuple[Account, ...], delta: Event, *, user: str = "") -> None:
        tx_hash, time_ms = self._exchange.next_hash(), self._exchange.block.time_ms
        for account in parties:
            account.ledger.append({"time": time_ms, "hash": tx_hash, "delta": delta})
        users = [account.address for account in parties]
        if user and user not in users:
            users.insert(0, user)
        self._misc({"LedgerUpdate": {"users": users, "delta": delta}}, tx_hash)

    def _misc(self, inner: Event, tx_hash: str) -> None:
        exchange = self._exchange
        event: Event = {"time": exchange.iso_time, "hash": tx_hash, "inner": inner}
        exchange.block.add_rare(Stream.MISC, event)

    # --- builders' oracles ------------------------------------------------------------------------

    def _push_oracle(self) -> None:
        exchange, block = self._exchange, self._exchange.block
        coins = [coin for coin in exchange.coins.values() if coin.dex]
        if not coins:
            return
        marks = [(c, c.px_text(mark_px(exchange, c))) for c in coins]
        oracles = [(c, c.px_text(oracle_px(exchange, c, block.time_ms))) for c in coins]

        def stamped(rows: list[tuple[Coin, str]]) -> list[object]:
            return [
                [
                    coin.name,
                    {"px": px, "last_update_time": exchange.iso_time, "daily_px": px},
                ]
                for coin, px in rows
            ]

        event: Event = {
            "update_class": "Deployer",
            "mark_px_inputs": [[coin.name, px] for coin, px in marks],
            "spot_px_inputs": [[coin.name, px] for coin, px in oracles],
            "external_perp_px_inputs": [],
            "oracle_pxs": {
                "coin_to_mark_px": stamped(marks),
                "coin_to_oracle_px": stamped(oracles),
                "coin_to_external_perp_px": [],
            },
        }
        block.add_rare(Stream.ORACLE, event)


def _usdc(micro: int) -> str:
    return decimal_text(micro, USDC_DECIMALS)
