"""Nonces that other processes of this relay have sent: asked while the exchange is waited for, and
told if the answer is there in time. Nobody waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import redis.asyncio
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway.exchange.nonces import KEPT

log = structlog.get_logger(__name__)

KEY = "relay:nonces:{signer}"
#: A signer who has sent nothing for so long is forgotten.
KEPT_S = 900
DEADLINE_S = 0.25
PAUSE_S = 2.0
#: Asked for at one time.
MAX_ASKING = 200

# KEYS: those of a signer. ARGV: a nonce (as text: a double has 53 bits), how many are kept, and how
# long. Answers whether it is there already.
_USE = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 1 end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[2] - 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 0
"""


class SharedNonces:
    """Those of all processes, as far as Redis says. Never raises."""

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )
        self._use = self._redis.register_script(_USE)
        self._paused_until_s = 0.0
        self._tasks: set[asyncio.Task[bool]] = set()

    def use(self, signer: str, nonce: int) -> asyncio.Task[bool] | None:
        """A signer sends a nonce; what is answered says whether it was sent by another process."""
        if time.monotonic() < self._paused_until_s or len(self._tasks) >= MAX_ASKING:
            return None
        return self._begin(self._used(signer, nonce))

    def give_back(self, signer: str, nonce: int) -> None:
        """It was not sent, so it may be."""
        if time.monotonic() >= self._paused_until_s and len(self._tasks) < MAX_ASKING:
            self._begin(self._forgotten(signer, nonce))

    async def _used(self, signer: str, nonce: int) -> bool:
        try:
            async with asyncio.timeout(DEADLINE_S):
                key = KEY.format(signer=signer)
                return bool(await self._use(keys=[key], args=[nonce, KEPT, KEPT_S]))
        except (RedisError, OSError, TimeoutError) as error:
            return self._failed(error)

    async def _forgotten(self, signer: str, nonce: int) -> bool:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return bool(await self._redis.zrem(KEY.format(signer=signer), nonce))
        except (RedisError, OSError, TimeoutError) as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> bool:
        self._paused_until_s = time.monotonic() + PAUSE_S
        log.debug("nonces_unshared", error=type(error).__name__)
        return False

    def _begin(self, work: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """Close the connections."""
        for task in self._tasks:
            task.cancel()
        await self._redis.aclose()
