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
#: Of 15 frames a second no 99th percentile is to be had in some seconds.
OFTEN = 150
ROUNDS = 3
STORM = 2_000
STORM_S = 8.0
#: A topic of nobody else's and without news: a storm shall cost its handshakes, not its share of a
#: fan-out.
ELSEWHERE = '{"method":"subscribe","subscription":{"type":"l2Book","coin":"ETH"}}'


class Crowd:
    """Steady customers of one book, alone and in bad company."""

    name = "crowd"
    #: The others for the spread alone: at 15 frames a second each socket is cold, and a write to it
    #: takes the kernel 9 µs instead of 6, whoever makes it.
    subjects: tuple[str, ...] = ("relay", "relay-python", "uwebsockets", "c-loop")

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Spread of one frame over all; then p99 beside customers who stall, and in a storm."""
        for clients in CROWD:
            with bench.stage() as stage:
                running = subject.start(stage)
                result = Steady(bench, stage, running, clients=clients).wait()
            yield self._of(subject, "spread_p99_ms", result.spread_p99_ms, clients)
            yield self._of(subject, "p99_ms", result.p99_ms, clients)
        if subject.name != "relay":
            return
        for metric, value in self._beside_stalled(bench, subject):
            yield self._of(subject, metric, value, STEADY, offered=OFTEN)
        with bench.stage() as stage:
            running = subject.start(stage)
            result, lives_s = self._storm(bench, stage, running)
        yield self._of(subject, "storm_live_s", max(lives_s), STORM, unit="s")
        yield self._of(subject, "p99_ms_in_storm", result.p99_ms, STEADY)

    def _beside_stalled(self, bench: Bench, subject: Subject) -> Iterator[tuple[str, float]]:
        """By turns, so that a machine that is slow for a while is slow for both; medians."""
        seen: dict[str, list[float]] = {"p99_ms_alone": [], "p99_ms_beside_stalled": []}
        for metric in [*seen] * ROUNDS:
            with bench.stage() as stage:
                running = subject.start(stage)
                if metric == "p99_ms_beside_stalled":
                    options = ["--connections", str(STEADY // 10)]
                    stalled = bench.load.start(
                        "stall", stage=stage, running=running, options=options
                    )
                    stalled.line(timeout_s=OPEN_S)
                steady = Steady(bench, stage, running, clients=STEADY, offered=OFTEN)
                seen[metric].append(steady.wait().p99_ms)
        for metric, values in seen.items():
            yield metric, sorted(values)[len(values) // 2]

    def _storm(
        self, bench: Bench, stage: Stage, running: Running
    ) -> tuple[load.Result, list[float]]:
        """Again and again, while the steady ones are measured, all of a storm come at once, and are
        cut at once when the last is live."""
        steady = Steady(bench, stage, running, clients=STEADY, seconds=STORM_S)
        options = ["--connections", str(STORM), "--opening", str(STORM)]
        ends_s = time.monotonic() + bench.warmup_s + STORM_S
        lives_s = []
        while time.monotonic() < ends_s:
            begun_s = time.monotonic()
            storm = bench.load.start(
                "idle", stage=stage, running=running, options=options, say=ELSEWHERE
            )
            storm.line(timeout_s=OPEN_S)
            lives_s.append(time.monotonic() - begun_s)
            storm.stop()
        return steady.wait(), lives_s

    def _of(
        self,
        subject: Subject,
        metric: str,
        value: float,
        clients: int,
        *,
        unit: str = "ms",
        offered: int = OFFERED,
    ) -> Measurement:
        return Measurement(self.name, subject.name, metric, value, unit, offered, clients)


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
        offered: int = OFFERED,
    ) -> None:
        self._bench = bench
        seconds = bench.seconds if seconds is None else seconds
        messages = round(offered * (bench.warmup_s + seconds + GRACE_S))
        options = ["--seconds", str(seconds), "--warmup", str(bench.warmup_s)]
        options += ["--connections", str(clients), "--grace", "0"]
        self._client: Child = bench.load.start(
            "fanout", stage=stage, running=running, options=options
        )
        self._client.line(timeout_s=OPEN_S)
        self._publisher = start_publisher(
            stage, form=running.form, size=payload.LARGE, offered=offered, messages=messages
        )

    def wait(self) -> load.Result:
        """What they saw."""
        return load.result_of(last_line(self._bench, self._client, self._publisher))
