"""Reading a whole node directory, or recordings lying flat, merged by height."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from pathlib import Path

import pytest

from streaming.core.blocks import MARKET_KINDS, FileKind, RawBlock
from streaming.hl_gateway.assemble import FaultReason, Faults, FileMode
from streaming.hl_gateway.tail import NoNodeFiles, read_directory
from tests.streaming.node_lines import (
    BY_BLOCK,
    DIFFS,
    FILLS,
    STATUSES,
    STREAMING,
    NodeDirectory,
    node_line,
)


@pytest.fixture
def node(tmp_path: Path) -> NodeDirectory:
    return NodeDirectory(tmp_path)


@pytest.fixture
def recorded(test_data: Path) -> Path:
    return test_data / "node"


def shape(blocks: list[RawBlock]) -> list[tuple[int, FileKind, int]]:
    return [(block.height, block.kind, len(block.lines)) for block in blocks]


def test_kinds_are_merged_by_height_and_ordered_within_it(node: NodeDirectory) -> None:
    for kind in (STATUSES, DIFFS, FILLS):
        node.write(kind, BY_BLOCK, node_line(100) + b"\n" + node_line(101) + b"\n")
    node.write(STATUSES, BY_BLOCK, node_line(102) + b"\n", hour=18)
    assert shape(list(read_directory(node.root))) == [
        (100, FILLS, 1), (100, DIFFS, 1), (100, STATUSES, 1),
        (101, FILLS, 1), (101, DIFFS, 1), (101, STATUSES, 1), (102, STATUSES, 1),
    ]  # fmt: skip
    only = list(read_directory(node.root, kinds=[DIFFS]))
    assert shape(only) == [(100, DIFFS, 1), (101, DIFFS, 1)]


def test_hours_are_numbers_not_names(node: NodeDirectory) -> None:
    written = [("20260504", 23, 1), ("20260505", 0, 2), ("20260505", 2, 3), ("20260505", 10, 4)]
    for date, hour, height in written:
        node.write(DIFFS, STREAMING, node_line(height, "a") + b"\n", hour=hour, date=date)
    path = node.path(DIFFS, STREAMING, hour=11)
    path.with_name("11.gz").write_bytes(gzip.compress(node_line(5, "a") + b"\n"))
    path.with_name("notes.txt").write_text("not ours")
    assert [block.height for block in read_directory(node.root)] == [1, 2, 3, 4, 5]


def test_a_block_may_span_two_hour_files(node: NodeDirectory) -> None:
    node.write(DIFFS, STREAMING, node_line(1, "a") + b"\n" + node_line(2, "b") + b"\n")
    node.write(DIFFS, STREAMING, node_line(2, "c") + b"\n", hour=18)
    assert shape(list(read_directory(node.root))) == [(1, DIFFS, 1), (2, DIFFS, 2)]


def test_mode_is_the_later_one_unless_named(node: NodeDirectory) -> None:
    node.write(FILLS, BY_BLOCK, node_line(1) + b"\n", hour=9)
    node.write(FILLS, STREAMING, node_line(2, "a") + b"\n", hour=10)
    assert [block.height for block in read_directory(node.root)] == [2]
    assert [block.height for block in read_directory(node.root, mode=BY_BLOCK)] == [1]
    node.write(FILLS, BY_BLOCK, node_line(3) + b"\n", hour=10)
    assert [block.height for block in read_directory(node.root)] == [1, 3]


def test_nothing_to_read_is_said_at_once(node: NodeDirectory) -> None:
    with pytest.raises(NoNodeFiles, match=str(node.root)):
        read_directory(node.root)
    node.write(FILLS, BY_BLOCK, node_line(1) + b"\n")
    with pytest.raises(NoNodeFiles, match="streaming"):
        read_directory(node.root, mode=STREAMING)


@pytest.mark.parametrize("mode", FileMode)
def test_torn_at_every_byte_costs_the_torn_line_only(node: NodeDirectory, mode: FileMode) -> None:
    lines = [node_line(1, "é"), node_line(2, "b"), node_line(3, "c")]
    whole = b"".join(line + b"\n" for line in lines)
    path = node.write(FILLS, mode, b"")
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        faults = {kind: Faults(kind) for kind in MARKET_KINDS}
        blocks = list(read_directory(node.root, faults=faults))
        # A last line is whole without its newline too.
        ends = list(itertools.accumulate(len(line) + 1 for line in lines))
        expected = sum(size >= end - 1 for end in ends)
        assert [block.lines for block in blocks] == [[line] for line in lines[:expected]]
        is_torn = size > 0 and not any(size in (end, end - 1) for end in ends)
        assert +faults[FILLS].counts == ({FaultReason.TORN: 1} if is_torn else {})


def test_a_torn_archive_gives_what_came_out_of_it(tmp_path: Path) -> None:
    lines = b"".join(node_line(height, os.urandom(40).hex()) + b"\n" for height in range(200))
    packed = gzip.compress(lines)
    path = tmp_path / "node_fills_by_block.20260505_17.1-200.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    faults = {kind: Faults(kind) for kind in MARKET_KINDS}
    blocks = list(read_directory(tmp_path, faults=faults))
    assert [block.height for block in blocks] == list(range(len(blocks)))
    assert 50 < len(blocks) < 150
    assert faults[FILLS].counts[FaultReason.TORN] >= 1


def test_flat_recordings_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for first in (9, 10, 100):
        name = f"node_fills_streaming.20260505_9.{first}-{first}.jsonl"
        (tmp_path / name).write_bytes(node_line(first, "a") + b"\n")
    (tmp_path / "node_fills_by_block_sample.txt").write_bytes(b"something else")
    assert [block.height for block in read_directory(tmp_path)] == [9, 10, 100]


def events_by_height(path: Path, mode: FileMode) -> dict[tuple[int, FileKind], list[object]]:
    joined: dict[tuple[int, FileKind], list[object]] = {}
    for block in read_directory(path, mode=mode):
        for line in block.lines:
            decoded = json.loads(line)
            assert decoded["block_number"] == block.height
            joined.setdefault((block.height, block.kind), []).extend(decoded["events"])
    return {key: events for key, events in joined.items() if events}


def test_both_recorded_modes_hold_the_same_events(recorded: Path) -> None:
    by_block = events_by_height(recorded, BY_BLOCK)
    assert by_block == events_by_height(recorded, STREAMING)
    count = dict.fromkeys(MARKET_KINDS, 0)
    for (_, kind), events in by_block.items():
        count[kind] += len(events)
    assert count == {FILLS: 14, STATUSES: 29_970, DIFFS: 1_159}


@pytest.mark.parametrize("mode", FileMode)
def test_recorded_blocks_come_in_one_order(recorded: Path, mode: FileMode) -> None:
    faults = {kind: Faults(kind) for kind in MARKET_KINDS}
    rank = {FILLS: 0, DIFFS: 1, STATUSES: 2}
    keys = [(b.height, rank[b.kind]) for b in read_directory(recorded, mode=mode, faults=faults)]
    assert keys == sorted(set(keys))
    assert not any(each.counts for each in faults.values())
    assert {height for height, _ in keys} <= set(range(985148182, 985148213))
    assert len(keys) == 31 * 3 or mode is STREAMING
