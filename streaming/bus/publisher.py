"""The worker's way onto the bus: one message per edge and wake-up, holding only what that edge
leases.

What belongs into the replay log is appended before it is published, on the same connection and in
the same write, so whoever sees an envelope on the bus finds it in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

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
#: After some was shed all states are told again, once what waited has left and at most this often:
#: told sooner they would fill it up again, and be shed for ever.
TELL_AGAIN_S = 1.0
#: An edge that got nothing for this long is told the tip: it must be able to tell a quiet topic
#: from a dead worker.
QUIET_S = 0.1
TICK_S = QUIET_S / 2
#: Different errors of Redis logged in a process's life; all are counted.
MAX_ERRORS_TOLD = 50
#: What Redis answers to a log entry that the other worker has written already.
_REPEATED = "The ID specified in XADD is equal or smaller"

Command = tuple[bytes | str | int, ...]


class Log(Protocol):
    """The replay log, as far as the publisher knows it."""

    def append(self, envelopes: Sequence[Envelope]) -> list[Command]:
        """The Redis commands that log what of `envelopes` is to be logged."""


class Publisher:
    """Publishes envelopes to the edges that lease their topics."""

    def __init__(
        self,
        *,
        url: str,
        worker: str,
        holders: Callable[[str], set[str]],
        on_connect: Callable[[], None] = lambda: None,
        edges: Callable[[], Iterable[str]] = tuple,
        tip: Callable[[], tuple[int, int]] = lambda: (0, 0),
        heights: Callable[[], tuple[int, ...]] = tuple,
        log_writer: Log | None = None,
    ) -> None:
        """`on_connect` is called when everybody must be told the state again: on a new connection,
        and when what waited has left after some was shed. `holders` gives the edges that lease a
        topic, `edges` all that live; `tip` the highest block taken in and its own time (ns), (0, 0)
        without a node; `heights` the highest of each kind of file.
        """
        self._url = url
        self._worker = worker
        self._holders = holders
        self._on_connect = on_connect
        self._edges, self._tip, self._heights, self._log = edges, tip, heights, log_writer
        self._sent_at_s: dict[str, float] = {}
        self._errors: set[str] = set()
        self._connection: resp.RespConnection | None = None
        self._heard_at_s = 0.0
        # (edge, topic) pairs that have not been given a first frame: their next update goes out as
        # the snapshot.
        self._unprimed: set[tuple[str, str]] = set()
        self._is_shed = False
        self._tell_again_s = 0.0

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        retry_s = 0.05
        while True:
            try:
                self._connection = await resp.connect(self._url, on_reply=self._on_reply)
                retry_s, self._is_shed = 0.05, False
                self._on_connect()
                await self._serve(self._connection)
            except (OSError, TimeoutError) as error:
                log.warning("bus_unreachable", error=str(error))
            finally:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
            metrics.BUS_RECONNECTS.inc()
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.5))  # noqa: S311
            retry_s = min(retry_s * 2, 1.0)

    async def _serve(self, connection: resp.RespConnection) -> None:
        """Until the connection is over. Raises what keeps us from telling that we live: in silence
        every edge would take us for dead."""
        jobs = [asyncio.ensure_future(job) for job in (self._watch(connection), self._tell_tips())]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _watch(self, connection: resp.RespConnection) -> None:
        """Until the connection ends, or nothing is heard on it: half-open, and nobody said so."""
        loop = asyncio.get_running_loop()
        self._heard_at_s = loop.time()
        while not connection.closed.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY_S):
                    await asyncio.shield(connection.closed)
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
        """Log the envelopes, and send each to every edge that leases its topic: one message per
        edge, order kept."""
        out_ns = time.time_ns()
        stamped = [_stamped(envelope, out_ns) for envelope in envelopes]
        by_edge: dict[str, list[Envelope]] = {}
        for envelope in stamped:
            for edge in self._holders(envelope.topic):
                by_edge.setdefault(edge, []).append(self._addressed(edge, envelope))
        if not stamped or not self._is_open():
            return
        commands = self._log.append(stamped) if self._log is not None else []
        commands += [self._message(edge, own) for edge, own in by_edge.items()]
        if commands and self._connection is not None:
            self._connection.send_all(commands)

    def execute(self, commands: Sequence[Command]) -> None:
        """Send other commands on the same connection, in order with what is published."""
        if commands and self._connection is not None and self._is_open():
            self._connection.send_all(commands)

    def forget(self, edge: str, name: str) -> None:
        """The edge gave the topic back."""
        self._unprimed.discard((edge, name))

    def _addressed(self, edge: str, envelope: Envelope) -> Envelope:
        if (
            not self._unprimed
            or envelope.role is not Role.UPDATE
            or (edge, envelope.topic) not in self._unprimed
        ):
            return envelope
        self._unprimed.discard((edge, envelope.topic))
        return msgspec.structs.replace(envelope, role=Role.SNAPSHOT)

    def _send(self, edge: str, envelopes: list[Envelope]) -> None:
        if self._connection is not None and self._is_open():
            self._connection.send(*self._message(edge, envelopes))

    def _is_open(self) -> bool:
        connection = self._connection
        if connection is not None and connection.unsent_bytes <= MAX_UNSENT_BYTES:
            return True
        metrics.BUS_SHED.inc()
        self._is_shed = connection is not None  # a new one tells everything again anyway
        return False

    def _has_drained(self) -> bool:
        connection = self._connection
        return connection is not None and connection.unsent_bytes <= MAX_UNSENT_BYTES // 16

    def _message(self, edge: str, envelopes: list[Envelope]) -> Command:
        height, block_ns = self._tip()
        data = wire.encode(
            BusMessage(wire.VERSION, self._worker, envelopes, height, block_ns, self._heights())
        )
        self._sent_at_s[edge] = time.monotonic()
        metrics.BUS_PUBLISHED.inc()
        metrics.BUS_PUBLISHED_BYTES.inc(len(data))
        return ("PUBLISH", keys.BUS_CHANNEL.format(edge=edge), data)

    async def _tell_tips(self) -> None:
        """Give every edge that has heard nothing a sign of life."""
        while True:
            now_s = time.monotonic()
            if self._is_shed and self._has_drained() and now_s >= self._tell_again_s:
                # A hole in events shows by its places; the last state of a quiet topic would not.
                self._is_shed, self._tell_again_s = False, now_s + TELL_AGAIN_S
                self._on_connect()
            edges = set(self._edges())
            for edge in edges:
                if now_s - self._sent_at_s.get(edge, 0.0) >= QUIET_S:
                    self._send(edge, [])
            for gone in self._sent_at_s.keys() - edges:
                del self._sent_at_s[gone]
            await asyncio.sleep(TICK_S)

    def _on_reply(self, reply: Any) -> None:
        self._heard_at_s = asyncio.get_running_loop().time()
        if isinstance(reply, Exception):
            text = str(reply)
            if _REPEATED in text:
                metrics.LOG_REPEATED.inc()
                return
            metrics.BUS_ERRORS.inc()
            if text[:60] not in self._errors and len(self._errors) < MAX_ERRORS_TOLD:
                self._errors.add(text[:60])
                log.error("bus_error", error=text)


def _stamped(envelope: Envelope, out_ns: int) -> Envelope:
    times = envelope.times
    stamped = Times(times.block_ns, times.node_ns, times.in_ns, out_ns)
    return msgspec.structs.replace(envelope, times=stamped)
