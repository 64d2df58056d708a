"""Children that cannot outlive their parent.

Linux sends a process the signal it asked for when its parent dies (`prctl(PR_SET_PDEATHSIG)`), even
when the parent was killed with SIGKILL and could clean up nothing. Elsewhere these functions do
nothing and an orderly stop is all there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1

# Loaded at import: looking a library up between fork and exec is not safe.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(sig: int = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Ask the kernel to send us `sig` when our parent dies; with `parent`, die now if it already
    has.
    """
    if _libc is None:
        return
    _libc.prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def kill_group(leader: int, sig: int) -> None:
    """Signal every process of the group that `leader` leads; a group that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, sig)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def port_holder(port: int) -> str | None:
    """Who listens on `port`, as `pid 123 (name)`, when we may know: from /proc, Linux only."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                # Field 1 is address:port in hex, field 3 the state (0A is LISTEN), field 9 the
                # socket's inode.
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        name = (process / "comm").read_text("utf-8", "replace").strip()
                        return f"pid {process.name} ({name})"
    return None


def port_problem(host: str, port: int) -> str | None:
    """Why we could not listen on `host:port`, or None."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"cannot resolve {host} ({error.strerror})"
    for family, kind, protocol, _name, address in found[:1]:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                holder = port_holder(port)
                by = f", held by {holder}" if holder else ""
                return f"port {port} on {host}: {(error.strerror or str(error)).lower()}{by}"
    return None
