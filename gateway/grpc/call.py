"""A customer's stream: one call is one connection, a session of the relay dialect behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog

from gateway.grpc import events, metrics
from gateway.grpc.call_sink import CallSink, Writing
from gateway.grpc.door import Door
from gateway.grpc.statuses import (
    MAX_RESUME_BYTES,
    RESUME,
    CallEnds,
    Metadata,
    abort,
    bare,
    fault,
    of_denied,
)
from streaming.core.relay_session import RelaySession
from streaming.key_account import KeyAccount
from streaming.sessions import MAX_TOPICS_TOLD, SessionRow
from streaming.ws import close_codes
from streaming.ws.plan import PlanLease, allowance_fields, follows
from tenants.admission.access import Caller
from tenants.admission.caps import Standing
from tenants.admission.errors import Denied
from tenants.admission.limiter import TokenBucket
from tenants.admission.principal import Principal, Scope
from tenants.admission.quotas import Lease

log = structlog.get_logger(__name__)

#: How long a call that ends in good order may take for what is on its way.
CLOSING_S = 1.0

#: Reads what the client sends, until it sends no more. Raises CallEnds.
Reading = Callable[["Call", Any], Awaitable[None]]


class Call:
    """Implements `runtime.Connection`. `serve` is the whole life of it."""

    def __init__(self, door: Door, writing: Writing, *, dialect: str, has_words: bool) -> None:
        """`has_words`: whether its proto can tell what is no data; it is not told else."""
        self._door = door
        self._runtime = door.runtime
        self._writing = writing
        self._dialect = dialect
        self._has_words = has_words
        self._over: asyncio.Future[CallEnds] = asyncio.get_running_loop().create_future()
        self._is_orderly = True
        self.mute_since_s: float | None = None
        self.session_id = ""
        self.principal: Principal
        self.caller: Caller
        self.session: RelaySession
        self.sink: CallSink
        self._lease: Lease | None = None
        self._bucket = TokenBucket(
            capacity=close_codes.INBOUND_BURST,
            refill_per_s=close_codes.INBOUND_PER_MINUTE / 60,
            now_s=time.monotonic(),
        )
        self._refusals = TokenBucket(
            capacity=close_codes.MAX_REFUSED_FRAMES,
            refill_per_s=close_codes.INBOUND_PER_MINUTE / 60,
            now_s=time.monotonic(),
        )
        self._refused = 0

    async def serve(self, context: Any, reading: Reading) -> None:
        """Admit, stream, and end with a status. Raises what gRPC's `abort` does."""
        try:
            await self._open(context)
        except Denied as denied:
            await abort(context, of_denied(denied))
        except Exception:
            log.exception("grpc_call_not_opened", dialect=self._dialect)
            await abort(context, fault())
        writer = asyncio.ensure_future(self.sink.run(context.write))
        reader = asyncio.ensure_future(reading(self, context))
        for task in (writer, reader):
            task.add_done_callback(self._task_ended)
        try:
            ends = await asyncio.shield(self._over)
            metrics.ENDED.labels(ends.status.name).inc()
            self._runtime.hub.flush()
            self.session.close(now_s=time.monotonic())
            if self._is_orderly:
                await self._let_drain()
            # While the client does not take what is on its way, this waits, and the call is
            # counted among its tenant's connections: nobody piles up calls that were cut.
            await abort(context, ends)
        finally:
            for task in (writer, reader):
                task.cancel()
            self._release()

    async def _open(self, context: Any) -> None:
        self.principal, self.caller = await self._door.admit_stream(context, self._dialect)
        principal, current = self.principal, self._runtime
        try:
            self._lease = current.admission.open_connection(
                principal,
                scope=Scope.GRPC,
                caller=self.caller,
                on_refused=self._when_refused,
                on_used=self._when_used,
            )
        except Denied as denied:
            metrics.CALLS.labels(self._dialect, denied.code).inc()
            raise
        metrics.CALLS.labels(self._dialect, "accepted").inc()
        self.sink = CallSink(
            self._writing,
            account=KeyAccount(current.meter, principal.key_id),
            on_overflow=self.cut_slow,
            max_lag_s=principal.limits.max_lag_s,
        )
        self.session = RelaySession(
            hub=current.hub,
            sink=self.sink,
            lease=PlanLease(self._lease, current.admission, following=current.following),
            catalogue=current.catalogue,
            tenant_id=principal.tenant_id,
        )
        self._opened_ms = time.time_ns() // 1_000_000
        self.session_id = current.sessions.new_id()
        current.joined(self)

    def _task_ended(self, task: asyncio.Future[None]) -> None:
        """The writer's or reader's end is the call's, but for a client that has said all."""
        if task.cancelled() or self._over.done():
            if not task.cancelled():
                task.exception()  # looked at
            return
        error = task.exception()
        if isinstance(error, CallEnds):
            self._end(bare(error))
        elif isinstance(error, grpc.aio.BaseError):
            # The client is gone, and gRPC cancels us; if it does not, this is the end as well.
            line = "The call was cut."
            self._end(CallEnds(grpc.StatusCode.CANCELLED, line), is_orderly=False)
        elif error is not None:
            log.error("grpc_call_failed", dialect=self._dialect, exc_info=error)
            self._end(fault())

    # --- in ---

    def begin_mute(self) -> None:
        """It has not asked for anything yet, and has a while to do so."""
        self.mute_since_s = time.monotonic()

    def ask(self, frame: dict[str, Any]) -> None:
        """Act on one request in the relay dialect's fields."""
        self.session.ask(frame, now_s=time.monotonic())
        if self.session.topics:
            self.mute_since_s = None
        self._runtime.hub.flush()

    def say(self, payload: bytes) -> None:
        """Answer with a control frame."""
        self.session.say(payload)
        self._runtime.hub.flush()

    def is_flooding(self) -> bool:
        """Whether one more message of the client is one too many, and is not to be read. Raises
        CallEnds when it does not stop."""
        now_s = time.monotonic()
        if not self._bucket.take(1, now_s=now_s):
            self._refused = 0
            return False
        if self._refused == 0:
            self.session.too_many_messages(close_codes.INBOUND_PER_MINUTE)
            self._runtime.hub.flush()
        self._refused += 1
        if self._refusals.take(1, now_s=now_s):
            line = f"Cannot send more than {close_codes.INBOUND_PER_MINUTE} messages per minute."
            raise CallEnds(grpc.StatusCode.RESOURCE_EXHAUSTED, line, code="rate_limited")
        return True

    # --- what admission says ---

    def _when_refused(self, denied: Denied) -> None:
        self._end(of_denied(denied))

    def _when_used(self, standing: Standing) -> None:
        is_over = standing.is_exhausted and follows(self.session.topics, standing.cap)
        if is_over or not standing.is_exhausted:
            self.session.allowance(**allowance_fields(standing))
            self._runtime.hub.flush()
        if is_over:
            line = f"The allowance '{standing.cap.code}' is used up. It begins anew at"
            line += f" {standing.cap.ends_at:%Y-%m-%dT%H:%M:%SZ}."
            self._end(CallEnds(grpc.StatusCode.RESOURCE_EXHAUSTED, line, code="quota_exhausted"))

    # --- runtime.Connection ---

    @property
    def stalled_since_s(self) -> float | None:
        """Since when a response is with the transport."""
        return self.sink.stalled_since_s

    def cut_slow(self) -> None:
        """They do not keep up: what waits is dropped, and they are told where to go on."""
        if self._over.done():
            return
        self.sink.drop_waiting()
        resume = self._cursors()
        where = f" Resume from the cursor {resume[0][1].split(' ', 1)[1]}." if resume else ""
        line = f"You read too slowly; what waited for you was dropped.{where}"
        status = grpc.StatusCode.RESOURCE_EXHAUSTED
        self._end(CallEnds(status, line, code="slow", metadata=resume), is_orderly=False)

    def _cursors(self) -> Metadata:
        """How far each subscription is, of those with one, as far as there is room."""
        room, resume = MAX_RESUME_BYTES, []
        for frame in self.session.too_slow():
            event = events.read(frame)
            text = f"{event['id']} {event['cursor']}"
            room -= len(text) + len(RESUME)
            if room < 0:
                break
            if text.isascii():
                resume.append((RESUME, text))
        return tuple(resume)

    def cut_mute(self, reason: str) -> None:
        """It asks for nothing."""
        self._end(CallEnds(grpc.StatusCode.FAILED_PRECONDITION, reason, code="mute"))

    def describe(self) -> SessionRow:
        """Implements `sessions.OpenSession`."""
        principal, sink, topics = self.principal, self.sink, self.session.topics
        return SessionRow(
            id=self.session_id,
            edge=self._runtime.edge,
            key_id=principal.key_id,
            key_prefix=principal.key_prefix,
            tenant_id=principal.tenant_id,
            tenant=principal.tenant_slug,
            address=self.caller.address,
            dialect=self._dialect,
            door="grpc",
            opened_ms=self._opened_ms,
            topics=tuple(topic.name for topic in topics[:MAX_TOPICS_TOLD]),
            topic_count=len(topics),
            held_bytes=sink.held_bytes,
            held_frames=sink.held_frames,
            sent=sink.sent,
            conflated=sink.conflated,
            shed=sink.shed,
            cursor=self.session.last_cursor,
        )

    def disconnect(self, reason: str) -> None:
        """Implements `sessions.OpenSession`."""
        self._end(CallEnds(grpc.StatusCode.UNAVAILABLE, reason, code="disconnected"))

    def going_away(self, in_ms: int) -> None:
        """Implements `drain.Customer`."""
        if self._has_words and not self._over.done():
            self.session.going_away(in_ms)
            self._runtime.hub.flush()

    def go_away(self) -> None:
        """Implements `drain.Customer`."""
        line = "This process ends: call again."
        self._end(CallEnds(grpc.StatusCode.UNAVAILABLE, line, code="going_away"))

    # --- end ---

    def _end(self, ends: CallEnds, *, is_orderly: bool = True) -> None:
        if not self._over.done():
            self._is_orderly = is_orderly
            self._over.set_result(ends)

    async def _let_drain(self) -> None:
        try:
            async with asyncio.timeout(CLOSING_S):
                await self.sink.drained()
        except TimeoutError:
            pass
        self.sink.is_closing = True

    def _release(self) -> None:
        self._runtime.left(self)
        if not self._over.done():
            self._over.cancel()
            metrics.ENDED.labels("CANCELLED").inc()
        self.session.close(now_s=time.monotonic())
        self.sink.close()
        if self._lease is not None:
            self._lease.close()
