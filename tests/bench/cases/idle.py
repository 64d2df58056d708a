"""What a connection costs while nothing happens on it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.cases.contract import OPEN_S, Bench
from tests.bench.machine import rss_bytes
from tests.bench.processes import Child, Failed
from tests.bench.report import Measurement
from tests.bench.subjects.contract import SUBSCRIBE, Running, Stage, Subject

#: Memory is compared between this many connections and twice as many: what a process needs once
#: is left out.
STEP = 1_000
#: The load client puts a number in: 300 coins.
MANY_TOPICS = '{"method":"subscribe","subscription":{"type":"l2Book","coin":"C%T"}}'
SETTLED_BYTES = 64 * 1024
SETTLE_S = 10.0


class Idle:
    """Authenticated and subscribed to quiet topics: the server's bytes per connection."""

    def __init__(self, *, topics: int = 1) -> None:
        self.name = "idle" if topics == 1 else f"idle-{topics}"
        #: The textbook server has one topic.
        self.subjects: tuple[str, ...] = ("relay", "channels") if topics == 1 else ("relay",)
        self._options = ["--topics", "300", "--each", str(topics)] if topics > 1 else []

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Resident bytes between the first and the second thousand, divided by a thousand."""
        with bench.stage() as stage:
            running = subject.start(stage)
            clients = [self._hold(bench, stage, running)]
            first = _settled_rss(running.pid)
            clients.append(self._hold(bench, stage, running))
            second = _settled_rss(running.pid)
            for client in clients:
                if client.process.poll() is not None:
                    raise client.fail("lost its connections")
        value = (second - first) / STEP
        yield Measurement(
            self.name, subject.name, "bytes_per_connection", value, "B", None, 2 * STEP
        )

    def _hold(self, bench: Bench, stage: Stage, running: Running) -> Child:
        options = ["--connections", str(STEP), *self._options]
        say = MANY_TOPICS if self._options else SUBSCRIBE
        client = bench.load.start("idle", stage=stage, running=running, options=options, say=say)
        client.line(timeout_s=OPEN_S)
        return client


def _settled_rss(pid: int) -> int:
    """Resident bytes once they stopped moving. Raises Failed when they do not within SETTLE_S."""
    deadline_s = time.monotonic() + SETTLE_S
    before = rss_bytes(pid)
    while time.monotonic() < deadline_s:
        time.sleep(0.5)
        now = rss_bytes(pid)
        if abs(now - before) <= SETTLED_BYTES:
            return now
        before = now
    raise Failed(f"memory of process {pid} did not settle within {SETTLE_S:.0f} s")
