"""The worker's end of the bus: signs of life, the log before the bus, lingering, one owner."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import redis.asyncio

from streaming.bus import demand, keys, lease, metrics
from streaming.bus.demand import EdgeLeases
from streaming.bus.lease import LOOK_S, TTL_S, Lease
from streaming.bus.publisher import Command, Publisher
from streaming.core import envelope as wire
from streaming.core.catalogue import Catalogue
from streaming.core.envelope import ORIGIN, BusMessage, Envelope, Position, Role
from streaming.core.topic import Kind, Topic
from streaming.upstream import standby
from streaming.upstream import worker as worker_module
from streaming.upstream.owned import OwnedSources
from streaming.upstream.sources.base import Publish, Source
from streaming.upstream.sources.nodes import NodesSource
from streaming.upstream.worker import Worker
from tests.streaming.test_worker_nodes import FakeLink, trade

DEADLINE_S = 10.0
TRADES = Topic(Kind.TRADES, "BTC").name
EDGE = "bus-edge"


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url.removesuffix("/0") + "/8"


@pytest.fixture
async def client(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(url) as client:
        await client.flushdb()
        yield client


@asynccontextmanager
async def running(*jobs: Callable[[], Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    tasks = [asyncio.ensure_future(job()) for job in jobs]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Edge:
    """Reads its channel; `next` gives the first message that is as wanted."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)

    async def __aenter__(self) -> Edge:
        await self._pubsub.subscribe(keys.BUS_CHANNEL.format(edge=EDGE))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pubsub.aclose()

    async def next(self, is_it: Callable[[BusMessage], bool] = lambda message: True) -> BusMessage:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await self._pubsub.get_message(timeout=DEADLINE_S)
                if found is not None and is_it(message := wire.decode(found["data"])):
                    return message


def update(height: int) -> Envelope:
    return Envelope(TRADES, "n-1", Position(height), Position(height - 1), Role.UPDATE, b"{}")


class FakeLog:
    """Logs by a plain SET, so that a test can see what is there when the message comes."""

    def append(self, envelopes: Sequence[Envelope]) -> list[Command]:
        return [("SET", f"logged:{e.position.height}", 1) for e in envelopes] + [
            ("XADD", "twice", "5-5", "a", "b"),
            ("XADD", "twice", "5-5", "a", "b"),
        ]


async def test_a_quiet_edge_is_told_the_tip(client: redis.asyncio.Redis, url: str) -> None:
    tip = (7, 70)
    publisher = Publisher(
        url=url,
        worker="w",
        holders=lambda _: set(),
        edges=lambda: [EDGE],
        tip=lambda: tip,
        heights=lambda: (tip[0], 5),
    )
    async with Edge(client) as edge, running(publisher.run):
        first = await edge.next()
        assert first.heights == (7, 5)
        assert (first.envelopes, first.tip_height, first.tip_ns) == ([], 7, 70)
        tip = (8, 80)
        assert (await edge.next(lambda m: m.tip_height == 8)).tip_ns == 80


async def test_after_some_was_shed_all_states_are_told_again_once(
    client: redis.asyncio.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a second shedding soon after nothing is told at once: that would fill the bus again."""
    told: list[None] = []
    publisher = Publisher(url=url, worker="w", holders=lambda _: {EDGE}, edges=lambda: [EDGE])
    publisher._on_connect = lambda: told.append(None)
    async with Edge(client) as edge, running(publisher.run):
        await until(lambda: len(told) == 1)
        for _ in range(2):
            with monkeypatch.context() as full:
                full.setattr("streaming.bus.publisher.MAX_UNSENT_BYTES", -1)
                publisher.publish([update(3)])
            await until(lambda: len(told) == 2)
            for _ in range(3):  # signs of life, so ticks
                await edge.next(lambda m: not m.envelopes)
        assert len(told) == 2
        assert publisher._is_shed  # and will be, once the second is over
        monkeypatch.setattr("streaming.bus.publisher.TELL_AGAIN_S", 0.0)
        publisher._tell_again_s = 0.0
        await until(lambda: len(told) == 3)


async def test_who_cannot_tell_that_it_lives_does_not_live_on_in_silence(
    client: redis.asyncio.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Event()
    publisher = Publisher(url=url, worker="w", holders=lambda _: {EDGE}, on_connect=told.set)
    async with running(publisher.run) as (task,):
        await asyncio.wait_for(told.wait(), DEADLINE_S)
        monkeypatch.setattr("streaming.bus.publisher.MAX_UNSENT_BYTES", -1)
        publisher.publish([update(3)])
        monkeypatch.undo()
        publisher._on_connect = None  # type: ignore[assignment]  # fails when it is called
        await asyncio.wait([task], timeout=DEADLINE_S)
        assert task.done()
        assert isinstance(task.exception(), TypeError)


async def test_what_is_published_is_in_the_log_already(
    client: redis.asyncio.Redis, url: str
) -> None:
    publisher = Publisher(url=url, worker="w", holders=lambda _: {EDGE}, log_writer=FakeLog())
    repeated, errors = counter(metrics.LOG_REPEATED), counter(metrics.BUS_ERRORS)
    connected = asyncio.Event()
    publisher._on_connect = connected.set
    async with Edge(client) as edge, running(publisher.run):
        await asyncio.wait_for(connected.wait(), DEADLINE_S)
        publisher.publish([update(3), update(4)])
        message = await edge.next(lambda m: bool(m.envelopes))
        assert [e.position.height for e in message.envelopes] == [3, 4]
        assert all(e.times.out_ns for e in message.envelopes)
        assert await client.mget("logged:3", "logged:4") == [b"1", b"1"]
        # The other worker's copy is there already: no error, but counted.
        publisher.execute([("NONSENSE",)])
        publisher.publish([update(5)])
        await edge.next(lambda m: bool(m.envelopes))
    assert counter(metrics.LOG_REPEATED) - repeated == 3
    assert counter(metrics.BUS_ERRORS) - errors == 1


def counter(metric: Any) -> float:
    return float(metric._value.get())


# --- one owner ------------------------------------------------------------------------------------


class FakeSource:
    """A source that serves one coin and says when it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.catalogue = Catalogue(frozenset({"BTC"}))
        self.wanted: set[Topic] = set()
        self.tenants: dict[Topic, frozenset[str]] = {}
        self.is_running = asyncio.Event()
        self.publish: Publish = lambda envelopes: None

    def serves(self, topic: Topic) -> bool:
        return topic.coin == "BTC"

    def want(self, topic: Topic, tenants: Collection[str] = ()) -> bool:
        self.tenants[topic] = frozenset(tenants)
        self.wanted.add(topic)
        return True

    def unwant(self, topic: Topic) -> None:
        self.wanted.discard(topic)

    def snapshot(self, topic: Topic) -> Envelope | None:
        return Envelope(topic.name, self.name, Position(1), ORIGIN, Role.SNAPSHOT, b"{}")

    def state(self) -> dict[str, Any]:
        return {"kind": "public", "books_ready": True, "silent_s": None}

    async def run(self, publish: Publish) -> None:
        self.publish = publish
        self.is_running.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.is_running.clear()


class Owner:
    """One worker's owned sources."""

    def __init__(self, client: redis.asyncio.Redis, name: str) -> None:
        self.lease = Lease(client, key=keys.PUBLIC_LEASE, holder=name)
        self.built: list[FakeSource] = []
        self.lost: list[Source] = []
        self.published: list[Envelope] = []
        self.shed = 0
        self.owned = OwnedSources(
            self.lease,
            build=self._build,
            publisher=lambda source: self.published.extend,
            on_change=self.lost.extend,
            on_shed=self._count_shed,
        )

    def _count_shed(self) -> None:
        self.shed += 1

    def stand_still(self) -> None:
        """As a process finds itself that was stopped for longer than its lease lives."""
        self.lease._held_until_s = 0.0

    def _build(self) -> list[Source]:
        self.built.append(FakeSource(f"p-{len(self.built)}"))
        return [self.built[-1]]

    async def until_running(self, *, built: int) -> None:
        await until(lambda: len(self.built) >= built and self.built[-1].is_running.is_set())


async def test_one_worker_runs_the_public_sources_and_another_takes_over(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Owner(client, "one"), Owner(client, "two")
    async with running(one.owned.run) as tasks:
        await one.until_running(built=1)
        async with running(two.owned.run):
            assert (one.owned.is_owner, two.owned.is_owner) == (True, False)
            assert two.owned.sources == []

            async def killed() -> None:  # gives nothing back
                return

            monkeypatch.setattr(one.lease, "release", killed)
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await two.until_running(built=1)
            assert TTL_S + LOOK_S < 1.0
            assert [source.name for source in one.lost] == ["p-0"]


async def test_who_was_overtaken_ends_its_sources_and_begins_anew_later(
    client: redis.asyncio.Redis,
) -> None:
    one = Owner(client, "one")
    async with running(one.owned.run):
        await one.until_running(built=1)
        await client.set(keys.PUBLIC_LEASE, "two", px=round(TTL_S * 1000))
        await until(lambda: not one.owned.is_owner)
        await one.until_running(built=2)
        assert one.built[0] is not one.built[1]
        assert not one.built[0].is_running.is_set()


def updates(*places: int) -> list[Envelope]:
    return [
        Envelope(TRADES, "e", Position(place), Position(place - 1), Role.UPDATE, b"{}")
        for place in places
    ]


async def test_what_comes_while_the_lease_is_in_doubt_waits_for_it(
    client: redis.asyncio.Redis,
) -> None:
    one = Owner(client, "one")
    async with running(one.owned.run):
        await one.until_running(built=1)
        source = one.built[0]
        source.publish(updates(1))
        one.stand_still()
        source.publish(updates(2, 3))
        source.publish(updates(4))
        assert one.published == updates(1)
        await until(lambda: len(one.published) > 1)
        source.publish(updates(5))
        assert one.published == updates(1, 2, 3, 4, 5)
        assert one.shed == 0


async def test_what_waits_for_a_lease_that_is_lost_is_never_told(
    client: redis.asyncio.Redis,
) -> None:
    one = Owner(client, "one")
    async with running(one.owned.run):
        await one.until_running(built=1)
        one.stand_still()
        one.built[0].publish(updates(1, 2))
        await client.set(keys.PUBLIC_LEASE, "two", px=round(TTL_S * 1000))
        await one.until_running(built=2)
        one.built[1].publish(updates(3))
        assert one.published == updates(3)


async def test_more_than_can_wait_for_the_lease_asks_for_the_states_again(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.upstream.owned.MAX_HELD", 3)
    one = Owner(client, "one")
    async with running(one.owned.run):
        await one.until_running(built=1)
        one.stand_still()
        one.built[0].publish(updates(1, 2, 3))
        one.built[0].publish(updates(4))
        await until(lambda: one.shed == 1)
        assert one.published == updates(4)


# --- the whole worker, with nodes in the test's hand ----------------------------------------------


@asynccontextmanager
async def worker(
    url: str, *, owned: Sequence[Source] = (), **lingers: float
) -> AsyncIterator[tuple[Worker, NodesSource, FakeLink]]:
    link = FakeLink("node0")
    nodes = NodesSource([link])
    made = Worker(nodes=nodes, build_owned=lambda: list(owned), bus_url=url, **lingers)
    async with running(made.run):
        await asyncio.wait_for(link.is_running.wait(), DEADLINE_S)
        yield made, nodes, link


async def test_a_topic_outlives_its_last_lease(client: redis.asyncio.Redis, url: str) -> None:
    leases = EdgeLeases(client=client, edge=EDGE)
    async with (
        Edge(client) as edge,
        running(leases.run),
        worker(url, event_linger_s=1.0) as (made, nodes, link),
    ):
        link.give(trade(10), previous=False)
        leases.want(TRADES)
        await edge.next(lambda m: any(e.role is Role.SNAPSHOT for e in m.envelopes))
        leases.drop(TRADES)
        await until(lambda: not made.board.holders(TRADES))
        link.give(trade(11))
        async with asyncio.timeout(DEADLINE_S):
            while not await client.exists(keys.LOG.format(name=TRADES)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        leases.want(TRADES)  # back in time: it stays
        await edge.next(lambda m: any(e.role is Role.SNAPSHOT for e in m.envelopes))
        assert made._leaving == {}
        leases.drop(TRADES)
        await until(lambda: nodes._market.wanted == [])


async def test_a_killed_edge_gives_its_topics_back(
    client: redis.asyncio.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "GONE_GRACE_S", 0.1)
    monkeypatch.setattr(demand, "RECONCILE_S", 0.1)
    leases = EdgeLeases(client=client, edge=EDGE)
    async with worker(url, event_linger_s=0.2) as (made, nodes, link):
        link.give(trade(10), previous=False)
        async with Edge(client) as edge, running(leases.run):
            leases.want(TRADES)
            await edge.next(lambda m: any(e.role is Role.SNAPSHOT for e in m.envelopes))
        await client.delete(keys.LEASES.format(edge=EDGE))  # as when it has expired
        await until(lambda: nodes._market.wanted == [])
        assert EDGE not in made.board.edges


async def test_a_flush_of_redis_does_not_drop_a_living_edge(
    client: redis.asyncio.Redis, url: str
) -> None:
    leases = EdgeLeases(client=client, edge=EDGE)
    async with (
        Edge(client) as edge,
        running(leases.run),
        worker(url) as (made, _, link),
    ):
        link.give(trade(10), previous=False)
        leases.want(TRADES)
        await edge.next(lambda m: any(e.role is Role.SNAPSHOT for e in m.envelopes))
        before = made.epoch
        await client.flushdb()
        await until(lambda: made.epoch != before)
        link.give(trade(11))
        message = await edge.next(lambda m: bool(m.envelopes))
        assert message.envelopes[0].epoch == made.epoch
        assert message.envelopes[0].position.height == 11


async def test_a_flush_while_customers_come_and_go_drops_nothing(
    client: redis.asyncio.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease's hash then holds the newest wishes alone, until it is written whole again."""
    monkeypatch.setattr(demand, "REFRESH_S", 1.0)
    monkeypatch.setattr(demand, "RECONCILE_S", 0.1)
    leases = EdgeLeases(client=client, edge=EDGE)
    async with (
        Edge(client) as edge,
        running(leases.run),
        worker(url, event_linger_s=0.1) as (made, _, link),
    ):
        link.give(trade(10), previous=False)
        leases.want(TRADES)
        await edge.next(lambda m: any(e.role is Role.SNAPSHOT for e in m.envelopes))
        await client.flushdb()
        key = keys.LEASES.format(edge=EDGE)
        number = 0
        async with asyncio.timeout(DEADLINE_S):
            while not await client.hexists(key, TRADES):
                number += 1
                leases.want(Topic(Kind.TRADES, f"NEW{number}").name)
                await asyncio.sleep(0.05)
                assert made.board.holders(TRADES) == {EDGE}
        assert number > 3, "it was torn for a while"


async def test_a_worker_that_is_stopped_while_it_begins_ends(
    client: redis.asyncio.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client swallows it: then the worker began for good, and was never stopped."""
    made, asked = Worker(nodes=None, build_owned=list, bus_url=url), asyncio.Event()

    async def rebuild(_: object) -> None:
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(made.log_writer, "rebuild", rebuild)
    running_it = asyncio.ensure_future(made.run())
    await asyncio.wait_for(asked.wait(), DEADLINE_S)
    running_it.cancel()
    done, _ = await asyncio.wait([running_it], timeout=1.0)
    running_it.cancel()
    assert done


async def test_nodes_take_over_what_another_source_gives(
    client: redis.asyncio.Redis, url: str
) -> None:
    public = FakeSource("p-1")
    leases = EdgeLeases(client=client, edge=EDGE)
    async with Edge(client) as edge, running(leases.run):
        link = FakeLink("node0")
        nodes = NodesSource([link])
        knows = False
        monkey = nodes.serves
        nodes.serves = lambda topic: knows and monkey(topic)  # type: ignore[method-assign]
        made = Worker(nodes=nodes, build_owned=lambda: [public], bus_url=url)
        async with running(made.run):
            leases.want(TRADES)
            first = await edge.next(lambda m: any(e.role is Role.SNAPSHOT for e in m.envelopes))
            assert first.envelopes[0].epoch == "p-1"
            link.give(trade(10), previous=False)
            knows = True
            second = await edge.next(lambda m: any(e.epoch == made.epoch for e in m.envelopes))
            assert second.envelopes[0].role is Role.SNAPSHOT
            assert not public.wanted


async def test_a_public_feed_stands_in_while_no_node_gives_anything(
    client: redis.asyncio.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "TTL_S", 600.0)  # who is not quick enough must not lose it here
    monkeypatch.setattr(standby, "OUT_AFTER_S", 1.6)  # others are heard each second
    monkeypatch.setattr(standby, "LOOKED_AT_MOST_S", 0.3)  # one that is not quick looks no less
    monkeypatch.setattr(standby, "BACK_AFTER_S", 0.3)
    monkeypatch.setattr(standby, "CATCHING_UP_S", 60.0)  # the blocks' time is made up
    public, events = FakeSource("p-1"), Topic(Kind.TRADES, "BTC", by_event=True).name
    leases = EdgeLeases(client=client, edge=EDGE)
    height = 10

    async def live(link: FakeLink, until_it_is: Callable[[], bool]) -> None:
        nonlocal height
        async with asyncio.timeout(DEADLINE_S):
            while not until_it_is():
                link.give(trade(height), previous=height > 10)
                height += 1
                await asyncio.sleep(0.05)  # a chain's pace

    async with (
        Edge(client) as edge,
        running(leases.run),
        worker(url, owned=[public]) as (owner, _, link),
    ):
        await until(lambda: owner.owned.is_owner and bool(owner.owned.sources))
        async with worker(url) as (other, _, peer):  # without a public feed of its own
            leases.want(TRADES)
            leases.want(events)
            await live(peer, lambda: other._serving.keys() == {TRADES, events})
            # The owner's own node is silent, but the other worker's is not.
            await live(peer, lambda: owner._standby._height > 20)
            assert not owner._standby.is_out
            link.give(trade(height), previous=False)
            await until(lambda: owner._serving.keys() == {TRADES, events})
            for _ in range(2):
                await until(lambda: Topic(Kind.TRADES, "BTC") in public.wanted)
                first = await edge.next(lambda m: any(e.epoch == "p-1" for e in m.envelopes))
                assert [e.topic for e in first.envelopes] == [TRADES]
                await until(lambda: other._serving.keys() == {events})  # it leaves it to the owner
                await live(
                    peer,
                    lambda: other._serving.keys() == {TRADES, events} and not public.wanted,
                )
                back = await edge.next(
                    lambda m: any(e.epoch == owner.epoch and e.topic == TRADES for e in m.envelopes)
                )
                assert back.envelopes


async def test_no_worker_takes_names_away_that_another_knows(
    client: redis.asyncio.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "HEARTBEAT_S", 0.05)
    public = FakeSource("p-1")
    public.catalogue = Catalogue(frozenset({"BTC", "#7510"}), frozenset({"xyz"}))

    async def told() -> tuple[set[str], set[str]]:
        names = orjson.loads(await client.get(keys.CATALOGUE) or b'{"coins":[],"dexes":[]}')
        return set(names["coins"]), set(names["dexes"])

    async with worker(url, owned=[public]):
        async with asyncio.timeout(DEADLINE_S):
            while "#7510" not in (await told())[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with worker(url):  # knows BTC alone
            public.catalogue = Catalogue()  # built anew: knows nothing for a moment
            seen = []
            async with asyncio.timeout(DEADLINE_S):
                while await client.hlen(keys.CATALOGUES) < 2 or len(seen) < 40:
                    seen.append(await told())
                    await asyncio.sleep(0.01)
            assert all(names == ({"BTC", "#7510"}, {"xyz"}) for names in seen)
            # One that has gone is believed for a while, and then not.
            await client.hset(
                keys.CATALOGUES, "gone", orjson.dumps({"at_s": 1, "coins": ["OLD"], "dexes": []})
            )
            async with asyncio.timeout(DEADLINE_S):
                while await client.hexists(keys.CATALOGUES, "gone"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert "OLD" not in (await told())[0]


async def test_only_the_owner_says_that_nobody_serves_a_topic(
    client: redis.asyncio.Redis, url: str
) -> None:
    nonsense = Topic(Kind.TRADES, "NOPE").name
    leases = EdgeLeases(client=client, edge=EDGE)
    await client.set(keys.PUBLIC_LEASE, "another", px=1000)
    async with (
        Edge(client) as edge,
        running(leases.run),
        worker(url) as (made, _, link),
    ):
        link.give(trade(10), previous=False)
        leases.want(nonsense)
        leases.want(TRADES)
        first = await edge.next(lambda m: bool(m.envelopes))
        assert first.envelopes[0].topic == TRADES
        assert not made.owned.is_owner
        refused = await edge.next(lambda m: bool(m.envelopes))  # the lease has expired
        assert (refused.envelopes[0].topic, refused.envelopes[0].role) == (
            nonsense,
            Role.NOT_READY,
        )


async def test_whose_a_topic_is_travels_with_its_lease(
    client: redis.asyncio.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "REFRESH_S", 0.1)
    public, topic = FakeSource("p-1"), Topic(Kind.CANDLE, "BTC", interval="1m")
    followers = {topic.name: [7]}
    one = EdgeLeases(client=client, edge=EDGE, tenants=lambda name: followers.get(name, ()))
    other = EdgeLeases(client=client, edge="other-edge", tenants=lambda name: [9])
    old = EdgeLeases(client=client, edge="old-edge")  # tells nothing
    async with (
        worker(url, owned=[public], state_linger_s=0.0) as (made, _, _),
        running(one.run, other.run, old.run),
    ):
        old.want(topic.name)
        await until(lambda: public.tenants.get(topic) == frozenset())
        one.want(topic.name)
        await until(lambda: public.tenants[topic] == {"7"})
        followers[topic.name] = [7, 8]  # somebody joined whom no new lease tells of
        await until(lambda: public.tenants[topic] == {"7", "8"})
        followers[topic.name] = []  # it lingers, as theirs who had it last
        other.want(topic.name)
        await until(lambda: public.tenants[topic] == {"7", "8", "9"})
        one.drop(topic.name)
        await until(lambda: public.tenants[topic] == {"9"})
        other.drop(topic.name)
        old.drop(topic.name)
        await until(lambda: topic not in public.wanted)
        assert made.board.tenants(topic.name) == frozenset()


async def until(is_so: Callable[[], Any]) -> None:
    """Until something is so that nobody announces."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
