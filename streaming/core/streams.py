"""Followers in the relay dialect: a subscription, its topics, and the frames made for it.

A frame here is the official one with fields of its own behind it. What all followers share of an
envelope is made once (`Parts`); the sequence number is given when the frame leaves, so it has no
holes where a waiting state was replaced by a newer one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from enum import Enum, IntFlag, StrEnum, auto
from functools import lru_cache
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import orjson

from streaming.core import cursor as cursors
from streaming.core.counted import Counted, Reason, counted_of
from streaming.core.cursor import Cursor
from streaming.core.envelope import ORIGIN, Envelope, Position, Times, end_of
from streaming.core.outbox import Frame, header
from streaming.core.stretches import Stretches
from streaming.core.topic import Kind, Topic

if TYPE_CHECKING:
    from streaming.core.feed import Feed
    from streaming.core.relay_session import RelaySession

#: Blocks (two seconds) after which a topic that just joined counts as complete with the others.
SETTLE_BLOCKS = 30
_FAR = end_of(2**63)
#: A subscription of up to so many topics names each one's place in its cursor.
FEW_TOPICS = 4
#: While more than so many wait for their first frame, and nothing but first frames was given, a
#: cursor says "begin anew". To name 1,300 places in the opening frames of as many topics would be
#: 12 MB; in the last 64 of them it is 1 MB.
MAX_OPENING = 64


class OnSlow(StrEnum):
    """What becomes of a frame for which a slow customer has no room."""

    CONFLATE = "conflate"  # a newer state replaces a waiting one; events that do not fit end it all
    SKIP = "skip"  # the same, and events that do not fit are left out, and a gap says which
    DISCONNECT = "disconnect"  # nothing is replaced


def kind_of(topic: Topic) -> int:
    """What a cursor of the topic says it is of."""
    return cursors.kind_key(topic.kind, topic.stream, topic.by_event)


class Mark(IntFlag):
    """What is to be known of a data frame besides its place."""

    NONE = 0
    REPLAY = 1  # read from the log
    SNAPSHOT = 2
    PARTIAL = 4  # more of the same block may follow


#: The same in a text frame.
_MARKS = tuple(
    b"".join(
        text
        for mark, text in (
            (Mark.REPLAY, b',"replay":true'),
            (Mark.SNAPSHOT, b',"snapshot":true'),
            (Mark.PARTIAL, b',"final":false'),
        )
        if mark & marks
    )
    for marks in range(8)
)


class StreamState(Enum):
    """Where a stream stands."""

    WAITING = auto()  # for its first frame
    REPLAYING = auto()
    LIVE = auto()
    ENDED = auto()


_eras = count()


class Era:
    """Sequence numbers between two losses of continuity. `order`: of two, the later has more."""

    __slots__ = ("order", "seq")

    def __init__(self) -> None:
        self.order = next(_eras)
        self.seq = 0


class _OfSubscriptions:
    """What each delivery reads. Slots lie in the order of their names, but those of a base first:
    so these are in one line of memory, and that is what a delivery waits for."""

    __slots__ = ("era", "head", "session", "streams")


class Subscription(_OfSubscriptions):
    """What one subscribe asked for: one id and one numbering for all its topics."""

    __slots__ = (
        "_ahead", "_behind", "_height", "_unsettled_at", "_workers", "echo", "form", "id_json",
        "is_anew", "is_resuming", "is_stale", "lost", "max_age_ms", "on_slow",
    )  # fmt: skip

    def __init__(
        self,
        session: RelaySession,
        *,
        id_json: bytes,
        echo: str,
        on_slow: OnSlow = OnSlow.CONFLATE,
        max_age_ms: int | None = None,
    ) -> None:
        self.session = session
        self.id_json = id_json
        self.head = b',"id":' + id_json + b',"seq":'
        self.form: Any = None  # what the door that writes its frames keeps of it, if it is no text
        self.echo = echo
        self.on_slow = on_slow
        self.max_age_ms = max_age_ms
        self.streams: dict[Topic, Stream] = {}
        self.lost: dict[Stream, None] = {}  # those with something left out and not told yet
        self.era = Era()
        self.is_stale = False
        self.is_resuming = False
        self.is_anew = True  # no topic goes on from a place
        # The block being delivered, who has got something of it already, and who may be behind it
        # (with the height at which they no longer are).
        self._height = 0
        self._unsettled_at = -1
        self._workers: frozenset[str] = frozenset()  # that tell anything of it, as of this block
        self._ahead: dict[Stream, Position] = {}
        self._behind: dict[Stream, int] = {}

    def unsettle(self, stream: Stream) -> None:
        """From now on the cursor names this stream's place by itself, until it surely is where the
        others are, or for `SETTLE_BLOCKS`."""
        self._behind[stream] = self._height + SETTLE_BLOCKS

    def unsettle_all(self) -> None:
        """The same for all streams."""
        if self._unsettled_at == self._height and len(self._behind) == len(self.streams):
            return  # a gap of each of 500 topics comes at once
        self._unsettled_at = self._height
        for stream in self.streams.values():
            self.unsettle(stream)

    def forget(self, stream: Stream) -> None:
        """It is followed no more, and no cursor names it."""
        self.streams.pop(stream.topic, None)
        self._behind.pop(stream, None)
        self._ahead.pop(stream, None)
        self.lost.pop(stream, None)

    def end(self) -> None:
        """Nothing of it is followed any more. It and its streams refer to each other: undone, they
        are freed with their last frame, and not when a collector looks."""
        for streams in (self.streams, self._behind, self._ahead, self.lost):
            streams.clear()

    def cursor(self, stream: Stream, *, source: str, is_news: bool = True) -> str:
        """How far the whole subscription is, right after a frame of `stream`; `is_news` unless it
        is a snapshot or a gap.

        Blocks come in order, so all topics are complete up to the block before this one, but for
        those named: what this block has brought already, and who may be behind.
        """
        here, kind = stream.position, stream.kind_key
        if len(self.streams) == 1:
            return cursors.encode(Cursor(source, here, kind=kind))
        if source != cursors.NODE or len(self.streams) <= FEW_TOPICS:
            others = {s.key: s.told for s in self.streams.values() if s is not stream}
            return cursors.encode(Cursor(source, here, others, kind))
        if not is_news:
            self._behind.setdefault(stream, self._height + SETTLE_BLOCKS)
            if not self._height:
                return cursors.encode(Cursor(source, ORIGIN, self._opened(), kind))
        elif here.height > self._height:
            self._height = here.height
            self._ahead.clear()
            self._settle()
        if is_news and here.height == self._height:
            self._ahead[stream] = here
        base = end_of(self._height - 1) if self._height else ORIGIN
        others = {s.key: p for s, p in self._ahead.items()}
        for behind in self._behind:
            others[behind.key] = behind.told
        return cursors.encode(Cursor(source, base, others, kind))

    def _opened(self) -> dict[int, Position]:
        """Where those are that have got anything, as long as that is no more than an opening."""
        if self.is_anew and self._is_opening():
            return {}
        return {s.key: told for s in self.streams.values() if (told := s.told) > ORIGIN}

    def _is_opening(self) -> bool:
        """Whether very many wait for their first frame. They get it about in order, so from the
        last on it takes few looks."""
        if len(self.streams) <= MAX_OPENING:
            return False
        waiting = (s for s in reversed(self.streams.values()) if s.state is StreamState.WAITING)
        return next(islice(waiting, MAX_OPENING, None), None) is not None

    def _telling(self) -> frozenset[str]:
        """Workers that read a node and tell anything of what is followed here. One that tells
        nothing gets past no block here; waiting for it named 1,000 topics in each frame for two
        seconds, 1.6 MB a block."""
        return frozenset(
            worker
            for worker in self.session.node_workers
            if any(s.feed is not None and worker in s.feed.covers for s in self.streams.values())
        )

    def _settle(self) -> None:
        workers = self._telling()
        if not workers <= self._workers:
            self.unsettle_all()  # the new one may be ahead of the others
        self._workers = workers
        for stream, until in list(self._behind.items()):
            if until == SETTLE_BLOCKS:  # joined before the first block was seen
                until = self._behind[stream] = self._height + SETTLE_BLOCKS
            if (
                stream.state is StreamState.LIVE
                and stream.position.height < self._height
                and stream.lost is None
                and (until <= self._height or stream.is_told_by(workers))
                and (stream.feed is None or stream.feed.held is None)
            ):
                del self._behind[stream]


class _OfStreams:
    """What each delivery reads, as of subscriptions."""

    __slots__ = (
        "counted", "head", "is_numbered", "is_proven", "lost", "position", "session", "state",
        "subscription",
    )  # fmt: skip


class Stream(_OfStreams):
    """One topic of a subscription: everything up to `position` has been given."""

    __slots__ = (
        "asked_at",
        "asked_s",
        "backlog",
        "began_s",
        "by_event",
        "feed",
        "is_asking",
        "is_begun",
        "is_bulk",
        "is_down",
        "is_first_answer",
        "is_log_read",
        "is_overtaken",
        "is_state",
        "key",
        "kind_key",
        "last_era",
        "last_seq",
        "may_ask",
        "passed",
        "short",
        "silent_to",
        "since_ms",
        "slot",
        "source",
        "stood",
        "stuck",
        "stuck_s",
        "topic",
    )  # fmt: skip

    def __init__(self, subscription: Subscription, topic: Topic) -> None:
        self.subscription = subscription
        self.session = subscription.session
        self.head = subscription.head
        self.topic = topic
        self.key = cursors.topic_key(topic.name)
        self.kind_key = kind_of(topic)
        self.counted = counted_of(topic)
        # It got its first frame, or goes on from a place: a snapshot is one made again.
        self.is_begun = False
        self.is_bulk = topic.is_bulk
        self.by_event = topic.by_event
        self.is_state = topic.is_state
        # Frames of diffs name the one before: a copy that did not get it is not to be trusted.
        self.is_numbered = topic.kind is Kind.L2_DIFF
        self.last_seq = 0
        self.last_era: Era | None = None
        # What a newer state replaces: one slot for each topic of each subscription.
        self.slot = (
            f"{subscription.id_json.decode()} {topic.name}"
            if topic.is_state and subscription.on_slow is not OnSlow.DISCONNECT
            else None
        )
        self.feed: Feed | None = None
        self.state = StreamState.WAITING
        self.is_down = False  # the customer was told that nobody serves it
        self.position = ORIGIN
        self.lost: tuple[Position, Position] | None = None  # left out because the customer is slow
        self.stood = ORIGIN  # and where they stood then
        self.short = Stretches()  # of which the customer was told that he did not get all
        # of a replay
        self.source = ""  # of the cursor; "": there was none
        self.since_ms: int | None = None  # block time to begin at, until it is resolved
        self.backlog: list[Envelope] = []  # read, and not given yet
        self.began_s: float | None = None
        self.may_ask = False  # although the topic showed no sign of life
        self.is_asking = False
        self.asked_s, self.asked_at = (
            0.0,
            ORIGIN,
        )  # when the log was asked last, and the feed's place
        self.is_first_answer = True
        self.is_overtaken = False  # by a correction that may not be in the answer
        self.is_log_read = False  # to its end, as of the last answer
        self.is_proven = True  # False: live, but nobody said yet what comes after `position`
        self.stuck = 0  # answers in a row that brought nothing
        self.stuck_s: float | None = None  # the first tick after the first of them
        self.passed = ORIGIN  # the newest frame that others got live while this one did not
        # What the log does not have up to here, as of the last question, did not happen.
        self.silent_to = ORIGIN

    def resume(self, after: Position | None, *, source: str, since_ms: int | None) -> None:
        """It is to go on after this place (of the cursor's `source`), or from this block time."""
        self.subscription.is_anew = False
        self.is_begun = True
        self.state = StreamState.REPLAYING
        self.position = after or ORIGIN
        self.since_ms = since_ms
        self.source = source

    def lose(self, after: Position, until: Position, *, stood: Position | None = None) -> None:
        """Note that the customer had no room for (`after`, `until`]. `stood`: what they have, where
        that is more than up to `after`, because it is said late that something there was missing.
        """
        stood = after if stood is None else stood
        if self.lost is not None:
            after, until = min(after, self.lost[0]), max(until, self.lost[1])
            stood = min(stood, self.stood)
        self.lost, self.stood = (after, until), stood
        self.subscription.lost[self] = None
        self.subscription.unsettle(self)
        self.session.lost_something()

    @property
    def told(self) -> Position:
        """Up to here the customer has everything, or was told that they have not."""
        return self.position if self.lost is None else min(self.position, self.stood)

    def is_told_by(self, workers: Collection[str]) -> bool:
        """Whether each of `workers` tells everything of the topic since a place that the stream has
        got to: then none of them gets past a block before the topic has it."""
        feed = self.feed
        return (
            feed is not None
            and bool(workers)
            and all(feed.covers.get(worker, _FAR) <= self.position for worker in workers)
        )

    def is_silent_to(self, place: Position) -> bool:
        """Whether nothing is left to be read up to `place`, although the log does not get there."""
        return self.passed <= self.position and place <= self.silent_to

    def rewind(self, to: Position) -> None:
        """The customer did not get what came after `to`, and will not."""
        self.position = min(self.position, to)


class Parts:
    """What the frames of one envelope have in common."""

    __slots__ = (
        "_cursor", "begins", "epoch", "forms", "position", "rest", "size", "source", "stem",
        "tail", "times", "topic",
    )  # fmt: skip

    def __init__(
        self, payload: bytes, topic: Topic, *, epoch: str, position: Position, times: Times
    ) -> None:
        self.topic = topic
        self.stem = payload[:-1] if payload.endswith(b"}") else payload.rstrip()[:-1]
        self.epoch = epoch
        self.position = position
        self.times = times
        self.source = cursors.source_of(epoch)
        self.tail = _tail(epoch, times)
        self._cursor = self.rest = b""
        self.size = 0
        self.begins: dict[int, bytes] = {}
        # What doors that do not write text made of it, each once for all who get it.
        self.forms: dict[Any, Any] | None = None

    def prepare(self) -> None:
        """Set what frames for subscriptions to this topic alone consist of, besides their number
        (with its `id`): `rest` stands behind it, and all is `size` bytes of text; `begin` stands
        before it.
        """
        self.rest = own_fields(self.cursor) + self.tail
        self.size = len(self.stem) + len(self.rest)

    def begin(self, size: int) -> bytes:
        """What stands before a number of `size` bytes, the frame's header included: `begins`."""
        begin = self.begins[size] = header(self.size + size) + self.stem
        return begin

    @property
    def payload(self) -> bytes:
        """The whole official text."""
        return self.stem + b"}"

    @property
    def cursor(self) -> bytes:
        """The cursor of a subscription to this topic alone, which most are: made once."""
        if not self._cursor:
            self._cursor = _cursor(self.source, self.position, kind_of(self.topic))
        return self._cursor


# The 300 books of a block have one cursor and one time between them: 0.3 µs each instead of 7.
@lru_cache(maxsize=256)
def _cursor(source: str, place: Position, kind: int) -> bytes:
    return cursors.encode(Cursor(source, place, kind=kind)).encode()


@lru_cache(maxsize=256)
def _tail(epoch: str, times: Times) -> bytes:
    """The epoch and the times of a text frame, and its end."""
    t = b'"t":{"block":%d,"node":%d,"in":%d,"out":%d}}' % (
        times.block_ns, times.node_ns, times.in_ns, times.out_ns,
    )  # fmt: skip
    return b',"epoch":' + orjson.dumps(epoch) + b"," + t


def own_fields(cursor: bytes, marks: int = 0) -> bytes:
    """A text frame's cursor and marks."""
    return b',"cursor":"%b"%b' % (cursor, _MARKS[marks])


#: What most frames are when they are made: nothing but an update of `stream`, made of `parts`, for
#: who stood at the third before it, numbered in this era.
Light = tuple[Stream, Parts, Position, Era]
#: What waits for a session of the relay dialect in a tick.
Item = Light | Frame


#: A frame larger than this is not kept in one piece: a snapshot of BTC's `l4Book` is 19 MB, and a
#: hundred customers who read it slowly must not hold a hundred.
SHARED_BYTES = 64 * 1024


class RelayFrame(Frame):
    """A data frame of one subscription; its text is made, and numbered, when it leaves."""

    __slots__ = (
        "_back", "_before", "_front", "_wire", "after", "conflated", "cursor", "era", "marks",
        "parts", "stream",
    )  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        parts: Parts,
        *,
        cursor: bytes,
        marks: int,
        counted: Counted,
        after: Position,
        made_s: float | None,
    ) -> None:
        self.stream = stream
        self.parts = parts
        self.cursor = cursor
        self.marks = marks
        self.era = stream.subscription.era
        # Once it is numbered: what stands before and behind the stem that all have in common.
        self._front = self._back = self._wire = b""
        self._before: tuple[Era | None, int] = (None, 0)  # where its topic stood
        self.after = after
        self.conflated = 0
        self.counted = counted
        self.made_s = made_s
        self.topic = stream.slot
        self.text_bytes = 0

    @classmethod
    def of(cls, stream: Stream, parts: Parts, after: Position, era: Era) -> RelayFrame:
        """The frame of an `Item`."""
        frame = cls(
            stream,
            parts,
            cursor=parts.cursor,
            marks=0,
            counted=stream.counted,
            after=after,
            made_s=None,
        )
        frame.era = era
        return frame

    @property
    def payload(self) -> bytes:  # type: ignore[override]
        """The text, numbered now if it was not."""
        return self.wire[-self.text_bytes :]

    @property
    def wire(self) -> bytes:  # type: ignore[override]
        """The text with its header, numbered now if it was not."""
        if not self._wire:
            if not self._front:
                self._number()
            # In one piece with its header: of 1.6 KB each copy counts.
            wire = b"".join((self._front, self.parts.stem, self._back))
            if len(wire) > SHARED_BYTES:
                return wire
            self._wire = wire
        return self._wire

    @property
    def wire_bytes(self) -> int:
        """The length of `wire`, without making it."""
        if not self._front:
            self._number()
        return len(self._front) + len(self.parts.stem) + len(self._back)

    def cut(self, begin: int, end: int) -> bytes:
        """`wire[begin:end]`, without making more of it."""
        if not self._front:
            self._number()
        pieces = []
        for piece in (self._front, self.parts.stem, self._back):
            if begin < len(piece) and end > 0:
                pieces.append(piece[max(0, begin) : end])
            begin, end = begin - len(piece), end - len(piece)
        return b"".join(pieces)

    def _number(self) -> None:
        """Set what stands before and behind the stem."""
        parts = self.parts
        seq, previous = self.take_number()
        number = b"%b%d" % (self.stream.subscription.head, seq)
        if self.stream.is_numbered:
            number += b',"prevSeq":%d' % previous
        if self.conflated:
            number += b',"conflated":%d' % self.conflated
        self._back = b"".join((number, own_fields(self.cursor, self.marks), parts.tail))
        self.text_bytes = len(parts.stem) + len(self._back)
        self._front = header(self.text_bytes)

    def take_number(self) -> tuple[int, int]:
        """Its number, now that it leaves, and, where frames name the one before (else 0), that of
        the topic's frame before this one; 0 for the first of an era."""
        stream, era = self.stream, self.era
        era.seq += 1
        if not stream.is_numbered:
            return era.seq, 0
        self._before = before = stream.last_era, stream.last_seq
        stream.last_era, stream.last_seq = era, era.seq
        return era.seq, before[1] if before[0] is era else 0

    @property
    def size_bytes(self) -> int:
        """An upper bound that does not change."""
        parts = self.parts
        return (
            len(parts.stem)
            + len(parts.tail)
            + len(self.cursor)
            + len(self.stream.subscription.head)
            + 168
        )

    def unnumber(self) -> None:
        """Give the number back."""
        if self._front:
            self._wire = self._front = self._back = b""
            self.era.seq -= 1
            # Several are given back in any order: the earliest is where the topic stands.
            stream, (era, seq) = self.stream, self._before
            if stream.is_numbered and _is_before(era, seq, stream.last_era, stream.last_seq):
                stream.last_era, stream.last_seq = era, seq

    def keep(self) -> None:
        """The number goes to whatever leaves next."""
        self.unnumber()
        lost = self.stream.subscription.lost
        if lost and self.topic is None:
            # Made in the same tick as a frame that was left out since: it must not claim that one.
            self.cursor = _without(self.cursor, lost)

    def replace(self, older: Frame) -> None:
        """Count what the customer did not see."""
        if isinstance(older, RelayFrame):
            self.conflated += older.conflated + 1

    def skip(self) -> bool:
        """Leave it out, and remember it for the gap frame."""
        if self.stream.subscription.on_slow is not OnSlow.SKIP:
            return False
        self.stream.lose(self.after, self.parts.position)
        return True

    def drop(self) -> None:
        """The customer stands where they stood before it."""
        self.stream.rewind(self.after)


def _is_before(era: Era | None, seq: int, other: Era | None, other_seq: int) -> bool:
    if era is other:
        return seq < other_seq
    return other is not None and (era is None or era.order < other.order)


def _without(text: bytes, lost: Iterable[Stream]) -> bytes:
    """The cursor, not beyond what `lost` streams have lost."""
    cursor = cursors.decode(text.decode())
    others = dict(cursor.others)
    for stream in lost:
        others[stream.key] = min(cursor.of(stream.topic.name), stream.told)
    return cursors.encode(replace(cursor, others=others)).encode()


class GapFrame(Frame):
    """Says what a stream lacks; itself left out for want of room, it is said later."""

    __slots__ = ("_range", "_stood", "_stream")

    def __init__(
        self,
        stream: Stream,
        payload: bytes,
        lost: tuple[Position, Position],
        *,
        stood: Position,
    ) -> None:
        """`stood`: where the customer was when it was said."""
        super().__init__(payload)
        self._stream = stream
        self._range = lost
        self._stood = max(stood, lost[0])

    def skip(self) -> bool:
        """Remember it."""
        if self._stream.subscription.on_slow is not OnSlow.SKIP:
            return False
        self._stream.lose(*self._range, stood=self._stood)
        return True

    def drop(self) -> None:
        """They were not told: they stand where they stood. What is missing before that is said
        again when they come back."""
        self._stream.rewind(self._stood)


def data_frame(
    stream: Stream,
    parts: Parts,
    *,
    now_s: float,
    is_replay: bool = False,
    is_snapshot: bool = False,
    is_again: bool = False,
) -> RelayFrame:
    """The envelope's frame for `stream`, which now stands at the envelope's place.

    Only news is charged, and the first snapshot is: what was replayed, and a snapshot or a state
    given again (`is_again`), is free. A block's trades are one message, in however many frames they
    come.
    """
    after, stream.position = stream.position, max(stream.position, parts.position)
    subscription = stream.subscription
    if stream.is_state or len(subscription.streams) == 1:
        cursor = parts.cursor
    else:
        text = subscription.cursor(stream, source=parts.source, is_news=not is_snapshot)
        cursor = text.encode()
    marks = Mark.NONE
    if is_replay:
        marks |= Mark.REPLAY
    if is_snapshot:
        marks |= Mark.SNAPSHOT
    reason, messages = Reason.CHARGED, 1
    if stream.by_event and not is_snapshot:
        marks |= Mark.PARTIAL
        if after.height == parts.position.height:
            messages = 0
    if is_replay:
        reason = Reason.REPLAY
    elif is_again or (is_snapshot and stream.is_begun):
        reason = Reason.RESYNC
    stream.is_begun = True
    counted = stream.counted
    if reason or not messages:
        counted = counted_of(stream.topic, reason, messages=messages)
    made_s = now_s if stream.is_bulk else None
    return RelayFrame(
        stream,
        parts,
        cursor=cursor,
        marks=int(marks),
        counted=counted,
        after=after,
        made_s=made_s,
    )
