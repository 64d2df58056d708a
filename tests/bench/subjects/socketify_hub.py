"""A hub on uWebSockets (socketify): one Redis subscriber in its loop, uWebSockets' own publish.

uWebSockets joins what a client gets within one turn of the loop into one write, as our hub does.
"""

from __future__ import annotations

import sys

import redis.asyncio
from socketify import App, AppListenOptions, OpCode

from tests.bench.publisher import CHANNEL

#: Far above what a run can leave unread, so that uWebSockets never drops a frame in silence.
MAX_WAITING_BYTES = 256 * 1024 * 1024


def main(port: int, redis_url: str) -> None:
    """Serve until killed."""
    app = App()

    async def follow() -> None:
        client = redis.asyncio.from_url(redis_url, socket_timeout=None)
        async with client.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    app.publish(CHANNEL, message["data"], OpCode.TEXT, False)

    app.ws(
        "/*",
        {
            "max_backpressure": MAX_WAITING_BYTES,
            "idle_timeout": 120,
            "open": lambda ws: ws.subscribe(CHANNEL),
        },
    )
    app.listen(AppListenOptions(port=port, host="127.0.0.1"), lambda config: None)
    app.loop.create_task(follow())
    app.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
