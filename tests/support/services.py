"""Real servers for tests: a private Redis and a private MariaDB, on free ports, gone with the test
run.

They are started with `start_redis` and `start_mariadb`; the fixtures of `conftest.py` do it once
per session. What is not installed raises Missing, which the fixtures turn into a visible skip (a
failure with `CI` set).
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

from relay_site.processes import die_with_parent, free_port
from tests.support.memory import in_memory_folder

#: MariaDB's first start on a busy machine took 6 s; far beyond is a fault.
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 10.0
POLL_S = 0.02

#: Five times what the data of a whole run has grown to.
MARIADB_BYTES = 1 << 30

REDIS = "redis-server"


class Missing(RuntimeError):
    """A binary or module that a service needs is not here; the text says how to get it."""


@dataclass(slots=True)
class Service:
    """A running server."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Of the server process, for those who kill it."""
        return self.process.pid

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; twice is fine."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """SIGKILL, as a fault."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


def find_binary(*names: str, package: str) -> str:
    """The path of the first of `names` that is installed. Raises Missing."""
    for name in names:
        # Debian keeps daemons in sbin, which is not on everybody's PATH.
        if path := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin"):
            return path
    raise Missing(f"{names[0]} is not here (apt-get install {package})")


def start_process(command: Sequence[str], *, log: Path) -> subprocess.Popen[bytes]:
    """Start `command` so that it dies with us, its output in `log`."""
    me = os.getpid()
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: die_with_parent(parent=me),
        )


def wait_until(
    is_ready: Callable[[], bool],
    *,
    process: subprocess.Popen[bytes],
    what: str,
    log: Path,
    deadline_s: float = START_DEADLINE_S,
) -> None:
    """Poll `is_ready` until it is; fail with the log's end when the process dies or the deadline
    passes.
    """
    end = time.monotonic() + deadline_s
    while not is_ready():
        code = process.poll()
        if code is not None or time.monotonic() > end:
            process.kill()
            state = f"exited with {code}" if code is not None else f"not up after {deadline_s:g} s"
            tail = log.read_text("utf-8", "replace")[-3000:]
            raise RuntimeError(f"{what} {state}:\n{tail}")
        time.sleep(POLL_S)


def start_redis(folder: Path, *, port: int | None = None, socket: Path | None = None) -> Service:
    """A private Redis on a free port of loopback, and on `socket` when given. Raises Missing."""
    binary = find_binary(REDIS, "valkey-server", package="redis-server")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    log = folder / "redis.log"
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
    command += ["--client-output-buffer-limit", "pubsub 256mb 64mb 60"]
    if socket is not None:
        command += ["--unixsocket", str(socket), "--unixsocketperm", "700"]
    process = start_process(command, log=log)
    client = redis.Redis(port=port, socket_timeout=1)

    def answers() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    wait_until(answers, process=process, what="redis", log=log)
    client.close()
    return Service("redis", f"redis://127.0.0.1:{port}/0", process, log, folder)


def start_mariadb(
    folder: Path,
    *,
    port: int | None = None,
    options: Sequence[str] = (),
    in_memory: bool = False,
) -> Service:
    """A private MariaDB on a free port, with the user `relay` who may do all; empty, unless one ran
    in `folder` before. `options` are the server's, and come after ours; `in_memory` keeps its data
    in memory until this process ends, where there is room. Raises Missing.
    """
    package = "mariadb-server"
    server = find_binary("mariadbd", "mysqld", package=package)
    install = find_binary("mariadb-install-db", package=package)
    client = find_binary("mariadb", package=package)
    try:
        import MySQLdb  # noqa: F401
    except ImportError as error:
        raise Missing(
            "mysqlclient is not here (apt-get install default-libmysqlclient-dev pkg-config"
            " build-essential, then make test LOCK=requirements.txt)"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    data, socket, log = folder / "data", folder / "s", folder / "mariadb.log"
    user = f"--user={getpass.getuser()}"
    base = ["--no-defaults", user, f"--datadir={data}"]
    if not data.exists():
        if in_memory and (memory := in_memory_folder("hlrelay-mariadb-", MARIADB_BYTES)):
            data.symlink_to(memory)
        subprocess.run(
            [install, *base, "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True,
            capture_output=True,
            timeout=START_DEADLINE_S,
        )
    ours = [
        f"--socket={socket}",
        f"--pid-file={folder / 'pid'}",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        # Durability is not what these tests are about.
        "--skip-log-bin",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
        "--innodb-buffer-pool-size=64M",
        "--performance-schema=OFF",
        "--character-set-server=utf8mb4",
        "--collation-server=utf8mb4_unicode_ci",
    ]
    process = start_process([server, *base, *ours, *options], log=log)
    grant = (
        "CREATE USER IF NOT EXISTS 'relay'@'127.0.0.1' IDENTIFIED BY 'relay';"
        "GRANT ALL ON *.* TO 'relay'@'127.0.0.1';"
        "CREATE DATABASE IF NOT EXISTS relay CHARACTER SET utf8mb4;"
    )

    def answers() -> bool:
        ask = [client, "--no-defaults", "-uroot", f"--socket={socket}", "-e", grant]
        return subprocess.run(ask, check=False, capture_output=True).returncode == 0

    wait_until(answers, process=process, what="mariadb", log=log)
    return Service("mariadb", f"mysql://relay:relay@127.0.0.1:{port}/relay", process, log, folder)
