"""The door by itself: what it lets through to the application, and what becomes of the answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.api.door import (
    HEAVY_WEIGHT,
    MAX_AT_ONCE,
    MAX_BODY_BYTES,
    WEIGHT,
    AccountDoor,
    weight_of,
)
from gateway.api.visit import IN_SCOPE
from gateway.requests.entry import Entry
from tenants.admission.access import Caller
from tenants.admission.errors import InvalidKey, ScopeMissing
from tenants.admission.keys import Environment
from tenants.admission.limiter import Rate
from tenants.admission.principal import NO_LIMITS, Principal

ADA = Principal(
    tenant_id=1, tenant_slug="acme", key_id=7, key_prefix="hlr_live_abc",
    environment=Environment.LIVE, plan_code="", scopes=frozenset({"account_read"}),
    limits=NO_LIMITS, expires_at=None, digest="d", family_id=7,
)  # fmt: skip


class Admission:
    """One key, `good`, with one scope."""

    def __init__(self) -> None:
        self.charged: list[float] = []

    async def authenticate(self, raw_key: str | None, *, scope: str, caller: Caller) -> Principal:
        if raw_key != "good":
            raise InvalidKey
        if scope not in ADA.scopes:
            raise ScopeMissing(scope)
        return ADA

    async def charge(
        self, principal: Principal, weight: float, *, default: Rate | None
    ) -> list[tuple[bytes, bytes]]:
        self.charged.append(weight)
        return [(b"ratelimit", b"left")]


class World:
    """The door, an application behind it, and what both were told."""

    def __init__(self, application: Any) -> None:
        self.admission = Admission()
        self.requests: list[int] = []
        self.noted: list[Entry] = []
        self.door = AccountDoor(
            application,
            admission=lambda: self.admission,
            meter=lambda: self,
            note=lambda: self.noted.append,
        )

    def slot(self, key_id: int, channel: str) -> int:
        return key_id

    def add_requests(self, slot: int, requests: int) -> None:
        self.requests.append(slot)

    async def ask(
        self, *chunks: bytes, path: str = "/v1/keys", key: bytes = b"good"
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        scope = {
            "type": "http", "method": "POST", "path": path, "client": ["192.0.2.1", 1],
            "headers": [(b"x-api-key", key), (b"x-request-id", b"mine")],
        }  # fmt: skip
        left = list(chunks) or [b""]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.door(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], dict(sent[0]["headers"]), body


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was given."""
    message = await receive()
    told = {
        "length": dict(scope["headers"]).get(b"content-length", b"").decode(),
        "body": message["body"].decode(),
        "sha256": scope[IN_SCOPE].body_sha256[:8],
    }
    kind = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": kind})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def page(scope: Any, receive: Any, send: Any) -> None:
    """A page of Django's own."""
    kind = [(b"Content-Type", b"text/html")]
    await send({"type": "http.response.start", "status": 500, "headers": kind})
    await send({"type": "http.response.body", "body": b"<h1>Traceback</h1>"})


async def test_a_body_in_chunks_arrives_whole() -> None:
    world = World(echo)
    status, headers, body = await world.ask(b"ab", b"", b"c")
    assert (status, json.loads(body)["body"], json.loads(body)["length"]) == (200, "abc", "3")
    assert headers[b"x-request-id"] == b"mine"
    assert headers[b"ratelimit"] == b"left"
    assert world.requests == [7]
    assert world.admission.charged == [WEIGHT]


async def test_a_body_without_end_is_cut() -> None:
    world = World(echo)
    status, _, body = await world.ask(*[b"x" * 20_000] * 4)
    assert 80_000 > MAX_BODY_BYTES
    assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")
    assert world.requests == []


async def test_who_has_no_key_never_gets_to_the_application() -> None:
    world = World(None)
    status, headers, body = await world.ask(key=b"bad")
    assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_key")
    assert b"www-authenticate" in headers
    assert [(entry.status, entry.code) for entry in world.noted] == [(401, "invalid_key")]


async def test_a_page_leaves_as_an_error_of_the_api() -> None:
    world = World(page)
    status, headers, body = await world.ask()
    assert (status, headers[b"content-type"]) == (500, b"application/json")
    error = json.loads(body)["error"]
    assert (error["code"], error["request_id"]) == ("internal", "mine")
    assert b"Traceback" not in body
    assert [entry.code for entry in world.noted] == ["internal"]


async def test_one_tenant_holds_so_many_threads() -> None:
    gate, full, inside = asyncio.Event(), asyncio.Event(), []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        inside.append(scope)
        if len(inside) == MAX_AT_ONCE:
            full.set()
        await gate.wait()
        await echo(scope, receive, send)

    world = World(slow)
    waiting = [asyncio.ensure_future(world.ask()) for _ in range(MAX_AT_ONCE)]
    await full.wait()
    status, headers, body = await world.ask()
    assert (status, json.loads(body)["error"]["code"]) == (429, "too_many_at_once")
    assert headers[b"retry-after"] == b"1"
    gate.set()
    assert {(await one)[0] for one in waiting} == {200}
    assert (await world.ask())[0] == 200


def test_files_and_scans_weigh_more() -> None:
    heavy = ["usage.csv", "exports/usage", "receipts/2026-11", "invoices/1/pdf", "plan/preview"]
    heavy += ["traces", "traces/latency"]  # 20,000 are looked at for those of one coin
    assert {weight_of(f"/v1/{path}") for path in heavy} == {HEAVY_WEIGHT}
    light = ("usage", "keys/1", "receipts", "plan", "plan/allowances", "invoices/1")
    assert {weight_of(f"/v1/{path}") for path in light} == {WEIGHT}
