"""The gRPC door: how many messages a second reach 50 streams, one by one and several a response;
and whether a book is there sooner than over the WebSocket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

import msgspec

from tests.bench import build, machine, payload, report
from tests.bench.cases.contract import OPEN_S, Bench
from tests.bench.cases.fanout import GRACE_S, OVERHANG_S, SERVER_FULL, last_line, start_publisher
from tests.bench.cases.hop import joined, start_writer, wait_for_books
from tests.bench.processes import Child, Failed
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Running, Stage, Subject
from tests.bench.subjects.grpc_servers import REQUEST, RelayGrpc

CLIENTS = 50
#: Messages a second. Of the first 20,000 come one by one; the second are more than grpc.aio writes
#: so, and share responses where they can.
OFFERED = (400, 1_500)
#: Blocks a second: mainnet's, and some more.
BLOCKS = (14, 50)
#: In this order, so that what the machine does beside it concerns both.
TURNS = ("ws", "grpc", "grpc", "ws")


class Result(msgspec.Struct, frozen=True):
    """The load client's last line."""

    connections: int
    frames: int
    per_s: float
    responses_per_s: float
    bytes_per_s: float
    total_frames: int
    unstamped: int
    disordered: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float


def start_client(
    mode: str, *, stage: Stage, running: Running, options: Sequence[str] = ()
) -> Child:
    """Start `grpc_load` on the load core; it prints `ready` once all its calls are open.

    Raises Failed where it cannot be compiled."""
    try:
        program = build.compiled(build.GRPC_LOAD_CLIENT, stage.folder)
    except (build.NoCompiler, build.DoesNotCompile) as error:
        raise Failed(str(error)) from None
    argv = [str(program), mode, "--port", str(running.port), "--path", running.path]
    argv += ["--message", REQUEST.hex(), "--acks", str(int(running.has_acks))]
    for header in running.headers:
        argv += ["--header", header]
    return stage.family.start([*argv, *options], name=f"grpc-load-{mode}", core=stage.cores.load)


class GrpcFanout:
    """Publisher → Redis → server → 50 streams; a fresh server for each rate."""

    name = "grpc"
    subjects: tuple[str, ...] = ("relay-grpc", "grpc-bare", "grpc-joined")

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Messages and responses a second, what a whole core would do of them, and latency."""
        for offered in OFFERED:
            with bench.stage() as stage:
                result, busy = self._at(bench, subject, stage=stage, offered=offered)
            for metric, value, unit in (
                ("deliveries_per_s", result.per_s, "1/s"),
                ("responses_per_s", result.responses_per_s, "1/s"),
                ("deliveries_per_core_s", result.per_s / busy, "1/s"),
                ("p50_ms", result.p50_ms, "ms"),
                ("p99_ms", result.p99_ms, "ms"),
            ):
                yield Measurement(self.name, subject.name, metric, value, unit, offered, CLIENTS)

    def _at(
        self, bench: Bench, subject: Subject, *, stage: Stage, offered: int
    ) -> tuple[Result, float]:
        running = subject.start(stage)
        messages = round(offered * (bench.warmup_s + bench.seconds + OVERHANG_S))
        options = ["--connections", str(CLIENTS), "--expect", str(messages * CLIENTS)]
        options += ["--seconds", str(bench.seconds), "--warmup", str(bench.warmup_s)]
        options += ["--grace", str(GRACE_S)]
        client = start_client("fanout", stage=stage, running=running, options=options)
        client.line(timeout_s=OPEN_S)
        publisher = start_publisher(
            stage, form=running.form, size=payload.LARGE, offered=offered, messages=messages
        )
        # The share of the core is of the window, as far as one can tell from outside.
        time.sleep(bench.warmup_s)
        began_s, used_s = time.monotonic(), machine.cpu_s(running.pid)
        time.sleep(bench.seconds)
        busy = (machine.cpu_s(running.pid) - used_s) / (time.monotonic() - began_s)
        result = msgspec.json.decode(last_line(bench, client, publisher), type=Result)
        publisher.process.terminate()
        published = json.loads(publisher.line(timeout_s=5))
        where = f"{subject.name} at {offered:,}/s"
        if result.disordered:
            raise Failed(f"{where}: {result.disordered} messages out of order")
        keeps_up = result.per_s >= report.KEEPS_UP * offered * CLIENTS
        whole = published["published"] * CLIENTS
        if keeps_up and result.total_frames != whole:
            bench.report.remark(f"{where}: {result.total_frames:,} of {whole:,} messages arrived")
        if not keeps_up and busy < SERVER_FULL:
            bench.report.remark(
                f"{where}: its core was {busy:.0%} busy; something else was the limit"
            )
        return result, busy


class GrpcHop:
    """Diffs line written → `l2Book` read by one client, at a WebSocket and at a gRPC stream by
    turns; the worker and the edge whose turn it is share one core."""

    name = "grpc-hop"
    subjects: tuple[str, ...] = ("relay-grpc",)

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Median and 99th percentile of both doors at each block rate."""
        assert isinstance(subject, RelayGrpc)
        for offered in BLOCKS:
            with bench.stage() as stage:
                latencies_ms = self._at(bench, subject, stage=stage, offered=offered)
            for metric, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
                for door, found in latencies_ms.items():
                    value = sorted(found)[int(share * len(found))]
                    name = f"{door}_{metric}"
                    yield Measurement(self.name, subject.name, name, value, "ms", offered, 1)

    def _at(
        self, bench: Bench, relay: RelayGrpc, *, stage: Stage, offered: int
    ) -> dict[str, list[float]]:
        folder = stage.temporary / f"grpc-node-{offered}"
        writer = start_writer(stage, folder, offered=offered)
        info_port = writer.line(timeout_s=15)
        upstreams = f"node://{folder}?info=http://127.0.0.1:{info_port}"
        worker: Child | None = None
        windows: list[tuple[str, int, list[str]]] = []
        for door in TURNS:
            running, edge = relay.start_door(stage, door)
            if worker is None:
                worker = relay.start_worker(stage, upstreams=upstreams)
                wait_for_books(bench, stage, running, worker=worker)
            if door == "ws":
                client = bench.load.start("trace", stage=stage, running=running)
            else:
                client = start_client("trace", stage=stage, running=running)
            client.line(timeout_s=OPEN_S)
            time.sleep(bench.warmup_s)
            from_ns = time.monotonic_ns()
            time.sleep(bench.seconds)
            windows.append((door, from_ns, client.rest(timeout_s=10)))
            edge.stop()
        stamps = {int(ms): ns for ms, ns in json.loads(writer.rest(timeout_s=10)[-1]).items()}
        found: dict[str, list[float]] = {door: [] for door in dict.fromkeys(TURNS)}
        for door, from_ns, lines in windows:
            found[door] += joined(lines, stamps, from_ns=from_ns)
        least = 0.9 * offered * bench.seconds * len(TURNS) / len(found)
        for door, latencies_ms in found.items():
            if len(latencies_ms) < least:
                raise Failed(f"{door} at {offered} blocks/s: {len(latencies_ms)} frames came")
        return found
