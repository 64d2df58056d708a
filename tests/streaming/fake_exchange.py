"""A public exchange that counts what is asked of it, and misbehaves when told to.

It knows no market: tests say which frame goes out on which subscription.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

COINS = ("BTC", "ETH", "SOL")
INFO = {
    "meta": {"universe": [{"name": coin} for coin in COINS]},
    "perpDexs": [None, {"name": "xyz"}],
    "spotMeta": {"universe": [{"name": "@107"}]},
    "outcomeMeta": {"outcomes": []},
}
DEADLINE_S = 10.0


@dataclass(eq=False)
class Connection:
    """One client connection and what it follows."""

    ws: web.WebSocketResponse
    transport: asyncio.Transport
    topics: list[dict[str, Any]] = field(default_factory=list)

    def cut(self) -> None:
        """Drop it without a close frame."""
        self.transport.abort()


class FakeExchange:
    """`acknowledges` says whether a subscription is; `opening` which frame follows the ack."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.connects_at_s: list[float] = []
        self.messages = 0
        self.pings = 0
        self.answers_pings = True
        self.most_connections = 0
        self.most_topics = 0
        self.acknowledges: Callable[[dict[str, Any]], bool] = lambda subscription: True
        self.opening: Callable[[dict[str, Any]], bytes | None] = lambda subscription: None
        self.url = ""
        self._changed = asyncio.Condition()

    @property
    def topics(self) -> list[dict[str, Any]]:
        """What all connections follow together."""
        return [topic for connection in self.connections for topic in connection.topics]

    def following(self, **fields: Any) -> list[Connection]:
        """The connections that follow a subscription with these fields."""
        return [
            connection
            for connection in self.connections
            if any(fields.items() <= topic.items() for topic in connection.topics)
        ]

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Wait for something to become true; the answer is what `holds` gave."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            while not (found := holds()):
                await self._changed.wait()
            return found

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeExchange]:
        """Listen on a free port while the context lasts."""
        app = web.Application()
        app.router.add_post("/info", self._info)
        app.router.add_get("/ws", self._socket)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
            yield self
        finally:
            for connection in self.connections:
                connection.cut()
            await runner.cleanup()

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(INFO.get((await request.json())["type"]))

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        connection = Connection(ws, request.transport)
        self.connections.append(connection)
        self.connects_at_s.append(time.monotonic())
        await self._note()
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await self._handle(connection, json.loads(message.data))
        finally:
            self.connections.remove(connection)
            await self._note()
        return ws

    async def _handle(self, connection: Connection, frame: dict[str, Any]) -> None:
        self.messages += 1
        topic = frame.get("subscription")
        match frame["method"]:
            case "ping":
                self.pings += 1
                if self.answers_pings:
                    await connection.ws.send_str('{"channel":"pong"}')
            case "subscribe" if self.acknowledges(topic):
                connection.topics.append(topic)
                await self._acknowledge(connection, frame)
                if (opening := self.opening(topic)) is not None:
                    await connection.ws.send_str(opening.decode())
            case "unsubscribe":
                connection.topics.remove(topic)
                await self._acknowledge(connection, frame)
        await self._note()

    async def _acknowledge(self, connection: Connection, frame: dict[str, Any]) -> None:
        data = {"method": frame["method"], "subscription": frame["subscription"]}
        await connection.ws.send_json({"channel": "subscriptionResponse", "data": data})

    async def _note(self) -> None:
        self.most_connections = max(self.most_connections, len(self.connections))
        self.most_topics = max(self.most_topics, len(self.topics))
        async with self._changed:
            self._changed.notify_all()
