"""One customer connection in the relay dialect."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from streaming.core import cursor as cursors
from streaming.core.dialects import official, relay
from streaming.core.dialects.relay import Refusal
from streaming.core.envelope import ORIGIN, Position
from streaming.core.outbox import Frame
from streaming.core.relaying import MAX_AHEAD_BLOCKS
from streaming.core.replay_bound import BURST_BYTES, BYTES_A_MINUTE
from streaming.core.streams import Item, Stream, Subscription, kind_of
from streaming.core.topic import Topic

if TYPE_CHECKING:
    from streaming.core.hub import Hub
    from streaming.core.session import CatalogueSource, Shortage, Sink, SubscriptionLease

#: Frames in a row that were not JSON, after which the connection is ended.
MAX_BAD_FRAMES = 10


class _OfSessions:
    """What each delivery reads, in the memory's order (see `streams._OfSubscriptions`)."""

    __slots__ = ("pending", "sink")


class RelaySession(_OfSessions):
    """The relay dialect's counterpart of `Session`; the hub's queue takes both."""

    is_numbered: ClassVar[bool] = True

    __slots__ = (
        "_catalogue", "_hub", "_is_silent", "_is_to_be_told", "_lease", "_now_s", "_numbers",
        "_warned",
        "bad_in_row", "is_closed", "is_pumping", "is_waiting_for_sink", "reader", "resuming",
        "subscriptions", "tenant_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        hub: Hub,
        sink: Sink,
        lease: SubscriptionLease,
        catalogue: CatalogueSource,
        tenant_id: int = 0,
    ) -> None:
        """`tenant_id` is whom scarce upstream places are counted for; 0: nobody."""
        self._hub = hub
        self.tenant_id = tenant_id
        self._lease = lease
        self._catalogue = catalogue
        self._numbers = 0
        self._warned: set[str] = set()
        self._is_silent = False
        self._is_to_be_told = False
        self._now_s = 0.0
        self.sink = sink
        self.subscriptions: dict[bytes, Subscription] = {}
        self.pending: list[Item] = []
        self.resuming: deque[Stream] = deque()
        self.reader: Stream | None = None  # the one that reads the log now
        self.is_pumping = False
        self.is_waiting_for_sink = False
        self.is_closed = False
        self.bad_in_row = 0
        hub.relays.sessions[self] = None

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What this session follows, oldest first."""
        return tuple(topic for s in self.subscriptions.values() for topic in s.streams)

    @property
    def node_workers(self) -> frozenset[str]:
        """The workers that read a node and were heard of lately."""
        freshness = self._hub.freshness
        return frozenset(name for name in freshness.workers if freshness.tip_of(name))

    @property
    def last_cursor(self) -> str:
        """How far the newest subscription that has got anything is, for operators; "" if none."""
        return next(filter(None, map(_cursor, reversed(self.subscriptions.values()))), "")

    @property
    def is_unreadable(self) -> bool:
        """Whether the client sends nothing that is JSON."""
        return self.bad_in_row >= MAX_BAD_FRAMES

    def receive(self, text: str, *, now_s: float) -> official.Post | None:
        """Act on one client frame. A post is returned, because its answer takes I/O."""
        self._now_s = now_s
        try:
            request = relay.parse(text, self._catalogue())
            self.bad_in_row = 0
            return self._do(request)
        except Refusal as refusal:
            self.bad_in_row = self.bad_in_row + 1 if refusal.code == "bad_json" else 0
            self.say(relay.error(refusal))
        return None

    def ask(self, frame: dict[str, Any], *, now_s: float) -> None:
        """Act on a request that came in another form than text, with the same fields."""
        self._now_s = now_s
        try:
            self._do(relay.request_of(frame, "", self._catalogue()))
        except Refusal as refusal:
            self.say(relay.error(refusal))

    def _do(self, request: relay.Request) -> official.Post | None:
        match request:
            case relay.Subscribe():
                self._subscribe(request)
            case relay.Unsubscribe():
                self._unsubscribe(request)
            case official.Ping():
                self.say(official.PONG)
            case official.Post():
                return request
        return None

    def say(self, payload: bytes) -> None:
        """Queue a control frame; not metered, never conflated."""
        self._hub.queue(self, Frame(payload))

    def too_many_messages(self, limit: int) -> None:
        """A frame was not read: the client sends too many."""
        msg = f"Cannot send more than {limit} messages per minute."
        self.say(relay.error(Refusal("rate_limited", msg, limit=limit)))

    def refuse(self, topic: Topic, why: str) -> None:
        """Tell the customer why a topic has nothing to give."""
        self.say(relay.error(Refusal("not_ready", why, topic=topic.name)))

    def not_ready(self, stream: Stream, why: str) -> None:
        """Tell the customer why a stream has nothing to give yet."""
        self.say(
            relay.event(
                "error",
                stream.subscription.id_json,
                code="not_ready",
                msg=why,
                **relay.named(stream.topic),
            )
        )

    def failed(self, stream: Stream) -> None:
        """The stream could not be resumed: it is followed no more."""
        subscription = stream.subscription
        subscription.forget(stream)
        self._end(stream)
        if not subscription.streams:
            self.subscriptions.pop(subscription.id_json, None)

    def allowance(self, code: str, msg: str, **fields: object) -> None:
        """Tell the customer how an allowance stands."""
        self.say(relay.allowance_notice(code, msg, **fields))

    def going_away(self, in_ms: int) -> None:
        """Tell the customer that this process will end."""
        self.say(relay.going_away(in_ms))

    def lost_something(self) -> None:
        """A frame was left out for want of room: tell it as soon as there is some."""
        if not self._is_to_be_told:
            self._is_to_be_told = True
            self.sink.when_ready(self._tell_lost)

    def _tell_lost(self) -> None:
        self._is_to_be_told = False
        if not self.is_closed:
            self._hub.relays.tell_lost(self)

    def too_slow(self) -> list[bytes]:
        """The last frames of a customer who is cut: from where to resume each subscription."""
        cursors_of = ((s.id_json, _cursor(s)) for s in self.subscriptions.values())
        return [relay.slow(id_json, cursor) for id_json, cursor in cursors_of if cursor]

    def note_age(self, subscription: Subscription, age_ms: float) -> None:
        """Say that it has become older than its `maxAgeMs`, or is fresh again."""
        is_stale = subscription.max_age_ms is not None and age_ms > subscription.max_age_ms
        if is_stale != subscription.is_stale:
            subscription.is_stale = is_stale
            make = relay.stale if is_stale else relay.fresh
            self.say(make(subscription.id_json, age_ms))

    def note_silence(self, age_ms: float, *, is_silent: bool) -> None:
        """Say that all upstreams have fallen silent, or speak again."""
        if is_silent != self._is_silent:
            self._is_silent = is_silent
            make = relay.stale if is_silent else relay.fresh
            self.say(make(b"", age_ms))

    def close(self, *, now_s: float) -> None:
        """Follow nothing any more and give the leases back. May be called twice."""
        self._now_s = now_s
        self.is_closed = True
        self.pending.clear()
        self.resuming.clear()
        self.reader = None
        for subscription in self.subscriptions.values():
            for stream in subscription.streams.values():
                self._end(stream)
            subscription.end()
        self.subscriptions.clear()
        self._hub.relays.sessions.pop(self, None)

    # --- subscribing ---

    def _subscribe(self, request: relay.Subscribe) -> None:
        self._refuse_repeated(request)
        starts = self._starts(request)
        self._check_retention(request, starts)
        self._check_replays(request)
        self._take_leases(request)
        id_json = request.id_json or self._next_id()
        subscription = Subscription(
            self,
            id_json=id_json,
            echo=request.echo,
            on_slow=request.on_slow,
            max_age_ms=request.max_age_ms,
        )
        self.subscriptions[id_json] = subscription
        for topic in request.topics:
            subscription.streams[topic] = Stream(subscription, topic)
            self._lease.follow(topic)
        self.say(relay.acknowledged("subscribe", id_json, request.echo))
        self._warn(request.ignored, id_json)
        subscription.is_resuming = request.start is not None
        since_ms = request.start.since_ms if request.start else None
        cursor = request.start.cursor if request.start else None
        source = cursor.source if cursor is not None else ""
        streams = list(subscription.streams.values())
        # All are in place before the first begins: an answer that comes at once carries a cursor
        # of them all.
        for stream in streams:
            after = starts.get(stream.topic)
            if (after is not None or since_ms is not None) and not stream.is_state:
                stream.resume(after, source=source, since_ms=since_ms)
            subscription.unsettle(stream)
        for stream in streams:
            self._hub.relays.join(stream)

    def _refuse_repeated(self, request: relay.Subscribe) -> None:
        held = self.subscriptions.get(request.id_json)
        if held is None:
            same = (s for s in self.subscriptions.values() if s.echo == request.echo)
            held = next(same, None)
        if held is not None:
            raise Refusal(
                "already",
                f"Already subscribed as {held.id_json.decode()}: {held.echo[:200]}",
                **_id(request.id_json or held.id_json),
            )

    def _starts(self, request: relay.Subscribe) -> dict[Topic, Position]:
        """Where each topic begins after. Raises Refusal for a cursor that cannot be meant."""
        cursor = request.start.cursor if request.start else None
        if cursor is None:
            return {}
        if any(cursor.kind not in (cursors.ANY_KIND, kind_of(topic)) for topic in request.topics):
            raise Refusal(
                "bad_cursor",
                "from: the cursor is of another type of topics, file or flush mode.",
                field="from",
                **_id(request.id_json),
            )
        places = {topic: cursor.of(topic.name) for topic in request.topics}
        # A topic at the very beginning had nothing yet: it opens like a new one.
        starts = {topic: place for topic, place in places.items() if place > ORIGIN}
        tip_height = self._hub.freshness.tip_height
        newest = max((position.height for position in starts.values()), default=0)
        if cursor.source == cursors.NODE:
            if tip_height and newest > tip_height + MAX_AHEAD_BLOCKS:
                raise Refusal(
                    "cursor_ahead",
                    f"The cursor is at height {newest}, the newest block is {tip_height}.",
                    tipHeight=tip_height,
                    **_id(request.id_json),
                )
            return starts
        for topic in request.topics:
            feed = self._hub.feeds.get(topic.name)
            if feed is not None and feed.epoch and feed.epoch != cursor.source:
                raise Refusal(
                    "bad_cursor",
                    "The source this cursor is of has begun again since: subscribe without it.",
                    field="from",
                    **_id(request.id_json),
                )
        return starts

    def _take_leases(self, request: relay.Subscribe) -> None:
        for taken, topic in enumerate(request.topics):
            shortage = self._lease.subscribe(topic)
            if shortage is not None:
                for earlier in request.topics[:taken]:
                    self._lease.unsubscribe(earlier)
                raise self._refusal(shortage, request)

    def _refusal(self, shortage: Shortage, request: relay.Subscribe) -> Refusal:
        fields: dict[str, object] = {}
        msg = f"{shortage.msg} None is made."
        if shortage.code == "limit":
            used, asked = len(self.topics), len(request.topics)
            msg = (
                f"The plan allows {shortage.limit} subscriptions, this connection uses {used}, and"
                f" {asked} more were asked for: none is made."
            )
            fields |= {"limit": shortage.limit, "used": used, "asked": asked}
        elif shortage.limit is not None:
            fields |= {"limit": shortage.limit, "used": shortage.used}
        if shortage.has is not None:
            fields["has"] = list(shortage.has)
        return Refusal(shortage.code, msg, **fields, **_id(request.id_json))

    def _check_retention(self, request: relay.Subscribe, starts: dict[Topic, Position]) -> None:
        """Raises Refusal where `from` lies before what the plan keeps. Of a place in the chain its
        age is reckoned at the pace of blocks."""
        kept_s = self._lease.retention_s
        if kept_s is None or request.start is None:
            return
        freshness = self._hub.freshness
        age_s = 0.0
        if request.start.since_ms is not None:
            age_s = freshness.age_s(ms=request.start.since_ms)
        elif request.start.cursor is not None and request.start.cursor.source == cursors.NODE:
            oldest = min((place.height for place in starts.values()), default=0)
            age_s = freshness.age_s(height=oldest)
        if age_s > kept_s:
            raise Refusal(
                "beyond_retention",
                f"The plan goes {kept_s / 3600:g} h back, and from is {age_s / 3600:.1f} h old:"
                " begin later.",
                field="from",
                limit=int(kept_s),
                **_id(request.id_json),
            )

    def _check_replays(self, request: relay.Subscribe) -> None:
        """Raises Refusal where too much was given again."""
        wait_s = self._hub.relays.replay_wait_s(self.tenant_id)
        if request.start is not None and wait_s:
            raise Refusal(
                "replay_limit",
                f"More than {BURST_BYTES >> 20} MiB were replayed; {BYTES_A_MINUTE >> 20} MiB a"
                f" minute come back: try again in {math.ceil(wait_s)} s, or begin without from.",
                field="from",
                limit=BYTES_A_MINUTE,
                **_id(request.id_json),
            )

    def _next_id(self) -> bytes:
        while True:
            self._numbers += 1
            id_json = b"%d" % self._numbers
            if id_json not in self.subscriptions:
                return id_json

    def _warn(self, ignored: tuple[str, ...], id_json: bytes) -> None:
        news = [name for name in ignored if name not in self._warned]
        if news and len(self._warned) < 100:
            self._warned.update(news)
            msg = f"Not known here, and ignored: {', '.join(news)}."
            self.say(relay.notice("ignored_field", msg, id_json))

    def _unsubscribe(self, request: relay.Unsubscribe) -> None:
        held = self.subscriptions.get(request.id_json)
        if held is None and request.echo:
            same = (s for s in self.subscriptions.values() if s.echo == request.echo)
            held = next(same, None)
        if held is None:
            raise Refusal(
                "not_subscribed", "There is no such subscription here.", **_id(request.id_json)
            )
        del self.subscriptions[held.id_json]
        for stream in held.streams.values():
            self._end(stream)
        held.end()
        self.say(relay.acknowledged("unsubscribe", held.id_json, held.echo))

    def _end(self, stream: Stream) -> None:
        self._hub.relays.leave(stream, now_s=self._now_s)
        self._lease.unsubscribe(stream.topic)
        self._lease.unfollow(stream.topic)


def _cursor(subscription: Subscription) -> str:
    """How far the customer has got; "" before the first frame."""
    streams = subscription.streams.values()
    first = next((stream for stream in streams if stream.told > ORIGIN), None)
    if first is None or first.feed is None:
        return ""
    others = {stream.key: stream.told for stream in streams if stream is not first}
    source = cursors.source_of(first.feed.epoch)
    return cursors.encode(cursors.Cursor(source, first.told, others, first.kind_key))


def _id(id_json: bytes) -> dict[str, object]:
    return {"id": orjson.loads(id_json)} if id_json else {}
