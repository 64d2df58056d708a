"""Several nodes as one: each height once, in order, and no hole that is not told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core import merge as merging
from streaming.core.blocks import Ending, FileKind, LateBlock, Loss, RawBlock
from streaming.core.checks import BlockChecks, events_checksum, joined_events
from streaming.core.merge import LIMIT_NS, WAIT_NS, BlockMerge, Breach

FILLS, DIFFS = FileKind.FILLS, FileKind.DIFFS
MS = 1_000_000


def block(height: int, previous: int | None = None, *, kind: FileKind = DIFFS) -> RawBlock:
    return RawBlock(kind, height, [b"%d" % height], 0, previous)


def started(sources: Iterable[str], **bounds: int) -> BlockMerge:
    """It knows about where the chain is, so it believes the first block at once."""
    merge = BlockMerge(sources, **bounds)
    merge.begin_after(FileKind.MISC, 9)
    return merge


def pairs(blocks: list[RawBlock]) -> list[tuple[int, int | None]]:
    return [(b.height, b.previous) for b in blocks]


def test_the_first_copy_goes_on_and_the_second_is_dropped() -> None:
    merge = started(["a", "b"])
    first = block(10)
    assert merge.take("a", first, now_ns=0) == [first]
    assert merge.take("b", block(10), now_ns=1) == []
    assert pairs(merge.take("b", block(11, 10), now_ns=2)) == [(11, 10)]
    assert merge.counts == {"late_copy": 1}


def test_the_first_block_follows_on_what_is_known_from_elsewhere() -> None:
    merge = started(["a", "b"])
    merge.begin_after(DIFFS, 10)
    assert not merge.has_begun(DIFFS)
    assert merge.take("b", block(10), now_ns=0) == []
    assert merge.take("b", block(13, 12), now_ns=0) == []
    assert pairs(merge.take("a", block(11, 10), now_ns=MS)) == [(11, 10)]
    merge.begin_after(DIFFS, 40)  # too late to matter
    assert pairs(merge.take("a", block(12, 11), now_ns=MS)) == [(12, 11), (13, 12)]
    assert merge.has_begun(DIFFS)


def test_kinds_do_not_wait_for_each_other() -> None:
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    assert not merge.take("a", block(12), now_ns=0)
    assert pairs(merge.take("a", block(12, kind=FILLS), now_ns=0)) == [(12, None)]


def test_a_hole_is_filled_by_the_other_source() -> None:
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    assert merge.take("a", block(13), now_ns=0) == []
    assert pairs(merge.take("b", block(11, 10), now_ns=MS)) == [(11, 10)]
    assert pairs(merge.take("b", block(12, 11), now_ns=2 * MS)) == [(12, 11), (13, 12)]
    assert merge.next_due_ns is None
    assert merge.counts["gap"] == 0


def test_a_second_copy_can_vouch_for_the_first() -> None:
    """Sparse files: the one who lost sight does not know that there was nothing, the other does."""
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    assert merge.take("a", block(50), now_ns=0) == []
    assert pairs(merge.take("b", block(50, 10), now_ns=MS)) == [(50, 10)]


def test_a_hole_nobody_can_fill_is_given_up_at_once() -> None:
    merge = started(["a"])
    merge.take("a", block(10), now_ns=0)
    assert pairs(merge.take("a", block(13), now_ns=0)) == [(13, None)]
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    assert merge.take("a", block(13), now_ns=0) == []
    assert pairs(merge.take("b", block(14, 13), now_ns=1)) == [(13, None), (14, 13)]


def test_a_silent_source_is_waited_for_briefly() -> None:
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    assert merge.take("a", block(13), now_ns=0) == []
    assert merge.next_due_ns == WAIT_NS
    assert merge.due(WAIT_NS - 1) == []
    assert pairs(merge.due(WAIT_NS)) == [(13, None)]
    assert merge.take("b", block(12), now_ns=WAIT_NS + 1) == []
    assert merge.counts == {"gap": 1, "late_news": 1}


def test_a_late_source_on_its_way_is_waited_for_longer_but_not_for_ever() -> None:
    merge = started(["a", "b"])
    for height in (10, 11, 12):
        merge.take("a", block(height, height - 1), now_ns=0)
    merge.take("a", block(14), now_ns=0)
    for step, height in enumerate((9, 10, 11, 12)):
        assert merge.take("b", block(height, height - 1), now_ns=step * 100 * MS) == []
    assert pairs(merge.take("b", block(13, 12), now_ns=400 * MS)) == [(13, 12), (14, 13)]
    merge.take("a", block(16), now_ns=500 * MS)
    # Again and again a sign of life, but never what is missing.
    for at_ms in range(500, 1300, 100):
        assert merge.take("b", block(13), now_ns=at_ms * MS) == []
    assert merge.next_due_ns == 500 * MS + LIMIT_NS
    assert pairs(merge.due(500 * MS + LIMIT_NS)) == [(16, None)]


def test_a_source_that_left_is_not_waited_for() -> None:
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    merge.take("a", block(12), now_ns=0)
    merge.leave("b")
    assert pairs(merge.due(1)) == [(12, None)]


def test_a_broken_promise_is_found_and_names_its_source() -> None:
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    merge.take("a", block(15, 10), now_ns=1)
    (loss,) = merge.take("b", block(12, 10), now_ns=2)
    assert isinstance(loss, Loss)
    assert (loss.first, loss.height) == (12, 15)
    assert merge.drain_breaches() == [Breach("a", DIFFS, 12)]
    assert merge.drain_breaches() == []
    assert pairs(merge.take("a", block(16, 15), now_ns=3)) == [(16, 15)]
    assert pairs(merge.take("a", block(17, 16), now_ns=4)) == [(17, 16)]


@pytest.mark.parametrize("make", [RawBlock, LateBlock])
def test_an_empty_block_that_comes_late_breaks_no_promise(make: type[RawBlock]) -> None:
    """One node writes a line for an empty block, the other does not."""
    merge = begun("a", "b")
    assert pairs(merge.take("a", replace(copy(11, 1), previous=9), now_ns=MS)) == [(11, 9)]
    assert merge.take("b", make(FILLS, 10, [line(10, b"")], 0), now_ns=2 * MS) == []
    assert pairs(merge.take("b", copy(12, 2), now_ns=3 * MS)) == [(12, 11)]
    assert merge.drain_breaches() == []
    assert merge.counts == {"late_copy": 2}


@pytest.mark.parametrize("make", [RawBlock, LateBlock])
def test_an_empty_copy_is_no_rest_of_a_block(make: type[RawBlock]) -> None:
    merge = begun("a")
    merge.take("a", copy(10, 1, ending=Ending.QUIET), now_ns=MS)
    for source in "ab":
        assert merge.take(source, make(FILLS, 10, [line(10, b"")], 0), now_ns=2 * MS) == []
    assert merge.drain_breaches() == []


def test_a_height_that_cannot_be_does_not_make_the_rest_late() -> None:
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    assert merge.take("a", block(10**17), now_ns=1) == []
    assert pairs(merge.take("a", block(11, 10), now_ns=2)) == [(11, 10)]
    # A real jump has a next block, and what was held back meanwhile is not lost.
    assert merge.take("a", block(90_000), now_ns=3) == []
    merge.take("a", block(90_001, 90_000), now_ns=4)
    assert pairs(merge.due(4 + WAIT_NS)) == [(90_000, None), (90_001, 90_000)]


@pytest.mark.parametrize("damaged", [0, 5, 1_201, 10**17])
def test_a_damaged_height_of_the_first_line_of_all_stops_nothing(damaged: int) -> None:
    merge, out = BlockMerge(["a"]), []
    assert merge.take("a", block(damaged), now_ns=0) == []
    for height in range(1_001, 1_010):
        at_ns = (height - 1_000) * 70 * MS
        out += merge.take("a", block(height), now_ns=at_ns)
        if height == 1_002:
            assert pairs(out) == [(1_001, None), (1_002, 1_001)]
    assert [b.height for b in out] == list(range(1_001, 1_010))
    assert merge.next_due_ns is None


def test_a_damaged_second_line_does_not_win_over_the_first() -> None:
    merge = BlockMerge(["a"])
    assert merge.take("a", block(1_000), now_ns=0) == []
    assert merge.take("a", block(10**9), now_ns=1) == []
    assert pairs(merge.take("a", block(1_002), now_ns=2)) == [(1_000, None), (1_002, None)]


@pytest.mark.parametrize(("source", "kind"), [("a", FILLS), ("b", DIFFS), ("b", FILLS)])
def test_the_first_block_goes_on_with_the_next_of_any_kind_or_source(
    source: str, kind: FileKind
) -> None:
    merge = BlockMerge(["a", "b"])
    assert merge.take("a", block(1_000), now_ns=0) == []
    out = merge.take(source, block(1_000, kind=kind), now_ns=1)
    assert {b.kind for b in out} == {DIFFS, kind}
    assert merge.next_due_ns is None


def test_what_is_known_from_elsewhere_does_not_lose_the_first_block() -> None:
    merge = BlockMerge(["a"])
    assert merge.take("a", block(1_000), now_ns=0) == []
    merge.begin_after(FILLS, 999)
    out = merge.take("a", block(1_000, kind=FILLS), now_ns=1)
    assert [b.kind for b in out] == [DIFFS, FILLS]


def test_a_first_block_that_stays_alone_is_believed_soon() -> None:
    merge = BlockMerge(["a"])
    assert merge.take("a", block(1_000), now_ns=5) == []
    assert merge.next_due_ns == 5 + WAIT_NS
    assert merge.due(4 + WAIT_NS) == []
    assert pairs(merge.due(5 + WAIT_NS)) == [(1_000, None)]
    assert merge.next_due_ns is None


@pytest.mark.parametrize("leap", [150, 5_000, 10**9])
def test_a_damaged_height_of_one_source_silences_nobody(leap: int) -> None:
    merge, out = started(["a", "b"]), []
    for height in range(100, 160):
        at_ns = height * 70 * MS
        read_as = height + leap if height == 110 else height
        # As a gateway before this one reads what follows the damage.
        make = LateBlock if height > 110 else RawBlock
        out += merge.take("a", make(DIFFS, read_as, [b"1"], 0, None), now_ns=at_ns)
        out += merge.take("b", block(height, height - 1), now_ns=at_ns + MS)
        out += merge.due(at_ns + 2 * MS)
    assert [b.height for b in out] == list(range(100, 160))
    assert {b.previous for b in out[1:]} == set(range(100, 159))
    assert not any(isinstance(b, Loss) for b in out)


def test_a_height_that_its_own_source_goes_back_behind_is_not_handed_out() -> None:
    """A damaged number within the next hundred is believed, and waits for what is between."""
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    assert merge.take("a", block(30), now_ns=MS) == []
    assert pairs(merge.take("a", block(11, 10), now_ns=2 * MS)) == [(11, 10)]
    assert merge.next_due_ns is None
    assert merge.due(LIMIT_NS + 2 * MS) == []
    for height in range(12, 31):
        out = merge.take("a", block(height, height - 1), now_ns=height * 70 * MS)
        assert pairs(out) == [(height, height - 1)]
    assert merge.counts == {"taken_back": 1}


def test_of_a_height_taken_back_the_other_copy_goes_on() -> None:
    merge = started(["a", "b", "c"])
    merge.take("a", block(10), now_ns=0)
    merge.take("a", block(13, 12), now_ns=MS)
    merge.take("b", replace(block(13, 12), lines=[b"true"]), now_ns=MS)
    merge.take("a", block(11, 10), now_ns=2 * MS)
    *_, last = merge.take("a", block(12, 11), now_ns=3 * MS)
    assert (last.height, last.previous, last.lines) == (13, 12, [b"true"])


def test_the_first_block_of_a_kind_is_near_the_other_kinds() -> None:
    merge = started(["a"])
    merge.take("a", block(100), now_ns=0)
    assert merge.take("a", block(9_000, kind=FILLS), now_ns=1) == []
    assert pairs(merge.take("a", block(101, kind=FILLS), now_ns=2)) == [(101, None)]
    # A kind of few events is not far only because it was quiet.
    merge.take("a", block(190), now_ns=3)
    merge.take("a", block(280, 190), now_ns=4)
    assert pairs(merge.take("a", block(281, 101, kind=FILLS), now_ns=5)) == [(281, 101)]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MAX_WAITING_BLOCKS", 3)
    merge = started(["a", "b"])
    merge.take("a", block(10), now_ns=0)
    out = [merge.take("a", block(h, h - 1), now_ns=0) for h in (12, 13, 14, 15)]
    assert [pairs(o) for o in out] == [[], [], [], [(12, None), (13, 12), (14, 13), (15, 14)]]
    assert merge.counts["overflow"] == 1
    by_bytes = started(["a", "b"], max_waiting_bytes=4)
    by_bytes.take("a", block(10), now_ns=0)
    assert by_bytes.take("a", block(12, 11), now_ns=0) == []
    assert len(by_bytes.take("a", block(14, 13), now_ns=0)) == 0
    assert len(by_bytes.take("a", block(16, 15), now_ns=0)) == 1


# --- copies that are not whole --------------------------------------------------------------------


def copy(height: int, *events: int, ending: Ending = Ending.SURE, late: bool = False) -> RawBlock:
    """A block with a line an event, as `_streaming` files have it."""
    lines = [line(height, b"%d" % event) for event in events]
    make = LateBlock if late else RawBlock
    return make(FILLS, height, lines, 0, None if late else height - 1, ending)


def events(blocks: list[RawBlock]) -> list[tuple[int, bytes]]:
    return [(b.height, joined_events(b.lines)) for b in blocks]


def begun(*sources: str) -> BlockMerge:
    merge = started(sources)
    for source in sources:
        merge.take(source, copy(9, 0), now_ns=0)
    return merge


def test_a_copy_closed_by_quiet_waits_for_the_whole_one_of_another_source() -> None:
    merge = begun("a", "b")
    assert merge.take("a", copy(10, 1, ending=Ending.QUIET), now_ns=0) == []
    assert events(merge.take("b", copy(10, 1, 2), now_ns=MS)) == [(10, b"1,2")]
    assert merge.take("a", copy(10, 2, late=True), now_ns=2 * MS) == []
    assert pairs(merge.take("a", copy(11, 3), now_ns=3 * MS)) == [(11, 10)]
    assert merge.drain_breaches() == []


def test_two_sources_that_are_quiet_alike_are_waited_for_no_longer() -> None:
    merge = begun("a", "b")
    quiet = copy(10, 1, ending=Ending.QUIET)
    assert merge.take("a", quiet, now_ns=0) == []
    assert pairs(merge.take("b", quiet, now_ns=MS)) == [(10, 9)]
    assert pairs(begun("a").take("a", quiet, now_ns=0)) == [(10, 9)]


def test_a_copy_closed_by_quiet_does_not_wait_for_ever() -> None:
    merge = begun("a", "b")
    assert merge.take("a", copy(10, 1, ending=Ending.QUIET), now_ns=0) == []
    assert merge.next_due_ns == WAIT_NS
    assert pairs(merge.due(WAIT_NS)) == [(10, 9)]
    # Nor at all for a source that says nothing of any kind.
    late_ns = merging.SILENT_NS + 1
    assert merge.take("a", copy(11, 2), now_ns=late_ns) != []
    assert pairs(merge.take("a", copy(12, 1, ending=Ending.QUIET), now_ns=late_ns)) == [(12, 11)]


@pytest.mark.parametrize("is_heard", [True, False])
def test_who_does_not_write_a_kind_is_not_waited_for(is_heard: bool) -> None:
    """Nor who has never come at all."""
    merge = started(["a", "b"])
    for height in range(10, 20):
        now_ns = height * 70 * MS
        if is_heard:
            merge.take("b", block(height, height - 1), now_ns=now_ns)
        assert merge.take("a", copy(height, 1, ending=Ending.QUIET), now_ns=now_ns) != []


def test_who_no_longer_writes_a_kind_is_waited_for_once() -> None:
    merge = begun("a", "b")
    for height in range(10, 20):
        now_ns = height * 1000 * MS
        merge.take("b", block(height, height - 1), now_ns=now_ns)
        out = merge.take("a", copy(height, 1, ending=Ending.QUIET), now_ns=now_ns)
        assert pairs(out or merge.due(now_ns + WAIT_NS)) == [(height, height - 1)]
        assert bool(out) is (height > 10)
    # It is worth waiting for again once it was in time.
    merge.take("b", copy(20, 1), now_ns=20_000 * MS)
    assert merge.take("a", copy(21, 1, ending=Ending.QUIET), now_ns=20_070 * MS) == []


@given(st.integers(0, 1000), st.integers(0, 30))
def test_a_source_that_is_always_late_is_not_waited_for_always(delay_ms: int, torn: int) -> None:
    merge = begun("a", "b")
    steps = []
    for number in range(60):
        ending = Ending.TORN if number == torn else Ending.QUIET
        steps.append((70 * number, "a", copy(10 + number, 1, ending=ending)))
        steps.append((70 * number + delay_ms, "b", copy(10 + number, 1)))
    waited: dict[int, int] = {}
    for at_ms, source, made in sorted(steps, key=lambda step: step[:2]):
        while (due_ns := merge.next_due_ns) is not None and due_ns < at_ms * MS:
            waited.update(
                (b.height, due_ns // MS - 70 * (b.height - 10)) for b in merge.due(due_ns)
            )
        out = merge.take(source, made, now_ns=at_ms * MS)
        waited.update((b.height, at_ms - 70 * (b.height - 10)) for b in out)
    if delay_ms * MS <= WAIT_NS:
        assert not merge.counts["torn"]
        assert set(waited.values()) == {delay_ms}
    else:  # the first, those that had come meanwhile, and where there is nothing else
        assert sum(ms > 0 for ms in waited.values()) <= 6


def test_the_rest_of_a_block_that_waits_joins_it() -> None:
    merge = begun("a", "b")
    assert merge.take("a", copy(10, 1, ending=Ending.QUIET), now_ns=0) == []
    assert merge.take("a", copy(10, 1, 2, late=True, ending=Ending.QUIET), now_ns=0) == []
    assert events(merge.due(WAIT_NS)) == [(10, b"1,2")]


def test_the_rest_of_a_block_that_is_out_is_a_loss_told_at_once() -> None:
    merge = begun("a")
    assert events(merge.take("a", copy(10, 1, ending=Ending.QUIET), now_ns=0)) == [(10, b"1")]
    (loss,) = merge.take("a", copy(10, 2, late=True), now_ns=1)
    assert isinstance(loss, Loss)
    assert (loss.kind, loss.first, loss.height, loss.lines) == (FILLS, 10, 10, [])
    assert merge.drain_breaches() == [Breach("a", FILLS, 10)]
    assert merge.take("a", copy(10, 3, late=True), now_ns=1) == []  # told already
    assert pairs(merge.take("a", copy(11, 3), now_ns=2)) == [(11, 10)]


def test_a_node_that_writes_its_events_again_loses_nothing() -> None:
    merge = begun("a")
    merge.take("a", copy(10, 1, 2), now_ns=0)
    assert merge.take("a", copy(10, 2, late=True), now_ns=1) == []
    assert pairs(merge.take("a", copy(11, 3), now_ns=2)) == [(11, 10)]
    assert merge.drain_breaches() == []


def test_a_longer_copy_that_comes_too_late_shows_what_is_missing() -> None:
    merge = begun("a", "b")
    merge.take("a", copy(10, 1, ending=Ending.QUIET), now_ns=0)
    merge.due(WAIT_NS)
    merge.take("a", copy(11, 5), now_ns=WAIT_NS)
    (loss,) = merge.take("b", copy(10, 1, 2), now_ns=WAIT_NS + 1)
    assert isinstance(loss, Loss)
    assert (loss.first, loss.height) == (10, 11)
    # One that says something else is a difference, and nothing tells who is right.
    other = begun("a", "b")
    other.take("a", copy(10, 1, ending=Ending.QUIET), now_ns=0)
    other.due(WAIT_NS)
    assert other.take("b", copy(10, 7, 8), now_ns=WAIT_NS + 1) == []


@pytest.mark.parametrize("damage", ["torn", "unreadable", "nested"])
def test_a_damaged_copy_does_not_win_over_a_good_one(damage: str) -> None:
    merge = begun("a", "b")
    bad = copy(10, 1, ending=Ending.TORN)
    if damage == "unreadable":
        bad = replace(copy(10, 1, 2), lines=[line(10, b'{"a":\x011}')])
    if damage == "nested":
        # Deeper than a parser goes: for each look at it, not only for the first.
        bad = replace(copy(10, 1, 2), lines=[line(10, b"[" * 3_000 + b"]" * 3_000)])
    assert merge.take("a", bad, now_ns=0) == []
    assert events(merge.take("b", copy(10, 1, 2), now_ns=MS)) == [(10, b"1,2")]
    # And where nobody has a good one, that is told in its place.
    bad = replace(bad, height=11, previous=10)
    assert merge.take("b", bad, now_ns=2 * MS) == []
    (loss,) = merge.take("a", bad, now_ns=3 * MS)
    assert isinstance(loss, Loss)
    assert (loss.first, loss.height) == (11, 11)
    assert pairs(merge.take("a", copy(12, 3), now_ns=4 * MS)) == [(12, 11)]


# --- laws -----------------------------------------------------------------------------------------


@st.composite
def sparse_heights(draw: st.DrawFn) -> list[int]:
    steps = draw(st.lists(st.integers(1, 3), min_size=2, max_size=40))
    heights = [100]
    for step in steps:
        heights.append(heights[-1] + step)
    return heights


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], list[list[tuple[int, str, RawBlock]]]]:
    """The true heights, and per source what it delivers: (ns, source, block), truthful about what
    it knows: `previous` is None behind everything it lost.
    """
    truth = draw(sparse_heights())
    sources = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        lost = draw(st.sets(st.sampled_from(truth), max_size=len(truth) // 2))
        delay_ms = draw(st.integers(0, 400))
        stall = draw(st.integers(0, 3_000)) if draw(st.booleans()) else 0
        stall_at = draw(st.sampled_from(truth))
        delivered, at_ms = [], 0
        for index, height in enumerate(truth):
            at_ms = max(at_ms, index * 70 + delay_ms + draw(st.integers(0, 60)))
            if height == stall_at:
                at_ms += stall
            if height in lost:
                continue
            before = truth[index - 1] if index else None
            knows = before is not None and before not in lost
            made = block(height, before if knows else None)
            delivered.append((at_ms * MS, name, made))
            if draw(st.integers(0, 9)) == 0:  # again, as after a reconnect
                delivered.append((at_ms * MS, name, replace(made, previous=None)))
        sources.append(delivered)
    return truth, sources


def run(
    sources: list[list[tuple[int, str, RawBlock]]],
) -> tuple[BlockMerge, list[tuple[int, RawBlock]]]:
    """Everything in order of time, with the timer as a worker would set it."""
    merge = started("abc"[: len(sources)])
    out: list[tuple[int, RawBlock]] = []
    for at_ns, name, made in sorted((d for s in sources for d in s), key=lambda d: (d[0], d[1])):
        while (due_ns := merge.next_due_ns) is not None and due_ns <= at_ns:
            out += [(due_ns, b) for b in merge.due(due_ns)]
        out += [(at_ns, b) for b in merge.take(name, made, now_ns=at_ns)]
    while (due_ns := merge.next_due_ns) is not None:
        out += [(due_ns, b) for b in merge.due(due_ns)]
    return merge, out


@given(histories())
def test_the_output_is_sorted_unique_and_tells_every_hole(
    history: tuple[list[int], list[list[tuple[int, str, RawBlock]]]],
) -> None:
    truth, sources = history
    merge, out = run(sources)
    heights = [b.height for _, b in out]
    assert heights == sorted(set(heights))
    assert set(heights) <= set(truth)
    assert merge.waiting == 0
    assert not merge.drain_breaches()  # nobody lied
    for (_, before), (_, after) in itertools.pairwise(out):
        lost_between = [h for h in truth if before.height < h < after.height]
        assert after.previous in (None, before.height)
        if lost_between:
            assert after.previous is None  # told once, at the next block


@given(histories())
def test_nothing_waits_beyond_its_limit(
    history: tuple[list[int], list[list[tuple[int, str, RawBlock]]]],
) -> None:
    _, sources = history
    _, out = run(sources)
    first_ns: dict[int, int] = {}
    for delivered in sources:
        for at_ns, _, made in delivered:
            first_ns[made.height] = min(at_ns, first_ns.get(made.height, at_ns))
    assert all(at_ns - first_ns[b.height] <= LIMIT_NS for at_ns, b in out)


@given(st.integers(0, 10_000), st.integers(2, 3))
def test_what_one_source_has_in_time_is_not_lost(seed: int, count: int) -> None:
    """Each block is lost at all sources but one at most; all are within 100 ms: the union comes
    out.
    """
    dice = random.Random(seed)
    truth = list(range(100, 130))
    lost: list[set[int]] = [set() for _ in range(count)]
    for height in truth[1:]:
        for source in dice.sample(range(count), dice.randrange(count)):
            lost[source].add(height)
    sources = []
    for number in range(count):
        mine = []
        for index, height in enumerate(truth):
            if height not in lost[number]:
                knows = index and truth[index - 1] not in lost[number]
                made = block(height, height - 1 if knows else None)
                mine.append((index * 70 * MS + dice.randrange(100) * MS, "abc"[number], made))
        sources.append(sorted(mine, key=lambda d: d[2].height))
    sources = [in_order(mine) for mine in sources]
    merge, out = run(sources)
    missing = set(truth) - {b.height for _, b in out}
    # A hole that all sources are beyond is given up at once; here each height has one that is not.
    assert not missing
    assert [b.previous for _, b in out] == [None, *truth[:-1]]
    assert merge.counts["gap"] == 0


def in_order(mine: list[tuple[int, str, RawBlock]]) -> list[tuple[int, str, RawBlock]]:
    """A source delivers in order: nothing comes before what is below it."""
    at_ns, out = 0, []
    for when_ns, name, made in mine:
        at_ns = max(at_ns, when_ns)
        out.append((at_ns, name, made))
    return out


# --- do the nodes say the same? -------------------------------------------------------------------


def line(height: int, events: bytes, *, local: bytes = b"17:00") -> bytes:
    return b'{"local_time":"%b","block_time":"x","block_number":%d,"events":[%b]}' % (
        local,
        height,
        events,
    )


def raw(height: int, *lines: bytes) -> RawBlock:
    return RawBlock(DIFFS, height, list(lines), 0)


def test_the_same_events_agree_whatever_the_lines() -> None:
    one = raw(7, line(7, b'[1,{"a":2}],[3]'))
    other = raw(7, line(7, b'[1,{"a":2}]', local=b"18:00"), line(7, b"[3]"))
    assert events_checksum(one) == events_checksum(other)
    assert events_checksum(one) != events_checksum(raw(7, line(7, b'[1,{"a":2}],[4]')))
    assert events_checksum(raw(7, line(7, b""))) == 0


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_no_line_is_too_odd_for_a_checksum(lines: list[bytes]) -> None:
    assert isinstance(events_checksum(raw(1, *lines)), int)


def test_a_difference_names_both_and_is_told_once_per_copy() -> None:
    checks = BlockChecks(window=3)
    assert checks.note("a", raw(7, line(7, b"1"))) is None
    assert checks.note("a", raw(7, line(7, b"2"))) is None  # its own late lines
    assert checks.note("b", raw(7, line(7, b"1", local=b"z"))) is None
    assert checks.note("c", raw(7, line(7, b"2"))) == (DIFFS, 7, "a", "c")
    assert (checks.compared, checks.differing) == (2, 1)
    for height in range(8, 12):
        checks.note("a", raw(height, line(height, b"1")))
    assert checks.note("b", raw(7, line(7, b"9"))) is None  # too long ago
