"""A WebSocket that speaks neither of the relay's dialects: its handshake, what operators see of it,
and its end, as those at `/ws` have them.

What waits for a customer who does not read is bounded as there: the connection ends with 4008.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from gateway.http import call as http
from gateway.http.edge import Note, entry_of
from gateway.http.errors import JSON_HEADERS, Headers, HttpError
from streaming import runtime
from streaming.core.batch import Batch
from streaming.core.outbox import Frame
from streaming.sessions import SessionRow
from streaming.ws import close_codes
from streaming.ws.close_codes import CloseCode
from streaming.ws.consumer import AsgiSink, DataConsumer, KeyAccount
from streaming.ws.server import EXTENSION
from tenants.admission.access import Caller
from tenants.admission.caps import Standing
from tenants.admission.errors import Denied, Draining
from tenants.admission.limiter import TokenBucket
from tenants.admission.presented import caller_of, split_path
from tenants.admission.principal import Principal
from tenants.admission.quotas import Lease


@dataclass(slots=True)
class _Way:
    """What the runtime looks at of a session: its way out."""

    sink: Any
    is_numbered: bool = False


class PlainSocket:
    """One connection. Implements what the runtime asks of a customer: it is drained, listed and cut
    like those at `/ws`."""

    #: What records and operators call it.
    door: ClassVar[str]

    mute_since_s: float | None = None
    session: _Way | None = None
    session_id = ""
    lease: Lease | None = None
    principal: Principal
    is_ended = False

    def __init__(self, current: runtime.Runtime, *, note: Note) -> None:
        self._runtime, self._note = current, note
        self._posts: set[asyncio.Task[None]] = set()
        self.bucket = TokenBucket(
            capacity=close_codes.INBOUND_BURST,
            refill_per_s=close_codes.INBOUND_PER_MINUTE / 60,
            now_s=time.monotonic(),
        )

    # --- what a door does -------------------------------------------------------------------------

    async def admit(self, call: http.Call, caller: Caller) -> str:
        """Say on `call` who it is, charge them, and answer the scope that let them in. Raises a
        Denied or HttpError."""
        raise NotImplementedError

    async def opened(self) -> None:
        """The handshake is done."""

    def take(self, body: bytes) -> None:
        """One frame of the customer's."""
        raise NotImplementedError

    def covers(self, standing: Standing) -> bool:
        """Whether an allowance that is used up ends this connection."""
        return False

    def stopped(self) -> None:
        """It is over: let go of what it follows. May be called twice."""

    # --- life -------------------------------------------------------------------------------------

    async def __call__(self, scope: http.Message, receive: http.Receive, send: http.Send) -> None:
        """Serve the connection until it ends."""
        self.scope, self.send = scope, send
        self.socket = scope.get("extensions", {}).get(EXTENSION)
        await receive()  # websocket.connect
        try:
            if not await self._admitted():
                return
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                if not self.is_ended:
                    self._take(message)
                if self.socket is not None:
                    self.socket.handled()
        finally:
            self._release()

    async def _admitted(self) -> bool:
        path_key, _ = split_path(self.scope["path"])
        call = http.Call(
            http.request_id(self.scope), self.door, {**self.scope, "method": "GET"}, _none, path_key
        )
        call.kind = "(socket)"
        caller = caller_of(self.scope)
        try:
            if self._runtime.is_draining:
                raise Draining
            scope = await self.admit(call, caller)
            assert call.principal is not None  # noqa: S101
            self.principal = call.principal
            self.lease = self._runtime.admission.open_connection(
                self.principal,
                scope=scope,
                caller=caller,
                on_refused=lambda denied: self.end(CloseCode.POLICY, str(denied)),
                on_used=self._used,
            )
        except Denied as denied:
            self._note(entry_of(call, status=denied.http_status, code=denied.code))
            await self._refuse(call, denied.http_status, [*denied.headers], denied.body)
            return False
        except HttpError as error:
            self._note(entry_of(call, status=error.status, code=error.code))
            await self._refuse(call, error.status, [*JSON_HEADERS, *error.headers], error.body)
            return False
        await self.send({"type": "websocket.accept"})
        account = KeyAccount(self._runtime.meter, self.principal.key_id)
        self.sink = (
            self.socket.attach(
                account, farewell=lambda: [], max_lag_s=self.principal.limits.max_lag_s
            )
            if self.socket is not None
            else AsgiSink(self.send, account, cast(DataConsumer, self))
        )
        self.session = _Way(self.sink)
        self.opened_ms = time.time_ns() // 1_000_000
        self.session_id = self._runtime.sessions.new_id()
        self._runtime.joined(cast(DataConsumer, self))
        await self.opened()
        return True

    async def _refuse(self, call: http.Call, status: int, headers: Headers, body: bytes) -> None:
        start = {"type": "websocket.http.response.start", "status": status}
        headers.append((b"x-request-id", call.id.encode()))
        await self.send({**start, "headers": headers})
        await self.send({"type": "websocket.http.response.body", "body": body})

    def _used(self, standing: Standing) -> None:
        if standing.is_exhausted and self.covers(standing):
            reason = f"quota exhausted: {standing.cap.code} begins anew at"
            self.end(CloseCode.QUOTA, f"{reason} {standing.cap.ends_at:%Y-%m-%dT%H:%M:%SZ}")

    def _take(self, message: http.Message) -> None:
        text = message.get("text")
        body = (message.get("bytes") or b"") if text is None else text.encode()
        if self.bucket.take(1, now_s=time.monotonic()):
            self.end(CloseCode.POLICY, "too many messages")
        else:
            self.take(body)

    @property
    def current_principal(self) -> Principal:
        """The key as it is now; its plan may have changed since the handshake."""
        return self.lease.principal if self.lease is not None else self.principal

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that ends with the connection."""
        task = asyncio.ensure_future(work)
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    @property
    def pending(self) -> int:
        """How much of that there is."""
        return len(self._posts)

    def say(self, text: bytes) -> None:
        """A frame that counts nothing."""
        if text and not self.is_ended:
            self.sink.send(Batch((Frame(text),)))

    # --- what the runtime asks --------------------------------------------------------------------

    @property
    def topic_count(self) -> int:
        """How much it follows, for operators."""
        return 0

    def describe(self) -> SessionRow:
        """Implements `sessions.OpenSession`."""
        principal, sink = self.principal, self.sink
        return SessionRow(
            id=self.session_id,
            edge=self._runtime.edge,
            key_id=principal.key_id,
            key_prefix=principal.key_prefix,
            tenant_id=principal.tenant_id,
            tenant=principal.tenant_slug,
            address=self.lease.caller.address if self.lease else "",
            dialect=self.door,
            opened_ms=self.opened_ms,
            topics=(),
            topic_count=self.topic_count,
            held_bytes=sink.held_bytes,
            held_frames=sink.held_frames,
            sent=sink.sent,
            conflated=0,
            shed=sink.shed,
            cursor="",
        )

    def disconnect(self, reason: str) -> None:
        """Implements `sessions.OpenSession`."""
        self.end(CloseCode.GOING_AWAY, reason)

    def going_away(self, in_ms: int) -> None:
        """Implements `drain.Customer`: there is no word for it."""

    def go_away(self) -> None:
        """Implements `drain.Customer`."""
        self.end(CloseCode.GOING_AWAY, "this process ends: connect again")

    def end(self, code: CloseCode, reason: str) -> None:
        """Close the connection from our side."""
        if self.is_ended or self.session is None:
            return
        self.is_ended = True
        self.stopped()
        if self.socket is not None:
            self.socket.end(int(code), reason)
            return
        self.begin(
            _close(self.send, {"type": "websocket.close", "code": int(code), "reason": reason})
        )

    def _release(self) -> None:
        self.is_ended = True
        self.stopped()
        self._runtime.left(cast(DataConsumer, self))
        for task in self._posts:
            task.cancel()
        if self.lease is not None:
            self.lease.close()


async def _close(send: http.Send, message: http.Message) -> None:
    await send(message)


async def _none() -> http.Message:
    raise RuntimeError("a handshake has no body")
