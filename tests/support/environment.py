"""Loaded before Django reads its settings: gives a test run a folder and a database of its own.

A developer's `DATABASE_URL`, `REDIS_URL` or `RELAY_*` must not reach the tests, nor the tests the
developer's data. With `RELAY_TEST_DATABASE=mariadb` a private MariaDB is started first and
everything runs on it.

The workers of pytest-xdist inherit what the process that starts them has prepared: a clean
environment, and the MariaDB, in which pytest-django gives each a database of its own. Their folders
are their own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from tests.support.services import Missing, start_mariadb

#: Set by whoever runs the tests, and meant for them.
KEPT = frozenset({"RELAY_TEST_DATA", "RELAY_TEST_DATABASE"})
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def clean() -> None:
    """Take from the environment what is meant for a relay of the developer's."""
    for name in list(os.environ):
        is_ours = name.startswith(("RELAY_", "REDIS_", "STRIPE_")) or name.removesuffix(
            "_FILE"
        ) in {
            "DATABASE_URL",
            "DEBUG",
            "DEFAULT_FROM_EMAIL",
            "EMAIL_URL",
            "SECRET_KEY",
        }
        if is_ours and name not in KEPT:
            del os.environ[name]


def make_var() -> Path:
    """The run's own `RELAY_VAR`.

    Its path is short: sockets in it may be 107 bytes at most, and pytest's own folders can be
    longer.
    """
    var = Path(tempfile.mkdtemp(prefix="hlrelay-test-"))
    atexit.register(shutil.rmtree, var, ignore_errors=True)
    os.environ["RELAY_VAR"] = str(var)
    # A child of a process with gRPC's threads would start them before it becomes what it is to be,
    # and now and then die of it.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    return var


def _choose_database() -> None:
    match os.environ.get("RELAY_TEST_DATABASE", "sqlite"):
        case "sqlite":
            return
        case "mariadb":
            try:
                server = start_mariadb(VAR / "mariadb", in_memory=True)
            except Missing as missing:
                # Nothing can run; a failure where nothing may be missing, else a visible skip.
                _leave(f"SKIPPED on MariaDB: {missing}", code=1 if os.environ.get("CI") else 0)
            atexit.register(server.stop)
            os.environ["DATABASE_URL"] = server.url
        case other:
            _leave(f"RELAY_TEST_DATABASE: {other!r} is neither sqlite nor mariadb", code=2)


def _leave(why: str, *, code: int) -> NoReturn:
    sys.stderr.write(f"{why}\n")
    raise SystemExit(code)


def keep_bytecode() -> None:
    """Compile once, whatever the environment says: the suite starts a hundred processes, and
    pytest rewrites each file of tests whose bytecode is not kept (7 s of a core for all)."""
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


if not IS_WORKER:
    clean()
keep_bytecode()
VAR = make_var()
if not IS_WORKER:
    _choose_database()
