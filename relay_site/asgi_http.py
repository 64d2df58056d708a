"""The HTTP edge alone, for an ASGI server that is not Daphne: customers' paths, and the two that
watch the process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # loads the apps: the imports below need them

from django.conf import settings  # noqa: E402

from gateway.http.errors import JSON_HEADERS, HttpError  # noqa: E402
from relay_site import doors, health  # noqa: E402
from streaming import runtime  # noqa: E402
from tenants.admission.presented import peer_address  # noqa: E402
from tenants.admission.principal import Network  # noqa: E402

NOT_FOUND = HttpError(404, "not_found", "No such path. Reads live at /<key>/info.")
WATCHED = frozenset({"/livez", "/readyz", "/metrics"})


async def _upstream_check() -> str | None:
    return runtime.current().staleness()


health.register("upstream", _upstream_check)
doors.configure()


class Application:
    """Routes, and says who it is that asks where a trusted proxy is before us."""

    def __init__(self, *, trusted_proxies: Sequence[Network]) -> None:
        self._trusted = trusted_proxies

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request, or the server's own life."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if self._trusted and (client := scope.get("client")):
            address = peer_address(client[0], scope["headers"], trusted=self._trusted)
            if address != client[0]:
                scope["client"] = [address, 0]
        kind, path = scope["type"], scope["path"]
        if kind == "http" and (edge := doors.edge_of(path)) is not None:
            await edge(scope, receive, send)
        elif kind == "websocket" and (socket := doors.socket_of(path)) is not None:
            await socket(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in WATCHED:
            await django_application(scope, receive, send)
        else:
            await _refuse(scope, receive, send)


async def _live(receive: Any, send: Any) -> None:
    await receive()
    runtime.current()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await runtime.stop()
    await send({"type": "lifespan.shutdown.complete"})


async def _refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": NOT_FOUND.status, "headers": JSON_HEADERS})
    await send({"type": f"{kind}.body", "body": NOT_FOUND.body})


def _networks() -> list[Network]:
    from ipaddress import ip_network

    return [ip_network(text) for text in settings.RELAY_TRUSTED_PROXIES]


application = Application(trusted_proxies=_networks())
