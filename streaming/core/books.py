"""All books of a node: from a checkpoint, through every book change after its height.

Changes that come before the first checkpoint (or after a hole) are kept and applied once the
checkpoint is there, so no moment exists in which both a change and the checkpoint that misses it
are lost.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streaming.core import node_lines
from streaming.core.blocks import RawBlock
from streaming.core.book.l4 import BadDiff, CheckpointOrder, L4Book
from streaming.core.envelope import Times
from streaming.core.node_lines import Block

#: Kept while waiting for a checkpoint: 120 s of all coins' changes at 1 MiB/s (BTC alone writes
#: 0.1).
BUFFER_BYTES = 120 * 1024 * 1024

#: A checkpoint's books: coin, bids, asks.
CheckpointBooks = Iterable[tuple[str, Iterable[CheckpointOrder], Iterable[CheckpointOrder]]]


class CheckpointTooOld(ValueError):
    """The changes between the checkpoint and the oldest one kept are lost; a newer checkpoint is
    needed.
    """


@dataclass(frozen=True, slots=True)
class Changes:
    """A block's book changes. `news` are the orders (coin, id) whose details its statuses will
    tell.
    """

    block: Block
    news: list[tuple[str, int]]
    #: What was applied, by coin, in order of a coin's first change; empty while there are no books.
    coins: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)  # coins that had no book before this block


@dataclass(slots=True)
class _Kept:
    raw: RawBlock
    size_bytes: int
    details: dict[int, bytes] = field(default_factory=dict)


def build_books(books: CheckpointBooks, faults: Counter[str] | None = None) -> dict[str, L4Book]:
    """The books of a checkpoint. Touches nothing else, so a large one (0.4 s for BTC) can be built
    in a thread.
    """
    built: dict[str, L4Book] = {}
    for coin, bids, asks in books:
        book = built[coin] = L4Book(coin, faults)
        book.load(bids, asks)
    return built


class Books:
    """The books by coin. `height` is the last block they contain."""

    def __init__(self, faults: Counter[str], *, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.by_coin: dict[str, L4Book] = {}
        self.is_ready = False
        self.height = 0
        self.times = Times()
        #: Whether the files hold a line for every block, also an empty one (`_by_block`). Only then
        #: is a height that never comes a loss. Learned from the first empty line, which no other
        #: kind of file has.
        self.every_block = False
        self._faults = faults
        self._is_vouched = False  # blocks come with a `previous`
        self._seen = 0
        self._covered_from: int | None = None
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self._buffer_bytes = buffer_bytes

    @property
    def seen(self) -> int:
        """The highest block of which changes were handed in; 0 before the first."""
        return self._seen

    def covers_from(self, height: int) -> None:
        """Promise that every change from block `height` on is handed in, even if the first one
        comes later.
        """
        if self._covered_from is None:
            self._covered_from = height

    def apply(self, raw: RawBlock) -> Changes | None:
        """Take in one block of changes, applied or kept; None when it is old or unreadable."""
        if raw.height <= self._seen:
            self._faults["old_block"] += 1
            return None
        block = node_lines.decode(raw, self._faults)
        if block is None:
            return None
        self.every_block = self.every_block or not block.events
        if self._is_behind_a_hole(raw):
            self._faults["missing_blocks"] += 1
            self._lose()
        self._seen = raw.height
        if not self.is_ready:
            return self._keep(raw, block)
        if raw.height <= self.height:
            return None
        return self._apply(block)

    def lost(self, height: int) -> None:
        """Changes up to block `height` are missing: a checkpoint of that block or a later one is
        needed.
        """
        self._faults["missing_blocks"] += 1
        self._lose()
        self._seen = max(self._seen, height)
        self._covered_from = self._seen + 1
        self._is_vouched = True

    def _is_behind_a_hole(self, raw: RawBlock) -> bool:
        """Whether changes before this block are missing, as far as can be told."""
        known = max(self._seen, self.height)
        self._is_vouched = self._is_vouched or raw.previous is not None
        if not known or raw.height == known + 1:
            return False
        if raw.previous is not None:
            return raw.previous > known
        # Readers that vouch for every block but this one have lost something.
        return self._is_vouched or (self.every_block and known < raw.height - 1)

    def _apply(self, block: Block) -> Changes:
        changes = Changes(block, [])
        time_ms = block.time_ms
        for event in block.events:
            try:
                coin = event["coin"]
                book = self.by_coin.get(coin)
                oid = (
                    book.apply(event, time_ms=time_ms) if book else self._list(coin, event, changes)
                )
            except (BadDiff, KeyError, TypeError):
                self._faults["bad_diff"] += 1
                continue
            changes.coins.setdefault(coin, []).append(event)
            if oid is not None:
                changes.news.append((coin, oid))
        self.height, self.times = block.height, block.times
        return changes

    def _list(self, coin: Any, event: dict[str, Any], changes: Changes) -> int | None:
        """A coin the checkpoint did not have is newly listed: its book was empty until now."""
        if not isinstance(coin, str):
            raise BadDiff("coin is not a string")
        book = L4Book(coin, self._faults)
        oid = book.apply(event, time_ms=changes.block.time_ms)
        self.by_coin[coin] = book
        changes.listed.append(coin)
        return oid

    # --- without books ---

    def _lose(self) -> None:
        self.is_ready = False
        self.by_coin = {}
        self._kept.clear()
        self._kept_bytes = 0
        self._covered_from = None

    def _keep(self, raw: RawBlock, block: Block) -> Changes:
        if self._covered_from is None:
            self._covered_from = raw.height
        size_bytes = sum(map(len, raw.lines))
        self._kept.append(_Kept(raw, size_bytes))
        self._kept_bytes += size_bytes
        while self._kept_bytes > self._buffer_bytes and len(self._kept) > 1:
            dropped = self._kept.popleft()
            self._kept_bytes -= dropped.size_bytes
            self._covered_from = dropped.raw.height + 1
            self._faults["kept_block_dropped"] += 1
        return Changes(block, _news(block))

    def load_checkpoint(self, height: int, books: CheckpointBooks | Mapping[str, L4Book]) -> None:
        """Start from the books after block `height`, and apply the kept changes that follow it.

        Raises CheckpointTooOld when changes between the two are lost; nothing is changed then.
        """
        if self.is_ready and height < self.height:
            raise CheckpointTooOld(f"checkpoint of block {height}, books are at {self.height}")
        if self._covered_from is not None and height < self._covered_from - 1:
            raise CheckpointTooOld(
                f"checkpoint of block {height}, oldest change kept is of block {self._covered_from}"
            )
        built = dict(books) if isinstance(books, Mapping) else build_books(books, self._faults)
        for book in built.values():
            book.faults = self._faults
        newest_ms = max((book.newest_ms for book in built.values()), default=0)
        self.by_coin, self.height, self.is_ready = built, height, True
        # A checkpoint does not tell its time. Its newest order is at most a block or two older.
        self.times = Times(block_ns=newest_ms * 1_000_000)
        for kept in self._kept:
            if kept.raw.height > height:
                self._apply_kept(kept)
        self._kept.clear()
        self._kept_bytes = 0

    def correct(self, books: Mapping[str, L4Book]) -> None:
        """Put these books, of the same block, in the place of those of their coins."""
        for book in books.values():
            book.faults = self._faults
        self.by_coin.update(books)

    def _apply_kept(self, kept: _Kept) -> None:
        block = node_lines.decode(kept.raw, Counter())  # its faults were counted when it came
        if block is not None:
            self.add_details(self._apply(block), kept.details)

    # --- details ---

    def add_details(self, changes: Changes, details: Mapping[int, bytes]) -> None:
        """Attach to a block's new orders what its statuses told, as far as they still rest."""
        if not self.is_ready:
            # From the newest: statuses come within blocks of their changes, and up to 1,800 blocks
            # are kept.
            height = changes.block.height
            kept = next((kept for kept in reversed(self._kept) if kept.raw.height == height), None)
            if kept is not None:
                kept.details = dict(details)
            return
        for coin, oid in changes.news:
            book = self.by_coin.get(coin)
            order = book.orders.get(oid) if book else None
            if order is not None and order.details is None:
                order.details = details.get(oid)


def _news(block: Block) -> list[tuple[str, int]]:
    news: list[tuple[str, int]] = []
    for event in block.events:
        try:
            if "new" in event["raw_book_diff"] and type(event["oid"]) is int:
                news.append((event["coin"], event["oid"]))
        except (KeyError, TypeError):
            continue  # counted when it is applied
    return news
