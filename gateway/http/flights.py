"""Requests on their way, so that those who ask the same at the same time wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Distinct ones; one more is refused rather than queued.
MAX_FLIGHTS = 2_000


class Flights(Generic[T]):
    """By key."""

    def __init__(self) -> None:
        self._tasks: dict[bytes, asyncio.Task[T]] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._tasks

    @property
    def is_full(self) -> bool:
        """Whether no more may begin."""
        return len(self._tasks) >= MAX_FLIGHTS

    async def join(self, key: bytes) -> T:
        """What the one on its way brings. Raises what it raises."""
        return await asyncio.shield(self._tasks[key])

    async def begin(self, key: bytes, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` for all who join meanwhile. Whoever began may go: the others still wait."""
        task = self._tasks[key] = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: bytes, done: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not done.cancelled():
            done.exception()  # it was told to whoever waited
