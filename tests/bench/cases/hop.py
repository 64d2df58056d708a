"""How long a block takes from the node's file to a customer's socket."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.bench.cases.contract import OPEN_S, Bench
from tests.bench.machine import ROOT
from tests.bench.processes import Child, Failed
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Running, Stage, Subject
from tests.bench.subjects.others import Bare
from tests.bench.subjects.relay import Relay

#: Mainnet makes 14 blocks a second; 50 shows what is left.
OFFERED = (14, 50)
#: Three steps long, so that at 14 blocks/s there are enough blocks for a 99th percentile.
STEPS = 3
#: Worker and edge have to start, and the books wait for their checkpoint.
BOOKS_READY_S = 30.0


class Hop:
    """Diffs line written → `l2Book` frame read by one of `clients`; worker and edge share one core,
    the node's writer, its HL Gateway where there is one, and the clients the other."""

    subjects: tuple[str, ...] = ("relay", "bare")

    def __init__(self, *, has_gateway: bool = False, clients: int = 1) -> None:
        self.name = "gateway-hop" if has_gateway else "hop" if clients == 1 else f"hop-{clients}"
        self._clients = clients
        self._has_gateway = has_gateway

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Median and 99th percentile at each block rate."""
        assert isinstance(subject, Relay | Bare)
        for offered in OFFERED:
            with bench.stage() as stage:
                latencies_ms = sorted(self._latencies(bench, subject, stage=stage, offered=offered))
            for metric, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
                value = latencies_ms[int(share * len(latencies_ms))]
                yield Measurement(
                    self.name, subject.name, metric, value, "ms", offered, self._clients
                )

    def _latencies(
        self, bench: Bench, relay: Relay | Bare, *, stage: Stage, offered: int
    ) -> list[float]:
        folder = stage.temporary / f"node-{offered}"
        writer = start_writer(stage, folder, offered=offered)
        info_port = writer.line(timeout_s=15)
        running = relay.start(stage)
        info = f"http://127.0.0.1:{info_port}"
        upstreams = f"node://{folder}?info={info}"
        if self._has_gateway:
            upstreams = f"gateway://{relay.start_gateway(stage, data=folder, info=info)}"
        worker = relay.start_worker(stage, upstreams=upstreams)
        wait_for_books(bench, stage, running, worker=worker)
        if self._clients > 1:
            # They read, so that they are a load and no slow customers.
            options = ["--connections", str(self._clients - 1)]
            others = bench.load.start("idle", stage=stage, running=running, options=options)
            others.line(timeout_s=OPEN_S)
        client = bench.load.start("trace", stage=stage, running=running)
        client.line(timeout_s=OPEN_S)
        from_ns = time.monotonic_ns() + int(bench.warmup_s * 1e9)
        time.sleep(bench.warmup_s + bench.seconds * STEPS)
        frames = client.rest(timeout_s=10)
        stamps = {int(ms): ns for ms, ns in json.loads(writer.rest(timeout_s=10)[-1]).items()}
        latencies_ms = list(joined(frames, stamps, from_ns=from_ns))
        blocks = sum(
            1 for ns in stamps.values() if from_ns <= ns < from_ns + bench.seconds * STEPS * 1e9
        )
        if len(latencies_ms) < 0.9 * blocks:
            raise Failed(f"{offered} blocks/s: {len(latencies_ms)} frames for {blocks} blocks")
        return latencies_ms


def joined(lines: Iterable[str], stamps: Mapping[int, int], *, from_ns: int) -> Iterator[float]:
    """Latency in ms of each `l2Book` frame of a block written at or after `from_ns`.

    `lines` are the load client's `<read, monotonic ns> <frame>`, `stamps` the writer's block time
    in ms → write in monotonic ns.
    """
    for line in lines:
        read_ns, _, text = line.partition(" ")
        if not text.startswith('{"channel":"l2Book"'):
            continue
        written_ns = stamps.get(json.loads(text)["data"]["time"])
        if written_ns is not None and written_ns >= from_ns:
            yield (int(read_ns) - written_ns) / 1e6


def start_writer(stage: Stage, folder: Path, *, offered: int, coins: int = 1) -> Child:
    """Writes a node's files; its first line is the port of its `/info`."""
    argv = [sys.executable, "-m", "tests.bench.node_writer", str(folder), "--rate", str(offered)]
    argv += ["--coins", str(coins)]
    return stage.family.start(argv, name="node-writer", core=stage.cores.load, cwd=ROOT)


def wait_for_books(bench: Bench, stage: Stage, running: Running, *, worker: Child) -> None:
    """Return once a customer gets book frames. Raises Failed when none come in time."""
    deadline_s = time.monotonic() + BOOKS_READY_S
    while time.monotonic() < deadline_s:
        if worker.process.poll() is not None:
            raise worker.fail(f"ended with status {worker.process.returncode}")
        client = bench.load.start("trace", stage=stage, running=running)
        client.line(timeout_s=OPEN_S)
        time.sleep(0.3)
        if any('{"channel":"l2Book"' in line for line in client.rest(timeout_s=10)):
            return
    raise worker.fail(f"no book frame within {BOOKS_READY_S:.0f} s")
