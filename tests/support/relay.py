"""The whole relay under test: `manage.py up` as a child, with its own folder and free ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from relay_site.processes import free_port
from tests.support.services import start_process, wait_until

ROOT = Path(__file__).resolve().parents[2]

#: Ten seconds are promised on a quiet machine; a suite on two shared cores is not one.
START_DEADLINE_S = 150.0
STOP_DEADLINE_S = 10.0


class RunningRelay:
    """`manage.py up` in the folder `var`; `start` returns when it serves, `run` is its run.json."""

    def __init__(self, var: Path, **environment: str) -> None:
        self.var = var
        self.run: dict[str, Any] = {}
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None
        return self._process.pid

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor."""
        assert self._process is not None
        return self._process

    @property
    def output(self) -> str:
        """What the supervisor has printed so far, over all its starts."""
        return (self.var.parent / f"{self.var.name}.out").read_text("utf-8", "replace")

    def environment(self) -> dict[str, str]:
        """What the supervisor gets: nothing of the test's own settings."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RELAY_", "REDIS_", "DATABASE_URL", "DJANGO_"))
        }
        ports = {"RELAY_HTTP_PORT": str(free_port()), "RELAY_GRPC_PORT": str(free_port())}
        return kept | ports | {"RELAY_VAR": str(self.var)} | self._environment

    def launch(self) -> None:
        """Start it and return at once."""
        command = [sys.executable, str(ROOT / "manage.py"), "up"]
        saved = os.environ.copy()
        try:
            os.environ.clear()
            os.environ.update(self.environment())
            self._process = start_process(command, log=self.var.parent / f"{self.var.name}.out")
        finally:
            os.environ.clear()
            os.environ.update(saved)

    def wait(self) -> None:
        """Until run.json is there and speaks of this very process."""
        wait_until(
            self._is_up,
            process=self.process,
            what="manage.py up",
            log=self.var.parent / f"{self.var.name}.out",
            deadline_s=START_DEADLINE_S,
        )

    def start(self) -> None:
        """Start it and return when it serves."""
        self.launch()
        self.wait()

    def _is_up(self) -> bool:
        try:
            run = json.loads((self.var / "run.json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        if run.get("pid") != self.pid:
            return False
        self.run = run
        return True

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_DEADLINE_S)
