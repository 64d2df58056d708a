"""The servers ours is compared with; each does the least that serves: no keys, topics or meter."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench import build
from tests.bench.machine import ROOT, free_port
from tests.bench.processes import Child, Failed
from tests.bench.publisher import CHANNEL
from tests.bench.subjects.contract import NotHere, Running, Stage

HERE = Path(__file__).parent


class Channels:
    """Channels as its tutorial has it: stock Daphne, `channels_redis.core`, a `group_add` each."""

    name = "channels"
    what = "textbook Django Channels on stock Daphne, group_add per consumer"

    def start(self, stage: Stage) -> Running:
        """Serve with stock Daphne."""
        port = free_port()
        child = stage.family.start(
            [
                *(sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "-v", "0"),
                "tests.bench.subjects.channels_app:application",
            ],
            name=self.name,
            core=stage.cores.server,
            env={"BENCH_REDIS_URL": stage.redis_url},
            cwd=ROOT,
        )
        child.wait_for_port(port)
        return Running(port=port, pid=child.pid, path="/ws", form="layer", has_acks=True)


class PythonHub:
    """A server that is one Python module taking its port and its Redis URL."""

    name: str
    package: str
    module: str

    def start(self, stage: Stage) -> Running:
        """Run the module."""
        if importlib.util.find_spec(self.package) is None:
            raise NotHere(f"no Python package {self.package}")
        port = free_port()
        child = stage.family.start(
            [
                sys.executable,
                "-m",
                f"tests.bench.subjects.{self.module}",
                str(port),
                stage.redis_url,
            ],
            name=self.name,
            core=stage.cores.server,
            cwd=ROOT,
        )
        child.wait_for_port(port)
        return Running(port=port, pid=child.pid)


class Uvicorn(PythonHub):
    """A hub without a framework: one Redis subscriber, `await send` for each client in turn."""

    name = "uvicorn"
    what = "plain ASGI hub on uvicorn, await send per client"
    package = "uvicorn"
    module = "uvicorn_hub"


class Picows(PythonHub):
    """The same on the quickest WebSocket library there is for asyncio."""

    name = "picows"
    what = "plain hub on picows, one write per client and message"
    package = "picows"
    module = "picows_hub"


class UWebSockets(PythonHub):
    """uWebSockets' own publish, which joins what one turn of its loop gives a client."""

    name = "uwebsockets"
    what = "uWebSockets through socketify, its own publish"
    package = "socketify"
    module = "socketify_hub"


class NodeWs:
    """The usual Node server: `ws`, and `client.send` for each client in turn."""

    name = "node-ws"
    what = "node with ws, client.send per client"

    def start(self, stage: Stage) -> Running:
        """Install `ws` once, as locked, and run the server."""
        missing = next((tool for tool in ("node", "npm") if shutil.which(tool) is None), None)
        if missing:
            raise NotHere(f"no {missing} on PATH")
        folder = self._installed(stage.folder / "node-ws")
        port = free_port()
        child = stage.family.start(
            ["node", "server.js", str(port), str(stage.redis_port), CHANNEL],
            name=self.name,
            core=stage.cores.server,
            cwd=folder,
        )
        child.wait_for_port(port)
        return Running(port=port, pid=child.pid)

    def _installed(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        lock = (HERE / "node_ws" / "package-lock.json").read_bytes()
        done = folder / "installed.lock"
        for name in ("server.js", "package.json", "package-lock.json"):
            shutil.copyfile(HERE / "node_ws" / name, folder / name)
        if done.is_file() and done.read_bytes() == lock:
            return folder
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            result = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=90, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotHere("npm ci did not finish in 90 s") from None
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if "npm error" in line]
            raise NotHere(f"npm ci failed: {lines[0] if lines else result.returncode}")
        done.write_bytes(lock)
        return folder


class CLoop:
    """What the kernel allows: C, epoll, one write per client and turn."""

    name = "c-loop"
    what = "C, epoll, one write per client and turn: the limit"

    def start(self, stage: Stage) -> Running:
        """Compile and run."""
        try:
            binary = build.compiled(HERE / "c_loop.c", stage.folder)
        except build.NoCompiler as error:
            raise NotHere(str(error)) from None
        except build.DoesNotCompile as error:
            raise Failed(str(error)) from None
        port = free_port()
        child = stage.family.start(
            [binary, str(port), str(stage.redis_port), CHANNEL],
            name=self.name,
            core=stage.cores.server,
        )
        child.wait_for_port(port)
        return Running(port=port, pid=child.pid)


class Bare(Uvicorn):
    """The hop with nothing in it: files, gRPC, Redis pub/sub and the hub above."""

    name = "bare"
    what = "a prototype of the hop without books, log, topics, keys: what the machine takes"

    def start_worker(self, stage: Stage, *, upstreams: str) -> Child:
        """Publishes a line a block; reads the folder, or the gateway, that `upstreams` names."""
        kind, _, address = upstreams.partition("://")
        source = ["--gateway", address]
        if kind == "node":
            source = ["--data", address.partition("?")[0]]
        return self._run(stage, "feed", stage.redis_url, *source, core=stage.cores.server)

    def start_gateway(self, stage: Stage, *, data: Path, info: str) -> str:
        """On the node's core; its address."""
        port = free_port()
        address = f"127.0.0.1:{port}"
        child = self._run(stage, "gateway", address, "--data", str(data), core=stage.cores.load)
        child.wait_for_port(port)
        return address

    def _run(self, stage: Stage, *argv: str, core: int) -> Child:
        command = [sys.executable, "-m", "tests.bench.subjects.bare_hop", *argv]
        return stage.family.start(command, name=f"bare-{argv[0]}", core=core, cwd=ROOT)
