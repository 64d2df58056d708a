"""The replay log: whatever two workers lose, what either has is in it, in order and once, and what
both lost shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.bus.log import (
    LINGER_S,
    MIB,
    RENEW_S,
    Command,
    LogClass,
    LogLimits,
    LogWriter,
    log_class,
    log_key,
)
from streaming.bus.log_budget import LogBudget
from streaming.bus.log_reader import LogReader, TooOld
from streaming.core.corrections import REACH_BLOCKS
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.topic import Kind, Topic

NODE = "n-0123456789ab"
BLOCK_NS = 70_000_000
numbers = itertools.count()


class FakeClock:
    """Wall time in seconds, moved by the test."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url.removesuffix("/0") + "/9") as client:
        yield client
        client.flushdb()


@pytest.fixture
async def reader(redis_url: str) -> Any:
    async with redis.asyncio.from_url(redis_url.removesuffix("/0") + "/9") as client:
        yield LogReader(client)


@pytest.fixture
def topic() -> Topic:
    return Topic(Kind.TRADES, f"C{next(numbers)}")


def trade(topic: Topic, at: Position, after: Position, *, worker: int = 0) -> Envelope:
    times = Times(at.height * BLOCK_NS, 2, 3 + worker, at.height * BLOCK_NS + worker)
    return Envelope(topic.name, NODE, at, after, Role.UPDATE, f"{topic.coin} {at}".encode(), times)


def chain(topic: Topic, *places: Position | int, after: Position = ORIGIN) -> list[Envelope]:
    envelopes = []
    for place in places:
        at = place if isinstance(place, Position) else Position(place)
        envelopes.append(trade(topic, at, after))
        after = at
    return envelopes


def run(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute()


# --- the plain case ---


async def test_what_is_read_is_what_was_appended(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    envelopes = chain(topic, Position(5, 0), Position(5, 3), Position(9, 0), after=end_of(4))
    run(client, LogWriter().append(envelopes))
    replay = await reader.read(topic, end_of(4))
    assert replay.entries == envelopes
    assert (replay.oldest, replay.tip) == (end_of(4), Position(9))
    assert replay.covers(end_of(4))
    assert not replay.covers(Position(4, 7))
    assert replay.holes(end_of(4)) == []
    assert (await reader.read(topic, Position(5, 3))).entries == envelopes[2:]
    assert (await reader.read(topic, Position(9))).entries == []
    assert (await reader.read(topic, ORIGIN, until=Position(5, 0))).entries == envelopes[:1]


async def test_a_long_replay_is_read_in_pages(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    envelopes = chain(topic, *range(1, 251))
    run(client, LogWriter().append(envelopes))
    page = await reader.read(topic, ORIGIN, limit=100)
    read = page.entries
    while not page.is_whole:
        page = await reader.read(topic, read[-1].position, limit=100)
        read = [*read, *page.entries]
    assert read == envelopes


def test_states_and_snapshots_have_no_log() -> None:
    book = Envelope("bbo BTC", NODE, Position(5), ORIGIN, Role.UPDATE, b"x")
    start = Envelope("trades BTC", NODE, Position(5), ORIGIN, Role.SNAPSHOT, b"x")
    assert LogWriter().append([book, start]) == []
    assert log_class("l4Book BTC") is LogClass.BULK
    assert log_class("userFills user=0xabc") is LogClass.EVENTS
    assert log_class("nonsense") is None


async def test_no_log_is_no_answer(reader: LogReader, topic: Topic) -> None:
    replay = await reader.read(topic, Position(5))
    assert (replay.entries, replay.oldest, replay.tip) == ([], None, None)
    assert not replay.covers(Position(5))
    assert await reader.resolve_ms(topic, 0) is None


async def test_each_epoch_of_a_public_source_has_a_log_of_its_own(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    def public(epoch: str) -> Envelope:
        return Envelope(topic.name, epoch, Position(1), ORIGIN, Role.UPDATE, epoch.encode())

    run(client, LogWriter().append([public("p-one"), public("p-two")]))
    for epoch in ("p-one", "p-two"):
        assert (await reader.read(topic, ORIGIN, epoch=epoch)).entries == [public(epoch)]
    assert (await reader.read(topic, ORIGIN)).entries == []


async def test_bytes_that_are_not_ours_are_passed_over(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    before, after = chain(topic, 5, 7)
    run(client, LogWriter().append([before]))
    client.xadd(log_key(topic.name), {"x": "garbage"}, id="6-0")
    run(client, LogWriter().append([after]))
    assert (await reader.read(topic, ORIGIN)).entries == [before, after]


# --- two workers ---


async def test_a_worker_that_just_began_does_not_weaken_the_other_s_claim(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    old, new = LogWriter(), LogWriter()
    run(client, old.append([trade(topic, Position(5), ORIGIN)]))
    run(client, new.append([trade(topic, Position(9), end_of(8))]))  # it is quicker, and knows less
    assert (await reader.read(topic, ORIGIN)).holes(ORIGIN) == [(Position(5), end_of(8))]
    run(client, old.append([trade(topic, Position(9), Position(5))]))
    replay = await reader.read(topic, ORIGIN)
    assert [e.position for e in replay.entries] == [Position(5), Position(9)]
    assert replay.holes(ORIGIN) == []


async def test_a_gap_one_worker_declared_stands_until_the_other_fills_it(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    one, two = LogWriter(), LogWriter()
    gap = Envelope(topic.name, NODE, end_of(7), Position(5), Role.GAP, b"both nodes were silent")
    first, later = trade(topic, Position(5), ORIGIN), trade(topic, Position(9), end_of(7))
    run(client, one.append([first, gap, later]))
    replay = await reader.read(topic, ORIGIN)
    assert replay.entries == [first, gap, later]
    assert replay.holes(ORIGIN) == [(Position(5), end_of(7))]
    filled = [trade(topic, Position(6), Position(5)), trade(topic, Position(9), Position(6))]
    run(client, two.append(filled))
    replay = await reader.read(topic, ORIGIN)
    assert replay.entries == [first, *filled]
    assert replay.holes(ORIGIN) == []


async def test_a_correction_stands_behind_what_it_corrects_whatever_the_other_worker_brings(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    one, two = LogWriter(), LogWriter()
    reset = Envelope(topic.name, NODE, end_of(6), Position(5), Role.RESET, b"corrected")
    updates = [trade(topic, Position(h), Position(h - 1)) for h in (5, 6, 7)]
    run(client, two.append(updates))
    run(client, one.append([*updates[:2], reset, updates[2]]))
    replay = await reader.read(topic, Position(4))
    assert replay.entries == [*updates[:2], reset, updates[2]]
    assert replay.holes(Position(4)) == [(Position(5), end_of(6))]
    # Who stands behind it was told of it, or came before it.
    for after in (Position(6), end_of(6)):
        assert (await reader.read(topic, after)).entries == [reset, updates[2]]
    assert (await reader.read(topic, end_of(6 + REACH_BLOCKS))).entries == []


@pytest.mark.parametrize("is_whole_first", [True, False])
async def test_of_two_versions_of_a_block_one_is_read_whole(
    client: redis.Redis, reader: LogReader, topic: Topic, is_whole_first: bool
) -> None:
    one, two = LogWriter(), LogWriter()
    whole = [trade(topic, Position(6, i), Position(6, i - 1) if i else Position(5)) for i in (0, 1)]
    half = [trade(topic, Position(6, 1), Position(5), worker=1)]
    behind = trade(topic, Position(7), Position(6, 1))
    told = [one.append(whole), two.append(half)]
    for commands in told if is_whole_first else reversed(told):
        run(client, commands)
    run(client, one.append([behind]))
    assert (await reader.read(topic, Position(5))).entries == [*whole, behind]


async def test_what_follows_the_other_version_of_a_block_misses_nothing(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    writer = LogWriter()
    told = trade(topic, Position(6, 1), Position(5))
    other = trade(topic, Position(6, 3), Position(5), worker=1)
    behind = trade(topic, Position(7, 3), Position(6, 3), worker=1)
    run(client, writer.append([told, other]))
    ended = await reader.read(topic, Position(5))
    assert [e.position for e in ended.entries] == [told.position, other.position]
    assert ended.entries[1].contradicts(told.position)
    run(client, writer.append([behind]))
    replay = await reader.read(topic, Position(5))
    # Nobody says that the one told first is whole: who told it may have died in it.
    assert [e.position for e in replay.entries] == [other.position, behind.position]
    assert replay.holes(Position(5)) == []
    begun = await reader.read(topic, told.position)
    assert [e.position for e in begun.entries] == [behind.position]
    assert begun.holes(told.position) == [(told.position, end_of(6))]
    # Its teller goes on from it: the place is taken, and what it claims tells all the same.
    run(client, writer.append([trade(topic, Position(7, 3), Position(6, 1))]))
    for after in (Position(5), told.position):
        replay = await reader.read(topic, after)
        assert replay.entries[-1].previous == told.position
        assert replay.holes(after) == []
    assert [e.position for e in (await reader.read(topic, Position(5))).entries] == [
        told.position,
        behind.position,
    ]


async def test_a_claim_from_the_higher_end_of_two_versions_is_kept_too(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    writer = LogWriter()
    told = [trade(topic, Position(6, 1), Position(5)), trade(topic, Position(6, 7), Position(6, 1))]
    behind = trade(topic, Position(7), Position(6, 3), worker=1)
    run(client, writer.append([*told, behind]))
    begun = await reader.read(topic, Position(6, 7))
    assert begun.holes(Position(6, 7)) == [(Position(6, 7), end_of(6))]
    run(client, writer.append([trade(topic, Position(7), Position(6, 7))]))
    ended = await reader.read(topic, Position(6, 7))
    assert [e.position for e in ended.entries] == [behind.position]
    assert ended.holes(Position(6, 7)) == []


#: The events of each block, and for each of two workers the blocks it lost.
histories = st.integers(1, 14).flatmap(
    lambda count: st.tuples(
        st.lists(st.integers(0, 3), min_size=count, max_size=count),
        st.lists(st.tuples(st.booleans(), st.booleans()), min_size=count, max_size=count),
        st.randoms(use_true_random=False),
    )
)


def seen_by(worker: int, topic: Topic, events: list[int], lost: list[tuple[bool, bool]]) -> Any:
    """What this worker publishes, a list for each block it read."""
    known = ORIGIN
    for height, (count, is_lost) in enumerate(zip(events, lost, strict=True), 1):
        if is_lost[worker]:
            known = end_of(height)
            continue
        block = []
        for index in range(count):
            at = Position(height, index)
            block.append(trade(topic, at, known, worker=worker))
            known = at
        yield block


@settings(max_examples=150)
@given(history=histories)
def test_two_workers_logs_make_their_union(client_of: Callable[[], Any], history: Any) -> None:
    events, lost, random = history
    client, read = client_of()
    topic = Topic(Kind.TRADES, f"C{next(numbers)}")
    left = [list(seen_by(worker, topic, events, lost)) for worker in (0, 1)]
    union = {e.position for blocks in left for block in blocks for e in block}
    writers = (LogWriter(), LogWriter())
    while any(left):
        worker = random.choice([n for n in (0, 1) if left[n]])
        run(client, writers[worker].append(left[worker].pop(0)))
    replay = read(topic)
    places = [e.position for e in replay.entries]
    assert places == sorted(union)
    holes = replay.holes(ORIGIN)
    assert not [p for p in union if any(begin < p <= end for begin, end in holes)]
    everything = {Position(h, i) for h, n in enumerate(events, 1) for i in range(n)}
    # The end of the log says nothing of what comes after it.
    missing = [p for p in everything - union if places and p < places[-1]]
    assert all(any(begin < p <= end for begin, end in holes) for p in missing)


@pytest.fixture(scope="module")
def client_of(redis_url: str) -> Iterator[Callable[[], Any]]:
    """A client and a way to read a topic's whole log, usable from a synchronous property."""
    import asyncio

    url = redis_url.removesuffix("/0") + "/10"
    client = redis.Redis.from_url(url)

    def read(topic: Topic) -> Any:
        async def go() -> Any:
            async with redis.asyncio.from_url(url) as own:
                return await LogReader(own).read(topic, ORIGIN)

        return asyncio.run(go())

    yield lambda: (client, read)
    client.flushdb()
    client.close()


# --- from a time or a height ---


async def test_a_time_is_a_place(client: redis.Redis, reader: LogReader, topic: Topic) -> None:
    heights = [100, 103, 104, 110, 111, 150]
    run(client, LogWriter().append(chain(topic, *heights, after=end_of(99))))
    for height in range(101, 151):
        after = await reader.resolve_ms(topic, height * BLOCK_NS // 1_000_000)
        assert after is not None
        entries = (await reader.read(topic, after)).entries
        assert [e.position.height for e in entries] == [h for h in heights if h >= height]
    later = await reader.resolve_ms(topic, 10**9)
    assert later == Position(150)
    with pytest.raises(TooOld) as refused:
        await reader.resolve_ms(topic, 100 * BLOCK_NS // 1_000_000 - 1)
    assert refused.value.oldest == end_of(99)


async def test_a_height_includes_its_block(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    run(client, LogWriter().append(chain(topic, 100, 103, after=end_of(99))))
    assert await reader.resolve_height(topic, 100) == end_of(99)
    assert await reader.resolve_height(topic, 103) == end_of(102)
    with pytest.raises(TooOld):
        await reader.resolve_height(topic, 99)


# --- bounds ---


async def test_what_is_old_goes_and_the_last_entry_of_a_leased_topic_stays(
    client: redis.Redis, reader: LogReader, topic: Topic
) -> None:
    clock = FakeClock()
    writer = LogWriter(limits=LogLimits(events_s=60.0), clock=clock)
    # Large ones, because Redis trims by nodes of 4 KB.
    envelopes = [
        Envelope(topic.name, NODE, Position(h), Position(h - 1), Role.UPDATE, b"x" * 5000)
        for h in range(1, 121)
    ]
    for envelope in envelopes:
        clock.now_s += 1.0
        run(client, [*writer.append([envelope]), *writer.maintain([topic.name])])
    replay = await reader.read(topic, ORIGIN)
    assert 57 <= len(replay.entries) <= 63
    assert replay.oldest == replay.entries[0].previous
    clock.now_s += 10_000.0
    run(client, writer.maintain([topic.name]))
    replay = await reader.read(topic, Position(120))
    assert (replay.entries, replay.oldest, replay.tip) == ([], Position(119), Position(120))
    assert replay.covers(Position(120))


async def test_bytes_are_bounded_over_all_topics(client: redis.Redis, reader: LogReader) -> None:
    clock = FakeClock()
    writer = LogWriter(limits=LogLimits(events_bytes=MIB), clock=clock)
    topics = [Topic(Kind.TRADES, f"C{next(numbers)}") for _ in range(4)]
    for height in range(1, 1001):
        clock.now_s += 0.07
        block = [
            Envelope(t.name, NODE, Position(height), Position(height - 1), Role.UPDATE, b"x" * 1000)
            for t in topics
        ]
        run(client, [*writer.append(block), *writer.maintain([])])
    held = sum(client.memory_usage(log_key(t.name), samples=0) or 0 for t in topics)
    assert 0.8 * MIB < held < 1.15 * MIB
    assert writer.state()["events"]["bytes"] <= MIB
    starts = {(await reader.read(t, ORIGIN)).entries[0].position.height for t in topics}
    assert max(starts) - min(starts) <= 8  # they all lose the same time


async def test_a_log_nobody_leases_ends_by_itself(client: redis.Redis, topic: Topic) -> None:
    clock = FakeClock()
    writer = LogWriter(limits=LogLimits(events_s=60.0), clock=clock)
    run(client, writer.append(chain(topic, 1)))
    key = log_key(topic.name)
    assert 0 < client.ttl(key) <= 60 + LINGER_S
    client.expire(key, 5)
    clock.now_s += RENEW_S + 1
    run(client, writer.maintain([]))
    assert client.ttl(key) <= 5
    run(client, writer.maintain([topic.name]))
    assert client.ttl(key) > 5


async def test_a_new_writer_takes_over_what_is_there(
    client: redis.Redis, redis_url: str, topic: Topic
) -> None:
    clock = FakeClock(2_000.0)
    public = Envelope("trades @107", "p-one", Position(1), ORIGIN, Role.UPDATE, b"x")
    envelopes = [
        Envelope(topic.name, NODE, Position(h), Position(h - 1), Role.UPDATE, b"x" * 5000,
                 Times(out_ns=int((1_000 + h) * 1e9)))
        for h in range(1, 1001)
    ]  # fmt: skip
    run(client, LogWriter(clock=clock).append([*envelopes, public]))
    held = client.memory_usage(log_key(topic.name), samples=0) or 0
    limits = LogLimits(events_s=600.0)
    async with redis.asyncio.from_url(redis_url.removesuffix("/0") + "/9") as own:
        writer = LogWriter(limits=limits, clock=clock)
        assert await writer.rebuild(own) == 2
        assert abs(writer.state()["events"]["bytes"] - held) < 0.1 * held
        run(client, writer.maintain([topic.name]))
        left = client.xlen(log_key(topic.name))
        assert 550 <= left <= 760  # a slice is 125 s


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400), st.floats(0, 5)), max_size=60),
    st.integers(100, 3_000),
)
def test_a_budget_is_never_exceeded(appends: list[tuple[int, int, float]], most: int) -> None:
    budget = LogBudget(keep_s=10.0, max_bytes=most)
    now_s = 0.0
    kept: list[tuple[str, Position, int]] = []
    for height, (key, size, pause_s) in enumerate(appends, 1):
        now_s += pause_s
        budget.add(str(key), Position(height), size_bytes=size, now_s=now_s)
        kept.append((str(key), Position(height), size))
        for trimmed, first_kept in budget.overdue(now_s).items():
            kept = [e for e in kept if e[0] != trimmed or e[1] >= first_kept]
        assert budget.size_bytes <= most
        # One entry a log stays beyond the bounds, because it was its last when its time came.
        logs = {name for name, _, _ in kept}
        assert sum(size for _, _, size in kept) <= budget.size_bytes + 400 * len(logs)
