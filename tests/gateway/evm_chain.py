"""Nodes of a simulated HyperEVM whose heights the test sets, behind real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import orjson
from aiohttp import web

from gateway.evm.nodes import Nodes
from gateway.evm.service import Evm
from streaming.simulator.servers.evm_chain import Chain
from streaming.simulator.servers.evm_rpc import EvmRpc
from streaming.upstream.spec import UpstreamKind, UpstreamSpec
from tenants.admission.control import AdmissionControl
from tenants.admission.directory import Directory
from tenants.admission.limiter import Rate
from tenants.admission.principal import Limits, Principal
from tenants.admission.quotas import Occupancy
from tests.tenants.test_directory import principal

FIRST = 1_000


class EvmNode:
    """One node; `fault` is what it does instead of answering, heights excepted."""

    def __init__(self, height: int = FIRST) -> None:
        self.height = height
        self.rpc = EvmRpc(Chain(1, height=lambda: self.height, second=lambda n: 1_700_000_000 + n))
        self.fault: Any = None
        self.posts: list[bytes] = []
        self.url = ""

    def asked(self, method: str) -> int:
        """How often."""
        return sum(method.encode() in body for body in self.posts)

    async def answer(self, request: web.Request) -> web.Response:
        """One POST."""
        body = await request.read()
        self.posts.append(body)
        if self.fault is not None and b"eth_blockNumber" not in body:
            if (made := await self.fault(request)) is not None:
                return made  # type: ignore[no-any-return]
        return web.Response(body=self.rpc.answer(body), content_type="application/json")


class FreePot:
    """A budget without an end."""

    async def take(self, tenant: str, weight: float) -> float:
        """Nothing to wait for."""
        return 0.0


def runtime_of(counted: list[tuple[int, int]]) -> Any:
    """As much of a process as the service needs."""
    meter = SimpleNamespace(
        slot=lambda *_: 0,
        add_requests=lambda _, number: counted.append((number, 0)),
        add=lambda _, __, size: counted.append((0, size)),
    )
    control = AdmissionControl(Directory(load=lambda _: {}), Occupancy())
    return SimpleNamespace(admission=control, meter=meter)


def customer(*, per_minute: int = 1_000_000) -> Principal:
    """Somebody with a rate."""
    rate = Rate(per_minute, per_minute)
    return principal(scopes=frozenset({"evm"}), limits=Limits(9, 9, rate=rate))


class Rig:
    """A service over nodes. `ask` gives what a client gets."""

    def __init__(self, nodes: list[EvmNode], evm: Evm, counted: list[tuple[int, int]]) -> None:
        self.nodes, self.evm, self.counted = nodes, evm, counted
        self.who = customer()

    async def ask(self, method: str, *params: Any, call_id: Any = 1) -> Any:
        """The answer to one call."""
        body = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": list(params)}
        return orjson.loads(await self.raw(orjson.dumps(body)))

    async def raw(self, body: bytes) -> bytes:
        """The answer to a body."""
        return (await self.evm.serve(body, self.who)).body

    async def at(self, height: int, *nodes: EvmNode) -> None:
        """Nodes reach a height, and are polled."""
        for node in nodes or self.nodes:
            node.height = height
        await self.evm.nodes._poll()


@contextlib.asynccontextmanager
async def rig(*nodes: EvmNode, public: bool = False) -> AsyncIterator[Rig]:
    """Served while the context lasts."""
    runners = []
    for node in nodes:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/evm", node.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        node.url = f"http://127.0.0.1:{runner.addresses[0][1]}/evm"
        runners.append(runner)
    kind = UpstreamKind.PUBLIC if public else UpstreamKind.NODE
    specs = {
        f"n{n}": UpstreamSpec(kind, f"/{n}", evm_url=node.url, weight=10 - n)
        for n, node in enumerate(nodes)
    }
    counted: list[tuple[int, int]] = []
    runtime = runtime_of(counted)
    pool = Nodes(lambda: specs, pot=FreePot())
    try:
        yield Rig(list(nodes), Evm(runtime, pool), counted)
    finally:
        for node in pool._nodes.values():
            await node.endpoint.close()
        await runtime.admission.aclose()
        for runner in runners:
            await runner.cleanup()


async def hang(_: web.Request) -> None:
    """Never answer."""
    await asyncio.sleep(30)


async def cut(request: web.Request) -> web.Response:
    """Close the connection after the request was read."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def failing(status: int, body: bytes = b"") -> Any:
    """Answer with a status."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, content_type="text/html")

    return answer
