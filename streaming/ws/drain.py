"""How a process lets its customers go: not all at once, because they come back at once, elsewhere.

Everybody is given a time of their own within the drain, evenly apart and in random order, so the
other processes see about `customers / seconds` connects a second and no peak. Who speaks the relay
dialect is told their time at the start.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

#: How long closing sockets may take when all have been asked to close: what is on its way leaves
#: first.
CLOSING_S = 1.0


class Customer(Protocol):
    """An open connection."""

    def going_away(self, in_ms: int) -> None:
        """Say when it will be closed, where the dialect has words for it."""

    def go_away(self) -> None:
        """Close it in good order."""


def departures(count: int, *, within_s: float, chance: random.Random) -> list[float]:
    """`count` times in [0, `within_s`), rising: one in each of as many equal parts."""
    return [(number + chance.random()) * within_s / count for number in range(count)]


async def let_go(
    customers: Sequence[Customer],
    *,
    within_s: float,
    all_gone: asyncio.Event,
    chance: random.Random | None = None,
) -> None:
    """Close all connections within `within_s` seconds, and return when `all_gone`, or `CLOSING_S`
    after the last was asked to close."""
    chance = chance or random.Random()  # noqa: S311  # no secret
    leaving = list(customers)
    chance.shuffle(leaving)
    times_s = departures(len(leaving), within_s=within_s, chance=chance)
    for customer, at_s in zip(leaving, times_s, strict=True):
        customer.going_away(round(at_s * 1000))
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    for customer, at_s in zip(leaving, times_s, strict=True):
        if await _within(begun_s + at_s - loop.time(), all_gone):
            return
        customer.go_away()
    await _within(CLOSING_S, all_gone)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether `event` came in that time."""
    if seconds > 0:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
    return event.is_set()
