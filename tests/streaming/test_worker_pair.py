"""Two workers on the same two nodes publish the same; either may be killed, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import redis.asyncio

from relay_site.processes import free_port
from streaming.bus import keys
from streaming.bus.demand import EdgeLeases
from streaming.core import envelope as wire
from streaming.core.blocks import FileKind
from streaming.core.envelope import Envelope, Position, Role
from streaming.core.topic import DEFAULT_LEVELS, Kind, Topic
from streaming.hl_gateway.assemble import FileMode
from tests.core import node_events
from tests.streaming.fake_exchange import FakeExchange
from tests.streaming.node_twins import FIRST_HEIGHT, NodeTwins
from tests.support.services import start_process

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
TRADES = Topic(Kind.TRADES, "BTC").name
L2_BOOK = Topic(Kind.L2_BOOK, "BTC", n_levels=DEFAULT_LEVELS).name
EDGE = "test-edge"


class Listener:
    """An edge's end of the bus that keeps all it is sent, by worker."""

    def __init__(self, url: str) -> None:
        self.client = redis.asyncio.from_url(url)
        self.leases = EdgeLeases(client=self.client, edge=EDGE)
        self.updates: dict[str, dict[tuple[str, Position], Envelope]] = {}
        self.others: dict[str, list[Envelope]] = {}
        self.tips: dict[str, int] = {}
        self._news = asyncio.Condition()

    async def run(self) -> None:
        async with self.client.pubsub() as pubsub:
            await pubsub.subscribe(keys.BUS_CHANNEL.format(edge=EDGE))
            async for message in pubsub.listen():
                if message["type"] == "message":
                    await self._take(wire.decode(message["data"]))

    async def _take(self, message: wire.BusMessage) -> None:
        updates = self.updates.setdefault(message.worker, {})
        for envelope in message.envelopes:
            if envelope.role is Role.UPDATE:
                assert (envelope.topic, envelope.position) not in updates, "published twice"
                updates[envelope.topic, envelope.position] = envelope
            else:
                self.others.setdefault(message.worker, []).append(envelope)
        self.tips[message.worker] = message.tip_height
        async with self._news:
            self._news.notify_all()

    async def until(self, is_so: Callable[[], Any]) -> None:
        async with asyncio.timeout(DEADLINE_S), self._news:
            await self._news.wait_for(is_so)

    def heights(self, worker: str, topic: str) -> set[int]:
        return {at.height for name, at in self.updates.get(worker, {}) if name == topic}

    def union(self, topic: str) -> set[int]:
        return set().union(*(self.heights(worker, topic) for worker in self.updates))

    def has_begun(self, worker: str) -> bool:
        begun = {e.topic for e in self.others.get(worker, []) if e.role is Role.SNAPSHOT}
        return begun == {TRADES, L2_BOOK}


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Listener]:
    listener = Listener(url)
    await listener.client.flushdb()
    tasks = [asyncio.ensure_future(job()) for job in (listener.run, listener.leases.run)]
    for name in (TRADES, L2_BOOK):
        listener.leases.want(name)
    try:
        yield listener
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.client.aclose()


class Processes:
    """Real `run_upstream` processes, and gateways where a test wants them."""

    def __init__(self, var: Path, *, url: str, upstreams: str) -> None:
        self._var, self._url, self._upstreams = var, url, upstreams
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("run_upstream")

    def start_gateway(self, data: Path, *, info: str, port: int) -> subprocess.Popen[bytes]:
        listen = f"127.0.0.1:{port}"
        return self._start(
            "run_hl_gateway", "--data", str(data), "--info", info, "--listen", listen
        )

    def use(self, upstreams: str) -> None:
        self._upstreams = upstreams

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("RELAY_", "REDIS_"))}
        saved = dict(os.environ)
        try:
            os.environ.clear()
            os.environ.update(kept)
            os.environ.update(
                RELAY_VAR=str(self._var), REDIS_URL=self._url, RELAY_UPSTREAMS=self._upstreams
            )
            process = start_process(command, log=self._var / "processes.log")
        finally:
            os.environ.clear()
            os.environ.update(saved)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    @property
    def log(self) -> str:
        return (self._var / "processes.log").read_text("utf-8", "replace")


class Pair(NamedTuple):
    """Twins that have begun to write, and two workers that serve both topics, by their names on the
    bus.
    """

    twins: NodeTwins
    listener: Listener
    processes: Processes
    workers: dict[str, subprocess.Popen[bytes]]
    gateways: list[subprocess.Popen[bytes]]


@asynccontextmanager
async def pair(
    tmp_path: Path, redis_url: str, *, with_gateways: bool = False, public: str = ""
) -> AsyncIterator[Pair]:
    """A running pair, reading the files itself or through a gateway beside each node, and a
    `public` exchange besides."""
    url = redis_url.removesuffix("/0") + "/7"
    var = tmp_path / "var"
    var.mkdir()
    async with NodeTwins(tmp_path) as twins, listening(url) as listener:
        twins.write()
        upstreams = ",".join(filter(None, (twins.upstreams, public)))
        processes = Processes(var, url=url, upstreams=upstreams)
        gateways = []
        if with_gateways:
            ports = [free_port() for _ in twins.nodes]
            processes.use(",".join(f"gateway://127.0.0.1:{port}" for port in ports))
            for node, port in zip(twins.nodes, ports, strict=True):
                gateways.append(processes.start_gateway(node.root, info=twins.url, port=port))
        writing = asyncio.ensure_future(_keep_writing(twins))
        try:
            workers: dict[str, subprocess.Popen[bytes]] = {}
            for _ in range(2):
                process = processes.start_worker()
                await listener.until(
                    lambda: any(listener.has_begun(w) for w in listener.updates if w not in workers)
                )
                (name,) = listener.updates.keys() - workers.keys()
                workers[name] = process
            writing.cancel()
            yield Pair(twins, listener, processes, workers, gateways)
        except TimeoutError:
            pytest.fail(f"nothing came; the processes say:\n{processes.log[-4000:]}")
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            processes.stop()


async def _keep_writing(twins: NodeTwins) -> None:
    """Blocks at a chain's pace while the workers start: their books wait for the first."""
    while True:
        twins.write()
        await asyncio.sleep(0.07)


async def test_both_publish_the_same(tmp_path: Path, redis_url: str) -> None:
    async with pair(tmp_path, redis_url) as (twins, listener, _, workers, _):
        first = twins.height + 1
        for number in range(20):
            # Each block is missing at one of the two nodes now and then.
            skip = {3: (0,), 7: (1,), 11: (0,), 12: (1,)}.get(number, ())
            height = twins.write(skip=skip)
            await listener.until(
                lambda height=height: all(
                    height in listener.heights(worker, topic)
                    for worker in workers
                    for topic in (TRADES, L2_BOOK)
                )
            )
        one, two = [listener.updates[worker] for worker in workers]
        common = [key for key in one if key[1].height >= first]
        assert len(common) == 40
        for key in common:
            ours, theirs = one[key], two[key]
            assert (ours.payload, ours.epoch) == (theirs.payload, theirs.epoch)
            assert ours.epoch.startswith("n-")
        await listener.until(lambda: set(listener.tips.values()) == {twins.height})
        states = await _heartbeats(listener, epoch=one[common[0]].epoch)
        assert all({"node0", "node1"} <= set(worker["sources"]) for worker in states)
        assert not any(e.role is Role.NOT_READY for e in listener.others[list(workers)[1]])


@pytest.mark.parametrize("victim", [0, 1])
async def test_one_killed_loses_nothing(tmp_path: Path, redis_url: str, victim: int) -> None:
    async with pair(tmp_path, redis_url) as (twins, listener, processes, workers, _):
        names = list(workers)
        first = twins.height + 1
        for number in range(30):
            if number == 10:
                workers[names[victim]].send_signal(signal.SIGKILL)
            height = twins.write()
            await listener.until(lambda height=height: height in listener.union(TRADES))
        wanted = set(range(first, twins.height + 1))
        await listener.until(lambda: wanted <= listener.union(L2_BOOK))
        assert wanted <= listener.union(TRADES)
        # One that comes in its place joins in, without a word to those who are served.
        processes.start_worker()
        writing = asyncio.ensure_future(_keep_writing(twins))
        try:
            await listener.until(
                lambda: any(listener.has_begun(w) for w in listener.updates if w not in names)
            )
        finally:
            writing.cancel()
        (fresh,) = listener.updates.keys() - set(names)
        refused = [e for e in listener.others[fresh] if e.role is Role.NOT_READY]
        assert not refused, processes.log[-3000:]


async def test_a_dead_public_link_is_told_although_both_have_books(
    tmp_path: Path, redis_url: str
) -> None:
    topic = Topic(Kind.SPOT_ASSET_CTXS).name
    frame = b'{"channel":"spotAssetCtxs","data":[]}'
    async with FakeExchange().serve() as exchange:
        exchange.opening = lambda subscription: frame
        async with pair(tmp_path, redis_url, public=exchange.url) as (_, listener, _, _, _):
            listener.leases.want(topic)

            def came(role: Role) -> bool:
                everything = [
                    *listener.others.values(),
                    *(u.values() for u in listener.updates.values()),
                ]
                return any(e.topic == topic and e.role is role for each in everything for e in each)

            await listener.until(lambda: came(Role.SNAPSHOT))
            exchange.acknowledges = lambda subscription: False
            exchange.connections[0].cut()
            await listener.until(lambda: came(Role.NOT_READY))
            exchange.acknowledges = lambda subscription: True
            for connection in exchange.connections:
                connection.cut()
            await listener.until(lambda: came(Role.UPDATE))


async def test_a_public_row_stands_in_while_no_node_writes(tmp_path: Path, redis_url: str) -> None:
    book = {"coin": "BTC", "time": 1, "levels": [[], []]}
    row = {"coin": "BTC", "side": "A", "px": "1", "sz": "1", "time": 1, "hash": "0x", "tid": 1}
    openings = {"trades": [row], "l2Book": book}
    async with FakeExchange().serve() as exchange:
        exchange.opening = lambda topic: orjson.dumps(
            {"channel": topic["type"], "data": openings[topic["type"]]}
        )
        async with pair(tmp_path, redis_url, public=exchange.url) as (twins, listener, _, work, _):
            assert not exchange.topics  # the nodes have it all
            said = [
                *(u.values() for u in listener.updates.values()),
                *listener.others.values(),
            ]
            assert all(e.epoch.startswith("n-") for each in said for e in each)

            def standing_in() -> set[str]:
                told = [e for each in listener.others.values() for e in each]
                return {e.topic for e in told if e.epoch.startswith("p-")}

            await listener.until(lambda: standing_in() == {TRADES, L2_BOOK})
            writing = asyncio.ensure_future(_keep_writing(twins))
            try:
                await exchange.until(lambda: not exchange.topics)
                first = twins.height + 1
                await listener.until(
                    lambda: all(
                        any(height >= first for height in listener.heights(worker, topic))
                        for worker in work
                        for topic in (TRADES, L2_BOOK)
                    )
                )
            finally:
                writing.cancel()


async def test_a_flush_of_redis_gives_a_new_epoch_to_both(tmp_path: Path, redis_url: str) -> None:
    async with pair(tmp_path, redis_url) as (twins, listener, _, workers, _):
        (before,) = {e.epoch for updates in listener.updates.values() for e in updates.values()}
        await listener.client.flushdb()

        def epochs() -> dict[str, str]:
            last = {}
            for worker in workers:
                found = [e for e in listener.updates[worker].values() if e.topic == TRADES]
                newest = max(found, key=lambda e: e.position, default=None)
                last[worker] = newest.epoch if newest else before
            return last

        writing = asyncio.ensure_future(_keep_writing(twins))
        try:
            await listener.until(
                lambda: len(set(epochs().values())) == 1 and before not in epochs().values()
            )
        finally:
            writing.cancel()


@pytest.mark.parametrize("victim", [0, 1])
async def test_a_killed_gateway_costs_nothing(tmp_path: Path, redis_url: str, victim: int) -> None:
    async with pair(tmp_path, redis_url, with_gateways=True) as (twins, listener, _, workers, own):
        first = twins.height + 1
        for number in range(30):
            if number == 10:
                own[victim].send_signal(signal.SIGKILL)
            height = twins.write()
            await listener.until(
                lambda height=height: all(height in listener.heights(w, TRADES) for w in workers)
            )
        wanted = set(range(first, twins.height + 1))
        for worker in workers:
            assert wanted <= listener.heights(worker, TRADES)
            await listener.until(lambda worker=worker: wanted <= listener.heights(worker, L2_BOOK))
            assert not any(e.role is Role.GAP for e in listener.others.get(worker, []))


async def _heartbeats(listener: Listener, *, epoch: str) -> list[dict[str, Any]]:
    """Both workers' heartbeats, once they are of this epoch and one of them owns what runs once."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            names = [name.decode() for name in await listener.client.smembers(keys.WORKERS)]
            found = await listener.client.mget([keys.WORKER.format(worker=n) for n in names])
            states = [orjson.loads(state) for state in found if state]
            is_settled = {state["epoch"] for state in states} == {epoch}
            if is_settled and [s["owns_public"] for s in states].count(True) == 1 < len(states):
                return states
            await asyncio.sleep(0.05)  # other processes: there is no event to wait for


async def test_a_trade_does_not_wait_for_the_end_of_its_block(
    tmp_path: Path, redis_url: str
) -> None:
    """A node that writes event by event, and a customer of `flush: event`: what is written of an
    open block comes at once, and the whole block when it has closed."""
    url = redis_url.removesuffix("/0") + "/7"
    var = tmp_path / "var"
    var.mkdir()
    topic = Topic(Kind.TRADES, "BTC", by_event=True).name
    async with NodeTwins(tmp_path) as twins, listening(url) as listener:
        node, height = twins.nodes[0], FIRST_HEIGHT
        listener.leases.want(topic)

        def write(tid: int) -> None:
            sides = (
                node_events.fill(tid, "B", crossed=True),
                node_events.fill(tid, "A", user=node_events.BEN),
            )
            for side in sides:
                time_ms = node_events.BLOCK_MS + 70 * (height - FIRST_HEIGHT)
                line = node_events.line(height, [side], time_ms=time_ms)
                node.write(FileKind.FILLS, FileMode.STREAMING, line + b"\n")

        def seen(name: str) -> list[tuple[int, list[int]]]:
            return [
                (at.height, [trade["tid"] for trade in orjson.loads(e.payload)["data"]])
                for updates in listener.updates.values()
                for (one, at), e in updates.items()
                if one == name and at.height == height
            ]

        write(1)
        processes = Processes(var, url=url, upstreams=f"node://{node.root}?info={twins.url}")
        processes.start_worker()
        try:
            while not any(e.topic == topic for o in listener.others.values() for e in o):
                height += 1
                write(height)
                await asyncio.sleep(0.07)
            height += 1
            write(1)
            await listener.until(lambda: seen(topic) == [(height, [1])])
            write(2)
            await listener.until(lambda: seen(topic) == [(height, [1]), (height, [2])])
            assert seen(TRADES) == []
            before, height = height, height + 1
            write(3)
            height = before
            await listener.until(lambda: seen(TRADES) == [(height, [1, 2])])
            assert seen(topic) == [(height, [1]), (height, [2])]
        except TimeoutError:
            pytest.fail(f"nothing came; the processes say:\n{processes.log[-4000:]}")
        finally:
            processes.stop()
