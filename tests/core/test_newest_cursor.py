"""A client that always keeps the newest cursor it was given, and comes back with it at any moment,
gets every event once or is told that it does not: whatever the number of topics, some of which open
late and some never, a log that refuses or has forgotten, and a worker beside that tells nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streaming.core import cursor as cursors
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times
from streaming.core.replays import Question, Replay
from streaming.core.topic import Kind, Topic
from tests.core.relay_world import EPOCH, Desk, World, trades
from tests.core.test_many_topics import desk_of

FIRST = 100


@dataclass
class Chain:
    """One worker's topics: those it serves, and what it published of each."""

    world: World
    height: int = FIRST
    last: dict[str, Position] = field(default_factory=dict)  # of those that are served
    events: list[int] = field(default_factory=list)
    queue: deque[tuple[int, Envelope]] = field(default_factory=deque)

    def open(self, coin: str) -> None:
        """Serve it from now on, and answer its leases."""
        place = self.last.setdefault(coin, Position(self.height))
        name, tid = Topic(Kind.TRADES, coin).name, place.height * 10 + int(coin[1:])
        opening = Envelope(name, EPOCH, place, ORIGIN, Role.SNAPSHOT, trades(tid))
        self.queue.append((self.height, opening))

    def block(self, coins: list[str]) -> None:
        """A block with a trade of each of these, into the log and on its way."""
        self.height += 1
        for index, coin in enumerate(coin for coin in coins if coin in self.last):
            tid, place = self.height * 10 + int(coin[1:]), Position(self.height, index)
            name = Topic(Kind.TRADES, coin).name
            one = Envelope(
                name, EPOCH, place, self.last[coin], Role.UPDATE, trades(tid), Times(self.height)
            )
            self.last[coin] = place
            self.events.append(tid)
            self.world.log.append(one)
            self.queue.append((self.height, one))

    def deliver(self, count: int) -> None:
        """Hand on so many frames; the tip is heard when its block is through."""
        for _ in range(min(count, len(self.queue))):
            height, one = self.queue.popleft()
            self.world.publish(one, is_logged=False)
            if not self.queue or self.queue[0][0] > height:
                self.world.hear("A", height)


class Client:
    """Keeps the newest cursor. `told` holds what it was told is missing, as (coin, from, to]."""

    def __init__(self, world: World, coins: list[str], chain: Chain) -> None:
        self.world, self.coins, self.chain = world, coins, chain
        self.cursor: str | None = None
        self.began: dict[str, int] = {}
        self.given: list[int] = []
        self.told: list[tuple[str, int, int]] = []
        self.is_failed = False
        self.desk: Desk | None = None

    def connect(self) -> None:
        start = {"from_": self.cursor} if self.cursor else {}
        self.is_failed = False
        self.desk = desk_of(self.world, self.coins)
        self.take(self.desk.subscribe(coins=self.coins, id=1, **start))

    def cut(self) -> None:
        if self.desk is not None:
            self.take(self.desk.take())
            self.desk.session.close(now_s=self.world.now_s)
            self.desk = None

    def read(self) -> None:
        if self.desk is not None:
            self.take(self.desk.take())
            if self.is_failed:
                self.cut()
        if self.desk is None:
            self.connect()

    def take(self, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            if self.is_failed:  # as the documented client: it goes on from `oldest`
                return
            if frame["channel"] == "trades":
                self._data(frame)
            elif frame["channel"] == "relay":
                self._event(frame["data"])

    def _data(self, frame: dict[str, Any]) -> None:
        self.cursor = frame["cursor"]
        cursors.decode(frame["cursor"])
        tids = [trade["tid"] for trade in frame["data"]]
        coin = f"C{tids[-1] % 10}"
        if frame.get("snapshot"):
            self.began.setdefault(coin, tids[-1] // 10)
        else:
            self.began.setdefault(coin, tids[0] // 10 - 1)
            self.given += tids

    def _event(self, event: dict[str, Any]) -> None:
        if event["type"] == "gap":
            self.told.append((event["coin"], event["fromHeight"], event["toHeight"]))
            self.cursor = event["to"] or self.cursor
        elif event["type"] == "resumeFailed":
            self.is_failed = True
            if not event["reason"].endswith("try again"):  # which loses nothing
                self.began.pop(event["coin"], None)  # what was before its next frame: it was told
            self.cursor = event["oldest"] or self.cursor
        elif event["type"] == "error":
            raise AssertionError(event)

    def missed(self) -> list[int]:
        return [
            tid
            for tid in self.chain.events
            if tid not in self.given
            and tid // 10 > self.began[f"C{tid % 10}"]
            and not any(
                coin == f"C{tid % 10}" and after < tid // 10 <= until
                for coin, after, until in self.told
            )
        ]


class Log:
    """Refuses so many questions at once, as one does that is asked too much."""

    def __init__(self, world: World) -> None:
        self.refusals = 0
        self._ask = world.log.ask
        world.log.page = 50
        world.log.ask = self.ask  # type: ignore[method-assign]

    def ask(self, question: Question, answer: Callable[[Replay], None]) -> None:
        if self.refusals:
            self.refusals -= 1
            answer(Replay(failure="too many resumes at once: try again"))
        else:
            self._ask(question, answer)


coins_of = st.lists(st.sampled_from(range(8)), max_size=8, unique=True)
steps = st.one_of(
    st.tuples(st.just("block"), coins_of),
    st.tuples(st.just("block"), coins_of),
    st.tuples(st.just("deliver"), st.integers(1, 12)),
    st.tuples(st.just("deliver"), st.integers(1, 12)),
    st.tuples(st.just("open"), st.integers(0, 7)),
    st.tuples(st.just("cut"), st.none()),
    st.tuples(st.just("away"), coins_of),
    st.tuples(st.just("away"), coins_of),
    st.tuples(st.just("connect"), st.none()),
    st.tuples(st.just("connect"), st.none()),
    st.tuples(st.just("wait"), st.integers(1, 60)),
    st.tuples(st.just("refuse"), st.integers(1, 3)),
    st.tuples(st.just("forget"), st.integers(0, 7)),
    st.tuples(st.just("many"), st.integers(0, 7)),
)


ALL = list(range(8))
#: Cut between the first frames and the first news, one topic not served; cut again before the log
#: has answered, a topic having opened meanwhile; a log that refuses the first of the questions.
CUT_EARLY = (6, 5, [("away", ALL)], False)
CUT_AGAIN = (6, 4, [("block", ALL), ("deliver", 9), ("away", ALL), ("open", 4), ("deliver", 9),
                    ("away", ALL), ("wait", 60)], False)  # fmt: skip
REFUSED = (3, 3, [("block", ALL), ("deliver", 9), ("refuse", 1), ("away", ALL)], False)


@settings(max_examples=200)
@given(
    st.sampled_from([1, 2, 3, 4, 5, 5, 6, 6, 7, 8]),
    st.integers(0, 8),
    st.lists(steps, min_size=1, max_size=16),
    st.booleans(),
)
@example(*CUT_EARLY)
@example(*CUT_AGAIN)
@example(*REFUSED)
def test_the_newest_cursor_loses_nothing_untold(
    count: int, served: int, story: list[tuple[str, Any]], is_b_there: bool
) -> None:
    coins = [f"C{number}" for number in range(count)]
    world = World()
    log, chain = Log(world), Chain(world)
    client = Client(world, coins, chain)
    world.hear("A", FIRST)
    client.connect()
    for coin in coins[:served]:
        chain.open(coin)
    chain.deliver(served)
    for what, how in story:
        match what:
            case "block":
                chain.block([coin for n in how if (coin := f"C{n}") in coins])
            case "many":  # no more than what it takes to count as complete
                for _ in range(35):
                    chain.block([f"C{how}"])
                    chain.deliver(100)
            case "deliver":
                chain.deliver(how)
            case "open" if how < count:
                chain.open(coins[how])
            case "cut":
                client.cut()
            case "connect":
                client.read()
            case "away":  # for two blocks, and for as long as the log takes to answer
                client.cut()
                for _ in range(2):
                    chain.block([coin for n in how if (coin := f"C{n}") in coins])
                    chain.deliver(100)
                client.read()
            case "wait":
                world.wait(how / 20)
            case "refuse":
                log.refusals = how
            case "forget" if how < count:
                name = Topic(Kind.TRADES, coins[how]).name
                world.log.trim(name, Position(chain.height))
        if is_b_there:
            world.hear("B", chain.height)
    log.refusals = 0
    for _ in range(count + 2):  # each topic may fail once more
        client.read()
        chain.deliver(1_000)
        for coin in chain.last:
            chain.open(coin)
        chain.block(coins)
        chain.deliver(1_000)
        world.wait(4)
    client.cut()
    assert not [coin for coin in chain.last if coin not in client.began]
    assert client.missed() == []
    assert len(client.given) == len(set(client.given))
