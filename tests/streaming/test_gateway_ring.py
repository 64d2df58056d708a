"""The ring: whatever comes and however it is read, each block once and in order, or a clear end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.blocks import Ending, FileKind, LateBlock, RawBlock
from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.hl_gateway.ring import (
    OVERHEAD_BYTES,
    KindRing,
    Lapsed,
    Reader,
    Ring,
    history,
    message,
)
from tests.streaming.gateways import gateway_link
from tests.streaming.node_lines import DIFFS, FILLS, STATUSES

KINDS = (FILLS, DIFFS, STATUSES)
PLENTY = 1 << 30


def block(kind: FileKind, height: int, *, previous: int | None = None, size: int = 10) -> RawBlock:
    return RawBlock(kind, height, [b"x" * size, b"y"], 7, previous)


def received(frames: list[bytes]) -> list[tuple[str, int, bool]]:
    """Of one response: kind, height, is late."""
    response = pb.StreamBlocksResponse.FromString(b"".join(frames))
    return [(sent.kind, sent.height, sent.late) for sent in response.blocks]


@given(
    height=st.integers(0, 2**40),
    lines=st.lists(st.binary(max_size=300), max_size=5),
    previous=st.none() | st.integers(0, 2**40),
    is_late=st.booleans(),
    ending=st.sampled_from(Ending),
)
def test_a_frame_is_a_response_of_that_block(
    height: int, lines: list[bytes], previous: int | None, is_late: bool, ending: Ending
) -> None:
    ring = KindRing(FILLS, max_bytes=PLENTY)
    ring.push((LateBlock if is_late else RawBlock)(FILLS, height, lines, 123, previous, ending))
    (held,) = ring.since(0, limit_bytes=1)
    (sent,) = pb.StreamBlocksResponse.FromString(held.frame).blocks
    assert (sent.kind, sent.height, list(sent.lines), sent.read_ns, sent.late) == (
        FILLS, height, lines, 123, is_late,
    )  # fmt: skip
    assert sent.ending == ending
    assert (sent.previous if sent.HasField("previous") else None) == previous


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 200)),
        st.integers(1, 600),  # a read of so many bytes
    ),
    max_size=60,
)


@given(steps=steps, max_bytes=st.integers(500, 20_000))
def test_a_reader_gets_each_block_once_and_in_order_or_lapses(
    steps: list[tuple[FileKind, int, int] | int], max_bytes: int
) -> None:
    ring = Ring(KINDS, max_bytes=max_bytes)
    reader = Reader(ring, dict.fromkeys(KINDS, 0))
    pushed: dict[FileKind, list[int]] = {kind: [] for kind in KINDS}
    got: dict[str, list[int]] = {kind: [] for kind in KINDS}
    tops = dict.fromkeys(KINDS, 100)
    lapsed = False
    for step in [*steps, *[PLENTY] * 2]:
        if isinstance(step, int):
            try:
                for kind, height, _ in received(reader.take(limit_bytes=step)):
                    got[kind].append(height)
            except Lapsed:
                lapsed = True
                break
        else:
            kind, ahead, size = step
            # 0 ahead is a straggler of an earlier height.
            tops[kind] += ahead
            height = tops[kind] if ahead else tops[kind] - 5
            make = RawBlock if ahead else LateBlock
            ring.push([make(kind, height, [b"x" * size], 7)])
            pushed[kind].append(height)
    for kind in KINDS:
        held = ring.kinds[kind]
        assert held.held_bytes <= held.max_bytes or held.end - held.first == 1
        assert got[kind] == (pushed[kind][: len(got[kind])] if lapsed else pushed[kind])


@given(
    heights=st.lists(st.integers(1, 60), min_size=1, max_size=40, unique=True).map(sorted),
    max_blocks=st.integers(1, 40),
    wanted=st.integers(1, 62),
)
def test_resuming_by_height_misses_nothing_or_says_so(
    heights: list[int], max_blocks: int, wanted: int
) -> None:
    one = OVERHEAD_BYTES + 60
    ring = KindRing(FILLS, max_bytes=max_blocks * one)
    for before, height in pairwise([None, *heights]):
        ring.push(block(FILLS, height or 0, previous=before))
    number, is_whole = ring.place_of(wanted)
    sent = [held.height for held in ring.since(number, limit_bytes=PLENTY)]
    # Nothing twice, and no more missing than was let go.
    assert sent == [height for height in heights if height >= max(wanted, ring.oldest)]
    if is_whole:
        assert sent == [height for height in heights if height >= wanted]
    else:
        # The reader sees it too: the first block vouches for less than it would need.
        held = ring.since(number, limit_bytes=PLENTY)
        assert not held or held[0].previous is None or held[0].previous >= wanted


@given(
    past=st.integers(0, 20),
    live=st.integers(0, 20),
    joins_at=st.integers(0, 20),
    wanted=st.none() | st.integers(1, 41),
    reads_at=st.sets(st.integers(0, 40)),
)
def test_who_joins_while_a_kind_is_filled_gets_it_as_if_it_had_come_later(
    past: int, live: int, joins_at: int, wanted: int | None, reads_at: set[int]
) -> None:
    ring = Ring((FILLS, FileKind.BLOCKS), max_bytes=PLENTY)
    blocks = ring.kinds[FileKind.BLOCKS]
    blocks.fill()
    reader: Reader | None = None
    got: dict[str, list[int]] = {FILLS: [], FileKind.BLOCKS: []}

    def read() -> None:
        for kind, height, _ in received(reader.take(limit_bytes=PLENTY)) if reader else ():
            got[kind].append(height)

    for height in range(1, past + live + 1):
        if height == min(joins_at, past) + 1:
            reader = Reader(ring, {FILLS: 0, FileKind.BLOCKS: wanted or 0})
        if height == past + 1:
            blocks.filled()
        ring.push([block(FILLS, height), block(FileKind.BLOCKS, height, previous=height - 1)])
        if height in reads_at:
            read()
            assert reader is None or got[FILLS][-1:] == [height]  # nobody is waited for
            assert height > past or not got[FileKind.BLOCKS]
    if reader is None or blocks.is_filling:
        return
    read()
    assert all(start.resumed for start in reader.starts)
    assert got[FILLS] == list(range(min(joins_at, past) + 1, past + live + 1))
    # Who is ahead of the gateway knows what to leave.
    fresh = [height for height in got[FileKind.BLOCKS] if height >= (wanted or 0)]
    assert fresh == list(range(wanted or past + 1, past + live + 1))


def test_catching_up_goes_by_height_over_all_kinds() -> None:
    ring = Ring(KINDS, max_bytes=PLENTY)
    for kind in (STATUSES, DIFFS, FILLS):
        ring.push(block(kind, height) for height in range(10, 15))
    reader = Reader(ring, dict.fromkeys(KINDS, 12))
    got: list[tuple[str, int, bool]] = []
    while frames := reader.take(limit_bytes=100):
        got += received(frames)
    assert got == [
        (kind, height, False) for height in (12, 13, 14) for kind in (FILLS, DIFFS, STATUSES)
    ]


def test_from_now_on_begins_behind_what_is_held() -> None:
    ring = Ring(KINDS, max_bytes=PLENTY)
    ring.push([block(FILLS, 5)])
    reader = Reader(ring, {FILLS: 0, DIFFS: 0})
    assert [(start.newest, start.oldest, start.resumed) for start in reader.starts] == [
        (5, 5, True), (0, 0, True),
    ]  # fmt: skip
    assert reader.take(limit_bytes=PLENTY) == []
    ring.push([block(FILLS, 6), block(STATUSES, 6)])
    assert received(reader.take(limit_bytes=PLENTY)) == [(FILLS, 6, False)]


def test_the_newest_block_is_kept_however_large() -> None:
    ring = KindRing(STATUSES, max_bytes=1_000)
    for height in (1, 2):
        ring.push(block(STATUSES, height, size=50_000))
    assert (ring.oldest, ring.first, ring.end) == (2, 1, 2)
    with pytest.raises(Lapsed):
        ring.since(0, limit_bytes=1)


def test_history_is_all_that_is_held_in_bounded_pieces() -> None:
    ring = KindRing(FILLS, max_bytes=PLENTY)
    for height in range(20):
        ring.push(block(FILLS, height, size=100))
    pieces = list(history(ring, before=ring.end, chunk_bytes=500))
    assert 3 < len(pieces) < 8
    assert [height for piece in pieces for _, height, _ in received([piece])] == list(range(20))
    empty = KindRing(DIFFS, max_bytes=9)
    assert list(history(empty, before=empty.end, chunk_bytes=5)) == []


@given(
    held=st.integers(0, 30),
    pushes=st.lists(st.integers(0, 4), max_size=40),
    chunk_bytes=st.integers(1, 5_000),
)
def test_history_is_each_earlier_block_once_or_lapses(
    held: int, pushes: list[int], chunk_bytes: int
) -> None:
    one = OVERHEAD_BYTES + 60
    ring = KindRing(FILLS, max_bytes=20 * one)
    heights = iter(range(1, 1_000))
    for _ in range(held):
        ring.push(block(FILLS, next(heights)))
    pieces = history(ring, before=ring.end, chunk_bytes=chunk_bytes)
    got: list[int] = []
    has_lapsed = False
    oldest = ring.oldest
    for index, count in enumerate([*pushes, *[0] * 40]):
        if index:
            for _ in range(count):  # while the last piece is on its way
                ring.push(block(FILLS, next(heights)))
        try:
            piece = next(pieces)
        except StopIteration:
            break
        except Lapsed:
            has_lapsed = True
            break
        got += [height for _, height, _ in received([piece])]
    wanted = list(range(oldest, held + 1)) if held else []
    assert got == (wanted[: len(got)] if has_lapsed else wanted)


def test_a_height_that_was_none_does_not_make_a_link_deaf(tmp_path: Path) -> None:
    """Of a gateway that takes it for one: what follows is far below."""
    link = gateway_link("127.0.0.1:1", scratch=tmp_path)

    def got(*heights: int) -> list[int]:
        return [each.height for each in link._fresh([message(block(FILLS, h)) for h in heights])]

    assert got(100, 101, 101, 90) == [100, 101]
    assert got(9_000, 103, 104, 104) == [9_000, 103, 104]
