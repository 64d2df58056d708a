"""The upstream worker: sources → topics somebody wants → bus.

Everything between a node's line and the bus happens in one callback of the loop: no queue, no task
switch.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import orjson
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from streaming.bus import keys
from streaming.bus.demand import LeaseBoard
from streaming.bus.lease import Lease
from streaming.bus.publisher import Publisher
from streaming.core.envelope import ORIGIN, Envelope, Role
from streaming.core.topic import Topic, parse_name
from streaming.upstream.links import LocalNode
from streaming.upstream.sources.base import Source, states_of
from streaming.upstream.sources.nodes import NodesSource
from streaming.upstream.sources.public import PublicSource
from streaming.upstream.spec import UpstreamKind, UpstreamSpec
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

HEARTBEAT_S = 1.0
RESTART_S = 1.0


def build_sources(specs: list[UpstreamSpec], *, scratch: Path) -> list[Source]:
    """All nodes as one source, then one for each public feed: nodes serve everything per block."""
    nodes = {
        f"node{number}": spec
        for number, spec in enumerate(spec for spec in specs if spec.kind is UpstreamKind.NODE)
    }
    links = [LocalNode(spec, name=name, scratch=scratch) for name, spec in nodes.items()]
    weights = {name: spec.weight for name, spec in nodes.items()}
    sources: list[Source] = [NodesSource(links, weights=weights)] if links else []
    public = [spec for spec in specs if spec.kind is not UpstreamKind.NODE]
    return sources + [PublicSource(spec, name=f"public{n}") for n, spec in enumerate(public)]


class Worker:
    """One process's sources and its end of the bus."""

    def __init__(self, *, sources: list[Source], bus_url: str) -> None:
        self.name = uuid.uuid4().hex[:12]
        self._sources = sources
        self._serving: dict[str, Source] = {}
        self._redis = redis.asyncio.from_url(
            bus_url, socket_timeout=5.0, socket_connect_timeout=2.0
        )
        # A pub/sub connection waits as long as nothing is said.
        self._bell = redis.asyncio.from_url(bus_url, socket_timeout=None)
        self.board = LeaseBoard(
            client=self._redis,
            bell=self._bell,
            on_want=self._want,
            on_drop=self._dropped,
            on_idle=self._idle,
        )
        self.publisher = Publisher(
            url=bus_url, worker=self.name, holders=self.board.holders, on_connect=self._prime_all
        )
        self._not_understood: set[str] = set()

    async def run(self) -> None:
        """Stand by until no other worker publishes, then work until cancelled.

        Two at once would publish the same topics in two epochs. Raises LeaseLost (in a group) when
        another worker took over; sources do not run twice, so the process must start again.
        """
        lease = Lease(self._redis, key=keys.PUBLISHER_LEASE, holder=self.name)
        await lease.acquire()
        try:
            await self._work(lease)
        finally:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await asyncio.wait_for(lease.release(), 0.5)

    async def _work(self, lease: Lease) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(lease.keep())
            group.create_task(self.publisher.run())
            group.create_task(self.board.run())
            group.create_task(self._beat())
            for source in self._sources:
                group.create_task(self._keep(source))

    async def _keep(self, source: Source) -> None:
        """A source that fails is started again; the others carry on."""
        while True:
            try:
                await source.run(lambda envelopes: self._publish(source, envelopes))
            except Exception:
                log.exception("source_failed", source=source.name)
            await asyncio.sleep(RESTART_S)

    # --- demand ---

    def _want(self, edge: str, name: str) -> None:
        try:
            topic = parse_name(name)
        except ValueError:
            # An edge of another version, in a rolling deploy.
            if name not in self._not_understood:
                self._not_understood.add(name)
                log.warning("lease_not_understood", topic=name[:100])
            return
        source = self._serving.get(name) or self._source_for(topic)
        if source is None:
            self.publisher.prime(edge, name, _nothing(name, "No upstream serves this now"))
            return
        if not source.want(topic):
            why = "The upstream's allowance is used up; this starts when there is room"
            self.publisher.prime(edge, name, _nothing(name, why))
            return
        self._serving[name] = source
        self.publisher.prime(edge, name, source.snapshot(topic))

    def _source_for(self, topic: Topic) -> Source | None:
        return next((source for source in self._sources if source.serves(topic)), None)

    def _dropped(self, edge: str, name: str) -> None:
        self.publisher.forget(edge, name)

    def _idle(self, name: str) -> None:
        source = self._serving.pop(name, None)
        if source is not None:
            source.unwant(parse_name(name))

    def _prime_all(self) -> None:
        """After the bus was cut: whatever was published meanwhile is lost, so everybody gets the
        state again."""
        for edge, leases in self.board.edges.items():
            for name in leases:
                self._want(edge, name)

    def _publish(self, source: Source, envelopes: Iterable[Envelope]) -> None:
        serving = self._serving
        self.publisher.publish([e for e in envelopes if serving.get(e.topic) is source])

    # --- heartbeat ---

    async def _beat(self) -> None:
        while True:
            try:
                await self._tell()
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("heartbeat_not_written", error=str(error))
            self._serve_the_unserved()
            stop_if_cancelled()
            await asyncio.sleep(HEARTBEAT_S)

    async def _tell(self) -> None:
        coins: set[str] = set()
        dexes: set[str] = set()
        for source in self._sources:
            coins |= source.catalogue.coins
            dexes |= source.catalogue.dexes
        catalogue = orjson.dumps({"coins": sorted(coins), "dexes": sorted(dexes)})
        state = {
            "at_s": time.time(),
            "topics": len(self._serving),
            "sources": {
                name: state for source in self._sources for name, state in states_of(source).items()
            },
        }
        async with self._redis.pipeline(transaction=True) as pipe:
            if coins:
                pipe.set(keys.CATALOGUE, catalogue)
            pipe.sadd(keys.WORKERS, self.name)
            pipe.set(
                keys.WORKER.format(worker=self.name), orjson.dumps(state), ex=keys.WORKER_TTL_S
            )
            await pipe.execute()

    def _serve_the_unserved(self) -> None:
        """A topic leased before its source knew its coins (or before the source was there) finds
        one later."""
        for edge, leases in self.board.edges.items():
            for name in leases:
                if name not in self._serving:
                    self._want(edge, name)


def _nothing(name: str, why: str) -> Envelope:
    return Envelope(name, "", ORIGIN, ORIGIN, Role.NOT_READY, why.encode())
