"""From a node's output files to closed blocks, within a fraction of a millisecond after the write.

`NodeTail` follows a running node; `read_directory` reads a whole directory as fast as possible.
Both hand on `RawBlock`s. This runs inside the worker on the node's own host and inside the gateway
process beside a remote node, so it knows nothing of what is upstream or downstream of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from streaming.core.blocks import MARKET_KINDS, FileKind, LateBlock, OpenBlock, RawBlock
from streaming.hl_gateway.assemble import (
    MAX_LINE_BYTES,
    Fault,
    FaultReason,
    FileMode,
    Mark,
)
from streaming.hl_gateway.file_tail import FileTail, Start, TailLimits, TailState
from streaming.hl_gateway.inotify import LAYOUT, Inotify, Mask
from streaming.hl_gateway.node_files import KIND_RANK, NodeFiles, NoNodeFiles, read_directory
from streaming.hl_gateway.replica_tail import ReplicaTail

__all__ = [
    "Fault",
    "FaultReason",
    "FileMode",
    "LateBlock",
    "NoNodeFiles",
    "NodeFiles",
    "NodeTail",
    "Start",
    "TailState",
    "read_directory",
]

Deliver = Callable[[list[RawBlock]], None]
DeliverOpen = Callable[[OpenBlock], None]

SLICE_BYTES = 8 * 1024 * 1024
#: A streaming block without a later one in its own kind counts as closed after this: the recorded
#: lines of one block spread over 43 ms at most, and a quiet coin's last fills must not wait for the
#: next trade.
QUIET_S = 0.25
TORN_GRACE_S = 0.5
RESCAN_S = 1.0
#: `_streaming` files hold no line for an empty block. But a node that writes nothing of any kind
#: for this many heights (7 s) was away, not in a quiet market.
AWAY_BLOCKS = 100
#: Read and delivered behind the others: 450 KB of a block's statuses cost a reader 1 ms, and what
#: its few KB of fills and book changes say would be that much older.
BULK_KINDS = frozenset({FileKind.STATUSES})
#: Without inotify (no instance left, another system) the files are looked at this often.
BLIND_POLL_S = 0.005


class NodeTail:
    """Follows the files of one node.

    `start="end"` gives only what is written from now on; `"beginning"` reads everything there is
    first, as live blocks. `tail_back_bytes` asks for recent history of a kind as well
    (`start="end"` only): it goes to `deliver_history` before anything live, and a block open at the
    join comes live and whole. Only `FileKind.BLOCKS` is on its own: its history takes seconds to
    find, and comes, before what is live of it, when the other kinds may be live already.

    One `NodeTail` runs once. `open` fixes the joining point and is synchronous, so that a caller
    can join first and ask for a checkpoint then; `run` calls it when nobody did. Whoever calls
    `open` and never gets to `run` calls `close`.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        kinds: Collection[FileKind] = MARKET_KINDS,
        start: Start = "end",
        tail_back_bytes: Mapping[FileKind, int] | None = None,
        quiet_s: float = QUIET_S,
        torn_grace_s: float = TORN_GRACE_S,
        rescan_s: float = RESCAN_S,
        slice_bytes: int = SLICE_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.files = NodeFiles(data_dir)
        back = dict(tail_back_bytes or {})
        limits = TailLimits(
            slice_bytes=slice_bytes,
            max_line_bytes=max_line_bytes,
            torn_grace_ns=round(torn_grace_s * 1e9),
        )
        self._tails = [
            FileTail(self.files, kind, start=start, back_bytes=back.get(kind, 0), limits=limits)
            for kind in sorted(kinds, key=KIND_RANK.__getitem__)
            if kind is not FileKind.BLOCKS
        ]
        self._replica = (
            ReplicaTail(
                Path(data_dir),
                back_bytes=back.get(FileKind.BLOCKS, 0),
                max_line_bytes=max_line_bytes,
            )
            if FileKind.BLOCKS in kinds
            else None
        )
        self.joined = asyncio.Event()
        """Set once all history but that of `FileKind.BLOCKS` is delivered, and everything from then
        on is live.
        """
        self._quiet_ns, self._rescan_s = round(quiet_s * 1e9), rescan_s
        self._tip, self._away = -1, (-1, -1)
        self._inotify: Inotify | None = None
        self._is_open = False
        self._deliver: Deliver
        self._deliver_open: DeliverOpen | None = None
        self._open_size = (-1, 0)  # height and lines of the open block as last delivered
        self._loop: asyncio.AbstractEventLoop
        self._failed: asyncio.Future[None]
        self._prompt = [tail for tail in self._tails if tail.kind not in BULK_KINDS]
        self._bulk = [tail for tail in self._tails if tail.kind in BULK_KINDS]
        self._again: asyncio.Handle | None = None
        self._bulk_turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rescan_timer: asyncio.TimerHandle | None = None

    @property
    def faults(self) -> dict[str, int]:
        """How often each reason occurred, over all kinds."""
        total: Counter[str] = Counter()
        for tail in self._all():
            total.update({str(reason): count for reason, count in tail.faults.counts.items()})
        return dict(total)

    @property
    def faults_by_kind(self) -> dict[FileKind, dict[str, int]]:
        """How often each reason occurred in each kind: `garbage` among diffs means a book may be
        wrong.
        """
        return {
            tail.kind: {str(reason): count for reason, count in tail.faults.counts.items()}
            for tail in self._all()
        }

    def drain_faults(self) -> list[Fault]:
        """The first sample of each kind and reason not handed out before: one log line each."""
        return [fault for tail in self._all() for fault in tail.faults.drain()]

    def state(self) -> dict[FileKind, TailState]:
        """File, offset, height, last growth, mode and backlog of each kind, for metrics."""
        return {tail.kind: tail.state() for tail in self._all()}

    def _all(self) -> list[FileTail | ReplicaTail]:
        return [*self._tails, *([self._replica] if self._replica else [])]

    def open(self) -> None:
        """Find the files and fix the joining point; blocking, but only directory listings."""
        if self._is_open:
            return
        self._is_open = True
        try:
            self._inotify = Inotify()
        except OSError as error:
            self._tails[0].faults.add(FaultReason.WATCH_REFUSED, str(error).encode())
        self._scan()

    def close(self) -> None:
        """Give all descriptors back. `run` does it at its end."""
        for handle in (self._again, self._bulk_turn, self._timer, self._rescan_timer):
            if handle is not None:
                handle.cancel()
        self._again = self._bulk_turn = self._timer = self._rescan_timer = None
        if self._inotify is not None:
            self._inotify.close()
        for tail in self._tails:
            tail.close()

    async def run(
        self,
        deliver: Deliver,
        *,
        deliver_history: Deliver | None = None,
        deliver_open: DeliverOpen | None = None,
        on_blocks_live: Callable[[], None] = lambda: None,
    ) -> None:
        """Deliver closed blocks until cancelled, and to `deliver_open` the lines so far of a block
        of fills each time it got more. `on_blocks_live` is called between the history of
        `FileKind.BLOCKS` and what is live of it, whether there is any or not.

        `deliver` is called in the loop, straight from the wake-up, with one list for everything
        that wake-up closed but the bulk (`BULK_KINDS`), which comes in a list of its own one turn
        of the loop later. A list is sorted by height, within a height by `KIND_RANK`. `deliver`
        must not block. What it raises ends `run`.

        Raises:
            ValueError: history was asked for, and there is nobody to take it.
        """
        if deliver_history is None and any(tail.back_bytes for tail in self._all()):
            raise ValueError("tail_back_bytes needs deliver_history")
        self._loop, self._deliver = asyncio.get_running_loop(), deliver
        self._deliver_open = deliver_open
        self._failed = self._loop.create_future()
        replica: asyncio.Future[None] | None = None
        try:
            self.open()
            if self._replica is not None:
                replica = asyncio.ensure_future(
                    self._follow_replica(self._replica, deliver_history, on_blocks_live)
                )
                replica.add_done_callback(self._on_replica_end)
            if deliver_history is not None:
                await self._read_history(deliver_history)
            self.joined.set()
            if self._inotify is not None:
                self._loop.add_reader(self._inotify.fileno(), self._guarded, self._on_inotify)
            self._guarded(self._on_rescan)
            await self._failed
        finally:
            if replica is not None:
                replica.cancel()
                await asyncio.gather(replica, return_exceptions=True)
            if self._inotify is not None:
                self._loop.remove_reader(self._inotify.fileno())
            self.close()

    def _on_replica_end(self, replica: asyncio.Future[None]) -> None:
        if not replica.cancelled() and not self._failed.done() and (error := replica.exception()):
            self._failed.set_exception(error)

    async def _read_history(self, deliver_history: Deliver) -> None:
        """Fills of all the history first, then diffs, then statuses: nobody needs it merged by
        height.
        """
        for tail in self._tails:
            while tail.in_history:
                blocks = tail.read(read_ns=time.time_ns(), at_ns=time.monotonic_ns())
                if blocks:
                    deliver_history(blocks)
                await asyncio.sleep(0)

    async def _follow_replica(
        self,
        replica: ReplicaTail,
        deliver_history: Deliver | None,
        on_blocks_live: Callable[[], None],
    ) -> None:
        """Its lines are counted while the history of the other kinds is read, and longer."""
        if has_history := bool(deliver_history and replica.back_bytes):
            await replica.find()
        await self.joined.wait()
        if has_history and deliver_history:
            await replica.read_history(deliver_history)
        on_blocks_live()
        await replica.run(self._deliver)

    # -- wake-ups: callbacks of the loop, because a task switch would cost more than the work ------

    def _guarded(self, callback: Callable[[], None]) -> None:
        """Run a callback; an exception ends `run` instead of being logged by the loop and
        forgotten.
        """
        if self._failed.done():
            return
        try:
            callback()
        except Exception as error:  # a loop callback has no caller: `run` is the one to raise it
            self._failed.set_exception(error)

    def _on_inotify(self) -> None:
        mask = 0
        for event in self._inotify.read() if self._inotify is not None else ():
            mask |= event.mask
        if mask & Mask.Q_OVERFLOW:
            self._tails[0].faults.add(FaultReason.WATCH_OVERFLOW)
        if mask & LAYOUT:
            self._scan()
        self._pump()

    def _on_rescan(self) -> None:
        """Once a second, for what inotify does not tell: network file systems, lost events,
        permissions, modes.
        """
        self._scan()
        self._pump()
        self._rescan_timer = self._loop.call_later(self._rescan_s, self._guarded, self._on_rescan)

    def _on_again(self) -> None:
        self._again = None
        self._pump()

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()

    # -- work --------------------------------------------------------------------------------------

    def _scan(self) -> None:
        """Look for files, watching every directory before trusting its listing."""
        for tail in self._tails:
            tail.scan()
        # A directory may have filled between our listing and our watch: list again after each new
        # watch. It ends, because a watched directory is not watched again; five levels exist at
        # most.
        while self._watch_directories():
            for tail in self._tails:
                tail.scan()

    def _watch_directories(self) -> bool:
        """Watch what should be watched; True when something new was."""
        if self._inotify is None:
            return False
        wanted = {str(self.files.data_dir)}.union(*(tail.directories() for tail in self._tails))
        for directory in self._inotify.directories - wanted:
            self._inotify.unwatch(directory)
        has_new = False
        for directory in wanted - self._inotify.directories:
            try:
                self._inotify.watch(directory)
                has_new = True
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._tails[0].faults.add(FaultReason.WATCH_REFUSED, str(error).encode())
        return has_new

    def _on_bulk(self) -> None:
        self._bulk_turn = None
        self._read(self._bulk)
        self._come_back()

    def _pump(self) -> None:
        """Read what is there, deliver what it closes, and see to it that somebody comes back for
        the rest.
        """
        has_news = self._read(self._prompt)
        if self._deliver_open is not None:
            self._pump_open(self._deliver_open)
        if not has_news:
            self._read(self._bulk)
        elif self._bulk and self._bulk_turn is None:
            # Whoever was woken by what is delivered already has its turn before this one.
            self._bulk_turn = self._loop.call_soon(self._guarded, self._on_bulk)
        self._come_back()

    def _read(self, tails: list[FileTail]) -> bool:
        """Deliver what these have closed; False when that is nothing."""
        read_ns, at_ns = time.time_ns(), time.monotonic_ns()
        blocks: list[RawBlock] = []
        for tail in tails:
            blocks += tail.read(read_ns=read_ns, at_ns=at_ns, beside=self._marks_beside(tail))
        for tail in tails:
            blocks += tail.close_idle(
                seen_height=self._seen_beside(tail),
                at_ns=at_ns,
                quiet_ns=self._quiet_ns,
                beside=self._marks_beside(tail),
            )
        if not blocks:
            return False
        blocks.sort(key=lambda block: (block.height, KIND_RANK[block.kind]))
        self._deliver(self._doubt(blocks))
        return True

    def _come_back(self) -> None:
        if any(tail.has_more for tail in self._tails):
            if self._again is None:
                self._again = self._loop.call_soon(self._guarded, self._on_again)
        elif self._bulk_turn is None:
            self._arm_timer(time.monotonic_ns())

    def _pump_open(self, deliver: DeliverOpen) -> None:
        for tail in self._tails:
            block = tail.open_block if tail.kind is FileKind.FILLS else None
            if block is not None and (block.height, len(block.lines)) != self._open_size:
                self._open_size = block.height, len(block.lines)
                deliver(block)

    def _doubt(self, blocks: list[RawBlock]) -> list[RawBlock]:
        """Take the word back that nothing lies before a block, where the node itself was away."""
        for index, block in enumerate(blocks):
            if block.height > self._tip:
                if 0 <= self._tip < block.height - AWAY_BLOCKS:
                    self._away = (self._tip, block.height)
                self._tip = block.height
            begin, end = self._away
            if block.previous is not None and block.previous <= begin and block.height >= end:
                blocks[index] = dataclasses.replace(block, previous=None)
        return blocks

    def _seen_beside(self, tail: FileTail) -> int:
        return max((other.height or -1 for other in self._tails if other is not tail), default=-1)

    def _marks_beside(self, tail: FileTail) -> list[Mark]:
        return [other.mark for other in self._tails if other is not tail and other.mark]

    def _arm_timer(self, at_ns: int) -> None:
        """Come back when a block will have been quiet for long enough, or half a line torn for long
        enough.
        """
        if self._timer is not None:
            return
        dues = (
            tail.due_ns(seen_height=self._seen_beside(tail), quiet_ns=self._quiet_ns)
            for tail in self._tails
        )
        due_ns = min((due for due in dues if due is not None), default=None)
        if self._inotify is None:
            wait_s = BLIND_POLL_S
        elif due_ns is None:
            return
        else:
            # Half a millisecond late rather than a hair early, which would only mean waking twice.
            wait_s = max(0.0, (due_ns - at_ns) / 1e9) + 0.000_5
        self._timer = self._loop.call_later(wait_s, self._guarded, self._on_timer)
