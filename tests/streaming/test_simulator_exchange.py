"""POST /exchange and the socket's `post`: bodies in, answers when their block is written."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streaming.simulator import Service, Settings, Simulator, serve
from tests.support.trading_floor import ETH, IOC, START_MS, START_NS, wire
from tests.support.wallet import Wallet

DEADLINE_S = 20
MALFORMED = "Failed to deserialize the JSON body into the target type"
SETTINGS = Settings(seed=5, start_time_ns=START_NS, faucet_usdc=10_000)


class Trader:
    """A wallet at one service."""

    def __init__(self, http: aiohttp.ClientSession, service: Service) -> None:
        self._http, self._service = http, service
        self.wallet, self.nonce = Wallet(b"\x07" * 32), START_MS

    async def info(self, **body: Any) -> Any:
        async with self._http.post(f"{self._service.http_url}/info", json=body) as answer:
            return await answer.json()

    def body(self, action: dict[str, Any]) -> bytes:
        """A signed body as bytes."""
        self.nonce += 1
        return json.dumps(self.wallet.l1(action, nonce=self.nonce)).encode()

    def buy(self) -> dict[str, Any]:
        """An order that is filled whatever the book does."""
        mid = self._service.simulator.exchange.books["ETH"].mid_twice or 0
        px = self._service.simulator.exchange.coins["ETH"].snap_down(mid * 0.51)
        text = self._service.simulator.exchange.coins["ETH"].px_text(px).removesuffix(".0")
        return {"type": "order", "orders": [wire("B", text, "0.2", IOC)], "grouping": "na"}

    async def send(self, body: bytes) -> tuple[int, str, str]:
        """Status, content type and text."""
        post = self._http.post(f"{self._service.http_url}/exchange", data=body)
        async with asyncio.timeout(DEADLINE_S), post as answer:
            return answer.status, answer.content_type, await answer.text()

    async def act(self, action: dict[str, Any]) -> Any:
        """Send, and make blocks until there is an answer."""
        sent = asyncio.create_task(self.send(self.body(action)))
        while not sent.done():
            await asyncio.sleep(0.01)
            self._service.step()
        status, content_type, text = await sent
        assert (status, content_type) == (200, "application/json")
        return json.loads(text)

    async def arrivals(self, query: str = "") -> Any:
        async with self._http.get(f"{self._service.http_url}/sim/exchange{query}") as answer:
            return await answer.json()

    async def wait_for(self, what: str) -> None:
        """Until a body has been counted as such."""
        for _ in range(1_000):
            if (await self.arrivals())[what]:
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"nothing is {what}")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serve(Simulator(SETTINGS, dir=tmp_path / "node"), blocks_per_s=None) as running:
        running.step()
        yield running


@pytest.fixture
async def trader(http: aiohttp.ClientSession, service: Service) -> Trader:
    trader = Trader(http, service)
    await trader.info(type="clearinghouseState", user=trader.wallet.address)
    return trader


async def test_an_order_is_answered_when_its_block_is_on_disk(
    trader: Trader, service: Service, tmp_path: Path
) -> None:
    reply = await trader.act(trader.buy())
    (status,) = reply["response"]["data"]["statuses"]
    assert status["filled"]["totalSz"] == "0.2"
    lines = "".join(
        file.read_text() for file in (tmp_path / "node").glob("node_fills_by_block/hourly/*/*")
    )
    mine = [
        fill
        for line in lines.splitlines()
        for user, fill in json.loads(line)["events"]
        if user == trader.wallet.address
    ]
    assert mine
    assert {fill["oid"] for fill in mine} == {status["filled"]["oid"]}
    shown = await trader.info(type="userFills", user=trader.wallet.address)
    assert [fill["tid"] for fill in reversed(shown)] == [fill["tid"] for fill in mine]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"action":{"type":"order"}}'])
async def test_what_is_no_request_is_refused_as_text(trader: Trader, body: bytes) -> None:
    assert await trader.send(body) == (422, "text/plain", MALFORMED)


async def test_refusals_and_noops_do_not_wait_for_a_block(trader: Trader) -> None:
    noop = trader.body({"type": "noop"})
    status, _, text = await trader.send(noop)
    assert (status, json.loads(text)) == (200, {"status": "ok", "response": {"type": "default"}})
    _, _, again = await trader.send(noop)
    assert json.loads(again)["response"].startswith("Invalid nonce: duplicate nonce")
    forged = noop.replace(b'"nonce": ', b'"nonce": 1')
    _, _, text = await trader.send(forged)
    assert json.loads(text)["response"].endswith("does not exist.")


async def test_every_body_is_counted_by_its_bytes(trader: Trader) -> None:
    body = trader.body({"type": "noop"})
    digest = hashlib.sha256(body).hexdigest()
    for _ in range(3):
        await trader.send(body)
    await trader.send(b"{")
    seen = await trader.arrivals()
    assert (seen["received"], seen["bodies"][digest], len(seen["bodies"])) == (4, 3, 2)
    assert await trader.arrivals(f"?sha256={digest}") == {"count": 3}
    assert await trader.arrivals("?sha256=none") == {"count": 0}


async def test_a_body_that_breaks_off_is_not_run(trader: Trader, service: Service) -> None:
    body = trader.body(trader.buy())
    host, port = service.http_url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /exchange HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:-20])
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await trader.wait_for("incomplete")
    assert (await trader.arrivals())["received"] == 0
    service.step()
    assert await trader.info(type="userFills", user=trader.wallet.address) == []


async def test_who_leaves_after_sending_has_acted_all_the_same(
    trader: Trader, service: Service
) -> None:
    sent = asyncio.create_task(trader.send(trader.body(trader.buy())))
    await trader.wait_for("received")
    sent.cancel()
    await asyncio.gather(sent, return_exceptions=True)
    service.step()
    assert await trader.info(type="userFills", user=trader.wallet.address)


async def test_actions_are_posted_over_the_socket_and_events_come_back(
    http: aiohttp.ClientSession, trader: Trader, service: Service
) -> None:
    user = trader.wallet.address
    async with http.ws_connect(service.ws_url) as ws:
        for kind in ("orderUpdates", "userFills", "userEvents"):
            subscription = {"type": kind, "user": user}
            await ws.send_json({"method": "subscribe", "subscription": subscription})
        action = json.loads(trader.body(trader.buy()))
        request = {"type": "action", "payload": action}
        await ws.send_json({"method": "post", "id": 9, "request": request})
        frames: dict[str, Any] = {}
        async with asyncio.timeout(DEADLINE_S):
            while not {"post", "orderUpdates", "user"} <= set(frames):
                service.step()
                frame = json.loads((await ws.receive()).data)
                frames.setdefault(frame["channel"], []).append(frame["data"])
    (post,) = frames["post"]
    assert (post["id"], post["response"]["type"]) == (9, "action")
    (status,) = post["response"]["payload"]["response"]["data"]["statuses"]
    assert status["filled"]["totalSz"] == "0.2"
    statuses = [update["status"] for frame in frames["orderUpdates"] for update in frame]
    assert statuses == ["open", "filled"]
    fills = [fill for frame in frames["user"] for fill in frame.get("fills", [])]
    assert {fill["oid"] for fill in fills} == {status["filled"]["oid"]}


async def test_ids_of_a_wrong_user_find_nothing(trader: Trader) -> None:
    reply = await trader.act(trader.buy())
    (status,) = reply["response"]["data"]["statuses"]
    other = {"type": "orderStatus", "user": "0x" + "1" * 40, "oid": status["filled"]["oid"]}
    assert await trader.info(**other) == {"status": "unknownOid"}


async def test_a_node_takes_no_orders(http: aiohttp.ClientSession) -> None:
    async with serve(Simulator(SETTINGS), blocks_per_s=None, like_node=True) as node:
        async with http.post(f"{node.http_url}/exchange", data=b"{}") as answer:
            assert answer.status == 404


async def test_another_asset_than_the_orders_finds_nothing(trader: Trader) -> None:
    reply = await trader.act({"type": "cancel", "cancels": [{"a": ETH, "o": 1}]})
    assert reply["response"]["data"]["statuses"] == [
        {"error": "Order was never placed, already canceled, or filled. asset=1"}
    ]
