"""What customers do to each other: who is first, who stalls, and who comes back all at once."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench import load, payload
from tests.bench.cases.contract import OPEN_S, Bench
from tests.bench.cases.fanout import GRACE_S, last_line, start_publisher
from tests.bench.processes import Child
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Running, Stage, Subject

#: Frames a second of 1.6 KB: mainnet makes 14 blocks.
OFFERED = 15
CROWD = (200, 1_000)
#: Of the steady crowd while others stall or come.
STEADY = 200
STORM = 2_000
#: The storm needs time to be over before the steady customers' measurement is.
STORM_S = 8.0


class Crowd:
    """Steady customers of one book at mainnet's rate, alone and in bad company."""

    name = "crowd"
    subjects: tuple[str, ...] = ("relay",)

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Spread of one frame over all; then p99 beside customers who stall, and in a storm."""
        for clients in CROWD:
            with bench.stage() as stage:
                running = subject.start(stage)
                result = Steady(bench, stage, running, clients=clients).wait()
            yield self._of(subject, "spread_p99_ms", result.spread_p99_ms, clients)
            yield self._of(subject, "p99_ms", result.p99_ms, clients)
        with bench.stage() as stage:
            running = subject.start(stage)
            options = ["--connections", str(STEADY // 10)]
            stalled = bench.load.start("stall", stage=stage, running=running, options=options)
            stalled.line(timeout_s=OPEN_S)
            result = Steady(bench, stage, running, clients=STEADY).wait()
        yield self._of(subject, "p99_ms_beside_stalled", result.p99_ms, STEADY)
        with bench.stage() as stage:
            running = subject.start(stage)
            steady = Steady(bench, stage, running, clients=STEADY, seconds=STORM_S)
            time.sleep(bench.warmup_s)
            options = ["--connections", str(STORM), "--opening", str(STORM)]
            begun_s = time.monotonic()
            storm = bench.load.start("idle", stage=stage, running=running, options=options)
            storm.line(timeout_s=OPEN_S)
            took_s = time.monotonic() - begun_s
            result = steady.wait()
        yield self._of(subject, "storm_live_s", took_s, STORM, unit="s")
        yield self._of(subject, "p99_ms_in_storm", result.p99_ms, STEADY)

    def _of(
        self, subject: Subject, metric: str, value: float, clients: int, *, unit: str = "ms"
    ) -> Measurement:
        return Measurement(self.name, subject.name, metric, value, unit, OFFERED, clients)


class Steady:
    """Customers who read, and a publisher for them."""

    def __init__(
        self,
        bench: Bench,
        stage: Stage,
        running: Running,
        *,
        clients: int,
        seconds: float | None = None,
    ) -> None:
        self._bench = bench
        seconds = bench.seconds if seconds is None else seconds
        messages = round(OFFERED * (bench.warmup_s + seconds + GRACE_S))
        options = ["--seconds", str(seconds), "--warmup", str(bench.warmup_s)]
        options += ["--connections", str(clients), "--grace", "0"]
        self._client: Child = bench.load.start(
            "fanout", stage=stage, running=running, options=options
        )
        self._client.line(timeout_s=OPEN_S)
        self._publisher = start_publisher(
            stage, form=running.form, size=payload.LARGE, offered=OFFERED, messages=messages
        )

    def wait(self) -> load.Result:
        """What they saw."""
        return load.result_of(last_line(self._bench, self._client, self._publisher))
