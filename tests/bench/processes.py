"""Children that never outlive the bench: pinned, logged to files, and ended whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

STOP_S = 2.0


class Failed(Exception):
    """A measurement could not be made; the text says why in one line."""


class Child:
    """One process of the bench, with its standard streams as text."""

    def __init__(self, process: subprocess.Popen[bytes], *, name: str, log: Path) -> None:
        self.process = process
        self.name = name
        self.log = log
        self._unread = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def fail(self, what: str) -> Failed:
        """The error for this child, with the last line it logged."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        return Failed(f"{self.name}: {what} ({last[:200]})")

    def line(self, *, timeout_s: float) -> str:
        """The next line of its output. Raises Failed when it ends or says nothing in time."""
        out = self.process.stdout
        assert out is not None
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([out], [], [], left_s)[0]:
                raise self.fail(f"said nothing for {timeout_s:.0f} s")
            chunk = os.read(out.fileno(), 1 << 20)
            if not chunk:
                self.process.wait(timeout=STOP_S)
                raise self.fail(f"ended with status {self.process.returncode}")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def rest(self, *, timeout_s: float) -> list[str]:
        """Close its standard input and return the lines it still prints until it ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None
        try:
            out, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise self.fail(f"did not end within {timeout_s:.0f} s") from None
        if self.process.returncode:
            raise self.fail(f"ended with status {self.process.returncode}")
        return (self._unread + out).decode().splitlines()

    def wait_for_port(self, port: int, *, timeout_s: float = 30.0) -> None:
        """Return once it accepts connections. Raises Failed when it ends or the time is up."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if self.process.poll() is not None:
                raise self.fail(f"ended with status {self.process.returncode} before it served")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise self.fail(f"did not listen on port {port} within {timeout_s:.0f} s")

    def stop(self) -> None:
        """End it and everything it started: politely, then not. May be called twice."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Family:
    """All children of one measurement; leaving the context ends them, last started first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._children:
            self._children.pop().stop()

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        name: str,
        core: int,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Start a process on one core. Its errors go to `<logs>/<name>.log`.

        `env` is laid over our own environment; None takes a name out of it.
        """
        log = self._logs / f"{name}.log"
        merged: dict[str, str | None] = {**os.environ, **(env or {})}
        parent = os.getpid()

        def prepare() -> None:
            # Also after `kill -9` of the bench nothing may keep a core busy.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            os.sched_setaffinity(0, {core})

        with log.open("wb") as errors:
            process = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={name: value for name, value in merged.items() if value is not None},
                cwd=cwd,
                start_new_session=True,
                # The bench has no threads, so the usual danger of a fork hook is absent.
                preexec_fn=prepare,
            )
        child = Child(process, name=name, log=log)
        self._children.append(child)
        return child


@contextlib.contextmanager
def interrupts_as_exceptions() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that every `with` cleans up."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
