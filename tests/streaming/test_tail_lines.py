"""Bytes to lines to blocks, without files: whatever the cuts and the damage, the same blocks."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.blocks import Ending, LateBlock, RawBlock
from streaming.hl_gateway.assemble import (
    LOST,
    BlockAssembler,
    FaultReason,
    Faults,
    FileMode,
    LineBuffer,
)
from tests.streaming.node_lines import BY_BLOCK, FILLS, STREAMING, node_line

MAX_LINE_BYTES = 400


def assemble(
    chunks: list[bytes], mode: FileMode, **options: bool | int
) -> tuple[list[RawBlock], Counter[FaultReason]]:
    faults = Faults(FILLS)
    buffer = LineBuffer(faults, max_line_bytes=MAX_LINE_BYTES)
    assembler = BlockAssembler(FILLS, mode, faults=faults, **options)  # type: ignore[arg-type]
    blocks: list[RawBlock] = []
    for chunk in chunks:
        blocks += assembler.feed(buffer.feed(chunk), read_ns=7, at_ns=7)
    return blocks + assembler.close(), +faults.counts


def heights(blocks: list[RawBlock]) -> list[tuple[int, bool, int]]:
    """(height, is late, number of lines) of each block."""
    return [(block.height, isinstance(block, LateBlock), len(block.lines)) for block in blocks]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


good_lines = st.builds(
    lambda height, event: node_line(height, event) + b"\n",
    st.integers(100, 108),
    st.text("abcé", max_size=4),
)
damaged_pieces = [
    *(b"\n", b"\r\n", b"\0" * 9, b"\0\n", b"garbage\n", b"{}\n"),
    *(node_line(104) + b"\r\n", node_line(105, "x" * 500) + b"\n"),
    *(node_line(106)[:-9], node_line(103)),
]
damage = st.one_of(st.sampled_from(damaged_pieces), st.binary(max_size=20))
streams = st.lists(st.one_of(good_lines, good_lines, damage), max_size=30).map(b"".join)
places = st.lists(st.integers(0, 10_000), max_size=40)


@pytest.mark.parametrize("mode", FileMode)
@given(data=streams, places=places)
def test_blocks_do_not_depend_on_how_the_bytes_were_cut(
    mode: FileMode, data: bytes, places: list[int]
) -> None:
    assert assemble(cut(data, places), mode) == assemble([data], mode)


@pytest.mark.parametrize("mode", FileMode)
@given(data=streams)
def test_blocks_do_not_depend_on_single_byte_reads(mode: FileMode, data: bytes) -> None:
    assert assemble([bytes([byte]) for byte in data], mode) == assemble([data], mode)


@given(lines=st.lists(good_lines, max_size=60))
def test_streaming_gives_every_line_exactly_once(lines: list[bytes]) -> None:
    blocks, _ = assemble(lines, STREAMING)
    given_out = Counter(line for block in blocks for line in block.lines)
    assert given_out == Counter(line[:-1] for line in lines)
    in_time = [block.height for block in blocks if not isinstance(block, LateBlock)]
    assert in_time == sorted(set(in_time))


@given(lines=st.lists(good_lines, max_size=60))
def test_by_block_gives_every_height_exactly_once(lines: list[bytes]) -> None:
    blocks, counts = assemble(lines, BY_BLOCK)
    given_out = [block.height for block in blocks]
    assert len(given_out) == len(set(given_out))
    assert len(given_out) + counts[FaultReason.DUPLICATE] == len(lines)


@given(heights_in=st.lists(st.integers(0, 5_000), max_size=200))
def test_a_duplicate_is_found_among_any_holes(heights_in: list[int]) -> None:
    blocks, _ = assemble([node_line(height) + b"\n" for height in heights_in], BY_BLOCK)
    assert Counter(block.height for block in blocks) == Counter(set(heights_in))


def test_more_holes_than_the_ranges_hold_lose_only_the_oldest() -> None:
    evens = [node_line(height) + b"\n" for height in range(0, 5_000, 2)]
    blocks, counts = assemble([*evens, node_line(4_999 - 1) + b"\n"], BY_BLOCK)
    assert len(blocks) == 2_500
    assert counts == {FaultReason.DUPLICATE: 1}


def test_by_block_line_is_a_closed_block_at_once() -> None:
    assembler = BlockAssembler(FILLS, BY_BLOCK)
    lines = [node_line(100), node_line(101, "a", "b")]
    blocks = assembler.feed(lines, read_ns=42, at_ns=0)
    assert blocks == [
        RawBlock(FILLS, 100, [lines[0]], 42),
        RawBlock(FILLS, 101, [lines[1]], 42, previous=100),
    ]


def test_by_block_hole_filled_later_is_late() -> None:
    blocks, counts = assemble([node_line(h) + b"\n" for h in (100, 102, 101, 102, 103)], BY_BLOCK)
    assert heights(blocks) == [(100, False, 1), (102, False, 1), (101, True, 1), (103, False, 1)]
    assert counts == {FaultReason.LATE: 1, FaultReason.DUPLICATE: 1}


def test_streaming_block_closes_when_a_later_height_appears() -> None:
    assembler = BlockAssembler(FILLS, STREAMING)
    lines = [node_line(100, "a"), node_line(100, "b", "c")]
    assert assembler.feed(lines, read_ns=1, at_ns=0) == []
    assert assembler.open_height == 100
    closed = assembler.feed([node_line(102, "d")], read_ns=2, at_ns=0)
    assert closed == [RawBlock(FILLS, 100, lines, 1)]
    assert assembler.close() == [RawBlock(FILLS, 102, [node_line(102, "d")], 2, previous=100)]
    assert assembler.height == 102


def test_streaming_straggler_neither_cuts_nor_joins_the_open_block() -> None:
    stream = [node_line(h, e) + b"\n" for h, e in [(100, "a"), (101, "b"), (100, "c"), (101, "d")]]
    blocks, counts = assemble(stream, STREAMING)
    assert heights(blocks) == [(100, False, 1), (100, True, 1), (101, False, 2)]
    assert counts == {FaultReason.LATE: 1}


def test_a_node_that_goes_back_gives_late_blocks_until_it_is_further() -> None:
    stream = [node_line(h, "a") + b"\n" for h in (100, 101, 102, 99, 100, 100, 101, 102, 103)]
    blocks, _ = assemble(stream, STREAMING)
    assert heights(blocks) == [
        (100, False, 1), (101, False, 1), (99, True, 1), (100, True, 2), (101, True, 1),
        (102, False, 2), (103, False, 1),
    ]  # fmt: skip


def test_quiet_block_closes_only_when_another_kind_is_further() -> None:
    assembler = BlockAssembler(FILLS, STREAMING)
    assembler.feed([node_line(100, "a")], read_ns=0, at_ns=1_000)

    def close(seen_height: int, at_ns: int) -> list[RawBlock]:
        return assembler.close_idle(seen_height=seen_height, at_ns=at_ns, quiet_ns=250)

    assert close(100, 9_999) == []
    assert assembler.idle_due_ns(seen_height=100, quiet_ns=250) is None
    assert close(101, 1_249) == []
    assert assembler.idle_due_ns(seen_height=101, quiet_ns=250) == 1_250
    assert heights(close(101, 1_250)) == [(100, False, 1)]
    assert close(102, 9_999) == []
    # What comes for it after all is not lost.
    assert assembler.feed([node_line(100, "b")], read_ns=0, at_ns=2_000) == []
    assert heights(close(102, 2_250)) == [(100, True, 1)]


def test_a_block_says_how_it_ended() -> None:
    assembler = BlockAssembler(FILLS, STREAMING)
    assembler.feed([node_line(100)], read_ns=0, at_ns=0)
    quiet = assembler.close_idle(seen_height=101, at_ns=250, quiet_ns=250)
    late = assembler.feed([node_line(100, "rest"), node_line(101)], read_ns=0, at_ns=300)
    sure = assembler.feed([node_line(102)], read_ns=0, at_ns=400)
    assert [b.ending for b in quiet + late + sure] == [Ending.QUIET, Ending.QUIET, Ending.SURE]


@pytest.mark.parametrize("lost", [LOST, b"garbage", node_line(101)[:-9]])
def test_the_blocks_beside_a_line_that_cannot_be_read_are_torn(lost: bytes) -> None:
    """It was of one of them, or of one in between."""
    lines = [node_line(100), node_line(101), lost, node_line(102), node_line(103), node_line(104)]
    assembler = BlockAssembler(FILLS, STREAMING)
    blocks = assembler.feed(lines, read_ns=0, at_ns=0)
    assert [(b.height, b.ending) for b in blocks] == [
        (100, Ending.SURE),
        (101, Ending.TORN),
        (102, Ending.TORN),
        (103, Ending.SURE),
    ]
    by_block, _ = assemble([line + b"\n" for line in lines], BY_BLOCK)
    assert {b.ending for b in by_block} == {Ending.SURE}


def damaged(height: int, read_as: int) -> bytes:
    return node_line(height).replace(b'number":%d' % height, b'number":%d' % read_as)


@pytest.mark.parametrize("read_as", [105, 122, 9_102, 10**15])
def test_a_damaged_height_costs_its_own_line_alone(read_as: int) -> None:
    lines = [*map(node_line, (100, 101)), damaged(102, read_as), *map(node_line, (103, 104))]
    lines += [*map(node_line, range(105, 107))]
    assembler = BlockAssembler(FILLS, BY_BLOCK)
    blocks = [b for line in lines for b in assembler.feed([line], read_ns=0, at_ns=0)]
    assert [(b.height, b.previous) for b in blocks] == [
        (100, None), (101, 100), (103, None), (104, 103), (105, 104), (106, 105),
    ]  # fmt: skip
    assert assembler.faults.counts == {FaultReason.BAD_HEIGHT: 1}
    assert assembler.height == 106


def test_the_first_height_of_all_may_be_damaged_too() -> None:
    lines = [damaged(100, 985_000_000), *map(node_line, (101, 102))]
    blocks = BlockAssembler(FILLS, BY_BLOCK).feed(lines, read_ns=0, at_ns=0)
    assert [(b.height, b.previous) for b in blocks[1:]] == [(101, None), (102, 101)]
    assert not any(isinstance(block, LateBlock) for block in blocks)


def test_a_leap_waits_for_the_next_line_or_for_another_kind() -> None:
    def leaping() -> BlockAssembler:
        assembler = BlockAssembler(FILLS, BY_BLOCK)
        assembler.feed([node_line(100), node_line(105)], read_ns=0, at_ns=0)
        return assembler

    after = leaping().feed([node_line(106)], read_ns=0, at_ns=1)
    assert [b.height for b in after] == [105, 106]
    straggler = leaping().feed([node_line(103)], read_ns=0, at_ns=1)
    assert heights(straggler) == [(105, False, 1), (103, True, 1)]
    there = BlockAssembler(FILLS, BY_BLOCK)
    there.feed([node_line(105)], read_ns=0, at_ns=0)
    wrong = BlockAssembler(FILLS, BY_BLOCK)
    wrong.feed([damaged(103, 105)], read_ns=0, at_ns=0)
    assert there.mark is not None
    assert wrong.mark is not None
    for beside, expected in ((wrong.mark, []), (there.mark, [105])):
        made = leaping().close_idle(seen_height=105, at_ns=9, quiet_ns=10, beside=[beside])
        assert [b.height for b in made] == expected
    assert [b.height for b in leaping().close()] == [105]


@pytest.mark.parametrize("place", range(1, 6))
@pytest.mark.parametrize("read_as", [7, 99, 101, 102, 122, 10**15])
def test_streaming_a_damaged_height_tears_the_blocks_beside_it(place: int, read_as: int) -> None:
    true = [100, 100, 101, 101, 102, 102, 102, 103, 103, 104]
    lines = [node_line(height, f"{at}") for at, height in enumerate(true)]
    lines[place] = lines[place].replace(b'number":%d' % true[place], b'number":%d' % read_as)
    blocks = BlockAssembler(FILLS, STREAMING).feed(lines, read_ns=0, at_ns=0)
    whole = [b for b in blocks if b.ending is Ending.SURE and not isinstance(b, LateBlock)]
    for block in whole:
        if read_as != true[place]:
            assert len(block.lines) == true.count(block.height)
    assert 103 in [block.height for block in whole]


def test_times_that_do_not_rise_are_not_gone_by() -> None:
    time = node_line(100).split(b'"')[7]
    lines = [node_line(h).replace(node_line(h).split(b'"')[7], time) for h in range(100, 130)]
    blocks = BlockAssembler(FILLS, STREAMING).feed(lines, read_ns=0, at_ns=0)
    assert [b.height for b in blocks if b.ending is Ending.SURE] == list(range(110, 129))


def test_joined_midway_drops_the_first_height_in_streaming_only() -> None:
    stream = [node_line(h, "a") + b"\n" for h in (100, 100, 101, 100, 102)]
    blocks, counts = assemble(stream, STREAMING, joined_midway=True)
    assert heights(blocks) == [(101, False, 1), (102, False, 1)]
    assert counts == {FaultReason.PARTIAL_FIRST: 3}
    blocks, _ = assemble(stream[2:], BY_BLOCK, joined_midway=True)
    assert blocks[0].height == 101


def test_rewind_repeats_neither_closed_blocks_nor_lines_of_the_open_one() -> None:
    assembler = BlockAssembler(FILLS, STREAMING)
    first = [node_line(100, "a"), node_line(101, "b"), node_line(101, "b")]
    blocks = assembler.feed(first, read_ns=0, at_ns=0)
    assembler.rewind()
    again = [*first, node_line(101, "b"), node_line(101, "c"), node_line(102, "d")]
    blocks += assembler.feed(again, read_ns=0, at_ns=0)
    assert heights(blocks) == [(100, False, 1), (101, False, 4)]
    assert assembler.faults.counts == {FaultReason.DUPLICATE: 3}
    blocks = assembler.feed([node_line(100, "late")], read_ns=0, at_ns=0) + assembler.close()
    assert heights(blocks) == [(100, True, 1), (102, False, 1)]


@pytest.mark.parametrize(
    ("raw", "kept", "reasons"),
    [
        (node_line(5) + b"\r\n", [5], {FaultReason.CRLF: 1}),
        (b"\n" + node_line(5) + b"\n\n", [5], {FaultReason.EMPTY: 2}),
        (b"\0" * 5_000 + node_line(5) + b"\n", [5], {FaultReason.NUL_PADDING: 1}),
        (
            node_line(4)[:-20] + b"\0" * 5_000 + node_line(5) + b"\n",
            [5],
            {FaultReason.NUL_PADDING: 1, FaultReason.TORN: 1},
        ),
        (node_line(4)[:-20] + node_line(5) + b"\n", [5], {FaultReason.TORN: 1}),
        (node_line(4)[:9] + node_line(5) + b"\n", [5], {FaultReason.TORN: 1}),
        (node_line(4) + node_line(5) + b"\n", [4, 5], {}),
        (node_line(4)[7:] + b"\n" + node_line(5) + b"\n", [5], {FaultReason.GARBAGE: 1}),
        (node_line(4, "x" * 400) + b"\n" + node_line(5) + b"\n", [5], {FaultReason.TOO_LONG: 1}),
        (b"[1,2]\n" + node_line(5) + b"\n", [5], {FaultReason.GARBAGE: 1}),
        (b'{"coin":"ZK","px":"1"}\n', [], {FaultReason.GARBAGE: 1}),
        (node_line(5).replace(b":5,", b":-5,") + b"\n", [], {FaultReason.TORN: 1}),
        (node_line(5, "é")[:-4] + b"\n" + node_line(6) + b"\n", [6], {FaultReason.TORN: 1}),
    ],
)
@pytest.mark.parametrize("mode", FileMode)
def test_damage_is_counted_and_costs_only_itself(
    mode: FileMode, raw: bytes, kept: list[int], reasons: dict[FaultReason, int]
) -> None:
    blocks, counts = assemble([raw], mode)
    assert [block.height for block in blocks] == kept
    assert counts == reasons


def previous_by_height(blocks: list[RawBlock]) -> dict[int, int | None]:
    return {block.height: block.previous for block in blocks if not isinstance(block, LateBlock)}


def test_by_block_vouches_for_neighbours_only() -> None:
    stream = [node_line(h) + b"\n" for h in (100, 101, 103, 102, 104)]
    blocks, _ = assemble(stream, BY_BLOCK)
    assert previous_by_height(blocks) == {100: None, 101: 100, 103: None, 104: 103}


@pytest.mark.parametrize(
    "damage",
    [
        b"garbage\n", b"\0\n", b"\0" * 9, node_line(102, "x" * 500) + b"\n",
        node_line(102)[:-9] + b"\n", node_line(102)[:-9],
    ],
)  # fmt: skip
def test_streaming_vouches_for_nothing_across_damage(damage: bytes) -> None:
    head = [node_line(h) + b"\n" for h in (100, 101)]
    tail = [node_line(h) + b"\n" for h in (103, 105)]
    blocks, _ = assemble([*head, damage, *tail], STREAMING)
    assert previous_by_height(blocks) == {100: None, 101: 100, 103: None, 105: 103}


@given(lines=st.lists(good_lines, max_size=60))
@pytest.mark.parametrize("mode", FileMode)
def test_what_is_vouched_for_is_true(mode: FileMode, lines: list[bytes]) -> None:
    blocks, _ = assemble(lines, mode)
    in_time = [block for block in blocks if not isinstance(block, LateBlock)]
    for before, block in itertools.pairwise(in_time):
        assert block.previous in (None, before.height)
        if mode is STREAMING:
            assert block.previous == before.height


def test_each_reason_is_reported_once_with_a_short_sample() -> None:
    assembler = BlockAssembler(FILLS, BY_BLOCK)
    assembler.feed([b"x" * 1_000, b"y"], read_ns=0, at_ns=0)
    (fault,) = assembler.drain_faults()
    assert (fault.kind, fault.reason, fault.sample) == (FILLS, FaultReason.GARBAGE, b"x" * 200)
    assembler.feed([b"z"], read_ns=0, at_ns=0)
    assert assembler.drain_faults() == []
    assert assembler.faults.counts[FaultReason.GARBAGE] == 3


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    faults = Faults(FILLS)
    buffer = LineBuffer(faults, max_line_bytes=1_000)
    for _ in range(100):
        assert buffer.feed(b"x" * 600) == []
        assert buffer._half_bytes <= 1_600
    assert buffer.has_half
    assert buffer.feed(b"x\n" + node_line(5) + b"\n") == [LOST, node_line(5)]
    assert faults.counts == {FaultReason.TOO_LONG: 1}
