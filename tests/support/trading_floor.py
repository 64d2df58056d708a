"""A simulation and one customer with a key: acts, makes the block, reads the answer."""

from __future__ import annotations

import json
from typing import Any

from streaming.simulator import Settings, Simulator
from streaming.simulator.servers.info import ExchangeInfo
from streaming.simulator.trading.desk import Pending
from tests.support.wallet import Wallet

START_NS = 1_790_000_000_000_000_000
START_MS = START_NS // 1_000_000
ETH = 1
GTC: dict[str, Any] = {"limit": {"tif": "Gtc"}}
IOC: dict[str, Any] = {"limit": {"tif": "Ioc"}}
ALO: dict[str, Any] = {"limit": {"tif": "Alo"}}


class Floor:
    """Where `wallet` trades ETH; `simulator` moves only when an action asks for a block."""

    def __init__(self, *, faucet_usdc: int = 10_000, **settings: Any) -> None:
        self.simulator = Simulator(
            Settings(seed=5, start_time_ns=START_NS, faucet_usdc=faucet_usdc, **settings)
        )
        self.simulator.step()
        self.wallet = Wallet(b"\x07" * 32)
        self.info = ExchangeInfo(self.simulator)
        self.nonce = START_MS

    def ask(self, kind: str, **rest: Any) -> Any:
        """/info about the wallet's user."""
        body = {"type": kind, "user": self.wallet.address} | rest
        return json.loads(self.info.answer(body).body)

    def act(self, action: dict[str, Any], *, wallet: Wallet | None = None, **outer: Any) -> Any:
        """Sign and send an L1 action, and make its block."""
        self.nonce += 1
        return self.send((wallet or self.wallet).l1(action, nonce=self.nonce, **outer))

    def sign(self, kind: str, struct: str, fields: dict[str, tuple[str, Any]]) -> Any:
        """Sign and send a user-signed action; `fields` are (type, value) by name."""
        self.nonce += 1
        clock = "time" if kind in ("usdSend", "spotSend", "withdraw3") else "nonce"
        action = {"type": kind} | {name: value for name, (_, value) in fields.items()}
        types = [*((name, of) for name, (of, _) in fields.items()), (clock, "uint64")]
        action[clock] = self.nonce
        return self.send(self.wallet.user_signed(action, struct, types, nonce=self.nonce))

    def send(self, body: dict[str, Any]) -> Any:
        """Hand a body in, make a block if it waits for one, and return the reply."""
        outcome = self.simulator.trading.receive(body)
        if not isinstance(outcome, Pending):
            return outcome
        replies: list[Any] = []
        outcome.on_reply = replies.append
        self.simulator.step()
        return replies[0]

    def order(self, *rows: dict[str, Any], grouping: str = "na", **rest: Any) -> list[Any]:
        """Place a batch; the answer is its statuses."""
        action = {"type": "order", "orders": list(rows), "grouping": grouping, **rest}
        reply = self.act(action)
        assert reply["status"] == "ok", reply
        return list(reply["response"]["data"]["statuses"])

    def px(self, factor: float) -> str:
        """A valid price at so much of the mid."""
        coin = self.simulator.exchange.coins["ETH"]
        twice = self.simulator.exchange.books["ETH"].mid_twice
        return coin.px_text(coin.snap_down((twice or 0) / 2 * factor)).removesuffix(".0")

    def slump(self) -> None:
        """Somebody big sells ETH down by half a percent, so that stops below are reached."""
        whale = Wallet(b"\x08" * 32)
        self.ask("simFaucet", user=whale.address, usdc=100_000_000)
        row = wire("A", self.px(0.995), "1000", IOC)
        self.act({"type": "order", "orders": [row], "grouping": "na"}, wallet=whale)
        self.simulator.step()

    def szi(self) -> str:
        """The user's ETH position."""
        rows = self.ask("clearinghouseState")["assetPositions"]
        return str(rows[0]["position"]["szi"]) if rows else "0.0"


def wire(
    side: str, px: str, sz: str, kind: dict[str, Any] = GTC, *, reduce_only: bool = False,
    cloid: str | None = None, asset: int = ETH,
) -> dict[str, Any]:  # fmt: skip
    """One order in wire form; `side` is B or A."""
    row = {"a": asset, "b": side == "B", "p": px, "s": sz, "r": reduce_only, "t": kind}
    return row if cloid is None else row | {"c": cloid}


def stop(trigger_px: str, tpsl: str = "sl", *, is_market: bool = True) -> dict[str, Any]:
    """The kind of an order that waits for a price."""
    return {"trigger": {"isMarket": is_market, "triggerPx": trigger_px, "tpsl": tpsl}}
