"""Which topics somebody wants: leases written by the edges, read by the workers.

The hash in Redis is the truth and expires with its edge; the doorbell only makes it quick. A lost
doorbell costs at most `RECONCILE_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import orjson
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from streaming.bus import keys, metrics
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

REFRESH_S = 5.0
RECONCILE_S = 2.0
#: How long an edge whose leases are gone is still served: after a flush of Redis they are all gone,
#: and a live edge writes them again within `REFRESH_S`.
GONE_GRACE_S = REFRESH_S + 1.0
#: A hash without fields does not exist, and an edge that wants nothing must not look like a dead
#: one.
ALIVE_FIELD = "~"


class EdgeLeases:
    """The edge's side: implements `streaming.core.hub.Demand`. Calls are cheap and may come from
    the hub's loop."""

    def __init__(
        self,
        *,
        client: redis.asyncio.Redis,
        edge: str,
        tenants: Callable[[str], Iterable[int]] = lambda name: (),
    ) -> None:
        """`tenants` tells whose sessions follow a topic: they share what is scarce upstream."""
        self._client = client
        self._edge = edge
        self._key = keys.LEASES.format(edge=edge)
        self._tenants_key = keys.LEASE_TENANTS.format(edge=edge)
        self._tenants = tenants
        self._told: dict[str, str] = {}  # whose the leased topics are, as last written
        self._wanted: dict[str, int] = {}
        self._changed: dict[str, int | None] = {}
        self._asked = 0
        self._wake = asyncio.Event()

    def want(self, name: str) -> None:
        """Lease `name` and ask for its snapshot."""
        self._asked += 1
        self._wanted[name] = self._changed[name] = self._asked
        self._wake.set()

    def drop(self, name: str) -> None:
        """Give `name` back."""
        if self._wanted.pop(name, None) is not None:
            self._changed[name] = None
            self._wake.set()

    async def run(self) -> None:
        """Write changes at once and refresh the whole lease every few seconds, until cancelled."""
        loop = asyncio.get_running_loop()
        whole_at_s = loop.time() + REFRESH_S
        while True:
            if loop.time() >= whole_at_s:
                # Everything again, however busy it is: after a flush of Redis the hash is gone, and
                # nobody would tell.
                self._changed = {**self._wanted, **self._changed}
                whole_at_s = loop.time() + REFRESH_S
            try:
                await self._write()
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("leases_not_written", error=str(error))
                await asyncio.sleep(0.2)
                continue
            stop_if_cancelled()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(whole_at_s):
                    await self._wake.wait()

    async def _write(self) -> None:
        self._wake.clear()
        changed, self._changed = self._changed, {}
        owners = self._owners(changed)
        metrics.LEASED_TOPICS.set(len(self._wanted))
        try:
            async with self._client.pipeline(transaction=True) as pipe:
                leased = {name: asked for name, asked in changed.items() if asked is not None}
                dropped = [name for name, asked in changed.items() if asked is None]
                # How many there are, so that a hash that lost some shows it.
                fields: dict[Any, Any] = {ALIVE_FIELD: len(self._wanted), **leased}
                pipe.sadd(keys.EDGES, self._edge)
                pipe.hset(self._key, mapping=fields)
                if dropped:
                    pipe.hdel(self._key, *dropped)
                if owners:
                    pipe.hset(self._tenants_key, mapping=owners)
                if dropped:
                    pipe.hdel(self._tenants_key, *dropped)
                pipe.expire(self._key, keys.LEASE_TTL_S)
                pipe.expire(self._tenants_key, keys.LEASE_TTL_S)
                if changed:
                    bell = {
                        "edge": self._edge,
                        "want": leased,
                        "drop": dropped,
                        "tenants": owners,
                    }
                    pipe.publish(keys.DEMAND_CHANNEL, orjson.dumps(bell))
                await pipe.execute()
        except BaseException:
            self._changed = {**changed, **self._changed}
            raise

    def _owners(self, changed: Mapping[str, int | None]) -> dict[Any, Any]:
        """Whose the topics to be written are. One that lingers is still theirs who had it last. Who
        joins another's topic is told with the next refresh."""
        owners = {}
        for name, asked in changed.items():
            if asked is None:
                self._told.pop(name, None)
                continue
            ids = " ".join(map(str, self._tenants(name))) or self._told.get(name, "")
            if ids:
                owners[name] = self._told[name] = ids
        return owners

    async def close(self) -> None:
        """Give everything back at once."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(self._key, self._tenants_key)
            pipe.srem(keys.EDGES, self._edge)
            await pipe.execute()


class LeaseBoard:
    """The worker's side: the leases of all edges, with a callback for each new wish and each topic
    nobody wants now.

    `on_want(edge, name)` is called again whenever an edge asks for the snapshot again,
    `on_drop(edge, name)` when it gave the topic back or died, `on_idle(name)` when the last lease
    of a topic is gone, `on_tenants(name)` when a topic that is leased has become somebody else's.
    `on_epoch(epoch)`: another worker has just begun a new epoch of node data.
    """

    def __init__(
        self,
        *,
        client: redis.asyncio.Redis,
        bell: redis.asyncio.Redis,
        on_want: Callable[[str, str], None],
        on_drop: Callable[[str, str], None],
        on_idle: Callable[[str], None],
        on_tenants: Callable[[str], None] = lambda name: None,
        on_epoch: Callable[[str], None] = lambda epoch: None,
    ) -> None:
        self._client = client
        self._bell = bell  # waits as long as nothing is said; the client has a deadline
        self._on_want = on_want
        self._on_drop = on_drop
        self._on_idle = on_idle
        self._on_tenants = on_tenants
        self._on_epoch = on_epoch
        #: The leases by live edge: topic name → how often its snapshot was asked for.
        self.edges: dict[str, dict[str, int]] = {}
        self._holders: dict[str, set[str]] = {}
        self._missing_since_s: dict[str, float] = {}
        self._tenants: dict[str, dict[str, str]] = {}  # topic → edge → ids

    def tenants(self, name: str) -> frozenset[str]:
        """The tenants that follow `name`, as far as edges tell: opaque."""
        return frozenset(" ".join(self._tenants.get(name, {}).values()).split())

    def holders(self, name: str) -> set[str]:
        """Edges that lease `name`."""
        return self._holders.get(name, set())

    async def run(self) -> None:
        """Follow the leases until cancelled."""
        while True:
            try:
                await self._follow()
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("leases_not_read", error=str(error))
                await asyncio.sleep(0.2)

    async def _follow(self) -> None:
        async with self._bell.pubsub() as bell:
            await bell.subscribe(keys.DEMAND_CHANNEL)
            deadline_s = 0.0
            loop = asyncio.get_running_loop()
            while True:
                if loop.time() >= deadline_s:
                    await self._reconcile()
                    stop_if_cancelled()
                    deadline_s = loop.time() + RECONCILE_S
                message = await bell.get_message(
                    ignore_subscribe_messages=True, timeout=max(deadline_s - loop.time(), 0.001)
                )
                if message is not None:
                    self._ring(message["data"])

    def _ring(self, data: bytes) -> None:
        try:
            bell = orjson.loads(data)
            epoch, edge = bell.get("epoch"), bell["edge"]
            wanted, dropped = dict(bell["want"]), list(bell["drop"])
            asked_of = {str(name): int(asked) for name, asked in wanted.items()}
            owners = {str(name): str(ids) for name, ids in dict(bell.get("tenants", {})).items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            # Of another version; the leases themselves are read every two seconds.
            metrics.BUS_BAD_MESSAGES.inc()
            return
        if epoch:
            self._on_epoch(epoch)
        for name in dropped:
            self._drop(edge, name)
        for name, asked in asked_of.items():
            self._own(edge, name, owners.get(name, ""))
            self._want(edge, name, asked)

    async def _reconcile(self) -> None:
        members = [_text(edge) for edge in await self._client.smembers(keys.EDGES)]
        alive: dict[str, dict[str, int]] = {}
        owners: dict[str, dict[str, str]] = {}
        for edge in members:
            fields = await self._client.hgetall(keys.LEASES.format(edge=edge))
            if fields:
                alive[edge] = {_text(k): int(v) for k, v in fields.items()}
                ids = await self._client.hgetall(keys.LEASE_TENANTS.format(edge=edge))
                owners[edge] = {_text(k): _text(v) for k, v in ids.items()}
            else:
                await self._client.srem(keys.EDGES, edge)
        # Fewer than the edge says: Redis was emptied since. It writes them all within seconds.
        torn = {edge for edge, leases in alive.items() if leases.pop(ALIVE_FIELD, 0) > len(leases)}
        self._forget_the_gone(alive.keys() - torn)
        for edge, leases in alive.items():
            self.edges.setdefault(edge, {})
            if edge not in torn:
                for name in [name for name in self.edges[edge] if name not in leases]:
                    self._drop(edge, name)
            for name, asked in leases.items():
                self._own(edge, name, owners[edge].get(name, ""))
                self._want(edge, name, asked)
        metrics.LEASED_TOPICS.set(len(self._holders))

    def _forget_the_gone(self, alive: Container[str]) -> None:
        now_s = asyncio.get_running_loop().time()
        for edge in list(self.edges):
            if edge in alive:
                self._missing_since_s.pop(edge, None)
                continue
            if now_s - self._missing_since_s.setdefault(edge, now_s) < GONE_GRACE_S:
                continue
            log.info("edge_gone", edge=edge, topics=len(self.edges[edge]))
            for name in list(self.edges[edge]):
                self._drop(edge, name)
            del self.edges[edge], self._missing_since_s[edge]

    def _own(self, edge: str, name: str, ids: str) -> None:
        """Note whose a topic is, before it is wanted. An edge of an older version tells nothing."""
        of_edges = self._tenants.get(name, {})
        if not ids or of_edges.get(edge) == ids:
            return
        before = self.tenants(name)
        self._tenants.setdefault(name, {})[edge] = ids
        if name in self._holders and self.tenants(name) != before:
            self._on_tenants(name)

    def _want(self, edge: str, name: str, asked: int) -> None:
        leases = self.edges.setdefault(edge, {})
        if leases.get(name, 0) < asked:
            leases[name] = asked
            self._holders.setdefault(name, set()).add(edge)
            self._on_want(edge, name)

    def _drop(self, edge: str, name: str) -> None:
        if self.edges.get(edge, {}).pop(name, None) is None:
            return
        self._on_drop(edge, name)
        holders = self._holders[name]
        holders.discard(edge)
        if not holders:
            del self._holders[name]
        is_other = self._disown(edge, name)
        if not holders:
            self._on_idle(name)
        elif is_other:
            self._on_tenants(name)

    def _disown(self, edge: str, name: str) -> bool:
        """Forget whose a topic is at an edge; whether that leaves other tenants than before."""
        of_edges = self._tenants.get(name, {})
        before = self.tenants(name)
        of_edges.pop(edge, None)
        if not of_edges:
            self._tenants.pop(name, None)
        return self.tenants(name) != before


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
