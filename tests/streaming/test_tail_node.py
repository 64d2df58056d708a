"""`NodeTail` in its loop, on real files with the real inotify."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streaming.core.blocks import MARKET_KINDS, OpenBlock, RawBlock
from streaming.hl_gateway.assemble import FaultReason, FileMode
from streaming.hl_gateway.inotify import Inotify, Mask
from streaming.hl_gateway.tail import NodeTail, read_directory
from tests.streaming.node_lines import (
    BY_BLOCK,
    DIFFS,
    FILLS,
    STATUSES,
    STREAMING,
    NodeDirectory,
    node_line,
)

DEADLINE_S = 10.0
#: Where a test must not be saved by the safety rescan.
NEVER_S = 3_600.0


class Deliveries:
    """What a tail delivered; waits for a condition on it instead of for time."""

    def __init__(self) -> None:
        self.lists: list[list[RawBlock]] = []
        self.history: list[RawBlock] = []
        self.open: list[OpenBlock] = []
        self._arrived = asyncio.Event()

    def __call__(self, blocks: list[RawBlock]) -> None:
        self.lists.append(blocks)
        self._arrived.set()

    def take_open(self, block: OpenBlock) -> None:
        self.open.append(block)
        self._arrived.set()

    @property
    def blocks(self) -> list[RawBlock]:
        return [block for blocks in self.lists for block in blocks]

    @property
    def heights(self) -> list[int]:
        return [block.height for block in self.blocks]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()

    async def until_heights(self, *heights: int) -> None:
        await self.until(lambda: len(self.blocks) >= len(heights))
        assert self.heights == list(heights)


@asynccontextmanager
async def running(tail: NodeTail) -> AsyncIterator[Deliveries]:
    """The tail runs, and has joined, within the block."""
    tail.open()
    deliveries = Deliveries()
    task = asyncio.create_task(
        tail.run(
            deliveries,
            deliver_history=deliveries.history.extend,
            deliver_open=deliveries.take_open,
        )
    )
    try:
        yield deliveries
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def node(tmp_path: Path) -> NodeDirectory:
    return NodeDirectory(tmp_path / "hl" / "data")


@pytest.fixture
def ready_node(node: NodeDirectory) -> NodeDirectory:
    """All three kinds exist by block, with block 1 in them."""
    for kind in MARKET_KINDS:
        node.write(kind, BY_BLOCK, lines(1))
    return node


def lines(*heights: int) -> bytes:
    return b"".join(node_line(height, "a") + b"\n" for height in heights)


async def test_a_written_line_is_delivered_by_inotify_alone(ready_node: NodeDirectory) -> None:
    async with running(NodeTail(ready_node.root, rescan_s=NEVER_S)) as deliveries:
        for height in range(2, 50):
            before_ns = time.time_ns()
            ready_node.write(DIFFS, BY_BLOCK, lines(height))
            await deliveries.until(lambda height=height: deliveries.heights[-1:] == [height])
            assert before_ns <= deliveries.blocks[-1].read_ns <= time.time_ns()
        assert deliveries.heights == list(range(2, 50))


async def test_an_open_block_of_fills_is_shown_each_time_it_grows(node: NodeDirectory) -> None:
    for kind in MARKET_KINDS:
        node.write(kind, STREAMING, lines(1))
    async with running(NodeTail(node.root, rescan_s=NEVER_S, quiet_s=NEVER_S)) as deliveries:
        node.write(FILLS, STREAMING, lines(2, 3))  # block 2 may have begun before we came
        await deliveries.until(lambda: len(deliveries.open) == 1)
        node.write(FILLS, STREAMING, node_line(3, "b") + b"\n" + node_line(3, "c")[:20])
        await deliveries.until(lambda: len(deliveries.open) == 2)
        node.write(FILLS, STREAMING, node_line(3, "c")[20:] + b"\n" + lines(4))
        await deliveries.until(lambda: len(deliveries.open) == 3)
    assert [(b.height, len(b.lines)) for b in deliveries.open] == [(3, 1), (3, 2), (4, 1)]
    assert [(b.height, len(b.lines)) for b in deliveries.blocks] == [(3, 3)]


async def test_one_wake_up_delivers_one_sorted_list_and_the_bulk_behind(
    ready_node: NodeDirectory,
) -> None:
    async with running(NodeTail(ready_node.root, rescan_s=NEVER_S)) as deliveries:
        # All written before the loop gets its turn, in the least helpful order.
        for kind in (STATUSES, DIFFS, FILLS):
            ready_node.write(kind, BY_BLOCK, lines(2, 3))
        await deliveries.until(lambda: len(deliveries.lists) == 2)
        prompt, bulk = deliveries.lists
        assert [(block.height, block.kind) for block in prompt] == [
            (height, kind) for height in (2, 3) for kind in (FILLS, DIFFS)
        ]
        assert [(block.height, block.kind) for block in bulk] == [(2, STATUSES), (3, STATUSES)]


async def test_directories_may_appear_one_by_one_after_the_start(node: NodeDirectory) -> None:
    node.root.mkdir(parents=True)
    async with running(NodeTail(node.root, rescan_s=NEVER_S)) as deliveries:
        path = node.path(FILLS, STREAMING)
        for directory in reversed(path.parents[:3]):
            directory.mkdir()
            await asyncio.sleep(0)
        node.write(FILLS, STREAMING, lines(1, 2))
        await deliveries.until_heights(1)
        node.write(FILLS, STREAMING, lines(3), hour=18)
        await deliveries.until_heights(1, 2)
        node.write(FILLS, STREAMING, lines(4), hour=0, date="20260506")
        await deliveries.until_heights(1, 2, 3)


async def test_a_data_directory_that_comes_later_is_found_by_the_rescan(
    node: NodeDirectory,
) -> None:
    tail = NodeTail(node.root, rescan_s=0.01)
    async with running(tail) as deliveries:
        node.write(FILLS, BY_BLOCK, lines(1))
        await deliveries.until_heights(1)
        assert tail.state()[FILLS].mode is BY_BLOCK
        assert tail.state()[DIFFS].mode is None


async def test_a_whole_directory_is_removed_and_comes_back(ready_node: NodeDirectory) -> None:
    async with running(NodeTail(ready_node.root, rescan_s=0.01)) as deliveries:
        shutil.rmtree(ready_node.root / "node_fills_by_block")
        ready_node.write(FILLS, BY_BLOCK, lines(2, 3))
        await deliveries.until_heights(2, 3)
        ready_node.write(FILLS, BY_BLOCK, lines(4))
        await deliveries.until_heights(2, 3, 4)


async def test_quiet_fills_do_not_wait_for_the_next_trade(node: NodeDirectory) -> None:
    tail = NodeTail(node.root, rescan_s=NEVER_S, quiet_s=0.02)
    node.root.mkdir(parents=True)
    async with running(tail) as deliveries:
        node.write(FILLS, STREAMING, lines(10, 10))
        node.write(DIFFS, STREAMING, lines(10, 11))
        await deliveries.until(lambda: any(b.kind is FILLS for b in deliveries.blocks))
        fills = [block for block in deliveries.blocks if block.kind is FILLS]
        assert [(block.height, len(block.lines)) for block in fills] == [(10, 2)]
        # Nobody is above the diffs' block 11, so it stays open however quiet it is.
        assert [b.height for b in deliveries.blocks if b.kind is DIFFS] == [10]


async def test_half_a_line_at_the_hour_change_holds_the_next_hour_for_the_grace_only(
    ready_node: NodeDirectory,
) -> None:
    tail = NodeTail(ready_node.root, rescan_s=NEVER_S, torn_grace_s=0.02)
    async with running(tail) as deliveries:
        ready_node.write(DIFFS, BY_BLOCK, lines(2)[:50])
        ready_node.write(DIFFS, BY_BLOCK, lines(3), hour=18)
        await deliveries.until_heights(3)
        assert tail.faults == {"torn_line": 1}


async def test_a_backlog_leaves_the_loop_its_turns(ready_node: NodeDirectory) -> None:
    tail = NodeTail(ready_node.root, rescan_s=NEVER_S, slice_bytes=4_096)
    async with running(tail) as deliveries:
        ready_node.write(DIFFS, BY_BLOCK, lines(*range(2, 2_002)))
        turns = 0
        async with asyncio.timeout(DEADLINE_S):
            while len(deliveries.blocks) < 2_000:
                await asyncio.sleep(0)
                turns += 1
        assert deliveries.heights == list(range(2, 2_002))
        # About 300 KB in slices of 4 KiB, each of them a turn of its own.
        assert len(deliveries.lists) > 50
        assert turns > 50


@pytest.mark.parametrize("mode", FileMode)
async def test_history_comes_first_and_apart(node: NodeDirectory, mode: FileMode) -> None:
    for kind in (FILLS, DIFFS):
        node.write(kind, mode, lines(*range(100)))
    tail = NodeTail(node.root, rescan_s=NEVER_S, tail_back_bytes={FILLS: 1_000})
    async with running(tail) as deliveries:
        for kind in (FILLS, DIFFS):
            node.write(kind, mode, lines(100, 101, 102))
        wanted = 6 if mode is BY_BLOCK else 4
        await deliveries.until(lambda: len(deliveries.blocks) >= wanted)
        assert {block.kind for block in deliveries.history} == {FILLS}
        heights = [block.height for block in deliveries.history]
        heights += [block.height for block in deliveries.blocks if block.kind is FILLS]
        assert 90 <= heights[0] < 95
        assert heights == list(range(heights[0], 103 if mode is BY_BLOCK else 102))
        # Diffs were joined without history: the first height may be partly seen, and is dropped.
        diffs = [block.height for block in deliveries.blocks if block.kind is DIFFS]
        assert diffs == ([100, 101, 102] if mode is BY_BLOCK else [101])


async def test_history_without_a_taker_is_refused(node: NodeDirectory) -> None:
    tail = NodeTail(node.root, tail_back_bytes={FILLS: 1})
    with pytest.raises(ValueError, match="deliver_history"):
        await tail.run(lambda blocks: None)


async def test_what_deliver_raises_ends_the_run(ready_node: NodeDirectory) -> None:
    def refuse(blocks: list[RawBlock]) -> None:
        raise RuntimeError("no room")

    tail = NodeTail(ready_node.root, rescan_s=NEVER_S)
    tail.open()
    ready_node.write(DIFFS, BY_BLOCK, lines(2))
    with pytest.raises(RuntimeError, match="no room"):
        async with asyncio.timeout(DEADLINE_S):
            await tail.run(refuse)


async def test_garbage_is_counted_and_reported_once_a_kind(ready_node: NodeDirectory) -> None:
    tail = NodeTail(ready_node.root, rescan_s=NEVER_S)
    async with running(tail) as deliveries:
        for kind in (FILLS, DIFFS):
            ready_node.write(kind, BY_BLOCK, b"garbage\n" * 3 + lines(2))
        await deliveries.until_heights(2, 2)
        assert tail.faults == {"garbage": 6}
        assert tail.faults_by_kind[DIFFS] == {"garbage": 3}
        faults = tail.drain_faults()
        assert [(f.kind, f.reason) for f in faults] == [
            (FILLS, FaultReason.GARBAGE), (DIFFS, FaultReason.GARBAGE)
        ]  # fmt: skip
        assert tail.drain_faults() == []


async def test_without_inotify_the_files_are_polled(
    ready_node: NodeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Inotify, "__init__", refuse)
    tail = NodeTail(ready_node.root, rescan_s=NEVER_S)
    async with running(tail) as deliveries:
        ready_node.write(DIFFS, BY_BLOCK, lines(2))
        await deliveries.until_heights(2)
        assert tail.faults == {"watch_refused": 1}


async def test_all_descriptors_are_given_back(ready_node: NodeDirectory) -> None:
    before = os.listdir("/proc/self/fd")
    async with running(NodeTail(ready_node.root)) as deliveries:
        ready_node.write(DIFFS, BY_BLOCK, lines(2))
        await deliveries.until_heights(2)
        assert len(os.listdir("/proc/self/fd")) > len(before)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("mode", FileMode)
async def test_recorded_blocks_arrive_whole(
    tmp_path: Path, test_data: Path, mode: FileMode
) -> None:
    """The recorded lines, written while we follow, give what reading them at once gives."""
    expected = {(b.kind, b.height): b.lines for b in read_directory(test_data / "node", mode=mode)}
    node = NodeDirectory(tmp_path)
    tail = NodeTail(node.root, rescan_s=NEVER_S, quiet_s=0.05, slice_bytes=1 << 18)
    async with running(tail) as deliveries:
        for kind in MARKET_KINDS:
            (path,) = (test_data / "node").glob(f"{kind}_{mode}.2*.gz")
            data = gzip.decompress(path.read_bytes())
            for start in range(0, len(data), 700_001):
                node.write(kind, mode, data[start : start + 700_001])
                await asyncio.sleep(0)
            # A later block in each kind closes the last one.
            node.write(kind, mode, lines(999_999_999))
        wanted = len(expected) + (3 if mode is BY_BLOCK else 0)
        await deliveries.until(lambda: len(deliveries.blocks) >= wanted)
        given = {(b.kind, b.height): b.lines for b in deliveries.blocks if b.height < 999_999_999}
        assert given == expected
        assert tail.faults == {}


def test_inotify_names_what_happened(tmp_path: Path) -> None:
    inotify = Inotify()
    try:
        inotify.watch(str(tmp_path))
        assert inotify.read() == []
        with (tmp_path / "17").open("wb", buffering=0) as file:
            file.write(b"x")
        seen = [(Mask(event.mask), event.name) for event in inotify.read()]
        assert seen == [(Mask.CREATE, "17"), (Mask.MODIFY, "17")]
        (tmp_path / "17").unlink()
        tmp_path.rmdir()
        masks = [event.mask for event in inotify.read()]
        assert any(mask & Mask.DELETE for mask in masks)
        assert inotify.directories == frozenset()
        with pytest.raises(FileNotFoundError):
            inotify.watch(str(tmp_path))
        inotify.unwatch(str(tmp_path))
    finally:
        inotify.close()
        inotify.close()


def test_inotify_reads_more_events_than_one_buffer_holds(tmp_path: Path) -> None:
    inotify = Inotify()
    try:
        inotify.watch(str(tmp_path))
        names = [f"{number:0200d}" for number in range(700)]
        for name in names:
            (tmp_path / name).touch()
        events = []
        while batch := inotify.read():
            events += batch
        assert [event.name for event in events if event.mask & Mask.CREATE] == names
    finally:
        inotify.close()
