"""A simulation behind a port: blocks on a schedule, or one at a time for tests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from streaming.simulator.engine.block import Block
from streaming.simulator.servers.app import Endpoint
from streaming.simulator.servers.evm_server import EvmServer
from streaming.simulator.servers.feeds import EVERY_BLOCK, Cadence, ExchangeFeeds
from streaming.simulator.servers.info import ExchangeInfo
from streaming.simulator.servers.metrics import Metrics
from streaming.simulator.servers.socket import SocketRules
from streaming.simulator.simulation import BLOCK_NS, Simulator

#: One block a simulated 70 ms, so that block time keeps up with the clock.
REAL_TIME_BLOCKS_PER_S = 1e9 / BLOCK_NS


class Service:
    """A served simulation: `step` makes a block and sends its frames, `run` does on a schedule."""

    def __init__(
        self,
        simulator: Simulator,
        *,
        cadence: Cadence,
        rules: SocketRules | None,
        like_node: bool = False,
    ) -> None:
        self.simulator = simulator
        self.metrics = Metrics()
        self._feeds = ExchangeFeeds(simulator, cadence=cadence)
        self.evm = EvmServer(simulator)
        self.endpoint = Endpoint(
            ExchangeInfo(simulator, like_node=like_node),
            self._feeds,
            state=self.state,
            registry=self.metrics.registry,
            rules=rules,
            also=self.evm.add_to,
            # Nodes take no orders.
            trading=None if like_node else simulator.trading,
        )
        self._host = ""

    @property
    def http_url(self) -> str:
        """Base URL, without a slash at its end."""
        return f"http://{self._host}:{self.endpoint.port}"

    @property
    def ws_url(self) -> str:
        """WebSocket URL."""
        return f"ws://{self._host}:{self.endpoint.port}/ws"

    @property
    def metrics_port(self) -> int | None:
        """The port of /metrics, when one was asked for."""
        return self.endpoint.metrics_port

    def step(self) -> Block:
        """Make the next block, write it and queue its frames for every follower."""
        began_s = time.perf_counter()
        block = self.simulator.step()
        socket = self.endpoint.socket
        before = socket.frames_sent
        wanted = {route: str(subscription["type"]) for route, subscription in socket.wanted()}
        for route, payload in self._feeds.block_frames(block, socket.wanted()):
            socket.publish(route, payload, channel=wanted[route])
        self.metrics.count(block, step_s=time.perf_counter() - began_s)
        self.metrics.frames.inc(socket.frames_sent - before)
        self.metrics.connections.set(len(socket.sessions))
        return block

    async def run(self, *, blocks_per_s: float) -> None:
        """Make blocks for ever, at the given rate; after a pause it catches up, one loop turn
        between two blocks.
        """
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s += 1 / blocks_per_s
            behind_s = loop.time() - due_s
            self.metrics.behind_s.set(max(0.0, behind_s))
            await asyncio.sleep(max(0.0, -behind_s))
            self.step()

    def state(self) -> dict[str, object]:
        """What a test oracle asks: the height, and per coin the last trade id and how many trades
        there were.
        """
        exchange = self.simulator.exchange
        return {
            "height": self.simulator.height,
            "time": exchange.block.time_ms,
            "users": list(exchange.accounts),
            "coins": {
                name: {"lastTid": tape.last_tid, "trades": tape.count}
                for name, tape in exchange.tapes.items()
            },
        }

    @contextlib.asynccontextmanager
    async def listen(
        self, *, host: str, port: int, metrics_port: int | None
    ) -> AsyncIterator[Service]:
        """Serve while the context lasts. Raises OSError when a port is taken."""
        self._host = host
        async with self.endpoint.listen(host=host, port=port, metrics_port=metrics_port):
            yield self


@contextlib.asynccontextmanager
async def serve(
    simulator: Simulator,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    metrics_port: int | None = None,
    blocks_per_s: float | None = REAL_TIME_BLOCKS_PER_S,
    cadence: Cadence = EVERY_BLOCK,
    rules: SocketRules | None = None,
    like_node: bool = False,
) -> AsyncIterator[Service]:
    """A simulation with its first block made, served on `port` (0: a free one).

    With `like_node` its /info refuses what a node's own does not answer. With `blocks_per_s` None
    nothing moves until the caller says `step`. A failure of the schedule
    (a full disk, say) surfaces when the context ends, or at once to whoever awaits `Service.run`.
    """
    service = Service(simulator, cadence=cadence, rules=rules, like_node=like_node)
    async with service.listen(host=host, port=port, metrics_port=metrics_port):
        service.step()
        if blocks_per_s is None:
            yield service
            return
        runner = asyncio.create_task(service.run(blocks_per_s=blocks_per_s))
        try:
            yield service
        finally:
            runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await runner
