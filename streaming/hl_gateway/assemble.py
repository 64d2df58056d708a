"""Bytes of a node file in, closed blocks out: no clock, no file, no loop.

`LineBuffer` turns chunks into whole lines, `BlockAssembler` turns lines into `RawBlock`s. Neither
decodes JSON: order statuses come at about 15,000 lines/s, or as lines of 600 KB, and most of them
no topic ever needs. What cannot be used is counted in `Faults` with its reason, and never raises.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from streaming.core.blocks import Ending, FileKind, LateBlock, OpenBlock, RawBlock

#: The longest real block line seen is 0.9 MB. Beyond this a "line" is damage, and must not fill the
#: memory.
MAX_LINE_BYTES = 64 * 1024 * 1024
SAMPLE_BYTES = 200

_LINE_HEAD = b'{"local_time":"'
_HEADER = re.compile(
    rb'\{ ?"local_time": ?"[^"]{1,40}", ?"block_time": ?"([^"]{1,40})",'
    rb' ?"block_number": ?(\d{1,18}), ?"events": ?\['
)
_NUL_RUN = re.compile(rb"\0+")


class FileMode(StrEnum):
    """How a node batches its lines, by the suffix of the directory name."""

    BY_BLOCK = "by_block"
    STREAMING = "streaming"


class FaultReason(StrEnum):
    """Why a line, a file or an event was not taken as it came."""

    GARBAGE = "garbage"
    TORN = "torn_line"
    NUL_PADDING = "nul_padding"
    CRLF = "crlf"
    EMPTY = "empty_line"
    TOO_LONG = "line_too_long"
    DUPLICATE = "duplicate"
    LATE = "late_line"
    BAD_HEIGHT = "bad_height"
    PARTIAL_FIRST = "partial_first_block"
    TRUNCATED = "file_truncated"
    REPLACED = "file_replaced"
    DELETED = "file_deleted"
    UNREADABLE = "unreadable"
    MODE_CHANGED = "mode_changed"
    WATCH_OVERFLOW = "watch_overflow"
    WATCH_REFUSED = "watch_refused"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first occurrence of one reason in one kind; `sample` is the line's first 200 bytes, or a
    path.
    """

    kind: FileKind
    reason: FaultReason
    sample: bytes


class Faults:
    """Counts what went wrong in one file kind, and keeps the first sample of each reason for one
    log line.
    """

    def __init__(self, kind: FileKind) -> None:
        self.kind = kind
        self.counts: Counter[FaultReason] = Counter()
        self._unreported: list[Fault] = []

    def add(self, reason: FaultReason, sample: bytes = b"") -> None:
        """Count `reason` once; the very first time its sample waits for `drain`."""
        if not self.counts[reason]:
            self._unreported.append(Fault(self.kind, reason, bytes(sample[:SAMPLE_BYTES])))
        self.counts[reason] += 1

    def drain(self) -> list[Fault]:
        """Faults of reasons not reported before: each reason comes out once in a lifetime."""
        fresh, self._unreported = self._unreported, []
        return fresh


#: So many lines in a row with heights that cannot be are no damage: this node's times do not rise
#: with its heights, and say nothing.
MAX_BAD_HEIGHTS = 8
#: In place of a line that was too long to keep. No line holds a line end.
LOST = b"\n"


class LineBuffer:
    """Cuts a byte stream into lines and keeps the half line at its end until its newline arrives.

    The result does not depend on how the stream was chunked. NUL runs (blocks a crash left
    unwritten) separate lines, since JSON cannot contain them; a line above `max_line_bytes` is
    dropped while it arrives.
    """

    def __init__(self, faults: Faults, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._faults = faults
        self._max_line_bytes = max_line_bytes
        self.reset()

    def reset(self) -> None:
        """Forget the half line: the next chunk starts a line."""
        # A list, not a growing bytes object: 64 MiB arriving in 64 KiB pieces would be copied 512
        # times on average.
        self._half: list[bytes] = []
        self._half_bytes = 0
        self._skipping = False
        self._ended_in_nul = False

    @property
    def has_half(self) -> bool:
        """Whether a line has begun whose newline is still to come; padding alone is no line."""
        return self._skipping or (self._half_bytes > 0 and self._half != [b"\0"])

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their line ends, in order; `LOST` where one was
        dropped.
        """
        if self._ended_in_nul:
            chunk = chunk.lstrip(b"\0")
        if not chunk:
            return []
        self._ended_in_nul = chunk.endswith(b"\0")
        if b"\0" in chunk:
            # Collapsed before the length check: a sparse hole of a gigabyte must not take the good
            # line behind it along.
            chunk = _NUL_RUN.sub(b"\0", chunk)
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        raw_lines = chunk.split(b"\n")
        self._keep(raw_lines[0])
        raw_lines[0] = self._take()
        half = raw_lines.pop()
        lines: list[bytes] = []
        for raw in raw_lines:
            self._clean(raw, into=lines)
        self._keep(half)
        return lines

    def finish(self) -> bytes:
        """The half line at the end of input, or `b""`; the buffer is empty afterwards."""
        half = self._take().strip(b"\0\r")
        self.reset()
        return half

    def _keep(self, part: bytes) -> None:
        if self._skipping or not part:
            return
        self._half.append(part)
        self._half_bytes += len(part)
        if self._half_bytes > self._max_line_bytes:
            self._faults.add(FaultReason.TOO_LONG, b"".join(self._half)[:SAMPLE_BYTES])
            self._half, self._half_bytes = [], 0
            self._skipping = True

    def _take(self) -> bytes:
        line = self._half[0] if len(self._half) == 1 else b"".join(self._half)
        self._half, self._half_bytes = [], 0
        return line

    def _clean(self, raw: bytes, *, into: list[bytes]) -> None:
        """Append what is usable of one whole raw line; the first of a chunk may be the end of a
        skipped one.
        """
        if self._skipping:
            self._skipping = False
            into.append(LOST)
            return
        if len(raw) > self._max_line_bytes:
            self._faults.add(FaultReason.TOO_LONG, raw)
            into.append(LOST)
            return
        if raw.endswith(b"\r"):
            self._faults.add(FaultReason.CRLF, raw)
            raw = raw.rstrip(b"\r")
        if b"\0" in raw:
            self._faults.add(FaultReason.NUL_PADDING, raw)
            for number, piece in enumerate(raw.split(b"\0")):
                if number:
                    into.append(LOST)
                if piece:
                    into.append(piece)
        elif raw:
            into.append(raw)
        else:
            self._faults.add(FaultReason.EMPTY)


class _Heights:
    """A set of heights kept as ranges: hours of consecutive blocks are one pair of integers."""

    MAX_RANGES = 1024

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, height: int) -> bool:
        """Add `height`; False when it was in the set already."""
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, height)  # the range before `at` is the only one that may hold it
        if at and height <= ends[at - 1]:
            return False
        joins_before = at > 0 and ends[at - 1] == height - 1
        joins_after = at < len(starts) and starts[at] == height + 1
        if joins_before and joins_after:
            ends[at - 1] = ends.pop(at)
            del starts[at]
        elif joins_before:
            ends[at - 1] = height
        elif joins_after:
            starts[at] = height
        else:
            starts.insert(at, height)
            ends.insert(at, height)
        if len(starts) > self.MAX_RANGES:
            # The oldest hole counts as filled: after a thousand newer holes nobody waits for it.
            del starts[1], ends[0]
        return True


#: A height, and the time of that block as the node writes it.
Mark = tuple[int, bytes]


@dataclass(slots=True)
class _Run:
    """Consecutive lines of one height, still open."""

    height: int
    read_ns: int
    time: bytes = b""  # the block's own, as the node writes it: texts in order are times in order
    lines: list[bytes] = field(default_factory=list)
    previous: int | None = None
    is_whole: bool = True  # no line that could not be read came while it was open
    is_torn: bool = False  # one came then, or right before its first line


class BlockAssembler:
    """Lines of one file kind in, closed `RawBlock`s out, in the order in which they close.

    By block: one line is one closed block. A height delivered before is a duplicate, dropped and
    counted; a lower height that was never delivered comes as a `LateBlock`.

    Streaming: lines of one height are one block, closed when a higher height appears, by
    `close_idle`, or by `close`. Lines of a lower or closed height come as `LateBlock`s, one for
    each run of equal heights, and are counted.

    `joined_midway` says that the first line may not be the first of its block: in streaming mode
    that whole height is dropped, and so is everything at or below it. `floor_height` drops
    everything at or below it from the start.

    Heights and block times rise together, so a number that was damaged shows: a later time at a
    lower height, or one time at two heights. That line is lost, and no other. By block one that
    leaves heights out is held back for it until the next line comes (70 ms later), or another kind
    has that height at that time.

    Each block's `previous` vouches for what lies before it: by block every height has a line, so it
    is the height below if that was delivered; streaming, it is the block before, unless something
    between the two could not be read.
    """

    def __init__(
        self,
        kind: FileKind,
        mode: FileMode,
        *,
        faults: Faults | None = None,
        joined_midway: bool = False,
        floor_height: int = -1,
    ) -> None:
        self.kind, self.mode = kind, mode
        self.faults = faults if faults is not None else Faults(kind)
        self.height: int | None = None
        """The highest height seen in any line, closed or not."""
        self.mark: Mark | None = None
        """The height and the block time of the last line."""
        self._drop_first = joined_midway and mode is FileMode.STREAMING
        self._floor, self._floor_reason = floor_height, FaultReason.DUPLICATE
        self._heights = _Heights()
        self._open: _Run | None = None
        self._late: _Run | None = None
        self._closed_height = floor_height
        self._last_line_at_ns = 0
        self._reread_height = -1
        self._reread_lines: Counter[bytes] = Counter()
        self._before: int | None = None  # the last block delivered, if nothing was lost since
        self._is_line_lost = False  # right before the next line
        self._held: _Run | None = None  # by block: a line that leaves heights out
        self._closed_time = b""
        self._bad_heights = 0  # in a row; at MAX_BAD_HEIGHTS for good

    @property
    def open_height(self) -> int | None:
        """The height of the block that may still get lines."""
        return self._open.height if self._open else None

    @property
    def open_block(self) -> OpenBlock | None:
        """The lines so far of that block, unless some of them could not be read."""
        run = self._open
        if run is None or not run.is_whole or run.is_torn or not run.lines:
            return None
        return OpenBlock(self.kind, run.height, list(run.lines), run.read_ns, run.previous)

    def drain_faults(self) -> list[Fault]:
        """The first sample of each reason not reported before."""
        return self.faults.drain()

    def feed(
        self,
        lines: Iterable[bytes],
        *,
        read_ns: int,
        at_ns: int,
        beside: Collection[Mark] = (),
    ) -> list[RawBlock]:
        """Take whole lines and return the blocks they close.

        `read_ns` is the wall clock stamped on blocks that begin here; `at_ns` a monotonic clock,
        for `close_idle`. `beside` are the `mark`s of the node's other kinds.
        """
        blocks: list[RawBlock] = []
        take = self._take_streaming if self.mode is FileMode.STREAMING else self._take_by_block
        for line in lines:
            if line == LOST:
                self.lose_line()
                continue
            # 42 µs for a line of 460 KB. A node that died within a line goes on behind it without a
            # newline.
            start = line.rfind(_LINE_HEAD)
            for piece in (line,) if start <= 0 else _split_heads(line):
                header = _HEADER.match(piece)
                if header is None or not piece.endswith(b"]}"):
                    begun = _LINE_HEAD.startswith(piece[: len(_LINE_HEAD)])
                    self.faults.add(FaultReason.TORN if begun else FaultReason.GARBAGE, piece)
                    self.lose_line()
                    continue
                height = int(header[2])
                if height <= self._floor or self._drop_first:
                    self._drop(height, piece)
                    continue
                self._last_line_at_ns = at_ns
                if self.height is None or height > self.height:
                    self.height = height
                self.mark = height, header[1]
                take(_Run(height, read_ns, header[1], [piece]), blocks)
        self._take_held_if(beside, blocks)
        return blocks

    def close_idle(
        self, *, seen_height: int, at_ns: int, quiet_ns: int, beside: Collection[Mark] = ()
    ) -> list[RawBlock]:
        """Close what was quiet for `quiet_ns` while another kind is already at a `seen_height`
        above it. `beside`: as for `feed`.
        """
        blocks: list[RawBlock] = []
        self._take_held_if(beside, blocks)
        due_ns = self.idle_due_ns(seen_height=seen_height, quiet_ns=quiet_ns)
        if due_ns is not None and at_ns >= due_ns:
            blocks += self._close(Ending.QUIET)
        return blocks

    def idle_due_ns(self, *, seen_height: int, quiet_ns: int) -> int | None:
        """When `close_idle` would close something (same clock as `at_ns`), or None when nothing
        waits for it.
        """
        waits = self._late is not None or (
            self._open is not None and seen_height > self._open.height
        )
        return self._last_line_at_ns + quiet_ns if waits else None

    def close(self) -> list[RawBlock]:
        """Close everything: the end of input."""
        blocks: list[RawBlock] = []
        self._take_held(blocks)
        return blocks + self._close(Ending.SURE)

    def _close(self, ending: Ending) -> list[RawBlock]:
        blocks: list[RawBlock] = []
        self._flush_late(blocks)
        self._close_open(blocks, ending)
        return blocks

    def rewind(self) -> None:
        """The file will be read again from its start: drop what was delivered already, until it is
        passed.

        Lines of the open block that come again are dropped one for one, so the block is neither
        doubled nor cut.
        """
        self._reread_height = self._closed_height if self._open is None else self._open.height
        self._reread_lines = Counter(self._open.lines if self._open else ())
        self.lose()

    def lose(self) -> None:
        """Vouch for nothing across this point: something could not be read, of the open block or of
        one after it.
        """
        self._before = None
        if self._open is not None:
            self._open.is_whole = False

    def lose_line(self) -> None:
        """A line that could not be read stood here: it belonged to the open block, to the one that
        begins next, or to one in between.
        """
        self.lose()
        if self._held is not None:
            # The line behind it would have shown whether its height can be.
            self.faults.add(FaultReason.BAD_HEIGHT, self._held.lines[0])
            self._held = None
        self._is_line_lost = True
        if self._open is not None:
            self._open.is_torn = True

    def _take_by_block(self, run: _Run, blocks: list[RawBlock]) -> None:
        held = self._held
        if held is not None:
            if run.height <= held.height and run.time > held.time:
                self._held = None
                self._drop_height(held.lines[0], good=run.height)
            else:
                self._take_held(blocks)
        elif run.height <= self._closed_height and run.time > self._closed_time > b"":
            # The highest one was none, and let go for want of a line behind it. What lies right
            # before this one is not known.
            self._closed_height, self._closed_time = run.height - 2, b""
        leaps = run.height > self._closed_height + 1 and self._closed_time > b""
        if leaps and run.time > self._closed_time:
            self._held = run
        else:
            self._deliver_line(run, blocks)

    def _take_held_if(self, beside: Collection[Mark], blocks: list[RawBlock]) -> None:
        if self._held is not None and (self._held.height, self._held.time) in beside:
            self._take_held(blocks)

    def _take_held(self, blocks: list[RawBlock]) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._deliver_line(held, blocks)

    def _deliver_line(self, run: _Run, blocks: list[RawBlock]) -> None:
        height = run.height
        if not self._heights.add(height):
            self.faults.add(FaultReason.DUPLICATE, run.lines[0])
        elif height > self._closed_height:
            previous = height - 1 if self._closed_height == height - 1 else None
            self._closed_height, self._closed_time = height, run.time
            blocks.append(RawBlock(self.kind, height, run.lines, run.read_ns, previous))
        else:
            self.faults.add(FaultReason.LATE, run.lines[0])
            blocks.append(LateBlock(self.kind, height, run.lines, run.read_ns))

    def _drop_height(self, line: bytes, *, good: int) -> None:
        self.faults.add(FaultReason.BAD_HEIGHT, line)
        self._bad_heights += 1
        self.height = max(self._closed_height, good)
        self.lose_line()

    def _take_streaming(self, new: _Run, blocks: list[RawBlock]) -> None:
        height, line = new.height, new.lines[0]
        if self._reread_height >= 0 and self._is_reread(height, line):
            self.faults.add(FaultReason.DUPLICATE, line)
            return
        run = self._open
        if self._bad_heights >= MAX_BAD_HEIGHTS:
            pass
        elif run is None:
            if self._closed_time and _contradict(self._closed_height, self._closed_time, new):
                self._drop_height(line, good=self._closed_height)
                return
        elif _contradict(run.height, run.time, new):
            if height > run.height or height <= self._closed_height or len(run.lines) > 1:
                self._drop_height(line, good=run.height)
                return
            # One line against one: neither block is whole, and either number may be none.
            self._drop_height(run.lines[0], good=height)
            run = self._open = None
            new.is_whole = False
        if height <= self._closed_height or (run is not None and height < run.height):
            self._take_late(height, line, new.read_ns, blocks)
            return
        self._flush_late(blocks)
        if run is None or height > run.height:
            is_whole = run is None or run.is_whole
            self._close_open(blocks)
            new.previous = self._before if is_whole else None
            new.is_torn = self._is_line_lost
            self._open = new
            self._before = height
        else:
            run.lines.append(line)
        self._is_line_lost = False
        if self._bad_heights < MAX_BAD_HEIGHTS:
            self._bad_heights = 0

    def _is_reread(self, height: int, line: bytes) -> bool:
        if height > self._reread_height:
            self._reread_height = -1
            self._reread_lines.clear()
            return False
        if height <= self._closed_height:
            return True
        if self._reread_lines[line]:
            self._reread_lines[line] -= 1
            return True
        return False

    def _take_late(self, height: int, line: bytes, read_ns: int, blocks: list[RawBlock]) -> None:
        self.faults.add(FaultReason.LATE, line)
        if self._late is None or self._late.height != height:
            self._flush_late(blocks)
            self._late = _Run(height, read_ns)
        self._late.lines.append(line)

    def _flush_late(self, blocks: list[RawBlock]) -> None:
        if self._late is not None:
            late, self._late = self._late, None
            # More of it may come, and nothing says that this is all.
            late_block = LateBlock(
                self.kind, late.height, late.lines, late.read_ns, ending=Ending.QUIET
            )
            blocks.append(late_block)

    def _close_open(self, blocks: list[RawBlock], ending: Ending = Ending.SURE) -> None:
        if self._open is not None:
            run, self._open = self._open, None
            self._closed_height, self._closed_time = run.height, run.time
            ending = Ending.TORN if run.is_torn else ending
            blocks.append(
                RawBlock(self.kind, run.height, run.lines, run.read_ns, run.previous, ending)
            )

    def _drop(self, height: int, line: bytes) -> None:
        """Count a line at or below the floor; the first line after joining midway sets it."""
        if self._drop_first:
            self._drop_first = False
            self._floor, self._floor_reason = max(self._floor, height), FaultReason.PARTIAL_FIRST
        self.faults.add(self._floor_reason, line)
        self._is_line_lost = False
        if self.height is None or height > self.height:
            self.height = height


def _contradict(height: int, time: bytes, new: _Run) -> bool:
    """Whether this height, or that of the line after it, cannot be."""
    if new.height < height:
        return new.time >= time
    return (new.time == time) is not (new.height == height)


def _split_heads(line: bytes) -> list[bytes]:
    """Cut before each line head inside `line`; what stands before the first is a piece too."""
    first, *rest = line.split(_LINE_HEAD)
    pieces = [_LINE_HEAD + piece for piece in rest]
    return [first, *pieces] if first else pieces
