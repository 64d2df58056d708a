"""The embedded relay: the processes of production, smaller, on one machine. What `manage.py up`
runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.exceptions
from django.conf import settings

from gateway.sandbox.origin import SUPERVISED
from relay_site import demo, redis_urls
from relay_site.preflight import FolderLock, find_redis
from relay_site.processes import free_port
from relay_site.secrets import write_private
from relay_site.supervisor import ChildSpec, Say, StartFailed, Supervisor

#: A cold start on one slow core took 25 s.
START_DEADLINE_S = 120.0
SERVICE_DEADLINE_S = 60.0
#: The promise is 5 s for everything, Redis last.
STOP_GRACE_S = 3.5
REDIS_GRACE_S = 1.0

REDIS = "redis"
WEB = "web"
HTTP_EDGE = "http_edge"
GRPC = "grpc"
UPSTREAM = "upstream"
JOBS = "jobs"
SIMULATOR = "simulator"


class Unreachable(RuntimeError):
    """A service the operator named does not answer."""


class EmbeddedRelay:
    """All processes of one relay, with `RELAY_VAR` as their folder."""

    def __init__(self, *, lock: FolderLock, say: Say) -> None:
        self.var: Path = settings.RELAY_VAR
        self._lock, self._say = lock, say
        self._stop = asyncio.Event()
        self._demo: demo.Demo | None = None
        self._serving = False
        self._started_at = datetime.now(UTC)
        #: Names of the upstream workers: `upstream`, `upstream-2`, …
        self.workers = [
            UPSTREAM if number == 1 else f"{UPSTREAM}-{number}"
            for number in range(1, settings.RELAY_UPSTREAM_WORKERS + 1)
        ]
        self.ports = {
            name: free_port()
            for name in (SIMULATOR, "simulator_metrics", *self.workers, JOBS, GRPC)
        }
        self.supervisor = Supervisor(
            logs=self.var / "logs", cwd=settings.BASE_DIR, say=say, on_change=self._note_change
        )
        # As an upstream, as the sandbox, or as both.
        self._simulates = SUPERVISED in (settings.RELAY_SANDBOX, *_entries())

    async def run(self) -> None:
        """Start everything, then keep it running until SIGTERM or SIGINT.

        Raises StartFailed or Unreachable; everything is stopped then, too.
        """
        begin_s = time.monotonic()
        (self.var / "run.json").unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Under nohup a closed terminal is no reason to stop.
            if sig != signal.SIGHUP or signal.getsignal(sig) != signal.SIG_IGN:
                loop.add_signal_handler(sig, self._on_signal)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                self._serving = True
                self._write_run()
                self._lock.note("serving")
                self._say(self._summary(time.monotonic() - begin_s))
                await stopping
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._shut_down()

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._say("stopping at once")
            self.supervisor.kill_all()
        self._stop.set()

    # --- start ------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if settings.REDIS_URL_IS_SET:
            await self._wait_for("REDIS_URL", _redis_fault)
        else:
            self._start_redis()
            await self.supervisor.wait_ready([REDIS], deadline_s=SERVICE_DEADLINE_S)
        if not settings.IS_SQLITE:
            await self._wait_for("DATABASE_URL", _database_fault)
        await asyncio.to_thread(self._prepare_database)
        for spec in self._specs():
            self.supervisor.add(spec)
        names = [name for name in self.supervisor.children if name != REDIS]
        await self.supervisor.wait_ready(names, deadline_s=START_DEADLINE_S)

    async def _wait_for(self, name: str, fault: Any) -> None:
        """Until the service that `name` stands for answers, saying what is waited for."""
        deadline_s = time.monotonic() + SERVICE_DEADLINE_S
        said = False
        while wrong := await asyncio.to_thread(fault):
            if time.monotonic() > deadline_s:
                raise Unreachable(f"{name}: no answer within {SERVICE_DEADLINE_S:g} s ({wrong})")
            if not said:
                self._say(f"waiting for {name} ({wrong})")
                said = True
            await asyncio.sleep(0.5)

    def _prepare_database(self) -> None:
        """Bring the schema up to date, and the demo's prices, tenant and operator with it."""
        from django.core.management import call_command
        from django.db import connection
        from django.db.migrations.executor import MigrationExecutor

        try:
            executor = MigrationExecutor(connection)
            if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
                self._say(f"  database   applying {len(plan)} migrations")
                call_command("migrate", verbosity=0, interactive=False)
            if not settings.IS_PRODUCTION:
                if published := demo.publish_prices():
                    self._say(f"  prices     {published} plans and add-ons of the seed book")
                self._demo = demo.seed(self.var)
        finally:
            connection.close()

    def _start_redis(self) -> None:
        binary, socket = find_redis(), redis_urls.embedded_socket(self.var)
        if binary is None:
            raise StartFailed("REDIS_URL: no redis-server to start")
        folder = self.var / "redis"
        folder.mkdir(exist_ok=True)
        command = [binary, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
        # Nothing here is the only copy: usage is in the disk spool until the database has it, and
        # the rest is made anew from the upstream.
        command += ["--dir", str(folder), "--save", "", "--appendonly", "no"]
        command += ["--maxmemory-policy", "noeviction"]
        command += ["--client-output-buffer-limit", "pubsub 256mb 64mb 60"]
        self.supervisor.add(
            ChildSpec(
                name=REDIS,
                command=command,
                environment=os.environ,
                probe=lambda: _redis_fault() is None,
                before_start=lambda: socket.unlink(missing_ok=True),
            )
        )

    def _specs(self) -> list[ChildSpec]:
        python, environment = [sys.executable], self.child_environment()
        manage = [*python, str(settings.BASE_DIR / "manage.py")]
        specs = []
        if self._simulates:
            command = ["run_simulator", "--dir", str(self.simulator_dir)]
            command += ["--port", str(self.ports[SIMULATOR])]
            command += ["--metrics-port", str(self.ports["simulator_metrics"])]
            # Full activity writes 1.2 GB of node files an hour, and two hours are kept; half of it
            # still changes BTC's book in every block.
            command += ["--activity", "0.5"]
            specs.append(self._spec(SIMULATOR, [*manage, *command], "simulator_metrics"))
        for worker in self.workers:
            command = ["run_upstream", "--metrics-port", str(self.ports[worker])]
            specs.append(self._spec(worker, [*manage, *command], worker))
        specs.append(
            ChildSpec(
                name=WEB,
                command=[*manage, "run_daphne"],
                environment=environment,
                probe_url=f"{self.base_url}/readyz",
            )
        )
        if settings.RELAY_HTTP_EDGE_PORT:
            specs.append(
                ChildSpec(
                    name=HTTP_EDGE,
                    command=[*manage, "serve_http", "--port", str(settings.RELAY_HTTP_EDGE_PORT)],
                    environment=environment,
                    probe_url=f"{self.http_edge_url}/readyz",
                )
            )
        command = ["run_grpc", "--metrics-port", str(self.ports[GRPC])]
        specs.append(self._spec(GRPC, [*manage, *command], GRPC))
        celery = ["-m", "celery", "-A", "relay_site", "worker", "-B", "-P", "solo", "-l", "INFO"]
        # One worker alone has nobody to gossip with, and mingling costs it a second.
        celery += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        celery += ["-s", str(self.var / "celery" / "beat-schedule")]
        (self.var / "celery").mkdir(exist_ok=True)
        specs.append(self._spec(JOBS, [*python, *celery], JOBS))
        return specs

    def _spec(self, name: str, command: list[str], port_name: str) -> ChildSpec:
        port = self.ports[port_name]
        return ChildSpec(
            name=name,
            command=command,
            environment=self.child_environment() | {"RELAY_METRICS_PORT": str(port)},
            probe_url=f"{self._metrics_base(port)}/metrics",
        )

    @property
    def simulator_dir(self) -> Path:
        """Where the simulator writes as a node does."""
        return self.var / "simulator" / "hl" / "data"

    def child_environment(self) -> dict[str, str]:
        """What every child gets: ours, with the addresses that only we know made explicit."""
        explicit = {
            "DJANGO_SETTINGS_MODULE": "relay_site.settings",
            "PYTHONUNBUFFERED": "1",
            "RELAY_VAR": str(self.var),
            "REDIS_URL": settings.REDIS_URL,
            "RELAY_UPSTREAMS": self.upstreams(),
            "RELAY_SANDBOX": self.sandbox(),
        }
        if settings.IS_SQLITE:
            explicit["DATABASE_URL"] = f"sqlite:///{settings.DATABASES['default']['NAME']}"
        # A NAME_FILE beside its NAME would be a contradiction.
        twins = {f"{name}_FILE" for name in explicit}
        inherited = {name: value for name, value in os.environ.items() if name not in twins}
        return inherited | explicit

    def upstreams(self) -> str:
        """`RELAY_UPSTREAMS` with the simulator's own address in place of `simulator:`."""
        info = f"http://127.0.0.1:{self.ports[SIMULATOR]}"
        node = f"node://{self.simulator_dir}?info={info}&evm={info}&exchange={info}"
        return ",".join(node if entry.startswith(SUPERVISED) else entry for entry in _entries())

    def sandbox(self) -> str:
        """`RELAY_SANDBOX` with the simulator's own address in place of `simulator:`."""
        is_ours = settings.RELAY_SANDBOX == SUPERVISED
        return f"http://127.0.0.1:{self.ports[SIMULATOR]}" if is_ours else settings.RELAY_SANDBOX

    # --- what we tell -----------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """Where customers on this machine reach us."""
        return f"http://{_reachable(settings.RELAY_HTTP_HOST)}:{settings.RELAY_HTTP_PORT}"

    @property
    def http_edge_url(self) -> str:
        """The same, at the HTTP edge of its own."""
        return f"http://{_reachable(settings.RELAY_HTTP_HOST)}:{settings.RELAY_HTTP_EDGE_PORT}"

    def _metrics_base(self, port: int) -> str:
        return f"http://{_reachable(settings.RELAY_METRICS_HOST)}:{port}"

    def run_info(self) -> dict[str, Any]:
        """What run.json says."""
        base_url = self.base_url
        metrics_ports = {name: self.ports[name] for name in (*self.workers, GRPC, JOBS)}
        if self._simulates:
            metrics_ports[SIMULATOR] = self.ports["simulator_metrics"]
        info: dict[str, Any] = {
            "http": base_url,
            "grpc": f"{_reachable(settings.RELAY_GRPC_HOST)}:{settings.RELAY_GRPC_PORT}",
            "admin_url": f"{base_url}/admin/",
            "pid": os.getpid(),
            "started_at": self._started_at.isoformat(timespec="seconds"),
            "var": str(self.var),
            "logs": str(self.var / "logs"),
            "ports": {"http": settings.RELAY_HTTP_PORT, "grpc": settings.RELAY_GRPC_PORT},
            "metrics": {WEB: f"{base_url}/metrics"}
            | {name: f"{self._metrics_base(p)}/metrics" for name, p in metrics_ports.items()},
            "processes": {name: c.pid for name, c in self.supervisor.children.items()},
            "redis_url": redis_urls.without_password(settings.REDIS_URL),
            "upstreams": self.upstreams(),
        }
        if settings.RELAY_HTTP_EDGE_PORT:
            info[HTTP_EDGE] = self.http_edge_url
            info["ports"][HTTP_EDGE] = settings.RELAY_HTTP_EDGE_PORT
            info["metrics"][HTTP_EDGE] = f"{self.http_edge_url}/metrics"
        if self._simulates:
            info["simulator"] = f"http://127.0.0.1:{self.ports[SIMULATOR]}"
            info["ports"][SIMULATOR] = self.ports[SIMULATOR]
        if self._demo is not None:
            info["ws"] = f"{base_url.replace('http', 'ws', 1)}/{self._demo.api_key}/ws"
            info["evm"] = f"{base_url}/{self._demo.api_key}/evm"
            if settings.RELAY_SANDBOX:
                info["sandbox"] = f"{base_url}/sandbox/{self._demo.api_key}"
            info |= self._demo.as_dict()
        return info

    def _write_run(self) -> None:
        write_private(self.var / "run.json", json.dumps(self.run_info(), indent=2) + "\n")

    def _note_change(self) -> None:
        if self._serving and not self._stop.is_set():
            self._write_run()

    def _summary(self, took_s: float) -> str:
        info = self.run_info()
        rows = [("HTTP", info["http"]), ("gRPC", info["grpc"])]
        if HTTP_EDGE in info:
            rows.insert(1, ("HTTP edge", info[HTTP_EDGE]))
        if self._demo is not None:
            rows += [
                ("WebSocket", info["ws"]),
                ("API key", info["api_key"]),
                (
                    "Dashboard",
                    f"{info['http']}/app/  {info['customer_user']} / {info['customer_password']}",
                ),
                ("Admin", f"{info['admin_url']}  {info['admin_user']} / {info['admin_password']}"),
            ]
        rows += [("Logs", info["logs"]), ("All of it", str(self.var / "run.json"))]
        lines = ["", f"The relay serves (after {took_s:.1f} s). Ctrl-C stops it.", ""]
        lines += [f"  {name:<10} {value}" for name, value in rows]
        if self._demo is not None:
            lines += [
                "",
                "Try it (pip install hyperliquid-python-sdk), in a Python of your own:",
                "",
                "  from hyperliquid.info import Info; "
                f'info = Info("{info["http"]}/{info["api_key"]}")',
                '  info.subscribe({"type": "l2Book", "coin": "BTC"}, print)',
            ]
        return "\n".join([*lines, ""])

    # --- stop -------------------------------------------------------------------------------------

    async def _shut_down(self) -> None:
        begin_s = time.monotonic()
        self._lock.note("stopping")
        (self.var / "run.json").unlink(missing_ok=True)
        names = [name for name in self.supervisor.children if name != REDIS]
        await self.supervisor.stop(names, grace_s=STOP_GRACE_S + settings.RELAY_DRAIN_S)
        await self.supervisor.stop([REDIS], grace_s=REDIS_GRACE_S)
        self.supervisor.kill_all()
        self._say(f"stopped after {time.monotonic() - begin_s:.1f} s")


def _entries() -> list[str]:
    return [entry.strip() for entry in settings.RELAY_UPSTREAMS.split(",") if entry.strip()]


def _reachable(host: str) -> str:
    """An address on this machine for something that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _redis_fault() -> str | None:
    client = redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    try:
        client.ping()
    except (redis.exceptions.RedisError, OSError) as error:
        return f"{type(error).__name__} at {redis_urls.without_password(settings.REDIS_URL)}"
    finally:
        with contextlib.suppress(redis.exceptions.RedisError):
            client.close()
    return None


def _database_fault() -> str | None:
    from django.db import DatabaseError, connection

    try:
        connection.ensure_connection()
    except DatabaseError as error:
        database = settings.DATABASES["default"]
        where = urlsplit(f"//{database.get('HOST') or 'localhost'}:{database.get('PORT') or 3306}")
        return f"{type(error).__name__} at {where.netloc}"
    finally:
        connection.close()
    return None
