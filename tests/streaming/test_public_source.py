"""The public source against an exchange that counts, cuts, stalls and lies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.catalogue import Catalogue
from streaming.core.envelope import Envelope, Role
from streaming.core.topic import Kind, Topic
from streaming.upstream import quarantine
from streaming.upstream.budget import Limits, PublicBudget
from streaming.upstream.sources import public as public_module
from streaming.upstream.sources import public_link
from streaming.upstream.sources.public import PublicSource
from streaming.upstream.spec import parse_upstreams
from tests.streaming.fake_exchange import DEADLINE_S, FakeExchange

BBO = Topic(Kind.BBO, "BTC")


def user(number: int) -> str:
    return f"0x{number:040x}"


def fills(number: int) -> Topic:
    return Topic(Kind.USER_FILLS, user=user(number))


class Published:
    """What the source gave, and a way to wait for it."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self._came = asyncio.Event()

    def __call__(self, envelopes: Iterable[Envelope]) -> None:
        self.envelopes.extend(envelopes)
        self._came.set()

    async def until(self, holds: Callable[[Envelope], Any]) -> Envelope:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for envelope in self.envelopes:
                    if holds(envelope):
                        return envelope
                self._came.clear()
                await self._came.wait()


@pytest.fixture
async def exchange() -> AsyncIterator[FakeExchange]:
    async with FakeExchange().serve() as exchange:
        yield exchange


@contextlib.asynccontextmanager
async def running(
    exchange: FakeExchange, *, limits: Limits | None = None
) -> AsyncIterator[tuple[PublicSource, Published]]:
    (spec,) = parse_upstreams(exchange.url)
    source, published = PublicSource(spec, name="public0", budget=PublicBudget(limits)), Published()
    task = asyncio.create_task(source.run(published))
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not source.catalogue:  # noqa: ASYNC110 - the source tells nobody
                await asyncio.sleep(0.005)
        yield source, published
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_subscription_however_often_it_is_wanted(exchange: FakeExchange) -> None:
    async with running(exchange) as (source, _):
        assert all(source.want(BBO) for _ in range(5))
        await exchange.until(lambda: exchange.following(type="bbo"))
        assert source.want(Topic(Kind.BBO, "ETH"))
        await exchange.until(lambda: exchange.following(coin="ETH"))
        assert (len(exchange.topics), len(exchange.connections)) == (2, 1)
        source.unwant(BBO)
        await exchange.until(lambda: not exchange.following(coin="BTC"))
        source.unwant(Topic(Kind.BBO, "ETH"))
        await exchange.until(lambda: not exchange.connections)


async def test_every_kind_is_asked_for_as_the_exchange_reads_it(exchange: FakeExchange) -> None:
    topics = [
        (Topic(Kind.CANDLE, "BTC", interval="1m"), {"coin": "BTC", "interval": "1m"}),
        (Topic(Kind.OPEN_ORDERS, user=user(1), dex="xyz"), {"user": user(1), "dex": "xyz"}),
        (Topic(Kind.ACTIVE_ASSET_DATA, "BTC", user=user(1)), {"user": user(1), "coin": "BTC"}),
        (fills(1)._replace(aggregate=True), {"user": user(1), "aggregateByTime": True}),
        (Topic(Kind.USER_EVENTS, user=user(1)), {"user": user(1)}),
        (Topic(Kind.SPOT_ASSET_CTXS), {}),
    ]
    async with running(exchange) as (source, _):
        for topic, fields in topics:
            assert source.serves(topic)
            assert source.want(topic)
            expected = {"type": topic.kind.value, **fields}
            await exchange.until(lambda expected=expected: expected in exchange.topics)
        assert not source.serves(Topic(Kind.BBO, "NOPE"))
        assert not source.serves(Topic(Kind.ALL_MIDS, dex="nope"))
        assert not source.serves(Topic(Kind.L4_BOOK, "BTC"))
        assert not source.serves(Topic(Kind.RAW, stream="node_fills"))


async def test_users_whose_frames_do_not_name_them_are_kept_apart(exchange: FakeExchange) -> None:
    update = b'{"channel":"orderUpdates","data":[{"order":{"oid":%d},"status":"open"}]}'
    exchange.opening = lambda topic: update % int(topic["user"], 16)
    topics = [Topic(Kind.ORDER_UPDATES, user=user(number)) for number in range(3)]
    async with running(exchange) as (source, published):
        for topic in topics:
            source.want(topic)
        for number, topic in enumerate(topics):
            envelope = await published.until(
                lambda e, topic=topic: e.topic == topic.name and e.role is Role.UPDATE
            )
            assert envelope.payload == update % number
            assert envelope.epoch.startswith("p-")
        assert len(exchange.connections) == 3


async def test_who_finds_no_place_is_told_why_and_gets_the_next_one(
    exchange: FakeExchange,
) -> None:
    async with running(exchange, limits=Limits(users=2)) as (source, _):
        for number in range(3):
            assert source.want(fills(number))
        told = source.snapshot(fills(2))
        assert told is not None
        assert told.role is Role.NOT_READY
        assert told.payload == b"All 2 users of the public feed are in use"
        assert source.state()["waiting"] == 1
        await exchange.until(lambda: len(exchange.topics) == 2)
        source.unwant(fills(0))
        await exchange.until(lambda: exchange.following(user=user(2)))
        assert source.snapshot(fills(2)) is None
        assert exchange.most_topics == 2  # the place is free when the exchange was told
        assert source.state()["waiting"] == 0


async def test_a_tenant_with_less_takes_a_place(exchange: FakeExchange) -> None:
    async with running(exchange, limits=Limits(users=3)) as (source, published):
        for number in range(3):
            source.want(fills(number), tenants=["Acme"])
        source.want(fills(7), tenants=["Cleo"])
        told = await published.until(lambda e: e.role is Role.NOT_READY)
        assert told.topic == fills(2).name
        await exchange.until(lambda: exchange.following(user=user(7)))
        await exchange.until(lambda: not exchange.following(user=user(2)))


async def test_a_place_is_taken_only_when_the_exchange_was_told(exchange: FakeExchange) -> None:
    """On other connections than the newcomer's, and whoever changes their mind meanwhile."""
    topics = [Topic(Kind.ORDER_UPDATES, user=user(number)) for number in range(6)]
    async with running(exchange, limits=Limits(users=3, connections=3)) as (source, published):
        for topic in topics[:3]:
            source.want(topic, tenants=["Acme"])
        await exchange.until(lambda: len(exchange.topics) == 3)
        source.want(topics[3], tenants=["Cleo"])
        told = await published.until(lambda e: e.role is Role.NOT_READY)
        assert told.topic == topics[2].name
        source.unwant(topics[3])  # before it was asked for
        source.want(topics[4], tenants=["Cleo"])
        await exchange.until(lambda: exchange.following(user=user(4)))
        source.unwant(topics[0])
        source.want(topics[0], tenants=["Acme"])
        await exchange.until(lambda: len(exchange.topics) == 3)
        assert exchange.most_topics == 3
        assert source.state()["users"] == 3
        for topic in topics:
            source.unwant(topic)
        await exchange.until(lambda: not exchange.connections)
        assert source.state()["users"] == 0


async def test_whose_a_topic_is_may_change(exchange: FakeExchange) -> None:
    async with running(exchange, limits=Limits(users=2)) as (source, _):
        source.want(fills(0), tenants=["Acme"])
        source.want(fills(1), tenants=["Acme"])
        source.want(fills(2), tenants=["Acme"])
        assert source.state()["waiting"] == 1
        source.want(fills(2), tenants=["Acme", "Cleo"])  # Cleo holds nothing yet
        await exchange.until(lambda: exchange.following(user=user(2)))


async def test_connections_stay_within_the_rate(exchange: FakeExchange) -> None:
    async with running(exchange, limits=Limits(connects_per_minute=3)) as (source, _):
        source.want(BBO)
        for _ in range(2):
            (connection,) = await exchange.until(lambda: exchange.following(coin="BTC"))
            connection.cut()
            await exchange.until(lambda: not exchange.connections)
        await exchange.until(lambda: exchange.following(coin="BTC"))
        source.want(Topic(Kind.L2_BOOK, "BTC"))
        source.want(Topic(Kind.L2_BOOK, "BTC", n_sig_figs=5))
        await exchange.until(lambda: exchange.following(type="l2Book"))
        assert len(exchange.connects_at_s) == 3
        # The second book needs a connection of its own, and waits for it.
        assert source.state()["connections"] == 1


async def test_a_cut_leaves_a_gap_and_subscribes_again(exchange: FakeExchange) -> None:
    topic = Topic(Kind.USER_EVENTS, user=user(1))
    async with running(exchange) as (source, published):
        source.want(topic)
        await published.until(lambda e: e.role is Role.SNAPSHOT)  # acknowledged
        (connection,) = await exchange.until(lambda: exchange.following(type="userEvents"))
        connection.cut()
        gap = await published.until(lambda e: e.role is Role.GAP)
        assert gap.topic == topic.name
        await exchange.until(lambda: exchange.following(type="userEvents"))


async def test_a_lost_connection_is_told_to_those_it_served(exchange: FakeExchange) -> None:
    trades, events = Topic(Kind.TRADES, "BTC"), Topic(Kind.USER_EVENTS, user=user(1))
    row = {"coin": "BTC", "side": "A", "px": "1", "sz": "1", "time": 1, "hash": "0x", "tid": 1}
    openings = {
        "bbo": {"channel": "bbo", "data": {"coin": "BTC", "time": 1, "bbo": [None, None]}},
        "trades": {"channel": "trades", "data": [row]},
    }
    exchange.opening = lambda topic: (
        orjson.dumps(openings[topic["type"]]) if topic["type"] in openings else None
    )
    topics = [BBO, trades, events]
    async with running(exchange) as (source, published):
        for topic in topics:
            source.want(topic)
            await published.until(lambda e, topic=topic: e.topic == topic.name)
        published.envelopes.clear()
        exchange.acknowledges = lambda topic: False  # the new connection carries nothing yet
        (connection,) = exchange.connections
        connection.cut()
        for topic in topics:
            told = await published.until(
                lambda e, topic=topic: e.topic == topic.name and e.role is Role.NOT_READY
            )
            assert b"lost" in told.payload
        await exchange.until(lambda: len(exchange.connections) == 1)
        for topic in topics:
            now = source.snapshot(topic)
            assert now is not None
            assert now.role is Role.NOT_READY
        exchange.acknowledges = lambda topic: True
        exchange.connections[0].cut()
        # A quiet topic of events is known to be served again by the acknowledgement alone.
        roles = {BBO: Role.UPDATE, trades: Role.SNAPSHOT, events: Role.SNAPSHOT}
        for topic, role in roles.items():
            await published.until(
                lambda e, topic=topic, role=role: e.topic == topic.name and e.role is role
            )
            now = source.snapshot(topic)
            assert now is not None
            assert now.role is Role.SNAPSHOT


async def test_a_silent_connection_is_pinged_and_told_when_it_does_not_answer(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_link, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(public_link, "MUTE_AFTER_S", 0.2)
    monkeypatch.setattr(public_link, "LOOK_EVERY_S", 0.02)
    frame = {"channel": "bbo", "data": {"coin": "BTC", "time": 1, "bbo": [None, None]}}
    exchange.opening = lambda topic: orjson.dumps(frame)
    async with running(exchange) as (source, published):
        source.want(BBO)
        await published.until(lambda e: e.role is Role.UPDATE)
        # Quiet, but it answers: nothing is said.
        await exchange.until(lambda: exchange.pings >= 3)
        assert not any(e.role is Role.NOT_READY for e in published.envelopes)
        exchange.answers_pings = False
        told = await published.until(lambda e: e.role is Role.NOT_READY)
        assert b"ping" in told.payload
        exchange.answers_pings = True
        await exchange.connections[0].ws.send_str('{"channel":"pong"}')
        again = await published.until(lambda e: e.role is Role.SNAPSHOT)
        assert orjson.loads(again.payload) == frame
        assert len(exchange.connects_at_s) == 1


async def test_what_is_never_acknowledged_is_told_and_asked_again(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_link, "ASK_AGAIN_S", 0.05)
    exchange.acknowledges = lambda topic: False
    async with running(exchange) as (source, published):
        source.want(BBO)
        told = await published.until(lambda e: e.role is Role.NOT_READY)
        assert b"not acknowledged" in told.payload
        exchange.acknowledges = lambda topic: True
        await exchange.until(lambda: exchange.following(coin="BTC"))


async def test_a_silent_connection_is_replaced(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_link, "SILENCE_LIMIT_S", 0.2)
    async with running(exchange) as (source, _):
        source.want(BBO)
        await exchange.until(lambda: len(exchange.connects_at_s) >= 2)
        await exchange.until(lambda: exchange.following(coin="BTC"))
        assert exchange.most_connections <= 2


async def test_garbage_and_news_are_counted_and_the_rest_passes(exchange: FakeExchange) -> None:
    async with running(exchange) as (source, published):
        source.want(BBO)
        (connection,) = await exchange.until(lambda: exchange.following(coin="BTC"))
        for garbage in ("<html>", "[]", '{"channel":"bbo","data":{"coin":1}}', "{}", ""):
            await connection.ws.send_str(garbage)
        await connection.ws.send_bytes(b"\xff\xfe")
        frame = {"coin": "BTC", "time": 1, "bbo": [None, None], "news": 1}
        raw = orjson.dumps({"channel": "bbo", "data": frame})
        await connection.ws.send_str(raw.decode())
        envelope = await published.until(lambda e: e.role is Role.UPDATE)
        assert envelope.payload == raw
        state = source.state()
        assert state["faults"]["not_json"] == 3
        assert state["faults"]["bad_frame"] == 3
        assert state["schema_findings"]["field"] == 1


async def test_an_upstream_that_lies_is_left_alone_and_marked(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "FIRST_S", 0.3)
    async with running(exchange) as (source, published):
        source.want(BBO)
        (connection,) = await exchange.until(lambda: exchange.following(coin="BTC"))
        for number in range(quarantine.MAX_FAULTS + 1):
            frame = {"coin": f"C{number}", "time": 1, "bbo": [None, None]}
            with contextlib.suppress(ConnectionError):  # it hangs up on us
                await connection.ws.send_json({"channel": "bbo", "data": frame})
        told = await published.until(lambda e: e.role is Role.NOT_READY)
        assert (told.topic, told.payload) == (BBO.name, public_link.QUARANTINED.encode())
        assert {e.topic for e in published.envelopes} == {BBO.name}  # nothing that was made up
        assert source.state()["marks"] == ["quarantined"]
        assert not source.serves(BBO)  # another public row may
        await exchange.until(lambda: len(exchange.connects_at_s) == 2)
        assert exchange.connects_at_s[1] - exchange.connects_at_s[0] >= 0.3
        await exchange.until(lambda: exchange.following(coin="BTC"))
        assert source.serves(BBO)
        assert source.state()["marks"] == []
        assert source.state()["faults"]["not_subscribed"] == quarantine.MAX_FAULTS


WISHES = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(["want", "unwant"]), st.sampled_from(["Acme", "Cleo"])
    ),
    max_size=25,
)


@given(WISHES, st.booleans())
def test_whoever_wants_what_no_place_is_lost_or_given_twice(wishes, is_unnamed: bool) -> None:
    """The bookkeeping alone: the links have no connection yet, so what is removed is gone."""

    async def run() -> None:
        (spec,) = parse_upstreams("ws://127.0.0.1:1/ws")
        budget = PublicBudget(Limits(users=3, connections=3))
        source = PublicSource(spec, name="public0", budget=budget)
        async with asyncio.TaskGroup() as group:
            source._group = group
            for number, wish, tenant in wishes:
                topic = (
                    Topic(Kind.ORDER_UPDATES, user=user(number)) if is_unnamed else fills(number)
                )
                if wish == "want":
                    source.want(topic, tenants=[tenant])
                else:
                    source.unwant(topic)
                carried = {t for link in source._links.values() for t in link.topics}
                assert carried == set(source._link_of) == set(source._tenants)
                assert len(carried) == budget.subscriptions <= 3
                assert not carried & source._waiting.keys()
                assert source._waiting.keys() == source._refusals.keys()
                assert not source._gates
                assert not source._leaving
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()

    asyncio.run(run())


async def test_a_place_that_another_source_gives_back_is_taken() -> None:
    """Two rows behind one address: who waits hears of places that were not its own."""
    (spec,) = parse_upstreams("ws://127.0.0.1:1/ws")
    budget = PublicBudget(Limits(users=1))
    has, waits = (PublicSource(spec, name=name, budget=budget) for name in ("has", "waits"))
    tasks = [asyncio.ensure_future(source.run(Published())) for source in (has, waits)]
    await asyncio.sleep(0)
    assert has.want(fills(1))
    assert waits.want(fills(2))
    assert waits.state()["waiting"] == 1
    has.unwant(fills(1))
    assert (waits.state()["subscriptions"], waits.state()["waiting"]) == (1, 0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not budget.seekers


async def test_a_source_that_failed_gives_nothing_until_it_runs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (spec,) = parse_upstreams("ws://127.0.0.1:1/ws")
    source = PublicSource(spec, name="public0")

    async def broken(url: str, *, before: Catalogue) -> Any:
        raise ValueError("on purpose")

    monkeypatch.setattr(public_module, "read_catalogue", broken)
    with pytest.raises(ExceptionGroup):
        await source.run(Published())
    assert not source.want(BBO)
    assert source.state()["subscriptions"] == 0
