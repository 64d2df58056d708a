"""`manage.py run_simulator` as a child, for clients that meet it without the relay."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from relay_site.processes import free_port
from tests.clients.environments import ROOT
from tests.support.services import start_process, wait_until


@contextlib.contextmanager
def running_simulator(folder: Path, *options: str) -> Iterator[str]:
    """Its base URL while the context lasts; node files and output are in `folder`."""
    port, log = free_port(), folder / "simulator.out"
    command = [sys.executable, str(ROOT / "manage.py"), "run_simulator"]
    command += ["--dir", str(folder / "node"), "--port", str(port), *options]
    process = start_process(command, log=log)

    def is_up() -> bool:
        return "serving" in log.read_text()

    try:
        wait_until(is_up, process=process, what="run_simulator", log=log, deadline_s=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)
