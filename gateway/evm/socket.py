"""A WebSocket at `/<key>/evm`: JSON-RPC with subscriptions to new heads and logs.

What waits for a customer who does not read is bounded as on `/ws`: events are never dropped in
silence, the connection ends with 4008.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any, cast

import structlog

from gateway.evm import jsonrpc
from gateway.evm.blocks import LogFilter
from gateway.evm.heads import Follower, Heads
from gateway.evm.jsonrpc import BAD_PARAMS, LIMIT, Call, RpcError
from gateway.evm.service import CHANNEL, Evm, permitted
from gateway.http import call as http
from gateway.http.edge import Note, entry_of
from streaming import runtime
from streaming.core.batch import Batch
from streaming.core.counted import counted
from streaming.core.outbox import Frame
from streaming.sessions import SessionRow
from streaming.ws import close_codes
from streaming.ws.close_codes import CloseCode
from streaming.ws.consumer import AsgiSink, DataConsumer, KeyAccount
from streaming.ws.server import EXTENSION
from tenants.admission.caps import BYTES, REQUESTS, Standing
from tenants.admission.errors import Denied, Draining
from tenants.admission.limiter import TokenBucket
from tenants.admission.presented import caller_of, split_path
from tenants.admission.principal import Principal, Scope
from tenants.admission.quotas import Lease

log = structlog.get_logger(__name__)

HANDSHAKE_WEIGHT = 1
#: Calls of one connection that wait for their answer.
MAX_PENDING = 100
#: Whatever the plan: each costs a comparison with every log.
MAX_SUBSCRIPTIONS = 1_000
#: A notification counts its bytes: a subscription is paid by what it brings.
_COUNTED = counted(CHANNEL, messages=0)


@dataclass(slots=True)
class _Way:
    """What the runtime looks at of a session: its way out."""

    sink: Any
    is_numbered: bool = False


class EvmSocket:
    """One connection. Implements what the runtime asks of a customer: it is drained, listed and cut
    like those at `/ws`."""

    mute_since_s: float | None = None
    session: _Way | None = None
    session_id = ""
    lease: Lease | None = None
    principal: Principal
    is_ended = False

    def __init__(self, current: runtime.Runtime, evm: Evm, heads: Heads, *, note: Note) -> None:
        self._runtime, self._evm, self._heads, self._note = current, evm, heads, note
        self._posts: set[asyncio.Task[None]] = set()
        self._following: set[str] = set()
        self.bucket = TokenBucket(
            capacity=close_codes.INBOUND_BURST,
            refill_per_s=close_codes.INBOUND_PER_MINUTE / 60,
            now_s=time.monotonic(),
        )

    async def __call__(self, scope: http.Message, receive: http.Receive, send: http.Send) -> None:
        """Serve the connection until it ends."""
        self.scope, self.send = scope, send
        self.socket = scope.get("extensions", {}).get(EXTENSION)
        await receive()  # websocket.connect
        try:
            if not await self._admit():
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

    # --- handshake ---

    async def _admit(self) -> bool:
        path_key, _ = split_path(self.scope["path"])
        call = http.Call(
            http.request_id(self.scope), "evm", {**self.scope, "method": "GET"}, _none, path_key
        )
        call.kind = "(socket)"
        admission, caller = self._runtime.admission, caller_of(self.scope)
        try:
            if self._runtime.is_draining:
                raise Draining
            self.principal = call.principal = await admission.authenticate(
                call.raw_key, scope=Scope.EVM, caller=caller
            )
            await self._evm.charge(self.principal, HANDSHAKE_WEIGHT)
            admission.check_quota(self.principal, REQUESTS, BYTES, channel=CHANNEL)
            self.lease = admission.open_connection(
                self.principal,
                scope=Scope.EVM,
                caller=caller,
                on_refused=lambda denied: self.end(CloseCode.POLICY, str(denied)),
                on_used=self._used,
            )
        except Denied as denied:
            self._note(entry_of(call, status=denied.http_status, code=denied.code))
            headers = [*denied.headers, (b"x-request-id", call.id.encode())]
            start = {"type": "websocket.http.response.start", "status": denied.http_status}
            await self.send({**start, "headers": headers})
            await self.send({"type": "websocket.http.response.body", "body": denied.body})
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
        return True

    def _used(self, standing: Standing) -> None:
        if standing.is_exhausted and standing.cap.covers(CHANNEL):
            reason = f"quota exhausted: {standing.cap.code} begins anew at"
            self.end(CloseCode.QUOTA, f"{reason} {standing.cap.ends_at:%Y-%m-%dT%H:%M:%SZ}")

    # --- inbound ---

    def _take(self, message: http.Message) -> None:
        text = message.get("text")
        body = (message.get("bytes") or b"") if text is None else text.encode()
        if self.bucket.take(1, now_s=time.monotonic()):
            self.end(CloseCode.POLICY, "too many messages")
        elif len(self._posts) >= MAX_PENDING:
            error = RpcError(LIMIT, f"{MAX_PENDING} calls wait for their answer: read those first.")
            self._say(jsonrpc.failure(jsonrpc.NULL, error.body))
        else:
            task = asyncio.ensure_future(self._answer(body))
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)

    async def _answer(self, body: bytes) -> None:
        try:
            answer = await self._answer_to(body)
        except Denied as denied:
            error = RpcError(LIMIT, str(denied), reason=denied.code)
            answer = jsonrpc.failure(jsonrpc.NULL, error.body)
        except Exception:
            log.exception("evm_call_failed")
            error = RpcError(jsonrpc.INTERNAL, "Internal error.")
            answer = jsonrpc.failure(jsonrpc.NULL, error.body)
        self._say(answer)

    async def _answer_to(self, body: bytes) -> bytes:
        principal = self.lease.principal if self.lease is not None else self.principal
        subscribing = _subscribing(body)
        if subscribing is None:
            outcome = await self._evm.serve(body, principal)
            return outcome.body
        try:
            method = permitted(subscribing, on_socket=True)
            self._runtime.admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
            await self._evm.charge(principal, method.weight)
            if subscribing.method == "eth_unsubscribe":
                answer = jsonrpc.result(subscribing.id, self._unsubscribe(subscribing.params))
            else:
                # The answer leaves before what it names: no notification of an id nobody knows.
                await self._evm.nodes.current_head()
                follower = self._subscribe(subscribing.params)
                answer = jsonrpc.result(subscribing.id, b'"%s"' % follower.id.encode())
                self._say(answer)
                self._evm.count(principal, 1, len(answer))
                self._heads.add(follower)
                return b""
        except RpcError as error:
            return jsonrpc.failure(subscribing.id, error.body)
        except Denied as denied:
            limited = RpcError(LIMIT, str(denied), reason=denied.code)
            return jsonrpc.failure(subscribing.id, limited.body)
        self._evm.count(principal, 1, len(answer))
        return answer

    def _subscribe(self, params: list[Any]) -> Follower:
        """Raises RpcError, or a Denied of the plan."""
        kind, *rest = params or [""]
        if kind not in ("newHeads", "logs"):
            raise RpcError(BAD_PARAMS, "eth_subscribe serves newHeads and logs.")
        if len(rest) > 1 or (rest and not isinstance(rest[0], dict)):
            raise RpcError(BAD_PARAMS, "eth_subscribe takes its kind and one filter.")
        logs = LogFilter(rest[0] if rest else {}) if kind == "logs" else None
        if self.is_ended or self.lease is None:
            raise RpcError(jsonrpc.UNAVAILABLE, "The connection ends.")
        if len(self._following) >= MAX_SUBSCRIPTIONS:
            text = f"{MAX_SUBSCRIPTIONS} subscriptions on one connection: open another."
            raise RpcError(LIMIT, text)
        self.lease.subscribe()
        follower = Follower(f"0x{secrets.token_hex(16)}", logs, self._tell)
        self._following.add(follower.id)
        return follower

    def _unsubscribe(self, params: list[Any]) -> bytes:
        if len(params) != 1 or not isinstance(params[0], str):
            raise RpcError(BAD_PARAMS, "eth_unsubscribe takes the id of a subscription.")
        if params[0] not in self._following:
            return b"false"
        self._following.discard(params[0])
        self._heads.remove(params[0])
        if self.lease is not None:
            self.lease.unsubscribe()
        return b"true"

    # --- outbound ---

    def _say(self, text: bytes) -> None:
        if text and not self.is_ended:
            self.sink.send(Batch((Frame(text),)))

    def _tell(self, id_: str, body: bytes) -> None:
        if not self.is_ended and id_ in self._following:
            frame = Frame(jsonrpc.notification(id_, body), counted=_COUNTED)
            self.sink.send(Batch((frame,)))

    # --- what the runtime asks ---

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
            dialect="evm",
            opened_ms=self.opened_ms,
            topics=(),
            topic_count=len(self._following),
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
        """Implements `drain.Customer`: JSON-RPC has no word for it."""

    def go_away(self) -> None:
        """Implements `drain.Customer`."""
        self.end(CloseCode.GOING_AWAY, "this process ends: connect again")

    def end(self, code: CloseCode, reason: str) -> None:
        """Close the connection from our side."""
        if self.is_ended or self.session is None:
            return
        self.is_ended = True
        self._stop_following()
        if self.socket is not None:
            self.socket.end(int(code), reason)
            return
        closing = {"type": "websocket.close", "code": int(code), "reason": reason}
        task = asyncio.ensure_future(_close(self.send, closing))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    def _stop_following(self) -> None:
        for id_ in self._following:
            self._heads.remove(id_)
        self._following.clear()

    def _release(self) -> None:
        self.is_ended = True
        self._stop_following()
        self._runtime.left(cast(DataConsumer, self))
        for task in self._posts:
            task.cancel()
        if self.lease is not None:
            self.lease.close()


def _subscribing(body: bytes) -> Call | None:
    """The call in a body that is one about subscriptions, outside of a batch."""
    if b"scribe" not in body or body.lstrip()[:1] == b"[":
        return None
    (call,), _ = jsonrpc.parse(body)
    if call.error is not None:
        return None
    return call if call.method in ("eth_subscribe", "eth_unsubscribe") else None


async def _close(send: http.Send, message: http.Message) -> None:
    await send(message)


async def _none() -> http.Message:
    raise RuntimeError("a handshake has no body")
