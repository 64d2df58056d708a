"""`manage.py run_daphne`: one edge process."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from argparse import ArgumentParser
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from streaming.ws.close_codes import MAX_WAITING_CONNECTIONS


class Command(BaseCommand):
    """Serves WebSocket, HTTP, dashboard and admin."""

    help = "Serve customers over WebSocket and HTTP, until SIGTERM."

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
        # Daphne's reactor must be installed before anything imports Twisted's default one.
        from daphne import server as _daphne  # noqa: F401
        from twisted.internet import defer, reactor

        from streaming import garbage, runtime
        from streaming.short_slice import ask_for_short_slice
        from streaming.turns import go_by_turns
        from streaming.ws.server import Server

        ask_for_short_slice()
        application = import_string(settings.ASGI_APPLICATION)
        where = f"{options['host']}:{options['port']}"
        try:
            endpoint, held = _endpoint(options["host"], options["port"], options["reuse_port"])
        except OSError as error:
            raise CommandError(f"cannot listen on {where} (RELAY_HTTP_PORT): {error}") from None
        stopping: set[asyncio.Future[None]] = set()

        async def leave() -> None:
            server.stop_listening()
            await runtime.drain(settings.RELAY_DRAIN_S)
            server.stop()

        def on_signal() -> None:
            if stopping:  # a second one: at once
                server.stop()
            else:
                stopping.add(asyncio.ensure_future(leave()))

        def ready() -> None:
            loop = asyncio.get_event_loop()
            go_by_turns(loop)
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(name, on_signal)
            reactor.callLater(0, runtime.current)
            garbage.tame(loop)

        def stop() -> Any:
            return defer.Deferred.fromFuture(asyncio.ensure_future(runtime.stop()))

        server = Server(
            application,
            [endpoint],
            ready_callable=ready,
            # Twisted's own would end the process before its customers are gone.
            signal_handlers=False,
            trusted_proxies=[ip_network(text) for text in settings.RELAY_TRUSTED_PROXIES],
        )
        # "before", where Daphne too ends its applications: later phases wait for nobody, and the
        # loop would be over before the meter had written its last batch.
        reactor.addSystemEventTrigger("before", "shutdown", stop)
        server.run()
        del held
        if server.abort_start or not server.listening_addresses:
            sys.stderr.write(f"cannot listen on {where} (RELAY_HTTP_PORT)\n")
            sys.exit(1)


def _endpoint(host: str, port: int, is_shared: bool) -> tuple[str, socket.socket | None]:
    """Twisted's words for where to listen, and the socket they speak of. Raises OSError."""
    if not is_shared:
        interface = host.replace(":", chr(92) + ":")
        return f"tcp:{port}:interface={interface}:backlog={MAX_WAITING_CONNECTIONS}", None
    if ":" in host:
        raise OSError("--reuse-port takes an IPv4 address")  # all that Daphne's `fd:` can say
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    held.listen(MAX_WAITING_CONNECTIONS)
    held.setblocking(False)
    return f"fd:fileno={held.fileno()}", held
