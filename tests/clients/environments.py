"""Clients of others, each in an environment of its own from its own lock: their pins clash."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.relay import ROOT
from tests.support.services import Missing

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".venv-clients"

#: Cold, over the network, on two cores.
INSTALL_DEADLINE_S = 300
MIN_NODE = (20, 19)
#: From this one on WebSocket is a global without a flag.
NODE_WITH_WEBSOCKET = (22, 0)


def _run(command: list[str], *, cwd: Path, deadline_s: float) -> str:
    """What `command` printed. Raises AssertionError with its errors when it failed."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=deadline_s, check=False
    )
    assert done.returncode == 0, (
        f"{command[0]} exited with {done.returncode}\n{done.stderr[-3000:]}"
    )
    return done.stdout


def _stamp(folder: Path, lock: Path) -> Path:
    return folder / f".installed-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Two test processes may want the same environment in the same moment."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def python_environment(name: str) -> Path:
    """The interpreter of the client `name`, installed first where its lock has changed."""
    folder, lock = ENVIRONMENTS / name, HERE / name / "requirements.txt"
    python = folder / "bin" / "python"
    with _alone(name):
        if not _stamp(folder, lock).exists():
            venv = [sys.executable, "-m", "venv", "--clear", str(folder)]
            _run(venv, cwd=ROOT, deadline_s=INSTALL_DEADLINE_S)
            install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
            _run([*install, "-r", str(lock)], cwd=ROOT, deadline_s=INSTALL_DEADLINE_S)
            _stamp(folder, lock).touch()
    return python


def node_command() -> list[str]:
    """How to run a script that uses WebSocket. Raises Missing where node is not here or too old."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("node is not here (apt-get install nodejs npm)")
    text = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in text.strip().lstrip("v").split(".")[:2])
    if version < MIN_NODE:
        raise Missing(f"node {text.strip()} is too old: the client wants 20.19 or newer")
    flags = [] if version >= NODE_WITH_WEBSOCKET else ["--experimental-websocket", "--no-warnings"]
    return [node, *flags]


def node_environment(name: str) -> Path:
    """The folder of the client `name` with its packages and scripts. Raises Missing."""
    node_command()
    folder, source = ENVIRONMENTS / name, HERE / name
    lock = source / "package-lock.json"
    with _alone(name):
        if not _stamp(folder, lock).exists():
            folder.mkdir(parents=True, exist_ok=True)
            for file in ("package.json", "package-lock.json"):
                shutil.copy(source / file, folder / file)
            npm = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            _run(npm, cwd=folder, deadline_s=INSTALL_DEADLINE_S)
            _stamp(folder, lock).touch()
        # node looks for packages beside the script.
        for script in source.glob("*.mjs"):
            shutil.copy(script, folder / script.name)
    return folder


def run_client(command: list[str], *arguments: str, deadline_s: float) -> dict[str, Any]:
    """What the client printed."""
    found = json.loads(_run([*command, *arguments], cwd=ROOT, deadline_s=deadline_s))
    assert isinstance(found, dict)
    return found
