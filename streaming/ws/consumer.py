"""A customer's connection: handshake, admission, inbound frames. What goes out is the writer's
business.

A Channels consumer without groups or a layer: the hub delivers. Its `__call__` is a plain loop,
because Channels' own makes a task for each inbound message and joins a layer for each connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer

from streaming import runtime
from streaming.core.batch import Batch, NumberedBatch, tally
from streaming.core.dialects import official
from streaming.core.dialects.relay import SUBPROTOCOL
from streaming.core.outbox import Fate, Outbox
from streaming.core.relay_session import RelaySession
from streaming.core.session import Session
from streaming.key_account import KeyAccount
from streaming.sessions import MAX_TOPICS_TOLD, SessionRow
from streaming.ws import close_codes, metrics, posts
from streaming.ws.close_codes import CloseCode
from streaming.ws.plan import PlanLease, allowance_fields, follows
from streaming.ws.server import EXTENSION
from tenants.admission.caps import BYTES, MESSAGES, Standing
from tenants.admission.errors import Denied, Draining
from tenants.admission.limiter import TokenBucket
from tenants.admission.presented import caller_of, presented_key, split_path
from tenants.admission.principal import Principal, Scope
from tenants.admission.quotas import Lease

log = structlog.get_logger(__name__)

Message = dict[str, Any]
#: Of a key's rate: as much as one `/info` request.
HANDSHAKE_WEIGHT = 1


class DataConsumer(AsyncConsumer):
    """One customer connection."""

    session: Session | RelaySession | None = None
    lease: Lease | None = None
    principal: Principal
    session_id = ""
    is_ended = False
    mute_since_s: float | None = None  # while it has sent nothing

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve the connection until it ends."""
        self.scope = scope
        self.base_send = send
        self.runtime = runtime.current()
        self.socket = scope.get("extensions", {}).get(EXTENSION)
        self._posts: set[asyncio.Task[None]] = set()
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass
        finally:
            self._release()

    async def dispatch(self, message: Message) -> None:
        """Call the handler. Channels' own first closes old database connections, in a thread, for
        every message."""
        await getattr(self, get_handler_name(message))(message)

    # --- handshake ---

    async def websocket_connect(self, message: Message) -> None:
        """Admit and accept, or refuse with an HTTP answer."""
        del message
        try:
            lease = await self._admit()
        except Denied as denied:
            metrics.HANDSHAKES.labels(denied.code).inc()
            await self.base_send(
                {
                    "type": "websocket.http.response.start",
                    "status": denied.http_status,
                    "headers": denied.headers,
                }
            )
            await self.base_send({"type": "websocket.http.response.body", "body": denied.body})
            raise StopConsumer from None
        asked_for = SUBPROTOCOL in self.scope.get("subprotocols", ())
        await self.base_send(
            {"type": "websocket.accept", "subprotocol": SUBPROTOCOL if asked_for else None}
        )
        metrics.HANDSHAKES.labels("accepted").inc()
        account = KeyAccount(
            self.runtime.meter, self.principal.key_id, free_for=self.principal.free_for
        )
        sink = (
            self.socket.attach(
                account,
                farewell=self._farewell,
                max_lag_s=self.principal.limits.max_lag_s,
            )
            if self.socket
            else AsgiSink(self.base_send, account, self)
        )
        is_relay = asked_for or _asks_for_relay(self.scope.get("query_string", b""))
        self.session = (RelaySession if is_relay else Session)(
            hub=self.runtime.hub,
            sink=sink,
            lease=PlanLease(
                lease,
                self.runtime.admission,
                following=self.runtime.following,
            ),
            catalogue=self.runtime.catalogue,
            tenant_id=self.principal.tenant_id,
        )
        self.bucket = TokenBucket(
            capacity=close_codes.INBOUND_BURST,
            refill_per_s=close_codes.INBOUND_PER_MINUTE / 60,
            now_s=time.monotonic(),
        )
        self.refused = 0
        # Not "so many in a row": at 2,000 a minute every 30 ms one is let through.
        self.refusals = TokenBucket(
            capacity=close_codes.MAX_REFUSED_FRAMES,
            refill_per_s=close_codes.INBOUND_PER_MINUTE / 60,
            now_s=time.monotonic(),
        )
        self.mute_since_s = time.monotonic()
        self.opened_ms = time.time_ns() // 1_000_000
        self.session_id = self.runtime.sessions.new_id()
        self.runtime.joined(self)

    async def _admit(self) -> Lease:
        if self.runtime.is_draining:  # over a connection that was there before
            raise Draining
        path_key, _ = split_path(self.scope["path"])
        raw_key = presented_key(path_key, self.scope["headers"])
        admission, caller = self.runtime.admission, caller_of(self.scope)
        self.principal = await admission.authenticate(raw_key, scope=Scope.WS, caller=caller)
        # Only of a rate of its own: clients of one key reconnect by the hundred at once, and the
        # plan's connections bound them.
        await admission.charge(self.principal, HANDSHAKE_WEIGHT)
        admission.check_quota(self.principal, MESSAGES, BYTES)
        self.lease = admission.open_connection(
            self.principal,
            scope=Scope.WS,
            caller=caller,
            on_refused=self._refused,
            on_used=self._used,
        )
        return self.lease

    def _refused(self, denied: Denied) -> None:
        self.end(CloseCode.POLICY, str(denied))

    def _used(self, standing: Standing) -> None:
        """An allowance of ours passed a threshold, or is used up: then a connection that follows
        what it counts ends, because one that only falls silent looks like a quiet market."""
        session = self.session
        if session is None or self.is_ended:
            return
        is_relay = isinstance(session, RelaySession)
        is_over = standing.is_exhausted and follows(session.topics, standing.cap)
        if isinstance(session, RelaySession) and (is_over or not standing.is_exhausted):
            session.allowance(**allowance_fields(standing))
            self.runtime.hub.flush()
        if is_over:
            reason = f"quota exhausted: {standing.cap.code} begins anew at"
            reason += f" {standing.cap.ends_at:%Y-%m-%dT%H:%M:%SZ}"
            self.end(CloseCode.QUOTA if is_relay else CloseCode.POLICY, reason)

    # --- inbound ---

    async def websocket_receive(self, message: Message) -> None:
        """Act on one frame; on none once we have ended, but what comes is still taken: their answer
        to our close frame is behind it."""
        if self.session is not None and not self.is_ended:
            self._act(self.session, message)
        if self.socket is not None:
            self.socket.handled()

    def _act(self, session: Session | RelaySession, message: Message) -> None:
        now_s = time.monotonic()
        if self.bucket.take(1, now_s=now_s):
            self._flood(session, now_s=now_s)
        else:
            self.refused = 0
            text = message.get("text")
            post = session.receive(_readable(message) if text is None else text, now_s=now_s)
            if post is not None:
                self._post(session, post)
            # The exchange's clients may open with a ping; of ours a subscription is asked for.
            if self.mute_since_s is not None and (
                post is not None or not session.is_numbered or session.topics
            ):
                self.mute_since_s = None
            if isinstance(session, RelaySession) and session.is_unreadable:
                self.runtime.hub.flush()
                self.end(CloseCode.UNREADABLE, "ten frames in a row that are not JSON")
        self.runtime.hub.flush()

    def _flood(self, session: Session | RelaySession, *, now_s: float) -> None:
        if self.refused == 0:
            limit = close_codes.INBOUND_PER_MINUTE
            session.too_many_messages(limit)
        self.refused += 1
        if self.refusals.take(1, now_s=now_s):
            self.end(CloseCode.POLICY, "too many messages")

    def _post(self, session: Session | RelaySession, post: official.Post) -> None:
        if len(self._posts) >= close_codes.MAX_POSTS:
            session.say(official.error(f"too many pending post requests id={post.post_id}"))
            return
        task = asyncio.ensure_future(self._answer(session, post))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    async def _answer(self, session: Session | RelaySession, post: official.Post) -> None:
        try:
            answer = await posts.answer(post, self.runtime.posts, self._now_as())
        except Exception:
            # Whoever asks gets an answer; what went wrong is ours to find in the log.
            log.exception("post_failed", kind=post.kind)
            answer = official.post_answer(post.post_id, "error", b'"Internal error."')
        if not session.is_closed:
            session.say(answer)
            self.runtime.hub.flush()

    def _now_as(self) -> Principal:
        """The key as it is now; its plan may have changed since the handshake."""
        return self.lease.principal if self.lease is not None else self.principal

    # --- what operators see ---

    def describe(self) -> SessionRow:
        """Implements `sessions.OpenSession`."""
        session, principal = self.session, self.principal
        assert session is not None  # noqa: S101
        topics = session.topics
        sink: Any = session.sink
        return SessionRow(
            id=self.session_id,
            edge=self.runtime.edge,
            key_id=principal.key_id,
            key_prefix=principal.key_prefix,
            tenant_id=principal.tenant_id,
            tenant=principal.tenant_slug,
            address=self.lease.caller.address if self.lease else "",
            dialect="relay" if isinstance(session, RelaySession) else "official",
            opened_ms=self.opened_ms,
            topics=tuple(topic.name for topic in topics[:MAX_TOPICS_TOLD]),
            topic_count=len(topics),
            held_bytes=sink.held_bytes,
            held_frames=sink.held_frames,
            sent=sink.sent,
            conflated=sink.conflated,
            shed=sink.shed,
            cursor=session.last_cursor if isinstance(session, RelaySession) else "",
        )

    def disconnect(self, reason: str) -> None:
        """Implements `sessions.OpenSession`."""
        self.end(CloseCode.GOING_AWAY, reason)

    # --- what the sweep finds ---

    @property
    def stalled_since_s(self) -> float | None:
        """Implements `runtime.Connection`."""
        return getattr(self.session.sink, "stalled_since_s", None) if self.session else None

    def cut_slow(self) -> None:
        """Implements `runtime.Connection`."""
        if self.socket is not None:
            self.socket.cut_slow()
        else:
            self.end(CloseCode.SLOW, "slow consumer")

    def cut_mute(self, reason: str) -> None:
        """Implements `runtime.Connection`."""
        is_relay = isinstance(self.session, RelaySession)
        self.end(CloseCode.MUTE if is_relay else CloseCode.POLICY, reason)

    # --- end ---

    def going_away(self, in_ms: int) -> None:
        """Implements `drain.Customer`."""
        if isinstance(self.session, RelaySession) and not self.is_ended:
            self.session.going_away(in_ms)
            self.runtime.hub.flush()

    def go_away(self) -> None:
        """Implements `drain.Customer`."""
        self.end(CloseCode.GOING_AWAY, "this process ends: connect again")

    def _farewell(self) -> list[bytes]:
        """What a customer who is cut for being slow is told before the close frame."""
        return self.session.too_slow() if isinstance(self.session, RelaySession) else []

    async def websocket_disconnect(self, message: Message) -> None:
        """The connection is gone."""
        metrics.CLOSED.labels(str(message.get("code", 1006))).inc()
        raise StopConsumer

    def end(self, code: CloseCode, reason: str) -> None:
        """Close the connection from our side."""
        if self.is_ended or self.session is None:
            return
        self.is_ended = True
        self.session.close(now_s=time.monotonic())
        if self.socket is not None:
            self.socket.end(int(code), reason)
        else:
            task = asyncio.ensure_future(
                self.base_send({"type": "websocket.close", "code": int(code), "reason": reason})
            )
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)

    def _release(self) -> None:
        self.runtime.left(self)
        for task in self._posts:
            task.cancel()
        if self.session is not None:
            self.session.close(now_s=time.monotonic())
        if self.lease is not None:
            self.lease.close()


class AsgiSink:
    """The way out under an ASGI server that is not ours: one task per connection that awaits each
    send."""

    def __init__(
        self,
        send: Callable[[Message], Awaitable[None]],
        account: KeyAccount,
        consumer: DataConsumer,
    ) -> None:
        self._send = send
        self._account = account
        self._consumer = consumer
        self._outbox = Outbox(close_codes.MAX_OUTBOUND_BYTES)
        self._on_ready: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self.stalled_since_s: float | None = None
        self.sent = self.conflated = self.shed = 0

    @property
    def held_frames(self) -> int:
        """Frames that wait for this customer."""
        return len(self._outbox)

    @property
    def held_bytes(self) -> int:
        """Bytes that wait for this customer."""
        return self._outbox.size_bytes

    def send(self, batch: Batch | NumberedBatch) -> None:
        """Queue the frames and make sure somebody sends them."""
        for frame in batch.frames:
            fate = self._outbox.offer(frame)
            self.conflated += fate is Fate.CONFLATED
            self.shed += fate is Fate.SHED
            if fate is Fate.SHED and not frame.skip():
                self._outbox.clear()
                self._consumer.end(CloseCode.SLOW, "slow consumer")
                return
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._drain())
            self._consumer._posts.add(self._task)
            self._task.add_done_callback(self._consumer._posts.discard)

    @property
    def is_ready(self) -> bool:
        """Whether all was sent."""
        return not len(self._outbox)

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when all was sent."""
        if self.is_ready:
            callback()
        else:
            self._on_ready.append(callback)

    async def _drain(self) -> None:
        while len(self._outbox):
            for frame in self._outbox.drain(1):
                self.stalled_since_s = time.monotonic()
                await self._send({"type": "websocket.send", "text": frame.payload.decode()})
                self.stalled_since_s = None
                self.sent += 1
                if frame.counted is not None:
                    self._account.delivered(tally((frame,)))
            if self._on_ready and self.is_ready:
                waiting, self._on_ready = self._on_ready, []
                for callback in waiting:
                    callback()


def _asks_for_relay(query: bytes) -> bool:
    """Whether the URL says `relay=1`."""
    return b"relay=1" in query.split(b"&")


def _readable(message: Message) -> str:
    """Binary frames are read as text where they can be; the dialect refuses what is not JSON."""
    data: bytes = message.get("bytes") or b""
    return data.decode("utf-8", "replace")
