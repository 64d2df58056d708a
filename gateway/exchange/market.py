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

log = structlog.get_logger(__name__)

#: New listings come on a few days a week, at a known time.
COINS_FOR_S = 60.0
PRICES_FOR_S = 1.0
#: What was learnt is used this long after nothing new came, and then not any more: a limit in USD
#: at an old price is none.
PRICES_KEPT_S = 30.0
FIRST_SPOT, FIRST_DEX, ASSETS_A_DEX = 10_000, 100_000, 10_000
FIRST_OUTCOME = 100_000_000

#: Asks `/info` and answers the parsed body.
Ask = Callable[[dict[str, Any]], Awaitable[bytes]]


class Market:
    """One per process. `refresh` is cheap when nothing is due; then `coin_of` and `price_of`
    answer from memory."""

    def __init__(self, ask: Ask, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._coins: dict[int, str] = {}
        self._coins_at_s = float("-inf")
        #: By the name of a dex, "" for the main one and spot.
        self._prices: dict[str, dict[str, Decimal]] = {}
        self._prices_at_s: dict[str, float] = {}
        self._turn = asyncio.Lock()

    def coin_of(self, asset: int) -> str | None:
        """The name of an asset id."""
        if asset >= FIRST_OUTCOME:
            return f"#{asset - FIRST_OUTCOME}"
        return self._coins.get(asset)

    def price_of(self, coin: str) -> Decimal | None:
        """Its mid in USD, unless that is not known, or too old."""
        dex = _dex_of(coin)
        if self._monotonic() - self._prices_at_s.get(dex, float("-inf")) > PRICES_KEPT_S:
            return None
        return self._prices[dex].get(coin)

    async def refresh(self, assets: Iterable[int], *, with_prices: bool) -> None:
        """Learn what is due about `assets`. What cannot be learnt stays what it was."""
        async with self._turn:
            if self._monotonic() - self._coins_at_s > COINS_FOR_S:
                await self._read_coins()
            if not with_prices:
                return
            coins = {self.coin_of(asset) for asset in assets}
            for dex in {_dex_of(coin) for coin in coins if coin is not None}:
                at_s = self._prices_at_s.get(dex, float("-inf"))
                if self._monotonic() - at_s > PRICES_FOR_S:
                    await self._read_prices(dex)

    async def _read_coins(self) -> None:
        asked_s = self._monotonic()
        coins: dict[int, str] = {}
        try:
            for place, asset in enumerate((await self._get({"type": "meta"}))["universe"]):
                coins[place] = asset["name"]
            for pair in (await self._get({"type": "spotMeta"}))["universe"]:
                coins[FIRST_SPOT + pair["index"]] = pair["name"]
        except Exception as error:
            # Whatever it is: what is not known is refused where a rail asks for it.
            log.warning("assets_not_read", error=type(error).__name__)
            return
        try:
            for number, dex in enumerate(await self._get({"type": "perpDexs"})):
                if dex is None:  # the main one
                    continue
                universe = (await self._get({"type": "meta", "dex": dex["name"]}))["universe"]
                for place, asset in enumerate(universe):
                    coins[FIRST_DEX + ASSETS_A_DEX * number + place] = asset["name"]
        except Exception as error:
            log.warning("dexes_not_read", error=type(error).__name__)
        self._coins, self._coins_at_s = coins, asked_s

    async def _read_prices(self, dex: str) -> None:
        asked_s = self._monotonic()
        try:
            mids = await self._get({"type": "allMids"} | ({"dex": dex} if dex else {}))
            self._prices[dex] = {coin: Decimal(mid) for coin, mid in mids.items()}
        except Exception as error:
            log.warning("prices_not_read", error=type(error).__name__)
            return
        self._prices_at_s[dex] = asked_s

    async def _get(self, payload: dict[str, Any]) -> Any:
        return orjson.loads(await self._ask(payload))


def _dex_of(coin: str) -> str:
    return coin.partition(":")[0] if ":" in coin else ""
