"""Key digest → principal: this process's cache, then Redis, then the database.

Each layer covers for the one behind it: with Redis down the database is asked; with the database
down, known keys are answered from Redis or from this process's memory, and unknown ones with
Unavailable.

An answer of the database is believed for `TTL_S`, whichever way it came here: this process keeps
what it got from Redis for the rest of that time only. Durations are of this process's monotonic
clock and of Redis's own, so no host's wall clock is asked.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog
from asgiref.sync import sync_to_async

from tenants import metrics
from tenants.admission.errors import Unavailable
from tenants.admission.principal import Principal
from tenants.admission.store import FRESH_S, Entry, Found

log = structlog.get_logger(__name__)

TTL_S = float(FRESH_S)
NEGATIVE_TTL_S = 5.0
#: About 1 KB each. The bound holds against floods of invented keys; the least recently used goes
#: first.
MAX_ENTRIES = 50_000
#: Above SQLite's and MySQL's usual lock waits in a healthy system, below a client's handshake
#: timeout.
DATABASE_DEADLINE_S = 2.0
#: After Redis failed, it is left alone this long, so a hanging one slows one handshake, not each.
STORE_PAUSE_S = 1.0

#: Asks the database; runs in a thread. A digest missing from the answer opens nothing.
Load = Callable[[Collection[str]], Mapping[str, Principal]]


class Store(Protocol):
    """The shared directory; any exception means "no answer"."""

    async def get(self, digests: Collection[str]) -> Found: ...
    async def put(self, entries: Mapping[str, Entry]) -> None: ...


class _Cached:
    __slots__ = ("asked_s", "fresh_until_s", "principal")

    def __init__(self, principal: Principal | None, *, asked_s: float) -> None:
        self.principal = principal
        self.asked_s = asked_s
        self.fresh_until_s = asked_s + (TTL_S if principal else NEGATIVE_TTL_S)


class Directory:
    """One per process, used from its event loop only. `monotonic` is a clock in seconds."""

    def __init__(
        self,
        *,
        load: Load,
        store: Store | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        # Threads of our own: a hanging database fills these four, not the pool the rest of the
        # process shares.
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="admission")
        self._load = sync_to_async(load, thread_sensitive=False, executor=self._pool)
        self._store = store
        self._monotonic = monotonic
        self._max_entries = max_entries
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Principal | None]] = {}
        self._store_pause_until_s = 0.0

    def cached(self, digest: str) -> Principal | None:
        """The principal if this process knows it and may still believe it. Never waits."""
        found = self._cache.get(digest)
        if found is None or found.fresh_until_s <= self._monotonic():
            return None
        self._cache.move_to_end(digest)
        return found.principal

    def holds(self, digest: str) -> bool:
        """Whether this process remembers anything about `digest`, fresh or not."""
        return digest in self._cache

    def opens_nothing(self, digest: str) -> bool:
        """Whether the last answer about `digest` was that it opens nothing (any more)."""
        found = self._cache.get(digest)
        return found is not None and found.principal is None

    async def find(self, digest: str) -> Principal | None:
        """The principal of a digest, or None when it opens nothing. Raises Unavailable when nobody
        can tell.

        A thousand handshakes with one key ask once.
        """
        found = self._cache.get(digest)
        if found is not None and found.fresh_until_s > self._monotonic():
            metrics.lookups.labels("process").inc()
            self._cache.move_to_end(digest)
            return found.principal
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.create_task(self._ask(digest))
            self._asking[digest] = task
            task.add_done_callback(lambda done: self._forget_task(digest, done))
        # Shielded: the first caller hanging up must not cancel the answer of the others.
        return await asyncio.shield(task)

    async def revalidate(self, digests: Collection[str]) -> dict[str, Principal | None]:
        """Read `digests` again and remember what they say; None means "opens nothing any more".

        The database is asked first, because only it is sure to know of a revocation that Redis
        never heard of. Digests that nobody can tell anything about are missing from the answer: an
        outage closes no socket.
        """
        if not digests:
            return {}
        # Redis's time from before the question, so that what is put there is never too new.
        before_read = await self._get(())
        asked_s = self._monotonic()
        try:
            principals = await self._ask_database(digests)
        except Exception:
            return await self._revalidate_from_store(digests)
        answer = {digest: principals.get(digest) for digest in digests}
        changed: dict[str, Principal | None] = {}
        for digest, principal in answer.items():
            before = self._cache.get(digest)
            if before is None or before.principal != principal:
                changed[digest] = principal
            answer[digest] = self._remember(digest, principal, asked_s=asked_s)
        if before_read is not None:
            now_ms = before_read.now_ms
            await self._put({digest: Entry(found, now_ms) for digest, found in changed.items()})
        return answer

    async def aclose(self) -> None:
        """Cancel what is being asked and let the threads go."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, digest: str) -> Principal | None:
        asked_s = self._monotonic()
        found = await self._get([digest])
        entry = found.entries.get(digest) if found else None
        if entry is not None and not _belongs(entry, digest):
            entry = None
        # "Opens nothing" is asked again: unknown keys are never in Redis, and a revoked one that
        # was answered from there, without the database, could be told from them by a clock.
        if found and entry and entry.principal is not None and entry.is_fresh(found.now_ms):
            read_s = asked_s - _age_s(entry, found)
            before = self._cache.get(digest)
            # A later answer that has run out, as "unknown" does after five seconds, is not undone.
            if before is None or before.asked_s <= read_s:
                metrics.lookups.labels("redis").inc()
                return self._remember(digest, entry.principal, asked_s=read_s)
        # Asked anew, because waiting for Redis took time in which a revocation may have committed.
        asked_s = self._monotonic()
        try:
            principal = (await self._ask_database([digest])).get(digest)
        except Exception:
            return self._last_known(digest, entry)
        # Unknown keys stay out of Redis: anybody can invent as many as they like.
        if principal is not None and found is not None:
            await self._put({digest: Entry(principal, found.now_ms)})
        return self._remember(digest, principal, asked_s=asked_s)

    def _last_known(self, digest: str, entry: Entry | None) -> Principal | None:
        remembered = self._cache.get(digest)
        if remembered is not None and (entry is None or remembered.principal is None):
            metrics.lookups.labels("process_stale").inc()
            return remembered.principal
        if entry is not None:
            metrics.lookups.labels("redis_stale").inc()
            return entry.principal
        raise Unavailable

    async def _revalidate_from_store(self, digests: Collection[str]) -> dict[str, Principal | None]:
        asked_s = self._monotonic()
        found = await self._get(digests)
        answer: dict[str, Principal | None] = {}
        if found is None:
            return answer
        for digest, entry in found.entries.items():
            if _belongs(entry, digest):
                read_s = asked_s - _age_s(entry, found)
                answer[digest] = self._remember(digest, entry.principal, asked_s=read_s)
        return answer

    async def _ask_database(self, digests: Collection[str]) -> Mapping[str, Principal]:
        metrics.lookups.labels("database").inc()
        try:
            async with asyncio.timeout(DATABASE_DEADLINE_S):
                return await self._load(digests)
        except Exception as error:
            metrics.lookup_failures.labels("database").inc()
            log.warning("admission_database_unreachable", error=type(error).__name__)
            raise

    async def _get(self, digests: Collection[str]) -> Found | None:
        """What the store says, None when it says nothing."""
        if self._store is None or self._monotonic() < self._store_pause_until_s:
            return None
        try:
            async with asyncio.timeout(1.0):
                return await self._store.get(digests)
        except Exception as error:
            self._pause_store(error)
            return None

    async def _put(self, entries: Mapping[str, Entry]) -> None:
        if not entries or self._store is None or self._monotonic() < self._store_pause_until_s:
            return
        try:
            async with asyncio.timeout(1.0):
                await self._store.put(entries)
        except Exception as error:
            self._pause_store(error)

    def _pause_store(self, error: Exception) -> None:
        metrics.lookup_failures.labels("redis").inc()
        self._store_pause_until_s = self._monotonic() + STORE_PAUSE_S
        log.warning("admission_redis_unreachable", error=type(error).__name__)

    def _remember(
        self, digest: str, principal: Principal | None, *, asked_s: float
    ) -> Principal | None:
        """Cache an answer unless one to a later question is there already; answer what is
        cached."""
        before = self._cache.get(digest)
        if before is not None and before.asked_s > asked_s:
            return before.principal
        # One object for as long as it says the same, so that an open connection is looked at again
        # only when something changed (`control.py` compares by identity).
        if before is not None and before.principal == principal:
            principal = before.principal
        self._cache[digest] = _Cached(principal, asked_s=asked_s)
        self._cache.move_to_end(digest)
        while len(self._cache) > self._max_entries:
            self._cache.popitem(last=False)
        metrics.cached_keys.set(len(self._cache))
        return principal

    def _forget_task(self, digest: str, task: asyncio.Task[Principal | None]) -> None:
        self._asking.pop(digest, None)
        if not task.cancelled():
            task.exception()  # looked at here, in case every caller hung up


def _age_s(entry: Entry, found: Found) -> float:
    """How long ago the database was asked for `entry`, by the store's clock alone."""
    return max(0, found.now_ms - entry.read_at_ms) / 1000


def _belongs(entry: Entry, digest: str) -> bool:
    return entry.principal is None or hmac.compare_digest(entry.principal.digest, digest)
