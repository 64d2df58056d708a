"""One ASGI application: customers' sockets and reads on a short path, everything else through
Django."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # loads the apps: the imports below need them

from gateway.api.door import AccountDoor  # noqa: E402
from gateway.http.errors import JSON_HEADERS, HttpError  # noqa: E402
from gateway.operations import status  # noqa: E402
from relay_site import doors, health  # noqa: E402
from streaming import runtime  # noqa: E402
from streaming.ws.consumer import DataConsumer  # noqa: E402
from tenants.admission.presented import split_path  # noqa: E402


@cache
def _consumer() -> Any:
    return DataConsumer.as_asgi()


async def _upstream_check() -> str | None:
    return runtime.current().staleness()


health.register("upstream", _upstream_check)
status.plug(lambda: runtime.current().staleness())
doors.configure()
account = AccountDoor(
    django_application,
    admission=lambda: runtime.current().admission,
    meter=lambda: runtime.current().meter,
    note=lambda: doors.current().writer.note,
)
NOT_FOUND = HttpError(
    404, "not_found", "No such path. Sockets live at /<key>/ws, reads at /<key>/info."
)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Route by the last path segment: customers' clients join base URL and path by hand, so the key
    comes first."""
    match scope["type"]:
        case "websocket":
            if (socket := doors.socket_of(scope["path"])) is not None:
                await socket(scope, receive, send)
            elif split_path(scope["path"])[1] == "/ws":
                await _consumer()(scope, receive, send)
            else:
                await receive()
                await _refuse(send, "websocket.http.response")
        case "http":
            path = scope["path"]
            # A customer may be called "info"; no key is called "app".
            if not path.startswith("/app/") and (edge := doors.edge_of(path)) is not None:
                await edge(scope, receive, send)
            elif account.serves(path):
                await account(scope, receive, send)
            else:
                await django_application(scope, receive, send)
        case kind:
            raise ValueError(f"no application for {kind}")


async def _refuse(send: Any, kind: str) -> None:
    start = {"type": f"{kind}.start", "status": NOT_FOUND.status, "headers": JSON_HEADERS}
    await send(start)
    await send({"type": f"{kind}.body", "body": NOT_FOUND.body})
