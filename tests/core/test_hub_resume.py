"""The promise of resume, on random histories: two workers that lose, lag and die, a bus that is
cut, edges that restart, customers who are cut and come back with their last cursor; the log is read
at one moment and answers at another, and workers have taken in blocks of other files already. What
a customer got is what the chain said, once and in order; whatever is missing is named by a gap
frame."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core import cursor as cursors
from streaming.core.envelope import Envelope, Position, Role, Times, end_of
from streaming.core.freshness import MARGIN_BLOCKS
from streaming.core.hub import Hub
from tests.core.relay_world import BTC, Desk, Log, World, begun, trades

FIRST = 100


class Worker:
    """Reads the chain from `began` on and publishes what it sees; `queue` is on its way."""

    def __init__(self, name: str, began: int, epoch: str) -> None:
        self.name, self.epoch = name, epoch
        self.tip = began
        self.ahead = 0  # blocks that it has taken in of another file
        self.last = end_of(began)
        self.seen: list[int] = []
        self.queue: deque[tuple[Envelope | None, int]] = deque()

    def take(self, height: int, *, has_trade: bool, is_lost: bool, log: Log) -> None:
        self.tip = height
        if is_lost:
            place = end_of(height)
            gap = Envelope(BTC.name, self.epoch, place, end_of(height - 1), Role.GAP, b"lost")
            self.last = place
            self.queue.append((gap, height))
        elif has_trade:
            place = Position(height)
            one = Envelope(
                BTC.name, self.epoch, place, self.last, Role.UPDATE, trades(height), Times(height)
            )
            self.last = place
            self.seen.append(height)
            log.append(one)
            self.queue.append((one, height))
        else:
            self.queue.append((None, height))

    def answer(self) -> None:
        """The answer to a lease."""
        one = begun(0, *self.seen[-30:], epoch=self.epoch)
        self.queue.append(
            (Envelope(one.topic, one.epoch, self.last, one.previous, one.role, one.payload), 0)
        )


class Customer:
    """Comes back with the last cursor it saw, and checks everything it is given."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self.reached = 0  # everything up to this height is given or explained
        self.given: set[int] = set()
        self.missing: list[tuple[Position, Position]] = []
        self.gaps: list[tuple[Position, Position]] = []  # those that were told
        self.seq = 0
        self.desk: Desk | None = None
        self.is_lost_track = False

    def connect(self, world: World) -> None:
        self.desk = world.desk()
        self.seq = 0
        frames = self.desk.subscribe(
            coin="BTC", id=1, **({"from_": self.cursor} if self.cursor else {})
        )
        self.take(frames)

    def cut(self, world: World) -> None:
        if self.desk is not None:
            self.desk.session.close(now_s=world.now_s)
            self.take(self.desk.take())
        self.desk = None

    def read(self, world: World) -> None:
        if self.desk is None:
            return
        self.take(self.desk.take())
        if not self.desk.session.subscriptions:  # resumeFailed: begin anew
            self.cursor = None
            self.seq = 0
            self.take(self.desk.subscribe(coin="BTC", id=1))

    def take(self, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            if frame["channel"] == "relay":
                self._event(frame["data"])
            elif frame["channel"] == "trades":
                self._data(frame)

    def _event(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "resync":
                self.seq = 0
            case "gap":
                begin = cursors.decode(event["from"]).position
                end = cursors.decode(event["to"]).position
                assert begin < end
                self.missing.append((begin, end))
                self.gaps.append((begin, end))
                self.cursor = event["to"]
            case "resumeFailed":
                self.is_lost_track = True
            case "error":
                raise AssertionError(event)

    def _data(self, frame: dict[str, Any]) -> None:
        self.seq += 1
        assert frame["seq"] == self.seq
        self.cursor = frame["cursor"]
        if frame.get("snapshot"):
            assert not self.given or self.is_lost_track
            self._begin(cursors.decode(frame["cursor"]).position)
            return
        if not self.reached or self.is_lost_track:
            self._begin(Position(frame["data"][0]["tid"] - 1))
        for trade in frame["data"]:
            height = trade["tid"]
            assert height not in self.given, f"{height} twice"
            assert not self.given or height > max(self.given), f"{height} out of order"
            self.given.add(height)

    def _begin(self, position: Position) -> None:
        """A snapshot: what was before it is none of this subscription's business."""
        end = end_of(position.height)
        self.missing.append((Position(0), end))
        self.reached = position.height
        self.is_lost_track = False

    def missed(self, chain: list[int]) -> list[int]:
        """What the chain said and nobody explained."""
        return [
            height
            for height in chain
            if height not in self.given
            and not any(begin < Position(height) <= end for begin, end in self.missing)
        ]


class Story:
    """The whole relay in one thread."""

    def __init__(self) -> None:
        self.world = World()
        self.world.log.page = 4
        self.epoch = "n-000000000000"
        self.height = FIRST
        self.chain: list[int] = []
        self.names = iter(range(1_000))
        self.workers = [self._worker(), self._worker()]
        self.ben = Customer()
        self.ben.connect(self.world)

    def _worker(self) -> Worker:
        return Worker(f"w{next(self.names)}", self.height, self.epoch)

    def block(self, has_trade: bool, lost: int) -> None:
        self.height += 1
        if has_trade:
            self.chain.append(self.height)
        for number, worker in enumerate(self.workers):
            worker.take(
                self.height,
                has_trade=has_trade,
                is_lost=bool(lost >> number & 1),
                log=self.world.log,
            )

    def deliver(self, number: int, count: int) -> None:
        self.answer_leases()
        worker = self.workers[number]
        for _ in range(min(count, len(worker.queue))):
            envelope, tip = worker.queue.popleft()
            if tip:
                self.world.hear(worker.name, tip + worker.ahead)
            if envelope is not None:
                self.world.hub.publish(envelope, worker.name)
        self.world.hub.flush()
        self.ben.read(self.world)

    def answer_leases(self) -> None:
        if self.world.wishes.asked:
            self.world.wishes.asked.clear()
            for worker in self.workers:
                worker.answer()

    def wait(self, tenths: int) -> None:
        for _ in range(tenths):
            for worker in self.workers:
                if not worker.queue:  # idle workers say so every 100 ms
                    self.world.hear(worker.name, worker.tip + worker.ahead)
            self.world.wait(0.1)
            self.world.hub.check_age(now_s=self.world.now_s)
        self.ben.read(self.world)

    def kill_worker(self, number: int) -> None:
        """Its messages that Redis has taken still come; a new one begins at the tip."""
        dead = self.workers[number]
        self.deliver(number, len(dead.queue))
        self.workers[number] = self._worker()
        self.workers[number].answer()

    def cut_bus(self) -> None:
        for worker in self.workers:
            worker.queue.clear()
        self.world.hub.resync()
        self.answer_leases()

    def reconnect(self) -> None:
        self.ben.cut(self.world)
        self.ben.connect(self.world)

    def restart_edge(self) -> None:
        self.ben.cut(self.world)
        for worker in self.workers:
            worker.queue.clear()
        self.world.hub = Hub(self.world.wishes, replays=self.world.log, ledger=self.world.ledger)
        self.world.log.forget()
        self.ben.connect(self.world)
        self.answer_leases()

    def flush_redis(self) -> None:
        self.world.log.entries.clear()
        self.epoch = f"n-{self.height:012x}"
        for worker in self.workers:
            worker.epoch = self.epoch

    def read_log(self) -> None:
        """Redis reads what it was asked for; the answer comes with the next wait."""
        self.world.log.read_now()

    def run_ahead(self, number: int, blocks: int) -> None:
        """The worker's other files come sooner than the trades."""
        self.workers[number].ahead = blocks

    def trim(self) -> None:
        self.world.log.trim(BTC.name, Position(self.height - 3))

    def settle(self) -> None:
        """Everything arrives, and time passes."""
        for _ in range(6):
            for number in range(2):
                self.deliver(number, 10_000)
            self.wait(12)


def play(story: Story, step: tuple[str, int, int]) -> None:
    name, first, second = step
    match name:
        case "block":
            story.block(bool(first % 4), second if first % 5 == 0 else 0)
        case "deliver":
            story.deliver(first % 2, second)
        case "wait":
            story.wait(second + 1)
        case "kill":
            story.kill_worker(first % 2)
        case "run_ahead":
            story.run_ahead(first % 2, second)
        case _:
            getattr(story, name)()


STEPS = st.one_of(
    st.tuples(st.just("block"), st.integers(0, 39), st.integers(0, 3)),
    st.tuples(st.just("deliver"), st.integers(0, 1), st.integers(1, 6)),
    st.tuples(st.just("wait"), st.just(0), st.integers(0, 3)),
    st.tuples(st.just("run_ahead"), st.integers(0, 1), st.integers(0, MARGIN_BLOCKS - 1)),
    st.tuples(st.just("read_log"), st.just(0), st.just(0)),
    st.tuples(
        st.sampled_from(["kill", "cut_bus", "reconnect", "restart_edge", "flush_redis", "trim"]),
        st.integers(0, 1),
        st.just(0),
    ),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=60))
def test_nothing_is_missing_nothing_is_twice(steps: list[tuple[str, int, int]]) -> None:
    story = Story()
    for step in steps:
        play(story, step)
    story.settle()
    for _ in range(2):
        story.block(True, 0)
    story.settle()
    missed = story.ben.missed(story.chain)
    assert not missed, (missed, sorted(story.ben.given), story.ben.missing)
    assert story.ben.given, "nothing at all arrived"
    assert story.ben.desk is not None


def test_without_a_loss_on_both_sides_there_is_no_gap_frame() -> None:
    """Each worker loses every fifth block, never the same: nothing to explain."""
    story = Story()
    story.deliver(0, 10)
    story.deliver(1, 10)
    for number in range(200):
        story.block(True, 1 if number % 10 == 0 else 2 if number % 10 == 5 else 0)
        story.deliver(number % 2, 3)
        story.deliver((number + 1) % 2, 2)
        story.wait(1)
    story.settle()
    assert story.ben.missed(story.chain) == []
    assert len(story.ben.missing) <= 1
    assert sorted(story.ben.given) == story.chain[-len(story.ben.given) :]
