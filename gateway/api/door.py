"""The door of the account API: admits, charges and bounds a request before Django hears of it, and
counts it afterwards. Nobody without a key of its scopes costs a thread.

A used-up allowance refuses nothing here: whoever has none left must be able to see that, and to
change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import orjson
import structlog

from gateway.api.visit import IN_SCOPE, Visit
from gateway.http.call import Call, Message, Receive, Send, request_id
from gateway.http.concurrency import Concurrency
from gateway.http.edge import Note, entry_of
from gateway.http.errors import Headers, HttpError
from gateway.http.info import DEFAULT_RATE
from tenants.admission.access import Caller
from tenants.admission.errors import Denied, ScopeMissing
from tenants.admission.limiter import Rate
from tenants.admission.presented import caller_of, presented_key
from tenants.admission.principal import Principal, Scope

log = structlog.get_logger(__name__)

PREFIX = "/v1/"
#: What anybody may read.
PUBLIC = frozenset({"/v1/schema", "/v1/docs"})
#: The channel its use is counted on.
CHANNEL = "account"
MAX_BODY_BYTES = 64 * 1024
#: Of a key's rate; more for files, and for what reads many rows.
WEIGHT, HEAVY_WEIGHT = 2, 20
_HEAVY = ("/v1/exports/", "/v1/receipts/", "/v1/estimate", "/v1/traces")
_HEAVY_ENDS = (".csv", "/csv", "/pdf", "/html", "/facets", "/preview", "/running")
#: One tenant's requests at once, in one process: each holds a thread.
MAX_AT_ONCE = 16
#: Of a record: the first part of a path, where it is one of ours.
PARTS = frozenset(
    {
        *("account", "members", "keys", "usage", "usage.csv", "receipts", "invoices", "exports"),
        *("credit-notes", "plan", "plans", "spending", "estimate", "webhooks", "deliveries"),
        *("connections", "requests", "traces", "status", "gaps"),
    }
)


class Admission(Protocol):
    """What it asks of `AdmissionControl`."""

    async def authenticate(
        self, raw_key: str | None, *, scope: str, caller: Caller
    ) -> Principal: ...
    async def charge(
        self, principal: Principal, weight: float, *, default: Rate | None
    ) -> Headers: ...


class Meter(Protocol):
    """What it asks of the process's meter."""

    def slot(self, key_id: int, channel: str) -> int: ...
    def add_requests(self, slot: int, requests: int) -> None: ...


class AccountDoor:
    """An ASGI app in front of Django's. The callables give the running process's."""

    def __init__(
        self,
        application: Any,
        *,
        admission: Callable[[], Admission],
        meter: Callable[[], Meter],
        note: Callable[[], Note],
    ) -> None:
        self._application = application
        self._admission = admission
        self._meter = meter
        self._note = note
        self._concurrency = Concurrency(most=MAX_AT_ONCE)

    def serves(self, path: str) -> bool:
        """Whether a path is one of the account API's."""
        return path.startswith(PREFIX)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = Call(request_id(scope), "account", scope, receive)
        reply = _Reply(send, call.id)
        if scope["path"] in PUBLIC:
            await self._application(scope, receive, reply.pass_on)
            return
        call.kind = _kind_of(scope["path"])
        visit: Visit | None = None
        code = ""
        try:
            visit, body = await self._admit(call, reply)
            with self._concurrency.of(visit.principal):
                inner = {**scope, "headers": _headers(scope, body), IN_SCOPE: visit}
                await self._application(inner, _replayed(body, receive), reply.pass_on)
            code = visit.code
        except HttpError as error:
            code = error.code
            await reply.refuse(error.status, code, str(error), error.headers)
        except Denied as denied:
            code = denied.code
            headers = [field for field in denied.headers if field[0] != b"content-type"]
            await reply.refuse(denied.http_status, code, str(denied), headers)
        if reply.status >= 400:
            self._note()(entry_of(call, status=reply.status, code=code or reply.code))
        elif visit is not None and 0 < reply.status < 300:
            meter = self._meter()
            meter.add_requests(meter.slot(visit.principal.key_id, CHANNEL), 1)

    async def _admit(self, call: Call, reply: _Reply) -> tuple[Visit, bytes]:
        admission, caller = self._admission(), caller_of(call.scope)
        # In a header alone: a key in a path is one in logs.
        raw_key = presented_key(None, call.scope["headers"])
        try:
            principal = await admission.authenticate(raw_key, scope=Scope.ACCOUNT, caller=caller)
        except ScopeMissing as missing:
            try:
                principal = await admission.authenticate(
                    raw_key, scope=Scope.ACCOUNT_READ, caller=caller
                )
            except ScopeMissing:
                raise missing from None
        call.principal = principal
        weight = weight_of(call.scope["path"])
        reply.standing = await admission.charge(principal, weight, default=DEFAULT_RATE)
        body = await call.read(max_bytes=MAX_BODY_BYTES)
        return Visit(principal, call.id, hashlib.sha256(body).hexdigest()), body


def weight_of(path: str) -> int:
    """What a request to a path takes of a rate."""
    is_heavy = path.startswith(_HEAVY) or path.endswith(_HEAVY_ENDS)
    return HEAVY_WEIGHT if is_heavy else WEIGHT


def _kind_of(path: str) -> str:
    part = path.removeprefix(PREFIX).partition("/")[0]
    return part if part in PARTS else ""


def _headers(scope: Message, body: bytes) -> Headers:
    """With the length of a body that came in chunks, which is known now."""
    others = [field for field in scope["headers"] if field[0] != b"content-length"]
    return [*others, (b"content-length", b"%d" % len(body))] if body else others


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then what comes after it."""
    is_read = False

    async def replayed() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


class _Reply:
    """The way out: adds what every answer carries, and makes an error of Django's own, which is a
    page, one of this API's."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._id = request_id
        self._is_replaced = False
        self.standing: Headers = []
        self.status = 0
        self.code = ""

    async def pass_on(self, message: Message) -> None:
        """One message of Django's."""
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            kind = headers.get(b"Content-Type", headers.get(b"content-type", b""))
            status = message["status"]
            if status >= 400 and not kind.startswith(b"application/json"):
                self._is_replaced = True
                code, text = _OF_STATUS.get(status, ("internal", _INTERNAL.format(id=self._id)))
                await self.refuse(status, code, text, [])
                return
            self.status = status
            await self._send({**message, "headers": [*message["headers"], *self._own()]})
        elif not self._is_replaced:
            await self._send(message)

    async def refuse(self, status: int, code: str, text: str, headers: Headers) -> None:
        """The whole answer."""
        if self.status:  # it had begun
            return
        self.status, self.code = status, code
        body = orjson.dumps({"error": {"code": code, "message": text, "request_id": self._id}})
        names = {name for name, _ in headers}
        own = [field for field in self._own() if field[0] not in names]
        fields = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(body)),
            *headers,
            *own,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        await self._send({"type": "http.response.body", "body": body})

    def _own(self) -> Headers:
        return [(b"x-request-id", self._id.encode()), *self.standing]


_INTERNAL = "Internal error. Tell us the request id {id}."
_OF_STATUS = {
    400: ("bad_request", "The request is not one of HTTP that can be served; check its Host."),
    403: ("forbidden", "This is not allowed."),
    404: ("not_found", "No such path. /v1/docs names all there are."),
    405: ("method_not_allowed", "This path has not this method."),
    413: ("too_large", f"The body is larger than {MAX_BODY_BYTES} bytes."),
}
