"""`manage.py run_upstream`: one upstream worker."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from prometheus_client import start_http_server

from streaming.bus.lease import LeaseLost
from streaming.upstream.spec import BadUpstreams, UpstreamKind, parse_upstreams
from streaming.upstream.worker import Worker, build_sources


class Command(BaseCommand):
    """Reads the upstreams of RELAY_UPSTREAMS and publishes the topics that edges lease."""

    help = "Read the upstreams and publish to the bus, until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to serve metrics."""
        parser.add_argument(
            "--metrics-port", type=int, default=0, help="port of /metrics on 127.0.0.1; 0: none"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        try:
            specs = parse_upstreams(settings.RELAY_UPSTREAMS)
        except BadUpstreams as bad:
            raise CommandError("\n".join(bad.problems), returncode=2) from bad
        if any(spec.kind is UpstreamKind.SIMULATOR for spec in specs):
            raise CommandError(
                "RELAY_UPSTREAMS: 'simulator:' is started by `manage.py up`; "
                "a worker alone needs node:// or wss://",
                returncode=2,
            )
        if options["metrics_port"]:
            start_http_server(options["metrics_port"], addr="127.0.0.1")
        try:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(self._run(specs))
        except ExceptionGroup as group:
            if group.subgroup(LeaseLost) is None:
                raise
            raise CommandError("another upstream worker took over; start again") from group

    async def _run(self, specs: list[Any]) -> None:
        scratch = settings.RELAY_VAR / "checkpoints"
        worker = Worker(
            sources=build_sources(specs, scratch=scratch), bus_url=settings.REDIS_BUS_URL
        )
        task = asyncio.ensure_future(worker.run())
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, task.cancel)
        self.stdout.write(
            f"upstream worker {worker.name} reads {', '.join(str(spec.address) for spec in specs)}"
        )
        await task
