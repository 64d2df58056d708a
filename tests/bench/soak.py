"""`make soak MINUTES=30`: whether an edge grows while customers come and go.

200 customers read 500 frames a second, five others a second come, subscribe and leave. Memory and
file descriptors of the edge are sampled, and a line is fitted to each after the first fifth of the
time; its slope is told with the 95 % interval. Every sample is a line of `var/soak.jsonl`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import redis
from websockets.sync.client import connect

from tests.bench import build, machine, payload, private_redis
from tests.bench.cases.contract import OPEN_S
from tests.bench.cases.fanout import start_publisher
from tests.bench.load import LoadClient
from tests.bench.processes import Family, interrupts_as_exceptions
from tests.bench.subjects.contract import SUBSCRIBE, Running, Stage
from tests.bench.subjects.relay import Relay

FOLDER = machine.ROOT / "var" / "bench"
RECORD = machine.ROOT / "var" / "soak.jsonl"
CUSTOMERS, OFFERED, CHURN_PER_S = 200, 500, 5.0
SAMPLE_S = 2.0
#: Until caches are full and the allocator has its arenas.
WARMUP_SHARE = 0.2
#: The promise. A slope whose whole interval is above it fails.
MAX_BYTES_PER_HOUR = 1_000_000.0
MAX_FDS_PER_HOUR = 10.0


class Sample(NamedTuple):
    """One look at the edge."""

    at_s: float
    rss_bytes: int
    fds: int


class Slope(NamedTuple):
    """Per hour, and half the width of its 95 % interval."""

    per_hour: float
    margin: float


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Least squares through (seconds, value).

    Samples of memory follow each other and are not independent, which makes a plain interval too
    narrow: it is widened by the residuals' correlation at lag one. Raises ValueError for fewer than
    ten points.
    """
    if len(points) < 10:
        raise ValueError(f"{len(points)} samples are too few for a slope")
    xs, ys = zip(*points, strict=True)
    line = statistics.linear_regression(xs, ys)
    residuals = [y - line.slope * x - line.intercept for x, y in points]
    squares = sum(r * r for r in residuals)
    spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
    error = math.sqrt(squares / (len(points) - 2) / spread)
    if squares > 0:
        lagged = sum(a * b for a, b in itertools.pairwise(residuals)) / squares
        lagged = min(max(lagged, 0.0), 0.99)
        error *= math.sqrt((1 + lagged) / (1 - lagged))
    return Slope(line.slope * 3600, 1.96 * error * 3600)


def main() -> int:
    """Run for the minutes asked for; 1 when the edge grows."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    if not 0.5 <= options.minutes <= 1_440:
        parser.error("--minutes: from 0.5 to 1440")
    FOLDER.mkdir(parents=True, exist_ok=True)
    machine.allow_many_files()
    cores = machine.cores()
    program = build.compiled(build.LOAD_CLIENT, FOLDER)
    with (
        interrupts_as_exceptions(),
        tempfile.TemporaryDirectory(prefix="relay-soak-") as temporary,
        Family(FOLDER) as family,
    ):
        port = private_redis.start(family, core=cores.load, folder=Path(temporary))
        stage = Stage(
            family=family, redis_port=port, cores=cores, folder=FOLDER, temporary=Path(temporary)
        )
        samples, churned = _run(stage, LoadClient(program), seconds=options.minutes * 60)
    return _judge(samples, churned)


def _run(stage: Stage, load: LoadClient, *, seconds: float) -> tuple[list[Sample], int]:
    running = Relay().start(stage)
    options = ["--connections", str(CUSTOMERS)]
    readers = load.start("idle", stage=stage, running=running, options=options)
    readers.line(timeout_s=OPEN_S)
    publisher = start_publisher(
        stage,
        form=running.form,
        size=payload.LARGE,
        offered=OFFERED,
        messages=round(OFFERED * (seconds + 5)),
    )
    samples: list[Sample] = []
    with _churn(running) as churn, RECORD.open("w") as record:
        begun_s = time.monotonic()
        while (at_s := time.monotonic() - begun_s) < seconds:
            for child in (readers, publisher):
                if child.process.poll() is not None:
                    raise child.fail("ended early")
            fds = len(os.listdir(f"/proc/{running.pid}/fd"))
            sample = Sample(round(at_s, 2), machine.rss_bytes(running.pid), fds)
            samples.append(sample)
            record.write(json.dumps(sample._asdict()) + "\n")
            if len(samples) % 30 == 1:
                print(
                    f"  {at_s / 60:5.1f} min  {sample.rss_bytes / 1e6:7.1f} MB  {fds} files"
                    f"  {churn.count:,} came and left",
                    flush=True,
                )
            time.sleep(SAMPLE_S)
    with redis.Redis(port=stage.redis_port) as client:
        print(f"  Redis: {client.info('memory')['used_memory'] / 1e6:.1f} MB")
    return samples, churn.count


class _Churn:
    """How many have come and left."""

    count = 0


@contextlib.contextmanager
def _churn(running: Running) -> Iterator[_Churn]:
    churn, ended = _Churn(), threading.Event()
    url = f"ws://127.0.0.1:{running.port}{running.path}"

    def come_and_go() -> None:
        while not ended.wait(1 / CHURN_PER_S):
            with connect(url, compression=None) as customer:
                customer.send(SUBSCRIBE)
                customer.recv(10)
            churn.count += 1

    thread = threading.Thread(target=come_and_go, daemon=True)
    thread.start()
    try:
        yield churn
    finally:
        ended.set()
        thread.join(10)


def _judge(samples: Sequence[Sample], churned: int) -> int:
    warm = [s for s in samples if s.at_s >= samples[-1].at_s * WARMUP_SHARE]
    memory = slope([(s.at_s, s.rss_bytes) for s in warm])
    files = slope([(s.at_s, s.fds) for s in warm])
    print(f"{len(warm)} samples, {churned:,} customers came and left")
    print(f"memory {memory.per_hour / 1e6:+.2f} ± {memory.margin / 1e6:.2f} MB an hour")
    print(f"files  {files.per_hour:+.1f} ± {files.margin:.1f} an hour")
    grows = memory.per_hour - memory.margin > MAX_BYTES_PER_HOUR
    leaks = files.per_hour - files.margin > MAX_FDS_PER_HOUR
    print("FAILED: it grows" if grows or leaks else "it does not grow, as far as this run can tell")
    return 1 if grows or leaks else 0


if __name__ == "__main__":
    sys.exit(main())
