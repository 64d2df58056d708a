"""States polled from a node's /info: exact frames, one poll for many topics, an honest rate."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.catalogue import Catalogue
from streaming.core.envelope import Envelope, Role
from streaming.core.topic import Kind, Topic
from streaming.simulator import Settings, Simulator
from streaming.simulator.servers import user_feeds
from streaming.simulator.servers.dialect import normalise
from streaming.simulator.servers.feeds import ExchangeFeeds
from streaming.simulator.servers.info import ExchangeInfo
from streaming.upstream.sources import polled
from streaming.upstream.sources.info import InfoFailed
from streaming.upstream.sources.polled import PolledSource
from streaming.upstream.sources.polled_frames import frame_of, requests_of

START_NS = 1_790_000_000_000_000_000
DEADLINE_S = 5.0
DEXES = frozenset({"xyz"})


class Node:
    """The simulator's /info as a link gives it, and what it was asked."""

    def __init__(self, *, like_node: bool = False) -> None:
        self.simulator = Simulator(Settings(seed=5, start_time_ns=START_NS))
        for _ in range(80):
            self.simulator.step()
        self.asked: Counter[str] = Counter()
        self.at_s: list[float] = []
        self.broken: str | None = None
        self.garbage: bytes | None = None
        self._desk = ExchangeInfo(self.simulator, like_node=like_node)

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(frozenset(coin.name for coin in self.simulator.coins), DEXES)

    def user(self) -> str:
        """Somebody who holds positions."""
        return next(a.address for a in self.simulator.accounts.values() if len(a.fills) > 5)

    async def info(self, payload: bytes) -> bytes:
        self.asked[orjson.loads(payload)["type"]] += 1
        self.at_s.append(time.monotonic())
        if self.broken is not None:
            raise InfoFailed(self.broken)
        if self.garbage is not None:
            return self.garbage
        answer = self._desk.answer(orjson.loads(payload))
        if answer.status != 200:
            raise InfoFailed(f"node0: HTTP {answer.status}")
        return answer.body


class Taken:
    """What a source published, to be waited for."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self._came = asyncio.Event()

    def __call__(self, envelopes: Iterable[Envelope]) -> None:
        self.envelopes += envelopes
        self._came.set()

    async def until(self, is_enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not is_enough():
                self._came.clear()
                await self._came.wait()

    def of(self, topic: Topic) -> list[Envelope]:
        return [each for each in self.envelopes if each.topic == topic.name]


@contextlib.asynccontextmanager
async def running(source: PolledSource) -> AsyncIterator[Taken]:
    taken = Taken()
    task = asyncio.create_task(source.run(taken))
    try:
        yield taken
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def eventually(is_so: Callable[[], bool]) -> None:
    """Look after every turn of the loop until `is_so`. Raises TimeoutError."""
    turn = asyncio.Event()
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():
            asyncio.get_running_loop().call_later(0.005, turn.set)
            await turn.wait()
            turn.clear()


async def ready(source: PolledSource, topic: Topic) -> None:
    """Wait until the node has been seen to answer what `topic` needs."""
    await eventually(lambda: source.serves(topic))


def polled_topics(user: str) -> list[Topic]:
    return [
        Topic(Kind.CLEARINGHOUSE_STATE, user=user),
        Topic(Kind.CLEARINGHOUSE_STATE, user=user, dex="xyz"),
        Topic(Kind.ALL_DEXS_CLEARINGHOUSE_STATE, user=user),
        Topic(Kind.SPOT_STATE, user=user),
        Topic(Kind.OPEN_ORDERS, user=user),
        Topic(Kind.OPEN_ORDERS, user=user, dex="xyz"),
        Topic(Kind.WEB_DATA2, user=user),
        Topic(Kind.ACTIVE_ASSET_DATA, "BTC", user=user),
        Topic(Kind.ACTIVE_ASSET_CTX, "BTC"),
        Topic(Kind.ACTIVE_ASSET_CTX, "xyz:SP500"),
        Topic(Kind.ACTIVE_ASSET_CTX, "@107"),
    ]


def subscription_of(topic: Topic) -> dict[str, object]:
    fields = {"coin": topic.coin, "user": topic.user, "dex": topic.dex}
    return {"type": str(topic.kind)} | {key: value for key, value in fields.items() if value}


async def test_every_frame_is_what_the_exchange_would_send() -> None:
    node = Node()
    source = PolledSource(node.info, catalogue=lambda: node.catalogue)
    feeds = ExchangeFeeds(node.simulator)
    topics = polled_topics(node.user())
    async with running(source) as taken:
        for topic in topics:
            await ready(source, topic)
            assert source.want(topic)
        await taken.until(lambda: all(source.snapshot(topic) for topic in topics))
    for topic in topics:
        [expected] = feeds.first_frames(normalise(subscription_of(topic)))
        snapshot = source.snapshot(topic)
        assert snapshot is not None
        assert snapshot.role is Role.SNAPSHOT
        assert snapshot.payload == expected
        assert snapshot.epoch.startswith("p-")
        [update] = taken.of(topic) or [None]
        assert update is None or update.payload == expected


async def test_a_frame_comes_when_something_changed_but_for_the_clock() -> None:
    node = Node()
    source = PolledSource(node.info, catalogue=lambda: node.catalogue)
    topic = Topic(Kind.CLEARINGHOUSE_STATE, user="0x" + "7" * 40)  # never trades: its clock moves
    other = Topic(Kind.ACTIVE_ASSET_CTX, "BTC")
    async with running(source) as taken:
        await ready(source, topic)
        source.want(topic)
        source.want(other)
        await taken.until(lambda: bool(taken.of(topic) and taken.of(other)))
        before = node.asked["clearinghouseState"]
        for _ in range(20):
            node.simulator.step()
        await taken.until(lambda: len(taken.of(other)) >= 2)
        await eventually(lambda: node.asked["clearinghouseState"] > before)
    assert len(taken.of(topic)) == 1
    first, second = taken.of(other)[:2]
    assert second.previous == first.position < second.position
    assert first.times.in_ns <= second.times.in_ns


async def test_one_poll_serves_all_topics_it_answers() -> None:
    node = Node()
    source = PolledSource(node.info, catalogue=lambda: node.catalogue)
    topics = [
        Topic(Kind.ACTIVE_ASSET_CTX, coin.name)
        for coin in node.simulator.coins
        if not coin.is_spot and not coin.dex
    ]
    async with running(source) as taken:
        await ready(source, topics[0])
        probed = node.asked["metaAndAssetCtxs"]
        for topic in topics:
            source.want(topic)
        await taken.until(lambda: all(taken.of(topic) for topic in topics))
        assert node.asked["metaAndAssetCtxs"] == probed + 1


async def test_what_a_node_refuses_is_not_served() -> None:
    node = Node(like_node=True)
    source = PolledSource(node.info, catalogue=lambda: node.catalogue)
    user = node.user()
    async with running(source):
        await ready(source, Topic(Kind.ACTIVE_ASSET_DATA, "BTC", user=user))  # probed last
        served = {topic.kind for topic in polled_topics(user) if source.serves(topic)}
    assert served == {
        Kind.CLEARINGHOUSE_STATE,
        Kind.ALL_DEXS_CLEARINGHOUSE_STATE,
        Kind.SPOT_STATE,
        Kind.OPEN_ORDERS,
        Kind.ACTIVE_ASSET_DATA,
    }
    assert not source.serves(Topic(Kind.TRADES, "BTC"))
    assert not source.serves(Topic(Kind.ACTIVE_ASSET_DATA, "NOSUCH", user=user))


@pytest.mark.parametrize(
    ("broken", "garbage"),
    [("node0: TimeoutError", None), (None, b"<html>"), (None, b"null"), (None, b"[1]")],
)
async def test_a_node_that_answers_badly_says_why_and_loses_nothing(
    broken: str | None, garbage: bytes | None
) -> None:
    node = Node()
    source = PolledSource(node.info, catalogue=lambda: node.catalogue)
    good, late = (Topic(Kind.SPOT_STATE, user="0x" + each * 40) for each in "78")
    async with running(source) as taken:
        await ready(source, good)
        source.want(good)
        await taken.until(lambda: bool(taken.of(good)))
        node.broken, node.garbage = broken, garbage
        source.want(late)
        await eventually(lambda: bool(source.state()["faults"]))
        snapshot = source.snapshot(late)
        assert snapshot is None or snapshot.role is Role.NOT_READY
        assert source.snapshot(good) is not None  # the last that was known
        node.broken = node.garbage = None
        await taken.until(lambda: bool(taken.of(late)))


async def test_what_is_no_longer_answered_is_told_and_comes_back_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(polled.CADENCE_S, Kind.SPOT_STATE, 0.02)
    node = Node()
    source = PolledSource(node.info, catalogue=lambda: node.catalogue, max_polls_per_s=1_000)
    topic = Topic(Kind.SPOT_STATE, user=node.user())
    async with running(source) as taken:
        await ready(source, topic)
        source.want(topic)
        await taken.until(lambda: bool(taken.of(topic)))
        (first,) = taken.of(topic)
        node.broken = "connection refused"
        await taken.until(lambda: taken.of(topic)[-1].role is Role.NOT_READY)
        assert b"connection refused" in taken.of(topic)[-1].payload
        now = source.snapshot(topic)
        assert now is not None
        assert now.role is Role.NOT_READY
        node.broken = None
        await taken.until(lambda: taken.of(topic)[-1].role is Role.SNAPSHOT)
        assert taken.of(topic)[-1].payload == first.payload
        assert [e.role for e in taken.of(topic)] == [Role.UPDATE, Role.NOT_READY, Role.SNAPSHOT]


async def test_an_answer_that_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(polled.CADENCE_S, Kind.SPOT_STATE, 0.02)
    monkeypatch.setattr(polled, "OVERDUE_S", 0.05)
    node, go_on = Node(), asyncio.Event()
    go_on.set()

    async def info(payload: bytes) -> bytes:
        await go_on.wait()
        return await node.info(payload)

    source = PolledSource(info, catalogue=lambda: node.catalogue, max_polls_per_s=1_000)
    topic = Topic(Kind.SPOT_STATE, user=node.user())
    async with running(source) as taken:
        await ready(source, topic)
        source.want(topic)
        await taken.until(lambda: bool(taken.of(topic)))
        go_on.clear()
        await taken.until(lambda: taken.of(topic)[-1].role is Role.NOT_READY)
        go_on.set()
        await taken.until(lambda: taken.of(topic)[-1].role is Role.SNAPSHOT)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12))
def test_a_state_never_runs_backwards(times: list[int]) -> None:
    """Whatever two nodes answer in turn, at whichever blocks they are."""

    async def run() -> None:
        answers = iter(times)

        async def info(payload: bytes) -> bytes:
            return orjson.dumps({"time": (at := next(answers)), "szi": at})

        source = PolledSource(info, catalogue=Catalogue)
        topic = Topic(Kind.CLEARINGHOUSE_STATE, user="0x" + "1" * 40)
        taken = Taken()
        source._publish = taken
        source.want(topic)
        (request,) = source._polled.values()
        for _ in times:
            await source._poll(request)
        told = [e.times.block_ns for e in taken.of(topic) if e.role is not Role.NOT_READY]
        assert told == sorted(told)
        older = sum(at < max(times[: number + 1]) for number, at in enumerate(times))
        assert source.state()["faults"].get("time_backwards", 0) == older
        # Twice in a row, and it is not known any more what is true.
        assert request.is_down == all(at < max(times) for at in times[-2:])

    asyncio.run(run())


async def test_beyond_the_rate_all_are_polled_less_often_alike() -> None:
    node = Node()
    source = PolledSource(node.info, catalogue=lambda: node.catalogue, max_polls_per_s=100)
    topics = [Topic(Kind.SPOT_STATE, user=f"0x{number:040x}") for number in range(1, 151)]
    async with running(source) as taken:
        await ready(source, topics[0])
        node.at_s.clear()
        for topic in topics:
            assert source.want(topic)
        await taken.until(lambda: all(taken.of(topic) for topic in topics))
        # The second round: nobody is asked a third time before all were asked twice.
        await eventually(lambda: node.asked["spotClearinghouseState"] >= 260)
    assert len(node.at_s) <= 100 * (node.at_s[-1] - node.at_s[0]) + 2
    assert source.state()["late_s"] > 0


async def test_a_request_nobody_needs_is_not_polled() -> None:
    node = Node()
    source = PolledSource(node.info, catalogue=lambda: node.catalogue)
    state, every = (
        Topic(kind, user=node.user())
        for kind in (Kind.CLEARINGHOUSE_STATE, Kind.ALL_DEXS_CLEARINGHOUSE_STATE)
    )
    source.want(state)
    source.want(every)
    assert source.state()["requests"] == 2
    source.unwant(every)
    assert source.state()["requests"] == 1
    source.unwant(state)
    source.unwant(state)
    assert source.state()["requests"] == 0
    assert source.snapshot(state) is None


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    ).map(lambda value: orjson.dumps(value) if _fits(value) else b"1")
)
def test_no_answer_raises_out_of_a_frame(body: bytes) -> None:
    """Whatever a node answers becomes a frame or a counted fault."""
    source = PolledSource(_never, catalogue=Catalogue)
    for topic in polled_topics("0x" + "1" * 40):
        source.want(topic)
        for each in source._polled.values():
            each.body = body
        source._show(topic, [])
        shown = source.snapshot(topic)
        if shown is not None:
            orjson.loads(shown.payload)


def test_the_same_question_is_the_same_bytes() -> None:
    user = "0x" + "1" * 40
    alone = requests_of(Topic(Kind.CLEARINGHOUSE_STATE, user=user, dex="xyz"), ())
    among = requests_of(Topic(Kind.ALL_DEXS_CLEARINGHOUSE_STATE, user=user), DEXES)
    assert alone[0] in among
    frame, block_ms = frame_of(
        Topic(Kind.CLEARINGHOUSE_STATE, user=user), [b'{"time":7, "x":"1.0"}'], dexes=[""]
    )
    assert block_ms == 7
    assert b'"clearinghouseState":{"time":7, "x":"1.0"}}' in frame  # as it came
    assert user_feeds.STATES >= {"clearinghouseState"}


def _fits(value: object) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


async def _never(payload: bytes) -> bytes:
    raise InfoFailed("not asked")
