"""The client in the documentation, as it is written there, over a real socket."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times
from streaming.core.topic import Kind, Topic
from tests.core.relay_world import EPOCH, ROOT, Desk, World, trades
from tests.core.test_many_topics import desk_of

DEADLINE_S = 20


def _follow() -> Any:
    text = (ROOT / "docs" / "relay-dialect.md").read_text()
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)  # noqa: S102  # our own page
    return names["follow"]


class Relay:
    """A world behind a socket; its trades are numbered by height and coin."""

    def __init__(self, count: int) -> None:
        self.coins = [f"C{number}" for number in range(count)]
        self.world = World()
        self.world.log.page = 50
        self.customers: asyncio.Queue[tuple[Desk, ServerConnection]] = asyncio.Queue()

    async def serve(self, socket: ServerConnection) -> None:
        desk = desk_of(self.world, self.coins)
        desk.socket.frames += desk.send_text(str(await socket.recv()))
        await self.customers.put((desk, socket))
        await socket.wait_closed()
        desk.session.close(now_s=self.world.now_s)

    def name(self, number: int) -> str:
        return Topic(Kind.TRADES, self.coins[number]).name

    def open(self) -> None:
        self.world.hear("A", 100)
        for number in range(len(self.coins)):
            one = Envelope(self.name(number), EPOCH, Position(100), ORIGIN, Role.SNAPSHOT, trades())
            self.world.publish(one)

    def block(self, height: int) -> None:
        for number in range(len(self.coins)):
            self.world.publish(
                Envelope(
                    self.name(number),
                    EPOCH,
                    Position(height),
                    Position(height - 1),
                    Role.UPDATE,
                    trades(height * 100 + number),
                    Times(height),
                )
            )
        self.world.hear("A", height)

    async def push(self, desk: Desk, socket: ServerConnection) -> None:
        """Send the customer what is there for them."""
        self.world.wait(3)
        for frame in desk.socket.taken:
            await socket.send(frame.payload.decode())
        desk.socket.taken.clear()


async def _tell(relay: Relay, url: str) -> list[int]:
    """What the client was given over three connections; the log forgets the first coin's past."""
    got: list[int] = []
    is_new = asyncio.Event()

    async def read() -> None:
        async for trades_ in _follow()(url, {"type": "trades", "coins": relay.coins}):
            got.extend(trade["tid"] for trade in trades_)
            is_new.set()

    async def until(tid: int) -> None:
        while tid not in got:
            is_new.clear()
            await is_new.wait()

    last = len(relay.coins) - 1
    reader = asyncio.create_task(read())
    desk, socket = await relay.customers.get()
    relay.open()
    relay.block(101)
    await relay.push(desk, socket)
    await until(10_100 + last)
    await socket.close()
    relay.block(102)
    relay.block(103)
    relay.world.log.trim(relay.name(0), Position(102))
    desk, socket = await relay.customers.get()
    await relay.push(desk, socket)
    if len(relay.coins) <= 64:  # it comes back at once, for all of them
        desk, socket = await relay.customers.get()
        await relay.push(desk, socket)
    await until(10_300 + last)
    relay.block(104)
    await relay.push(desk, socket)
    await until(10_400 + last)
    await socket.close()
    relay.block(105)
    desk, socket = await relay.customers.get()
    await relay.push(desk, socket)
    await until(10_500 + last)
    await until(10_500)
    reader.cancel()
    return got


@pytest.mark.parametrize("count", [1, 3, 70])
def test_it_gets_everything_once_or_says_what_is_missing(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = Relay(count)

    async def run() -> list[int]:
        server: Server
        async with asyncio.timeout(DEADLINE_S), serve(relay.serve, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            return await _tell(relay, f"ws://127.0.0.1:{port}")

    got = asyncio.run(run())
    assert len(got) == len(set(got))
    every = {height * 100 + number for height in range(101, 106) for number in range(count)}
    assert {tid for tid in every - set(got) if tid % 100} == set()
    assert {10_100, 10_500} <= set(got)
    assert "'coin': 'C0'" in capsys.readouterr().out
