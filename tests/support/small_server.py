"""Our server with an application of its own: `python -m tests.support.small_server PORT`. It pings
often, so that a test need not wait for it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from streaming.ws.server import Server

PING_S = 1


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """A socket that says nothing; an answer that breaks off; how many others are known."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/broken":
        await send({"type": "http.response.body", "body": b"a part", "more_body": True})
        raise RuntimeError("on purpose")
    others = [each for each in server.connections if each.path != b"/count"]
    await send({"type": "http.response.body", "body": b"%d" % len(others)})


server = Server(
    application, [f"tcp:{sys.argv[1]}:interface=127.0.0.1"], ping_interval=PING_S, ping_timeout=2
)
if __name__ == "__main__":
    server.run()
