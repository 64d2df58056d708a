"""What an envelope claims of the place before it: what is known, or less."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.blocks import FileKind, Loss, RawBlock
from streaming.core.envelope import Envelope, Position, Role, end_of
from streaming.core.market import CAME_LATE, CheckpointTooOld, Market
from streaming.core.topic import Kind, Topic
from tests.core.node_events import ADA, BLOCK_MS, diffs, fill, fills, new, order, status, statuses
from tests.core.test_market import ALL, BBO, BOOK, CHECKPOINT, L4, MIDS, TRADES, market, of


def test_the_chain_does_not_depend_on_when_a_worker_began_to_want() -> None:
    early, late = market(BOOK, BBO, MIDS, TRADES), market()
    blocks = [
        diffs(11, new(3), time_ms=BLOCK_MS + 1000),
        fills(11, fill(1, "A"), fill(1, "B")),
        diffs(12, new(4, px="90.0"), time_ms=BLOCK_MS + 1500),
        diffs(13, new(5), time_ms=BLOCK_MS + 2000),
        fills(13, fill(2, "A"), fill(2, "B")),
    ]
    for block in blocks[:3]:
        early.apply(block)
        late.apply(block)
    for topic in (BOOK, BBO, MIDS, TRADES):
        late.want(topic)
    for block in blocks[3:]:
        assert early.apply(block) == late.apply(block)


def test_after_a_newer_checkpoint_nothing_is_claimed_about_what_it_leapt_over() -> None:
    made = market(*ALL)
    made.load_checkpoint(20, CHECKPOINT)
    made.apply(statuses(21))
    sent = made.apply(diffs(21, new(3), time_ms=BLOCK_MS + 8400))
    assert {e.topic for e in sent} == {topic.name for topic in (BOOK, BBO, MIDS, L4)}
    assert all(e.previous == end_of(20) for e in sent)


def test_an_epoch_is_what_it_is_told_to_be() -> None:
    made = market(*ALL)
    made.set_epoch("n-2")
    assert {e.epoch for e in (*made.apply(diffs(11, new(3))), made.snapshot(TRADES))} == {"n-2"}


def vouched(block: RawBlock) -> RawBlock:
    return replace(block, previous=block.height - 1)


def test_lost_fills_are_told_and_nothing_is_claimed_about_them() -> None:
    made = market(TRADES, L4, BOOK)
    made.apply(vouched(fills(11, fill(1, "A"), fill(1, "B"))))
    gap, frame = made.apply(fills(15, fill(2, "A"), fill(2, "B")))
    assert (gap.role, gap.previous, gap.position) == (Role.GAP, Position(11, 1), end_of(14))
    assert (frame.previous, frame.position) == (end_of(14), Position(15, 1))
    assert made.faults == Counter(missing_fills=1)


def test_lost_statuses_are_told_to_who_needs_them() -> None:
    made = market(*ALL)
    for height in (11, 12):
        made.apply(vouched(diffs(height, new(height))))
        made.apply(vouched(statuses(height, status(height))))
    for height in (13, 14, 15, 16):
        made.apply(vouched(diffs(height, new(height))))
    gap, *after = of(L4, made.apply(statuses(15, status(15))))
    assert (gap.role, gap.previous, gap.position) == (Role.GAP, Position(12), end_of(14))
    assert [(e.previous, e.position) for e in after] == [(end_of(14), Position(15))]
    (frame,) = of(L4, made.apply(vouched(statuses(16, status(16)))))
    assert frame.previous == Position(15)
    assert made.faults == Counter(missing_statuses=1)


def test_a_lost_block_is_told_at_once_and_only_once() -> None:
    made = market(TRADES, L4, BOOK)
    made.apply(vouched(fills(11, fill(1, "A"), fill(1, "B"))))
    (gap,) = made.apply(Loss(FileKind.FILLS, 12, [], 0, 11, first=12))
    assert (gap.role, gap.previous, gap.position) == (Role.GAP, Position(11, 1), end_of(12))
    (frame,) = made.apply(vouched(fills(13, fill(2, "A"), fill(2, "B"))))
    assert frame.previous == end_of(12)
    # The rest of block 13 came when block 14 was out: what is told begins before 13.
    made.apply(vouched(fills(14, fill(3, "A"), fill(3, "B"))))
    (gap,) = made.apply(Loss(FileKind.FILLS, 14, [], 0, first=13))
    assert (gap.previous, gap.position) == (end_of(12), end_of(14))
    (frame,) = made.apply(vouched(fills(15, fill(4, "A"), fill(4, "B"))))
    assert (frame.role, frame.previous) == (Role.UPDATE, end_of(14))
    # A hole right behind a loss is one more.
    made.apply(Loss(FileKind.FILLS, 16, [], 0, first=16))
    gap, frame = made.apply(fills(18, fill(5, "A"), fill(5, "B")))
    assert (gap.role, gap.previous, gap.position) == (Role.GAP, end_of(16), end_of(17))


def test_what_is_found_short_after_later_frames_is_a_correction() -> None:
    made = market(TRADES)
    for height in (11, 12, 13):
        made.apply(vouched(fills(height, fill(height, "A"), fill(height, "B"))))
    (told,) = made.apply(Loss(FileKind.FILLS, 13, [], 0, first=12))
    assert (told.role, told.previous, told.position) == (Role.RESET, end_of(11), end_of(13))
    assert told.payload.decode() == CAME_LATE
    (frame,) = made.apply(vouched(fills(14, fill(14, "A"), fill(14, "B"))))
    assert (frame.role, frame.previous) == (Role.UPDATE, end_of(13))


def test_books_that_were_told_from_short_blocks_are_taken_back() -> None:
    diff = Topic(Kind.L2_DIFF, "BTC")
    made = market(diff, L4, BOOK)
    for height in (11, 12):
        made.apply(vouched(diffs(height, new(height))))
        made.apply(vouched(statuses(height, status(height))))
    told = made.apply(Loss(FileKind.DIFFS, 12, [], 0, first=12))
    assert [(e.topic, e.role, e.position) for e in told[:2]] == [
        (diff.name, Role.RESET, end_of(12)),
        (L4.name, Role.RESET, end_of(12)),
    ]
    assert {(e.topic, e.role) for e in told[2:]} == {
        (topic.name, Role.NOT_READY) for topic in (diff, L4, BOOK)
    }


def test_frames_that_were_told_from_short_statuses_are_taken_back() -> None:
    made = market(L4)
    for height in (11, 12):
        made.apply(vouched(diffs(height, new(height))))
        made.apply(vouched(statuses(height, status(height))))
    made.apply(Loss(FileKind.STATUSES, 12, [], 0, first=12))
    made.apply(vouched(diffs(13, new(13))))
    reset, frame = made.apply(vouched(statuses(13, status(13))))
    assert (reset.role, reset.position) == (Role.RESET, end_of(12))
    assert (frame.role, frame.previous) == (Role.UPDATE, end_of(12))


def test_lost_book_changes_end_the_books_at_once() -> None:
    made = market(BOOK, L4)
    made.apply(vouched(diffs(11, new(11))))
    told = made.apply(Loss(FileKind.DIFFS, 12, [], 0, 11, first=12))
    assert {(e.topic, e.role) for e in told} == {(t.name, Role.NOT_READY) for t in (BOOK, L4)}
    made.apply(vouched(diffs(13, new(13))))
    with pytest.raises(CheckpointTooOld):
        made.load_checkpoint(11, CHECKPOINT)
    made.load_checkpoint(12, CHECKPOINT)
    assert (made.is_ready, made.height) == (True, 13)


def test_lost_statuses_of_a_block_are_told_to_who_needs_them() -> None:
    made = market(L4)
    for height in (11, 12):
        made.apply(vouched(diffs(height, new(height))))
    made.apply(vouched(statuses(11, status(11))))
    assert made.apply(Loss(FileKind.STATUSES, 12, [], 0, 11, first=12)) == []
    made.apply(vouched(diffs(13, new(13))))
    gap, frame = made.apply(vouched(statuses(13, status(13))))
    assert (gap.role, gap.previous, gap.position) == (Role.GAP, Position(11), end_of(12))
    assert (frame.role, frame.previous, frame.position) == (Role.UPDATE, end_of(12), Position(13))


@pytest.mark.parametrize("make", [fills, statuses])
def test_a_line_that_nobody_could_read_before_is_a_loss(make) -> None:
    follows = Topic(Kind.TRADES, "BTC") if make is fills else Topic(Kind.ORDER_UPDATES, user=ADA)
    made = market(follows)
    event = fill(1, "A") if make is fills else status(1)
    made.apply(vouched(make(11, event)))
    block = vouched(make(12, event))
    bad = replace(block, lines=[block.lines[0].replace(b'"block_number":12', b'"block_number":13')])
    told = made.apply(bad)
    assert [(e.role, e.position) for e in told] == [(Role.GAP, end_of(12))]


@given(st.data())
def test_a_later_worker_publishes_the_same_and_claims_less(choices) -> None:
    """Begun at any block from a checkpoint, with topics wanted from any block on."""
    topics = [topic for topic in ALL if topic is not MIDS]  # its first frame may come early
    last = 10 + choices.draw(st.integers(2, 10))
    begins = choices.draw(st.integers(11, last))
    wants_at = choices.draw(st.integers(begins, last))
    early, late = market(*topics), Market(epoch="e1")
    sent: dict[tuple[str, Position], Envelope] = {}
    bids = [order(1)]
    for height in range(11, last + 1):
        time_ms = BLOCK_MS + height * 400
        if height == begins:
            late.load_checkpoint(
                height - 1, [("BTC", bids, [order(2, "2.0", side="A", px="101.0")])]
            )
        if height == wants_at:
            for topic in topics:
                late.want(topic)
        if height not in (begins, wants_at) and choices.draw(st.booleans()):
            continue  # nothing happened
        bids.append(order(height))
        blocks = [
            diffs(height, new(height), time_ms=time_ms),
            statuses(height, status(height), time_ms=time_ms),
            fills(height, fill(height, "A"), fill(height, "B"), time_ms=time_ms),
        ]
        for block in choices.draw(st.permutations(blocks)):
            sent |= {(e.topic, e.position): e for e in early.apply(block)}
            for envelope in late.apply(block) if height >= begins else ():
                twin = sent[envelope.topic, envelope.position]
                assert envelope.payload == twin.payload
                assert envelope.previous >= twin.previous
