"""What is new from the exchange, told to an operator once in the life of a relay.

Workers find the same at the same time, and again after each start and takeover: who is the first to
write it down in Redis tells it.
"""

from __future__ import annotations

import asyncio
import time

import orjson
import redis.asyncio
import structlog
from redis.exceptions import DataError, RedisError

from streaming.bus import keys
from streaming.core.schema_sentinel import Finding
from streaming.upstream import metrics
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

RETRY_S = 1.0
#: An upstream that makes up names must fill neither Redis nor the page.
MAX_TOLD = 1_000


class SchemaAlerts:
    """`add` may be called at any time; `run` tells, and waits while Redis is away."""

    def __init__(self, bus_url: str) -> None:
        self._bus_url = bus_url
        self._waiting: dict[str, tuple[str, Finding]] = {}
        self._known: set[str] = set()
        self._came = asyncio.Event()
        self._has_failed = False

    def add(self, source: str, finding: Finding) -> None:
        """Something is new."""
        if finding.key not in self._known and len(self._known) < MAX_TOLD:
            self._known.add(finding.key)
            self._waiting[finding.key] = source, finding
            self._came.set()

    async def run(self) -> None:
        """Tell what is new until cancelled. What cannot be told is dropped: the worker lives on."""
        client = redis.asyncio.from_url(
            self._bus_url, socket_timeout=5.0, socket_connect_timeout=2.0
        )
        try:
            while True:
                await self._came.wait()
                try:
                    await self._tell_one(client)
                except (RedisError, OSError):
                    await asyncio.sleep(RETRY_S)
                stop_if_cancelled()
        finally:
            await client.aclose()

    async def _tell_one(self, client: redis.asyncio.Redis) -> None:
        key, (source, finding) = next(iter(self._waiting.items()))
        try:
            await self._tell(client, key, source, finding)
        except DataError:
            self._fail(source)
        except (RedisError, OSError):
            raise
        except Exception:  # nobody foresaw it, and it would be the same the next time
            self._fail(source)
        del self._waiting[key]
        if not self._waiting:
            self._came.clear()

    def _fail(self, source: str) -> None:
        metrics.SCHEMA_FAILURES.labels(source).inc()
        if not self._has_failed:
            self._has_failed = True
            log.exception("schema_alert_failed", source=source)

    async def _tell(
        self, client: redis.asyncio.Redis, key: str, source: str, finding: Finding
    ) -> None:
        told = {
            "at_s": time.time(),
            "source": source,
            "change": finding.change,
            "channel": finding.channel,
            "detail": finding.detail,
        }
        if await client.hlen(keys.SCHEMA_ALERTS) < MAX_TOLD and await client.hsetnx(
            keys.SCHEMA_ALERTS, key, orjson.dumps(told)
        ):
            metrics.SCHEMA_FINDINGS.labels(source, finding.change).inc()
            log.warning(
                "upstream_schema_changed",
                source=source,
                change=str(finding.change),
                channel=finding.channel,
                detail=finding.detail,
            )
