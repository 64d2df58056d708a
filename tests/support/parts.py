"""A process of the relay under test that is meant to be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from relay_site.processes import free_port
from tests.support.services import start_process, wait_until

ROOT = Path(__file__).resolve().parents[2]
STOP_DEADLINE_S = 10.0
DEADLINE_S = 60.0
#: Settings of whoever runs the tests must not reach what is tested.
FOREIGN = ("RELAY_", "REDIS_", "DATABASE_", "DJANGO_")


class Part:
    """One command, started in the repository's root; its output is in `var/<name>.log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        var: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment or {})
        self.log = var / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.begins_at = 0  # where in the log the process that runs now began, in characters

    @staticmethod
    def port() -> int:
        """A free port of loopback."""
        return free_port()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that runs now, or the last one that did."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    @property
    def pid(self) -> int:
        """Of that process."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended. A stopped (SIGSTOP) process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed, over all its starts."""
        return self.log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it and return at once."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.begins_at = len(self.output) if self.log.exists() else 0
        saved, folder = dict(os.environ), Path.cwd()
        kept = {name: value for name, value in saved.items() if not name.startswith(FOREIGN)}
        try:
            os.environ.clear()
            os.environ.update(kept | self._environment)
            os.chdir(ROOT)
            self._process = start_process(self._command, log=self.log)
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(saved)

    def wait_for(self, is_ready: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
        """Until `is_ready`. Raises RuntimeError with the log's end when it dies or takes too
        long."""
        wait_until(
            is_ready, process=self.process, what=self.name, log=self.log, deadline_s=deadline_s
        )

    def signal(self, number: int) -> None:
        """Send one signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a fault; returns when the kernel has taken it away."""
        self.process.kill()
        self.process.wait(STOP_DEADLINE_S)

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, and nothing comes out of it."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; twice is fine."""
        if not self.is_running:
            return
        self.process.terminate()
        self.thaw()
        try:
            self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
