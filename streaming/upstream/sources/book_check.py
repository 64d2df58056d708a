"""Books compared with a checkpoint while blocks go on arriving, and replaced where they differ.

A checkpoint is some blocks old when it is here. The changes since are kept from before it was asked
for and applied to it, so that both sides stand at the same block when they are compared. Compared
are each coin's orders by id and its 100 best levels; that holds the loop for about 0.1 ms a coin.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.book.l4 import L4Book
from streaming.core.books import Books
from streaming.core.envelope import Envelope
from streaming.core.market import CheckpointTooOld, Market
from streaming.core.topic import MAX_LEVELS

#: Changes kept while a checkpoint is made: 120 s of all coins' at 1 MiB/s.
KEPT_BYTES = 120 * 1024 * 1024
#: Blocks applied before the loop gets its turn.
SLICE_BLOCKS = 20
#: A node may be ahead of what has been merged; for longer than this it is something else.
CATCH_UP_S = 5.0
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class BookCheckResult:
    """Where the books stood, the coins that differed, and what to publish for them."""

    height: int
    coins: frozenset[str] = frozenset()
    envelopes: list[Envelope] = field(default_factory=list)


class BookCheck:
    """One comparison. Make it before the checkpoint is asked for, and `keep` every block from
    then on.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._kept: list[RawBlock] = []
        self._kept_bytes = 0
        self._broken = asyncio.Event()

    def keep(self, block: RawBlock) -> None:
        """Take note of a block that the market has just taken in."""
        if block.kind is not FileKind.DIFFS or self._broken.is_set():
            return
        has_hole = bool(self._kept) and block.previous is None
        self._kept_bytes += sum(map(len, block.lines))
        if has_hole or self._kept_bytes > KEPT_BYTES or not self._market.is_ready:
            self._broken.set()
        self._kept.append(block)

    def call_off(self) -> None:
        """The market is no longer the one that is published."""
        self._broken.set()

    async def broken(self) -> None:
        """Return once nothing can be compared any more: changes were lost, or are too many."""
        await self._broken.wait()

    async def compare(self, height: int, books: dict[str, L4Book]) -> BookCheckResult:
        """Bring the books of a checkpoint up to the market's block, and the market's to theirs
        where they differ.

        Raises CheckpointTooOld when the two cannot be brought together: changes in between were
        lost, or not enough blocks come.
        """
        fresh = Books(Counter())
        fresh.load_checkpoint(height, books)
        done = await self._catch_up(fresh, height)
        market = self._market
        if self._broken.is_set() or not market.is_ready or market.height != fresh.height:
            raise CheckpointTooOld(
                f"checkpoint of block {height} came to {fresh.height} in {done} blocks,"
                f" the books are at {market.height}"
            )
        wrong: dict[str, L4Book] = {}
        for coin in fresh.by_coin.keys() | market.books.keys():
            right = fresh.by_coin.get(coin) or L4Book(coin)
            if not _is_same(right, market.books.get(coin) or L4Book(coin)):
                wrong[coin] = right
        return BookCheckResult(fresh.height, frozenset(wrong), market.correct(wrong))

    async def _catch_up(self, fresh: Books, height: int) -> int:
        """Apply what is kept until nothing is left and the market is there too; returns how many
        blocks that were.
        """
        done, loop = 0, asyncio.get_running_loop()
        deadline_s = loop.time() + CATCH_UP_S
        while not self._broken.is_set():
            for block in self._kept[done : done + SLICE_BLOCKS]:
                done += 1
                if block.height <= height:
                    continue
                if fresh.height == height and (block.previous is None or block.previous > height):
                    raise CheckpointTooOld(
                        f"checkpoint of block {height}, oldest change kept is of {block.height}"
                    )
                fresh.apply(block)
            is_level = done == len(self._kept) and self._market.height >= fresh.height
            if is_level or loop.time() > deadline_s:
                break
            await asyncio.sleep(0 if done < len(self._kept) else LOOK_S)
        return done


def _is_same(one: L4Book, other: L4Book) -> bool:
    return one.orders.keys() == other.orders.keys() and _top(one) == _top(other)


def _top(book: L4Book) -> list[list[tuple[int, int, int]]]:
    exact = book.l2.exact
    return [side.top(MAX_LEVELS) for side in (exact.bids, exact.asks)]
