"""What answers at the paths that customers' clients join to their base URL, in every process that
serves them, under whatever server. Imported after Django's apps are loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from prometheus_client import REGISTRY

from gateway.evm.door import EvmDoor
from gateway.evm.heads import Heads
from gateway.evm.nodes import Nodes
from gateway.evm.service import Evm
from gateway.evm.socket import EvmSocket
from gateway.exchange.address_budget import AddressBudgets
from gateway.exchange.asked import Asked
from gateway.exchange.door import ExchangeDoor
from gateway.exchange.egress import ANY, Egress, Pool, read_rows
from gateway.exchange.exposure import Exposure
from gateway.exchange.market import Market
from gateway.exchange.service import Exchange
from gateway.exchange.shared_nonces import SharedNonces
from gateway.exchange.trace_follow import Follower
from gateway.exchange.trace_store import TraceStore
from gateway.exchange.tracing import Tracer
from gateway.exchange.watch import Watcher
from gateway.http.edge import Edge, behind
from gateway.http.info import Info, InfoDoor
from gateway.http.origins import Origins
from gateway.http.router import Router
from gateway.http.shared_budget import KEY as PUBLIC_KEY
from gateway.http.shared_budget import ForActions, SharedBudget
from gateway.http.weights import weight_of
from gateway.posts import CustomerPosts
from gateway.requests.latency_store import LatencyWriter
from gateway.requests.writer import Writer
from gateway.sandbox.door import SandboxDoor
from gateway.sandbox.origin import Sandbox
from gateway.sandbox.socket import SandboxSocket
from gateway.upstreams.specs import Upstreams
from relay_site import wiring
from streaming import runtime
from streaming.fanout import native_fanout
from streaming.nodes import selectors, services
from streaming.nodes.follow import Rows, Specs
from streaming.ws.metrics import HubCollector
from tenants.admission.presented import split_path
from tenants.admission.principal import Principal, Scope

#: What the rows named last, for a start without the database; the workers' own is beside it.
KEPT = "edge-upstreams.json"
#: Of what an address may ask in a minute, what reads leave for actions: 240 cancels.
FOR_ACTIONS = 0.2


class Doors:
    """One running process's: its upstreams, and what asks them."""

    def __init__(self, current: runtime.Runtime) -> None:
        self.current = current
        self.upstreams = _upstreams()
        self.writer = Writer()
        self.latencies = LatencyWriter(settings.REDIS_CACHE_URL)
        pot = SharedBudget(
            current.redis,
            limit=float(settings.RELAY_PUBLIC_WEIGHT),
            processes=current.admission.processes,
            for_actions=FOR_ACTIONS,
        )
        self.origins = Origins(self.upstreams, states=self._states, pot=pot)
        self.router = Router(current, self.origins)
        self.info = Info(current, self.router)
        evm_pot = SharedBudget(
            current.redis,
            limit=float(settings.RELAY_PUBLIC_EVM_REQUESTS),
            processes=current.admission.processes,
            key="relay:public-budget:evm",
        )
        self.evm = Evm(current, Nodes(self.upstreams, pot=evm_pot))
        self.heads = Heads(self.evm)
        self.egress = Pool(read=_read_egress, budget_of=self._budget_of)
        market = Market(self._ask_info)
        self.tracer = self._tracer(market)
        self.budgets = AddressBudgets(settings.REDIS_CACHE_URL, ask=self._ask_info)
        self.nonces = SharedNonces(settings.REDIS_QUOTA_URL)
        self.exchange = Exchange(
            admission=current.admission,
            meter=current.meter,
            urls=self._exchange_urls,
            sender=self.egress,
            market=market,
            exposure=Exposure(settings.REDIS_QUOTA_URL, processes=current.admission.processes),
            watcher=Watcher(
                _recover,
                is_mainnet=self._is_mainnet,
                tracer=self.tracer,
                budgets=self.budgets,
                shared_nonces=self.nonces,
            ),
            exists=self._exists,
            is_draining=lambda: current.is_draining,
        )
        self.sandbox = Sandbox(settings.RELAY_SANDBOX)
        self.posts = CustomerPosts(
            current.admission, self.info, self.exchange, note=self.writer.note
        )

    def _tracer(self, market: Market) -> Tracer:
        current = self.current
        store = TraceStore(
            settings.REDIS_CACHE_URL,
            max_bytes=settings.RELAY_TRACE_MIB << 20,
            process=current.edge,
        )
        tracer = Tracer(store, process=current.edge, coin_of=market.coin_soon)
        tracer.follower = Follower(
            current.hub,
            catalogue=current.catalogue,
            changed=tracer.changed,
            ask=self._ask_info,
            has_node=self._has_node,
        )
        return tracer

    def _has_node(self) -> bool:
        return any(
            source.get("kind") == "node" for state in self._states() for source in state.values()
        )

    def _exchange_urls(self) -> list[str]:
        specs = self.upstreams().values()
        return list(dict.fromkeys(spec.exchange_url for spec in specs if spec.exchange_url))

    def _is_mainnet(self) -> bool:
        chains = {spec.chain for spec in self.upstreams().values() if spec.exchange_url}
        return chains != {"testnet"}

    def _budget_of(self, egress: Egress) -> ForActions:
        """The kernel's choice of an address is what `/info` asks from too, and so is its budget."""
        is_any = egress.address == ANY
        budget = SharedBudget(
            self.current.redis,
            limit=float(settings.RELAY_PUBLIC_WEIGHT if is_any else egress.per_minute),
            processes=self.current.admission.processes,
            key=PUBLIC_KEY if is_any else f"{PUBLIC_KEY}:{egress.address}",
            for_actions=FOR_ACTIONS,
        )
        return ForActions(budget)

    async def _ask_info(self, payload: dict[str, Any], tenant: str = "") -> bytes:
        """By default as nobody's request: what the relay itself has to know."""
        served = await self.router.answer(
            payload["type"], payload, tenant=tenant, weight=weight_of(payload)
        )
        return served.answer.body

    async def _exists(self, address: str, principal: Principal) -> bool:
        payload = {"type": "userRole", "user": address}
        answer = await self._ask_info(payload, principal.tenant_slug)
        return bool(orjson.loads(answer)["role"] != "missing")

    def _states(self) -> Iterable[Mapping[str, Any]]:
        return [worker["sources"] for worker in self.current.workers.values()]

    def jobs(self) -> Mapping[str, runtime.Job]:
        """What must be running, by name."""
        return {
            "upstreams": self.upstreams.run,
            "request_records": self.writer.run,
            "latencies": self.latencies.run,
            "connections": self._hold_connections,
            "exchange_traces": self._trace,
            "evm_nodes": self.evm.nodes.run,
            "evm_heads": self.heads.run,
        }

    async def _trace(self) -> None:
        # Beforehand and on a thread: it takes 0.1 s, which the first order would wait for.
        await asyncio.to_thread(_load_recovery)
        await self.tracer.run()

    async def _hold_connections(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.exchange.aclose()
            await self.tracer.aclose()
            await self.budgets.aclose()
            await self.nonces.aclose()
            await self.egress.aclose()
            await self.origins.close()
            await self.sandbox.close()


_doors: Doors | None = None


def current() -> Doors:
    """Those of the running process."""
    runtime.current()
    assert _doors is not None  # noqa: S101 - made with the runtime
    return _doors


async def _read_egress() -> list[Egress]:
    try:
        return await read_rows()
    finally:
        # Looked up over there: each thread has a connection of its own, and closes no other's.
        await sync_to_async(lambda: connection.close())()


def _load_recovery() -> None:
    import streaming.signing.recovery  # noqa: F401


def _recover(asked: Asked, on_mainnet: bool) -> str | None:
    from streaming.signing.recovery import Unrecoverable, recover_on
    from streaming.signing.typed_data import Network

    try:
        return recover_on(asked.envelope, Network.MAINNET if on_mainnet else Network.TESTNET)
    except Unrecoverable:
        return None


def _open(of: runtime.Runtime) -> CustomerPosts:
    global _doors
    REGISTRY.register(HubCollector(of))
    _doors = Doors(of)
    return _doors.posts


def _jobs(of: runtime.Runtime) -> Mapping[str, runtime.Job]:
    assert _doors is not None  # noqa: S101
    assert _doors.current is of  # noqa: S101
    return _doors.jobs()


async def _drain(of: runtime.Runtime) -> None:
    """Signed actions on their way have an answer, and are counted."""
    if _doors is not None:
        await _doors.exchange.drain()


def _upstreams() -> Upstreams:
    if selectors.are_upstreams_fixed():
        return Upstreams(fixed=services.configured(), rows=None)
    return Upstreams(fixed=None, rows=Rows(_read_rows, kept=settings.RELAY_VAR / KEPT))


def _read_rows() -> Specs:
    try:
        return services.configured()
    finally:
        connection.close()


def configure() -> None:
    """Say what this process's runtime is built from. Called once, before the first request."""
    runtime.configure(
        runtime.Config(
            bus_url=settings.REDIS_BUS_URL,
            admission=wiring.admission,
            meter=wiring.meter,
            posts=_open,
            jobs=_jobs,
            drain=_drain,
            fanout=native_fanout() if settings.RELAY_NATIVE_FANOUT else None,
            mute_s=settings.RELAY_MUTE_S,
        )
    )


edge = Edge(
    {
        "/info": InfoDoor(lambda: current().info),
        "/exchange": ExchangeDoor(lambda: current().exchange),
        "/evm": EvmDoor(lambda: current().evm),
    },
    note=lambda: current().writer.note,
    timed=lambda: current().latencies.note,
)

#: The same paths behind a segment of their own.
SANDBOX = "sandbox"
sandbox = Edge(
    {
        "/info": SandboxDoor(lambda: current().sandbox, real=Scope.INFO),
        "/exchange": SandboxDoor(lambda: current().sandbox, real=Scope.EXCHANGE),
    },
    note=lambda: current().writer.note,
    base=SANDBOX,
)
EDGES = (sandbox, edge)


def edge_of(path: str) -> Edge | None:
    """Who answers at an HTTP path, None for nobody here."""
    return next((one for one in EDGES if one.serves(path)), None)


def socket_of(path: str) -> Callable[[dict[str, Any], Any, Any], Awaitable[None]] | None:
    """Who takes a WebSocket at a path, but for `/<key>/ws`, None for nobody here."""
    rest = behind(path, SANDBOX)
    if rest is not None and split_path(rest)[1] == "/ws":
        return sandbox_socket
    return evm_socket if split_path(path)[1] == "/evm" else None


async def sandbox_socket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A WebSocket at `/sandbox/<key>/ws`."""
    doors = current()
    socket = SandboxSocket(doors.current, doors.sandbox, note=doors.writer.note)
    await socket({**scope, "path": behind(scope["path"], SANDBOX)}, receive, send)


async def evm_socket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A WebSocket at `/<key>/evm`."""
    doors = current()
    socket = EvmSocket(doors.current, doors.evm, doors.heads, note=doors.writer.note)
    await socket(scope, receive, send)
