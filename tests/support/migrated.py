"""A migrated SQLite database, made once per state of the sources and copied from then on.

The migrations take 8 s of a core, nearly all of it for the states of the models that Django renders
between them, and each process of a test run, each pass and each seeded relay would pay that again.
All they could depend on is in the name of the file: a change of the sources, of what is installed
or of Python makes another. It is `migrate` that makes it, and it runs on the copies again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parents[2]
#: Beside what pytest keeps between runs, so it is ignored and cleaned as that is.
KEPT = ROOT / ".pytest_cache" / "migrated"
PACKAGES = ("billing", "gateway", "relay_site", "streaming", "tenants")
#: Settings of whoever runs the tests must not reach what is tested.
FOREIGN = ("RELAY_", "REDIS_", "DATABASE_", "DJANGO_")


def copy_migrated(to: Path) -> None:
    """Put a migrated, empty database at `to`, whose folder is there."""
    shutil.copyfile(_original(), to)


def _original() -> Path:
    kept = KEPT / f"{_state()}.sqlite3"
    if kept.exists():
        return kept
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        # Of processes that begin together one makes it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _make(kept)
    return kept


def _make(kept: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not is_foreign(name)}
    with tempfile.TemporaryDirectory(prefix="hlrelay-migrated-") as var:
        subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"],
            env=environment | {"RELAY_VAR": var},
            check=True,
            capture_output=True,
        )
        with contextlib.closing(sqlite3.connect(f"{var}/relay.sqlite3")) as made:
            made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for old in KEPT.glob("*.sqlite3"):
            old.unlink(missing_ok=True)
        whole = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(f"{var}/relay.sqlite3", whole)
        whole.rename(kept)


def is_foreign(name: str) -> bool:
    """Whether an environment variable would configure a relay."""
    return name.startswith(FOREIGN)


def _state() -> str:
    """All that a migration could depend on."""
    about = hashlib.sha256(f"{sys.version}{django.VERSION}{sqlite3.sqlite_version}".encode())
    sources = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    for file in sorted([*sources, *ROOT.glob("requirements*.txt"), ROOT / "manage.py"]):
        about.update(f"{file.relative_to(ROOT)} {file.stat().st_size}\n".encode())
        about.update(file.read_bytes())
    return about.hexdigest()[:20]
