"""One holder at a time, by a key in Redis that expires with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: A dead holder is followed within a second: expiry and one look. A live one renews four times as
#: often, and survives a stop of its loop of 0.6 s (decoding a large checkpoint took 0.5 s).
TTL_S = 0.85
RENEW_S = 0.2
LOOK_S = 0.05

#: Takes the free key, or renews our own; 0 when somebody else holds it.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"


class LeaseLost(Exception):
    """Somebody else holds the lease now; what it protected must stop."""


class Lease:
    """The right to do something alone. `holder` names us and is unique."""

    def __init__(self, client: redis.asyncio.Redis, *, key: str, holder: str) -> None:
        self._take = client.register_script(_TAKE)
        self._release = client.register_script(_RELEASE)
        self._key = key
        self._holder = holder
        self._held_until_s = 0.0

    @property
    def is_held(self) -> bool:
        """Whether nobody else can hold it now, as far as our own clock tells.

        This is the fence: a process that was stopped for longer than the lease lives, and goes on,
        sees False before it has spoken to Redis again.
        """
        return time.monotonic() < self._held_until_s

    async def acquire(self) -> None:
        """Wait until the lease is ours, however long another holds it or Redis is away."""
        is_told = False
        while not await self._is_taken():
            if not is_told:
                log.info("lease_held_by_another", key=self._key)
                is_told = True
            await asyncio.sleep(LOOK_S)

    async def keep(self, on_renewed: Callable[[], None] = lambda: None) -> None:
        """Renew until cancelled, and say so each time. Raises LeaseLost when another took it after
        we fell silent.

        Without Redis nobody can hold it, nor publish anything, so that alone loses nothing.
        """
        while True:
            stop_if_cancelled()
            await asyncio.sleep(RENEW_S)
            try:
                if not await self._ask():
                    raise LeaseLost(self._key)
                on_renewed()
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("lease_not_renewed", key=self._key, error=str(error))

    async def release(self) -> None:
        """Give it back, so that the next holder need not wait."""
        self._held_until_s = 0.0
        await self._release(keys=[self._key], args=[self._holder])

    async def _is_taken(self) -> bool:
        try:
            return await self._ask()
        except (RedisError, OSError) as error:
            stop_if_cancelled()
            log.warning("lease_not_asked", key=self._key, error=str(error))
            await asyncio.sleep(RENEW_S)
            return False

    async def _ask(self) -> bool:
        asked_s = time.monotonic()  # before: Redis counts from when it hears us
        is_ours = await self._take(keys=[self._key], args=[self._holder, round(TTL_S * 1000)])
        self._held_until_s = asked_s + TTL_S if is_ours else 0.0
        stop_if_cancelled()  # else who waits for another's lease waits on, and is never stopped
        return bool(is_ours)
