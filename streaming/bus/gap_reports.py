"""What could not be delivered, on its way to the gap ledger: edges and workers leave their reports
in a stream in Redis, a task moves them into the database.

Reporting never waits: reports are kept here until Redis takes them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from streaming.bus import keys, metrics
from streaming.bus.log import NODE_EPOCH_PREFIX
from streaming.core.envelope import Position
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: Where places are block heights, whatever the epoch.
NODE_SOURCE = "node"
#: Reports kept while Redis is away, and in Redis while nobody reads them.
MAX_WAITING = 10_000
MAX_IN_REDIS = 100_000
REPORTS_PER_WRITE = 500
RETRY_S = 1.0


class GapReport(msgspec.Struct, frozen=True):
    """Everything of `topic` in (`begin`, `end`] is lost, or was filled since.

    `source` is `NODE_SOURCE`, or the epoch of a public link. `edge` is the process whose customers
    missed it, "" when a worker lost it for all.
    """

    topic: str
    source: str
    begin: Position
    end: Position
    reason: str
    at_ms: int
    edge: str = ""
    is_filled: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(GapReport)


def decode(data: bytes) -> GapReport:
    """The report in a stream entry's field `d`. Raises msgspec.DecodeError or UnicodeDecodeError
    for what is not ours."""
    return _decoder.decode(data)


class GapReporter:
    """One process's end of the letterbox."""

    def __init__(
        self,
        *,
        client: redis.asyncio.Redis,
        edge: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._edge = edge
        self._clock = clock
        self._waiting: deque[GapReport] = deque()
        self._wake = asyncio.Event()

    def report(
        self,
        *,
        topic: str,
        epoch: str,
        begin: Position,
        end: Position,
        reason: str,
        is_filled: bool = False,
    ) -> None:
        """Say that (`begin`, `end`] of the topic was lost, or filled."""
        if len(self._waiting) >= MAX_WAITING:
            metrics.GAP_REPORTS_SHED.inc()
            return
        source = NODE_SOURCE if epoch.startswith(NODE_EPOCH_PREFIX) else epoch
        at_ms = int(self._clock() * 1000)
        self._waiting.append(
            GapReport(topic, source, begin, end, reason, at_ms, self._edge, is_filled)
        )
        self._wake.set()

    async def run(self) -> None:
        """Write reports as they come, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write()
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("gaps_not_reported", error=str(error), waiting=len(self._waiting))
                await asyncio.sleep(RETRY_S)
                self._wake.set()
            stop_if_cancelled()

    async def _write(self) -> None:
        """Hand over what waits; what Redis does not take stays. Raises RedisError or OSError."""
        while self._waiting:
            reports = [self._waiting[i] for i in range(min(len(self._waiting), REPORTS_PER_WRITE))]
            async with self._client.pipeline(transaction=True) as pipe:
                for report in reports:
                    fields: dict[Any, Any] = {"d": _encoder.encode(report)}
                    pipe.xadd(keys.GAPS, fields, maxlen=MAX_IN_REDIS)
                await pipe.execute()
            for _ in reports:
                self._waiting.popleft()
