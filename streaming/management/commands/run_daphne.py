"""`manage.py run_daphne`: one edge process."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.module_loading import import_string


class Command(BaseCommand):
    """Serves WebSocket, HTTP, dashboard and admin."""

    help = "Serve customers over WebSocket and HTTP, until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen."""
        parser.add_argument("--host", default=settings.RELAY_HTTP_HOST)
        parser.add_argument("--port", type=int, default=settings.RELAY_HTTP_PORT)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        # Daphne's reactor must be installed before anything imports Twisted's default one.
        from daphne import server as _daphne  # noqa: F401
        from twisted.internet import defer, reactor

        from streaming import runtime
        from streaming.ws.server import Server

        application = import_string(settings.ASGI_APPLICATION)

        def ready() -> None:
            reactor.callLater(0, runtime.current)

        def stop() -> Any:
            return defer.Deferred.fromCoroutine(_stop())

        async def _stop() -> None:
            import asyncio

            await defer.Deferred.fromFuture(asyncio.ensure_future(runtime.stop()))

        server = Server(
            application,
            [f"tcp:{options['port']}:interface={options['host']}:backlog=4096"],
            ready_callable=ready,
            # In production a proxy stands before us and sets it: deploy/nginx.conf.
            proxy_forwarded_address_header="X-Forwarded-For" if settings.IS_PRODUCTION else None,
        )
        reactor.addSystemEventTrigger("during", "shutdown", stop)
        server.run()
        if server.abort_start or not server.listening_addresses:
            sys.stderr.write(
                f"cannot listen on {options['host']}:{options['port']} (RELAY_HTTP_PORT)\n"
            )
            sys.exit(1)
