"""What a key's orders of the last minute may come to, over all processes.

In Redis as cents by second, added and compared in one step. Trading never waits for it: without an
answer within 50 ms a process counts its own, against its share of the limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from decimal import ROUND_CEILING, Decimal

import redis.asyncio
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

log = structlog.get_logger(__name__)

WINDOW_S = 60
DEADLINE_S = 0.05
#: After Redis failed it is left alone this long.
PAUSE_S = 1.0

# KEYS: the window. ARGV: cents to add, the most in it, its seconds. Answers whether they fit.
_ADD = """
local now = tonumber(redis.call('TIME')[1])
local sum = tonumber(ARGV[1])
local rows = redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
  if tonumber(rows[i]) <= now - tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], rows[i])
  else sum = sum + tonumber(rows[i + 1]) end
end
if sum > tonumber(ARGV[2]) then return 0 end
redis.call('HINCRBY', KEYS[1], now, ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3] + 1)
return 1
"""


class Exposure:
    """Of one process. `processes` says how many share the limits."""

    def __init__(
        self,
        url: str,
        *,
        processes: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis: redis.asyncio.Redis | None = None
        if url:
            self._redis = redis.asyncio.Redis.from_url(
                url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
            )
            self._add = self._redis.register_script(_ADD)
        self._processes = processes
        self._monotonic = monotonic
        self._own: defaultdict[int, deque[tuple[float, int]]] = defaultdict(deque)
        self._pause_until_s = 0.0

    async def add(self, family_id: int, amount: Decimal, most: Decimal) -> bool:
        """Add `amount` USD to a key's minute; False, and nothing is added, where it would come to
        more than `most`."""
        cents, limit = _cents(amount), int(most * 100)
        if cents > limit:
            return False
        if self._redis is not None and self._monotonic() >= self._pause_until_s:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    key = f"relay:exposure:{family_id}"
                    return bool(await self._add(keys=[key], args=[cents, limit, WINDOW_S]))
            except (redis.RedisError, OSError, TimeoutError) as error:
                self._pause_until_s = self._monotonic() + PAUSE_S
                log.warning("exposure_unshared", error=type(error).__name__)
        return self._add_own(family_id, cents, limit // max(1, self._processes()))

    async def give_back(self, family_id: int, amount: Decimal) -> None:
        """What was added and then not sent. If that cannot be said, it passes with its minute."""
        cents = _cents(amount)
        rows = self._own[family_id]
        if (row := next((row for row in reversed(rows) if row[1] == cents), None)) is not None:
            rows.remove(row)
        elif self._redis is not None:
            with suppress(redis.RedisError, OSError, TimeoutError):
                async with asyncio.timeout(DEADLINE_S):
                    key = f"relay:exposure:{family_id}"
                    await self._add(keys=[key], args=[-cents, 2**53, WINDOW_S])

    def _add_own(self, family_id: int, cents: int, limit: int) -> bool:
        now_s = self._monotonic()
        rows = self._own[family_id]
        while rows and rows[0][0] <= now_s - WINDOW_S:
            rows.popleft()
        if cents + sum(row[1] for row in rows) > limit:
            return False
        rows.append((now_s, cents))
        return True

    async def aclose(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()


def _cents(amount: Decimal) -> int:
    return int((amount * 100).to_integral_value(ROUND_CEILING))
