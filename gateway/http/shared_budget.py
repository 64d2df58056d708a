"""The public budget of one address, shared by all edges through Redis.

A public request takes a tenth of a second, so the millisecond of asking Redis first is no loss.
Without Redis each process has its part.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from gateway.http.budget import WINDOW_S, Budget, Window
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

KEY = "relay:public-budget"
#: Two processes that write in the same moment: one begins again with what the other wrote.
TRIES = 8
DEADLINE_S = 0.25
#: After a failure Redis is left alone for so long.
PAUSE_S = 2.0
_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class SharedBudget:
    """`take` as `Budget.take`, over all processes. Never raises, never waits for long."""

    def __init__(
        self,
        client: redis.asyncio.Redis | None,
        *,
        limit: float,
        processes: Callable[[], int],
        key: str = KEY,
    ) -> None:
        """`key` names the address and the service whose budget it is."""
        self._client = client
        self._key = key
        self._limit = limit
        self._processes = processes
        self._alone = Budget(limit)
        self._paused_until_s = 0.0

    async def take(self, tenant: str, weight: float) -> float:
        """Spend `weight` of a tenant and return 0.0, or the seconds to wait."""
        now_s = time.monotonic()
        if self._client is not None and now_s >= self._paused_until_s:
            try:
                # Not of the caller's deadline, which is of the upstream.
                return await self._take_shared(self._client, tenant, weight)
            except (RedisError, OSError, TimeoutError, msgspec.DecodeError) as error:
                stop_if_cancelled()
                self._paused_until_s = now_s + PAUSE_S
                log.warning("public_budget_unshared", error=type(error).__name__)
        self._alone.limit = self._limit / max(1, self._processes())
        return self._alone.take(tenant, weight, now_s=now_s)

    async def _take_shared(self, client: Any, tenant: str, weight: float) -> float:
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(TRIES):
                async with client.pipeline(transaction=False) as pipe:
                    pipe.get(self._key)
                    pipe.time()
                    before, (seconds, micros) = await pipe.execute()
                window = msgspec.msgpack.decode(before, type=Window) if before else Window()
                # Redis' clock: those of two machines need not agree.
                budget = Budget(self._limit, window)
                wait_s = budget.take(tenant, weight, now_s=seconds + micros / 1e6)
                after = msgspec.msgpack.encode(budget.window)
                swapped = await client.eval(
                    _SWAP, 1, self._key, before or b"", after, int(2 * WINDOW_S)
                )
                if swapped:
                    return wait_s
        # Everybody at once: come back in a moment.
        return 1.0
