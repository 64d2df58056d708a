"""A desk's own orders are quiet for hours. That is no hole: not at another edge, not after the bus
was cut, not beside a worker that has only just begun."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.raw_feeds import RawFeeds
from streaming.core.topic import Kind, Topic
from streaming.core.user_feeds import UserFeeds
from tests.core import node_events
from tests.core.node_events import ADA, BEN, status
from tests.core.relay_world import EPOCH, Desk, Log, World, events
from tests.core.test_user_feeds import fill, funding, misc, twap

ORDERS = Topic(Kind.ORDER_UPDATES, user=ADA)
FILLS = Topic(Kind.USER_FILLS, user=ADA)
FUNDINGS = Topic(Kind.USER_FUNDINGS, user=ADA)
EVENTS = Topic(Kind.USER_EVENTS, user=ADA)
RAW = Topic(Kind.RAW, "BTC", stream="node_fills")
TOPICS = pytest.mark.parametrize(
    "topic", [ORDERS, FILLS, FUNDINGS, EVENTS, RAW], ids=lambda topic: topic.kind
)


def block(height: int, user: str, coin: str) -> list[RawBlock]:
    """A block of which every file says something about `user` or `coin`."""
    return [
        node_events.fills(height, fill(user, coin=coin)),
        node_events.statuses(height, {**status(height), "user": user}),
        misc(height, funding(user)),
        twap(height) if user == ADA else RawBlock(FileKind.TWAP, height, misc(height).lines, 0),
    ]


class Worker:
    """Reads the node from block `began` on."""

    def __init__(self, name: str, topic: Topic, began: int) -> None:
        self.name, self.topic, self.height = name, topic, began - 1
        kind = RawFeeds if topic.kind is Kind.RAW else UserFeeds
        self.room: RawFeeds | UserFeeds = kind(Counter())
        self.room.epoch = EPOCH
        self.take([], began, is_ours=False)
        self.room.want(topic)

    def take(self, worlds: list[World], height: int, *, is_ours: bool) -> None:
        """Take in a block and tell it to all edges."""
        self.height = height
        made = [
            envelope
            for each in (block(height, ADA, "BTC") if is_ours else block(height, BEN, "ETH"))
            for envelope in self.room.apply(each)
        ]
        for world in worlds:
            world.hear(self.name, height)
            world.publish(*made, worker=self.name)

    def answer(self, world: World) -> None:
        """The answer to a lease."""
        world.hear(self.name, self.height)
        world.publish(self.room.snapshot(self.topic), worker=self.name, is_logged=False)


class Day:
    """A topic with one busy block, and nothing else for a long time."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.log = Log()
        self.edges: list[World] = []
        self.height = 100
        self.workers = [Worker(name, topic, self.height) for name in "AB"]

    def edge(self) -> World:
        world = World()
        world.log = self.log
        world.hub.replays = self.log
        self.edges.append(world)
        return world

    def follow(self, world: World, **options: Any) -> Desk:
        desk = world.desk()
        named = {"user": self.topic.user} if self.topic.user else {"coin": self.topic.coin}
        if self.topic.stream:
            named["stream"] = self.topic.stream
        (ack,) = desk.subscribe(self.topic.kind.value, id=1, **named, **options)
        assert ack["channel"] == "subscriptionResponse"
        for worker in self.workers:
            worker.answer(world)
        return desk

    def blocks(self, count: int, *, is_ours: bool = False) -> None:
        for _ in range(count):
            self.height += 1
            for worker in self.workers:
                worker.take(self.edges, self.height, is_ours=is_ours)
            for world in self.edges:
                world.wait(0.08)

    def busy(self) -> None:
        """A block of ours, and as many as it takes until every room has told it."""
        self.blocks(1, is_ours=True)
        self.blocks(4)


def follow_a_busy_block(topic: Topic) -> tuple[Day, Desk, str]:
    day = Day(topic)
    desk = day.follow(day.edge())
    day.busy()
    cursor = desk.take()[-1]["cursor"]
    day.blocks(40)
    assert desk.take() == []
    return day, desk, cursor


@TOPICS
@pytest.mark.parametrize("is_logged", [True, False])
def test_a_resume_at_another_edge_is_complete(topic: Topic, is_logged: bool) -> None:
    day, _, cursor = follow_a_busy_block(topic)
    if not is_logged:
        day.log.entries.clear()  # its hour is over
    desk = day.follow(day.edge(), from_=cursor)
    day.blocks(20)
    assert events(desk.take()) == ["replayComplete"]
    day.busy()
    frames = desk.take()
    assert frames
    assert events(frames) == []


@TOPICS
def test_a_bus_that_was_cut_is_no_loss(topic: Topic) -> None:
    day, desk, _ = follow_a_busy_block(topic)
    (edge,) = day.edges
    edge.hub.resync()
    for worker in day.workers:
        worker.answer(edge)
    day.blocks(20)
    assert desk.take() == []
    day.busy()
    assert events(desk.take()) == []
    assert edge.ledger.gaps == []


@TOPICS
@pytest.mark.parametrize("is_logged", [True, False])
def test_a_worker_that_has_just_begun_proves_no_loss(topic: Topic, is_logged: bool) -> None:
    """It answers first, and knows nothing of what was before it."""
    day, _, cursor = follow_a_busy_block(topic)
    if not is_logged:
        day.log.entries.clear()
    day.workers[0] = Worker("C", topic, day.height)
    desk = day.follow(day.edge(), from_=cursor)
    day.blocks(20)
    assert events(desk.take()) == ["replayComplete"]
    day.busy()
    assert events(desk.take()) == []


@TOPICS
def test_two_workers_that_have_just_begun_prove_nothing(topic: Topic) -> None:
    """Nobody knows what was between, so it is told."""
    day, _, cursor = follow_a_busy_block(topic)
    day.workers = [Worker(name, topic, day.height) for name in "CD"]
    desk = day.follow(day.edge(), from_=cursor)
    day.blocks(20)
    assert events(desk.take()) == ["gap", "replayComplete"]
