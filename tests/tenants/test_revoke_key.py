"""A revoked key is refused and its open sockets close within five seconds, whatever is down."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connections
from django.utils import timezone

from tenants import selectors, services
from tenants.admission import changes, keys
from tenants.admission.access import NOBODY, Caller
from tenants.admission.control import AdmissionControl
from tenants.admission.errors import (
    AddressNotAllowed,
    Denied,
    InvalidKey,
    MissingKey,
    ScopeMissing,
)
from tenants.admission.principal import Limits, Principal
from tenants.admission.quotas import Lease
from tenants.admission.store import RedisStore
from tenants.models import APIKey
from tests.support.services import Service, start_redis
from tests.tenants.cast import Cast

#: What the customer is promised.
DEADLINE_S = 5.0


async def in_thread(act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Write as the admin does: outside the loop, with a connection of its own."""

    def run() -> Any:
        try:
            return act(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that another task brings about."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():  # noqa: ASYNC110 - the door has no event for it
            await asyncio.sleep(0.01)


class Edge:
    """One process with its door, and the keys it was told to close."""

    def __init__(self) -> None:
        self.control = AdmissionControl.from_settings()
        self.closed: asyncio.Queue[int] = asyncio.Queue()

    def open(self, principal: Principal, *, scope: str = "ws", caller: Caller = NOBODY) -> Lease:
        """Hold a connection open; who is refused later is in `closed`."""
        return self.control.open_connection(
            principal,
            scope=scope,
            caller=caller,
            on_refused=lambda _: self.closed.put_nowait(principal.key_id),
        )

    async def next_closed(self) -> int:
        async with asyncio.timeout(DEADLINE_S):
            return await self.closed.get()

    async def refusal(self, raw: str | None, scope: str = "ws", caller: Caller = NOBODY) -> Denied:
        with pytest.raises(Denied) as refused:
            await self.control.authenticate(raw, scope=scope, caller=caller)
        return refused.value


@asynccontextmanager
async def running_edge(*, is_watching: bool = True) -> AsyncIterator[Edge]:
    edge = Edge()
    task = asyncio.create_task(edge.control.run())
    if is_watching:
        await group_has_member()
    try:
        yield edge
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await edge.control.aclose()


async def group_has_member() -> None:
    """Until the doorbell is heard: a ring before would be lost, as the layer's contract allows."""
    heard = asyncio.Event()

    async def on_ring(digests: list[str]) -> None:
        heard.set()

    probe = asyncio.create_task(changes.watch(on_ring))
    async with asyncio.timeout(DEADLINE_S):
        while not heard.is_set():
            await in_thread(changes._ring, ["0" * 64])
            await asyncio.sleep(0.01)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)


@pytest.fixture
def relay(committed_cast: Cast, redis_server: Service) -> Cast:
    redis.Redis.from_url(redis_server.url).flushdb()
    return committed_cast


@pytest.fixture
def own_redis(settings: Any, tmp_path: Path) -> Iterator[Service]:
    server = start_redis(tmp_path / "redis")
    settings.REDIS_CACHE_URL = server.url
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [{"address": server.url, "socket_timeout": None}]},
        }
    }
    yield server
    server.stop()


async def issue(cast: Cast, **rights: Any) -> services.IssuedKey:
    issued: services.IssuedKey = await in_thread(
        services.issue_key, tenant=cast.acme, name="bot", **rights
    )
    return issued


async def test_a_good_key_is_let_in_and_known_from_then_on(relay: Cast) -> None:
    issued = await issue(relay)
    async with running_edge() as edge:
        assert edge.control.known(issued.raw) is None
        principal = await edge.control.authenticate(issued.raw, scope="ws")
        assert (principal.tenant_slug, principal.key_id) == ("acme", issued.key.pk)
        assert principal.limits == Limits(2, 10)
        assert edge.control.known(issued.raw) == principal
        assert issued.raw not in repr(principal)


async def test_the_doorbell_closes_open_sockets_at_once(
    relay: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long that only the doorbell can be what closes.
    monkeypatch.setattr("tenants.admission.control.REVALIDATE_EVERY_S", 3_600)
    issued = await issue(relay)
    async with running_edge() as edge:
        principal = await edge.control.authenticate(issued.raw, scope="ws")
        lease = edge.open(principal)
        await in_thread(services.revoke_key, issued.key)

        assert await edge.next_closed() == issued.key.pk
        lease.close()
        assert isinstance(await edge.refusal(issued.raw), InvalidKey)
        assert edge.control.known(issued.raw) is None


async def test_a_lost_doorbell_closes_them_too(
    relay: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await issue(relay)
    async with running_edge() as edge:
        principal = await edge.control.authenticate(issued.raw, scope="ws")
        edge.open(principal)
        # Neither the doorbell nor the shared entry hears of it: Redis goes on believing the key.
        monkeypatch.setattr(changes, "announce", lambda digests: None)
        await in_thread(services.revoke_key, issued.key)

        assert await edge.next_closed() == issued.key.pk
        assert isinstance(await edge.refusal(issued.raw), InvalidKey)


async def test_with_redis_down_the_database_is_asked(
    committed_cast: Cast, own_redis: Service
) -> None:
    issued = await issue(committed_cast)
    async with running_edge() as edge:
        principal = await edge.control.authenticate(issued.raw, scope="ws")
        edge.open(principal)
        own_redis.kill()
        await in_thread(services.revoke_key, issued.key)

        assert await edge.next_closed() == issued.key.pk
        assert isinstance(await edge.refusal(issued.raw), InvalidKey)


async def test_the_doorbell_is_heard_again_after_redis_came_back(
    committed_cast: Cast, own_redis: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tenants.admission.control.REVALIDATE_EVERY_S", 3_600)
    issued = await issue(committed_cast)
    port = int(own_redis.url.rsplit(":", 1)[1].split("/")[0])
    async with running_edge() as edge:
        edge.open(await edge.control.authenticate(issued.raw, scope="ws"))
        own_redis.kill()
        back = await asyncio.to_thread(start_redis, tmp_path / "back", port=port)
        try:
            async with asyncio.timeout(15):
                await in_thread(services.revoke_key, issued.key)
                while edge.closed.empty():
                    # Announcing again is what a second press of the button does.
                    await in_thread(changes.announce, [issued.key.digest])
                    await asyncio.sleep(0.05)
        finally:
            await asyncio.to_thread(back.stop)


async def test_an_announcement_that_met_a_dead_redis_is_made_when_it_is_back(
    committed_cast: Cast, own_redis: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tenants.admission.control.REVALIDATE_EVERY_S", 3_600)
    monkeypatch.setattr(changes, "RETRY_AFTER_S", 0.05)
    monkeypatch.setattr(changes, "RETRY_AT_MOST_AFTER_S", 0.2)
    issued = await issue(committed_cast)
    port = int(own_redis.url.rsplit(":", 1)[1].split("/")[0])
    async with running_edge() as edge:
        edge.open(await edge.control.authenticate(issued.raw, scope="ws"))
        own_redis.kill()
        await in_thread(services.revoke_key, issued.key)
        back = await asyncio.to_thread(start_redis, tmp_path / "back", port=port)
        try:
            store = RedisStore(back.url)
            try:
                async with asyncio.timeout(15):
                    # Nobody presses the button again.
                    while not (entries := (await store.get([issued.key.digest])).entries):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            finally:
                await store.aclose()
            assert entries[issued.key.digest].principal is None
            thread = changes._later._thread
            if thread is not None:
                await asyncio.to_thread(thread.join, 15)
            assert changes._later._thread is None
        finally:
            await asyncio.to_thread(back.stop)


def test_a_new_announcement_does_not_sit_out_the_pause_of_an_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "RETRY_AFTER_S", 0.02)
    monkeypatch.setattr(changes, "RETRY_AT_MOST_AFTER_S", 3_600.0)
    monkeypatch.setattr(changes, "RETRY_LATER_BY", 1e6)
    tried: queue.Queue[set[str]] = queue.Queue()
    is_back = threading.Event()

    def attempt(digests: Collection[str]) -> set[str]:
        tried.put(set(digests))
        return set() if is_back.is_set() else set(digests)

    monkeypatch.setattr(changes, "_announced_in_vain", attempt)
    later = changes._Later()
    try:
        later.add({"old"})
        assert tried.get(timeout=DEADLINE_S) == {"old"}  # and from now on it waits for an hour
        is_back.set()
        later.add({"new"})
        assert tried.get(timeout=DEADLINE_S) == {"old", "new"}
    finally:
        later.stop()


async def test_suspending_a_tenant_closes_all_it_has_and_nobody_else(relay: Cast) -> None:
    acme = [await issue(relay), await issue(relay)]
    cleo = await in_thread(services.issue_key, tenant=relay.other, name="bot")
    async with running_edge() as edge:
        for issued in (*acme, cleo):
            edge.open(await edge.control.authenticate(issued.raw, scope="ws"))
        await in_thread(services.suspend_tenant, relay.acme, reason="unpaid")

        closed = {await edge.next_closed(), await edge.next_closed()}
        assert closed == {issued.key.pk for issued in acme}
        assert await edge.control.authenticate(cleo.raw, scope="ws")

        await in_thread(services.resume_tenant, relay.acme)
        await until(lambda: edge.control.known(acme[0].raw) is not None)


async def test_a_key_that_expires_closes_its_sockets(relay: Cast) -> None:
    issued = await issue(relay, expires_at=timezone.now() + timedelta(seconds=1))
    async with running_edge() as edge:
        principal = await edge.control.authenticate(issued.raw, scope="ws")
        edge.open(principal)
        assert await edge.next_closed() == issued.key.pk
        assert edge.control.known(issued.raw) is None


async def test_what_has_expired_closes_while_the_database_hangs(relay: Cast) -> None:
    issued = await issue(relay, expires_at=timezone.now() + timedelta(seconds=1))
    async with running_edge(is_watching=False) as edge:
        edge.open(await edge.control.authenticate(issued.raw, scope="ws"))
        hanging = asyncio.Event()

        async def hang(digests: Collection[str]) -> dict[str, None]:
            await hanging.wait()
            return {}

        edge.control.directory.revalidate = hang  # type: ignore[assignment,method-assign]
        async with asyncio.timeout(DEADLINE_S):
            while edge.closed.empty():
                round_ = asyncio.create_task(edge.control.revalidate())
                await asyncio.sleep(0.05)
                round_.cancel()
        assert timezone.now() >= issued.key.expires_at
        hanging.set()


async def test_a_list_or_scope_that_fits_no_more_closes_those_alone(
    relay: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that were let in while the change was on its way, or never announced."""
    issued = await issue(relay)
    await in_thread(services.change_plan, relay.acme, plan=relay.large)
    inside, outside = Caller("192.0.2.7"), Caller("198.51.100.1")
    async with running_edge() as edge:
        before = await edge.control.authenticate(issued.raw, scope="ws", caller=inside)
        kept = edge.open(before, caller=inside)
        issued.key.allowed_networks = ["192.0.2.0/24"]
        await in_thread(services.update_key, issued.key)
        await until(lambda: kept.principal.networks != ())
        assert edge.closed.empty()

        late = edge.open(before, caller=outside)  # let in as what it was before
        assert await edge.next_closed() == issued.key.pk
        late.close()
        assert isinstance(await edge.refusal(issued.raw, caller=outside), AddressNotAllowed)

        monkeypatch.setattr(changes, "announce", lambda digests: None)
        issued.key.scopes = ["info"]
        await in_thread(services.update_key, issued.key)
        assert await edge.next_closed() == issued.key.pk
        kept.close()
        assert edge.control.occupancy.principals() == []


async def test_unknown_revoked_and_suspended_are_asked_for_in_the_same_way(relay: Cast) -> None:
    """The same bytes say nothing while a clock tells them apart: each asks Redis and the database
    once, and then neither for five seconds."""
    revoked, cleo = (
        await issue(relay),
        await in_thread(services.issue_key, tenant=relay.other, name="bot"),
    )
    for raw in (revoked.raw, cleo.raw):  # both are known to Redis
        async with running_edge(is_watching=False) as other:
            await other.control.authenticate(raw, scope="ws")
    await in_thread(services.revoke_key, revoked.key)
    await in_thread(services.suspend_tenant, relay.other, reason="unpaid")
    async with running_edge(is_watching=False) as edge:
        directory, asked = edge.control.directory, []
        ask_store, ask_database = directory._get, directory._ask_database

        async def count_store(digests: Collection[str]) -> Any:
            asked.append("redis")
            return await ask_store(digests)

        async def count_database(digests: Collection[str]) -> Any:
            asked.append("database")
            return await ask_database(digests)

        directory._get = count_store  # type: ignore[method-assign]
        directory._ask_database = count_database  # type: ignore[method-assign]
        for raw in (keys.generate(keys.Environment.LIVE), revoked.raw, cleo.raw):
            asked.clear()
            for _ in range(3):
                assert isinstance(await edge.refusal(raw), InvalidKey)
            assert asked == ["redis", "database"]


async def test_a_key_let_in_is_noted_once_a_minute(
    relay: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.admission.control.NOTE_USE_EVERY_S", 0.05)
    used, refused = await issue(relay), await issue(relay, scopes=["info"])

    async def last_used(key: APIKey) -> datetime | None:
        at: datetime | None = (await in_thread(APIKey.objects.get, pk=key.pk)).last_used_at
        return at

    async with running_edge(is_watching=False) as edge:
        await edge.refusal(refused.raw)
        await edge.control.authenticate(used.raw, scope="ws")
        async with asyncio.timeout(DEADLINE_S):
            while (first := await last_used(used.key)) is None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
        for _ in range(3):
            await edge.control.authenticate(used.raw, scope="ws")
            while edge.control._used:  # noqa: ASYNC110 - written by its own task
                await asyncio.sleep(0.02)
        assert await last_used(used.key) == first
        assert await last_used(refused.key) is None


async def test_a_changed_plan_reaches_what_is_open(relay: Cast) -> None:
    issued = await issue(relay)
    async with running_edge() as edge:
        principal = await edge.control.authenticate(issued.raw, scope="ws")
        leases = [edge.open(principal) for _ in range(2)]
        with pytest.raises(Denied, match="2 of 2"):
            edge.open(principal)
        await in_thread(services.change_plan, relay.acme, plan=relay.large)
        occupancy = edge.control.occupancy
        await until(lambda: occupancy.principals()[0].limits == Limits(100, 1_000))
        for _ in range(11):
            leases[0].subscribe()
        assert edge.closed.empty()


async def test_all_bad_keys_get_the_same_bytes(relay: Cast) -> None:
    revoked, expired, suspended = [await issue(relay) for _ in range(3)]
    await in_thread(services.revoke_key, revoked.key)
    expired.key.expires_at = timezone.now()
    await in_thread(services.update_key, expired.key)
    unknown = keys.generate(keys.Environment.LIVE)
    mistyped = unknown[:-1] + ("a" if unknown[-1] != "a" else "b")
    async with running_edge() as edge:
        bad = [revoked.raw, expired.raw, unknown, mistyped, "hunter2", "é" * 50, "\ud800"]
        refusals = [await edge.refusal(raw) for raw in bad]
        await in_thread(services.suspend_tenant, relay.acme, reason="unpaid")
        refusals.append(await edge.refusal(suspended.raw))
    assert {(refusal.http_status, refusal.body) for refusal in refusals} == {
        (401, b'{"code": "invalid_key", "msg": "This API key is not valid."}')
    }


@pytest.mark.parametrize("raw", [None, ""])
async def test_no_key_is_told_where_to_put_one(relay: Cast, raw: str | None) -> None:
    async with running_edge(is_watching=False) as edge:
        refusal = await edge.refusal(raw)
    assert isinstance(refusal, MissingKey)
    assert refusal.http_status == 401
    assert "X-API-Key" in str(refusal)


async def test_a_door_the_key_was_not_issued_for_stays_shut(relay: Cast) -> None:
    issued = await issue(relay, scopes=["info"])
    async with running_edge(is_watching=False) as edge:
        refusal = await edge.refusal(issued.raw, scope="ws")
        assert isinstance(refusal, ScopeMissing)
        assert await edge.control.authenticate(issued.raw, scope="info")


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_networks": ["192.0.2.7/24"]},
        {"allowed_networks": "192.0.2.0/24"},
        {"allowed_networks": {}},
        {"allowed_networks": [7]},
        {"allowed_origins": 7},
        {"scopes": "ws"},
    ],
)
def test_a_row_of_nonsense_refuses_its_own_key_alone(cast: Cast, wrong: dict[str, Any]) -> None:
    broken, good = (services.issue_key(tenant=cast.acme, name="bot").key for _ in range(2))
    APIKey.objects.filter(pk=broken.pk).update(**wrong)
    assert set(selectors.principals_by_digest([broken.digest, good.digest])) == {good.digest}


def test_revoking_twice_keeps_the_first_time(cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    first = services.revoke_key(key).revoked_at
    assert services.revoke_key(key).revoked_at == first


def test_a_change_that_rolls_back_is_announced_to_nobody(
    cast: Cast, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    announced: list[tuple[str, ...]] = []
    monkeypatch.setattr(changes, "announce", announced.append)
    with django_capture_on_commit_callbacks() as callbacks:
        services.revoke_key(key)
        assert announced == []
    for callback in callbacks:
        callback()
    assert announced == [(key.digest,)]
