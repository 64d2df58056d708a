"""`manage.py run_upstream`: one upstream worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from prometheus_client import start_http_server

from streaming.bus.log import MIB, LogLimits
from streaming.core.without_secrets import without_secrets
from streaming.nodes import selectors, services
from streaming.nodes.follow import NothingKnown, Rows, Specs
from streaming.short_slice import ask_for_short_slice
from streaming.upstream.build import Upstreams
from streaming.upstream.schema_alerts import SchemaAlerts
from streaming.upstream.spec import BadUpstreams, UpstreamSpec
from streaming.upstream.worker import Worker

log = structlog.get_logger(__name__)

#: Beside the checkpoints of others, so that two workers never write over each other's.
SCRATCH = "worker-{pid}"
#: What the rows named last, for a start without the database.
KEPT = "upstreams.json"


class Command(BaseCommand):
    """Reads the upstreams of RELAY_UPSTREAMS, or else of the admin's rows, and publishes the topics
    that edges lease.
    """

    help = "Read the upstreams and publish to the bus, until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to serve metrics."""
        parser.add_argument(
            "--metrics-port", type=int, default=0, help="port of /metrics on 127.0.0.1; 0: none"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        if "simulator:" in settings.RELAY_UPSTREAMS:
            raise CommandError(
                "RELAY_UPSTREAMS: 'simulator:' is started by `manage.py up`; "
                "a worker alone needs node://, gateway:// or wss://",
                returncode=2,
            )
        rows = None
        try:
            if selectors.are_upstreams_fixed():
                specs = services.configured()
            else:
                rows = Rows(_read_rows, kept=settings.RELAY_VAR / KEPT)
                specs = rows.first()
        except BadUpstreams as bad:
            raise CommandError("\n".join(bad.problems), returncode=2) from bad
        except NothingKnown as nothing:
            raise CommandError(str(nothing)) from nothing
        if options["metrics_port"]:
            start_http_server(options["metrics_port"], addr="127.0.0.1")
        ask_for_short_slice()
        scratch = _own_folder(settings.RELAY_VAR / "checkpoints")
        try:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(self._run(specs, rows, scratch))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    async def _run(self, specs: dict[str, UpstreamSpec], rows: Rows | None, scratch: Path) -> None:
        alerts = SchemaAlerts(settings.REDIS_BUS_URL)
        upstreams = Upstreams(specs, scratch=scratch, tell=alerts.add)
        worker = Worker(
            nodes=upstreams.nodes,
            build_owned=upstreams.build_owned,
            bus_url=settings.REDIS_BUS_URL,
            log_limits=LogLimits(
                events_s=settings.RELAY_LOG_S_EVENTS,
                events_bytes=settings.RELAY_LOG_MIB_EVENTS * MIB,
                bulk_s=settings.RELAY_LOG_S_BULK,
                bulk_bytes=settings.RELAY_LOG_MIB_BULK * MIB,
            ),
        )
        task = asyncio.ensure_future(
            _work(worker, alerts, rows, partial(_use, upstreams=upstreams, worker=worker))
        )
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, task.cancel)
        read = ", ".join(without_secrets(spec.address) for spec in specs.values())
        self.stdout.write(f"upstream worker {worker.name} reads {read or 'nothing yet'}")
        self.stdout.flush()  # into a file it would stay here
        await task


async def _work(
    worker: Worker, alerts: SchemaAlerts, rows: Rows | None, use: Callable[[Specs], None]
) -> None:
    """Each ends with the others."""
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        group.create_task(alerts.run())
        if rows is not None:
            group.create_task(rows.follow(use))


def _use(specs: dict[str, UpstreamSpec], upstreams: Upstreams, worker: Worker) -> None:
    if specs != upstreams.specs:
        log.info("upstreams_changed", names=sorted(specs))
        if upstreams.use(specs):
            worker.owned_changed()


def _read_rows() -> dict[str, UpstreamSpec]:
    try:
        return services.configured()
    finally:
        connection.close()


def _own_folder(folder: Path) -> Path:
    """This process's folder for checkpoints; those of workers that were killed are removed."""
    for left in folder.glob(SCRATCH.format(pid="*")):
        pid = left.name.rpartition("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return folder / SCRATCH.format(pid=os.getpid())
