"""Several nodes behind one source: what one lacks the other gives, and differences are found."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from streaming.core.blocks import OpenBlock, RawBlock
from streaming.core.envelope import Envelope, Role
from streaming.core.topic import Kind, Topic
from streaming.hl_gateway.checkpoint import Checkpoint, CheckpointError, CoinOrders
from streaming.upstream.sources import nodes as nodes_module
from streaming.upstream.sources.checkpoints import AHEAD_BLOCKS, checkpoints
from streaming.upstream.sources.info import InfoFailed
from streaming.upstream.sources.nodes import NodesSource
from tests.core.node_events import ADA, block, diffs, fill, fills, new, order, remove, update

DEADLINE_S = 10.0
TRADES = Topic(Kind.TRADES, "BTC")
STATE = b'{"type":"openOrders"}'
L2_BOOK = Topic(Kind.L2_BOOK, "BTC")
L4_BOOK = Topic(Kind.L4_BOOK, "BTC")


class FakeLink:
    """A node in the test's hand. Blocks vouch for the height below them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checkpoints: list[Checkpoint] = []
        self.runs = 0
        self.asked = 0
        self.trouble: Exception | None = None  # instead of a checkpoint
        self.hangs = False
        self._deliver: Callable[[list[RawBlock]], None]
        self._deliver_history: Callable[[list[RawBlock]], None]
        self._failed: asyncio.Future[None]
        self.is_running = asyncio.Event()

    async def run(
        self,
        deliver: Callable[[list[RawBlock]], None],
        *,
        deliver_history: Callable[[list[RawBlock]], None],
        deliver_open: Callable[[OpenBlock], None],
    ) -> None:
        self.runs += 1
        self._deliver, self._deliver_history = deliver, deliver_history
        self._failed = asyncio.get_running_loop().create_future()
        self.is_running.set()
        await self._failed

    def fail(self) -> None:
        self.is_running.clear()
        self._failed.set_exception(RuntimeError("broken on purpose"))

    def give(self, *blocks: RawBlock, previous: bool = True) -> None:
        self._deliver([vouching(b, previous=previous) for b in blocks])

    def give_history(self, *blocks: RawBlock) -> None:
        self._deliver_history(list(blocks))

    async def checkpoint(self) -> Checkpoint:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        if self.hangs:
            await asyncio.Future()
        if not self.checkpoints:
            raise CheckpointError("none on purpose")
        return self.checkpoints[0]

    async def info(self, payload: bytes) -> bytes:
        if orjson.loads(payload)["type"] == "meta":
            return b'{"universe":[{"name":"BTC"}]}'
        raise InfoFailed("unknown")

    def state(self) -> dict[str, Any]:
        return {"kind": "fake", "address": self.name}


def vouching(made: RawBlock, *, previous: bool = True) -> RawBlock:
    before = made.height - 1 if previous else None
    return RawBlock(made.kind, made.height, made.lines, made.read_ns, before)


def trade(height: int) -> RawBlock:
    return fills(height, fill(height, "B", crossed=True), fill(height, "A"))


class Out:
    """What was published, with a way to wait for more."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self._wake = asyncio.Event()

    def __call__(self, envelopes: Iterable[Envelope]) -> None:
        self.envelopes += envelopes
        self._wake.set()

    async def until(self, is_so: Callable[[], Any]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                self._wake.clear()
                try:
                    await asyncio.wait_for(self._wake.wait(), 0.02)
                except TimeoutError:
                    continue  # not everything that is waited for is published

    def heights(self, topic: Topic) -> list[int]:
        return [
            e.position.height
            for e in self.envelopes
            if e.topic == topic.name and e.role is Role.UPDATE
        ]


@asynccontextmanager
async def nodes(
    *names: str, check_every_s: float = 600.0
) -> AsyncIterator[tuple[NodesSource, list[FakeLink], Out]]:
    links, out = [FakeLink(name) for name in names], Out()
    source = NodesSource(links, epoch="n-test", check_every_s=check_every_s)
    source.want(TRADES)
    task = asyncio.ensure_future(source.run(out))
    try:
        async with asyncio.timeout(DEADLINE_S):
            for link in links:
                await link.is_running.wait()
        yield source, links, out
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_block_once_from_whoever_is_first() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.give(trade(10), previous=False)
        b.give(trade(10), trade(11))
        a.give(trade(11), trade(12))
        assert out.heights(TRADES) == [10, 11, 12]
        assert source.tip[0] == 12
        assert source.state()["merge"] == {"late_copy": 2}


async def test_a_hole_waits_for_the_other_node_and_then_goes_on() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.give(trade(10), previous=False)
        b.give(trade(10))
        a.give(trade(12), previous=False)
        assert out.heights(TRADES) == [10]
        b.give(trade(11))
        assert out.heights(TRADES) == [10, 11, 12]
        a.give(trade(14), previous=False)
        await out.until(lambda: out.heights(TRADES) == [10, 11, 12, 14])  # by the timer
        assert source.state()["merge"]["gap"] == 1


async def test_a_failed_link_begins_again_and_the_other_carries_on() -> None:
    async with nodes("a", "b") as (_, (a, b), out):
        a.give(trade(10), previous=False)
        a.fail()
        b.give(trade(10), previous=False)
        b.give(trade(11))
        assert out.heights(TRADES) == [10, 11]
        async with asyncio.timeout(DEADLINE_S):
            await a.is_running.wait()
        a.give(trade(12), previous=False)
        assert (a.runs, out.heights(TRADES)) == (2, [10, 11, 12])


async def test_history_is_taken_once_and_only_before_the_first_block() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.give_history(trade(8), trade(9))
        b.give_history(trade(10))  # further than the other's: would swallow a live block
        b.give(trade(10), previous=False)
        a.give_history(trade(11))
        a.give(trade(11))
        assert out.heights(TRADES) == [10, 11]
        snapshot = source.snapshot(TRADES)
        assert snapshot is not None
        assert len(orjson.loads(snapshot.payload)["data"]) == 4


async def test_nodes_that_differ_are_marked_and_the_first_copy_goes_on() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.give(trade(10), previous=False)
        other = fills(10, fill(77, "B", crossed=True), fill(77, "A"))
        b.give(other, previous=False)
        states = source.states()
        assert [states[name]["marks"] for name in ("a", "b")] == [["disagreeing"]] * 2
        assert states["a"]["differing"] == 1
        assert [e.position.height for e in out.envelopes] == [10]
        assert orjson.loads(out.envelopes[0].payload)["data"][0]["tid"] == 10
        # local_time alone is no difference
        a.give(trade(11))
        late = trade(11)
        b.give(RawBlock(late.kind, 11, [late.lines[0].replace(b".339", b".999")], 0))
        assert source.states()["a"]["differing"] == 1


async def test_a_broken_promise_marks_and_restarts_continuity() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.give(trade(10), previous=False)
        a._deliver([RawBlock(trade(15).kind, 15, trade(15).lines, 0, previous=10)])
        b.give(trade(12), previous=False)
        assert source.states()["a"]["breaches"] == 1
        assert source.states()["a"]["disagreeing"]
        assert not source.states()["b"]["disagreeing"]
        assert out.heights(TRADES) == [10, 15]


async def test_a_stalled_node_is_shown_and_the_others_go_on() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.give(trade(10), previous=False)
        for height in range(10, 50):
            b.give(trade(height), previous=height > 10)
        states = source.states()
        assert (states["a"]["lag"], states["a"]["marks"]) == (39, ["lagging"])
        assert states["b"]["marks"] == []
        assert len(out.heights(TRADES)) == 40
        await out.until(lambda: "stalled" in source.states()["a"]["marks"])


async def test_a_height_that_cannot_be_marks_nobody() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.give(trade(10), previous=False)
        b.give(trade(10), previous=False)
        a.give(trade(10**15), previous=False)
        a.give(trade(11))
        assert out.heights(TRADES) == [10, 11]
        assert source.states()["b"]["marks"] == []
        assert source.tip[0] == 11


def resting(*oids: int, sz: str = "1.0") -> list[CoinOrders]:
    return [CoinOrders("BTC", [order(oid, sz) | {"user": ADA} for oid in oids], [])]


def quiet(height: int) -> RawBlock:
    """A block in which no book changed."""
    return diffs(height)


async def test_the_checkpoint_comes_from_the_healthiest_that_has_one() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        source.want(L2_BOOK)
        b.checkpoints = [Checkpoint(10, resting(1))]
        a.give(quiet(10), previous=False)
        b.give(quiet(10), previous=False)
        await out.until(lambda: source.state()["books_ready"])
        assert b.asked == 1
        assert [e.topic for e in out.envelopes if e.role is Role.SNAPSHOT]


async def test_books_whose_changes_stopped_are_not_served_while_the_fills_go_on() -> None:
    async with nodes("a") as (source, (a,), out):
        for topic in (L2_BOOK, L4_BOOK):
            source.want(topic)
        a.checkpoints = [Checkpoint(10, resting(1))]
        a.give(quiet(10), previous=False)
        await out.until(lambda: source.state()["books_ready"])
        out.envelopes.clear()
        a.give(trade(10), previous=False)
        for height in range(11, 42):  # of 31 recorded blocks, 23 had no fill
            a.give(fills(height) if height == 20 else trade(height))
        await out.until(lambda: any(e.role is Role.NOT_READY for e in out.envelopes))
        told = {e.topic for e in out.envelopes if e.role is Role.NOT_READY}
        assert told == {L2_BOOK.name, L4_BOOK.name}
        assert not source.is_ready
        snapshot = source.snapshot(L2_BOOK)
        assert snapshot is not None
        assert b"node_raw_book_diffs" in snapshot.payload
        assert source.states()["a"]["marks"] == ["stopped node_raw_book_diffs"]
        # They come back, late: what is old is not shown as new.
        out.envelopes.clear()
        a.give(diffs(11, new(2)))
        assert not [e for e in out.envelopes if e.topic == L2_BOOK.name]
        a.give(*(quiet(height) for height in range(12, 42)))
        await out.until(lambda: source.is_ready)
        shown = [e for e in out.envelopes if e.topic == L2_BOOK.name]
        assert [(e.role, e.position.height) for e in shown] == [(Role.SNAPSHOT, 41)]
        assert source.states()["a"]["marks"] == []


async def test_books_are_compared_with_a_checkpoint_after_a_difference() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        source.want(L2_BOOK)
        a.checkpoints = [Checkpoint(10, resting(1))]
        b.checkpoints = [Checkpoint(10, resting(1))]
        a.give(quiet(10), previous=False)
        b.give(quiet(10), previous=False)
        await out.until(lambda: source.state()["books_ready"])
        # The first copy is the wrong one: it goes on, and the checkpoint says otherwise.
        truth = Checkpoint(11, [*resting(1, 2)])
        a.checkpoints = b.checkpoints = [truth]
        a.give(diffs(11, new(2, "5.0")))
        b.give(diffs(11, new(2, "1.0")))
        assert book_size(source) == "6.0"
        asked = a.asked + b.asked
        await out.until(lambda: a.asked + b.asked > asked)
        a.give(quiet(12))
        await out.until(lambda: book_size(source) == "2.0")
        assert source.state()["books_ready"]
        shown = [e for e in out.envelopes if e.topic == L2_BOOK.name][-1]
        assert orjson.loads(shown.payload)["data"]["levels"][0][0]["sz"] == "2.0"


def book_size(source: NodesSource) -> str:
    snapshot = source.snapshot(L2_BOOK)
    assert snapshot is not None
    return str(orjson.loads(snapshot.payload)["data"]["levels"][0][0]["sz"])


@pytest.mark.parametrize(
    "change", [remove(99), update(1, "3.0", "2.5"), {"coin": "BTC"}, new(1, "1.0")]
)
async def test_a_change_that_does_not_fit_makes_a_single_nodes_books_be_compared(
    change: dict[str, Any],
) -> None:
    async with nodes("a") as (source, (a,), out):
        source.want(L2_BOOK)
        a.checkpoints = [Checkpoint(10, resting(1))]
        a.give(quiet(10), previous=False)
        await out.until(lambda: source.state()["books_ready"])
        assert a.asked == 1
        a.checkpoints = [Checkpoint(11, resting(1, 2))]
        a.give(diffs(11, change))
        await out.until(lambda: a.asked == 2)
        a.give(quiet(12))
        await out.until(lambda: book_size(source) == "2.0")


async def test_books_lost_while_they_are_compared_wait_for_no_node_asked_before() -> None:
    async with nodes("a") as (source, (a,), out):
        source.want(L2_BOOK)
        a.checkpoints = [Checkpoint(10, resting(1))]
        a.give(quiet(10), previous=False)
        await out.until(lambda: source.state()["books_ready"])
        a.hangs = True
        a.give(diffs(11, remove(99)))
        await out.until(lambda: a.asked == 2)
        a.hangs, a.checkpoints = False, [Checkpoint(13, resting(1, 2))]
        a.give(quiet(13), previous=False)
        assert not source.state()["books_ready"]
        await out.until(lambda: source.state()["books_ready"])
        assert (a.asked, book_size(source)) == (3, "2.0")


async def test_books_are_compared_now_and_then_though_nothing_speaks_against_them() -> None:
    async with nodes("a", check_every_s=0.05) as (source, (a,), out):
        source.want(L2_BOOK)
        a.checkpoints = [Checkpoint(10, resting(1))]
        a.give(quiet(10), previous=False)
        await out.until(lambda: source.state()["books_ready"])
        a.checkpoints = [Checkpoint(10, resting(1, 2))]
        await out.until(lambda: book_size(source) == "2.0")


async def test_a_change_that_does_not_fit_is_looked_at_at_once_after_a_quiet_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead_s = 0.0

    def now_s() -> float:
        return time.monotonic() + ahead_s

    clock = SimpleNamespace(**vars(time) | {"monotonic": now_s})
    monkeypatch.setattr(nodes_module, "time", clock)
    async with nodes("a") as (source, (a,), out):
        source.want(L2_BOOK)
        a.checkpoints = [Checkpoint(10, resting(1))]
        a.give(quiet(10), previous=False)
        await out.until(lambda: source.state()["books_ready"])
        for asked in range(2, 8):
            ahead_s += 601
            await out.until(lambda asked=asked: a.asked == asked)
        ahead_s += 31
        a.checkpoints = [Checkpoint(11, resting(1, 2))]
        a.give(diffs(11, remove(99)))
        await out.until(lambda: a.asked == 8)
        a.give(quiet(12))
        await out.until(lambda: book_size(source) == "2.0")


@pytest.mark.parametrize(
    "bad",
    [
        Checkpoint(10 + AHEAD_BLOCKS + 1, resting(1)),
        Checkpoint(10, [CoinOrders("BTC", [order(1), order(2) | {"limitPx": "?"}], [])]),
        Checkpoint(5, resting(1)),
    ],
    ids=["of the future", "garbled", "too old"],
)
async def test_a_checkpoint_that_would_make_a_wrong_book_is_refused(bad: Checkpoint) -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.checkpoints, b.checkpoints = [bad], [Checkpoint(10, resting(1))]
        a.give(quiet(10), previous=False)
        b.give(quiet(10), previous=False)
        await out.until(lambda: source.state()["books_ready"])
        assert (a.asked, b.asked) == (1, 1)
        source.want(L2_BOOK)
        assert book_size(source) == "1.0"


@pytest.mark.parametrize("trouble", [OSError(28, "No space left"), RecursionError("deep")])
async def test_whatever_a_checkpoint_raises_the_blocks_go_on(trouble: Exception) -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.trouble = trouble
        a.give(quiet(10), previous=False)
        await out.until(lambda: a.asked and b.asked)
        b.checkpoints = [Checkpoint(10, resting(1))]
        await out.until(lambda: source.state()["books_ready"])
        a.give(trade(11))
        assert out.heights(TRADES) == [11]
        assert (a.runs, b.runs) == (1, 1)


async def test_a_node_that_hangs_does_not_keep_the_next_from_being_asked() -> None:
    a, b, c = (FakeLink(name) for name in "abc")
    a.hangs = c.hangs = True
    b.checkpoints = [Checkpoint(10, resting(1))]
    async with asyncio.timeout(DEADLINE_S):
        async with contextlib.aclosing(
            checkpoints([a, b, c], tip=lambda: 10, hedge_s=0.01)
        ) as found:
            first = await anext(found)
    assert (first.source, first.height) == ("b", 10)
    assert (a.asked, b.asked, c.asked) == (1, 1, 0)
    assert len(asyncio.all_tasks()) == 1  # nobody is asked any more


async def test_one_that_is_slow_is_taken_when_the_next_has_nothing() -> None:
    a, b = FakeLink("a"), FakeLink("b")
    a.hangs = True

    async def late() -> Checkpoint:
        await b_asked.wait()
        return Checkpoint(10, resting(1))

    b_asked = asyncio.Event()
    a.checkpoint = late  # type: ignore[method-assign]
    plain = b.checkpoint

    async def asked() -> Checkpoint:
        b_asked.set()
        return await plain()

    b.checkpoint = asked  # type: ignore[method-assign]
    async with asyncio.timeout(DEADLINE_S):
        found = [each async for each in checkpoints([a, b], tip=lambda: 10, hedge_s=0.01)]
    assert [each.source for each in found] == ["a"]


async def test_one_node_answers_questions_of_a_type_until_it_is_marked_or_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two that are not at the same block would answer back and forth in time."""
    asked, refuses = [], set()

    async def info(link: FakeLink, payload: bytes) -> bytes:
        if link.name in refuses:
            raise InfoFailed("refused on purpose")
        if payload == STATE:
            asked.append(link.name)
        return b"{}"

    monkeypatch.setattr(FakeLink, "info", info)
    async with nodes("a", "b") as (source, (a, b), _):
        a.give(trade(10), trade(11), previous=False)
        b.give(trade(10), previous=False)
        await source.info(STATE)
        b.give(trade(11), trade(12))  # b is ahead now
        await source.info(STATE)
        refuses.add("a")
        await source.info(STATE)
        refuses.clear()
        await source.info(STATE)
        assert asked == ["a", "a", "b", "b"]
        for height in range(12, 60):
            a.give(trade(height))
        await source.info(STATE)  # b lags
        assert asked[-1] == "a"


async def test_the_list_of_nodes_may_change_while_running() -> None:
    async with nodes("a", "b") as (source, (a, b), out):
        a.give(trade(10), previous=False)
        b.give(trade(10), previous=False)
        a.give(trade(12), previous=False)  # waits for b
        c = FakeLink("c")
        source.use([a, c], weights={"c": 2})
        async with asyncio.timeout(DEADLINE_S):
            await c.is_running.wait()
        c.give(trade(11))
        assert out.heights(TRADES) == [10, 11, 12]
        b.give(trade(13))
        assert out.heights(TRADES) == [10, 11, 12]
        assert source.states().keys() == {"a", "c"}


async def test_a_block_that_cannot_be_applied_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with nodes("a") as (source, (a,), out):
        a.give(trade(9), previous=False)
        a.give(trade(10))  # the first of all goes on with the next
        broken = source._market

        def explode(made: RawBlock) -> list[Envelope]:
            raise RuntimeError("broken on purpose")

        monkeypatch.setattr(type(broken), "apply", explode, raising=True)
        a.give(trade(11))
        monkeypatch.undo()
        a.give(trade(12))
        assert out.heights(TRADES) == [9, 10, 12]
        assert source.state()["faults"]["apply_failed"] == 1


async def test_the_streaming_and_the_by_block_form_of_a_block_agree() -> None:
    async with nodes("a", "b") as (source, (a, b), _):
        events = [fill(10, "B", crossed=True), fill(10, "A")]
        a.give(block(trade(10).kind, 10, events), previous=False)
        b.give(block(trade(10).kind, 10, events, is_streaming=True), previous=False)
        assert (source.state()["compared"], source.state()["differing"]) == (1, 0)
