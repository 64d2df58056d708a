"""What is kept for the opening of user feeds: the same as reading every block for every user."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.topic import Kind, Topic
from streaming.core.user_feeds import UserFeeds
from streaming.core.users import reading
from streaming.core.users.history import History
from tests.core import node_events
from tests.core.node_events import ADA, BEN
from tests.core.test_user_feeds import FUNDING, body, fill, funding, misc, odd, twap

CLEO = "0x" + "c" * 40
USERS = st.sampled_from([ADA, BEN])
EVENTS = {
    FileKind.FILLS: st.one_of(
        st.builds(fill, USERS),
        st.builds(lambda user: fill(user, builder="0xb", note='"],["'), USERS),
        odd,
    ),
    FileKind.MISC: st.one_of(
        st.builds(lambda users: {"inner": funding(*users)}, st.lists(USERS, max_size=3)),
        st.builds(lambda u: {"inner": {"LedgerUpdate": {"users": [u], "delta": 1}}}, USERS),
        odd,
    ),
    FileKind.TWAP: st.one_of(st.builds(lambda user: {"state": {"user": user}}, USERS), odd),
}


@st.composite
def chains(draw: st.DrawFn) -> tuple[FileKind, list[RawBlock]]:
    kind = draw(st.sampled_from(sorted(EVENTS)))
    rows = draw(st.lists(st.lists(EVENTS[kind], max_size=4), max_size=8))
    is_streaming = draw(st.booleans())
    return kind, [
        node_events.block(kind, height, events, is_streaming=is_streaming)
        for height, events in enumerate(rows, 5)
    ]


def of_user(kind: FileKind, user: str, event: Any) -> Any:
    """An event without the parts of others."""
    if kind is FileKind.MISC and "Funding" in event["inner"]:
        own = [d for d in event["inner"]["Funding"]["deltas"] if d["user"] == user]
        return {**event, "inner": {"Funding": {"deltas": own}}}
    return event


@given(chains(), st.lists(st.booleans(), min_size=8, max_size=8), st.integers(100, 4_000))
def test_it_says_what_reading_every_block_says(chain, asked: list[bool], max_bytes: int) -> None:
    kind, blocks = chain
    history = History(kind, max_bytes=max_bytes)
    kept: deque[RawBlock] = deque()
    for block, is_asked in zip(blocks, asked, strict=False):
        history.keep(block, size=size_of(block))
        kept.append(block)
        while sum(map(size_of, kept)) > max_bytes:
            kept.popleft()
        for user in (ADA, BEN, CLEO) if is_asked or block is blocks[-1] else ():
            expected = []
            for old in reversed(kept):
                found = reading.read(old, [user], Counter()).found
                if own := [of_user(kind, user, each.event) for each in found]:
                    expected.append(own)
            assert [part for part in history.newest_first(user) if part] == expected
    history.clear()
    assert not list(history.newest_first(ADA))


def size_of(block: RawBlock) -> int:
    return sum(map(len, block.lines))


def test_fills_written_otherwise_are_read_too() -> None:
    made = node_events.fills(5, fill(), fill(BEN))
    spaced = orjson.dumps(orjson.loads(made.lines[0]), option=orjson.OPT_INDENT_2)
    history = History(FileKind.FILLS, max_bytes=1_000_000)
    history.keep(RawBlock(FileKind.FILLS, 5, [spaced], 0), size=len(spaced))
    assert list(history.newest_first(BEN)) == [[fill(BEN)]]


def test_an_hour_of_funding_is_everybody_s_own_part() -> None:
    room = UserFeeds(Counter())
    room.apply(misc(5, funding(ADA, BEN, ADA)))
    room.apply(twap(5))
    topic = Topic(Kind.USER_FUNDINGS, user=ADA)
    room.want(topic)
    shown = body(room.snapshot(topic))["fundings"]
    assert [each["usdc"] for each in shown] == [FUNDING["funding_amount"]] * 2


@pytest.mark.alone
@pytest.mark.parametrize("kind", [Kind.USER_FILLS, Kind.USER_EVENTS, Kind.ORDER_UPDATES])
def test_a_thousand_strangers_at_once_hold_nobody_up(kind: Kind) -> None:
    """They took 10 s (fills) of the loop that hands out blocks, in every worker."""
    room = UserFeeds(Counter())
    for height in range(5, 505):  # 12 MB
        users = [f"0x{height * 100 + number:040x}" for number in range(60)]
        room.apply(node_events.fills(height, *(fill(user) for user in users)))
    begun_s = time.process_time()
    topics = [Topic(kind, user=f"0x{10**30 + number:040x}") for number in range(1_000)]
    for topic in topics:
        room.want(topic)
        room.snapshot(topic)
    for topic in topics:
        room.unwant(topic)
    assert time.process_time() - begun_s < 1.0  # 0.1 s on an idle core
    assert not any(file.users or file.tracks for file in room._files.values())
