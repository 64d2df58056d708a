"""Unary reads of `hlrelay.v1`: a book from the hub, blocks and fills from the replay log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
import orjson
import structlog
from redis.exceptions import RedisError

from gateway.grpc import metrics, node_text
from gateway.grpc.door import CALL_WEIGHT, DEFAULT_RATE, Door
from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from gateway.grpc.requests import read, subscription_of
from gateway.grpc.statuses import CallEnds, abort, bad_argument, fault, of_denied, of_refusal
from gateway.grpc.typed import book
from streaming.bus.log_reader import LogReader, Replay
from streaming.core import cursor as cursors
from streaming.core.blocks import FileKind
from streaming.core.cursor import Cursor
from streaming.core.dialects import relay
from streaming.core.envelope import Envelope, Position, Role, end_of
from streaming.core.feed import Feed
from streaming.core.streams import kind_of
from streaming.core.topic import Topic
from tenants.admission.caps import BYTES, REQUESTS
from tenants.admission.errors import Denied
from tenants.admission.principal import Principal

log = structlog.get_logger(__name__)

#: The channel its use is counted on.
CHANNEL = "grpc"
#: How long to wait for the first sign of a topic that nobody followed until now.
FIRST_FRAME_S = 2.0
LOG_S = 2.0
#: What clients take.
MAX_ANSWER_BYTES = 4 * 1024 * 1024 - 1024

#: Answers one request. Raises CallEnds or Denied.
Answering = Callable[[Principal, bytes], Awaitable[bytes]]


class Found(NamedTuple):
    """One block of a node file."""

    height: int
    text: bytes


class Reads:
    """The methods, on bytes. `answer` is what they all have in common."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._runtime = door.runtime
        self._log = LogReader(door.runtime.redis)

    async def answer(
        self,
        answering: Answering,
        data: bytes,
        context: Any,
        method: str,
        *,
        weight: float = CALL_WEIGHT,
    ) -> bytes:
        """Admit, charge, answer and count one call; ends it with a status where that fails."""
        admission, meter = self._runtime.admission, self._runtime.meter
        try:
            principal, _ = await self._door.admit(context, method)
            admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
            await admission.charge(principal, weight, default=DEFAULT_RATE)
            answer = await answering(principal, data)
            if len(answer) > MAX_ANSWER_BYTES:
                line = f"The answer has {len(answer)} bytes, more than clients take: stream it."
                raise CallEnds(grpc.StatusCode.RESOURCE_EXHAUSTED, line, code="too_large")
        except Denied as denied:
            await abort(context, of_denied(denied))
        except CallEnds as ends:
            metrics.CALLS.labels(method, ends.code or ends.status.name).inc()
            await abort(context, ends)
        except Exception:
            log.exception("grpc_read_failed", method=method)
            await abort(context, fault())
        slot = meter.slot(principal.key_id, CHANNEL)
        meter.add_requests(slot, 1)
        meter.add(slot, 0, len(answer))
        metrics.CALLS.labels(method, "answered").inc()
        return answer

    # --- methods ---

    async def get_book(self, data: bytes, context: Any) -> bytes:
        """`GetBook`."""
        return await self.answer(self._get_book, data, context, "GetBook")

    async def get_block(self, data: bytes, context: Any) -> bytes:
        """`GetBlock`."""
        return await self.answer(self._get_block, data, context, "GetBlock")

    async def get_fills(self, data: bytes, context: Any) -> bytes:
        """`GetFills`."""
        return await self.answer(self._get_fills, data, context, "GetFills")

    async def get_coverage(self, data: bytes, context: Any) -> bytes:
        """`GetCoverage`."""
        return await self.answer(self._get_coverage, data, context, "GetCoverage")

    async def _get_book(self, principal: Principal, data: bytes) -> bytes:
        asked = read(pb.GetBookRequest, data)
        subscription: dict[str, Any] = {"type": "l2Book", "coin": asked.coin, "fast": False}
        for field, name in (
            ("n_levels", "nLevels"),
            ("n_sig_figs", "nSigFigs"),
            ("mantissa", "mantissa"),
        ):
            if asked.HasField(field):
                subscription[name] = getattr(asked, field)
        topic = self._topic(principal, subscription)
        feed = await self.first_sign(topic)
        payload = feed.snapshot.frame() if feed.epoch else None
        if payload is None:
            why = feed.why_not or f"nothing of it came within {FIRST_FRAME_S:g} s"
            raise of_refusal("not_ready", f"coin: {asked.coin} has no book now: {why}")
        answer = pb.GetBookResponse(
            book=book(orjson.loads(payload)["data"]),
            height=feed.position.height,
            cursor=_cursor(topic, feed.epoch, feed.position),
        )
        return answer.SerializeToString()

    async def _get_block(self, principal: Principal, data: bytes) -> bytes:
        asked = read(pb.GetBlockRequest, data)
        found = await self.block(principal, FileKind.BLOCKS, height=asked.height)
        return pb.GetBlockResponse(height=found.height, json=found.text).SerializeToString()

    async def _get_fills(self, principal: Principal, data: bytes) -> bytes:
        asked = read(pb.GetFillsRequest, data)
        found = await self.block(principal, FileKind.FILLS, height=asked.height, coin=asked.coin)
        return pb.GetFillsResponse(height=found.height, json=found.text).SerializeToString()

    async def _get_coverage(self, principal: Principal, data: bytes) -> bytes:
        asked = read(pb.GetCoverageRequest, data)
        topic = self._topic(principal, subscription_of(asked.subscription))
        feed = self._runtime.hub.feeds.get(topic.name)
        epoch = feed.epoch if feed is not None and feed.epoch else cursors.NODE_EPOCH_PREFIX
        kept = await self._read(topic, Position(0), end_of(0), epoch=epoch)
        answer = pb.GetCoverageResponse()
        if kept.oldest is not None and kept.tip is not None:
            answer.is_kept = True
            answer.oldest_cursor = _cursor(topic, epoch, kept.oldest)
            answer.oldest_height = kept.oldest.height
            answer.newest_cursor = _cursor(topic, epoch, kept.tip)
            answer.newest_height = kept.tip.height
        return answer.SerializeToString()

    # --- what they are made of ---

    async def block(
        self,
        principal: Principal,
        kind: FileKind,
        *,
        height: int = 0,
        ms: int = 0,
        coin: str = "",
    ) -> Found:
        """A block of a node file by height, else the first at or after a block time, else the
        newest. Raises CallEnds: NOT_FOUND where the log has none."""
        subscription = {"type": "raw", "stream": kind.value, **({"coin": coin} if coin else {})}
        topic = self._topic(principal, subscription)
        self._check_retention(principal, height=height, ms=ms)
        feed = await self.first_sign(topic)
        if feed.why_not is not None:
            raise of_refusal("not_ready", f"{kind}: {feed.why_not}")
        if not height and not ms:
            entry = await self._newest(topic, feed)
        elif height:
            until = end_of(height)
            kept = await self._read(topic, end_of(height - 1), until, epoch=feed.epoch)
            self._check_kept(kept, end_of(height - 1), f"height: block {height}")
            entry = _first(kept.entries)
        else:
            entry = await self._at(topic, feed, ms)
        if entry is None:
            what = f"block {height}" if height else f"the time {ms}" if ms else "late"
            line = f"{kind} has nothing of {what}."
            raise CallEnds(grpc.StatusCode.NOT_FOUND, line, code="not_found")
        return Found(entry.position.height, node_text.line(entry.payload, entry.times))

    async def first_sign(self, topic: Topic) -> Feed:
        """The topic's feed, leased like a customer would; after its first sign of life, or
        `FIRST_FRAME_S`."""
        feed = self._runtime.hub.touch(topic, now_s=time.monotonic())
        if not feed.epoch and feed.why_not is None:
            await _next_of(feed)
        return feed

    async def _newest(self, topic: Topic, feed: Feed) -> Envelope | None:
        kept = await self._read(topic, Position(0), end_of(0), epoch=feed.epoch)
        if kept.tip is None:
            await _next_of(feed)  # nobody followed it until now
            kept = await self._read(topic, Position(0), end_of(0), epoch=feed.epoch)
        if kept.tip is None:
            return None
        before = end_of(kept.tip.height - 1)
        return _first((await self._read(topic, before, None, epoch=feed.epoch)).entries)

    async def _at(self, topic: Topic, feed: Feed, ms: int) -> Envelope | None:
        try:
            async with asyncio.timeout(LOG_S):
                after = await self._log.resolve_ms(topic, ms, epoch=feed.epoch)
        except (RedisError, OSError, TimeoutError):
            raise _unread() from None
        if after is None:
            return None
        kept = await self._read(topic, after, None, epoch=feed.epoch)
        self._check_kept(kept, after, f"timestamp: {ms}")
        return _first(kept.entries)

    def _check_retention(self, principal: Principal, *, height: int, ms: int) -> None:
        """Raises CallEnds where the plan does not go back so far: as for a resume."""
        hours = principal.limits.retention_hours
        age_s = self._runtime.hub.freshness.age_s(height=height, ms=ms)
        if hours is not None and age_s > hours * 3600:
            line = f"The plan goes {hours} h back, and this is {age_s / 3600:.1f} h old."
            raise of_refusal("beyond_retention", line)

    def _check_kept(self, kept: Replay, after: Position, what: str) -> None:
        if kept.oldest is None or after < kept.oldest:
            begins = f"it begins with block {kept.oldest.height + 1}" if kept.oldest else "is empty"
            line = f"{what} is not in the replay log, {begins}."
            raise CallEnds(grpc.StatusCode.NOT_FOUND, line, code="not_kept")

    async def _read(
        self, topic: Topic, after: Position, until: Position | None, *, epoch: str
    ) -> Replay:
        try:
            async with asyncio.timeout(LOG_S):
                return await self._log.read(
                    topic, after, until=until, limit=4, epoch=epoch or cursors.NODE_EPOCH_PREFIX
                )
        except (RedisError, OSError, TimeoutError):
            raise _unread() from None

    def _topic(self, principal: Principal, subscription: dict[str, Any]) -> Topic:
        """The one topic of a subscription. Raises CallEnds."""
        try:
            topics, _, _ = relay.parse_subscription(subscription, self._runtime.catalogue())
        except relay.Refusal as refusal:
            raise of_refusal(refusal.code, str(refusal)) from None
        if len(topics) != 1:
            raise bad_argument("coin", f"one topic is read at a time, {len(topics)} are meant")
        channels = principal.limits.channels
        if channels is not None and topics[0].kind.value not in channels:
            raise of_refusal("not_in_plan", f"The channel '{topics[0].kind}' is not in your plan.")
        return topics[0]


async def _next_of(feed: Feed) -> None:
    alive = asyncio.Event()
    feed.watchers.append(alive.set)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_FRAME_S):
            await alive.wait()
    if alive.set in feed.watchers:
        feed.watchers.remove(alive.set)


def _first(entries: list[Envelope]) -> Envelope | None:
    return next((entry for entry in entries if entry.role is Role.UPDATE), None)


def _cursor(topic: Topic, epoch: str, position: Position) -> str:
    return cursors.encode(Cursor(cursors.source_of(epoch), position, kind=kind_of(topic)))


def _unread() -> CallEnds:
    line = "The replay log cannot be read now: try again."
    return CallEnds(grpc.StatusCode.UNAVAILABLE, line, code="log_unread")
