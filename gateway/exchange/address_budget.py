"""How many actions the exchange still takes from an address: its own count, read when the address
trades here, and kept for whoever asks.

Nobody waits for it: an action's answer tells what is known by then.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import orjson
import redis.asyncio
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

log = structlog.get_logger(__name__)

#: Of an address that trades, its count is asked for so often (20 of weight where no node serves
#: it); it is shown for so long.
READ_EVERY_S, KEPT_S = 60.0, 3_600
ASK_S = 5.0
MAX_ADDRESSES = 5_000
#: Asked for at one time.
MAX_ASKING = 20
KEY = "relay:address-budget:{address}"

Ask = Callable[[dict[str, Any], str], Awaitable[bytes]]


class AddressBudget(NamedTuple):
    """`used` and `cap` are the exchange's `nRequestsUsed` and `nRequestsCap`, as of `at_ms`, with
    what went through this relay since; `volume` is `cumVlm` in USD. A cancel has more room:
    min(cap + 100,000, 2 × cap)."""

    address: str
    used: int
    cap: int
    volume: str
    at_ms: int

    @property
    def left(self) -> int:
        """Below 0 the exchange takes one in ten seconds."""
        return self.cap - self.used

    def header(self, now_ms: float) -> bytes:
        """As `X-Relay-Address-Budget` says it; `t` is how old it is, in seconds."""
        age_s = max(0, round((now_ms - self.at_ms) / 1e3))
        return f"{self.address};used={self.used};cap={self.cap};left={self.left};t={age_s}".encode()


def read(address: str, data: bytes | None) -> AddressBudget | None:
    """What Redis has of an address."""
    if data is None:
        return None
    try:
        used, cap, volume, at_ms = orjson.loads(data)
        return AddressBudget(address, int(used), int(cap), str(volume), int(at_ms))
    except (ValueError, TypeError):
        return None


class AddressBudgets:
    """Those of one process. `ask` asks `/info` as a tenant."""

    def __init__(
        self, url: str, *, ask: Ask, now_ms: Callable[[], float] = lambda: time.time() * 1e3
    ) -> None:
        self._ask = ask
        self._now_ms = now_ms
        self._known: OrderedDict[str, AddressBudget | None] = OrderedDict()
        self._asked_s: dict[str, float] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._redis: redis.asyncio.Redis | None = None
        if url:
            self._redis = redis.asyncio.Redis.from_url(
                url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
            )

    def of(self, address: str) -> AddressBudget | None:
        """What is known now."""
        return self._known.get(address)

    def used(self, address: str, count: int, *, slug: str) -> None:
        """So many actions of an address were taken by the exchange: count them, and read anew what
        is old. Only of addresses the exchange knows, or inventions would be asked for."""
        known = self._known.get(address)
        if known is not None:
            self._known[address] = known._replace(used=known.used + count)
        now_s = time.monotonic()
        is_due = now_s - self._asked_s.get(address, float("-inf")) >= READ_EVERY_S
        if is_due and len(self._asking) < MAX_ASKING:
            self._asked_s[address] = now_s
            self._known.setdefault(address, None)
            self._known.move_to_end(address)
            while len(self._known) > MAX_ADDRESSES:
                oldest, _ = self._known.popitem(last=False)
                self._asked_s.pop(oldest, None)
            task = asyncio.ensure_future(self._read(address, slug))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _read(self, address: str, slug: str) -> None:
        try:
            async with asyncio.timeout(ASK_S):
                told = orjson.loads(
                    await self._ask({"type": "userRateLimit", "user": address}, slug)
                )
            found = AddressBudget(
                address,
                int(told["nRequestsUsed"]),
                int(told["nRequestsCap"]) + int(told.get("nRequestsSurplus") or 0),
                str(told["cumVlm"])[:40],
                int(self._now_ms()),
            )
        except Exception as error:
            # Its budget may be spent, its upstream away: what was known stays.
            log.debug("address_budget_not_read", error=type(error).__name__)
            return
        self._known[address] = found
        if self._redis is not None:
            try:
                value = orjson.dumps([found.used, found.cap, found.volume, found.at_ms])
                await self._redis.set(KEY.format(address=address), value, ex=KEPT_S)
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("address_budget_not_kept", error=type(error).__name__)

    async def aclose(self) -> None:
        """Stop asking."""
        for task in self._asking:
            task.cancel()
        if self._redis is not None:
            await self._redis.aclose()
