"""What answers at the paths that customers' clients join to their base URL, in every process that
serves them, under whatever server. Imported after Django's apps are loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import connection
from prometheus_client import REGISTRY

from gateway.evm.door import EvmDoor
from gateway.evm.heads import Heads
from gateway.evm.nodes import Nodes
from gateway.evm.service import Evm
from gateway.evm.socket import EvmSocket
from gateway.http.edge import Edge
from gateway.http.info import Info, InfoDoor
from gateway.http.origins import Origins
from gateway.http.router import Router
from gateway.http.shared_budget import SharedBudget
from gateway.requests.writer import Writer
from gateway.upstreams.specs import Upstreams
from relay_site import wiring
from streaming import runtime
from streaming.nodes import selectors, services
from streaming.nodes.follow import Rows, Specs
from streaming.ws.metrics import HubCollector

#: What the rows named last, for a start without the database; the workers' own is beside it.
KEPT = "edge-upstreams.json"


class Doors:
    """One running process's: its upstreams, and what asks them."""

    def __init__(self, current: runtime.Runtime) -> None:
        self.current = current
        self.upstreams = _upstreams()
        self.writer = Writer()
        pot = SharedBudget(
            current.redis,
            limit=float(settings.RELAY_PUBLIC_WEIGHT),
            processes=current.admission.processes,
        )
        self.origins = Origins(self.upstreams, states=self._states, pot=pot)
        self.info = Info(current, Router(current, self.origins))
        evm_pot = SharedBudget(
            current.redis,
            limit=float(settings.RELAY_PUBLIC_EVM_REQUESTS),
            processes=current.admission.processes,
            key="relay:public-budget:evm",
        )
        self.evm = Evm(current, Nodes(self.upstreams, pot=evm_pot))
        self.heads = Heads(self.evm)

    def _states(self) -> Iterable[Mapping[str, Any]]:
        return [worker["sources"] for worker in self.current.workers.values()]

    def jobs(self) -> Mapping[str, runtime.Job]:
        """What must be running, by name."""
        return {
            "upstreams": self.upstreams.run,
            "request_records": self.writer.run,
            "connections": self._hold_connections,
            "evm_nodes": self.evm.nodes.run,
            "evm_heads": self.heads.run,
        }

    async def _hold_connections(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.origins.close()


_doors: Doors | None = None


def current() -> Doors:
    """Those of the running process."""
    runtime.current()
    assert _doors is not None  # noqa: S101 - made with the runtime
    return _doors


def _open(of: runtime.Runtime) -> Info:
    global _doors
    REGISTRY.register(HubCollector(of))
    _doors = Doors(of)
    return _doors.info


def _jobs(of: runtime.Runtime) -> Mapping[str, runtime.Job]:
    assert _doors is not None  # noqa: S101
    assert _doors.current is of  # noqa: S101
    return _doors.jobs()


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
            mute_s=settings.RELAY_MUTE_S,
        )
    )


edge = Edge(
    {"/info": InfoDoor(lambda: current().info), "/evm": EvmDoor(lambda: current().evm)},
    note=lambda: current().writer.note,
)


async def evm_socket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A WebSocket at `/<key>/evm`."""
    doors = current()
    socket = EvmSocket(doors.current, doors.evm, doors.heads, note=doors.writer.note)
    await socket(scope, receive, send)
