"""The upstream worker: sources → topics somebody wants → log and bus.

Everything between a node's line and the bus happens in one callback of the loop: no queue, no task
switch. All workers of a relay read all nodes and publish the same envelopes; what has no block
heights is run by the one that holds the lease (`owned`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import orjson
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from streaming.bus import keys
from streaming.bus.demand import LeaseBoard
from streaming.bus.lease import Lease
from streaming.bus.log import LogLimits, LogWriter
from streaming.bus.publisher import Publisher
from streaming.bus.rates import RateBook
from streaming.core.catalogue import NAMES_KEPT_S, Catalogue, Names
from streaming.core.envelope import ORIGIN, Envelope, Role
from streaming.core.topic import Topic, parse_name
from streaming.upstream.owned import OwnedSources, keep_source
from streaming.upstream.sources.base import Source, states_of
from streaming.upstream.sources.nodes import NodesSource
from streaming.upstream.standby import Standby
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

HEARTBEAT_S = 1.0
#: How often a topic without a source looks for one.
TEND_S = 0.25
RETRY_S = 0.2
#: A worker that has just begun says of nothing that it is not there: its sources are being read,
#: and the heartbeats of others may be a second old.
REFUSE_AFTER_S = 1.5
#: How long a topic stays wanted after its last lease: a customer who comes back within 120 s finds
#: the log of an event topic without a hole, also when the edge was killed.
EVENT_LINGER_S = 150.0
STATE_LINGER_S = 15.0
STOP_S = 0.5

UNSERVED = "No upstream serves this now"
SPENT = "The upstream's allowance is used up; this starts when there is room"


class Worker:
    """One process's sources and its end of the bus."""

    def __init__(
        self,
        *,
        nodes: NodesSource | None,
        build_owned: Callable[[], list[Source]],
        bus_url: str,
        log_limits: LogLimits | None = None,
        event_linger_s: float = EVENT_LINGER_S,
        state_linger_s: float = STATE_LINGER_S,
    ) -> None:
        """`build_owned` makes the sources that run in one worker only, anew each time it is us."""
        self.name = uuid.uuid4().hex[:12]
        self.epoch = ""
        self._nodes = nodes
        self._linger_s = {True: state_linger_s, False: event_linger_s}
        self._serving: dict[str, Source] = {}
        self._leaving: dict[str, float] = {}  # topics nobody leases: until when they are served
        self._unheard: set[tuple[str, str]] = set()  # (edge, topic) told nothing, for a peer may
        self._peers_ready = False
        self._refuses_from_s = float("inf")
        self._was_ready = False
        self._names = Names()
        self._standby = Standby()
        self._peers_tip = (0, 0)  # the best of their heights, and its time
        self._beat_now = asyncio.Event()
        self._not_understood: set[str] = set()
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
            on_tenants=self._shared,
            on_epoch=self._adopt,
        )
        self.log_writer = LogWriter(limits=log_limits)
        self.rates = RateBook(worker=self.name)
        self.publisher = Publisher(
            url=bus_url,
            worker=self.name,
            holders=self.board.holders,
            on_connect=self._prime_all,
            edges=lambda: self.board.edges,
            tip=lambda: nodes.tip if nodes is not None else (0, 0),
            heights=lambda: nodes.heights if nodes is not None else (),
            log_writer=self.log_writer,
        )
        self.owned = OwnedSources(
            Lease(self._redis, key=keys.PUBLIC_LEASE, holder=self.name),
            build=build_owned,
            publisher=lambda source: partial(self._publish, source),
            on_change=self._owned_changed,
            on_shed=self._prime_all,
        )

    def owned_changed(self) -> None:
        """What the owned sources are built from has changed."""
        self.owned.rebuild()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                if self._nodes is not None:
                    group.create_task(keep_source(self._nodes, self._publish_nodes))
                await self._begin()
                self._refuses_from_s = time.monotonic() + REFUSE_AFTER_S
                for job in (
                    self.publisher.run,
                    self.board.run,
                    self.owned.run,
                    self._beat,
                    self._tend,
                    self._keep_rates,
                ):
                    group.create_task(job())
        finally:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._leave()
            await self._redis.aclose()
            await self._bell.aclose()

    async def _begin(self) -> None:
        """Before the first envelope: the epoch, who else is there, and what the log holds."""
        while True:
            stop_if_cancelled()
            try:
                await self._tell()
                await self.log_writer.rebuild(self._redis)
                stop_if_cancelled()
                return
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("bus_unreachable", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _leave(self) -> None:
        await self._redis.delete(keys.WORKER.format(worker=self.name))
        await self._redis.srem(keys.WORKERS, self.name)

    # --- demand -----------------------------------------------------------------------------------

    def _want(self, edge: str, name: str) -> None:
        self._leaving.pop(name, None)
        topic = self._parse(name)
        if topic is None:
            return
        source = self._serving.get(name) or self._source_for(topic)
        if source is None:
            self._prime(edge, name, _nothing(name, UNSERVED))
        elif not source.want(topic, self.board.tenants(name)):
            self._prime(edge, name, _nothing(name, SPENT))
        else:
            self._serving[name] = source
            self._prime(edge, name, source.snapshot(topic), source)

    def _parse(self, name: str) -> Topic | None:
        try:
            return parse_name(name)
        except ValueError:
            # An edge of another version, in a rolling deploy.
            if name not in self._not_understood and len(self._not_understood) < 1000:
                self._not_understood.add(name)
                log.warning("lease_not_understood", topic=name[:100])
            return None

    def _source_for(self, topic: Topic) -> Source | None:
        nodes = self._nodes if self._nodes is not None and self._nodes.serves(topic) else None
        if nodes is not None and not self._standby.covers(topic):
            return nodes
        other = next((source for source in self.owned.sources if source.serves(topic)), None)
        # Where our own public feed lacks the coin, a stale answer is better than none. A worker
        # that owns no public feed leaves it to the one that does.
        return nodes if other is None and self.owned.is_owner else other

    def _prime(
        self, edge: str, name: str, snapshot: Envelope | None, source: Source | None = None
    ) -> None:
        is_refusal = snapshot is not None and snapshot.role is Role.NOT_READY
        if is_refusal and not self._may_refuse(source):
            self._unheard.add((edge, name))
            return
        self._unheard.discard((edge, name))
        self.publisher.prime(edge, name, snapshot)

    def _may_refuse(self, source: Source | None) -> bool:
        """Whether it is for us to say that there is nothing: one worker speaks for all. Of what
        nodes give not while another worker has books; nobody else runs what we own.
        """
        is_new = time.monotonic() < self._refuses_from_s
        is_ours = source is not None and source is not self._nodes
        return self.owned.is_owner and not is_new and (is_ours or not self._peers_ready)

    def _dropped(self, edge: str, name: str) -> None:
        self._unheard.discard((edge, name))
        self.publisher.forget(edge, name)

    def _retell(self) -> None:
        """Answer those who were told nothing, now that nobody else will."""
        unheard, self._unheard = self._unheard, set()
        for edge, name in unheard:
            if self._may_refuse(self._serving.get(name)):
                self._want(edge, name)
            else:
                self._unheard.add((edge, name))

    def _idle(self, name: str) -> None:
        if name in self._serving:
            is_state = parse_name(name).is_state
            self._leaving[name] = time.monotonic() + self._linger_s[is_state]

    def _shared(self, name: str) -> None:
        """Other tenants want a topic now than before: its place is counted for them."""
        source = self._serving.get(name)
        if source is not None:
            source.want(parse_name(name), self.board.tenants(name))

    def _prime_all(self) -> None:
        """After the bus was cut, or more was published than it could take: what is lost is not
        known, so everybody gets the state again."""
        for edge, leases in self.board.edges.items():
            for name in leases:
                self._want(edge, name)

    def _owned_changed(self, lost: list[Source]) -> None:
        for name in [name for name, source in self._serving.items() if source in lost]:
            del self._serving[name]
            self._leaving.pop(name, None)
        self._find_sources()
        self._retell()

    # --- what the sources give --------------------------------------------------------------------

    def _publish_nodes(self, envelopes: Iterable[Envelope]) -> None:
        if self.epoch:
            self._publish(self._nodes, envelopes)

    def _publish(self, source: Source | None, envelopes: Iterable[Envelope]) -> None:
        serving, may_refuse = self._serving, self._may_refuse(source)
        own = []
        for envelope in envelopes:
            if serving.get(envelope.topic) is not source:
                continue
            if envelope.role is Role.NOT_READY and not may_refuse:
                holders = self.board.holders(envelope.topic)
                self._unheard.update((edge, envelope.topic) for edge in holders)
                continue
            if envelope.role is Role.UPDATE:
                self.rates.add(envelope.topic, len(envelope.payload))
            own.append(envelope)
        if own:
            self.publisher.publish(own)

    # --- heartbeat --------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            try:
                await self._tell()
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("heartbeat_not_written", error=str(error))
            stop_if_cancelled()
            self.publisher.execute(self.log_writer.maintain(self._serving))
            self._move_to_better()
            self._retell()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._beat_now.wait()
            self._beat_now.clear()

    async def _tell(self) -> None:
        sources = [*([self._nodes] if self._nodes is not None else []), *self.owned.sources]
        now_s = time.time()
        for source in sources:
            self._names.note(source.name, source.catalogue, now_s=now_s)
        own = self._names.all(now_s=now_s)
        state = self._state(sources)
        # A new one each time: after a flush of Redis the old log is gone, and so is its epoch.
        fresh = f"n-{uuid.uuid4().hex[:12]}"
        async with self._redis.pipeline(transaction=True) as pipe:
            if own:
                pipe.hset(keys.CATALOGUES, self.name, _written(own, at_s=now_s))
            pipe.sadd(keys.WORKERS, self.name)
            pipe.set(
                keys.WORKER.format(worker=self.name),
                # Enums are strings to everybody but to this encoder.
                orjson.dumps(state, option=orjson.OPT_NON_STR_KEYS),
                ex=keys.WORKER_TTL_S,
            )
            pipe.smembers(keys.WORKERS)
            pipe.set(keys.EPOCH, fresh, nx=True)
            pipe.get(keys.EPOCH)
            pipe.hgetall(keys.CATALOGUES)
            *_, workers, is_fresh, epoch, catalogues = await pipe.execute()
        self._adopt(_text(epoch))
        if is_fresh:
            # The others must not go on in the old one until their next heartbeat.
            bell = {"edge": "", "want": {}, "drop": [], "epoch": fresh}
            await self._redis.publish(keys.DEMAND_CHANNEL, orjson.dumps(bell))
        await self._tell_names(catalogues, own)
        peers = {_text(worker) for worker in workers} - {self.name}
        await self._look_at_peers(peers, _Peer.of(state))

    async def _tell_names(self, catalogues: dict[bytes, bytes], own: Catalogue) -> None:
        """Write the catalogue: what all workers know, or one that knows less would take names away
        that another has, every other second."""
        now_s, together, gone = time.time(), own, []
        for worker, written in catalogues.items():
            catalogue, at_s = _read_names(written)
            if now_s - at_s > NAMES_KEPT_S:
                gone.append(worker)
            else:
                together |= catalogue
        if gone:
            await self._redis.hdel(keys.CATALOGUES, *gone)
        if together:
            await self._redis.set(keys.CATALOGUE, orjson.dumps(_names(together)))

    def _state(self, sources: list[Source]) -> dict[str, Any]:
        height, block_ns = self._nodes.tip if self._nodes is not None else (0, 0)
        states: dict[str, Any] = {}
        for source in sources:
            states |= states_of(source)
        return {
            "at_s": time.time(),
            "epoch": self.epoch,
            "tip_height": height,
            "tip_ns": block_ns,
            "owns_public": self.owned.is_owner,
            "stands_in": self._standby.is_out and self._standby.is_backed,
            "topics": len(self._serving),
            "lingering": len(self._leaving),
            "nodes": self._nodes.state() if self._nodes is not None else None,
            "log": self.log_writer.state(),
            "sources": states,
        }

    def _adopt(self, epoch: str) -> None:
        if epoch == self.epoch or not epoch.startswith("n-"):
            return
        if self.epoch:
            log.warning("epoch_changed", epoch=epoch, before=self.epoch)
        self.epoch = epoch
        if self._nodes is not None:
            self._nodes.set_epoch(epoch)

    async def _look_at_peers(self, peers: set[str], ours: _Peer) -> None:
        """Whether another worker has books: then what we lack is not for us to tell. And how far
        its nodes are, and whether it has a public feed."""
        states = (
            await self._redis.mget([keys.WORKER.format(worker=peer) for peer in sorted(peers)])
            if peers
            else []
        )
        read = [_Peer.read(state) for state in states if state]
        self._peers_ready = any(peer.has_books for peer in read)
        self._peers_tip = max((peer.tip for peer in read), default=(0, 0))
        self._standby.is_backed = any(peer.has_public for peer in (*read, ours))

    # --- tending ----------------------------------------------------------------------------------

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            if self._nodes is not None:
                self._look_at_nodes(self._nodes)
            self._find_sources()
            if self._nodes is not None and self._nodes.is_ready != self._was_ready:
                self._was_ready = not self._was_ready
                self._beat_now.set()  # the others go by it
            now_s = time.monotonic()
            for name in [name for name, at_s in self._leaving.items() if at_s <= now_s]:
                del self._leaving[name]
                source = self._serving.pop(name, None)
                if source is not None:
                    source.unwant(parse_name(name))

    def _look_at_nodes(self, nodes: NodesSource) -> None:
        """Leave their topics to the public feed while no worker's nodes give anything."""
        height, tip_ns = max(nodes.tip, self._peers_tip)
        is_other = self._standby.look(
            height=height,
            age_s=(time.time_ns() - tip_ns) / 1e9,
            books_ready=nodes.is_ready or self._peers_ready,
            now_s=time.monotonic(),
        )
        if is_other:
            out, books = self._standby.is_out, self._standby.are_books_out
            log.warning("nodes_judged", out=out, books_out=books, backed=self._standby.is_backed)
            self._move_to_better()

    def _find_sources(self) -> None:
        """A topic leased before its source knew its coins (or before the source was there) finds
        one later.
        """
        for edge, leases in self.board.edges.items():
            for name in [name for name in leases if name not in self._serving]:
                topic = self._parse(name)
                if topic is not None and self._source_for(topic) is not None:
                    self._want(edge, name)

    def _move_to_better(self) -> None:
        """What a better source can give by now is taken from the one that has it: nodes before what
        is polled, that before the public feeds. So is what its source can no longer give.
        """
        for name, source in list(self._serving.items()):
            topic = parse_name(name)
            best = self._source_for(topic)
            is_left_to_another = source is self._nodes and self._standby.covers(topic)
            if best is source or (best is None and not is_left_to_another):
                continue
            del self._serving[name]
            source.unwant(topic)
            for holder in list(self.board.holders(name)):
                self._want(holder, name)

    async def _keep_rates(self) -> None:
        await self.rates.run(self._redis, lambda: list(self._serving))


class _Peer(NamedTuple):
    """What a worker's heartbeat says to the others."""

    has_books: bool = False
    has_public: bool = False
    tip: tuple[int, int] = (0, 0)

    @classmethod
    def read(cls, state: bytes | str) -> _Peer:
        """Of a heartbeat as it is written; all is missing in one of another version."""
        try:
            return cls.of(orjson.loads(state))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
            return cls()

    @classmethod
    def of(cls, state: dict[str, Any]) -> _Peer:
        """Of a heartbeat's fields."""
        nodes, sources = state.get("nodes"), state["sources"].values()
        return cls(
            bool(nodes and nodes["books_ready"]),
            any(each.get("kind") == "public" and each.get("books_ready") for each in sources),
            (int(state["tip_height"]), int(state["tip_ns"])),
        )


def _written(catalogue: Catalogue, *, at_s: float) -> bytes:
    return orjson.dumps(_names(catalogue) | {"at_s": at_s})


def _names(catalogue: Catalogue) -> dict[str, Any]:
    return {"coins": sorted(catalogue.coins), "dexes": sorted(catalogue.dexes)}


def _read_names(written: bytes) -> tuple[Catalogue, float]:
    try:
        names = orjson.loads(written)
        return Catalogue(frozenset(names["coins"]), frozenset(names["dexes"])), names["at_s"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Catalogue(), 0.0  # of another version


def _nothing(name: str, why: str) -> Envelope:
    return Envelope(name, "", ORIGIN, ORIGIN, Role.NOT_READY, why.encode())


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
