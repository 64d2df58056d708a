"""The least that brings a book change from a node's file to a socket: what the machine takes.

`python -m tests.bench.subjects.bare_hop feed REDIS_URL (--data DIR | --gateway ADDRESS)` follows
the diffs file, or a `gateway ADDRESS --data DIR` of the same kind over gRPC, and publishes a frame
a line to the hub on uvicorn. No book, no second node, no statuses, no log, no topics, no key.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import orjson
import redis.asyncio

from streaming.core.node_lines import parse_time_ns
from streaming.hl_gateway.inotify import Inotify
from tests.bench.publisher import CHANNEL

KIND = "node_raw_book_diffs_by_block"
METHOD = "/bare.Gateway/Follow"
#: A side of an `l2Book`.
LEVELS = [{"px": f"{81_308 + i}.0", "sz": "1.2345", "n": 10} for i in range(20)]


def follow(data: Path, deliver: Callable[[bytes], None]) -> None:
    """Hand each line that is written from now on to `deliver`, straight from the wake-up."""
    # The newest: a run may go on in the next hour. Hours are not padded: "9" < "10".
    path = max((data / KIND).rglob("hourly/*/*"), key=lambda it: (it.parent.name, int(it.name)))
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 0, os.SEEK_END)
    inotify = Inotify()
    inotify.watch(str(path.parent))
    rest = b""

    def on_change() -> None:
        nonlocal rest
        inotify.read()
        *lines, rest = (rest + os.read(fd, 1 << 20)).split(b"\n")
        for line in lines:
            deliver(line)

    asyncio.get_running_loop().add_reader(inotify.fileno(), on_change)


def frame(line: bytes) -> bytes:
    """An `l2Book` frame of the size of a real one, with the block's time."""
    block = orjson.loads(line)
    time_ms = parse_time_ns(block["block_time"]) // 1_000_000
    book = {"coin": "BTC", "time": time_ms, "levels": [LEVELS, LEVELS]}
    return orjson.dumps({"channel": "l2Book", "data": book})


async def feed(redis_url: str, *, data: Path | None, gateway: str) -> None:
    """Publish a frame for each line, for ever."""
    client = redis.asyncio.from_url(redis_url)
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    if data is not None:
        follow(data, lines.put_nowait)
        while True:
            await client.publish(CHANNEL, frame(await lines.get()))
    async with grpc.aio.insecure_channel(gateway) as channel:
        async for line in channel.unary_stream(METHOD)(b"", wait_for_ready=True):
            await client.publish(CHANNEL, frame(line))


async def serve(address: str, data: Path) -> None:
    """The gateway: each line to every caller, for ever."""
    callers: set[asyncio.Queue[bytes]] = set()

    async def call(_: bytes, __: Any) -> AsyncIterator[bytes]:
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        callers.add(lines)
        while True:
            yield await lines.get()

    def deliver(line: bytes) -> None:
        for lines in callers:
            lines.put_nowait(line)

    follow(data, deliver)
    service, _, method = METHOD[1:].partition("/")
    handler = grpc.unary_stream_rpc_method_handler(call)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("feed", "gateway"))
    parser.add_argument("at", help="Redis URL, or the address to listen on")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--gateway", default="")
    options = parser.parse_args()
    if options.what == "gateway":
        asyncio.run(serve(options.at, options.data))
    else:
        asyncio.run(feed(options.at, data=options.data, gateway=options.gateway))


if __name__ == "__main__":
    main()
