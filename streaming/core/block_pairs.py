"""A block's book changes and its order statuses, brought together though they come from two files
at two times.
"""

from __future__ import annotations

from dataclasses import dataclass

from streaming.core.blocks import RawBlock
from streaming.core.books import Changes

#: Blocks one file may lag behind the other (about 4 s) before a block goes on without it.
MAX_WAIT_BLOCKS = 64
#: Statuses of all coins take 0.5 MB a block.
MAX_WAIT_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Pair:
    """What both files hold about a block; a half that the node did not write is empty. `is_cut`: a
    half may yet come, and was waited for long enough.
    """

    height: int
    changes: Changes | None = None
    status_lines: list[bytes] | None = None
    is_cut: bool = False
    size_bytes: int = 0


class BlockPairs:
    """Hands out blocks in order, each once both files are at it or beyond.

    "Beyond", because `_streaming` files have no lines for a block without events of their kind.
    """

    def __init__(self) -> None:
        self._pairs: dict[int, Pair] = {}
        self._changes_seen = 0
        self._statuses_seen = 0
        self._done = 0
        self._size_bytes = 0

    def add_changes(self, changes: Changes) -> list[Pair]:
        """Take a block's changes; returns the blocks that are complete now. Heights must rise."""
        height = changes.block.height
        self._changes_seen = height
        if height > self._done:
            self._pair(height).changes = changes
        return self._complete()

    def add_statuses(self, block: RawBlock) -> list[Pair]:
        """Take a block's statuses, undecoded; returns the blocks that are complete now. Heights
        must rise.
        """
        self._statuses_seen = block.height
        if block.height > self._done:
            pair = self._pair(block.height)
            pair.status_lines = block.lines
            pair.size_bytes = sum(map(len, block.lines))
            self._size_bytes += pair.size_bytes
        return self._complete()

    def finish(self) -> list[Pair]:
        """Everything that is left, as it is: no more will come."""
        self._changes_seen = self._statuses_seen = max(self._pairs, default=0)
        return self._complete()

    @property
    def statuses_seen(self) -> int:
        """The highest block of which statuses came; 0 before the first."""
        return self._statuses_seen

    @property
    def done(self) -> int:
        """The last block handed out; 0 before the first."""
        return self._done

    def _pair(self, height: int) -> Pair:
        return self._pairs.setdefault(height, Pair(height))

    def _complete(self) -> list[Pair]:
        both_seen = min(self._changes_seen, self._statuses_seen)
        complete: list[Pair] = []
        for height in sorted(self._pairs):
            is_over = len(self._pairs) > MAX_WAIT_BLOCKS or self._size_bytes > MAX_WAIT_BYTES
            if height > both_seen and not is_over:
                break
            pair = self._pairs.pop(height)
            self._size_bytes -= pair.size_bytes
            self._done = height
            # A file that never was there is one the node does not write.
            pair.is_cut = height > both_seen > 0
            complete.append(pair)
        return complete
