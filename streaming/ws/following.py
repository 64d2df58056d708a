"""Which coins each key follows at this process, minute by minute: coin-minutes.

A coin-minute is one UTC minute in which a key followed a coin at any moment. It is marked when a
coin begins to be followed and when it no longer is, so it does not matter when within a minute
`tick` comes round to mark what goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

#: Marks made at a time. Of 60,000 followed coins all would be 30 ms, once a minute.
CHUNK = 200
#: How far the wall clock may run from the monotonic one between two looks. Beyond, somebody set it.
MAX_STEP_S = 1.0


class MinuteMeter(Protocol):
    """Where minutes are counted."""

    def mark(self, key_id: int, coin: str, minute: int) -> None:
        """`key_id` followed `coin` in this minute, counted from 1970."""


class _Followed:
    """A coin of a key: by how many subscriptions, and the last minute that was marked."""

    __slots__ = ("coin", "count", "key_id", "minute")

    def __init__(self, key_id: int, coin: str) -> None:
        self.key_id = key_id
        self.coin = coin
        self.count = 0
        self.minute = -1


class Following:
    """Counts followers by key and coin. On the thread that counts."""

    def __init__(
        self,
        meter: MinuteMeter,
        *,
        wall_s: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meter = meter
        self._wall_s, self._clock_s = wall_s, clock_s
        self._followed: dict[tuple[int, str], _Followed] = {}
        self._looked_s = (wall_s(), clock_s())
        self._marked = -1

    def begin(self, key_id: int, coin: str) -> None:
        """One more subscription of the key is of this coin; "" is none."""
        if not coin:
            return
        followed = self._followed.get((key_id, coin))
        if followed is None:
            followed = self._followed[key_id, coin] = _Followed(key_id, coin)
        followed.count += 1
        self._mark(followed, int(self._wall_s() // 60))

    def end(self, key_id: int, coin: str) -> None:
        """One less."""
        followed = self._followed.get((key_id, coin))
        if followed is None:
            return
        self._mark(followed, int(self._wall_s() // 60))
        followed.count -= 1
        if not followed.count:
            del self._followed[key_id, coin]

    async def tick(self) -> None:
        """Once a minute, mark all that is followed. Call it every second or so.

        Where this process stood still over whole minutes, these are marked too: all was followed
        then. Unless a clock that was set makes it look so; then only the present one is.
        """
        wall_s, clock_s = self._wall_s(), self._clock_s()
        before_wall_s, before_clock_s = self._looked_s
        self._looked_s = wall_s, clock_s
        was_set = abs((wall_s - before_wall_s) - (clock_s - before_clock_s)) > MAX_STEP_S
        minute = int(wall_s // 60)
        if minute == self._marked:
            return
        self._marked = minute
        everything = list(self._followed.values())
        for start in range(0, len(everything), CHUNK):
            for followed in everything[start : start + CHUNK]:
                first = minute if was_set else min(followed.minute + 1, minute)
                for missed in range(first, minute):
                    self._meter.mark(followed.key_id, followed.coin, missed)
                self._mark(followed, minute)
            await asyncio.sleep(0)

    def _mark(self, followed: _Followed, minute: int) -> None:
        if followed.minute != minute:
            followed.minute = minute
            self._meter.mark(followed.key_id, followed.coin, minute)
