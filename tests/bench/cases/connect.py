"""How many customers can come in a second: handshake, subscribe, acknowledgement, close."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import load
from tests.bench.cases.contract import Bench
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Subject

#: Handshakes in progress at any time.
CONCURRENCY = 16


class Connect:
    """The relay authenticates each connection by its key; the textbook server lets everybody in."""

    name = "connect"
    subjects: tuple[str, ...] = ("relay", "channels")

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Connections per second, and the time of each from `connect()` to acknowledgement."""
        with bench.stage() as stage:
            running = subject.start(stage)
            timing = ["--seconds", str(bench.seconds), "--warmup", str(bench.warmup_s)]
            options = [*timing, "--concurrency", str(CONCURRENCY)]
            client = bench.load.start("connect", stage=stage, running=running, options=options)
            client.line(timeout_s=10)
            line = client.line(timeout_s=bench.seconds + bench.warmup_s + 10)
        result = load.result_of(line)
        for metric, value, unit in (
            ("per_s", result.per_s, "1/s"),
            ("p50_ms", result.p50_ms, "ms"),
            ("p99_ms", result.p99_ms, "ms"),
        ):
            yield Measurement(self.name, subject.name, metric, value, unit, None, CONCURRENCY)
