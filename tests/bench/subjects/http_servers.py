"""Who answers HTTP: ours under two servers, and what people would write instead."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from tests.bench.machine import ROOT, free_port
from tests.bench.subjects.contract import NotHere, Running, Stage
from tests.bench.subjects.relay import Relay


class RelayEdge(Relay):
    """Our HTTP edge, in front of a node on the load core. Its key is charged for each request."""

    seeds = ("http",)
    #: The management command, and what it needs beside ours.
    server = "run_daphne"
    needs = ""

    def __init__(self) -> None:
        super().__init__()
        self.node_port = 0
        self.name = "relay-daphne"
        self.what = "this relay's HTTP edge in its Daphne: key check, limits, metering"

    def start(self, stage: Stage) -> Running:
        """The node, then the edge; the path is the key alone."""
        if self.needs and importlib.util.find_spec(self.needs) is None:
            raise NotHere(f"no Python package {self.needs}")
        node = self.node_port = free_port()
        command = [sys.executable, "-m", "tests.bench.subjects.http_origin", str(node)]
        origin = stage.family.start(
            command, name="http-origin", core=stage.cores.load, env={}, cwd=ROOT
        )
        origin.wait_for_port(node)
        port = free_port()
        url = f"http://127.0.0.1:{node}"
        upstreams = f"node:///nowhere?info={url}&evm={url}&exchange={url}"
        env = self.environment(stage, port=port) | {
            "RELAY_UPSTREAMS": upstreams,
            "RELAY_PUBLIC_WEIGHT": "1000000",  # the node counts nobody
        }
        if self._api_key is None:
            self._api_key = self._seed(stage, env)
        child = self._command(stage, self.server, env)
        child.wait_for_port(port)
        return Running(port=port, pid=child.pid, path=f"/{self._api_key}")


class RelayHttp(RelayEdge):
    """The same under uvicorn."""

    server = "serve_http"
    needs = "uvicorn"

    def __init__(self) -> None:
        super().__init__()
        self.name = "relay-http"
        self.what = "the same under uvicorn (manage.py serve_http)"


class Drf:
    """Plain Django and Django REST framework on uvicorn."""

    name = "drf"
    what = "Django REST framework on uvicorn: key in a table, throttle, cache"

    def start(self, stage: Stage) -> Running:
        """Run the module."""
        if importlib.util.find_spec("uvicorn") is None:
            raise NotHere("no Python package uvicorn")
        port = free_port()
        child = stage.family.start(
            [sys.executable, "-m", "tests.bench.subjects.drf_app", str(port)],
            name=self.name,
            core=stage.cores.server,
            env={"BENCH_DATABASE": str(Path(stage.temporary) / "drf.sqlite3")},
            cwd=ROOT,
        )
        child.wait_for_port(port)
        return Running(port=port, pid=child.pid, path="/bench")
