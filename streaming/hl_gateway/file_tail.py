"""Follows the growing hour files of one kind, one bounded read at a time. Synchronous; the loop is
in `tail.py`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streaming.core.blocks import FileKind, OpenBlock, RawBlock
from streaming.hl_gateway.assemble import (
    BlockAssembler,
    FaultReason,
    Faults,
    FileMode,
    LineBuffer,
    Mark,
)
from streaming.hl_gateway.node_files import HourFile, NodeFiles

Start = Literal["end", "beginning"]
#: The file being written and the two hours before it: a straggling flush of a closed hour is still
#: read.
_OPEN_FILES = 3
_MODE_SWITCH_NS = 5_000_000_000
_BACK_STEP_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLimits:
    """Sizes in bytes, times in ns of the monotonic clock."""

    slice_bytes: int
    max_line_bytes: int
    torn_grace_ns: int


@dataclass(frozen=True, slots=True)
class TailState:
    """What one kind is doing, for metrics. `last_growth_ns` is wall clock, 0 before any byte."""

    mode: FileMode | None
    file: str | None
    offset: int
    height: int | None
    last_growth_ns: int
    backlog_bytes: int


class _OpenFile:
    """One hour file held open. What stands before `history_end` was there when we joined."""

    __slots__ = (
        "buffer", "fd", "gave_up_at", "growth_at_ns", "held_since_ns", "history_end", "hour",
        "is_gone", "offset", "was_replaced",
    )  # fmt: skip

    def __init__(self, hour: HourFile, fd: int, buffer: LineBuffer) -> None:
        self.hour, self.fd, self.buffer = hour, fd, buffer
        self.offset = self.history_end = self.growth_at_ns = 0
        self.held_since_ns: int | None = None
        self.gave_up_at = -1  # the offset up to which the half line at the end is known as torn
        self.is_gone = self.was_replaced = False


class FileTail:
    """The files of one kind as one stream of blocks, whatever happens to the files.

    An older hour is finished before a newer one. When the older one ends in half a line while the
    newer has data, the newer waits `torn_grace_ns` for the newline; then the half line counts as
    torn (if it is completed later after all, its block still comes, late). A file that shrank or
    was replaced is read again from its start without repeating what was delivered. A file that
    cannot be opened is counted once and tried again at each `scan`.
    """

    def __init__(
        self,
        files: NodeFiles,
        kind: FileKind,
        *,
        start: Start,
        back_bytes: int,
        limits: TailLimits,
    ) -> None:
        self.kind = kind
        self.mode: FileMode | None = None
        self.faults = Faults(kind)
        self.has_more = False
        """Whether the last `read` left data that is there already."""
        self._files, self._start, self.back_bytes, self._limits = files, start, back_bytes, limits
        self._assembler = BlockAssembler(kind, FileMode.BY_BLOCK, faults=self.faults)
        self._open: list[_OpenFile] = []
        self._known: set[HourFile] = set()
        self._waiting: set[HourFile] = set()
        self._unreadable: set[HourFile | None] = set()
        self._replacing: set[HourFile] = set()
        self._joining: set[HourFile] = set()
        self._ready: list[RawBlock] = []
        self._is_first_scan = True
        self._last_growth_ns = 0
        self._hold_due_ns: int | None = None

    @property
    def height(self) -> int | None:
        """The highest height seen."""
        return self._assembler.height

    @property
    def mark(self) -> Mark | None:
        """The height and the block time of the last line."""
        return self._assembler.mark

    @property
    def open_block(self) -> OpenBlock | None:
        """The lines so far of the block that may get more."""
        return self._assembler.open_block if not self.has_more else None

    @property
    def in_history(self) -> bool:
        """Whether what was there when we joined is not read yet."""
        return any(file.offset < file.history_end for file in self._open)

    def state(self) -> TailState:
        """A picture for metrics; costs one `fstat`."""
        if not self._open:
            return TailState(self.mode, None, 0, self.height, self._last_growth_ns, 0)
        file = self._open[-1]
        backlog = sum(max(0, os.fstat(f.fd).st_size - f.offset) for f in self._open)
        path = file.hour.path
        return TailState(self.mode, path, file.offset, self.height, self._last_growth_ns, backlog)

    def directories(self) -> list[str]:
        """Directories whose changes matter now, existing or not, parents first."""
        wanted: list[str] = []
        for mode in FileMode:
            hourly = self._files.hourly(self.kind, mode)
            wanted += [str(hourly.parent), str(hourly)]
            try:
                wanted += [str(path) for path in self._files.dates(self.kind, mode)[-1:]]
            except OSError:
                continue  # `scan` counts it
        wanted += [os.path.dirname(file.hour.path) for file in self._open]
        return list(dict.fromkeys(wanted))

    def scan(self) -> None:
        """Look at the directories: new files, replaced files, another mode."""
        try:
            self._choose_mode()
            if self.mode is not None:
                self._check_open_files()
                self._find_files(self.mode)
            self._unreadable.discard(None)
            self._is_first_scan = False
        except OSError as error:
            self._count_unreadable(None, error)
        self._waiting |= {hour for hour in self._unreadable if hour is not None}
        self._open_waiting()

    def read(self, *, read_ns: int, at_ns: int, beside: Collection[Mark] = ()) -> list[RawBlock]:
        """Blocks closed by at most `slice_bytes` of new data. Sets `has_more`. `beside`: see
        `BlockAssembler.feed`.
        """
        blocks, self._ready = self._ready, []
        self.has_more, self._hold_due_ns = False, None
        left = self._limits.slice_bytes
        in_history = self.in_history
        for index, file in enumerate(self._open):
            left -= self._drain(file, left, blocks, read_ns=read_ns, at_ns=at_ns, beside=beside)
            if self.has_more or (not in_history and self._must_hold(index, at_ns=at_ns)):
                break
        else:
            self._retire()
            if self._waiting:
                self._open_waiting()
                self.has_more = True
        return blocks

    def close_idle(
        self, *, seen_height: int, at_ns: int, quiet_ns: int, beside: Collection[Mark] = ()
    ) -> list[RawBlock]:
        """Close a quiet block; never while data, or half a line, of it may be at hand."""
        if not self._is_caught_up:
            return []
        return self._assembler.close_idle(
            seen_height=seen_height, at_ns=at_ns, quiet_ns=quiet_ns, beside=beside
        )

    def due_ns(self, *, seen_height: int, quiet_ns: int) -> int | None:
        """When `read` and `close_idle` should be called again although no file changes."""
        if self._hold_due_ns is not None:
            return self._hold_due_ns
        if not self._is_caught_up:
            return None
        return self._assembler.idle_due_ns(seen_height=seen_height, quiet_ns=quiet_ns)

    def close(self) -> None:
        """Give all descriptors back."""
        for file in self._open:
            os.close(file.fd)
        self._open.clear()

    @property
    def _is_caught_up(self) -> bool:
        if self.has_more or self._hold_due_ns is not None:
            return False
        return not (self._open and self._open[-1].buffer.has_half)

    # -- which files -------------------------------------------------------------------------------

    def _choose_mode(self) -> None:
        if self.mode is None:
            mode = self._files.newest_mode(self.kind)
            if mode is not None:
                self._adopt(mode)
            return
        if self.has_more:
            return
        other = FileMode.STREAMING if self.mode is FileMode.BY_BLOCK else FileMode.BY_BLOCK
        other_ns = self._files.last_write_ns(self.kind, other)
        own_ns = self._files.last_write_ns(self.kind, self.mode)
        # Both by file times, so that no clock of ours takes part. Five seconds are 70 blocks: a
        # mode in use never rests that long while the other one grows.
        if other_ns - own_ns >= _MODE_SWITCH_NS:
            self._switch(other, since_ns=own_ns)

    def _adopt(self, mode: FileMode) -> None:
        """Start with the first mode found. Files found in a later scan are new, so they are read
        whole.
        """
        self.mode = mode
        joins = self._is_first_scan and self._start == "end"
        hours = self._files.hours(self.kind, mode) if joins else []
        wanted_bytes, first = self.back_bytes, max(0, len(hours) - 2)
        for index in range(len(hours) - 1, -1, -1):
            if index < first and wanted_bytes <= 0:
                break
            self._join(hours[index], back_bytes=max(0, wanted_bytes))
            wanted_bytes -= self._open[0].history_end if self._open else 0
        self._known = set(hours)
        self._joining = {hour for hour in self._unreadable if hour is not None}
        for file in self._open[:-1]:
            file.gave_up_at = os.fstat(file.fd).st_size
        is_whole = bool(self._open) and self._open[0].hour == hours[0] and not self._open[0].offset
        is_midway = bool(hours) and not is_whole
        self._assembler = BlockAssembler(
            self.kind, mode, faults=self.faults, joined_midway=is_midway
        )

    def _switch(self, mode: FileMode, *, since_ns: int) -> None:
        """Go over to the other mode: the operator changed the node's flags."""
        # What both modes hold is dropped by height, so reading from the start of these files
        # repeats nothing.
        known = {
            hour
            for hour in self._files.hours(self.kind, mode)
            if Path(hour.path).stat().st_mtime_ns <= since_ns
        }
        self.faults.add(FaultReason.MODE_CHANGED, f"{self.mode} to {mode}".encode())
        self._ready += self._assembler.close()
        floor = self.height if self.height is not None else -1
        self.close()
        self.mode, self._known = mode, known
        for leftover in (self._waiting, self._unreadable, self._replacing, self._joining):
            leftover.clear()
        self._assembler = BlockAssembler(self.kind, mode, faults=self.faults, floor_height=floor)

    def _find_files(self, mode: FileMode) -> None:
        since_date = 0
        if self._known:
            # The newest known date and the one before: a node never writes further back than one
            # hour.
            dates = sorted({hour.date for hour in self._known})
            since_date = dates[-2:][0]
        fresh = set(self._files.hours(self.kind, mode, since_date=since_date)) - self._known
        self._known |= fresh
        self._waiting |= fresh

    def _check_open_files(self) -> None:
        for file in self._open:
            if file.was_replaced:
                continue
            try:
                found = os.stat(file.hour.path)
            except FileNotFoundError:
                # The writer may still hold it, so we go on reading it until something newer takes
                # its place.
                if not file.is_gone and file is self._open[-1]:
                    self.faults.add(FaultReason.DELETED, file.hour.path.encode())
                    self._assembler.lose()
                file.is_gone = True
                continue
            file.is_gone = False
            ours = os.fstat(file.fd)
            if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino):
                self.faults.add(FaultReason.REPLACED, file.hour.path.encode())
                file.was_replaced = True
                self._replacing.add(file.hour)
                self._waiting.add(file.hour)

    # -- opening -----------------------------------------------------------------------------------

    def _open_waiting(self) -> None:
        """Open waiting files, oldest first, as many as we hold at once."""
        for hour in sorted(self._waiting):
            if len(self._open) > _OPEN_FILES:
                break
            self._waiting.discard(hour)
            if hour in self._joining:
                # It was there, but locked, when we joined: still only what is written from now on.
                self._join(hour, back_bytes=0)
            else:
                self._open_file(hour)

    def _open_file(self, hour: HourFile) -> _OpenFile | None:
        try:
            # Non-blocking, because opening a pipe that somebody left there would wait for its
            # writer.
            fd = os.open(hour.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            self._known.discard(hour)
            return None
        except OSError as error:
            self._count_unreadable(hour, error)
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            self._count_unreadable(hour, OSError("not a regular file"))
            return None
        self._unreadable.discard(hour)
        buffer = LineBuffer(self.faults, max_line_bytes=self._limits.max_line_bytes)
        file = _OpenFile(hour, fd, buffer)
        self._open.append(file)
        self._open.sort(key=lambda each: (each.hour, not each.was_replaced))
        return file

    def _join(self, hour: HourFile, *, back_bytes: int) -> None:
        """Open a file that was there before us, at the line start nearest before `back_bytes` from
        its end.
        """
        file = self._open_file(hour)
        if file is None:
            return
        size = os.fstat(file.fd).st_size
        file.offset = _line_start(file.fd, max(0, size - back_bytes))
        file.history_end = size if back_bytes else file.offset

    def _count_unreadable(self, hour: HourFile | None, error: OSError) -> None:
        """Count once until it can be read again; `hour` None stands for a directory."""
        if hour not in self._unreadable:
            self._unreadable.add(hour)
            where = hour.path if hour else str(error.filename or self._files.data_dir)
            self.faults.add(FaultReason.UNREADABLE, f"{where}: {error.strerror or error}".encode())
            self._assembler.lose()

    # -- reading -----------------------------------------------------------------------------------

    def _drain(
        self,
        file: _OpenFile,
        left: int,
        blocks: list[RawBlock],
        *,
        read_ns: int,
        at_ns: int,
        beside: Collection[Mark],
    ) -> int:
        """Read at most `left` bytes of one file, in one system call; return how many."""
        try:
            size = os.fstat(file.fd).st_size
            if size < file.offset:
                self._start_again(file, FaultReason.TRUNCATED)
            file.history_end = min(file.history_end, size)
            end = file.history_end if file.offset < file.history_end else size
            chunk = os.pread(file.fd, min(end - file.offset, left), file.offset)
        except OSError as error:
            self.faults.add(FaultReason.UNREADABLE, f"{file.hour.path}: {error.strerror}".encode())
            self._assembler.lose()
            file.history_end = file.offset  # nobody shall wait for it
            return 0
        if chunk:
            if file.hour in self._replacing and not file.was_replaced:
                self._replacing.discard(file.hour)
                self._assembler.rewind()
            file.offset += len(chunk)
            file.growth_at_ns, self._last_growth_ns = at_ns, read_ns
            file.held_since_ns = None
            lines = file.buffer.feed(chunk)
            if lines:
                blocks += self._assembler.feed(lines, read_ns=read_ns, at_ns=at_ns, beside=beside)
        self.has_more = file.offset < end
        return len(chunk)

    def _start_again(self, file: _OpenFile, reason: FaultReason) -> None:
        self.faults.add(reason, file.hour.path.encode())
        half = file.buffer.finish()
        if half:
            self.faults.add(FaultReason.TORN, half)
        file.offset = file.history_end = 0
        self._assembler.rewind()

    def _must_hold(self, index: int, *, at_ns: int) -> bool:
        """Whether newer files must wait because this one ends in half a line."""
        file = self._open[index]
        if file.gave_up_at == file.offset or not file.buffer.has_half:
            return False
        if not any(os.fstat(newer.fd).st_size for newer in self._open[index + 1 :]):
            return False
        if file.held_since_ns is None:
            file.held_since_ns = at_ns
        due_ns = file.held_since_ns + self._limits.torn_grace_ns
        if at_ns < due_ns:
            self._hold_due_ns = due_ns
            return True
        file.gave_up_at = file.offset
        self.faults.add(FaultReason.TORN, file.hour.path.encode())
        self._assembler.lose_line()
        return False

    def _retire(self) -> None:
        """Close what is too many, the longest quiet first; never the newest."""
        while len(self._open) > _OPEN_FILES:
            quietest = min(self._open[:-1], key=lambda file: file.growth_at_ns)
            self._open.remove(quietest)
            os.close(quietest.fd)


def _line_start(fd: int, position: int) -> int:
    """The offset behind the last newline before `position`: 0 when there is none."""
    while position > 0:
        begin = max(0, position - _BACK_STEP_BYTES)
        newline = os.pread(fd, position - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        position = begin
    return 0
