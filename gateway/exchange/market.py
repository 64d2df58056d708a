"""What guard rails need of the market: which coin an asset id is, and what a coin costs.

Source: the exchange's page on asset ids. Read from our own `/info`, as a customer would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from typing import Any

import orjson
import structlog

from gateway.exchange.asked import FIRST_DEX, FIRST_OUTCOME, FIRST_SPOT

log = structlog.get_logger(__name__)

#: New listings come on a few days a week, at a known time.
COINS_FOR_S = 60.0
PRICES_FOR_S = 1.0
#: What was learnt is used this long after nothing new came, and then not any more: a limit in USD
#: at an old price is none.
PRICES_KEPT_S = 30.0
ASSETS_A_DEX = 10_000
#: How long an order waits for what is not known at all.
WAIT_S = 0.5
#: After something could not be read.
PAUSE_S = 1.0

#: Asks `/info` and answers the parsed body.
Ask = Callable[[dict[str, Any]], Awaitable[bytes]]


class Market:
    """One per process. `refresh` sees that what is due is being learnt, and waits for it only where
    nothing is known; `coin_of` and `price_of` answer from memory."""

    def __init__(self, ask: Ask, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._monotonic = monotonic
        #: By the name of a dex, "" for the main one and spot.
        self._coins: dict[str, dict[int, str]] = {}
        self._coins_at_s = float("-inf")
        self._prices: dict[str, dict[str, Decimal]] = {}
        self._prices_at_s: dict[str, float] = {}
        self._wanted: set[str] = set()
        self._pause_until_s = float("-inf")
        self._learning: asyncio.Task[None] | None = None

    def coin_of(self, asset: int) -> str | None:
        """The name of an asset id."""
        if asset >= FIRST_OUTCOME:
            return f"#{asset - FIRST_OUTCOME}"
        return next((coins[asset] for coins in self._coins.values() if asset in coins), None)

    def price_of(self, coin: str) -> Decimal | None:
        """Its mid in USD, unless that is not known, or too old."""
        dex = _dex_of(coin)
        if self._monotonic() - self._prices_at_s.get(dex, float("-inf")) > PRICES_KEPT_S:
            return None
        return self._prices[dex].get(coin)

    def coin_soon(self, asset: int) -> str | None:
        """As `coin_of`; what is not known is being learnt, for the next who asks."""
        coin = self.coin_of(asset)
        if coin is None and self._is_due([asset], False):
            self._begin()
        return coin

    async def refresh(self, assets: Iterable[int], *, with_prices: bool) -> None:
        """Have what is due about `assets` learnt. Waits `WAIT_S` at most, and only for what is not
        known at all."""
        wanted = list(assets)
        if self._is_due(wanted, with_prices):
            self._begin()
        if self._learning is not None and self._lacks(wanted, with_prices):
            await asyncio.wait([self._learning], timeout=WAIT_S)

    def _begin(self) -> None:
        is_learning = self._learning is not None and not self._learning.done()
        if not is_learning and self._monotonic() >= self._pause_until_s:
            self._learning = asyncio.create_task(self._learn())

    async def aclose(self) -> None:
        """Stop learning."""
        if self._learning is not None:
            self._learning.cancel()

    def _is_due(self, assets: list[int], with_prices: bool) -> bool:
        now_s = self._monotonic()
        is_due = now_s - self._coins_at_s > COINS_FOR_S
        if with_prices:
            for dex in {_dex_of(coin) for asset in assets if (coin := self.coin_of(asset))} | {""}:
                if now_s - self._prices_at_s.get(dex, float("-inf")) > PRICES_FOR_S:
                    self._wanted.add(dex)
                    is_due = True
        return is_due

    def _lacks(self, assets: list[int], with_prices: bool) -> bool:
        coins = [self.coin_of(asset) for asset in assets]
        return any(coin is None or (with_prices and self.price_of(coin) is None) for coin in coins)

    async def _learn(self) -> None:
        is_whole = True
        if self._monotonic() - self._coins_at_s > COINS_FOR_S:
            is_whole = await self._read_coins()
        while self._wanted:
            is_whole = await self._read_prices(self._wanted.pop()) and is_whole
        if not is_whole:
            # What does not answer is asked again soon, but not by each order.
            self._pause_until_s = self._monotonic() + PAUSE_S

    async def _read_coins(self) -> bool:
        """Whether all of it could be read. What could not stays what it was."""
        asked_s = self._monotonic()
        try:
            main = dict(enumerate(_names(await self._get({"type": "meta"}))))
            for pair in (await self._get({"type": "spotMeta"}))["universe"]:
                main[FIRST_SPOT + pair["index"]] = pair["name"]
            self._coins[""] = main
            for number, dex in enumerate(await self._get({"type": "perpDexs"})):
                if dex is None:  # the main one
                    continue
                meta = await self._get({"type": "meta", "dex": dex["name"]})
                first = FIRST_DEX + ASSETS_A_DEX * number
                self._coins[dex["name"]] = dict(enumerate(_names(meta), start=first))
        except Exception as error:
            # Whatever it is: what is not known is refused where a rail asks for it.
            log.warning("assets_not_read", error=type(error).__name__)
            return False
        self._coins_at_s = asked_s
        return True

    async def _read_prices(self, dex: str) -> bool:
        asked_s = self._monotonic()
        try:
            mids = await self._get({"type": "allMids"} | ({"dex": dex} if dex else {}))
            self._prices[dex] = {coin: Decimal(mid) for coin, mid in mids.items()}
        except Exception as error:
            log.warning("prices_not_read", error=type(error).__name__)
            return False
        self._prices_at_s[dex] = asked_s
        return True

    async def _get(self, payload: dict[str, Any]) -> Any:
        return orjson.loads(await self._ask(payload))


def _names(meta: dict[str, Any]) -> list[str]:
    return [asset["name"] for asset in meta["universe"]]


def _dex_of(coin: str) -> str:
    return coin.partition(":")[0] if ":" in coin else ""
