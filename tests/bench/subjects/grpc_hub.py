"""The least that gives every caller every message over gRPC: one Redis subscriber, grpc.aio, and
the bytes that ours sends. No keys, topics, numbers, meter or bounds.

`Each` writes one message a response, `Joined` what waits when the last response has left.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import redis.asyncio

from gateway.grpc.wire import bytes_field, message_field
from tests.bench.publisher import CHANNEL

SERVICE = "bench.Hub"
#: As an `Envelope` of `hlrelay.v1` has them.
SUB_ID, JSON, ENVELOPES = 1, 20, 1


class Caller:
    """What waits for one of them."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.wake = asyncio.Event()


callers: set[Caller] = set()


async def each(_: Any, context: Any) -> None:
    """A response for each message."""
    await serve(context, is_joined=False)


async def joined(_: Any, context: Any) -> None:
    """A response for what waits."""
    await serve(context, is_joined=True)


async def serve(context: Any, *, is_joined: bool) -> None:
    """Until they go."""
    caller = Caller()
    callers.add(caller)
    try:
        await context.send_initial_metadata(())
        while True:
            await caller.wake.wait()
            caller.wake.clear()
            waiting, caller.waiting = caller.waiting, []
            for message in [b"".join(waiting)] if is_joined else waiting:
                await context.write(message)
    finally:
        callers.discard(caller)


async def run(port: int, redis_url: str) -> None:
    """Listen, and hand every message of the channel to every caller."""
    server = grpc.aio.server()
    methods = {
        "Each": grpc.stream_stream_rpc_method_handler(each),
        "Joined": grpc.stream_stream_rpc_method_handler(joined),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    client = redis.asyncio.from_url(redis_url, socket_timeout=None)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        async for message in pubsub.listen():
            if message["type"] != "message":
                continue
            envelope = bytes_field(SUB_ID, b"t") + message_field(JSON, message["data"])
            response = message_field(ENVELOPES, envelope)
            for caller in callers:
                caller.waiting.append(response)
                caller.wake.set()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), sys.argv[2]))
