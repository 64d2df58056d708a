"""Running the C load client, and what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.bench.processes import Child
from tests.bench.subjects.contract import ACK, SUBSCRIBE, Running, Stage


class Result(msgspec.Struct, frozen=True):
    """The load client's last line: rates and quantiles of the window, totals of the run."""

    connections: int
    frames: int
    per_s: float
    bytes_per_s: float
    total_frames: int
    unstamped: int
    disordered: int
    closed_by_server: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    spread_p99_ms: float  # from the first connection that has a frame to the last
    cpu_s: float


@dataclass(frozen=True, slots=True)
class LoadClient:
    """The compiled client, ready to be aimed at a running subject."""

    program: Path

    def start(
        self,
        mode: str,
        *,
        stage: Stage,
        running: Running,
        options: Sequence[str] = (),
        say: str = SUBSCRIBE,
    ) -> Child:
        """Start it on the load core; it prints `ready` once all its connections are open."""
        argv = [str(self.program), mode, "--port", str(running.port), "--path", running.path]
        for header in running.headers:
            argv += ["--header", header]
        if running.has_acks:
            argv += ["--send", say, "--ack", ACK]
        return stage.family.start([*argv, *options], name=f"load-{mode}", core=stage.cores.load)


def result_of(line: str) -> Result:
    """The result in the client's last line. Raises msgspec.DecodeError."""
    return msgspec.json.decode(line, type=Result)
