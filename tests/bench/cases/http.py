"""Requests a second over 32 kept connections, each sending the next when the last is answered; and
what the way to the exchange through us adds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from tests.bench.cases.contract import Bench
from tests.bench.machine import ROOT
from tests.bench.processes import Failed
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Subject
from tests.bench.subjects.http_servers import RelayEdge

CONNECTIONS = 32
META = '{"type":"meta"}'
BLOCK = '{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",false]}'
#: Never kept, and another address on each connection, so that no two are one.
NONCE = '{"jsonrpc":"2.0","id":1,"method":"eth_getTransactionCount","params":["0x@@","pending"]}'


RATE = 100
ORDER = (
    '{"action":{"type":"order","orders":[{"a":4,"b":true,"p":"1670.1","s":"0.0147","r":false,'
    '"t":{"limit":{"tif":"Ioc"}}}],"grouping":"na"},"nonce":1677777606040,"signature":{"r":'
    '"0x53749d5b30552aeb2fca34b530185976545bb22d0b3ce6f62e31be961a59298","s":'
    '"0x755c40ba9bf05223521753995abb2f73ab3229be8ec921f350cb447e384d8ed8","v":27},'
    '"vaultAddress":null,"expiresAfter":null}'
)


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


class Exchange:
    """A signed order 100 times a second, straight to the exchange and through us, one after the
    other in the same run."""

    name = "exchange"
    subjects: tuple[str, ...] = ("relay-http", "relay-daphne")

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Latency of both, and what lies between."""
        assert isinstance(subject, RelayEdge)
        with bench.stage() as stage:
            running = subject.start(stage)
            command = [sys.executable, "-m", "tests.bench.http_load", "--body", ORDER]
            command += ["--connections", "10", "--rate", str(RATE)]
            command += ["--seconds", str(bench.seconds), "--warmup", str(bench.warmup_s)]
            ways = {
                "direct": ["--port", str(subject.node_port), "--path", "/exchange"],
                "relayed": ["--port", str(running.port), "--path", f"{running.path}/exchange"],
            }
            found = {}
            for way, address in ways.items():
                client = stage.family.start(
                    [*command, *address],
                    name=f"http-load-{way}",
                    core=stage.cores.load,
                    env={},
                    cwd=ROOT,
                )
                found[way] = json.loads(client.line(timeout_s=bench.seconds + bench.warmup_s + 20))
                if found[way]["failures"]:
                    raise Failed(f"{found[way]['failures']} answers were not 200")
        for metric in ("p50_ms", "p99_ms"):
            direct, relayed = found["direct"][metric], found["relayed"][metric]
            for name, value in (
                (f"direct_{metric}", direct),
                (metric, relayed),
                (f"added_{metric}", relayed - direct),
            ):
                yield Measurement(self.name, subject.name, name, value, "ms", RATE, 10)


def cases() -> tuple[Http | Exchange, ...]:
    """Reads from memory of `/info` and `/evm`, one that a node is asked for each time, and orders
    on their way to the exchange."""
    ours = ("relay-http", "relay-daphne")
    return (
        Http("info", "info", META, (*ours, "drf")),
        Http("evm-cached", "evm", BLOCK, ours),
        Http("evm-passed", "evm", NONCE, ours),
        Exchange(),
    )
