"""Latencies in Redis: a hash for each tenant and hour, gone after a week. Whoever asks is told what
Redis has; what a process that dies had not written is lost, and nobody is billed by it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping

import redis
import redis.asyncio
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway.requests.latency import KEPT_HOURS, Latencies, Latency, by_door
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 5.0
LAST_S = 1.0
#: Commands of one pipeline.
AT_ONCE = 5_000
_KEY = "relay:latency:{tenant}:{hour}"


class LatencyWriter:
    """One per process. `note` is free; `run` must be running for counts to arrive."""

    def __init__(self, url: str) -> None:
        self.counts = Latencies()
        self._redis: redis.asyncio.Redis | None = None
        if url:
            self._redis = redis.asyncio.Redis.from_url(
                url, socket_timeout=2.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
            )

    def note(self, tenant_id: int, door: str, took_ms: float) -> None:
        """Count one request."""
        if self._redis is not None:
            self.counts.note(tenant_id, door, took_ms)

    async def run(self) -> None:
        """Write every few seconds until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(WRITE_EVERY_S)
                await self.flush()
                stop_if_cancelled()
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LAST_S):
                    await self.flush()
            if self._redis is not None:
                await self._redis.aclose()

    async def flush(self) -> None:
        """Write what there is; what Redis does not take now is kept for the next time."""
        if self._redis is None or not len(self.counts):
            return
        left = self.counts.take()
        hour = int(time.time() // 3_600)
        try:
            while left:
                batch = _some_of(left)
                await _write(self._redis, batch, hour)
                for tenant_id in batch:
                    del left[tenant_id]
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("latencies_not_written", error=type(error).__name__)
        finally:
            self.counts.give_back(left)


async def _write(client: redis.asyncio.Redis, batch: Mapping[int, Counter[str]], hour: int) -> None:
    async with client.pipeline(transaction=True) as pipe:
        for tenant_id, counts in batch.items():
            key = _KEY.format(tenant=tenant_id, hour=hour)
            for label, count in counts.items():
                pipe.hincrby(key, label, count)
            pipe.expire(key, (KEPT_HOURS + 1) * 3_600)
        await pipe.execute()


def _some_of(left: Mapping[int, Counter[str]]) -> dict[int, Counter[str]]:
    batch: dict[int, Counter[str]] = {}
    commands = 0
    for tenant_id, counts in left.items():
        batch[tenant_id] = counts
        commands += len(counts)
        if commands >= AT_ONCE:
            break
    return batch


def latencies(url: str, tenant_id: int, *, hours: int) -> dict[str, Latency]:
    """By door, of the last hours and the running one. Raises redis.RedisError or OSError."""
    now = int(time.time() // 3_600)
    total: Counter[str] = Counter()
    with redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=1.0) as client:
        with client.pipeline(transaction=False) as pipe:
            for hour in range(now - hours, now + 1):
                pipe.hgetall(_KEY.format(tenant=tenant_id, hour=hour))
            for counts in pipe.execute():
                total.update({label.decode(): int(count) for label, count in counts.items()})
    return by_door(total)
