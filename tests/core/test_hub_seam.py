"""The seam between replay and live, where nobody loses anything: whatever comes between the
question to the log and its answer, a customer who was away gets every trade once, and no gap is
told."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streaming.core.freshness import MARGIN_BLOCKS
from tests.core.relay_world import World, begun, data, events, update
from tests.core.test_hub_resume import Story

WORKERS = st.integers(0, 1)


class Seam(RuleBasedStateMachine):
    """Two workers, an edge, a log that is read at one moment and answers at another."""

    @initialize()
    def begin(self) -> None:
        self.story = Story()
        for number in range(2):
            self.story.block(True, 0)
            self.story.deliver(number, 10)
        self.story.wait(1)

    @rule(trades=st.lists(st.booleans(), min_size=1, max_size=3))
    def blocks(self, trades: list[bool]) -> None:
        """Both workers take them in: they are in the log, and on their way."""
        for has_trade in trades:
            self.story.block(has_trade, 0)

    @rule(number=WORKERS, ahead=st.integers(0, MARGIN_BLOCKS - 1))
    def other_files_come_sooner(self, number: int, ahead: int) -> None:
        self.story.run_ahead(number, ahead)

    @rule(number=WORKERS, count=st.integers(1, 3))
    def deliver(self, number: int, count: int) -> None:
        self.story.deliver(number, count)

    @rule()
    def read_log(self) -> None:
        self.story.world.log.read_now()

    @rule()
    def answer(self) -> None:
        self.story.world.log.answer()
        self.story.ben.read(self.story.world)

    @rule(ticks=st.integers(1, 4))
    def tick(self, ticks: int) -> None:
        self.story.world.wait(0.02 * ticks, is_log_up=False)
        self.story.ben.read(self.story.world)

    @rule()
    def come_back(self) -> None:
        self.story.reconnect()

    @rule(number=WORKERS)
    def come_back_elsewhere(self, number: int) -> None:
        """At another edge, where messages of old do not come."""
        self.story.restart_edge()
        self.story.deliver(number, 1)

    @invariant()
    def no_gap(self) -> None:
        if hasattr(self, "story"):
            assert self.story.ben.gaps == []

    def teardown(self) -> None:
        if not hasattr(self, "story"):
            return
        self.story.settle()
        for _ in range(2):
            self.story.block(True, 0)
        self.story.settle()
        ben = self.story.ben
        assert ben.missed(self.story.chain) == []
        assert max(ben.given) == self.story.chain[-1]
        assert ben.gaps == []


TestSeam = Seam.TestCase
TestSeam.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_a_frame_between_the_question_and_its_answer_is_not_passed_over() -> None:
    """It was logged after the log was read, another file's blocks are further, and the stream did
    not take it because it was still replaying."""
    world = World()
    world.desk().subscribe(coin="BTC")
    world.hear("A", 9)
    world.publish(begun(8, 8), update(9, 8), update(10, 9))
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1, from_={"height": 10})
    world.log.read_now()
    world.hear("A", 11 + MARGIN_BLOCKS)
    world.publish(update(11, 10))
    world.log.answer()
    world.wait(0.1)
    world.hear("A", 12 + MARGIN_BLOCKS)
    world.publish(update(12, 11))
    frames = desk.take()
    assert data(frames) == [10, 11, 12]
    assert events(frames) == ["replayComplete"]
    assert frames[-1]["seq"] == 3


def test_a_frame_that_the_log_did_not_take_is_told() -> None:
    """Redis was full: others got it live, and the log will never have it."""
    world = World()
    world.desk().subscribe(coin="BTC")
    world.hear("A", 9)
    world.publish(begun(8, 8), update(9, 8))
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1, from_={"height": 9})
    world.log.read_now()
    world.hear("A", 10)
    world.publish(update(10, 9), is_logged=False)
    world.hear("A", 10 + MARGIN_BLOCKS)
    world.wait(1.5)
    frames = desk.take()
    assert data(frames) == [9]
    assert events(frames) == ["gap", "replayComplete"]
