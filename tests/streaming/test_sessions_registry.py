"""Open sessions across processes: seen soon after they begin, gone soon after they end or their
edge dies, and ended on request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis.asyncio
from django.test import Client

from streaming import sessions
from streaming.bus import keys
from streaming.nodes import live, selectors, services
from streaming.sessions import SessionRegistry, SessionRow

DEADLINE_S = 5.0
BASE = "/admin/nodes/opensession/"


@dataclass(slots=True)
class FakeSession:
    """A connection as the registry sees it."""

    session_id: str
    edge: str
    tenant: str = "acme"
    tenant_id: int = 1
    topics: tuple[str, ...] = ("trades BTC", "bbo ETH")
    sent: int = 0
    ended: list[str] = field(default_factory=list)

    def describe(self) -> SessionRow:
        return SessionRow(
            id=self.session_id, edge=self.edge, key_id=7, key_prefix="hlr_live_Ab12",
            tenant_id=self.tenant_id, tenant=self.tenant, address="203.0.113.9", dialect="relay",
            opened_ms=int((time.time() - 5_400) * 1000), topics=self.topics,
            topic_count=len(self.topics), sent=self.sent, held_bytes=2_048, cursor="AQ_cursor",
        )  # fmt: skip

    def disconnect(self, reason: str) -> None:
        self.ended.append(reason)


@pytest.fixture
def bus_url(settings: Any, redis_url: str) -> str:
    settings.REDIS_BUS_URL = redis_url.removesuffix("/0") + "/14"
    return str(settings.REDIS_BUS_URL)


@asynccontextmanager
async def running(url: str, edge: str, open_: list[FakeSession]) -> AsyncIterator[SessionRegistry]:
    async with redis.asyncio.from_url(url, socket_timeout=5.0) as client:
        registry = SessionRegistry(client=client, edge=edge, sessions=lambda: open_)
        task = asyncio.ensure_future(registry.run())
        yield registry
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await registry.close()


async def until(is_so: Callable[[], bool], *, within_s: float = DEADLINE_S) -> float:
    """Wait until it is so; returns how long that took, in seconds."""
    begun_s = time.monotonic()
    while not await asyncio.to_thread(is_so):
        assert time.monotonic() - begun_s < within_s, "not within the deadline"
        await asyncio.sleep(0.01)
    return time.monotonic() - begun_s


def ids() -> list[str]:
    return [row.id for row in selectors.open_sessions()]


async def test_all_edges_sessions_are_seen_soon(bus_url: str) -> None:
    one: list[FakeSession] = []
    two = [FakeSession("two-1", "two", tenant="cleo", tenant_id=2)]
    async with running(bus_url, "one", one) as first, running(bus_url, "two", two):
        await until(lambda: ids() == ["two-1"])
        session = FakeSession(first.new_id(), "one")
        assert session.session_id == "one-1"
        one.append(session)
        first.changed(session.session_id)
        assert await until(lambda: len(ids()) == 2) < 1.0
        row = next(row for row in selectors.open_sessions("acme"))
        assert row.id == "one-1"
        assert row == session.describe() or row.topics == session.topics
        assert [row.id for row in selectors.open_sessions(2)] == ["two-1"]
        one.clear()
        first.changed(session.session_id)
        assert await until(lambda: ids() == ["two-1"]) < 1.0
    assert ids() == []


async def test_figures_are_told_anew_and_survive_a_flush(
    bus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "REFRESH_S", 0.3)
    session = FakeSession("one-1", "one")
    async with running(bus_url, "one", [session]):
        await until(lambda: ids() == ["one-1"])
        session.sent = 12
        await until(lambda: selectors.open_sessions()[0].sent == 12)
        async with redis.asyncio.from_url(bus_url) as client:
            await client.flushdb()
        await until(lambda: ids() == ["one-1"])


async def test_sessions_of_a_dead_edge_expire_with_it(bus_url: str) -> None:
    async with redis.asyncio.from_url(bus_url) as client:
        async with running(bus_url, "one", [FakeSession("one-1", "one")]):
            await until(lambda: ids() == ["one-1"])
            ttl_s = await client.ttl(keys.SESSIONS.format(edge="one"))
            assert 0 < ttl_s <= keys.SESSIONS_TTL_S
        await client.sadd(keys.SESSION_EDGES, "dead")
        assert await asyncio.to_thread(ids) == []


async def test_a_session_is_ended_within_a_second(bus_url: str) -> None:
    wanted, other = FakeSession("one-1", "one"), FakeSession("one-2", "one")
    async with running(bus_url, "one", [wanted, other]):
        await until(lambda: len(ids()) == 2)
        await asyncio.to_thread(services.disconnect, "one-1", by="op")
        assert await until(lambda: bool(wanted.ended)) < 1.0
        assert other.ended == []
        with pytest.raises(services.SessionGone):
            await asyncio.to_thread(services.disconnect, "one-9", by="op")


async def test_what_cannot_be_read_is_passed_over(bus_url: str) -> None:
    async with redis.asyncio.from_url(bus_url) as client:
        key = keys.SESSIONS.format(edge="odd")
        await client.sadd(keys.SESSION_EDGES, "odd")
        await client.hset(key, mapping={"odd-1": b"\xff", "odd-2": b'{"id":"odd-2"}'})
        assert await asyncio.to_thread(ids) == []
        await client.flushdb()


# --- the page ---


@pytest.fixture
def told(bus_url: str) -> list[FakeSession]:
    """Two sessions as their edge left them in Redis."""
    open_ = [
        FakeSession("one-1", "one"),
        FakeSession("one-2", "one", tenant="cleo", tenant_id=2, topics=("l4Book SOL",)),
    ]

    async def tell() -> None:
        async with redis.asyncio.from_url(bus_url) as client:
            await client.flushdb()
            registry = SessionRegistry(client=client, edge="one", sessions=lambda: open_)
            await registry._tell(is_refresh=True)

    asyncio.run(tell())
    return open_


@pytest.mark.django_db
def test_operators_see_them_and_filter(operator: Client, told: list[FakeSession]) -> None:
    page = operator.get(BASE).content.decode()
    assert "2 of 2 open" in page
    for text in ("hlr_live_Ab12", "203.0.113.9", "trades BTC, bbo ETH", "2.0 kB", "90 min"):
        assert text in page, text
    assert "1 of 2 open" in operator.get(f"{BASE}?q=l4book").content.decode()
    page = operator.get(f"{BASE}?tenant=acme").content.decode()
    assert 'data-session="one-1"' in page
    assert 'data-session="one-2"' not in page
    assert "Open sessions" in operator.get("/admin/").content.decode()


@pytest.mark.django_db
def test_operators_end_one(
    operator: Client, told: list[FakeSession], bus_url: str, client: Client
) -> None:
    page = operator.post(f"{BASE}disconnect/", {"session": "one-1"}, follow=True).content.decode()
    assert "within a second" in page
    with live.bus() as bus:
        assert bus.lrange(keys.DISCONNECTS.format(edge="one"), 0, -1) == [b"one-1"]
    page = operator.post(f"{BASE}disconnect/", {"session": "one-7"}, follow=True).content.decode()
    assert "has ended already" in page
    assert operator.get(f"{BASE}disconnect/").status_code == 405
    assert client.get(BASE).status_code == 302  # to the log-in


@pytest.mark.django_db
def test_without_redis_the_page_says_so(operator: Client, settings: Any) -> None:
    settings.REDIS_BUS_URL = "redis://127.0.0.1:9/0"
    assert "are not known" in operator.get(BASE).content.decode()
