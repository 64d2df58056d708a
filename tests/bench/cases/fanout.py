"""How many frames a second reach 200 clients, and how late, at several offered rates."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

from tests.bench import load, machine, payload, report
from tests.bench.cases.contract import OPEN_S, Bench
from tests.bench.machine import ROOT
from tests.bench.processes import Child, Failed
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Running, Stage, Subject

#: Messages a second by the size of a frame. Of 1.6 KB, the quick ones deliver all of 1,500, so
#: ratios end at what is offered; 5,000 (a million frames a second, 1.6 GB) shows who could do more.
OFFERED = {payload.LARGE: (50, 400, 1_500, 5_000), payload.SMALL: (6_000,)}
CLIENTS = 200
#: After the measured window: long enough for the last frames of whoever keeps up to arrive.
GRACE_S = 1.0
#: Published beyond the window, so that its end is measured under load as well.
OVERHANG_S = 0.2
#: Share of a core from which the server itself is what limits it. Taken from before the publisher
#: starts until after the last frame, so a full core shows as 85 to 90 %.
SERVER_FULL = 0.75


class Fanout:
    """Publisher → Redis → server → 200 sockets; a fresh server for each rate."""

    subjects: tuple[str, ...] = (
        "relay",
        "channels",
        "uvicorn",
        "picows",
        "node-ws",
        "uwebsockets",
        "c-loop",
    )

    def __init__(self, *, size: int = payload.LARGE) -> None:
        self.name = f"fanout-{size}b"
        self._size = size

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Deliveries per second and latency at each offered rate."""
        for offered in OFFERED[self._size]:
            with bench.stage() as stage:
                yield from self._at(bench, subject, stage=stage, offered=offered)

    def _at(
        self, bench: Bench, subject: Subject, *, stage: Stage, offered: int
    ) -> Iterator[Measurement]:
        running = subject.start(stage)
        messages = round(offered * (bench.warmup_s + bench.seconds + OVERHANG_S))
        client = self._client(bench, stage, running, expect=messages * CLIENTS)
        began_s, used_s = time.monotonic(), machine.cpu_s(running.pid)
        publisher = start_publisher(
            stage, form=running.form, size=self._size, offered=offered, messages=messages
        )
        result = load.result_of(last_line(bench, client, publisher))
        busy = (machine.cpu_s(running.pid) - used_s) / (time.monotonic() - began_s)
        publisher.process.terminate()
        published = json.loads(publisher.line(timeout_s=5))
        self._judge(bench, subject, offered=offered, result=result, published=published, busy=busy)
        for metric, value, unit in (
            ("deliveries_per_s", result.per_s, "1/s"),
            ("p50_ms", result.p50_ms, "ms"),
            ("p99_ms", result.p99_ms, "ms"),
        ):
            yield Measurement(self.name, subject.name, metric, value, unit, offered, CLIENTS)

    def _client(self, bench: Bench, stage: Stage, running: Running, *, expect: int) -> Child:
        timing = ["--seconds", str(bench.seconds), "--warmup", str(bench.warmup_s)]
        size = ["--connections", str(CLIENTS), "--expect", str(expect), "--grace", str(GRACE_S)]
        client = bench.load.start("fanout", stage=stage, running=running, options=[*timing, *size])
        client.line(timeout_s=OPEN_S)
        return client

    def _judge(
        self,
        bench: Bench,
        subject: Subject,
        *,
        offered: int,
        result: load.Result,
        published: dict[str, float],
        busy: float,
    ) -> None:
        """Say what the three numbers cannot: losses, and a feed or client that was the limit."""
        where = f"{subject.name} at {offered:,}/s"
        if result.disordered:
            raise Failed(f"{where}: {result.disordered} frames out of order")
        keeps_up = result.per_s >= report.KEEPS_UP * offered * CLIENTS
        whole = published["published"] * CLIENTS
        if keeps_up and result.total_frames != whole:
            bench.report.remark(
                f"{where}: {result.total_frames:,.0f} of {whole:,.0f} frames arrived"
            )
        reached = published["published"] / max(published["seconds"], 1e-9)
        if reached < report.KEEPS_UP * offered:
            bench.report.remark(
                f"{where}: the publisher reached {reached:,.0f}/s, it waits for each send"
            )
        if not keeps_up and busy < SERVER_FULL:
            bench.report.remark(
                f"{where}: its core was {busy:.0%} busy; something else was the limit"
            )


def start_publisher(stage: Stage, *, form: str, size: int, offered: int, messages: int) -> Child:
    """Publishes `messages` frames of `size` bytes in the form the subject reads."""
    argv = [sys.executable, "-m", "tests.bench.publisher", "--redis-port", str(stage.redis_port)]
    argv += ["--form", form, "--rate", str(offered), "--messages", str(messages)]
    argv += ["--size", str(size)]
    return stage.family.start(argv, name="publisher", core=stage.cores.load, cwd=ROOT)


def last_line(bench: Bench, client: Child, publisher: Child) -> str:
    """The load client's result, or the publisher's reason for there being none."""
    patience_s = bench.warmup_s + bench.seconds + GRACE_S + 20
    try:
        return client.line(timeout_s=patience_s)
    except Failed:
        if publisher.process.poll():
            raise publisher.fail("could not publish") from None
        raise
