"""What a node writes about one block, as the tailer hands it on: undecoded lines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class FileKind(StrEnum):
    """A kind of node file, by the stem of its directory name (`node_fills_by_block`,
    `node_fills_streaming`)."""

    FILLS = "node_fills"
    STATUSES = "node_order_statuses"
    DIFFS = "node_raw_book_diffs"
    MISC = "misc_events"
    TWAP = "node_twap_statuses"
    WRITER = "system_and_core_writer_actions"
    HIP3_ORACLE = "hip3_oracle_updates"
    #: Blocks as transactions. One line a block, its height by the file's name and the line's place.
    BLOCKS = "replica_cmds"


#: What books and trades are made from.
MARKET_KINDS = (FileKind.FILLS, FileKind.STATUSES, FileKind.DIFFS)


class Ending(IntEnum):
    """What the end of a block's copy is worth. The lower the better, beside another node's copy."""

    SURE = 0
    #: Nothing came for a while, though other files are further. Its node may still write more of
    #: it.
    QUIET = 1
    #: A line that could not be read stood in it or right beside it.
    TORN = 2


@dataclass(frozen=True, slots=True)
class RawBlock:
    """All lines one file kind holds about one block, closed: no more will come, as far as `ending`
    says.

    `lines` are whole JSON lines without their newline, in file order: exactly one in `_by_block`
    files, one per event (or a few events) in `_streaming` files. Each line is
    `{"local_time":iso,"block_time":iso,"block_number":n,"events":[…]}`. `read_ns` is the wall clock
    (UTC, ns) when the first line was read.

    `previous` is the height of the block of this kind before this one, if whoever read the files
    vouches that there is none between the two; None when that is not known: at a start, after a
    loss.
    """

    kind: FileKind
    height: int
    lines: list[bytes]
    read_ns: int
    previous: int | None = None
    ending: Ending = Ending.SURE


@dataclass(frozen=True, slots=True)
class LateBlock(RawBlock):
    """Lines of a height at or below one already delivered: a straggler, or a node that went back.

    In streaming mode they may repeat lines delivered before (a node that replays from an older
    state writes its events again), or be the rest of a block delivered before. In by-block mode
    they are a height that was never delivered.
    """


@dataclass(frozen=True, slots=True)
class Loss(RawBlock):
    """Nobody has all of this kind's blocks from `first` up to `height`, though some of it may have
    been handed out. It has no lines.
    """

    first: int = 0


@dataclass(frozen=True, slots=True)
class OpenBlock(RawBlock):
    """The lines so far of a block that may get more: only `_streaming` files have such."""
