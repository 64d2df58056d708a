"""`manage.py serve_http`: the HTTP edge under uvicorn, beside the Daphne that keeps the sockets."""

from __future__ import annotations

import importlib.util
import socket
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from streaming.short_slice import ask_for_short_slice
from streaming.ws.close_codes import MAX_WAITING_CONNECTIONS


class Command(BaseCommand):
    """Serves `/<key>/info` and its like, /livez, /readyz and /metrics."""

    help = "Serve customers over HTTP alone, until SIGTERM: five times what Daphne does on a core."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen."""
        parser.add_argument("--host", default=settings.RELAY_HTTP_HOST)
        parser.add_argument("--port", type=int, default=settings.RELAY_HTTP_PORT)
        parser.add_argument(
            "--reuse-port",
            action="store_true",
            help="share the port with other edges: the kernel spreads connections over them",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        try:
            import uvicorn
        except ImportError:
            raise CommandError(
                "uvicorn is not installed: pip install 'hl-relay[http]'", returncode=2
            ) from None
        ask_for_short_slice()
        host, port = options["host"], options["port"]
        try:
            listening = _listen(host, port, is_shared=options["reuse_port"])
        except OSError as error:
            raise CommandError(f"cannot listen on {host}:{port}: {error}") from None
        from relay_site.asgi_http import application

        has_httptools = importlib.util.find_spec("httptools") is not None
        config = uvicorn.Config(
            application,
            # Without httptools headers are read in Python, at a third of the rate.
            http="httptools" if has_httptools else "h11",
            loop="uvloop" if importlib.util.find_spec("uvloop") is not None else "asyncio",
            ws="websockets-sansio",
            lifespan="on",
            # Both would hold keys: the access log, and headers of a proxy that anybody may write.
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            log_config=None,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(settings.RELAY_DRAIN_S) or 1,
        )
        server = uvicorn.Server(config)
        self.stdout.write(f"http edge listens on {host}:{port}")
        self.stdout.flush()
        server.run(sockets=[listening])
        if not server.started:
            sys.exit(1)


def _listen(host: str, port: int, *, is_shared: bool) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, port))
    listening.listen(MAX_WAITING_CONNECTIONS)
    return listening
