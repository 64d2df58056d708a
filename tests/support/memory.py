"""Folders in memory, for servers whose tables are made and emptied more often than a disk can be
asked to keep them.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

SHM = Path("/dev/shm")
LOCK = ".lock"


def in_memory_folder(prefix: str, room: int) -> Path | None:
    """An empty folder in memory, gone when this process ends; None without that many free bytes.

    Whoever is killed removes nothing, so the next removes the folders nobody holds.
    """
    try:
        space = os.statvfs(SHM)
        if space.f_bavail * space.f_frsize < room:
            return None
        _sweep(prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=SHM))
        lock = _hold(folder)
    except OSError:
        return None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(os.close, lock)
    inner = folder / "folder"
    inner.mkdir(mode=0o700)
    return inner


def _hold(folder: Path) -> int:
    """Take the folder's lock until this process ends. Raises BlockingIOError where it is held."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _sweep(prefix: str) -> None:
    for folder in SHM.glob(f"{prefix}*"):
        # Without a lock it is being made at this moment.
        if not (folder / LOCK).exists():
            continue
        with contextlib.suppress(OSError):
            lock = _hold(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
