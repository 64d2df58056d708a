"""One request at the HTTP edge while it is answered, and the answer."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from gateway.http.errors import Headers, HttpError
from gateway.requests.entry import ID_CHARS
from tenants.admission import keys
from tenants.admission.presented import presented_key
from tenants.admission.principal import Principal

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: A customer's own id is taken over when it is harmless in a header, a log line and a URL.
_HARMLESS = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._:-]{0,%d}\Z" % (ID_CHARS - 1))
#: How long a body may take to arrive. Behind nginx or Daphne it is here already.
BODY_S = 10.0


@dataclass(slots=True)
class Reply:
    """What is answered. `code` is why, when it is a refusal or holds one; "" else."""

    status: int
    headers: Headers
    body: bytes
    code: str = ""


@dataclass(slots=True)
class Call:
    """A request: what is known of it grows while it is answered, and is what a record of its
    failure says. `kind` is the type or method asked for."""

    id: str
    door: str
    scope: Message = field(repr=False)
    receive: Receive = field(repr=False)
    path_key: str | None = field(default=None, repr=False)
    began_s: float = field(default_factory=time.perf_counter)
    kind: str = ""
    principal: Principal | None = None
    upstream_s: float | None = None

    @property
    def method(self) -> str:
        """Of HTTP."""
        return str(self.scope["method"])

    @property
    def raw_key(self) -> str | None:
        """The key it was sent with, wherever that stood."""
        return presented_key(self.path_key, self.scope["headers"])

    @property
    def key_prefix(self) -> str:
        """What may be shown of its key, "" where that is none of ours."""
        if self.principal is not None:
            return self.principal.key_prefix
        raw_key = self.raw_key
        return keys.shown(raw_key) if raw_key and keys.is_well_formed(raw_key) else ""

    def asked_upstream(self, took_s: float) -> None:
        """An upstream was asked for so long."""
        self.upstream_s = took_s + (self.upstream_s or 0.0)

    async def body(self, *, max_bytes: int) -> bytes:
        """The body of a JSON request. Raises HttpError 400, 408, 413 or 415."""
        kind = header(self.scope, b"content-type").split(b";")[0].strip().lower()
        if kind != b"application/json":
            raise HttpError(415, "unsupported_media_type", "Send Content-Type: application/json.")
        return await self.read(max_bytes=max_bytes)

    async def read(self, *, max_bytes: int) -> bytes:
        """The body, whatever it is. Raises HttpError 400, 408 or 413."""
        try:
            async with asyncio.timeout(BODY_S):
                return await self._rest(await self.receive(), max_bytes)
        except TimeoutError:
            text = f"The body did not arrive within {BODY_S:g} s."
            raise HttpError(408, "slow_body", text, headers=[(b"connection", b"close")]) from None

    async def _rest(self, message: Message, max_bytes: int) -> bytes:
        body = b""
        while True:
            if message["type"] == "http.disconnect":
                raise HttpError(400, "incomplete", "The request ended before its body.")
            body = _bounded(body + message.get("body", b""), max_bytes)
            if not message.get("more_body"):
                return body
            message = await self.receive()


class Door(Protocol):
    """What answers at one path. Raises HttpError or a Denied."""

    name: str

    async def reply(self, call: Call) -> Reply:
        """Admit, answer and count one POST."""


def header(scope: Message, name: bytes) -> bytes:
    """The first header field of a name in lower case; b"" without one."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def request_id(scope: Message) -> str:
    """The customer's `X-Request-Id`, or one of ours."""
    given = header(scope, b"x-request-id")
    if given and _HARMLESS.match(given):
        return given.decode("ascii")
    return os.urandom(16).hex()


def json_body(body: bytes) -> Any:
    """The request in a body. Raises HttpError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, "bad_json", f"The body is not JSON: {error}.") from None


def _bounded(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        text = f"The body is larger than {max_bytes} bytes."
        raise HttpError(413, "too_large", text, headers=[(b"connection", b"close")])
    return body
