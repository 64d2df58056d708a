"""Slow customers of several topics, and topics whose source changes: what is lost is told, cursors
claim no more than was given.
"""

from __future__ import annotations

import random

import pytest

from streaming.core.envelope import ORIGIN, Envelope, Position, Role, end_of
from streaming.core.feed import Feed
from streaming.core.topic import Kind, Topic
from tests.core.relay_world import BTC, EPOCH, ETH, World, begun, data, events, trades, update


def test_what_a_slow_customer_missed_is_told_when_they_read_again() -> None:
    world = World()
    desk = world.desk(max_bytes=1_500)
    desk.subscribe(coin="BTC", id=1, onSlow="skip")
    world.publish(begun(10, 10))
    desk.take()
    desk.socket.is_blocked = True
    world.publish(*(update(h, h - 1) for h in range(11, 40)))
    desk.socket.read()  # and nothing new comes
    frames = desk.take()
    (gap,) = [f["data"] for f in frames if f["channel"] == "relay"]
    assert data(frames) == list(range(11, gap["fromHeight"] + 1))
    assert (gap["type"], gap["toHeight"], gap["reason"]) == ("gap", 39, "you read too slowly")


@pytest.mark.parametrize("coins", [["BTC", "ETH"], ["BTC", "ETH", "SOL", "kPEPE", "@107"]])
@pytest.mark.parametrize("max_bytes", [700, 1_100, 1_500, 2_300])
def test_no_cursor_claims_what_was_left_out(coins: list[str], max_bytes: int) -> None:
    world, rng = World(), random.Random(max_bytes)
    topics = [Topic(Kind.TRADES, coin) for coin in coins]
    desk = world.desk(max_bytes=max_bytes)
    desk.subscribe(coins=coins, id=1, onSlow="skip")
    for topic in topics:
        world.publish(begun(10, topic=topic))
    desk.take()
    made: dict[str, list[int]] = {coin: [] for coin in coins}
    last = dict.fromkeys(topics, 10)
    frames = []
    for height in range(11, 120):
        if rng.random() < 0.15:
            desk.socket.is_blocked = not desk.socket.is_blocked
            if not desk.socket.is_blocked:
                desk.socket.read()
        block = [topic for topic in topics if rng.random() < 0.6]
        world.publish(*(update(height, last[topic], topic=topic) for topic in block))
        for topic in block:
            last[topic] = height
            made[topic.coin].append(height)
        frames += desk.take()
    assert any(event == "gap" for event in events(frames))
    world.log.page = 10_000
    for number in range(0, len(frames), 5):
        known: dict[str, set[int]] = {coin: set() for coin in coins}
        cursor = None
        for frame in frames[: number + 1]:
            if "cursor" in frame:
                cursor = frame["cursor"]
            if frame["channel"] == "relay":
                told = range(frame["data"]["fromHeight"] + 1, frame["data"]["toHeight"] + 1)
                known[frame["data"]["coin"]].update(told)
        got = data(frames[: number + 1])
        if cursor is None:
            continue
        again = world.desk()
        again.subscribe(coins=coins, id=1, from_=cursor)
        world.wait(0.3)
        rest = again.take()
        again.session.close(now_s=world.now_s)
        # Trades are numbered by height, so counts tell whether any coin lacks one.
        told_lost = sum(len(known[coin] & set(made[coin])) for coin in coins)
        assert len(got) + told_lost + len(data(rest)) >= sum(map(len, made.values()))
        assert events(rest) == ["replayComplete"]


def test_a_source_that_begins_again_while_somebody_resumes_concerns_everybody() -> None:
    world = World()
    live = [world.desk() for _ in range(2)]
    live[0].subscribe(coin="BTC", id=1)
    world.publish(begun(3, 3, epoch="p-1"), update(4, 3, epoch="p-1"))
    cursor = live[0].take()[-1]["cursor"]
    resuming = world.desk()
    resuming.subscribe(coin="BTC", id=1, from_=cursor)
    live[1].subscribe(coin="BTC", id=1)
    live[1].take()
    world.publish(begun(1, 90, 91, epoch="p-2"), update(2, 1, epoch="p-2"))
    for desk in live:
        frames = desk.take()
        assert events(frames) == ["gap", "resync"]
        assert data(frames)[-1] == 2
    assert events(resuming.take()) == ["resumeFailed"]


def test_a_cursor_of_nodes_means_nothing_to_a_public_source() -> None:
    world = World()
    first = world.desk()
    first.subscribe(coin="BTC", id=1)
    world.publish(begun(900, 900), update(901, 900))
    cursor = first.take()[-1]["cursor"]
    first.session.close(now_s=world.now_s)
    other = World()  # another edge, where the topic is public now
    watcher, again = other.desk(), other.desk()
    watcher.subscribe(coin="BTC", id=1)
    other.publish(begun(5, 5, epoch="p-1"), update(6, 5, epoch="p-1"))
    frames = again.subscribe(coin="BTC", id=1, from_=cursor)
    other.wait(3.0)
    assert events(frames + again.take()) == ["resumeFailed"]


def test_a_cursor_of_a_public_source_that_is_gone_is_refused() -> None:
    world = World()
    first = world.desk()
    first.subscribe(coin="BTC", id=1)
    world.publish(begun(3, 3, epoch="p-1"), update(4, 3, epoch="p-1"))
    cursor = first.take()[-1]["cursor"]
    other = World()
    again = other.desk()
    frames = again.subscribe(coin="BTC", id=1, from_=cursor)
    other.wait(3.0)
    frames += again.take()
    assert "resumeFailed" in events(frames)
    assert "replayComplete" not in events(frames)


def test_whoever_subscribes_in_a_loop_gets_no_snapshot_each_time() -> None:
    world = World()
    world.hear("A", 10)
    desk = world.desk()
    topic = Topic(Kind.L4_BOOK, "BTC")
    book = b'{"coin":"BTC","time":1,"height":10,"levels":[[],[]]}'
    payload = b'{"channel":"l4Book","data":{"Snapshot":%b}}' % book
    for number in range(40):
        desk.subscribe("l4Book", coin="BTC", id=number)
        world.publish(Envelope(topic.name, EPOCH, end_of(10), ORIGIN, Role.SNAPSHOT, payload))
        desk.send(method="unsubscribe", id=number)
    assert len(world.wishes.asked) <= 3
    desk.subscribe("l4Book", coin="BTC", id=99)
    asked = len(world.wishes.asked)
    world.hub.sweep(now_s=world.now_s)
    world.hub.sweep(now_s=world.now_s)
    assert len(world.wishes.asked) > asked, "those who stay are served"


def test_a_frame_of_the_same_tick_does_not_claim_the_one_left_out() -> None:
    world = World()
    desk = world.desk(max_bytes=1_500)
    desk.subscribe(coins=["BTC", "ETH"], id=1, onSlow="skip")
    for topic in (BTC, ETH):
        world.publish(begun(10, topic=topic), update(11, 10, topic=topic))
    desk.take()
    desk.socket.is_blocked = True
    world.publish(update(12, 11, topic=ETH))
    big = Envelope(
        BTC.name, EPOCH, Position(13), Position(11), Role.UPDATE, trades(*range(1_000, 1_100))
    )
    world.publish(big, update(13, 12, topic=ETH))  # too big, and small enough
    desk.socket.read()
    frames = desk.take()
    assert data(frames) == [12, 13]
    assert events(frames) == ["gap"]
    again = world.desk()
    rest = again.subscribe(coins=["BTC", "ETH"], id=1, from_=frames[1]["cursor"])
    world.wait(0.3)
    rest += again.take()
    assert data(rest) == list(range(1_000, 1_100)), "cut before the gap frame came"


def test_the_last_hole_of_one_source_says_nothing_of_the_next() -> None:
    feed = Feed(BTC)
    feed.epoch, feed.lost_to = EPOCH, end_of(100)
    feed.end_epoch()
    assert feed.lost_to == ORIGIN
    assert feed.ended_epochs == [], "nodes may be back"
