"""Requests a second over 32 kept connections, each sending the next when the last is answered."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from tests.bench.cases.contract import Bench
from tests.bench.machine import ROOT
from tests.bench.processes import Failed
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Subject

CONNECTIONS = 32
META = '{"type":"meta"}'
BLOCK = '{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",false]}'
#: Never kept, and another address on each connection, so that no two are one.
NONCE = '{"jsonrpc":"2.0","id":1,"method":"eth_getTransactionCount","params":["0x@@","pending"]}'


class Http:
    """One body at one path."""

    def __init__(self, name: str, door: str, body: str, subjects: tuple[str, ...]) -> None:
        self.name, self.subjects = name, subjects
        self._door, self._body = door, body

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Rate and latency. Raises Failed when an answer was not 200."""
        with bench.stage() as stage:
            running = subject.start(stage)
            command = [sys.executable, "-m", "tests.bench.http_load", "--port", str(running.port)]
            command += ["--path", f"{running.path}/{self._door}", "--body", self._body]
            command += ["--connections", str(CONNECTIONS), "--seconds", str(bench.seconds)]
            command += ["--warmup", str(bench.warmup_s)]
            client = stage.family.start(
                command, name="http-load", core=stage.cores.load, env={}, cwd=ROOT
            )
            result = json.loads(client.line(timeout_s=bench.seconds + bench.warmup_s + 20))
        if result["failures"]:
            raise Failed(f"{result['failures']} answers were not 200")
        for metric, unit in (("per_s", "1/s"), ("p50_ms", "ms"), ("p99_ms", "ms")):
            yield Measurement(
                self.name, subject.name, metric, result[metric], unit, None, CONNECTIONS
            )


def cases() -> tuple[Http, ...]:
    """Reads from memory of `/info` and `/evm`, and one that a node is asked for each time."""
    ours = ("relay-http", "relay-daphne")
    return (
        Http("info", "info", META, (*ours, "drf")),
        Http("evm-cached", "evm", BLOCK, ours),
        Http("evm-passed", "evm", NONCE, ours),
    )
