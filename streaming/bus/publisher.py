"""The worker's way onto the bus: one message per edge and wake-up, holding only what that edge
leases."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import structlog

from streaming.bus import keys, metrics, resp
from streaming.core import envelope as wire
from streaming.core.envelope import BusMessage, Envelope, Role, Times

log = structlog.get_logger(__name__)

PING_EVERY_S = 5.0
SILENCE_LIMIT_S = 15.0

#: Unsent bytes at which messages are dropped rather than kept: Redis is stuck, and what waits is
#: stale. The edges see the hole by position and ask for snapshots. 64 MiB holds three BTC l4Book
#: snapshots.
MAX_UNSENT_BYTES = 64 * 1024 * 1024


class Publisher:
    """Publishes envelopes to the edges that lease their topics."""

    def __init__(
        self,
        *,
        url: str,
        worker: str,
        holders: Callable[[str], set[str]],
        on_connect: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._worker = worker
        self._holders = holders
        self._on_connect = on_connect
        self._connection: resp.RespConnection | None = None
        self._heard_at_s = 0.0
        # (edge, topic) pairs that have not been given a first frame: their next update goes out as
        # the snapshot.
        self._unprimed: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        retry_s = 0.05
        while True:
            try:
                self._connection = await resp.connect(self._url, on_reply=self._on_reply)
                retry_s = 0.05
                self._on_connect()
                await self._watch(self._connection)
            except (OSError, TimeoutError) as error:
                log.warning("bus_unreachable", error=str(error))
            finally:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
            metrics.BUS_RECONNECTS.inc()
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.5))  # noqa: S311
            retry_s = min(retry_s * 2, 1.0)

    async def _watch(self, connection: resp.RespConnection) -> None:
        """Until the connection ends, or nothing is heard on it: half-open, and nobody said so."""
        loop = asyncio.get_running_loop()
        self._heard_at_s = loop.time()
        while not connection.closed.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(connection.closed), PING_EVERY_S)
            connection.send("PING")
            if loop.time() - self._heard_at_s > SILENCE_LIMIT_S:
                log.warning("bus_silent", seconds=SILENCE_LIMIT_S)
                return

    def prime(self, edge: str, name: str, snapshot: Envelope | None) -> None:
        """Answer an edge's wish: the snapshot when there is one, else the topic's next update in
        its place."""
        if snapshot is None:
            self._unprimed.add((edge, name))
            return
        if snapshot.role is Role.SNAPSHOT:
            self._unprimed.discard((edge, name))
        self._send(edge, [snapshot])

    def publish(self, envelopes: Iterable[Envelope]) -> None:
        """Send each envelope to every edge that leases its topic, one message per edge, order
        kept."""
        out_ns = time.time_ns()
        by_edge: dict[str, list[Envelope]] = {}
        for envelope in envelopes:
            for edge in self._holders(envelope.topic):
                by_edge.setdefault(edge, []).append(self._addressed(edge, envelope, out_ns))
        for edge, own in by_edge.items():
            self._send(edge, own)

    def forget(self, edge: str, name: str) -> None:
        """The edge gave the topic back."""
        self._unprimed.discard((edge, name))

    def _addressed(self, edge: str, envelope: Envelope, out_ns: int) -> Envelope:
        role = envelope.role
        if (
            self._unprimed
            and (edge, envelope.topic) in self._unprimed
            and role is not Role.NOT_READY
        ):
            self._unprimed.discard((edge, envelope.topic))
            role = Role.SNAPSHOT
        times = envelope.times
        return msgspec.structs.replace(
            envelope, role=role, times=Times(times.block_ns, times.node_ns, times.in_ns, out_ns)
        )

    def _send(self, edge: str, envelopes: list[Envelope]) -> None:
        connection = self._connection
        if connection is None or connection.unsent_bytes > MAX_UNSENT_BYTES:
            metrics.BUS_SHED.inc()
            return
        data = wire.encode(BusMessage(wire.VERSION, self._worker, envelopes))
        connection.send("PUBLISH", keys.BUS_CHANNEL.format(edge=edge), data)
        metrics.BUS_PUBLISHED.inc()
        metrics.BUS_PUBLISHED_BYTES.inc(len(data))

    def _on_reply(self, reply: Any) -> None:
        self._heard_at_s = asyncio.get_running_loop().time()
        if isinstance(reply, Exception):
            log.error("bus_error", error=str(reply))
