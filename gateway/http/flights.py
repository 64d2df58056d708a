"""Requests on their way, so that those who ask the same at the same time wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Distinct ones, of all and of one tenant; one more is refused rather than queued.
MAX_FLIGHTS, MAX_OF_TENANT = 2_000, 200


class Flights(Generic[T]):
    """By key."""

    def __init__(self) -> None:
        self._tasks: dict[bytes, asyncio.Task[T]] = {}
        #: How many each tenant began.
        self._begun: dict[str, int] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._tasks

    def is_full(self, tenant: str) -> bool:
        """Whether no more of a tenant's may begin."""
        mine = self._begun.get(tenant, 0)
        return len(self._tasks) >= MAX_FLIGHTS or mine >= MAX_OF_TENANT

    async def join(self, key: bytes) -> T:
        """What the one on its way brings. Raises what it raises."""
        return await asyncio.shield(self._tasks[key])

    async def begin(self, key: bytes, work: Coroutine[Any, Any, T], *, tenant: str) -> T:
        """Do `work` for all who join meanwhile. Whoever began may go: the others still wait."""
        task = self._tasks[key] = asyncio.ensure_future(work)
        self._begun[tenant] = self._begun.get(tenant, 0) + 1
        task.add_done_callback(lambda done: self._landed(key, tenant, done))
        try:
            return await asyncio.shield(task)
        finally:
            del task  # it keeps what it raised, and that keeps this frame

    def _landed(self, key: bytes, tenant: str, done: asyncio.Task[T]) -> None:
        del self._tasks[key]
        self._begun[tenant] -= 1
        if not self._begun[tenant]:
            del self._begun[tenant]
        if not done.cancelled():
            done.exception()  # it was told to whoever waited
