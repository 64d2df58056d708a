"""`replica_cmds`, followed through files, restarts and damage: each block once, at its height."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streaming.core.blocks import FileKind, RawBlock
from streaming.hl_gateway.assemble import FaultReason
from streaming.hl_gateway.replica_tail import ReplicaTail
from streaming.hl_gateway.tail import NodeTail

DEADLINE_S = 10.0
START, DATE = "2026-05-05T17:39:13Z", "20260505"


def line(number: int) -> bytes:
    return b'{"abci_block":{"round":%d},"resps":null}' % number


def write(root: Path, name: int, data: bytes, *, start: str = START) -> None:
    path = root / "replica_cmds" / start / DATE / str(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(data)


class Taken:
    """What was delivered."""

    def __init__(self) -> None:
        self.blocks: list[RawBlock] = []
        self._came = asyncio.Event()

    def __call__(self, blocks: list[RawBlock]) -> None:
        self.blocks += blocks
        self._came.set()

    @property
    def places(self) -> list[tuple[int, int | None]]:
        return [(block.height, block.previous) for block in self.blocks]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                self._came.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await self._came.wait()


@asynccontextmanager
async def following(root: Path, **options: int) -> AsyncIterator[tuple[ReplicaTail, Taken]]:
    tail, taken = ReplicaTail(root, look_s=0.02, **options), Taken()
    task = asyncio.ensure_future(tail.run(taken))
    try:
        yield tail, taken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_heights_come_from_the_name_and_the_line(tmp_path: Path) -> None:
    write(tmp_path, 900_000, line(1) + b"\n" + line(2) + b"\n" + line(3)[:9])
    async with following(tmp_path) as (tail, taken):
        await taken.until(lambda: tail.state().height == 900_002)
        write(tmp_path, 900_000, line(3)[9:] + b"\n" + line(4) + b"\n")
        await taken.until(lambda: len(taken.blocks) == 2)
    assert taken.places == [(900_003, None), (900_004, 900_003)]
    assert [block.lines for block in taken.blocks] == [[line(3)], [line(4)]]
    assert {block.kind for block in taken.blocks} == {FileKind.BLOCKS}


async def test_the_next_file_goes_on_where_this_one_ends(tmp_path: Path) -> None:
    write(tmp_path, 10, line(1) + b"\n")
    async with following(tmp_path) as (tail, taken):
        await taken.until(lambda: tail.state().height == 11)
        write(tmp_path, 10, line(2) + b"\n")
        await taken.until(lambda: len(taken.blocks) == 1)
        write(tmp_path, 12, line(3) + b"\n")
        await taken.until(lambda: len(taken.blocks) == 2)
        # A node that was started again: what lies between is not known.
        write(tmp_path, 40, line(4) + b"\n", start="2026-05-06T00:00:00Z")
        await taken.until(lambda: len(taken.blocks) == 3)
    assert taken.places == [(12, None), (13, 12), (41, None)]


@pytest.mark.parametrize(
    ("damage", "reason"), [(b"x", FaultReason.GARBAGE), (b"{" + b"y" * 500, FaultReason.TOO_LONG)]
)
async def test_a_damaged_line_costs_only_itself(
    tmp_path: Path, damage: bytes, reason: FaultReason
) -> None:
    write(tmp_path, 10, b"")
    async with following(tmp_path, max_line_bytes=300) as (tail, taken):
        await taken.until(lambda: tail.state().file is not None)
        write(tmp_path, 10, line(1) + b"\n" + damage)
        await taken.until(lambda: len(taken.blocks) == 1)
        write(tmp_path, 10, b"\n" + line(3) + b"\n" + line(4) + b"\n")
        await taken.until(lambda: len(taken.blocks) == 3)
        assert tail.faults.counts == {reason: 1}
    assert taken.places == [(11, None), (13, None), (14, 13)]


async def test_a_node_tail_follows_them_beside_the_hourly_files(tmp_path: Path) -> None:
    write(tmp_path, 10, line(1) + b"\n")
    tail, taken = NodeTail(tmp_path, kinds=(FileKind.FILLS, FileKind.BLOCKS)), Taken()
    task = asyncio.ensure_future(tail.run(taken))
    try:
        await taken.until(lambda: tail.state()[FileKind.BLOCKS].height == 11)
        write(tmp_path, 10, line(2) + b"\n")
        await taken.until(lambda: bool(taken.blocks))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert taken.places == [(12, None)]
    assert tail.faults == {}
