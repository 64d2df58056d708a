"""Sources that must run once in a relay, in the worker that holds the lease.

What has no block heights (public and polled upstreams) cannot be merged from two workers: their
frames carry an epoch and a count of their own. So one worker runs them, another takes over within a
second of its death with sources built anew, hence with epochs of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import structlog
from redis.exceptions import RedisError

from streaming.bus.lease import Lease, LeaseLost
from streaming.core.envelope import Envelope
from streaming.upstream import metrics
from streaming.upstream.sources.base import Publish, Source

log = structlog.get_logger(__name__)

RESTART_S = 1.0
RELEASE_S = 0.5
#: Envelopes that wait for the lease. A process that goes on after a stop reads what came meanwhile
#: before Redis has answered: some 2,000 frames of the public feeds for each second that it stood.
MAX_HELD = 20_000


async def keep_source(source: Source, publish: Publish) -> None:
    """Run `source` until cancelled; when it fails it is started again, and others carry on."""
    while True:
        try:
            await source.run(publish)
        except Exception:
            log.exception("source_failed", source=source.name)
        await asyncio.sleep(RESTART_S)


class OwnedSources:
    """The sources of one lease. `sources` is empty while another holds it."""

    def __init__(
        self,
        lease: Lease,
        *,
        build: Callable[[], list[Source]],
        publisher: Callable[[Source], Publish],
        on_change: Callable[[list[Source]], None],
        on_shed: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_change(lost)` is called after the lease was won (with nothing) and after it was lost
        (with the sources that ended), `on_shed` when more came than could wait for its renewal:
        states must be told again.
        """
        self.sources: list[Source] = []
        self._rebuild = asyncio.Event()
        self._lease = lease
        self._build, self._publisher, self._on_change = build, publisher, on_change
        self._on_shed = on_shed
        self._held: deque[tuple[Publish, list[Envelope]]] = deque()
        self._held_count = 0
        self._is_shed = False

    @property
    def is_owner(self) -> bool:
        """Whether we may publish what the sources give, right now."""
        return self._lease.is_held

    async def run(self) -> None:
        """Take the lease whenever it is free, run the sources while it is ours, until cancelled."""
        try:
            while True:
                await self._lease.acquire()
                await self._own()
        finally:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(RELEASE_S):
                    await self._lease.release()

    def rebuild(self) -> None:
        """Make the sources anew: what they are built from has changed."""
        self._rebuild.set()

    async def _own(self) -> None:
        keeping = asyncio.ensure_future(self._lease.keep(self._release_held))
        try:
            while not keeping.done():
                await self._run_until_changed(keeping)
            with contextlib.suppress(LeaseLost):
                keeping.result()
            log.warning("public_owner_lost")
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _run_until_changed(self, keeping: asyncio.Future[None]) -> None:
        self._rebuild.clear()
        self.sources = self._build()
        log.info("public_owner", sources=[source.name for source in self.sources])
        metrics.PUBLIC_OWNER.set(1)
        self._on_change([])
        # Not a TaskGroup: one that ends by a child's failure leaves this task looking cancelled
        # (3.11), and our own loop would end with it.
        running = [
            asyncio.ensure_future(
                keep_source(source, partial(self._fenced, self._publisher(source)))
            )
            for source in self.sources
        ]
        changed = asyncio.ensure_future(self._rebuild.wait())
        try:
            either: set[asyncio.Future[Any]] = {keeping, changed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (changed, *running):
                task.cancel()
            await asyncio.gather(changed, *running, return_exceptions=True)
            lost, self.sources = self.sources, []
            self._forget_held()
            metrics.PUBLIC_OWNER.set(0)
            self._on_change(lost)

    # --- the fence --------------------------------------------------------------------------------

    def _fenced(self, publish: Publish, envelopes: Iterable[Envelope]) -> None:
        """Publish while nobody else can hold the lease. What comes in doubt, because this process
        or Redis stood still, waits until the lease is renewed, and is lost only with it: who takes
        it over begins in an epoch of its own, and followers are told.
        """
        if self._lease.is_held and not self._held:
            publish(envelopes)
            return
        own = list(envelopes)
        if self._held_count + len(own) > MAX_HELD:
            # Events show by their places that some are missing; a state shows nothing.
            self._forget_held()
            self._is_shed = True
        self._held.append((publish, own))
        self._held_count += len(own)

    def _release_held(self) -> None:
        while self._held:
            publish, own = self._held.popleft()
            publish(own)
        self._held_count = 0
        if self._is_shed:
            self._is_shed = False
            self._on_shed()

    def _forget_held(self) -> None:
        self._held.clear()
        self._held_count = 0
        self._is_shed = False
