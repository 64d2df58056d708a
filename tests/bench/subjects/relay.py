"""Our own product: Daphne with key check, hub and meter, fed through Redis as a worker feeds it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.bench.machine import ROOT, free_port
from tests.bench.processes import Child
from tests.bench.subjects.contract import Running, Stage


class Relay:
    """`manage.py run_daphne` and, when asked, `manage.py run_upstream`, on their own database."""

    name = "relay"
    what = "this relay: key check, hub, metering"
    #: Arguments of the seed.
    seeds: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._api_key: str | None = None

    def start(self, stage: Stage) -> Running:
        """Seed once per run, then serve; clients come in by a key in the path, as real ones do."""
        env = self.environment(stage, port=free_port())
        if self._api_key is None:
            self._api_key = self._seed(stage, env)
        return self.serve(stage, env)[0]

    def serve(self, stage: Stage, env: dict[str, str | None]) -> tuple[Running, Child]:
        """The process alone, with what `environment` says."""
        child = self._command(stage, "run_daphne", env)
        port = int(env["RELAY_HTTP_PORT"] or 0)
        child.wait_for_port(port)
        running = Running(
            port=port,
            pid=child.pid,
            path=f"/{self._api_key}/ws",
            form="relay",
            has_acks=True,
        )
        return running, child

    def start_worker(self, stage: Stage, *, upstreams: str) -> Child:
        """The upstream worker, on the same core as the edge."""
        env = self.environment(stage, port=free_port()) | {"RELAY_UPSTREAMS": upstreams}
        return self._command(stage, "run_upstream", env)

    def start_gateway(self, stage: Stage, *, data: Path, info: str) -> str:
        """An HL Gateway on the node's core, for it runs on the node's machine; its address."""
        port = free_port()
        command = [sys.executable, "-m", "streaming.hl_gateway", "--data", str(data)]
        command += ["--info", info, "--listen", f"127.0.0.1:{port}"]
        child = stage.family.start(
            command, name="relay-gateway", core=stage.cores.load, env={}, cwd=ROOT
        )
        child.wait_for_port(port)
        return f"127.0.0.1:{port}"

    def environment(self, stage: Stage, *, port: int) -> dict[str, str | None]:
        """The settings of each of its processes; the caller's own RELAY_* settings stay out."""
        var = stage.temporary / "relay"
        var.mkdir(exist_ok=True)
        inherited: dict[str, str | None] = {n: None for n in os.environ if n.startswith("RELAY_")}
        return inherited | {
            "DJANGO_SETTINGS_MODULE": "relay_site.settings",
            "DATABASE_URL": f"sqlite:///{var / 'relay.sqlite3'}",
            "REDIS_URL": f"{stage.redis_url}/0",
            "RELAY_ENV": "embedded",
            "RELAY_HTTP_PORT": str(port),
            "RELAY_VAR": str(var),
            "RELAY_UPSTREAMS": "simulator:",
        }

    def _seed(self, stage: Stage, env: dict[str, str | None]) -> str:
        child = stage.family.start(
            [sys.executable, "-m", "tests.bench.subjects.relay_seed", *self.seeds],
            name="relay-seed",
            core=stage.cores.server,
            env=env,
            cwd=ROOT,
        )
        return child.line(timeout_s=60)

    def _command(self, stage: Stage, command: str, env: dict[str, str | None]) -> Child:
        return stage.family.start(
            [sys.executable, Path("manage.py"), command],
            name=f"relay-{command}",
            core=stage.cores.server,
            env=env,
            cwd=ROOT,
        )


class RelayInPython(Relay):
    """The same, as where no compiler is: for what the fan-out in C gives."""

    name = "relay-python"
    what = "this relay without its fan-out in C (RELAY_NATIVE_FANOUT=0)"

    def environment(self, stage: Stage, *, port: int) -> dict[str, str | None]:
        """With the switch off."""
        return super().environment(stage, port=port) | {"RELAY_NATIVE_FANOUT": "0"}
