"""How much faster than the chain one worker takes its blocks in."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

from tests.bench.cases.contract import Bench
from tests.bench.machine import ROOT
from tests.bench.report import Measurement
from tests.bench.subjects.contract import NotHere, Subject

#: Metric → unit. The number of followed topics stands in the column of clients.
UNITS = {
    "x_realtime": "x",
    "frames_per_block": "1",
    "gc_pause_ms": "ms",
    "cold_start_s": "s",
    "rss_mib": "MiB",
}
COINS = 200
PATIENCE_S = 120.0


class Worker:
    """Real BTC blocks with all their statuses, then made blocks of 200 coins; no sockets."""

    name = "worker"
    subjects: tuple[str, ...] = ("relay",)

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Block time worked through per second, and what it took."""
        yield from self._of(bench, subject, ["made", str(COINS)])
        folder = os.environ.get("RELAY_TEST_DATA", "")
        if not folder:
            raise NotHere("RELAY_TEST_DATA names no recorded blocks")
        yield from self._of(bench, subject, ["recorded", f"{folder}/node"])

    def _of(self, bench: Bench, subject: Subject, what: list[str]) -> Iterator[Measurement]:
        argv = [sys.executable, "-m", "tests.bench.market_run", *what]
        argv += ["--seconds", str(bench.seconds)]
        with bench.stage() as stage:
            child = stage.family.start(
                argv, name=f"worker-{what[0]}", core=stage.cores.server, cwd=ROOT
            )
            result = json.loads(child.line(timeout_s=PATIENCE_S))
        for metric, unit in UNITS.items():
            rate, topics = round(result["block_rate"]), round(result["topics"])
            yield Measurement(self.name, subject.name, metric, result[metric], unit, rate, topics)
