"""One kind's growing files, read step by step with made-up times: no line is ever lost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.blocks import LateBlock, RawBlock
from streaming.hl_gateway.assemble import FaultReason, FileMode
from streaming.hl_gateway.file_tail import FileTail, Start, TailLimits
from streaming.hl_gateway.node_files import NodeFiles
from tests.streaming.node_lines import (
    BY_BLOCK,
    FILLS,
    SECOND_NS,
    STREAMING,
    NodeDirectory,
    node_line,
)

GRACE_NS = SECOND_NS // 2


class Steps:
    """A `FileTail` and the time it is told. `step` scans and reads until nothing is left."""

    def __init__(
        self, root: Path, *, start: Start = "end", back_bytes: int = 0, slice_bytes: int = 1 << 23
    ) -> None:
        limits = TailLimits(slice_bytes=slice_bytes, max_line_bytes=1 << 20, torn_grace_ns=GRACE_NS)
        self.tail = FileTail(
            NodeFiles(root), FILLS, start=start, back_bytes=back_bytes, limits=limits
        )
        self.at_ns = 0

    def step(self, *, after_ns: int = 1) -> list[RawBlock]:
        self.at_ns += after_ns
        self.tail.scan()
        blocks = self.read()
        while self.tail.has_more:
            blocks += self.read()
        return blocks

    def read(self) -> list[RawBlock]:
        return self.tail.read(read_ns=self.at_ns, at_ns=self.at_ns)

    def heights(self, *, after_ns: int = 1) -> list[int]:
        return [block.height for block in self.step(after_ns=after_ns)]

    @property
    def counts(self) -> dict[FaultReason, int]:
        return dict(+self.tail.faults.counts)


@pytest.fixture
def node(tmp_path: Path) -> NodeDirectory:
    return NodeDirectory(tmp_path)


@pytest.fixture
def follow(node: NodeDirectory) -> Iterator[Steps]:
    steps = Steps(node.root)
    yield steps
    steps.tail.close()


def lines(*heights: int) -> bytes:
    return b"".join(node_line(height, "a") + b"\n" for height in heights)


def test_a_directory_that_comes_later_is_read_from_its_start(
    node: NodeDirectory, follow: Steps
) -> None:
    assert follow.step() == []
    assert follow.tail.state().mode is None
    node.write(FILLS, BY_BLOCK, lines(1, 2))
    assert follow.heights() == [1, 2]
    state = follow.tail.state()
    assert (state.mode, state.height, state.backlog_bytes) == (BY_BLOCK, 2, 0)
    assert state.file == str(node.path(FILLS, BY_BLOCK))
    assert state.offset == len(lines(1, 2))
    assert state.last_growth_ns == follow.at_ns


def test_only_what_is_written_from_now_on(node: NodeDirectory, follow: Steps) -> None:
    node.write(FILLS, BY_BLOCK, lines(1, 2), hour=16)
    node.write(FILLS, BY_BLOCK, lines(3) + node_line(4, "a")[:30])
    assert follow.step() == []
    node.write(FILLS, BY_BLOCK, node_line(4, "a")[30:] + b"\n" + lines(5))
    assert follow.heights() == [4, 5]
    assert follow.counts == {}


def test_joining_a_streaming_file_drops_the_first_height(
    node: NodeDirectory, follow: Steps
) -> None:
    node.write(FILLS, STREAMING, lines(1, 2))
    follow.step()
    node.write(FILLS, STREAMING, lines(2, 2, 3, 3, 4))
    assert follow.heights() == [3]
    assert follow.counts == {FaultReason.PARTIAL_FIRST: 2}


def test_from_the_beginning_through_many_hours(node: NodeDirectory) -> None:
    for hour in range(12):
        node.write(FILLS, STREAMING, lines(hour * 2, hour * 2 + 1), hour=hour)
    steps = Steps(node.root, start="beginning", slice_bytes=100)
    assert steps.heights() == list(range(23))
    assert len(steps.tail._open) <= 4
    steps.tail.close()


def test_the_next_hour(node: NodeDirectory, follow: Steps) -> None:
    node.write(FILLS, BY_BLOCK, lines(1), hour=9)
    follow.step()
    node.write(FILLS, BY_BLOCK, lines(2), hour=9)
    node.write(FILLS, BY_BLOCK, lines(3), hour=10)
    assert follow.heights() == [2, 3]
    # The old hour's last buffer may be flushed after the new file exists.
    node.write(FILLS, BY_BLOCK, lines(4), hour=10)
    node.write(FILLS, BY_BLOCK, lines(5), hour=9)
    assert follow.heights() == [5, 4]
    node.write(FILLS, BY_BLOCK, lines(6), hour=0, date="20260506")
    assert follow.heights() == [6]


def test_half_a_line_at_the_hour_change_is_waited_for(node: NodeDirectory, follow: Steps) -> None:
    node.write(FILLS, BY_BLOCK, b"", hour=9)
    follow.step()
    node.write(FILLS, BY_BLOCK, lines(1)[:40], hour=9)
    node.write(FILLS, BY_BLOCK, lines(2), hour=10)
    assert follow.step() == []
    assert follow.tail.due_ns(seen_height=9, quiet_ns=1) == follow.at_ns + GRACE_NS
    node.write(FILLS, BY_BLOCK, lines(1)[40:], hour=9)
    assert follow.heights() == [1, 2]
    assert follow.counts == {}


def test_half_a_line_that_never_ends_is_torn_after_the_grace(
    node: NodeDirectory, follow: Steps
) -> None:
    node.write(FILLS, BY_BLOCK, b"", hour=9)
    follow.step()
    node.write(FILLS, BY_BLOCK, lines(1)[:40], hour=9)
    node.write(FILLS, BY_BLOCK, lines(2), hour=10)
    assert follow.step() == []
    assert follow.step(after_ns=GRACE_NS - 1) == []
    assert follow.heights() == [2]
    assert follow.counts == {FaultReason.TORN: 1}
    # And should it end after all, nothing is lost.
    node.write(FILLS, BY_BLOCK, lines(1)[40:], hour=9)
    (late,) = follow.step()
    assert isinstance(late, LateBlock)
    assert late.height == 1


def test_a_torn_old_hour_does_not_hold_up_a_start(node: NodeDirectory, follow: Steps) -> None:
    node.write(FILLS, BY_BLOCK, lines(1)[:40], hour=9)
    node.write(FILLS, BY_BLOCK, lines(2), hour=10)
    follow.step()
    node.write(FILLS, BY_BLOCK, lines(3), hour=10)
    assert follow.heights() == [3]


@pytest.mark.parametrize("mode", FileMode)
def test_a_line_written_in_two_parts_at_every_byte(tmp_path: Path, mode: FileMode) -> None:
    whole = lines(1, 2, 2, 3)
    expected = [1, 2, 3] if mode is BY_BLOCK else [1, 2]
    for size in range(len(whole) + 1):
        node = NodeDirectory(tmp_path / str(size))
        steps = Steps(node.root)
        steps.step()
        node.write(FILLS, mode, whole[:size])
        heights = steps.heights()
        node.write(FILLS, mode, whole[size:])
        assert heights + steps.heights() == expected
        assert set(steps.counts) <= {FaultReason.DUPLICATE}
        steps.tail.close()


@pytest.mark.parametrize("mode", FileMode)
def test_a_truncated_file_is_read_again_without_repeating(
    node: NodeDirectory, follow: Steps, mode: FileMode
) -> None:
    follow.step()
    path = node.write(FILLS, mode, lines(1, 2, 3) + node_line(4, "a")[:30])
    before = follow.heights()
    path.write_bytes(lines(1, 2, 3))
    before += follow.heights()
    node.write(FILLS, mode, lines(4, 5, 6))
    assert before + follow.heights() == (
        [1, 2, 3, 4, 5, 6] if mode is BY_BLOCK else [1, 2, 3, 4, 5]
    )
    assert follow.counts == {
        FaultReason.TRUNCATED: 1, FaultReason.TORN: 1, FaultReason.DUPLICATE: 3
    }  # fmt: skip


def test_a_file_emptied_by_its_keeper_goes_on(node: NodeDirectory, follow: Steps) -> None:
    follow.step()
    path = node.write(FILLS, STREAMING, lines(1, 2))
    assert follow.heights() == [1]
    os.truncate(path, 0)
    assert follow.step() == []
    node.write(FILLS, STREAMING, lines(2, 3))
    # The second line of 2 equals the first, byte for byte, so it counts as the same.
    assert follow.heights() == [2]


@pytest.mark.parametrize("mode", FileMode)
def test_a_replaced_file_is_read_to_its_end_and_then_the_new_one(
    node: NodeDirectory, follow: Steps, mode: FileMode
) -> None:
    follow.step()
    path = node.write(FILLS, mode, lines(1, 2, 3))
    before = follow.heights()
    node.write(FILLS, mode, lines(4))
    fresh = path.with_name("17.new")
    fresh.write_bytes(lines(1, 2, 3, 4, 5))
    fresh.rename(path)
    before += follow.heights()
    node.write(FILLS, mode, lines(6))
    assert before + follow.heights() == (
        [1, 2, 3, 4, 5, 6] if mode is BY_BLOCK else [1, 2, 3, 4, 5]
    )
    assert follow.counts == {FaultReason.REPLACED: 1, FaultReason.DUPLICATE: 4}


def test_a_deleted_file_is_read_while_its_writer_holds_it(
    node: NodeDirectory, follow: Steps
) -> None:
    follow.step()
    path = node.write(FILLS, BY_BLOCK, lines(1))
    with path.open("ab", buffering=0) as writer:
        assert follow.heights() == [1]
        path.unlink()
        writer.write(lines(2))
        assert follow.heights() == [2]
        writer.write(lines(3))
        assert follow.heights() == [3]
    node.write(FILLS, BY_BLOCK, lines(4))
    assert follow.heights() == [4]
    node.write(FILLS, BY_BLOCK, lines(5), hour=18)
    assert follow.heights() == [5]
    assert follow.counts == {FaultReason.DELETED: 1, FaultReason.REPLACED: 1}


@contextmanager
def unprivileged() -> Iterator[None]:
    """Lose the right to read everything, which root has."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_node() -> Iterator[NodeDirectory]:
    """A node directory that another user may enter (pytest's own directories allow only theirs)."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield NodeDirectory(Path(name))


def test_a_locked_file_is_reported_once_and_read_when_it_opens(open_node: NodeDirectory) -> None:
    steps = Steps(open_node.root)
    with unprivileged():
        steps.step()
    path = open_node.write(FILLS, BY_BLOCK, lines(1))
    path.chmod(0)
    with unprivileged():
        assert steps.step() == []
        assert steps.step() == []
    open_node.write(FILLS, BY_BLOCK, lines(2), hour=18)
    with unprivileged():
        assert steps.heights() == [2]
    assert steps.counts == {FaultReason.UNREADABLE: 1}
    (fault,) = steps.tail.faults.drain()
    assert str(path).encode() in fault.sample
    path.chmod(0o644)
    with unprivileged():
        (late,) = steps.step()
    assert isinstance(late, LateBlock)
    steps.tail.close()


@pytest.mark.parametrize("locked", ["file", "directory"])
def test_what_was_locked_at_the_start_is_joined_at_its_end(
    open_node: NodeDirectory, locked: str
) -> None:
    steps = Steps(open_node.root)
    path = open_node.write(FILLS, BY_BLOCK, lines(1, 2))
    target = path if locked == "file" else path.parent
    target.chmod(0)
    with unprivileged():
        assert steps.step() == []
    target.chmod(0o755)
    assert steps.step() == []
    open_node.write(FILLS, BY_BLOCK, lines(3))
    assert steps.heights() == [3]
    assert steps.counts == {FaultReason.UNREADABLE: 1}
    steps.tail.close()


def test_a_directory_or_pipe_in_place_of_a_file_stops_nothing(
    node: NodeDirectory, follow: Steps
) -> None:
    follow.step()
    node.path(FILLS, BY_BLOCK, hour=5).mkdir(parents=True)
    os.mkfifo(node.path(FILLS, BY_BLOCK, hour=6))
    node.write(FILLS, BY_BLOCK, lines(1), hour=7)
    assert follow.heights() == [1]
    assert follow.counts == {FaultReason.UNREADABLE: 2}


def test_the_node_changes_its_mode(node: NodeDirectory, follow: Steps) -> None:
    old = node.write(FILLS, STREAMING, lines(1))
    follow.step()
    node.write(FILLS, STREAMING, lines(2, 3, 4))
    assert follow.heights() == [3]
    new = node.write(FILLS, BY_BLOCK, lines(3, 4, 5))
    written_s = old.stat().st_mtime
    os.utime(new, (written_s + 4, written_s + 4))
    assert follow.step() == []
    os.utime(new, (written_s + 6, written_s + 6))
    assert follow.heights() == [4, 5]
    assert follow.tail.mode is BY_BLOCK
    assert follow.counts[FaultReason.MODE_CHANGED] == 1


def test_of_two_modes_the_one_written_last(node: NodeDirectory, follow: Steps) -> None:
    old = node.write(FILLS, BY_BLOCK, lines(1))
    node.write(FILLS, STREAMING, lines(1))
    os.utime(old, (1, 1))
    follow.step()
    assert follow.tail.mode is STREAMING


def test_a_backlog_is_read_in_slices(node: NodeDirectory) -> None:
    steps = Steps(node.root, slice_bytes=1_000)
    steps.tail.scan()
    node.write(FILLS, BY_BLOCK, lines(*range(100)))
    steps.tail.scan()
    blocks = steps.read()
    assert steps.tail.has_more
    assert 0 < sum(len(line) for block in blocks for line in block.lines) <= 1_000
    assert steps.tail.state().backlog_bytes == len(lines(*range(100))) - 1_000
    while steps.tail.has_more:
        blocks += steps.read()
    assert [block.height for block in blocks] == list(range(100))
    steps.tail.close()


@given(
    back_bytes=st.integers(1, 2_000),
    mode=st.sampled_from(FileMode),
    half=st.booleans(),
)
def test_history_and_live_have_no_seam(back_bytes: int, mode: FileMode, half: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        node = NodeDirectory(Path(name))
        node.write(FILLS, mode, lines(1, 2, 2, 3), hour=9)
        node.write(FILLS, mode, lines(3, 4, 5), hour=10)
        if half:
            node.write(FILLS, mode, lines(6)[:50], hour=10)
        steps = Steps(node.root, back_bytes=back_bytes)
        steps.tail.scan()
        history = []
        while steps.tail.in_history:
            history += steps.read()
        node.write(FILLS, mode, lines(6)[50:] if half else lines(6), hour=10)
        node.write(FILLS, mode, lines(7, 8), hour=11)
        blocks = history + steps.step()
        heights = [block.height for block in blocks]
        last = 8 if mode is BY_BLOCK else 7
        assert heights == list(range(heights[0], last + 1))
        # All lines of each block, also of the one that was open when we joined.
        expected = {2: 2, 3: 2} if mode is STREAMING else {}
        assert [len(b.lines) for b in blocks] == [expected.get(h, 1) for h in heights]
        assert all(block.height <= 5 for block in history)
        steps.tail.close()
