"""Which upstream is asked, how often, and what a customer gets when one is not well: real servers,
one fault each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from gateway.http import served
from gateway.http.errors import HttpError
from gateway.http.origins import DEADLINE_S, BudgetSpent, Origins
from gateway.http.router import Router
from gateway.http.routes import Route, Source, route_of
from gateway.upstreams.posts import Answer
from streaming.upstream.spec import UpstreamKind, UpstreamSpec

META = b'{"type":"meta"}'


@dataclass
class Upstream:
    """A server that counts what it is sent and answers as told."""

    status: int = 200
    body: bytes = b'{"px": 1.10}'
    content_type: str = "application/json"
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[bytes] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(await request.read())
        await asyncio.sleep(self.delay_s)
        return web.Response(
            status=self.status,
            body=self.body,
            content_type=self.content_type,
            headers=self.headers,
        )


@contextlib.asynccontextmanager
async def upstreams(*several: Upstream) -> AsyncIterator[None]:
    runners = []
    for each in several:
        app = web.Application()
        app.router.add_post("/info", each.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        each.url = f"http://127.0.0.1:{runner.addresses[0][1]}/info"
        runners.append(runner)
    yield
    for runner in runners:
        await runner.cleanup()


class Pot:
    """A budget that has what it is told."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s
        self.taken: list[tuple[str, float]] = []

    async def take(self, tenant: str, weight: float) -> float:
        if not self.wait_s:
            self.taken.append((tenant, weight))
        return self.wait_s


def origins_of(
    nodes: list[Upstream],
    public: list[Upstream] | None = None,
    *,
    states: dict[str, Any] | None = None,
    pot: Pot | None = None,
) -> Origins:
    specs = {
        f"node{n}": UpstreamSpec(UpstreamKind.NODE, f"/n{n}", each.url, weight=10 - n)
        for n, each in enumerate(nodes)
    } | {
        f"public{n}": UpstreamSpec(UpstreamKind.PUBLIC, "ws://x/ws", each.url)
        for n, each in enumerate(public or [])
    }
    return Origins(lambda: specs, states=lambda: [states or {}], pot=pot or Pot())


async def ask(origins: Origins, route: Route | None = None) -> Any:
    try:
        return await origins.ask(META, route or route_of("meta"), tenant="acme", weight=20)
    finally:
        await origins.close()


async def test_the_body_passes_byte_for_byte_and_nothing_of_the_customer_goes_there() -> None:
    node = Upstream(body=b'{"b":1.10,  "a":84143.0}')
    async with upstreams(node):
        states = {"node0": {"height": 7, "lag": 0, "silent_s": 0.1}}
        got = await ask(origins_of([node], states=states))
    assert (got.answer.body, got.source, got.height) == (node.body, Source.NODE, 7)
    assert node.seen == [META]


@pytest.mark.parametrize(
    "state",
    [
        {"lag": 46, "silent_s": 0.1},
        {"lag": 0, "silent_s": 3.0},
        {"lag": 0, "silent_s": 0.1, "stalled": True},
    ],
)
async def test_a_node_that_is_behind_or_stalled_is_skipped(state: dict[str, Any]) -> None:
    old, fresh = Upstream(), Upstream()
    async with upstreams(old, fresh):
        await ask(origins_of([old, fresh], states={"node0": state, "node1": {"lag": 45}}))
        assert (len(old.seen), len(fresh.seen)) == (0, 1)
        with pytest.raises(HttpError) as refused:
            await ask(origins_of([old], states={"node0": state}))
    assert (refused.value.status, refused.value.code) == (503, "upstream_stale")


@pytest.mark.parametrize(
    "bad",
    [
        Upstream(status=502),
        Upstream(status=500, body=b"null"),
        Upstream(status=422, body=b"unknown", content_type="text/plain"),
        Upstream(body=b"<html>", content_type="text/html"),
        Upstream(status=302, headers={"location": "http://127.0.0.1:9/"}),
        Upstream(status=429),
    ],
    ids=lambda bad: f"{bad.status} {bad.content_type}",
)
async def test_one_retry_on_another_and_no_more(bad: Upstream) -> None:
    bad.seen.clear()
    good, third = Upstream(), Upstream()
    async with upstreams(bad, good, third):
        got = await ask(origins_of([bad, good, third]))
    assert got.answer.body == good.body
    assert (len(bad.seen), len(good.seen), len(third.seen)) == (1, 1, 0)


async def test_two_bad_ones_are_the_end() -> None:
    bad, worse, good = Upstream(status=503), Upstream(status=502), Upstream()
    async with upstreams(bad, worse, good):
        got = await ask(origins_of([bad, worse, good]))
    assert got.answer.status == 502  # as it was said
    assert good.seen == []


async def test_a_refusal_of_the_public_api_is_final() -> None:
    public, node = Upstream(status=422, content_type="text/plain"), Upstream()
    async with upstreams(public, node):
        got = await ask(origins_of([node], [public]), route_of("candleSnapshot"))
    assert (got.answer.status, node.seen) == (422, [])


async def test_the_deadline_holds_with_everybody_hanging() -> None:
    slow = [Upstream(delay_s=30), Upstream(delay_s=30)]
    async with upstreams(*slow):
        began_s = time.monotonic()
        with pytest.raises(HttpError) as failed:
            await ask(origins_of(slow))
        took_s = time.monotonic() - began_s
    assert failed.value.code == "upstream_unavailable"
    assert took_s < 1.5 * DEADLINE_S  # one of its own for the second would be 2
    assert [len(each.seen) for each in slow] == [1, 1]  # the first left time for the second


async def test_who_said_429_rests_as_long_as_it_asked_for() -> None:
    busy, pot = Upstream(status=429, headers={"retry-after": "17"}), Pot()
    async with upstreams(busy):
        origins = origins_of([], [busy], pot=pot)
        for code, retry_after in (("upstream_busy", b"17"), ("upstream_stale", b"2")):
            with pytest.raises(HttpError) as refused:
                await origins.ask(META, route_of("meta"), tenant="acme", weight=20)
            assert refused.value.code == code
            assert dict(refused.value.headers)[b"retry-after"] == retry_after
        await origins.close()
    assert len(busy.seen) == 1


async def test_the_public_budget_is_paid_before_and_refused_when_it_is_spent() -> None:
    public, node, pot = Upstream(), Upstream(), Pot()
    async with upstreams(public, node):
        await ask(origins_of([], [public], pot=pot), route_of("userFills"))
        assert pot.taken == [("acme", 20)]
        with pytest.raises(BudgetSpent) as spent:
            await ask(origins_of([], [public], pot=Pot(wait_s=12)), route_of("userFills"))
        assert (spent.value.status, dict(spent.value.headers)[b"retry-after"]) == (429, b"12")
        # A node that may know it is asked all the same.
        got = await ask(origins_of([node], [public], pot=Pot(wait_s=12)), route_of("userFills"))
    assert (got.source, len(public.seen)) == (Source.NODE, 1)


# --- the router above them ---


def router_of(origins: Origins) -> Router:
    runtime: Any = type("Runtime", (), {"workers": {}})()
    return Router(runtime, origins)


async def test_those_who_ask_the_same_at_once_are_one_and_the_next_is_answered_from_memory() -> (
    None
):
    node = Upstream(delay_s=0.05)
    async with upstreams(node):
        router = router_of(origins := origins_of([node]))

        async def one(payload: dict[str, Any]) -> served.Served:
            return await router.answer("meta", payload, tenant="acme", weight=20)

        several = await asyncio.gather(*(one({"type": "meta", "dex": ""}) for _ in range(20)))
        assert sorted({each.cache for each in several}) == [served.MISS, served.SHARED]
        assert len(node.seen) == 1
        again = await one({"dex": "", "type": "meta"})  # in another order
        assert (again.cache, len(node.seen)) == (served.HIT, 1)
        assert dict(again.headers())[b"x-relay-age-ms"] > b"0"
        await one({"type": "meta", "dex": "xyz"})
        assert len(node.seen) == 2
        await origins.close()


async def test_what_names_a_user_is_shared_but_never_kept() -> None:
    node = Upstream(delay_s=0.05)
    async with upstreams(node):
        router = router_of(origins := origins_of([node]))

        async def one(user: str) -> served.Served:
            payload = {"type": "openOrders", "user": user}
            return await router.answer("openOrders", payload, tenant="acme", weight=20)

        both = await asyncio.gather(one("0xAb"), one("0xab"))
        assert [each.cache for each in both] == [served.NONE, served.SHARED]
        await one("0xab")
        assert len(node.seen) == 2
        await origins.close()


async def test_listings_are_old_rather_than_missing_and_the_age_says_so() -> None:
    node = Upstream()
    async with upstreams(node):
        router = router_of(origins := origins_of([node]))
        payload = {"type": "meta"}
        first = await router.answer("meta", payload, tenant="acme", weight=20)
        key = next(iter(router._cache._entries))
        old = served.Served(first.answer, first.source, 5, time.monotonic() - 61)
        router._cache.put(key, old)
        node.status = 503
        again = await router.answer("meta", payload, tenant="acme", weight=20)
        assert (again.answer.status, again.cache) == (200, served.STALE)
        await origins.close()
    again = await router.answer("meta", payload, tenant="acme", weight=20)
    assert again.cache == served.STALE
    assert int(dict(again.headers())[b"x-relay-age-ms"]) >= 61_000
    assert dict(again.headers())[b"x-relay-height"] == b"5"
    router._cache.put(key, served.Served(first.answer, first.source, 5, time.monotonic() - 4_000))
    with pytest.raises(HttpError):
        await router.answer("meta", payload, tenant="acme", weight=20)
    await origins.close()


async def test_one_tenant_s_empty_budget_is_not_another_s() -> None:
    class Asks:
        async def ask(self, body: bytes, route: Route, *, tenant: str, weight: float) -> Any:
            await asyncio.sleep(0.02)
            if tenant == "poor":
                raise BudgetSpent(tenant, 3.0)
            from gateway.http.origins import Got

            return Got(Answer(200, b"application/json", b"[]"), Source.PUBLIC, None, 0.01)

    router = router_of(Asks())  # type: ignore[arg-type]
    payload = {"type": "userFills", "user": "0x1"}
    poor, rich = await asyncio.gather(
        router.answer("userFills", payload, tenant="poor", weight=20),
        router.answer("userFills", payload, tenant="rich", weight=20),
        return_exceptions=True,
    )
    assert isinstance(poor, BudgetSpent)
    assert isinstance(rich, served.Served)


async def test_so_many_of_one_key_at_once_and_no_more() -> None:
    from gateway.http.concurrency import Concurrency
    from tests.gateway.evm_chain import customer

    concurrency, who = Concurrency(most=2), customer()
    with concurrency.of(who), concurrency.of(who):
        with pytest.raises(HttpError) as refused, concurrency.of(who):
            pass
        assert (refused.value.status, refused.value.code) == (429, "too_many_at_once")
    assert concurrency._held == {}
