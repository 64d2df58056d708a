"""`replica_cmds`: blocks as the transactions that made them, one line a block, as they are written.

A line does not say its height: that is the file's name and the line's number. A node begins a
folder each time it starts (`replica_cmds/{start}/{date}/{height}`) and a file every 10,000 blocks,
12 minutes, of 2 GB.

Looked at by the clock: nobody trades on these, and one look costs 5 µs when there is nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from streaming.core.blocks import FileKind, RawBlock
from streaming.hl_gateway.assemble import MAX_LINE_BYTES, FaultReason, Faults
from streaming.hl_gateway.file_tail import TailState

Deliver = Callable[[list[RawBlock]], None]

POLL_S = 0.03
#: How often it is looked for a newer file while this one does not grow.
LOOK_S = 1.0
SLICE_BYTES = 4 * 1024 * 1024
#: Of what is history: the other kinds are live already, and 1 MiB holds them up for 1 ms.
HISTORY_SLICE_BYTES = 1024 * 1024


class ReplicaTail:
    """Follows one node's `replica_cmds` from now on. Runs once.

    `back_bytes` asks for so much of the newest file besides, for `read_history` to deliver: what
    came before that file began is not read.
    """

    kind = FileKind.BLOCKS

    def __init__(
        self,
        data_dir: Path,
        *,
        back_bytes: int = 0,
        max_line_bytes: int = MAX_LINE_BYTES,
        look_s: float = LOOK_S,
    ) -> None:
        self.back_bytes = back_bytes
        self._live_from = 0  # in the file that was there at the start
        self.faults = Faults(FileKind.BLOCKS)
        self._root = data_dir / "replica_cmds"
        self._max_line_bytes, self._look_s = max_line_bytes, look_s
        self._path: Path | None = None
        self._fd = -1
        self._offset = 0
        self._height = 0  # of the last line that is over
        self._half = b""  # of a line
        self._is_skipping = False  # a line too long to keep
        self._vouches = False  # that the next line is the block after the last one delivered
        self._grew_ns = 0

    def state(self) -> TailState:
        """For metrics."""
        file = str(self._path) if self._path else None
        return TailState(None, file, self._offset, self._height or None, self._grew_ns, 0)

    async def find(self) -> None:
        """Find the place to begin at: what is written from this call on is live. Takes a second for
        2 GB, in a thread.
        """
        try:
            await self._look()
        except OSError as error:  # `run` tries again
            self.faults.add(FaultReason.UNREADABLE, str(error).encode())
            self._close()
        self.back_bytes = 0  # a file that is found later is followed from its end

    async def read_history(self, deliver_history: Deliver) -> None:
        """After `find`, before `run`: deliver what was there."""
        try:
            while self._fd >= 0 and self._offset < self._live_from:
                at = self._offset
                deliver_history(self._read())
                if self._offset == at:
                    return  # somebody has cut the file
                await asyncio.sleep(0)
        except OSError as error:
            self.faults.add(FaultReason.UNREADABLE, str(error).encode())
            self._close()

    async def run(self, deliver: Deliver) -> None:
        """Deliver blocks until cancelled. Disk errors are counted, and it is tried again."""
        look_at_s = 0.0
        try:
            while True:
                try:
                    if blocks := self._read():
                        deliver(blocks)
                        continue
                    if time.monotonic() >= look_at_s:
                        look_at_s = time.monotonic() + self._look_s
                        await self._look()
                except OSError as error:
                    self.faults.add(FaultReason.UNREADABLE, str(error).encode())
                    self._close()
                    await asyncio.sleep(self._look_s)
                await asyncio.sleep(POLL_S)
        finally:
            self._close()

    # --- files ------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Open the newest file at its end, or the one after the file that is over at its start."""
        found = self._newest()
        if found is None or found == self._path:
            self._check_size()
            return
        if self._path is None:
            # 2 GB at most, once: 1 s in a thread.
            fd = os.open(found, os.O_RDONLY)
            try:
                size = os.fstat(fd).st_size
                lines, end = await asyncio.to_thread(_count_lines, fd, size)
                begin = await asyncio.to_thread(_line_start, fd, max(0, end - self.back_bytes), end)
                lines -= await asyncio.to_thread(_count_between, fd, begin, end)
            except BaseException:
                os.close(fd)
                raise
            self._follow(found, fd, height=int(found.name) + lines, offset=begin)
            self._live_from = end
            return
        later = [p for p in _numbered(found.parent.parent) if int(p.name) >= self._height]
        after = min(later, default=found, key=lambda path: int(path.name))
        is_next = int(after.name) == self._height and not self._half
        fd = os.open(after, os.O_RDONLY)
        self._close()
        self._follow(after, fd, height=int(after.name), offset=0)
        self._vouches = is_next

    def _follow(self, path: Path, fd: int, *, height: int, offset: int) -> None:
        self._path, self._fd, self._height, self._offset = path, fd, height, offset
        os.lseek(fd, offset, os.SEEK_SET)

    def _newest(self) -> Path | None:
        starts = sorted(path for path in _listed(self._root) if path.is_dir())
        for start in reversed(starts):
            if files := _numbered(start):
                return max(files, key=lambda path: int(path.name))
        return None

    def _check_size(self) -> None:
        if self._fd >= 0 and os.fstat(self._fd).st_size < self._offset:
            self.faults.add(FaultReason.TRUNCATED, str(self._path).encode())
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._path, self._live_from = -1, None, 0
        self._half, self._is_skipping, self._vouches = b"", False, False

    # --- lines ------------------------------------------------------------------------------------

    def _read(self) -> list[RawBlock]:
        if self._fd < 0:
            return []
        # History and what is live never come together.
        ahead = self._live_from - self._offset
        size = min(HISTORY_SLICE_BYTES, ahead) if ahead > 0 else SLICE_BYTES
        if not (data := os.read(self._fd, size)):
            return []
        self._offset += len(data)
        self._grew_ns = time.time_ns()
        *lines, self._half = (self._half + data).split(b"\n")
        blocks: list[RawBlock] = []
        for line in lines:
            self._height += 1
            if self._is_skipping or not (line.startswith(b"{") and line.endswith(b"}")):
                if not self._is_skipping:
                    self.faults.add(FaultReason.GARBAGE, line)
                self._is_skipping = self._vouches = False
                continue
            before = self._height - 1 if self._vouches else None
            blocks.append(RawBlock(self.kind, self._height, [line], self._grew_ns, before))
            self._vouches = True
        if len(self._half) > self._max_line_bytes:
            if not self._is_skipping:
                self.faults.add(FaultReason.TOO_LONG, self._half)
            self._half, self._is_skipping = b"", True
        return blocks


def _count_lines(fd: int, size: int) -> tuple[int, int]:
    """How many lines of the first `size` bytes are over, and where the last of them ends."""
    lines = end = at = 0
    while at < size and (data := os.pread(fd, min(SLICE_BYTES, size - at), at)):
        if count := data.count(b"\n"):
            lines += count
            end = at + data.rindex(b"\n") + 1
        at += len(data)
    return lines, end


def _line_start(fd: int, at: int, end: int) -> int:
    """Where the first line begins that does not begin before `at`; `end` when there is none."""
    if at <= 0:
        return 0
    at -= 1  # a newline just before it
    while at < end and (data := os.pread(fd, min(SLICE_BYTES, end - at), at)):
        if (newline := data.find(b"\n")) >= 0:
            return at + newline + 1
        at += len(data)
    return end


def _count_between(fd: int, begin: int, end: int) -> int:
    lines = 0
    while begin < end and (data := os.pread(fd, min(SLICE_BYTES, end - begin), begin)):
        lines += data.count(b"\n")
        begin += len(data)
    return lines


def _numbered(start: Path) -> list[Path]:
    """The files of one start of the node, in all its date folders."""
    return [path for date in _listed(start) for path in _listed(date) if path.name.isdigit()]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
