"""`manage.py run_grpc`: one process that serves customers over gRPC."""

from __future__ import annotations

import asyncio
import signal
from argparse import ArgumentParser
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from prometheus_client import REGISTRY, start_http_server

from gateway.grpc.config import CannotListen, GrpcConfig, tls_of
from relay_site import wiring
from relay_site.processes import port_problem
from streaming import garbage, runtime
from streaming.short_slice import ask_for_short_slice


class Command(BaseCommand):
    """Serves the relay's own gRPC surface, and those of others."""

    help = "Serve customers over gRPC, until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen."""
        parser.add_argument("--host", default=settings.RELAY_GRPC_HOST)
        parser.add_argument("--port", type=int, default=settings.RELAY_GRPC_PORT)
        parser.add_argument("--metrics-port", type=int, default=0, help="port of /metrics; 0: none")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        host, port = options["host"], options["port"]
        # Asked before gRPC's threads are there: a process that ends with them can abort in one.
        if problem := port_problem(host, port):
            raise CommandError(f"cannot listen on {host}:{port} (RELAY_GRPC_PORT): {problem}")
        config = GrpcConfig(
            host=host,
            port=port,
            drain_s=settings.RELAY_DRAIN_S,
            tls=tls_of(
                settings.RELAY_GRPC_TLS_CERT,
                settings.RELAY_GRPC_TLS_KEY,
                settings.RELAY_GRPC_TLS_CLIENT_CA,
            ),
            trusted_proxies=[ip_network(text) for text in settings.RELAY_TRUSTED_PROXIES],
        )
        runtime.configure(
            runtime.Config(
                bus_url=settings.REDIS_BUS_URL,
                admission=wiring.admission,
                meter=wiring.meter,
                mute_s=settings.RELAY_MUTE_S,
            )
        )
        ask_for_short_slice()
        try:
            asyncio.run(self._run(config, options["metrics_port"]))
        except CannotListen as error:
            raise CommandError(f"{error} (RELAY_GRPC_PORT)") from None

    async def _run(self, config: GrpcConfig, metrics_port: int) -> None:
        from gateway.grpc.server import GrpcServer
        from streaming.ws.metrics import HubCollector

        server = GrpcServer(config)
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, server.stop)
        REGISTRY.register(HubCollector(runtime.current()))

        def say(line: str) -> None:
            if metrics_port:
                start_http_server(metrics_port, addr=settings.RELAY_METRICS_HOST)
            self.stdout.write(line)
            self.stdout.flush()  # into a file it would stay here

        garbage.tame(loop)
        await server.run(say=say)
