"""Topic → sessions: who gets what, in which order, and what happens around holes and restarts."""

from collections import Counter

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.batch import Batch
from streaming.core.catalogue import Catalogue
from streaming.core.envelope import ORIGIN, Envelope, Position, Role
from streaming.core.hub import LINGER_S, Hub
from streaming.core.session import Session, Shortage
from streaming.core.topic import Kind, Topic

BBO = Topic(Kind.BBO, "BTC")
TRADES = Topic(Kind.TRADES, "BTC")
L4 = Topic(Kind.L4_BOOK, "BTC")
CATALOGUE = Catalogue(frozenset({"BTC", "ETH"}))


class Wishes:
    """A demand that remembers."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def want(self, name: str) -> None:
        self.asked.append(name)

    def drop(self, name: str) -> None:
        self.asked.append(f"-{name}")


class Lease:
    retention_s: float | None = None

    def __init__(self, limit: int = 100) -> None:
        self.limit, self.used = limit, 0
        self.followed: Counter[Topic] = Counter()

    def subscribe(self, topic: Topic) -> Shortage | None:
        if self.used == self.limit:
            text = f"Cannot subscribe to more than {self.limit} channels."
            return Shortage("limit", text, text, self.limit, self.used)
        self.used += 1
        return None

    def unsubscribe(self, topic: Topic) -> None:
        self.used -= 1

    def follow(self, topic: Topic) -> None:
        self.followed[topic] += 1

    def unfollow(self, topic: Topic) -> None:
        self.followed[topic] -= 1


class Socket:
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.writes = 0

    def send(self, batch: Batch) -> None:
        self.writes += 1
        self.texts += [frame.payload.decode() for frame in batch.frames]

    def data(self) -> list[str]:
        texts, self.texts = self.texts, []
        return [t for t in texts if "subscriptionResponse" not in t]


def join(hub: Hub, lease: Lease | None = None) -> tuple[Session, Socket]:
    socket = Socket()
    return (
        Session(hub=hub, sink=socket, lease=lease or Lease(), catalogue=lambda: CATALOGUE),
        socket,
    )


def ask(session: Session, hub: Hub, topic: Topic, method: str = "subscribe") -> None:
    session.receive(
        orjson.dumps(
            {"method": method, "subscription": {"type": topic.kind, "coin": topic.coin}}
        ).decode(),
        now_s=0.0,
    )
    hub.flush()


def envelope(
    topic: Topic,
    height: int,
    payload: str,
    *,
    previous: int | None = None,
    role: Role = Role.UPDATE,
    epoch: str = "e1",
) -> Envelope:
    if previous is None and role is Role.SNAPSHOT and topic.kind is Kind.L4_BOOK:
        previous = height
    before = ORIGIN if previous is None else Position(previous)
    return Envelope(topic.name, epoch, Position(height), before, role, payload.encode())


def give(hub: Hub, *envelopes: Envelope) -> None:
    for one in envelopes:
        hub.publish(one)
    hub.flush()


def trades(*tids: int) -> str:
    return orjson.dumps({"channel": "trades", "data": [{"tid": tid} for tid in tids]}).decode()


def test_ack_then_snapshot_then_updates() -> None:
    hub = Hub(Wishes())
    ada, socket = join(hub)
    ask(ada, hub, BBO)
    give(hub, envelope(BBO, 5, "snap", role=Role.SNAPSHOT), envelope(BBO, 6, "new", previous=5))
    assert socket.texts == [
        '{"channel":"subscriptionResponse","data":{"method":"subscribe",'
        '"subscription":{"type":"bbo","coin":"BTC"}}}',
        "snap",
        "new",
    ]


def test_a_second_follower_gets_the_state_at_once_and_asks_nobody() -> None:
    wishes = Wishes()
    hub = Hub(wishes)
    ada, _ = join(hub)
    ask(ada, hub, BBO)
    give(hub, envelope(BBO, 5, "snap", role=Role.SNAPSHOT), envelope(BBO, 6, "new", previous=5))
    ben, socket = join(hub)
    ask(ben, hub, BBO)
    assert socket.data() == ["new"]
    assert wishes.asked == [BBO.name]


def test_trades_open_with_the_last_thirty() -> None:
    hub = Hub(Wishes())
    ada, _ = join(hub)
    ask(ada, hub, TRADES)
    give(hub, envelope(TRADES, 1, trades(*range(30)), role=Role.SNAPSHOT))
    give(hub, envelope(TRADES, 2, trades(30, 31), previous=1))
    ben, socket = join(hub)
    ask(ben, hub, TRADES)
    (text,) = socket.data()
    assert [t["tid"] for t in orjson.loads(text)["data"]] == list(range(2, 32))


def test_updates_ahead_of_a_trades_snapshot_are_part_of_it() -> None:
    hub = Hub(Wishes())
    ada, socket = join(hub)
    ask(ada, hub, TRADES)
    give(hub, envelope(TRADES, 1, trades(1)))
    give(hub, envelope(TRADES, 1, trades(0, 1), role=Role.SNAPSHOT))
    assert socket.data() == [trades(0, 1)]


def test_late_copies_are_dropped_and_holes_counted() -> None:
    hub = Hub(Wishes())
    ada, socket = join(hub)
    ask(ada, hub, TRADES)
    give(hub, envelope(TRADES, 1, trades(1), role=Role.SNAPSHOT))
    give(
        hub, envelope(TRADES, 2, trades(2), previous=1), envelope(TRADES, 2, trades(2), previous=1)
    )
    give(hub, envelope(TRADES, 9, trades(9), previous=7))
    assert socket.data() == [trades(1), trades(2), trades(9)]
    assert hub.counters.late == 1
    assert hub.counters.holes == {"trades": 1}


def test_after_a_cut_of_the_bus_state_followers_get_the_newer_snapshot() -> None:
    hub = Hub(Wishes())
    ada, socket = join(hub)
    ask(ada, hub, BBO)
    give(hub, envelope(BBO, 5, "old", role=Role.SNAPSHOT))
    hub.resync()
    give(hub, envelope(BBO, 9, "newer", role=Role.SNAPSHOT))
    give(hub, envelope(BBO, 9, "newer", role=Role.SNAPSHOT))
    assert socket.data() == ["old", "newer"]


def test_a_new_epoch_continues_for_states_and_counts() -> None:
    hub = Hub(Wishes())
    ada, socket = join(hub)
    ask(ada, hub, BBO)
    give(hub, envelope(BBO, 5, "old", role=Role.SNAPSHOT))
    give(hub, envelope(BBO, 2, "restarted", role=Role.SNAPSHOT, epoch="e2"))
    give(hub, envelope(BBO, 3, "next", previous=2, epoch="e2"))
    assert socket.data() == ["old", "restarted", "next"]
    assert hub.counters.epochs == 1


def test_every_l4_follower_starts_from_a_snapshot_of_their_own() -> None:
    wishes = Wishes()
    hub = Hub(wishes)
    (ada, ada_socket), (ben, ben_socket) = join(hub), join(hub)
    ask(ada, hub, L4)
    give(hub, envelope(L4, 5, "snap5", role=Role.SNAPSHOT))
    ask(ben, hub, L4)
    assert wishes.asked == [L4.name, L4.name]
    give(hub, envelope(L4, 6, "diff6", previous=5))
    give(hub, envelope(L4, 6, "snap6", role=Role.SNAPSHOT), envelope(L4, 7, "diff7", previous=6))
    assert ada_socket.data() == ["snap5", "diff6", "diff7"]
    assert ben_socket.data() == ["snap6", "diff7"]


def test_a_hole_in_l4_diffs_means_a_fresh_snapshot() -> None:
    wishes = Wishes()
    hub = Hub(wishes)
    ada, socket = join(hub)
    ask(ada, hub, L4)
    give(hub, envelope(L4, 5, "snap5", role=Role.SNAPSHOT), envelope(L4, 9, "d9", previous=8))
    give(hub, envelope(L4, 9, "snap9", role=Role.SNAPSHOT))
    assert socket.data() == ["snap5", "snap9"]
    assert wishes.asked == [L4.name, L4.name]


def test_a_joiner_costs_the_others_nothing_while_an_update_waits_for_its_statuses() -> None:
    hub = Hub(Wishes())
    (ada, ada_socket), (ben, ben_socket) = join(hub), join(hub)
    ask(ada, hub, L4)
    give(hub, envelope(L4, 100, "snap100", role=Role.SNAPSHOT))
    give(hub, envelope(L4, 101, "u101", previous=100))
    ask(ben, hub, L4)
    give(hub, envelope(L4, 102, "snap102", previous=101, role=Role.SNAPSHOT))
    give(hub, envelope(L4, 102, "u102", previous=101), envelope(L4, 103, "u103", previous=102))
    assert ada_socket.data() == ["snap100", "u101", "u102", "u103"]
    assert ben_socket.data() == ["snap102", "u103"]
    assert hub.counters.holes == {}


def test_after_a_cut_l4_followers_start_again_and_trades_are_filled_in() -> None:
    hub = Hub(Wishes())
    ada, socket = join(hub)
    ask(ada, hub, L4)
    give(hub, envelope(L4, 100, "snap100", role=Role.SNAPSHOT))
    hub.resync()
    give(hub, envelope(L4, 112, "snap112", previous=111, role=Role.SNAPSHOT))
    give(hub, envelope(L4, 113, "u113", previous=111))
    assert socket.data() == ["snap100", "snap112", "u113"]
    assert hub.counters.holes == {"l4Book": 1}
    ask(ada, hub, TRADES)
    give(hub, envelope(TRADES, 1, trades(1, 2), role=Role.SNAPSHOT))
    give(hub, envelope(TRADES, 4, trades(1, 2, 3, 4), role=Role.SNAPSHOT))
    assert socket.data() == [trades(1, 2), trades(3, 4)]
    assert "trades" not in hub.counters.holes
    give(hub, envelope(TRADES, 90, trades(80, 90), role=Role.SNAPSHOT))
    assert hub.counters.holes["trades"] == 1


def test_a_lost_first_frame_is_asked_for_again() -> None:
    wishes = Wishes()
    hub = Hub(wishes)
    ada, _ = join(hub)
    ask(ada, hub, TRADES)
    hub.sweep(now_s=1.0)
    hub.sweep(now_s=2.0)
    assert wishes.asked == [TRADES.name, TRADES.name]


def test_one_broken_sink_keeps_nobody_else_from_their_frames() -> None:
    hub = Hub(Wishes())
    (ada, _), (ben, socket) = join(hub), join(hub)
    for session in (ada, ben):
        ask(session, hub, BBO)

    class Broken:
        def send(self, batch: Batch) -> None:
            raise RuntimeError

    ada.sink = Broken()
    for height in range(1, 4):
        give(hub, envelope(BBO, height, str(height), previous=height - 1))
    assert socket.data() == ["1", "2", "3"]
    assert hub.counters.sink_failures == 3


def test_a_topic_that_is_not_ready_says_so_once_and_starts_by_itself() -> None:
    hub = Hub(Wishes())
    ada, socket = join(hub)
    ask(ada, hub, BBO)
    why = "Order book not ready for streaming (waiting for snapshot)"
    for _ in range(2):
        give(hub, envelope(BBO, 0, why, role=Role.NOT_READY))
    give(hub, envelope(BBO, 5, "snap", role=Role.SNAPSHOT))
    error, snap = socket.data()
    assert orjson.loads(error) == {
        "channel": "error",
        "data": why + ': {"type":"bbo","coin":"BTC"}',
    }
    assert snap == "snap"


def test_refusals_leave_the_rest_alone() -> None:
    hub = Hub(Wishes())
    lease = Lease(limit=1)
    ada, socket = join(hub, lease)
    ask(ada, hub, BBO)
    ask(ada, hub, BBO)
    ask(ada, hub, TRADES)
    ask(ada, hub, Topic(Kind.BBO, "NOPE"))
    ask(ada, hub, TRADES, "unsubscribe")
    texts = [orjson.loads(t)["data"] for t in socket.data()]
    assert texts == [
        'Already subscribed: {"type":"bbo","coin":"BTC"}',
        "Cannot subscribe to more than 1 channels.",
        'Invalid subscription: {"type":"bbo","coin":"NOPE"}',
        'Already unsubscribed: {"type":"trades","coin":"BTC"}',
    ]
    assert ada.topics == (BBO,)
    assert lease.used == 1


def test_a_closed_session_holds_nothing() -> None:
    wishes = Wishes()
    hub = Hub(wishes)
    lease = Lease()
    ada, socket = join(hub, lease)
    ask(ada, hub, BBO)
    ask(ada, hub, TRADES)
    ada.close(now_s=10.0)
    ada.close(now_s=10.0)
    give(hub, envelope(BBO, 5, "snap", role=Role.SNAPSHOT))
    assert socket.data() == []
    assert lease.used == 0
    hub.sweep(now_s=10.0 + LINGER_S - 0.1)
    assert len(hub.feeds) == 2
    hub.sweep(now_s=10.0 + LINGER_S)
    assert not hub.feeds
    assert wishes.asked[-2:] == [f"-{BBO.name}", f"-{TRADES.name}"]


def test_one_write_a_tick_and_one_buffer_for_all_who_get_the_same() -> None:
    hub = Hub(Wishes())
    followers = [join(hub) for _ in range(3)]
    for session, _ in followers:
        ask(session, hub, BBO)
    give(hub, envelope(BBO, 1, "a", role=Role.SNAPSHOT))
    before = [socket.writes for _, socket in followers]
    give(hub, envelope(BBO, 2, "b", previous=1), envelope(BBO, 3, "c", previous=2))
    assert [socket.writes for _, socket in followers] == [n + 1 for n in before]


@given(
    st.lists(
        st.tuples(st.sampled_from(["follow", "leave", "update", "again"]), st.integers(0, 3)),
        max_size=60,
    )
)
def test_whoever_follows_sees_every_event_from_their_snapshot_on(
    steps: list[tuple[str, int]],
) -> None:
    """A follower gets the last 30 trades, then each later one exactly once, in order."""
    hub = Hub(Wishes())
    sessions = [join(hub) for _ in range(4)]
    seen_by: dict[int, list[int]] = {}
    published: list[int] = [0]
    warm, _ = join(hub)
    ask(warm, hub, TRADES)
    give(hub, envelope(TRADES, 0, trades(0), role=Role.SNAPSHOT))
    for step, who in steps:
        session, socket = sessions[who]
        if step == "follow" and who not in seen_by:
            ask(session, hub, TRADES)
            seen_by[who] = published[-30:]
        elif step == "leave" and who in seen_by:
            got = [t["tid"] for text in socket.data() for t in orjson.loads(text)["data"]]
            assert got == seen_by.pop(who)
            ask(session, hub, TRADES, "unsubscribe")
            socket.data()
        elif step == "update":
            tid = published[-1] + 1
            give(hub, envelope(TRADES, tid, trades(tid), previous=tid - 1))
            published.append(tid)
            for seen in seen_by.values():
                seen.append(tid)
        elif step == "again":
            give(hub, envelope(TRADES, published[-1], trades(published[-1]), previous=0))
    for who, expected in seen_by.items():
        got = [t["tid"] for text in sessions[who][1].data() for t in orjson.loads(text)["data"]]
        assert got == expected
