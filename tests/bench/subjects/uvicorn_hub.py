"""A plain hub on uvicorn: one Redis subscriber task, and `await send` for each client in turn."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
import uvicorn

from tests.bench.publisher import CHANNEL

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

clients: set[Send] = set()
_tasks: set[asyncio.Task[None]] = set()


async def follow(redis_url: str) -> None:
    """Send every message of the channel to every client."""
    client = redis.asyncio.from_url(redis_url, socket_timeout=None)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        async for message in pubsub.listen():
            if message["type"] != "message":
                continue
            text = message["data"].decode()
            for send in list(clients):
                await send({"type": "websocket.send", "text": text})


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Keep each WebSocket in `clients` until it goes; start the subscriber with the server."""
    if scope["type"] == "lifespan":
        await receive()
        _tasks.add(asyncio.create_task(follow(sys.argv[2])))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    clients.add(send)
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        clients.discard(send)


if __name__ == "__main__":
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
