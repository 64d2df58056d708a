"""What the numbers depend on: which cores, how many files, which commit."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_PR_SET_TIMERSLACK = 29
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the measured server runs, and where all that feeds and loads it runs."""

    server: int
    load: int


def cores() -> Cores:
    """The first two cores this process may use; the same one twice where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(server=allowed[0], load=allowed[1 % len(allowed)])


def allow_many_files() -> None:
    """Raise the soft limit of open files: 2,000 connections need more than the usual 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def sleep_precisely() -> None:
    """Let this thread's sleeps end within microseconds.

    The default slack of 50 µs is 8 % of the period of 1,500 messages a second.
    """
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Processor time a process has used, with its threads."""
    # Fields 14 and 15; the second field, a name in parentheses, may itself hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def commit() -> str:
    """Short hash of the measured commit, `+` when the tree differs; `unknown` without one."""
    try:
        short = _git("rev-parse", "--short", "HEAD")
        return short + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
