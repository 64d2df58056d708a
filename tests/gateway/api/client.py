"""The account API in this process: the real door, middleware and views, with keys looked up in the
test's own transaction."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import async_to_sync, sync_to_async
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.utils import timezone

from gateway.api.door import AccountDoor
from gateway.requests.entry import Entry
from tenants import selectors, services
from tenants.admission import keys
from tenants.admission.access import Caller, refusal
from tenants.admission.errors import InvalidKey, MissingKey
from tenants.admission.limiter import Rate
from tenants.admission.principal import Principal
from tenants.models import APIKey, Tenant

#: Without the thread of its own that each request has: it would not see the test's transaction.
_application = get_asgi_application().handle


class Keys:
    """Admission without its caches and threads, which would not see what is not committed."""

    async def authenticate(self, raw_key: str | None, *, scope: str, caller: Caller) -> Principal:
        if not raw_key:
            raise MissingKey
        digest = keys.digest(raw_key, "")
        found = await sync_to_async(selectors.principals_by_digest)([digest])
        if digest not in found:
            raise InvalidKey
        if (denied := refusal(found[digest], caller, scope=scope, now=timezone.now())) is not None:
            raise denied
        return found[digest]

    async def charge(
        self, principal: Principal, weight: float, *, default: Rate | None
    ) -> list[tuple[bytes, bytes]]:
        return [(b"ratelimit", b'"default";r=1;t=1')]


class Meter:
    """Counts requests by key."""

    def __init__(self) -> None:
        self.requests: list[int] = []

    def slot(self, key_id: int, channel: str) -> int:
        assert channel == "account"
        return key_id

    def add_requests(self, slot: int, requests: int) -> None:
        self.requests += [slot] * requests


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error, which has one shape."""
        error = self.json["error"]
        assert set(self.json) == {"error"}
        assert set(error) == {"code", "message", "request_id"}
        assert "\n" not in error["message"]
        assert error["request_id"] == self.headers["x-request-id"]
        return str(error["code"])


@dataclass(slots=True)
class Api:
    """Asks with a key."""

    raw_key: str = field(repr=False)
    key: APIKey
    meter: Meter = field(default_factory=Meter)
    noted: list[Entry] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        **query: Any,
    ) -> Answer:
        fields = {"host": "localhost", "x-api-key": self.raw_key}
        sent = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        if sent:
            fields["content-type"] = "application/json"
        fields |= {name.lower(): value for name, value in (self.headers | (headers or {})).items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": f"/v1/{path}",
            "raw_path": f"/v1/{path}".encode(),
            "query_string": urlencode(query, doseq=True).encode(),
            "root_path": "",
            "headers": [(n.encode(), v.encode("latin-1")) for n, v in fields.items() if v],
            "client": ["127.0.0.1", 1],
            "server": ["localhost", 80],
        }
        # As Django's own client: both would close the connection of the test's transaction.
        for signal in (request_started, request_finished):
            signal.disconnect(close_old_connections)
        try:
            return async_to_sync(self._ask)(scope, sent)
        finally:
            for signal in (request_started, request_finished):
                signal.connect(close_old_connections)

    def get(self, path: str, **query: Any) -> Any:
        """The answer's JSON, which must be one."""
        answer = self("GET", path, **query)
        assert answer.status == 200, answer.body
        return answer.json

    async def _ask(self, scope: dict[str, Any], sent: bytes) -> Answer:
        door = AccountDoor(
            _application,
            admission=Keys,
            meter=lambda: self.meter,
            note=lambda: self.noted.append,
        )
        got: list[dict[str, Any]] = []
        messages = [{"type": "http.request", "body": sent, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not messages:  # the caller stays
                await asyncio.Event().wait()
            return messages.pop()

        async def send(message: dict[str, Any]) -> None:
            got.append(message)

        await door(scope, receive, send)
        headers = {n.decode().lower(): v.decode("latin-1") for n, v in got[0]["headers"]}
        body = b"".join(message.get("body", b"") for message in got[1:])
        return Answer(got[0]["status"], headers, body)


def api_of(tenant: Tenant, *scopes: str, **rights: Any) -> Api:
    """A key of a tenant, by default with `account` alone, and the API it opens."""
    issued = services.issue_key(
        tenant=tenant, name="api", scopes=list(scopes or ("account",)), **rights
    )
    return Api(issued.raw, issued.key)
