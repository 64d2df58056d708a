"""A subscription of many coins: one cursor, small, that resumes them all from any of its frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core import cursor as cursors
from streaming.core.catalogue import Catalogue
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.relay_session import RelaySession
from streaming.core.replays import Replay
from streaming.core.topic import Kind, Topic
from tests.core.relay_world import EPOCH, Desk, Lease, World, events, trades, update

COINS = [f"C{number}" for number in range(9)]


def desk_of(world: World, coins: list[str]) -> Desk:
    """A customer in a market of these coins."""
    desk = Desk(world)
    catalogue = Catalogue(frozenset(coins))
    desk.session = RelaySession(
        hub=world.hub, sink=desk.socket, lease=Lease(10_000), catalogue=lambda: catalogue
    )
    return desk


class Worker:
    """Publishes blocks of trades; what it lost it says of every coin."""

    def __init__(self, name: str, coins: list[str]) -> None:
        self.name, self.height = name, 99
        self.last = dict.fromkeys(coins, end_of(99))
        self.queue: deque[tuple[int, list[Envelope]]] = deque()

    def take(self, world: World, height: int, coins: list[str], *, is_lost: bool) -> None:
        made = []
        for number, coin in enumerate(self.last if is_lost else coins):
            place = end_of(height) if is_lost else Position(height, 7 * number)
            payload = b"lost" if is_lost else trades(height * 100 + int(coin[1:]))
            role = Role.GAP if is_lost else Role.UPDATE
            name = Topic(Kind.TRADES, coin).name
            one = Envelope(name, EPOCH, place, self.last[coin], role, payload, Times(height))
            self.last[coin] = place
            made.append(one)
            if not is_lost:
                world.log.append(one)
        self.height = height
        self.queue.append((height, made))

    def open(self, world: World, coin: str) -> None:
        """The answer to a lease."""
        name = Topic(Kind.TRADES, coin).name
        place = self.last[coin]
        world.hub.publish(Envelope(name, EPOCH, place, ORIGIN, Role.SNAPSHOT, trades()), self.name)

    def deliver(self, world: World) -> None:
        if self.queue:
            height, made = self.queue.popleft()
            world.hear(self.name, height)
            for one in made:
                world.hub.publish(one, self.name)
            world.hub.flush()


@dataclass
class Told:
    """What a customer has been given so far, and which (from, to] are told lost, by coin."""

    given: list[int] = field(default_factory=list)
    lost: list[tuple[str, int, int]] = field(default_factory=list)

    def take(self, frame: dict[str, Any]) -> str | None:
        """Note a frame; its cursor."""
        if frame["channel"] == "trades":
            self.given += [trade["tid"] for trade in frame["data"] if not frame.get("snapshot")]
            cursor: str = frame["cursor"]
            return cursor
        event = frame["data"]
        if event.get("type") == "resumeFailed":  # told as well
            self.lost.append((event["coin"], 0, 10**9))
        if event.get("type") != "gap":
            return None
        self.lost.append((event["coin"], event["fromHeight"], event["toHeight"]))
        to: str = event["to"]
        return to

    def missed(self, chain: list[int]) -> list[int]:
        return [
            tid
            for tid in chain
            if tid not in self.given
            and not any(
                coin == f"C{tid % 100}" and after < tid // 100 <= until
                for coin, after, until in self.lost
            )
        ]


blocks = st.tuples(
    st.lists(st.sampled_from(COINS), max_size=5, unique=True),
    st.sampled_from([0, 0, 0, 0, 1, 2, 3]),  # which workers lost it
    st.lists(st.integers(0, 1), max_size=4),  # who delivers
    st.integers(0, 3),  # ticks
)


@settings(max_examples=40)
@given(st.lists(blocks, min_size=1, max_size=12), st.integers(0, 5))
def test_any_cursor_resumes_all_coins(
    story: list[tuple[list[str], int, list[int], int]], which: int
) -> None:
    world = World()
    world.log.page = 50
    desk = desk_of(world, COINS)
    workers = [Worker("A", COINS), Worker("B", COINS)]
    desk.subscribe(coins=COINS, id=1)
    for worker in workers:
        world.hear(worker.name, 99)
        for coin in COINS:
            worker.open(world, coin)
    world.hub.flush()
    told, chain = Told(), []
    kept: list[tuple[str, Told]] = []

    def read() -> None:
        for frame in desk.take():
            if (cursor := told.take(frame)) is not None:
                kept.append((cursor, Told(list(told.given), list(told.lost))))

    for height, (coins, lost, order, ticks) in enumerate(story, start=100):
        chain += [height * 100 + int(coin[1:]) for coin in coins]
        for number, worker in enumerate(workers):
            worker.take(world, height, coins, is_lost=bool(lost >> number & 1))
        for number in order:
            workers[number].deliver(world)
        world.wait(0.02 * ticks)
        read()
    for _ in range(30):
        for worker in workers:
            worker.deliver(world)
    for height in range(200, 206):  # the chain goes on
        for worker in workers:
            worker.take(world, height, [], is_lost=False)
            worker.deliver(world)
        world.wait(0.3)
    read()
    assert told.missed(chain) == []
    assert len(told.given) == len(set(told.given))
    for cursor, before in kept[which :: max(len(kept) // 3, 6)]:
        again = desk_of(world, COINS)
        again.subscribe(coins=COINS, id=1, from_=cursor)
        world.wait(1.6)
        frames = again.take()
        if again.session.subscriptions:
            assert events(frames)[-1] == "replayComplete"
        first = len(before.given)
        for frame in frames:
            before.take(frame)
        assert before.missed(chain) == []
        assert not set(before.given[:first]) & set(before.given[first:])
        again.session.close(now_s=world.now_s)


def test_a_cursor_of_many_coins_is_small_and_never_refused() -> None:
    coins = [f"C{number}" for number in range(1_300)]
    world = World()
    desk = desk_of(world, coins)
    workers = [Worker("A", coins), Worker("B", coins)]
    desk.subscribe(marketTypes=["perp"], id=1)
    for worker in workers:
        for number, coin in enumerate(coins):
            worker.last[coin] = Position(number // 20 + 1, number)
    world.hear("A", 99)
    world.hear("B", 99)
    for worker in workers:
        for coin in coins:
            worker.open(world, coin)
    world.hub.flush()
    sizes: list[int] = []
    for height in range(100, 110):
        for worker in workers:
            worker.take(world, height, coins[height - 100 : height - 60], is_lost=False)
            worker.deliver(world)
        for frame in desk.take():
            assert cursors.decode(frame["cursor"])
            sizes.append(len(frame["cursor"]))
    assert len(sizes) == 400
    assert max(sizes) < 600  # the forty that this block has brought


def test_a_gap_of_all_coins_does_not_name_them_all_in_each_frame_after_it() -> None:
    coins = [f"C{number}" for number in range(400)]
    world = World()
    desk = desk_of(world, coins)
    workers = [Worker("A", coins), Worker("B", coins)]
    desk.subscribe(marketTypes=["perp"], id=1)
    for worker in workers:
        world.hear(worker.name, 99)
        for coin in coins:
            worker.open(world, coin)
    for height in range(100, 130):
        for worker in workers:
            worker.take(world, height, coins[:3], is_lost=height == 110)
            worker.deliver(world)
        world.wait(0.08)
    frames = desk.take()
    gaps = [frame["data"]["to"] for frame in frames if frame["channel"] == "relay"]
    assert len(gaps) == 400
    assert set(gaps) == {None}  # the cursor before stays good: 400 of 5 KB are not told at once
    later = [len(f["cursor"]) for f in frames if f["channel"] == "trades"]
    assert max(later[-30:]) < 100


def _opening(coin: str) -> Envelope:
    name = Topic(Kind.TRADES, coin).name
    return Envelope(name, EPOCH, Position(90), ORIGIN, Role.SNAPSHOT, trades(90))


def test_who_is_cut_while_very_many_wait_begins_anew() -> None:
    """Naming each of 1,300 topics in each of their opening frames would be 12 MB."""
    coins = [f"C{number}" for number in range(1_300)]
    world = World()
    desk = desk_of(world, coins)
    desk.subscribe(coins=coins[:1_000], id=1)
    desk.subscribe(coins=coins[1_000:], id=2)
    world.hear("A", 99)
    for coin in coins:
        world.publish(_opening(coin), is_logged=False)
    frames = desk.take()
    texts = [frame["cursor"] for frame in frames]
    assert cursors.decode(texts[900]).others == {}
    assert len(cursors.decode(texts[999]).others) == 1_000  # the last of the first
    assert sum(map(len, texts)) < 1_600_000
    desk.session.close(now_s=world.now_s)
    again = desk_of(world, coins)
    frames = again.subscribe(coins=coins[:1_000], id=1, from_=texts[900])
    assert [f.get("snapshot") for f in frames if f["channel"] == "trades"] == [True] * 1_000
    assert events(frames) == ["replayComplete"]


def test_a_topic_that_nobody_serves_does_not_keep_the_others_from_their_places() -> None:
    world = World()
    desk = desk_of(world, COINS)
    desk.subscribe(coins=COINS, id=1)
    world.hear("A", 99)
    for coin in COINS[:-1]:
        world.publish(_opening(coin), is_logged=False)
    cursor = cursors.decode(desk.take()[-1]["cursor"])
    places = [cursor.of(Topic(Kind.TRADES, coin).name) for coin in COINS]
    assert places == [Position(90)] * 8 + [ORIGIN]


def test_a_worker_that_tells_nothing_of_them_makes_no_cursor_longer() -> None:
    coins = [f"C{number}" for number in range(400)]
    world = World()
    desk = desk_of(world, coins)
    desk.subscribe(coins=coins, id=1)
    worker = Worker("A", coins)
    for coin in coins:
        worker.open(world, coin)
    for height in range(100, 104):
        world.hear("B", height)  # reads a node, and serves others
        worker.take(world, height, coins[:3], is_lost=False)
        worker.deliver(world)
    sizes = [len(frame["cursor"]) for frame in desk.take() if not frame.get("snapshot")]
    assert max(sizes[-6:]) < 100


def test_a_worker_that_begins_ahead_of_the_other_moves_nobody_else() -> None:
    world = World()
    world.log.page = 50
    desk = desk_of(world, COINS)
    desk.subscribe(coins=COINS, id=1)
    first, second = Worker("A", COINS), Worker("B", COINS[:1])
    for coin in COINS:
        first.open(world, coin)
    for height in range(100, 104):
        world.hear("B", height)
        first.take(world, height, COINS[:3], is_lost=False)
        first.deliver(world)
    second.last["C0"] = Position(103)
    second.open(world, "C0")
    first.take(world, 104, COINS[1:2], is_lost=False)  # on its way
    second.take(world, 104, [], is_lost=False)
    second.take(world, 105, COINS[:1], is_lost=False)
    second.deliver(world)
    second.deliver(world)
    cursor = cursors.decode(desk.take()[-1]["cursor"])
    assert cursor.of(Topic(Kind.TRADES, "C1").name) < Position(104)


def test_who_failed_is_not_named_in_later_cursors() -> None:
    coins = [f"C{number}" for number in range(100)]
    world = World()
    desk = desk_of(world, coins)
    worker = Worker("A", coins)
    for number, coin in enumerate(coins):
        known = 50 if number < 10 else 90  # the others' log begins too late
        world.log.append(update(95, known, topic=Topic(Kind.TRADES, coin)))
        worker.last[coin] = Position(95)
    world.hear("A", 99)
    desk.subscribe(coins=coins, id=1, from_={"height": 60})
    for coin in coins:
        worker.open(world, coin)
    world.wait(3)
    assert events(desk.take()).count("resumeFailed") == 90
    for height in range(100, 103):
        worker.take(world, height, coins[:3], is_lost=False)
        worker.deliver(world)
    last = cursors.decode(desk.take()[-1]["cursor"])
    followed = {cursors.topic_key(Topic(Kind.TRADES, coin).name) for coin in coins[:10]}
    assert set(last.others) <= followed


def test_a_thousand_topics_of_a_source_that_is_gone_are_each_told() -> None:
    """One after another, not each inside the one before."""
    coins = [f"C{number}" for number in range(1_000)]
    world = World()
    desk = desk_of(world, coins)
    cursor = cursors.encode(cursors.Cursor("p-1", Position(5)))
    desk.subscribe(coins=coins, id=1, from_=cursor)
    world.wait(4)
    assert events(desk.take()) == ["resumeFailed"] * 1_000
    assert desk.lease.used == 0


def test_a_log_that_refuses_at_once_is_no_deep_well() -> None:
    coins = [f"C{number}" for number in range(1_000)]
    world = World()
    desk = desk_of(world, coins)
    world.log.ask = lambda _, answer: answer(Replay(failure="too many"))  # type: ignore[method-assign]
    desk.subscribe(coins=coins, id=1, from_={"height": 5})
    world.wait(4)
    assert events(desk.take()) == ["resumeFailed"] * 1_000


def test_topics_that_wait_do_not_keep_the_others() -> None:
    """Nobody knows what was between; that takes one second for all, not for each."""
    coins = [f"C{number}" for number in range(200)]
    world = World()
    desk = desk_of(world, coins)
    desk.subscribe(coins=coins, id=1, from_={"height": 50})
    worker = Worker("A", coins)
    world.hear("A", 99)
    for coin in coins:
        world.log.append(update(40, 30, topic=Topic(Kind.TRADES, coin)))
        worker.open(world, coin)
    for _ in range(150):
        world.wait(0.02)
        for _ in range(20):
            world.log.answer()
    assert events(desk.take()) == ["gap"] * 200 + ["replayComplete"]
