"""The only reader of the bus in an edge process: Redis pub/sub → hub, all messages of one read in
one flush."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Any

import msgspec
import structlog

from streaming.bus import keys, metrics, resp
from streaming.core import envelope as wire
from streaming.core.hub import Hub
from streaming.turns import put_first

log = structlog.get_logger(__name__)

PING_EVERY_S = 5.0
SILENCE_LIMIT_S = 15.0
RETRY_MIN_S, RETRY_MAX_S = 0.05, 1.0


class Feeder:
    """Keeps one subscription to this edge's channel alive and feeds the hub from it."""

    def __init__(self, *, url: str, edge: str, hub: Hub) -> None:
        self._url = url
        self._channel = keys.BUS_CHANNEL.format(edge=edge)
        self._hub = hub
        self._heard_at_s = 0.0
        self._loop = asyncio.get_running_loop()
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Read until cancelled; reconnects with jitter, and asks for every snapshot again after a
        cut."""
        retry_s = RETRY_MIN_S
        while True:
            try:
                await self._read()
                retry_s = RETRY_MIN_S
            except (OSError, TimeoutError) as error:
                log.warning("bus_unreachable", error=str(error))
            finally:
                self.connected.clear()
            metrics.BUS_RECONNECTS.inc()
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.5))  # noqa: S311
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    async def _read(self) -> None:
        connection = await resp.connect(
            self._url, on_reply=self._on_reply, on_burst_end=self._on_burst_end
        )
        put_first(self._loop, connection.fileno())
        try:
            connection.send("SUBSCRIBE", self._channel)
            self._heard_at_s = self._loop.time()
            while not connection.closed.done():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_EVERY_S):
                        await asyncio.shield(connection.closed)
                connection.send("PING")
                # Half-open: the peer is gone and nobody said so.
                if self._loop.time() - self._heard_at_s > SILENCE_LIMIT_S:
                    log.warning("bus_silent", seconds=SILENCE_LIMIT_S)
                    return
        finally:
            connection.close()

    def _on_reply(self, reply: Any) -> None:
        self._heard_at_s = self._loop.time()
        if not isinstance(reply, list):
            if isinstance(reply, Exception):
                log.error("bus_error", error=str(reply))
            return
        if reply[0] == b"message":
            self._take(reply[2])
        elif reply[0] == b"subscribe":
            self.connected.set()
            self._hub.resync()

    def _take(self, data: bytes) -> None:
        try:
            message = wire.decode(data)
        except (wire.UnknownVersion, msgspec.DecodeError, UnicodeDecodeError) as error:
            metrics.BUS_BAD_MESSAGES.inc()
            log.error("bus_bad_message", error=str(error))
            return
        metrics.BUS_MESSAGES.inc()
        hub, worker = self._hub, message.worker
        hub.heard(
            worker,
            tip_height=message.tip_height,
            tip_ns=message.tip_ns,
            now_s=self._heard_at_s,
            now_ns=time.time_ns(),
            heights=message.heights,
        )
        publish = hub.publish
        for envelope in message.envelopes:
            try:
                publish(envelope, worker)
            except Exception:
                # One topic's fault must not cost the others theirs, nor the process its bus.
                metrics.BUS_BAD_ENVELOPES.inc()
                log.exception("envelope_failed", topic=envelope.topic)

    def _on_burst_end(self) -> None:
        self._hub.flush()
