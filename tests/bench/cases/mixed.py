"""Many customers of many topics: what a delivery costs when no two batches are alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from tests.bench import load, machine, payload
from tests.bench.cases.contract import OPEN_S, Bench
from tests.bench.cases.fanout import GRACE_S, last_line, start_publisher
from tests.bench.cases.idle import MANY_TOPICS
from tests.bench.publisher import COINS
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Running, Stage, Subject

CLIENTS, EACH = 500, 20
#: Blocks a second: mainnet's, and what makes 600,000 and 800,000 deliveries.
OFFERED = (15, 60, 80)


class Mixed:
    """500 customers, each of 20 of 300 topics, a block in one bus message; in both dialects."""

    name = "mixed"
    subjects: tuple[str, ...] = ("relay", "relay-python")

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Deliveries per second, latency, and the core's time for each delivery."""
        for dialect, query in (("", ""), ("relay_", "?relay=1")):
            for offered in OFFERED:
                with bench.stage() as stage:
                    running = subject.start(stage)
                    running = replace(running, path=running.path + query)
                    values = self._at(bench, stage, running, offered=offered)
                for metric, value, unit in values:
                    yield Measurement(
                        self.name, subject.name, dialect + metric, value, unit, offered, CLIENTS
                    )

    def _at(
        self, bench: Bench, stage: Stage, running: Running, *, offered: int
    ) -> list[tuple[str, float, str]]:
        options = ["--seconds", str(bench.seconds), "--warmup", str(bench.warmup_s)]
        options += ["--connections", str(CLIENTS), "--topics", str(COINS), "--each", str(EACH)]
        client = bench.load.start(
            "fanout",
            stage=stage,
            running=running,
            options=[*options, "--grace", str(GRACE_S)],
            say=MANY_TOPICS,
        )
        client.line(timeout_s=OPEN_S)
        messages = round(offered * (bench.warmup_s + bench.seconds + 0.2))
        used_s, began_s = machine.cpu_s(running.pid), time.monotonic()
        publisher = start_publisher(
            stage, form="market", size=payload.LARGE, offered=offered, messages=messages
        )
        result = load.result_of(last_line(bench, client, publisher))
        used_s = machine.cpu_s(running.pid) - used_s
        where = f"mixed at {offered} blocks/s"
        whole = messages * CLIENTS * EACH
        if result.total_frames < whole:
            bench.report.remark(
                f"{where}: {result.total_frames:,} of {whole:,} frames came, the rest were replaced"
                f" by newer ones; core {used_s / (time.monotonic() - began_s):.0%} busy"
            )
        return [
            ("deliveries_per_s", result.per_s, "1/s"),
            ("p50_ms", result.p50_ms, "ms"),
            ("p99_ms", result.p99_ms, "ms"),
            ("us_per_delivery", used_s / result.total_frames * 1e6, "µs"),
        ]
