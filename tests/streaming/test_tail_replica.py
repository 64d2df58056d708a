"""`replica_cmds`, followed through files, restarts and damage: each block once, at its height."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.blocks import FileKind, RawBlock
from streaming.hl_gateway import replica_tail
from streaming.hl_gateway.assemble import FaultReason
from streaming.hl_gateway.config import GatewayConfig
from streaming.hl_gateway.replica_tail import ReplicaTail
from streaming.hl_gateway.server import Gateway
from streaming.hl_gateway.tail import NodeTail
from tests.streaming.gateways import following as linked
from tests.streaming.gateways import gateway_link
from tests.streaming.node_lines import BY_BLOCK, FILLS, NodeDirectory, node_line

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


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lines are counted no sooner than this is set, as if the file were large."""
    may, count = threading.Event(), replica_tail._count_lines

    def held(fd: int, *rest: int) -> tuple[int, int]:
        may.wait(DEADLINE_S)
        return count(fd, *rest)

    monkeypatch.setattr(replica_tail, "_count_lines", held)
    yield may
    may.set()


async def test_heights_come_from_the_name_and_the_line(tmp_path: Path) -> None:
    write(tmp_path, 900_000, line(1) + b"\n" + line(2) + b"\n" + line(3)[:9])
    async with following(tmp_path) as (tail, taken):
        await taken.until(lambda: tail.state().height == 900_002)
        write(tmp_path, 900_000, line(3)[9:] + b"\n" + line(4) + b"\n")
        await taken.until(lambda: len(taken.blocks) == 2)
    assert taken.places == [(900_003, None), (900_004, 900_003)]
    assert [block.lines for block in taken.blocks] == [[line(3)], [line(4)]]
    assert {block.kind for block in taken.blocks} == {FileKind.BLOCKS}


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    back_bytes=st.integers(1, 700),
    half=st.integers(0, 20),
)
def test_history_is_whole_lines_and_what_is_live_follows_on_it(
    sizes: list[int], back_bytes: int, half: int
) -> None:
    lines = [line(number)[:-1] + b" " * size + b"}" for number, size in enumerate(sizes)]
    last = line(99)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, 900, b"".join(each + b"\n" for each in lines) + last[:half])
        asyncio.run(_reads_back(root, lines, last, half, back_bytes))


async def _reads_back(
    root: Path, lines: list[bytes], last: bytes, half: int, back_bytes: int
) -> None:
    tail, past, taken = ReplicaTail(root, look_s=0.02, back_bytes=back_bytes), Taken(), Taken()
    await tail.find()
    await tail.read_history(past)
    # As many lines as fit, the newest ones, each at its height.
    fit = [sum(len(each) + 1 for each in lines[at:]) <= back_bytes for at in range(len(lines))]
    assert [block.lines[0] for block in past.blocks] == lines[
        fit.index(True) if any(fit) else len(lines) :
    ]
    heights = [block.height for block in past.blocks]
    assert heights == list(range(900 + len(lines) - len(heights) + 1, 900 + len(lines) + 1))
    task = asyncio.ensure_future(tail.run(taken))
    try:
        write(root, 900, last[half:] + b"\n")
        await taken.until(lambda: bool(taken.blocks))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    before = heights[-1] if heights else None
    assert taken.places == [(901 + len(lines), before)]
    assert taken.blocks[0].lines == [last]


async def test_a_file_that_is_found_later_has_no_history(tmp_path: Path) -> None:
    tail, past, taken = ReplicaTail(tmp_path, look_s=0.02, back_bytes=1_000), Taken(), Taken()
    await tail.find()
    await tail.read_history(past)
    write(tmp_path, 900, line(1) + b"\n")
    task = asyncio.ensure_future(tail.run(taken))
    try:
        await taken.until(lambda: tail.state().height == 901)
        write(tmp_path, 900, line(2) + b"\n")
        await taken.until(lambda: bool(taken.blocks))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (past.blocks, taken.places) == ([], [(902, None)])


async def test_what_is_written_while_lines_are_counted_is_live(
    tmp_path: Path, counting: threading.Event
) -> None:
    write(tmp_path, 900, line(1) + b"\n" + line(2)[:5])
    tail, past, taken = ReplicaTail(tmp_path, look_s=0.02, back_bytes=1_000), Taken(), Taken()
    finding = asyncio.ensure_future(tail.find())
    await asyncio.sleep(0)
    write(tmp_path, 900, line(2)[5:] + b"\n")
    counting.set()
    await finding
    await tail.read_history(past)
    task = asyncio.ensure_future(tail.run(taken))
    try:
        await taken.until(lambda: bool(taken.blocks))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (past.places, taken.places) == ([(901, None)], [(902, 901)])


async def test_a_gateway_serves_the_other_kinds_while_lines_are_counted(
    tmp_path: Path, counting: threading.Event
) -> None:
    node = NodeDirectory(tmp_path / "data")
    write(node.root, 900, b"".join(line(number) + b"\n" for number in range(1, 6)))
    node.write(FILLS, BY_BLOCK, node_line(905, "old") + b"\n")
    gateway = Gateway(
        GatewayConfig(data_dir=node.root, listen="127.0.0.1:0", scratch=tmp_path / "scratch")
    )
    serving = asyncio.ensure_future(gateway.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await gateway.ready.wait()
        kinds = (FILLS, FileKind.BLOCKS)
        link = gateway_link(f"127.0.0.1:{gateway.port}", scratch=tmp_path, kinds=kinds)
        link._heights[FileKind.BLOCKS] = 903
        async with linked(link) as delivered:
            node.write(FILLS, BY_BLOCK, node_line(906, "new") + b"\n")
            write(node.root, 900, line(6) + b"\n")
            await delivered.until(lambda: 906 in delivered.heights(FILLS))
            assert delivered.heights(FileKind.BLOCKS) == []
            counting.set()
            await delivered.until(lambda: 906 in delivered.heights(FileKind.BLOCKS))
            assert link.state()["lost"] == 0
    finally:
        counting.set()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    blocks = [block for block in delivered.blocks if block.kind is FileKind.BLOCKS]
    assert [(block.height, block.previous) for block in blocks] == [
        (904, 903),
        (905, 904),
        (906, 905),
    ]


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
