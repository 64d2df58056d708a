"""A checkpoint from whichever node gives a usable one first.

A checkpoint of all coins takes a node some seconds, and a node that hangs has 60 s (a gateway 300):
the next one is asked meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from streaming.core.book.l4 import L4Book
from streaming.core.books import build_books
from streaming.hl_gateway.checkpoint import Checkpoint, CheckpointError
from streaming.upstream import metrics

log = structlog.get_logger(__name__)

#: How long one node is waited for before the next is asked too.
HEDGE_S = 5.0
#: Blocks a checkpoint may be ahead of what is read, 7 s: further, it is of another chain or of a
#: damaged file, and the books would stand still until that height.
AHEAD_BLOCKS = 100


class Giver(Protocol):
    """Who can be asked for a checkpoint."""

    name: str

    async def checkpoint(self) -> Checkpoint:
        """All resting orders after some recent block."""


class Found(NamedTuple):
    """A node's checkpoint, as books."""

    source: str
    height: int
    books: dict[str, L4Book]


async def checkpoints(
    nodes: Sequence[Giver], *, tip: Callable[[], int], hedge_s: float = HEDGE_S
) -> AsyncGenerator[Found]:
    """The nodes' usable checkpoints as they come. The next node is asked when the one before has
    failed, is slow, or gave one that the caller cannot use. Close it to call off the rest."""
    waiting = list(nodes)
    asked: set[asyncio.Task[Found | None]] = set()
    try:
        while waiting or asked:
            if waiting:
                asked.add(asyncio.create_task(_fetch(waiting.pop(0), tip)))
            done, asked = await asyncio.wait(
                asked,
                timeout=hedge_s if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                if (found := task.result()) is not None:
                    yield found
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _fetch(node: Giver, tip: Callable[[], int]) -> Found | None:
    try:
        checkpoint = await node.checkpoint()
        # In a thread: 0.4 s for BTC alone, during which blocks must go on arriving.
        faults: Counter[str] = Counter()
        books = await asyncio.to_thread(build_books, checkpoint.coins, faults)
        _check(checkpoint.height, faults, tip=tip())
    except CheckpointError as error:
        refuse(node.name, error)
    except Exception as error:  # a full disk, a file nobody foresaw: the blocks must go on
        metrics.CHECKPOINTS.labels(node.name, type(error).__name__).inc()
        log.exception("checkpoint_failed", source=node.name)
    else:
        return Found(node.name, checkpoint.height, books)
    return None


def refuse(source: str, error: Exception) -> None:
    """Say why a node's checkpoint is of no use."""
    metrics.CHECKPOINTS.labels(source, type(error).__name__).inc()
    log.warning("checkpoint_failed", source=source, reason=str(error))


def _check(height: int, faults: Counter[str], *, tip: int) -> None:
    """Raises CheckpointError for one that would make a wrong book."""
    if height > tip + AHEAD_BLOCKS:
        raise CheckpointError(f"it is of block {height}, the newest one read is {tip}")
    if unreadable := faults["bad_checkpoint_order"]:
        raise CheckpointError(f"{unreadable} of its orders cannot be read")
