"""The HTTP edge: the paths that customers' clients join to their base URL, as one thin ASGI app.

No middleware, and nothing of Daphne's or Django's: it runs under any ASGI server. Whatever is
refused or fails leaves a record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import structlog

from gateway.http.call import Call, Door, Message, Receive, Reply, Send, request_id
from gateway.http.errors import JSON_HEADERS, Headers, HttpError
from gateway.requests.entry import Entry
from tenants.admission.errors import Denied
from tenants.admission.presented import split_path
from tenants.admission.principal import Principal

log = structlog.get_logger(__name__)

Note = Callable[[Entry], None]
#: Told of every answered request of a tenant: its id, the door, how many ms.
Timed = Callable[[int, str, float], None]

#: What is in no table of ours, so that a label of a metric or a facet cannot grow without bound.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: What is asked over a socket, where a method of HTTP would stand.
OVER_SOCKET = "WS"


class Edge:
    """Answers requests at the paths of `doors`; `note` keeps what went wrong, `timed` how long what
    was answered took, and neither may wait."""

    def __init__(
        self,
        doors: Mapping[str, Door],
        *,
        note: Callable[[], Note],
        timed: Callable[[], Timed] | None = None,
        base: str = "",
    ) -> None:
        """`note` and `timed` are asked for when there is something to note: they are the running
        process's. `base` is a segment that stands before the key, "" for none."""
        self._doors = doors
        self._note = note
        self._timed = timed
        self._base = base

    def serves(self, path: str) -> bool:
        """Whether a path, with or without a key before it, is one of ours."""
        rest = behind(path, self._base)
        return rest is not None and split_path(rest)[1] in self._doors

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path_key, path = split_path(behind(scope["path"], self._base) or "")
        door = self._doors[path]
        call = Call(request_id(scope), door.name, scope, receive, path_key)
        reply = await self._reply(door, call)
        if reply.code or reply.status >= 400:
            self._note()(entry_of(call, status=reply.status, code=reply.code))
        if self._timed is not None and call.principal is not None and reply.status != 429:
            took_ms = (time.perf_counter() - call.began_s) * 1e3
            self._timed()(call.principal.tenant_id, call.door, took_ms)
        headers = [
            *reply.headers,
            (b"x-request-id", call.id.encode()),
            (b"content-length", str(len(reply.body)).encode()),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, door: Door, call: Call) -> Reply:
        try:
            if call.method == "POST":
                return await door.reply(call)
            if call.method == "OPTIONS":
                return Reply(204, _PREFLIGHT, b"")
            raise HttpError(
                405, "method_not_allowed", "Use POST.", headers=[(b"allow", b"POST, OPTIONS")]
            )
        except HttpError as error:
            return Reply(error.status, JSON_HEADERS + error.headers, error.body, error.code)
        except Denied as denied:
            return refused(denied)
        except Exception:
            log.exception("request_failed", request=call.id, door=call.door, kind=call.kind)
            failed = HttpError(
                500, "internal", f"Internal error. Tell us the request id {call.id}."
            )
            return Reply(failed.status, JSON_HEADERS, failed.body, failed.code)


def over_socket(door: str, principal: Principal) -> Call:
    """A request over a socket, which has no id but the one of its record."""
    scope = {"method": OVER_SOCKET, "headers": []}
    return Call(os.urandom(16).hex(), door, scope, _nothing, principal=principal)


def behind(path: str, base: str) -> str | None:
    """What stands behind the first segment `base` of a path, None where that is another; with ""
    the path itself."""
    if not base:
        return path
    first, _, rest = path.lstrip("/").partition("/")
    return f"/{rest}" if first == base else None


def refused(denied: Denied) -> Reply:
    """The answer to who was not let in."""
    extra = [header for header in denied.headers if header[0] != b"content-type"]
    return Reply(denied.http_status, JSON_HEADERS + extra, denied.body, denied.code)


def entry_of(call: Call, *, status: int, code: str) -> Entry:
    """What is kept of a request that did not go well."""
    principal = call.principal
    return Entry(
        at_s=time.time(),
        request_id=call.id,
        tenant_id=principal.tenant_id if principal is not None else None,
        key_prefix=call.key_prefix,
        door=call.door,
        method=call.method if call.method in METHODS | {OVER_SOCKET} else "other",
        kind=call.kind,
        status=status,
        code=code,
        upstream_ms=None if call.upstream_s is None else call.upstream_s * 1e3,
        total_ms=(time.perf_counter() - call.began_s) * 1e3,
    )


async def _nothing() -> Message:
    raise RuntimeError("what came over a socket has no body of its own")


_PREFLIGHT: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-allow-headers", b"content-type, x-api-key, authorization, x-request-id"),
    (b"access-control-max-age", b"86400"),
]
