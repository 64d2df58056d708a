"""The process's gRPC server: who serves what, TLS, health, reflection, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.grpc import dwellir, handlers, native, quicknode
from gateway.grpc.config import CannotListen, GrpcConfig, Tls
from gateway.grpc.door import Door
from gateway.grpc.requests import read
from gateway.grpc.statuses import CallEnds, abort, of_denied
from streaming import runtime
from streaming.ws.close_codes import MAX_INBOUND_FRAME_BYTES
from tenants.admission.errors import Denied

log = structlog.get_logger(__name__)

#: Of all customers; beyond it calls are refused at once (RESOURCE_EXHAUSTED).
MAX_CALLS = 20_000
#: How long beyond its drain the server waits for calls whose client takes nothing.
STOP_S = 1.5
HEALTH_S = 0.5
REFLECTION_S = 60.0
OPTIONS = [
    # A second server on the same port must fail, not take every other connection.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_INBOUND_FRAME_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 256),
    # A customer whose host is gone is let go; one who pings more often than this is, too.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 5),
    ("grpc.max_connection_idle_ms", 300_000),
]
REFLECTION = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
SERVICES = (
    native.SERVICE,
    dwellir.V1,
    dwellir.V2,
    quicknode.STREAMING,
    quicknode.BLOCKS,
    quicknode.BOOKS,
)
#: Methods that others have under these names, and why they are not here.
_NO_TRIGGERS = (
    "Trigger orders that wait stand in no book, and this relay keeps no list of all of them, so it"
    " is not served; StreamData with type ORDERS has their statuses."
)
_ALL_MARKETS = "Books of all markets in one message are not served; l2Book and l4Book streams are."
_NO_TEXT = "What it carries is not documented, so it is not served; StreamBlockFills is."
NOT_SERVED = {
    f"/{quicknode.BOOKS}/StreamTpslUpdates": _NO_TRIGGERS,
    f"/{dwellir.V1}/GetOrderBookSnapshot": _ALL_MARKETS,
    f"/{dwellir.V1}/StreamOrderBookSnapshots": _ALL_MARKETS,
    f"/{dwellir.V1}/StreamBlockTrades": _NO_TEXT,
    f"/{dwellir.V2}/StreamOrderbookSnapshots": _ALL_MARKETS,
    f"/{dwellir.V2}/GetOrderBookSnapshot": _ALL_MARKETS,
}


class NotServed(grpc.GenericRpcHandler):
    """Says why. What nobody has heard of is answered by gRPC itself."""

    def service(self, handler_call_details: Any) -> Any:
        """A method that ends at once, or None."""
        line = NOT_SERVED.get(handler_call_details.method)
        if line is None:
            return None

        async def refuse(_: Any, context: Any) -> None:
            await abort(context, CallEnds(grpc.StatusCode.UNIMPLEMENTED, line, code="not_served"))

        return handlers.bidi(refuse)


class Reflection:
    """What the services are, told to whoever has a key."""

    def __init__(self, door: Door) -> None:
        self._door = door
        names = (*SERVICES, health.SERVICE_NAME, *REFLECTION)
        pool = descriptor_pool.Default()
        self._servicer = reflection.aio.ReflectionServicer(names, pool=pool)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Under both of its names, which differ in nothing else."""
        method = grpc.stream_stream_rpc_method_handler(self._info)
        methods = {"ServerReflectionInfo": method}
        return [grpc.method_handlers_generic_handler(name, methods) for name in REFLECTION]

    async def _info(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        async def asked() -> AsyncIterator[Any]:
            async for data in requests:
                yield read(reflection_pb2.ServerReflectionRequest, data)

        try:
            await self._door.admit(context, "reflection")
            async with asyncio.timeout(REFLECTION_S):
                async for response in self._servicer.ServerReflectionInfo(asked(), context):
                    yield response.SerializeToString()
        except Denied as denied:
            await abort(context, of_denied(denied))
        except CallEnds as ends:
            await abort(context, ends)
        except TimeoutError:
            line = f"Reflection answers for {REFLECTION_S:g} s a call."
            await abort(context, CallEnds(grpc.StatusCode.DEADLINE_EXCEEDED, line))


class GrpcServer:
    """One process's server. `run` ends when `stop` is called and customers are gone."""

    def __init__(self, config: GrpcConfig) -> None:
        self._config = config
        self._stopping = asyncio.Event()
        self.port = 0

    def stop(self) -> None:
        """Let customers go, and end."""
        self._stopping.set()

    async def run(self, *, say: Callable[[str], object]) -> None:
        """Serve. `say` gets one line once it listens. Raises CannotListen before."""
        current = runtime.current()
        door = Door(current, trusted=self._config.trusted_proxies)
        server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        server.add_generic_rpc_handlers(
            (
                native.RelayService(door).handler(),
                *dwellir.DwellirService(door).handlers(),
                *quicknode.QuickNodeService(door).handlers(),
                *Reflection(door).handlers(),
                NotServed(),
            )
        )
        checks = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        self.port = self._bind(server)
        await server.start()
        guard = "in the clear" if self._config.tls is None else "with TLS"
        say(f"gRPC listens on {self._config.host}:{self.port}, {guard}")
        health_task = asyncio.ensure_future(_tell_health(checks, current))
        try:
            await self._stopping.wait()
        finally:
            health_task.cancel()
            await checks.enter_graceful_shutdown()
            # Clients are told at once to open no more calls here; those there are end by turns.
            stopped = asyncio.ensure_future(server.stop(self._config.drain_s + STOP_S))
            await runtime.drain(self._config.drain_s)
            await stopped
            await runtime.stop()

    def _bind(self, server: grpc.aio.Server) -> int:
        host = self._config.host
        where = f"[{host}]" if ":" in host and not host.startswith("[") else host
        address = f"{where}:{self._config.port}"
        try:
            if self._config.tls is None:
                return int(server.add_insecure_port(address))
            return int(server.add_secure_port(address, _credentials(self._config.tls)))
        except RuntimeError as error:
            raise CannotListen(f"cannot listen on {address}: {error}") from error


async def _tell_health(checks: Any, current: runtime.Runtime) -> None:
    """What `/readyz` says, as gRPC says it: serving means that what is served is fresh."""
    status = health_pb2.HealthCheckResponse
    told = None
    while True:
        now = status.SERVING if current.staleness() is None else status.NOT_SERVING
        if now != told:
            for name in ("", *SERVICES):
                await checks.set(name, now)
            told = now
        await asyncio.sleep(HEALTH_S)


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Raises CannotListen."""
    try:
        pair = (tls.key.read_bytes(), tls.cert.read_bytes())
        ca = tls.client_ca.read_bytes() if tls.client_ca else None
    except OSError as error:
        raise CannotListen(f"TLS file {error.filename}: {error.strerror}") from error
    return grpc.ssl_server_credentials(
        [pair], root_certificates=ca, require_client_auth=ca is not None
    )
