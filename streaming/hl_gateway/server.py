"""The gateway: one node's files, followed into a ring that any number of workers read over gRPC."""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections import defaultdict
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import Counter

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.node_lines import parse_time_ns
from streaming.hl_gateway import metrics
from streaming.hl_gateway.config import CannotListen, GatewayConfig, Tls
from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.hl_gateway.ring import Ring
from streaming.hl_gateway.service import GatewayService
from streaming.hl_gateway.tail import NodeTail

log = structlog.get_logger(__name__)

#: `/metrics` is refreshed this often, and a new kind of fault logged.
LOOK_S = 1.0
STOP_S = 0.5
#: Two workers with one stream each, and room for an operator's tools.
MAX_CALLS = 64
#: A worker asks for 1 MiB of info request at most; everything else is smaller.
_OPTIONS = [
    # A second gateway on the same port must fail, not take every other connection.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 2 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    # A caller whose host is gone is let go.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
_BLOCK_TIME = re.compile(rb'"block_time": ?"([^"]{1,40})"')


class Gateway:
    """One process's tail, ring and server. Runs once."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._began_s = time.monotonic()
        self.ring = Ring(config.kinds, max_bytes=config.memory_bytes)
        # A restarted gateway reads as much as it holds, so that readers resume as if it had never
        # been away. Lines are a little smaller in a file than in the ring.
        back = {kind: ring.max_bytes for kind, ring in self.ring.kinds.items()}
        self._blocks = self.ring.kinds.get(FileKind.BLOCKS)
        if self._blocks is not None:
            self._blocks.fill()  # for seconds: nobody is kept waiting for the other kinds
        self._tail = NodeTail(config.data_dir, kinds=config.kinds, tail_back_bytes=back)
        self.service = GatewayService(
            self.ring,
            info_url=config.info_url,
            evm_url=config.evm_url,
            scratch=config.scratch,
            status=self.status,
            stalled_s=config.stalled_s,
        )
        self.port = 0
        """Where it listens, once `ready` is set."""
        self.ready = asyncio.Event()
        self._read_bytes: dict[FileKind, int] = defaultdict(int)
        self._lag_s: dict[FileKind, float] = {}
        self._shown: dict[str, int] = defaultdict(int)

    async def run(self) -> None:
        """Read what is there, then serve until cancelled.

        Raises:
            CannotListen: before anything is served.
        """
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        server.add_generic_rpc_handlers((self.service.handlers(),))
        checks = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        self.port = self._bind(server)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    self._tail.run(
                        self._take,
                        deliver_history=self._keep,
                        deliver_open=self.service.show_open,
                        on_blocks_live=self._on_blocks_live,
                    )
                )
                group.create_task(self._look())
                # Whoever came sooner would be told that nothing is held of what it missed.
                await self._tail.joined.wait()
                await server.start()
                await checks.set("", health_pb2.HealthCheckResponse.SERVING)
                log.info("gateway_listens", address=self._config.listen, port=self.port)
                self.ready.set()
        finally:
            await server.stop(STOP_S)
            await self.service.close()

    def _bind(self, server: grpc.aio.Server) -> int:
        try:
            if self._config.tls is None:
                return int(server.add_insecure_port(self._config.listen))
            return int(server.add_secure_port(self._config.listen, _credentials(self._config.tls)))
        except RuntimeError as error:
            raise CannotListen(f"cannot listen on {self._config.listen}: {error}") from error

    # --- blocks -----------------------------------------------------------------------------------

    def _keep(self, blocks: list[RawBlock]) -> None:
        self.ring.push(blocks)
        for block in blocks:
            self._read_bytes[block.kind] += sum(map(len, block.lines))

    def _take(self, blocks: list[RawBlock]) -> None:
        self.ring.push(blocks)
        if any(block.kind is FileKind.FILLS for block in blocks):
            self.service.show_open(None)
        self.service.wake()
        for block in blocks:
            self._read_bytes[block.kind] += sum(map(len, block.lines))
            self._lag_s[block.kind] = _lag_s(block, known=self._lag_s.get(block.kind, -1.0))

    def _on_blocks_live(self) -> None:
        if self._blocks is not None:
            self._blocks.filled()
            self.service.wake()

    # --- figures ----------------------------------------------------------------------------------

    def status(self) -> pb.StatusResponse:
        """How the files, the ring and the readers are doing."""
        states, now_ns = self._tail.state(), time.time_ns()
        kinds = []
        for kind, ring in self.ring.kinds.items():
            state, grew_ns = states[kind], states[kind].last_growth_ns
            kinds.append(
                pb.KindStatus(
                    kind=kind,
                    mode=state.mode or "",
                    height=ring.height,
                    seen_height=max(0, state.height or 0),
                    oldest=ring.oldest,
                    held_blocks=ring.end - ring.first,
                    held_bytes=ring.held_bytes,
                    max_bytes=ring.max_bytes,
                    silent_s=(now_ns - grew_ns) / 1e9 if grew_ns else -1.0,
                    lag_s=self._lag_s.get(kind, -1.0),
                    backlog_bytes=state.backlog_bytes,
                    read_bytes=self._read_bytes[kind],
                    faults=self._tail.faults_by_kind[kind],
                )
            )
        return pb.StatusResponse(
            kinds=kinds,
            clients=self.service.clients,
            clients_cut=self.service.cut,
            up_s=time.monotonic() - self._began_s,
            memory_bytes=_resident_bytes(),
        )

    async def _look(self) -> None:
        """Show the figures to `/metrics`, and log each kind of fault once."""
        while True:
            states = self._tail.state()
            for each in self.status().kinds:
                state = states[FileKind(each.kind)]
                metrics.HEIGHT.labels(each.kind).set(each.height)
                metrics.LAG.labels(each.kind).set(each.lag_s)
                metrics.SILENT.labels(each.kind).set(each.silent_s)
                metrics.BACKLOG_BYTES.labels(each.kind).set(each.backlog_bytes)
                metrics.FILE_BYTES.labels(each.kind).set(state.offset)
                metrics.RING_BYTES.labels(each.kind).set(each.held_bytes)
                metrics.RING_OLDEST.labels(each.kind).set(each.oldest)
                self._count(metrics.READ_BYTES.labels(each.kind), each.kind, each.read_bytes)
                for reason, count in each.faults.items():
                    counter = metrics.FAULTS.labels(each.kind, reason)
                    self._count(counter, f"{each.kind} {reason}", count)
            for fault in self._tail.drain_faults():
                log.warning(
                    "node_file_fault",
                    reason=str(fault.reason),
                    file_kind=str(fault.kind),
                    sample=fault.sample.decode("utf-8", "replace"),
                )
            await asyncio.sleep(LOOK_S)

    def _count(self, counter: Counter, name: str, total: int) -> None:
        """Bring a counter of `/metrics` up to a total counted elsewhere."""
        counter.inc(total - self._shown[name])
        self._shown[name] = total


def _lag_s(block: RawBlock, *, known: float) -> float:
    match = _BLOCK_TIME.search(block.lines[0], 0, 200)
    if match is None:
        return known
    try:
        return (block.read_ns - parse_time_ns(match[1].decode("ascii", "replace"))) / 1e9
    except (ValueError, OverflowError):
        return known


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:  # not Linux: the peak, then
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


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
