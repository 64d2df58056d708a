"""A small supervisor: starts children, restarts what dies, stops them all, and leaves nothing
behind.

Each child leads a process group of its own, is sent SIGKILL by the kernel when we die, and has its
output written to a file of bounded size. It knows nothing of the relay; `relay_site/embedded.py`
says what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay_site.logging import redact
from relay_site.processes import die_with_parent, kill_group

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 15.0
#: A child that lived this long starts over with the first backoff.
STEADY_S = 30.0
READY_POLL_S = 0.1
PROBE_DEADLINE_S = 3.0

LOG_BYTES = 5_000_000
LOGS_KEPT = 2
MAX_LINE_BYTES = 64 * 1024
#: Of a child's error lines this many are shown on the terminal per window; the rest is in its log.
SHOWN_ERRORS = 5
SHOWN_WINDOW_S = 10.0
ERROR_MARKS = (b"[error", b"[critical", b'"level": "error"', b'"level": "critical"')

Say = Callable[[str], None]


class StartFailed(RuntimeError):
    """A part did not come up; the text says which and ends with its last lines."""


class RotatingLog:
    """A file of at most `LOG_BYTES`, with `LOGS_KEPT` older ones beside it (`name.log.1` the
    newest).
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._open()

    def _open(self) -> None:
        self._file = self.path.open("ab", buffering=0)
        self._size_bytes = self._file.tell()

    def write(self, data: bytes) -> None:
        """Append `data`. A full disk costs log lines, never the child."""
        if self._size_bytes + len(data) > LOG_BYTES:
            self._rotate()
        with contextlib.suppress(OSError):
            self._size_bytes += self._file.write(data) or 0

    def _rotate(self) -> None:
        self._file.close()
        for age in range(LOGS_KEPT, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{age}")
            newer = self.path.with_name(f"{self.path.name}.{age - 1}") if age > 1 else self.path
            with contextlib.suppress(OSError):
                newer.replace(older)
        self._open()

    def tail(self, lines: int) -> list[str]:
        """The last `lines` lines."""
        with contextlib.suppress(OSError):
            return self.path.read_bytes()[-20_000:].decode("utf-8", "replace").splitlines()[-lines:]
        return []


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep running.

    It serves once its probe says so: `probe_url` answers 200, or, when there is none, `probe` is
    true.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    probe_url: str = ""
    probe: Callable[[], bool] | None = None
    before_start: Callable[[], None] | None = None


@dataclass(slots=True)
class Child:
    """A spec, and the process that runs for it now."""

    spec: ChildSpec
    log: RotatingLog
    process: asyncio.subprocess.Process | None = None
    started_at_s: float = 0.0
    deaths: int = 0
    is_stopping: bool = False
    is_ready: bool = False
    task: asyncio.Task[None] | None = None
    shown: Counter[int] = field(default_factory=Counter)

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self.process.pid if self.process and self.process.returncode is None else None


class Supervisor:
    """Children by name. Everything runs in one loop, of the process's main thread.

    `say` prints a line for the operator; `on_change` is called whenever a child got a new process.
    """

    def __init__(
        self, *, logs: Path, cwd: Path, say: Say, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self.children: dict[str, Child] = {}
        self._logs, self._cwd, self._say, self._on_change = logs, cwd, say, on_change

    def add(self, spec: ChildSpec) -> Child:
        """Start `spec` and keep it running until `stop`."""
        child = Child(spec, RotatingLog(self._logs / f"{spec.name}.log"))
        self.children[spec.name] = child
        child.task = asyncio.create_task(self._keep(child), name=f"keep {spec.name}")
        return child

    async def wait_ready(self, names: Sequence[str], *, deadline_s: float) -> None:
        """Until each of `names` serves, saying so one by one. Raises StartFailed after
        `deadline_s`.
        """
        begin = time.monotonic()
        waiting = [asyncio.create_task(self._probe(self.children[n], begin)) for n in names]
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.gather(*waiting)
        except TimeoutError:
            late = [n for n in names if not self.children[n].is_ready]
            text = [f"not serving after {deadline_s:g} s: {', '.join(late)}"]
            for name in late:
                text += [f"--- {name}", *self.children[name].log.tail(12)]
            raise StartFailed("\n".join(text)) from None
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def stop(self, names: Sequence[str], *, grace_s: float) -> None:
        """SIGTERM to `names` at once; SIGKILL to the groups of those left after `grace_s`."""
        children = [self.children[name] for name in names if name in self.children]
        for child in children:
            child.is_stopping = True
            if child.pid is None:
                if child.task is not None:
                    child.task.cancel()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)
        tasks = [child.task for child in children if child.task is not None]
        if not tasks:
            return
        _done, late = await asyncio.wait(tasks, timeout=grace_s)
        for child in children:
            if child.task in late and child.pid is not None:
                self._say(f"{child.spec.name} did not stop within {grace_s:g} s: killed")
                kill_group(child.pid, signal.SIGKILL)
        if late:
            await asyncio.wait(late, timeout=1.0)

    def kill_all(self) -> None:
        """SIGKILL to every group, now."""
        for child in self.children.values():
            child.is_stopping = True
            if child.pid is not None:
                kill_group(child.pid, signal.SIGKILL)

    # --- one child --------------------------------------------------------------------------------

    async def _keep(self, child: Child) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not child.is_stopping:
            code = await self._run(child)
            if child.is_stopping:  # set while we awaited
                return  # type: ignore[unreachable]
            child.deaths += 1
            child.is_ready = False
            if time.monotonic() - child.started_at_s > STEADY_S:
                backoff_s = FIRST_BACKOFF_S
            self._say(
                f"{child.spec.name} died ({_how(code)}); starting it again in {backoff_s:g} s"
                f" (death {child.deaths}; {child.log.path})"
            )
            for line in child.log.tail(3):
                self._say(f"    {line[:200]}")
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    async def _run(self, child: Child) -> int:
        spec, me = child.spec, os.getpid()
        if spec.before_start is not None:
            spec.before_start()

        def become_child() -> None:
            die_with_parent(parent=me)

        child.started_at_s = time.monotonic()
        child.process = await asyncio.create_subprocess_exec(
            *spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(spec.environment),
            cwd=self._cwd,
            start_new_session=True,
            preexec_fn=become_child,
        )
        self._on_change()
        reader = asyncio.create_task(self._copy_output(child, child.process))
        pid = child.process.pid
        try:
            return await child.process.wait()
        finally:
            # Whatever the child had started itself must not stay behind without it.
            kill_group(pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await reader
            reader.cancel()

    async def _copy_output(self, child: Child, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101
        rest = b""
        while data := await process.stdout.read(MAX_LINE_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._copy_line(child, line)
        if rest:
            self._copy_line(child, rest)

    def _copy_line(self, child: Child, line: bytes) -> None:
        # What is printed past the logging (a traceback of the interpreter) must not carry a key
        # either.
        if b"hlr" in line:
            line = redact(line.decode("utf-8", "replace")).encode()
        child.log.write(line + b"\n")
        if any(mark in line for mark in ERROR_MARKS):
            window = int(time.monotonic() / SHOWN_WINDOW_S)
            child.shown[window] += 1
            if child.shown[window] <= SHOWN_ERRORS:
                self._say(f"{child.spec.name}: {line.decode('utf-8', 'replace')[:300]}")
            elif child.shown[window] == SHOWN_ERRORS + 1:
                self._say(f"{child.spec.name}: more errors in {child.log.path}")
            for old in [w for w in child.shown if w < window]:
                del child.shown[old]

    async def _probe(self, child: Child, begin_s: float) -> None:
        # Another process: there is no event to wait for.
        while not await _serves(child.spec):  # noqa: ASYNC110
            await asyncio.sleep(READY_POLL_S)
        child.is_ready = True
        self._say(f"  {child.spec.name:<10} ready after {time.monotonic() - begin_s:.1f} s")


async def _serves(spec: ChildSpec) -> bool:
    if spec.probe is not None:
        return await asyncio.to_thread(spec.probe)
    return await http_status(spec.probe_url) == 200


async def http_status(url: str) -> int | None:
    """The status of `GET url` (plain HTTP), or None when there is no answer within the deadline."""
    host_port, _, path = url.removeprefix("http://").partition("/")
    host, _, port = host_port.rpartition(":")
    with contextlib.suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(PROBE_DEADLINE_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                head = f"GET /{path} HTTP/1.1\r\nHost: {host_port}\r\nConnection: close"
                writer.write(f"{head}\r\n\r\n".encode())
                return int((await reader.readline()).split()[1])
            finally:
                writer.close()
    return None


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit {code}"
