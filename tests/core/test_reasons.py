"""What a frame counts as: the coin of its topic, and why it is free where it is."""

from __future__ import annotations

from streaming.core.batch import Batch
from streaming.core.counted import Counted, coin_of, counted, counted_of
from streaming.core.envelope import Envelope, Position, Role
from streaming.core.session import Session
from streaming.core.topic import Kind, Topic
from tests.core.relay_world import (
    BTC,
    CATALOGUE,
    EPOCH,
    Desk,
    Lease,
    World,
    begun,
    lost,
    update,
)
from tests.core.test_hub import ask

L4 = Topic(Kind.L4_BOOK, "BTC")
BBO = Topic(Kind.BBO, "BTC")


class Taker:
    """A sink of the official dialect that keeps what frames count as."""

    def __init__(self) -> None:
        self.reasons: list[str | None] = []
        self.tallied: dict[Counted, int] = {}

    def send(self, batch: Batch) -> None:
        self.reasons += [frame.counted.reason for frame in batch.frames if frame.counted]
        for of, messages, _ in batch.tally:
            self.tallied[of] = self.tallied.get(of, 0) + messages


def of_l4(height: int, previous: int, role: Role = Role.UPDATE, epoch: str = EPOCH) -> Envelope:
    payload = (
        b'{"channel":"l4Book","data":{"Snapshot":'
        b'{"coin":"BTC","time":1,"height":%d,"levels":[[],[]]}}}'
    )
    return Envelope(L4.name, epoch, Position(height), Position(previous), role, payload % height)


def of_bbo(height: int, epoch: str, role: Role = Role.UPDATE) -> Envelope:
    payload = b'{"channel":"bbo","data":{"coin":"BTC","time":%d,"bbo":[null,null]}}' % height
    return Envelope(BBO.name, epoch, Position(height), Position(height - 1), role, payload)


def join(world: World) -> tuple[Session, Taker]:
    taker = Taker()
    return Session(
        hub=world.hub,
        sink=taker,
        lease=Lease(),
        catalogue=lambda: CATALOGUE,  # type: ignore[arg-type]
    ), taker


def reasons(desk: Desk) -> list[str]:
    return [frame.counted.reason for frame in desk.socket.taken if frame.counted is not None]


def test_one_object_for_each_channel_coin_and_reason() -> None:
    assert counted_of(BTC) is counted("trades", "BTC") is counted_of(BTC._replace(by_event=True))
    assert counted_of(BTC) is not counted("trades", "BTC", "replay")


def test_the_coin_is_that_of_the_topic_if_it_can_be_told() -> None:
    assert coin_of(Topic(Kind.ALL_MIDS)) == coin_of(Topic(Kind.RAW, stream="node_fills")) == ""
    assert coin_of(Topic(Kind.ACTIVE_ASSET_DATA, "BTC", user="0x1")) == ""
    assert coin_of(Topic(Kind.BBO, "x" * 16)) == "x" * 16
    for odd in ("x" * 17, "a b", "é"):
        assert coin_of(Topic(Kind.BBO, odd)) == "other"


def test_what_is_read_from_the_log_is_a_replay_and_what_follows_is_not() -> None:
    world = World()
    first = world.desk()
    first.subscribe(coin="BTC", id=1)
    world.publish(begun(10, 10), update(11, 10))
    cursor = first.take()[-1]["cursor"]
    assert reasons(first) == ["", ""]
    world.publish(update(12, 11), update(13, 12))
    again = world.desk()
    again.subscribe(coin="BTC", id=1, from_=cursor)
    world.wait(0.2)
    world.publish(update(14, 13))
    assert reasons(again) == ["replay", "replay", ""]


def test_the_first_snapshot_is_charged_and_one_made_again_is_not() -> None:
    world = World()
    desk, (session, taker) = world.desk(), join(world)
    desk.subscribe("l4Book", coin="BTC", id=1)
    ask(session, world.hub, L4)
    world.publish(of_l4(10, 10, Role.SNAPSHOT), of_l4(11, 10))
    correction = Envelope(L4.name, EPOCH, Position(11), Position(10), Role.RESET, b"wrong")
    late, (late_session, late_taker) = world.desk(), join(world)
    world.publish(correction)
    # Who comes now waits for the same snapshot, and pays for it.
    late.subscribe("l4Book", coin="BTC", id=1)
    ask(late_session, world.hub, L4)
    world.publish(of_l4(11, 11, Role.SNAPSHOT), of_l4(12, 11))
    assert reasons(desk) == taker.reasons == ["", "", "resync", ""]
    assert reasons(late) == late_taker.reasons == ["", ""]
    assert taker.tallied == {counted_of(L4): 3, counted("l4Book", "BTC", "resync"): 1}


def test_a_gap_is_told_for_nothing() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1)
    world.publish(begun(10, 10), update(11, 10))
    world.publish(lost(11, 20))
    world.wait()
    world.publish(update(21, 20))
    assert "relay" in [frame["channel"] for frame in desk.take()]
    assert reasons(desk) == ["", "", ""]


def test_a_state_that_a_source_gives_again_is_free_and_its_next_is_not() -> None:
    world = World()
    desk, (session, taker) = world.desk(), join(world)
    desk.subscribe("bbo", coin="BTC", id=1)
    ask(session, world.hub, BBO)
    world.publish(of_bbo(1, "e1", Role.SNAPSHOT), of_bbo(2, "e1"))
    world.publish(of_bbo(1, "e2", Role.SNAPSHOT), of_bbo(2, "e2"))
    assert reasons(desk) == taker.reasons == ["", "", "resync", ""]


def test_followed_topics_are_told_until_they_are_not() -> None:
    world = World()
    desk, (session, _) = world.desk(), join(world)
    lease = session._lease
    ask(session, world.hub, L4)
    ask(session, world.hub, BBO)
    ask(session, world.hub, BBO, "unsubscribe")
    assert +lease.followed == {L4: 1}  # type: ignore[attr-defined]
    session.close(now_s=0.0)
    assert not +lease.followed  # type: ignore[attr-defined]
    desk.subscribe("bbo", coins=["BTC", "ETH"], id=1)
    assert sorted(topic.coin for topic in +desk.lease.followed) == ["BTC", "ETH"]
    desk.send(method="unsubscribe", id=1)
    assert not +desk.lease.followed
    full = world.desk(lease=Lease(limit=1))
    full.subscribe("bbo", coins=["BTC", "ETH"], id=1)
    assert not full.lease.followed  # refused whole: nothing was followed
