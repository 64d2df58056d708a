"""Two workers, holes, the replay log: what a customer of the relay dialect is given."""

import orjson

from streaming.core.book.frames import l4_updates
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, end_of
from streaming.core.topic import Kind, Topic
from tests.core.relay_world import (
    BTC,
    EPOCH,
    ETH,
    World,
    begun,
    data,
    events,
    lost,
    trades,
    update,
)

BBO = Topic(Kind.BBO, "BTC")
L4 = Topic(Kind.L4_BOOK, "BTC")


def test_a_data_frame_is_the_official_one_and_ours() -> None:
    world = World()
    desk = world.desk()
    (ack,) = desk.subscribe(coin="BTC", id=7)
    assert ack["id"] == 7
    assert ack["data"]["subscription"] == {"type": "trades", "coin": "BTC"}
    world.publish(begun(10, 9, 10), update(11, 10))
    snapshot, frame = desk.take()
    assert (snapshot["snapshot"], snapshot["seq"]) == (True, 1)
    assert frame["channel"] == "trades"
    assert frame["data"] == orjson.loads(trades(11))["data"]
    assert (frame["id"], frame["seq"], frame["epoch"]) == (7, 2, EPOCH)
    assert frame["t"] == {"block": 11 * 10**9, "node": 2, "in": 3, "out": 4}


def test_the_first_copy_is_given_and_the_second_dropped() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(10, 10))
    for worker in ("A", "B"):
        world.publish(update(11, 10), update(12, 11), worker=worker)
    assert data(desk.take()) == [11, 12]
    assert world.hub.counters.late == 2


def test_what_one_worker_lost_comes_from_the_other_in_order() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(10, 10))
    world.publish(lost(10, 12), update(13, 13), worker="A")
    world.publish(update(11, 10), update(13, 11), worker="B")
    assert data(desk.take()) == [11, 13]
    world.wait()
    assert not desk.take()
    assert world.ledger.gaps == []


def test_what_the_bus_lost_comes_from_the_log() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(10, 10))
    world.log.append(update(11, 10))
    world.publish(update(12, 11))
    assert data(desk.take()) == []
    world.wait(0.1)
    assert data(desk.take()) == [11, 12]


def test_what_nobody_has_is_one_gap_frame_before_the_next() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id="a")
    world.publish(begun(10, 10))
    desk.take()
    for worker in ("A", "B"):
        world.publish(lost(11, 14), worker=worker)
        world.publish(_claiming(15, 14), worker=worker)
    world.wait()
    frames = desk.take()
    assert events(frames) == ["gap"]
    gap = frames[0]["data"]
    assert (gap["id"], gap["coin"], gap["fromHeight"], gap["toHeight"]) == ("a", "BTC", 10, 14)
    assert gap["reason"] == "both nodes silent"
    assert data(frames) == [15]
    assert world.ledger.gaps == [("trades BTC", Position(10), end_of(14))]


def _claiming(height: int, after: int, topic: Topic = BTC) -> Envelope:
    one = update(height, 0, topic=topic)
    return Envelope(
        one.topic, one.epoch, one.position, end_of(after), Role.UPDATE, one.payload, one.times
    )


def test_a_loss_in_a_quiet_topic_is_none_when_the_other_worker_has_gone_past_it() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(10, 10), worker="A")
    world.publish(begun(10, 10), worker="B")
    desk.take()
    world.publish(lost(10, 12), worker="A")
    world.hear("B", 20)
    world.wait(0.5)
    assert desk.take() == []
    assert world.ledger.gaps == []
    world.publish(_claiming(21, 12), worker="A")
    assert data(desk.take()) == [21]


def test_a_worker_that_has_only_begun_makes_no_gap_while_the_other_goes_on() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(10, 10), worker="A")
    world.publish(_claiming(20, 15), worker="C")
    world.publish(update(20, 10), worker="A")
    world.wait()
    frames = desk.take()
    assert data(frames) == [20]
    assert events(frames) == []


def test_official_sessions_wait_too_and_are_told_nothing() -> None:
    from tests.core.test_hub import ask, join

    world = World()
    ada, socket = join(world.hub)
    ask(ada, world.hub, BTC)
    world.publish(begun(10, 10), _claiming(15, 14))
    world.wait()
    assert len(socket.data()) == 2


def test_resume_gives_what_was_missed_once_and_then_live() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(10, 10), update(11, 10))
    cursor = desk.take()[-1]["cursor"]
    desk.session.close(now_s=world.now_s)
    world.publish(*(update(height, height - 1) for height in range(12, 20)))
    again = world.desk()
    (ack,) = again.subscribe(coin="BTC", id=1, from_=cursor)
    assert ack["channel"] == "subscriptionResponse"
    world.publish(update(20, 19))
    world.log.answer()
    world.publish(update(21, 20))
    world.wait(0.3)
    world.publish(update(22, 21))
    frames = again.take()
    assert data(frames) == list(range(12, 23))
    assert events(frames) == ["replayComplete"]
    assert [f["seq"] for f in frames if "seq" in f] == list(range(1, 12))
    assert frames[0]["replay"] is True
    assert "replay" not in frames[-1]


def test_resume_of_a_topic_nobody_followed_waits_for_its_first_sign_of_life() -> None:
    world = World()
    for height in range(5, 9):
        world.log.append(update(height, height - 1))
    desk = world.desk()
    desk.subscribe(coin="BTC", from_={"height": 6})
    world.log.answer()
    assert desk.take() == []
    world.publish(begun(8, 7, 8))
    world.wait(0.2)
    frames = desk.take()
    assert data(frames) == [6, 7, 8]
    assert events(frames) == ["replayComplete"]


def test_resume_by_block_time() -> None:
    world = World()
    for height in range(5, 9):
        world.log.append(update(height, height - 1))
    desk = world.desk()
    desk.subscribe(coin="BTC", from_={"ms": 7_000})
    world.publish(begun(8, 7, 8))
    world.wait(0.2)
    assert data(desk.take()) == [7, 8]


def test_too_old_a_cursor_is_refused_with_the_oldest_that_is_not() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(10, 10), *(update(h, h - 1) for h in range(11, 20)))
    cursor = desk.take()[1]["cursor"]
    world.log.trim("trades BTC", Position(15))
    lease_before = desk.lease.used
    again = world.desk()
    again.subscribe(coin="BTC", id=4, from_=cursor)
    world.wait(0.2)
    (failed,) = again.take()
    assert failed["data"]["type"] == "resumeFailed"
    assert failed["data"]["oldestHeight"] == 15
    assert (again.lease.used, lease_before) == (0, 1)
    again.subscribe(coin="BTC", id=4, from_=failed["data"]["oldest"])
    world.wait(0.2)
    assert data(again.take()) == [16, 17, 18, 19]


def test_a_hole_in_the_log_is_a_gap_and_the_rest_comes() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(10, 10), *(update(h, h - 1) for h in range(11, 20)))
    cursor = desk.take()[1]["cursor"]
    del world.log.entries["trades BTC"][Position(14)]
    again = world.desk()
    again.subscribe(coin="BTC", from_=cursor)
    world.wait(0.3)
    frames = again.take()
    assert data(frames) == [12, 13, 15, 16, 17, 18, 19]
    assert events(frames) == ["gap", "replayComplete"]


def test_a_state_starts_from_its_newest_frame_whatever_the_cursor() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe("bbo", coin="BTC", from_={"height": 3})
    payload = b'{"channel":"bbo","data":{"coin":"BTC","time":1,"bbo":[null,null]}}'
    world.publish(begun(10, topic=BBO, payload=payload))
    frame, complete = desk.take()
    assert frame["channel"] == "bbo"
    assert complete["data"]["type"] == "replayComplete"


def test_a_flushed_redis_gives_a_new_epoch_and_places_stay() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1)
    world.publish(begun(10, 10), update(11, 10))
    desk.take()
    new = "n-ffffffffffff"
    world.publish(update(12, 11, epoch=new), worker="A")
    world.publish(update(12, 11), update(13, 12), worker="B")  # still speaks in the old one
    world.publish(update(13, 12, epoch=new), worker="A")
    frames = desk.take()
    assert events(frames) == ["resync"]
    assert frames[0]["data"]["epoch"] == new
    assert [(f["data"][0]["tid"], f["seq"], f["epoch"]) for f in frames[1:]] == [
        (12, 1, new),
        (13, 2, new),
    ]


def test_a_public_source_that_begins_again_is_a_gap_and_a_resync() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1)
    world.publish(begun(3, 3, epoch="p-1"), update(4, 3, epoch="p-1"))
    desk.take()
    world.publish(begun(1, 90, 91, epoch="p-2"), update(2, 1, epoch="p-2"))
    world.publish(update(5, 4, epoch="p-1"))  # a straggler
    frames = desk.take()
    assert events(frames) == ["gap", "resync"]
    assert frames[0]["data"]["to"] is None
    assert data(frames) == [90, 91, 2]


def test_a_public_feed_stands_in_for_nodes_as_often_as_it_must() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1)
    world.publish(begun(10, 10), update(11, 10))
    assert data(desk.take()) == [11]
    world.publish(begun(1, 11, 901, epoch="p-1"), update(2, 1, epoch="p-1"))
    frames = desk.take()
    assert (events(frames), data(frames)) == (["resync"], [901, 2])  # they overlap: no gap
    world.publish(begun(30, 901, 2, 30), update(31, 30))
    frames = desk.take()
    assert (events(frames), data(frames)) == (["resync"], [30, 31])
    world.publish(update(3, 2, epoch="p-1"))  # a straggler
    assert desk.take() == []
    world.publish(begun(5, 950, epoch="p-1.1"))
    frames = desk.take()
    assert (events(frames), data(frames)) == (["gap", "resync"], [950])
    world.publish(begun(40, 40), update(41, 40))
    assert data(desk.take()) == [40, 41]


def test_after_a_hole_a_chained_topic_starts_from_a_snapshot() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe("l4Book", coin="BTC")

    def frame(height: int, previous: Position, role: Role = Role.UPDATE) -> Envelope:
        payload = l4_updates(time_ms=1, height=height, statuses=(), diffs=())
        return Envelope(L4.name, EPOCH, Position(height), previous, role, payload)

    world.publish(frame(10, Position(10), Role.SNAPSHOT), frame(11, Position(10)))
    world.publish(frame(20, end_of(18)))
    world.wait()
    frames = desk.take()
    assert [f["data"]["Updates"]["height"] for f in frames if "seq" in f] == [10, 11]
    assert events(frames) == ["gap"]
    world.publish(frame(21, Position(20), Role.SNAPSHOT), frame(22, Position(20)))
    assert [f["data"]["Updates"]["height"] for f in desk.take()] == [21, 22]


def test_a_slow_customer_gets_states_conflated_and_seq_without_holes() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe("bbo", coin="BTC", id=1)
    desk.socket.is_blocked = True

    def state(height: int) -> Envelope:
        payload = (
            b'{"channel":"bbo","data":{"coin":"BTC","time":1,"bbo":[null,null],"n":%d}}' % height
        )
        return Envelope(
            BBO.name, EPOCH, Position(height), Position(height - 1), Role.UPDATE, payload
        )

    world.publish(*(state(h) for h in range(10, 20)))
    desk.socket.read()
    world.publish(state(20))
    first, second = desk.take()
    assert (first["data"]["n"], first["seq"], first["conflated"]) == (19, 1, 9)
    assert (second["data"]["n"], second["seq"]) == (20, 2)


def test_on_slow_skip_leaves_events_out_and_says_which() -> None:
    world = World()
    desk = world.desk(max_bytes=1_000)
    desk.subscribe(coin="BTC", id=1, onSlow="skip")
    world.publish(begun(10, 10))
    desk.take()
    desk.socket.is_blocked = True
    world.publish(*(update(h, h - 1) for h in range(11, 40)))
    assert not desk.socket.is_cut
    desk.socket.read()
    world.publish(update(40, 39))
    frames = desk.take()
    given = data(frames)
    (gap,) = [f["data"] for f in frames if f["channel"] == "relay"]
    assert given == [*range(11, gap["fromHeight"] + 1), 40]
    assert gap["toHeight"] == 39
    assert [f["seq"] for f in frames if "seq" in f] == list(range(2, len(given) + 2))


def test_without_skip_a_slow_customer_of_events_is_cut() -> None:
    world = World()
    desk = world.desk(max_bytes=1_000)
    desk.subscribe(coin="BTC", id=1)
    desk.socket.is_blocked = True
    world.publish(begun(10, 10), *(update(h, h - 1) for h in range(11, 40)))
    assert desk.socket.is_cut


def test_a_replay_goes_no_faster_than_the_customer_reads() -> None:
    world = World()
    desk = world.desk()
    warm = world.desk()
    warm.subscribe(coin="BTC")
    world.publish(begun(10, 10), *(update(h, h - 1) for h in range(11, 3_000)))
    world.log.page = 1_000
    desk.socket.is_blocked = True
    desk.subscribe(coin="BTC", id=1, from_={"height": 11})
    world.wait(0.3)
    assert 0 < desk.socket.outbox.size_bytes < 300 * 1024
    got: list[int] = []
    for _ in range(100):
        desk.socket.read()
        world.log.answer()
        got += data(desk.take())
    assert got == list(range(11, 3_000))


def test_many_coins_have_one_cursor_that_resumes_them_all() -> None:
    world = World()
    topics = [Topic(Kind.TRADES, coin) for coin in ("BTC", "ETH", "SOL", "kPEPE", "@107")]
    coins = [topic.coin for topic in topics]
    desk = world.desk()
    desk.subscribe(coins=coins, id=1)
    for topic in topics:
        world.publish(begun(10, topic=topic))
    assert desk.take() == []
    previous = dict.fromkeys(topics, 10)
    published: list[tuple[str, int]] = []
    cursors: list[tuple[str, int]] = []
    for height in range(11, 80):
        block = [topic for number, topic in enumerate(topics) if height % (number + 1) == 0]
        for topic in block:
            world.publish(update(height, previous[topic], topic=topic))
            previous[topic] = height
            published.append((topic.coin, height))
            cursors.append((desk.take()[-1]["cursor"], len(published)))
    world.log.page = 100
    for cursor, upto in cursors[::7]:
        again = world.desk()
        again.subscribe(coins=coins, id=1, from_=cursor)
        world.wait(0.5)
        frames = again.take()
        heights = data(frames)
        assert sorted(heights) == sorted(height for _, height in published[upto:])
        assert events(frames) == ["replayComplete"]
        again.session.close(now_s=world.now_s)


def test_everything_gone_is_stale_within_two_seconds_and_comes_back_by_itself() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1, maxAgeMs=500)
    world.hear("A", 10)
    world.hub.check_age(now_s=world.now_s)
    assert desk.take() == []
    world.now_s += 0.6
    world.hub.check_age(now_s=world.now_s)
    (stale,) = desk.take()
    assert (stale["data"]["type"], stale["data"]["id"]) == ("stale", 1)
    world.now_s += 1.0
    world.hub.check_age(now_s=world.now_s)
    (silent,) = desk.take()
    assert silent["data"]["type"] == "stale"
    assert "id" not in silent["data"]
    world.hear("B", 11)
    world.hub.check_age(now_s=world.now_s)
    assert events(desk.take()) == ["fresh", "fresh"]


def test_a_topic_that_nobody_serves_is_stale_while_the_chain_goes_on() -> None:
    world = World()
    desk = world.desk()
    public = "p-0123456789ab"
    context = Topic(Kind.ACTIVE_ASSET_CTX, "BTC")
    desk.subscribe("activeAssetCtx", coin="BTC", id=1, maxAgeMs=400)
    desk.subscribe(coin="BTC", id=2, maxAgeMs=400)
    world.hear("A", 10)
    world.publish(begun(10, 10))

    def frame(count: int, role: Role = Role.UPDATE) -> Envelope:
        payload = b'{"channel":"activeAssetCtx","data":{"coin":"BTC","ctx":{"n":%d}}}' % count
        return Envelope(context.name, public, Position(count), Position(count - 1), role, payload)

    world.publish(frame(1, Role.SNAPSHOT), frame(2))
    desk.take()
    ended = Envelope(context.name, "", ORIGIN, ORIGIN, Role.NOT_READY, b"The connection is lost")
    world.publish(ended, ended)
    (stale,) = desk.take()
    assert stale["data"] == {
        "type": "stale", "id": 1, "ageMs": 0, "topic": "activeAssetCtx", "coin": "BTC",
        "reason": "The connection is lost",
    }  # fmt: skip
    # The other subscription is as fresh as the chain, which goes on.
    for height in range(11, 22):
        world.now_s += 0.05
        world.hear("A", height)
        world.hub.check_age(now_s=world.now_s)
    (old,) = desk.take()
    assert (old["data"]["type"], old["data"]["id"]) == ("stale", 1)
    assert old["data"]["ageMs"] > 400
    # Who comes now is told so, and given nothing old.
    other = world.desk()
    answers = other.subscribe("activeAssetCtx", coin="BTC", id=1)
    assert [a["channel"] for a in answers] == ["subscriptionResponse", "relay"]
    assert answers[1]["data"]["code"] == "not_ready"
    world.publish(frame(3))
    world.hub.check_age(now_s=world.now_s)
    assert [f["data"].get("topic", f["channel"]) for f in desk.take()] == [
        "activeAssetCtx", "activeAssetCtx", "relay",
    ]  # fmt: skip
    (first,) = other.take()
    assert (first["seq"], first["data"]["ctx"]) == (1, {"n": 3})


def test_a_closed_session_leaves_nothing_behind() -> None:
    world = World()
    desk = world.desk()
    desk.subscribe(coins=["BTC", "ETH"], from_={"height": 5})
    desk.session.close(now_s=10.0)
    desk.session.close(now_s=10.0)
    assert desk.lease.used == 0
    assert not world.hub.relays.sessions
    world.publish(begun(10, 10), begun(10, 10, topic=ETH))
    world.wait()
    assert desk.take() == []
    world.hub.sweep(now_s=world.now_s)
    assert not world.hub.feeds
