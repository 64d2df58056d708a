"""What an edge process has one of: hub, feeder, leases, admission, meter. Built in its loop on
first use.

Daphne runs no lifespan events, so there is no better moment. `configure` is called once at import
by the ASGI module.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from streaming.bus import keys
from streaming.bus.demand import EdgeLeases
from streaming.bus.feeder import Feeder
from streaming.bus.gap_reports import GapReporter
from streaming.bus.log_reader import LogReader
from streaming.bus.replayer import Replayer
from streaming.core.catalogue import Catalogue
from streaming.core.hub import Fanout, Hub
from streaming.sessions import OpenSession, SessionRegistry
from streaming.ws.close_codes import STALL_LIMIT_S
from streaming.ws.drain import Customer, let_go
from streaming.ws.following import Following
from tenants.admission.caps import Usage
from tenants.admission.control import AdmissionControl
from tenants.wire.cancellation import stop_if_cancelled

if TYPE_CHECKING:
    from streaming.ws.posts import Posts

log = structlog.get_logger(__name__)

SWEEP_S = 1.0
#: How often suspected holes are looked at, and how often the age of what is served.
TICK_S = 0.02
AGE_EVERY_TICKS = 5
#: What a job may take to end; what it holds ends with the process.
STOP_S = 2.0
CATALOGUE_S = 2.0
#: Blocks come every 70 ms; 2 s without one is a stall.
STALE_S = 2.0


def bus_client(url: str) -> redis.asyncio.Redis:
    """An edge's connections to the bus. What is sent over one that is found dead goes over a new
    one: after a restart of Redis all that were idle are dead, and each would fail somebody's
    resume. Doing it twice changes nothing of what an edge writes."""
    once_more = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    return redis.asyncio.from_url(
        url, socket_timeout=5.0, socket_connect_timeout=2.0, retry=once_more
    )


Job = Callable[[], Coroutine[Any, Any, None]]


class MeterPort(Protocol):
    """What the data path needs of the meter."""

    def slot(self, key_id: int, channel: str, coin: str = "", reason: str = "") -> int:
        """The slot that counts this key's deliveries on this channel, of this coin, that are free
        for this reason ("": they are not)."""

    def add(self, slot: int, messages: int, payload_bytes: int) -> None:
        """Count a delivery."""

    def add_each(self, slots: Mapping[Any, int], tally: Sequence[tuple[Any, int, int]]) -> None:
        """Count deliveries of one tick, by what they count as."""

    def add_requests(self, slot: int, requests: int) -> None:
        """Count HTTP requests."""

    def used_since(self) -> Iterable[Iterable[Usage]]:
        """What was counted since this was asked before, in pieces. On the loop's thread."""

    def mark(self, key_id: int, coin: str, minute: int) -> None:
        """The key followed the coin in this minute, counted from 1970."""


class Connection(OpenSession, Customer, Protocol):
    """An open connection of a customer, at whatever door."""

    mute_since_s: float | None
    """Since when it has asked for nothing; None once it has."""

    @property
    def stalled_since_s(self) -> float | None:
        """Since when the customer has taken nothing of what is on its way; None: nothing is."""

    def cut_slow(self) -> None:
        """End it, because they do not keep up."""

    def cut_mute(self, reason: str) -> None:
        """End it, because it asks for nothing."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a runtime is built from; called inside the process's event loop."""

    bus_url: str
    admission: Callable[[], AdmissionControl]
    meter: Callable[
        [], tuple[MeterPort, Callable[[], None]]
    ]  # the meter, and what stops it in good order
    posts: Callable[[Runtime], Posts] | None = None
    jobs: Callable[[Runtime], Mapping[str, Job]] = lambda runtime: {}
    """What those above keep running in this process, by name; begun anew when it fails."""
    drain: Callable[[Runtime], Awaitable[None]] | None = None
    """Waits for what must not be cut at a stop, which the jobs' end would do."""
    fanout: Fanout | None = None
    """Does what is plain of the fan-out faster."""
    mute_s: float = 60.0
    """How long a connection may send nothing after the handshake."""


class Runtime:
    """The process's singletons and the tasks that keep them alive."""

    def __init__(self, config: Config) -> None:
        self._mute_s = config.mute_s
        self._drain_too = config.drain
        self.edge = uuid.uuid4().hex[:12]
        self.redis = bus_client(config.bus_url)
        self.leases = EdgeLeases(
            client=self.redis, edge=self.edge, tenants=lambda name: self.hub.tenants(name)
        )
        self.replayer = Replayer(LogReader(self.redis))
        self.gap_reports = GapReporter(client=self.redis, edge=self.edge)
        self.hub = Hub(
            self.leases,
            replays=self.replayer,
            ledger=self.gap_reports,
            on_fault=_log_fault,
            fanout=config.fanout,
        )
        self.feeder = Feeder(url=config.bus_url, edge=self.edge, hub=self.hub)
        self.admission = config.admission()
        self.meter, self._stop_meter = config.meter()
        self.admission.allowances.meter = self.meter.used_since
        self.following = Following(self.meter)
        self.posts = config.posts(self) if config.posts else None
        self.connections: set[Connection] = set()
        self.sessions = SessionRegistry(
            client=self.redis, edge=self.edge, sessions=lambda: self.connections
        )
        self._catalogue = Catalogue()
        self.workers: dict[str, dict[str, Any]] = {}
        self.redis_ok_s = 0.0
        self.is_draining = False
        self._all_gone = asyncio.Event()  # set while draining alone
        self._tasks = [
            asyncio.ensure_future(self._forever(name, job))
            for name, job in (
                ("feeder", self.feeder.run),
                ("leases", self.leases.run),
                ("admission", self.admission.run),
                ("sweep", self._sweep),
                ("minutes", self._mark_minutes),
                ("tick", self._tick),
                ("replayer", self.replayer.run),
                ("gap_reports", self.gap_reports.run),
                ("sessions", self.sessions.run),
                ("catalogue", self._follow_catalogue),
                *config.jobs(self).items(),
            )
        ]

    def catalogue(self) -> Catalogue:
        """The names known upstream now."""
        return self._catalogue

    def info_urls(self) -> list[str]:
        """The `/info` of every upstream that a worker reads now, each once."""
        sources = (s for worker in self.workers.values() for s in worker["sources"].values())
        return list(dict.fromkeys(url for source in sources if (url := source.get("info_url"))))

    def staleness(self) -> str | None:
        """Why what we serve is not fresh, as one line for a readiness probe; None when it is."""
        if self.is_draining:
            return "draining"
        if not self.feeder.connected.is_set():
            return "the bus is not connected"
        return staleness_of(self.workers)

    def joined(self, connection: Connection) -> None:
        """A customer was let in."""
        self.connections.add(connection)
        self.sessions.changed(connection.session_id)
        if self.is_draining:  # its handshake had passed the door before
            asyncio.get_running_loop().call_soon(connection.go_away)

    def left(self, connection: Connection) -> None:
        """A customer's connection is over. May be called twice."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.sessions.changed(connection.session_id)
            if self.is_draining and not self.connections:
                self._all_gone.set()

    async def drain(self, within_s: float) -> None:
        """Take no new connections, and close those there are, spread over `within_s` seconds."""
        self.is_draining = True
        log.info("drain_began", connections=len(self.connections), within_s=within_s)
        if self.connections:
            await let_go(list(self.connections), within_s=within_s, all_gone=self._all_gone)
        if self._drain_too is not None:
            await self._drain_too(self)
        log.info("drain_ended", connections=len(self.connections))

    async def stop(self) -> None:
        """Give the leases back and let the meter write what it has."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=STOP_S)
        try:
            async with asyncio.timeout(1.0):
                await self.leases.close()
                await self.sessions.close()
        except (RedisError, OSError, TimeoutError) as error:
            stop_if_cancelled()
            log.warning("leases_not_returned", error=str(error))
        self._stop_meter()  # on the counting thread: nothing counts any more

    async def _forever(self, name: str, job: Job) -> None:
        """A job of ours must not end: log, wait, start again."""
        while True:
            try:
                await job()
            except Exception:
                stop_if_cancelled()
                log.exception("job_failed", job=name)
            await asyncio.sleep(0.5)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = time.monotonic()
            self.hub.sweep(now_s=now_s)
            self._cut_still(now_s=now_s)

    def _cut_still(self, *, now_s: float) -> None:
        # Not in the loop above: while it sleeps it would hold the last one, who may be gone.
        for connection in list(self.connections):
            since_s = connection.stalled_since_s
            if since_s is not None and now_s - since_s > STALL_LIMIT_S:
                connection.cut_slow()
                continue
            since_s = connection.mute_since_s
            if since_s is not None and now_s - since_s > self._mute_s:
                connection.cut_mute(f"nothing asked for within {self._mute_s:g} s")

    async def _mark_minutes(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.following.tick()

    async def _tick(self) -> None:
        """Holes and ages; everything else moves with what comes in."""
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            self.hub.tick(now_s=now_s)
            ticks += 1
            if ticks % AGE_EVERY_TICKS == 0:
                self.hub.check_age(now_s=now_s)

    async def _follow_catalogue(self) -> None:
        seen: bytes | str = b""
        while True:
            try:
                data = await self.redis.get(keys.CATALOGUE)
                if data and data != seen:
                    names = orjson.loads(data)
                    self._catalogue = Catalogue(
                        frozenset(names["coins"]), frozenset(names["dexes"])
                    )
                    seen = data
                await self._read_workers()
                self.redis_ok_s = time.monotonic()
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("catalogue_not_read", error=str(error))
            stop_if_cancelled()
            await asyncio.sleep(CATALOGUE_S if self._catalogue else 0.2)

    async def _read_workers(self) -> None:
        names = [_text(name) for name in await self.redis.smembers(keys.WORKERS)]
        states = (
            await self.redis.mget([keys.WORKER.format(worker=name) for name in names])
            if names
            else []
        )
        gone = [name for name, state in zip(names, states, strict=True) if not state]
        if gone:
            await self.redis.srem(keys.WORKERS, *gone)
        self.workers = {
            name: orjson.loads(state) for name, state in zip(names, states, strict=True) if state
        }


def _log_fault(what: str, error: Exception) -> None:
    log.error("tick_failed", what=what, exc_info=error)


def staleness_of(workers: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why nothing fresh comes from these workers, by their heartbeats; None when it does."""
    if not workers:
        return "no upstream worker"
    sources = [source for worker in workers.values() for source in worker["sources"].values()]
    if any(worker.get("stands_in") for worker in workers.values()):
        is_up = any(s.get("kind") == "public" and s.get("connections") for s in sources)
        return None if is_up else "no node writes blocks, and no public feed is connected"
    if not any(source.get("books_ready") for source in sources):
        return "books wait for a checkpoint"
    # A public source is silent while nobody subscribes; only a node writes a block every 70 ms.
    ages = [s["silent_s"] for s in sources if s.get("kind") == "node"]
    if ages and all(age is None or age > STALE_S for age in ages):
        return f"no node wrote a block for {STALE_S:g} s"
    return None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


_config: Config | None = None
_current: Runtime | None = None


def configure(config: Config) -> None:
    """Say what the process's runtime is built from."""
    global _config
    _config = config


def current() -> Runtime:
    """The process's runtime; built now when this is the first use. Must be called inside the
    loop."""
    global _current
    if _current is None:
        if _config is None:
            raise RuntimeError("streaming.runtime.configure was not called")
        _current = Runtime(_config)
    return _current


async def drain(within_s: float) -> None:
    """Let the process's customers go, if it was ever built; see `Runtime.drain`."""
    if _current is not None:
        await _current.drain(within_s)


async def stop() -> None:
    """Stop the process's runtime, if it was ever built."""
    global _current
    if _current is not None:
        stopping, _current = _current, None
        await stopping.stop()
