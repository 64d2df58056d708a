"""A plain hub on picows: one Redis subscriber task, one write per client and message."""

from __future__ import annotations

import asyncio
import sys

import redis.asyncio
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from tests.bench.publisher import CHANNEL

clients: set[WSTransport] = set()


class Client(WSListener):
    """Keeps its transport in `clients` while it is connected."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join."""
        clients.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a close; everything else clients say is of no interest here."""
        if frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave."""
        clients.discard(transport)


async def serve(port: int, redis_url: str) -> None:
    """Listen, and send every message of the channel to every client."""

    def listener(request: WSUpgradeRequest) -> WSListener:
        return Client()

    client = redis.asyncio.from_url(redis_url, socket_timeout=None)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        server = await ws_create_server(listener, "127.0.0.1", port)
        async with server:
            await server.start_serving()
            async for message in pubsub.listen():
                if message["type"] != "message":
                    continue
                for transport in list(clients):
                    transport.send(WSMsgType.TEXT, message["data"])


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
