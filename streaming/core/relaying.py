"""The relay dialect's side of the hub: streams that know their place, and how they get back to it.

A stream that resumes reads the replay log until it has caught up with what is delivered live. Every
frame is in the log before it is on the bus, so no buffer is needed at the seam: the log is read
until the stream stands where the feed stands, and live frames at or before its place are not given
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from streaming.core import cursor as cursors
from streaming.core.cursor import NODE_EPOCH_PREFIX, Cursor
from streaming.core.dialects import relay
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times
from streaming.core.freshness import MARGIN_BLOCKS
from streaming.core.outbox import Frame
from streaming.core.replay_bound import ReplayBound
from streaming.core.replays import Question, Replay
from streaming.core.snapshots import Opening
from streaming.core.streams import (
    Era,
    GapFrame,
    Parts,
    RelayFrame,
    Stream,
    StreamState,
    Subscription,
    data_frame,
)

if TYPE_CHECKING:
    from streaming.core.feed import Feed
    from streaming.core.hub import Hub
    from streaming.core.relay_session import RelaySession

#: How long a resume waits for its topic's first sign of life before the log alone is asked.
ALIVE_S = 2.0
#: Blocks (two seconds) that a cursor may be ahead of us: another edge may hear a faster worker.
MAX_AHEAD_BLOCKS = 30
#: Bytes of replay handed to a session at a time; the next come when these have left.
CHUNK_BYTES = 128 * 1024
#: How long answers may bring nothing before what the log lacks is declared lost, as long as a
#: suspected hole waits at most; and the time between two of them.
MAX_STUCK_S = 1.0
STUCK_S = 0.1
#: Topics of a subscription whose gaps carry its cursor.
MAX_NAMED = 64
#: Replays of one session that are looked at in one go: of 1,000 topics most may wait.
MAX_LOOKS = 32
#: Silence of all upstreams after which sessions are told, `maxAgeMs` or not. Blocks come every 70
#: ms.
SILENT_MS = 1_500.0


class Relays:
    """All streams of the process. The hub calls it wherever a feed moves."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.sessions: dict[RelaySession, None] = {}
        self._resuming: dict[RelaySession, None] = {}
        self._now_s = 0.0  # of the last tick
        self._bound = ReplayBound()

    def replay_wait_s(self, tenant_id: int) -> float:
        """How long a tenant must wait before it resumes again; 0: it need not."""
        return self._bound.wait_s(tenant_id, now_s=self._now_s)

    # --- joining and leaving ---

    def join(self, stream: Stream) -> None:
        """Follow the stream's topic: from its opening on, or from where it is to be resumed."""
        hub = self._hub
        is_new = stream.topic.name not in hub.feeds
        feed = stream.feed = hub.feed(stream.topic)
        feed.idle_since_s = None
        is_awaited = is_new or bool(feed.waiting) or self.is_awaited(feed)
        feed.streams[stream] = None
        feed.joined(stream.session.tenant_id)
        if stream.state is StreamState.REPLAYING:
            hub.counters.resumes += 1
            stream.session.resuming.append(stream)
            self._resuming[stream.session] = None
            self._pump(stream.session)
            return
        self._open(stream, feed, is_awaited=is_awaited)

    def _open(self, stream: Stream, feed: Feed, *, is_awaited: bool) -> None:
        if feed.opening is Opening.NOTHING:
            stream.position = feed.position
            self._arrive(stream)
        elif feed.epoch and feed.opening is not Opening.WORKER:
            self._begin(stream, _opening(feed, feed.snapshot.frame()), feed.position)
        else:
            stream.state = StreamState.WAITING
            if feed.opening is Opening.WORKER and not is_awaited:
                self._hub.want(feed)
        if feed.why_not is not None:
            self._refuse(stream, feed.why_not)

    def leave(self, stream: Stream, *, now_s: float) -> None:
        """Follow it no more."""
        stream.state = StreamState.ENDED
        stream.backlog.clear()
        feed, stream.feed = stream.feed, None
        if feed is None:
            return
        if stream in feed.streams:
            del feed.streams[stream]
            feed.left(stream.session.tenant_id)
        if not feed.is_followed:
            feed.idle_since_s = now_s

    def is_awaited(self, feed: Feed) -> bool:
        """Whether a stream waits for its first frame."""
        return any(stream.state is StreamState.WAITING for stream in feed.streams)

    def is_live(self, feed: Feed) -> bool:
        """Whether a stream is given what comes."""
        return any(stream.state is StreamState.LIVE for stream in feed.streams)

    # --- live ---

    def deliver(self, feed: Feed, envelope: Envelope, *, is_again: bool = False) -> None:
        """Give an update, in its place, to whom it is news; `is_again`: a state that its source,
        which began anew, gives again."""
        here, is_state = envelope.position, feed.opening is Opening.STATE
        parts = _parts(feed, envelope)
        # Bulk is bound by its age, and an event's trades share a message on the bill.
        may_be_light = not (feed.topic.is_bulk or feed.topic.by_event or is_again)
        if may_be_light:
            parts.prepare()
        hub, live, given = self._hub, StreamState.LIVE, 0
        dirty = hub.dirty
        streams: Iterable[Stream] = feed.streams
        if may_be_light and hub.fanout is not None:
            given, streams = hub.fanout.deliver(feed.streams, parts, here, dirty, is_state=is_state)
        for stream in streams:
            if stream.state is not live:
                if not (is_state and stream.state is StreamState.WAITING):
                    stream.passed = here
                    continue
                self._arrive(stream)
            if here <= stream.position and not is_state:
                continue
            if not stream.is_proven:
                stream.is_proven = True
                if envelope.previous > stream.position:
                    self._gap(stream, stream.position, envelope.previous, relay.NOT_IN_LOG)
            subscription = stream.subscription
            if (
                may_be_light
                and stream.lost is None
                and (is_state or len(subscription.streams) == 1)
            ):
                # With what a batch makes of it 1 µs; `_give` and its frame took 5.
                after, session = stream.position, stream.session
                if here > after:
                    stream.position = here
                if not session.pending:
                    dirty.append(session)
                session.pending.append((stream, parts, after, subscription.era))
                given += 1
            else:
                self._give(stream, parts, is_again=is_again)
        hub.counters.deliveries += given

    def start(self, feed: Feed, payload: bytes | None, *, at: Position | None = None) -> None:
        """Start those who wait, from a snapshot at `at` (the feed's place)."""
        position = feed.position if at is None else at
        # Once for all: BTC's l4Book is 19 MB.
        parts = _opening(feed, payload, at=position) if self.is_awaited(feed) else None
        for stream in feed.streams:
            if stream.state is StreamState.WAITING:
                self._begin(stream, parts, position)

    def _begin(self, stream: Stream, parts: Parts | None, position: Position) -> None:
        stream.position = position
        if parts is not None:
            self._give(stream, parts, is_snapshot=True)
        self._arrive(stream)

    def _arrive(self, stream: Stream) -> None:
        stream.state, stream.is_begun = StreamState.LIVE, True
        self._complete(stream.subscription)

    def _complete(self, subscription: Subscription) -> None:
        """Say that all is replayed, if it is."""
        streams = subscription.streams.values()
        if (
            subscription.is_resuming
            and streams
            and all(stream.state is StreamState.LIVE for stream in streams)
        ):
            subscription.is_resuming = False
            payload = relay.replay_complete(subscription.id_json)
            self._hub.queue(subscription.session, Frame(payload))

    def _give(
        self,
        stream: Stream,
        parts: Parts,
        *,
        is_replay: bool = False,
        is_snapshot: bool = False,
        is_again: bool = False,
    ) -> RelayFrame:
        if stream.lost is not None:
            lost, stream.lost = stream.lost, None
            stream.subscription.lost.pop(stream, None)
            self._gap(stream, *lost, relay.TOO_SLOW, stood=stream.stood)
        frame = data_frame(
            stream,
            parts,
            now_s=self._hub.now_s,
            is_replay=is_replay,
            is_snapshot=is_snapshot,
            is_again=is_again,
        )
        self._hub.queue(stream.session, frame)
        self._hub.counters.deliveries += 1
        return frame

    def _say(self, stream: Stream, payload: bytes) -> None:
        self._hub.queue(stream.session, Frame(payload))

    def tell_lost(self, session: RelaySession) -> None:
        """The socket takes frames again: say what was left out meanwhile."""
        for subscription in session.subscriptions.values():
            for stream in list(subscription.lost):
                if stream.lost is not None:
                    lost, stream.lost = stream.lost, None
                    self._gap(stream, *lost, relay.TOO_SLOW, stood=stream.stood)
            subscription.lost.clear()
        self._hub.flush()

    # --- who has nobody to serve them ---

    def refuse(self, feed: Feed, why: str) -> None:
        """Nobody serves the feed now: tell those who wait that there is nothing to give, the others
        that what they have grows old."""
        for stream in feed.streams:
            self._refuse(stream, why)

    def _refuse(self, stream: Stream, why: str) -> None:
        if stream.is_down:
            return
        if stream.state is StreamState.WAITING:
            stream.session.not_ready(stream, why)
        else:
            stream.is_down = True
            self._say(stream, relay.stale(stream.subscription.id_json, 0, stream.topic, why))

    def revive(self, feed: Feed) -> None:
        """Somebody serves the feed again."""
        for stream in feed.streams:
            if stream.is_down:
                stream.is_down = False
                self._say(stream, relay.fresh(stream.subscription.id_json, 0, stream.topic))

    # --- continuity ---

    def lose(self, feed: Feed, until: Position, reason: str) -> None:
        """(what is delivered, `until`] is lost: say so to everybody it concerns."""
        feed.lost_to = until
        for stream in feed.streams:
            if stream.state is StreamState.LIVE and stream.position < until:
                self._gap(stream, max(stream.position, feed.position), until, reason)

    def restart(self, feed: Feed, until: Position, reason: str) -> None:
        """What was told of a chained topic up to `until` was wrong: everybody begins again."""
        for stream in feed.streams:
            if stream.state in (StreamState.LIVE, StreamState.REPLAYING):
                self._gap(stream, stream.position, max(stream.position, until), reason)

    def tell_short(self, feed: Feed, correction: Envelope) -> None:
        """What was told of a stretch of events was not all: say so to everybody."""
        for stream in feed.streams:
            if stream.state is StreamState.LIVE:
                self._tell_short(stream, correction)
            else:
                stream.is_overtaken = True  # read in its place, if there is anything to read

    def _tell_short(self, stream: Stream, correction: Envelope) -> None:
        after, until = correction.previous, correction.position
        if stream.short.add(after, until, reached=stream.position):
            reason = correction.payload.decode(errors="replace")
            self._say_gap(stream, after, until, reason, stood=stream.position)

    def _gap(
        self,
        stream: Stream,
        after: Position,
        until: Position,
        reason: str,
        *,
        stood: Position | None = None,
    ) -> None:
        feed = stream.feed
        stream.position = max(stream.position, until)
        self._say_gap(stream, after, until, reason, stood=after if stood is None else stood)
        if stream.topic.is_chained and stream.state is not StreamState.WAITING:
            stream.state = StreamState.WAITING
            stream.backlog.clear()
            if feed is not None:
                self._hub.want(feed)

    def _say_gap(
        self, stream: Stream, after: Position, until: Position, reason: str, *, stood: Position
    ) -> None:
        feed = stream.feed
        source = cursors.source_of(feed.epoch if feed is not None and feed.epoch else "n-")
        subscription = stream.subscription
        subscription.unsettle_all()
        payload = relay.gap(
            subscription.id_json,
            stream.topic,
            begin=(cursors.encode(Cursor(source, after, kind=stream.kind_key)), after),
            end=(self._after_gap(stream, source), until),
            reason=reason,
        )
        self._hub.queue(stream.session, GapFrame(stream, payload, (after, until), stood=stood))

    def _after_gap(self, stream: Stream, source: str) -> str | None:
        """The subscription's cursor behind a gap. None where it would have to name very many: a
        hole in all of 1,300 coins is 1,300 gaps, and was 20 MB; the cursor before stays good."""
        subscription = stream.subscription
        if len(subscription.streams) > MAX_NAMED:
            return None
        return subscription.cursor(stream, source=source, is_news=False)

    def unsettle(self, feed: Feed) -> None:
        """The feed holds frames back: cursors of many topics must name its place."""
        for stream in feed.streams:
            stream.subscription.unsettle(stream)

    def resync(self, feed: Feed, reason: str) -> None:
        """The feed has a new epoch in which places mean what they meant; numbering begins again."""
        for stream in feed.streams:
            self._resync(stream, feed.epoch, reason)

    def leap(self, feed: Feed, old_epoch: str, *, is_lost: bool) -> None:
        """The feed has a new epoch with places of its own. `is_lost`: what lies between the two is
        not known."""
        source = cursors.source_of(old_epoch)
        for stream in list(feed.streams):  # who fails, leaves
            if stream.state is StreamState.REPLAYING:
                self._fail(stream, relay.SOURCE_BEGAN_AGAIN, None)
            else:
                self._leap(stream, feed, source, is_lost=is_lost)

    def _leap(self, stream: Stream, feed: Feed, source: str, *, is_lost: bool) -> None:
        after, stream.position = stream.position, ORIGIN
        if is_lost and stream.state is StreamState.LIVE:
            begin = cursors.encode(Cursor(source, after, kind=stream.kind_key)), after
            payload = relay.gap(
                stream.subscription.id_json,
                stream.topic,
                begin=begin,
                end=None,
                reason=relay.SOURCE_BEGAN_AGAIN,
            )
            self._say(stream, payload)
        self._resync(stream, feed.epoch, relay.SOURCE_BEGAN_AGAIN)
        if feed.opening is Opening.WORKER:
            stream.state = StreamState.WAITING

    def _resync(self, stream: Stream, epoch: str, reason: str) -> None:
        if stream.state is not StreamState.LIVE:
            return
        subscription = stream.subscription
        payload = relay.resync(subscription.id_json, stream.topic, epoch=epoch, reason=reason)
        self._say(stream, payload)
        subscription.era = Era()
        if stream.topic.is_state:
            stream.position = ORIGIN

    # --- resuming ---

    def alive(self, feed: Feed) -> None:
        """The topic's first sign of life: the log can be compared with it now."""
        for stream in list(feed.streams):
            if stream.state is StreamState.LIVE and not stream.is_proven:
                if self._is_of_another(stream, feed):
                    stream.is_proven = True
                    self._leap(stream, feed, stream.source, is_lost=True)
                    continue
                # It went live on the log's word alone, and now there is more to compare with.
                if self._is_ahead(stream, feed) or (
                    feed.opening is Opening.TRADES and feed.position > stream.position
                ):
                    stream.state = StreamState.REPLAYING
                    stream.is_log_read = False
                    stream.session.resuming.append(stream)
                    self._resuming[stream.session] = None
            if stream.state is StreamState.REPLAYING:
                self._pump(stream.session, stream)

    def tick(self, *, now_s: float) -> None:
        """Go on with replays that wait for something."""
        self._now_s = now_s
        for session in list(self._resuming):
            for stream in session.resuming:
                if stream.began_s is None:
                    stream.began_s = now_s
                elif now_s - stream.began_s >= ALIVE_S:
                    stream.may_ask = True
                if stream.stuck and stream.stuck_s is None:
                    stream.stuck_s = now_s
            try:
                self._pump(session)
            except Exception as error:  # the other sessions resume too
                self._hub.fault("resume", error)
                self._resuming.pop(session, None)
                for stream in list(session.resuming):
                    self._fail(stream, "a fault of the relay: subscribe again", None)

    def _pump(self, session: RelaySession, first: Stream | None = None) -> None:
        """Go on with the session's replays as far as its socket takes them: one reads at a time,
        and those that wait for a sign of life do not keep the others."""
        if session.is_pumping:
            return  # by an answer that came at once: the loop below goes on
        session.is_pumping = True
        try:
            self._go_round(session, first)
        finally:
            session.is_pumping = False
        if not session.resuming:
            self._resuming.pop(session, None)

    def _go_round(self, session: RelaySession, first: Stream | None) -> None:
        resuming, looked = session.resuming, 0
        while resuming and looked < min(len(resuming), MAX_LOOKS):
            stream = session.reader or first or resuming[0]
            first = session.reader = None
            if self._advance(stream):
                session.reader = stream
                return
            if resuming and stream is resuming[0]:
                resuming.popleft()
                if stream.state is StreamState.REPLAYING:
                    resuming.append(stream)
                    looked += 1

    def _advance(self, stream: Stream) -> bool:
        """Go on with one replay; whether it is reading, so that others must wait."""
        while stream.state is StreamState.REPLAYING:
            if stream.is_asking:
                return True
            if stream.backlog:
                if not self._unload(stream):
                    return True
            elif not stream.is_log_read or not self._catch_up(stream):
                if stream.stuck and not self._is_worth_asking(stream):
                    return False
                if not self._ask(stream):
                    return False
        return False

    def _is_worth_asking(self, stream: Stream) -> bool:
        """Whether an answer may bring more than the last: a worker proves silence since, or it is
        time."""
        feed = stream.feed
        return self._now_s - stream.asked_s >= STUCK_S or (
            feed is not None and stream.silent_to < feed.position and self._is_nothing(stream, feed)
        )

    def _is_stuck(self, stream: Stream) -> bool:
        since_s = stream.stuck_s
        return stream.stuck > 1 and since_s is not None and self._now_s - since_s >= MAX_STUCK_S

    def _unload(self, stream: Stream) -> bool:
        """Give what was read; False when the socket must take it first."""
        session = stream.session
        size_bytes = CHUNK_BYTES
        backlog, stream.backlog = stream.backlog, []
        for number, entry in enumerate(backlog):
            if size_bytes >= CHUNK_BYTES:
                size_bytes = 0
                self._hub.flush()
                if not session.sink.is_ready:
                    stream.backlog = backlog[number:]
                    self._wait_for(session)
                    return False
            if stream.state is not StreamState.REPLAYING:
                break
            given_bytes = self._replay(stream, entry)
            size_bytes += given_bytes
            self._bound.spend(session.tenant_id, given_bytes, now_s=self._now_s)
        self._hub.flush()
        return True

    def _wait_for(self, session: RelaySession) -> None:
        if not session.is_waiting_for_sink:
            session.is_waiting_for_sink = True
            session.sink.when_ready(lambda: self._go_on(session))

    def _go_on(self, session: RelaySession) -> None:
        session.is_waiting_for_sink = False
        self._pump(session)
        self._hub.flush()

    def _replay(self, stream: Stream, entry: Envelope) -> int:
        if entry.role is Role.RESET:
            self._correct(stream, entry)
            return 0
        if entry.position <= stream.position:
            return 0
        if entry.role is Role.GAP:
            self._gap(stream, stream.position, entry.position, entry.payload.decode())
            return 0
        if entry.contradicts(stream.position):
            # Another version of a block, at the log's end. What is still to come live is news.
            told = stream.feed.position if stream.feed is not None else entry.position
            stream.position = max(stream.position, min(entry.position, told))
            return 0
        after = stream.position
        if entry.previous > after and not stream.short.has(after, entry.previous):
            self._gap(stream, after, entry.previous, relay.NOT_IN_LOG)
            if stream.state is not StreamState.REPLAYING:
                return 0
        feed = stream.feed
        epoch = feed.epoch if feed is not None and feed.epoch else entry.epoch
        parts = Parts(
            entry.payload, stream.topic, epoch=epoch, position=entry.position, times=entry.times
        )
        return self._give(stream, parts, is_replay=True).size_bytes

    def _correct(self, stream: Stream, correction: Envelope) -> None:
        if stream.topic.is_chained:
            until = max(stream.position, correction.position)
            self._gap(stream, stream.position, until, correction.payload.decode(errors="replace"))
        else:
            self._tell_short(stream, correction)

    def _is_news(self, stream: Stream, entry: Envelope) -> bool:
        """Whether an entry of the log says something to who stands where the stream does."""
        if entry.role is not Role.RESET:
            return entry.position > stream.position
        # Of a place before it is about what he got then, unless he begins at a time.
        is_concerned = entry.position > stream.position or bool(stream.source)
        return is_concerned and not stream.short.has(entry.previous)

    def _ask(self, stream: Stream) -> bool:
        """Ask the log what comes next; False when there is nothing to ask yet, or ever."""
        feed = stream.feed
        if feed is None or not (feed.epoch or stream.may_ask):
            return False
        replays = self._hub.replays
        if replays is None:
            self._fail(stream, "this relay keeps no replay log", None)
            return False
        if self._is_of_another(stream, feed):
            self._fail(stream, relay.SOURCE_BEGAN_AGAIN, None)
            return False
        if self._is_ahead(stream, feed):
            # The worker that spoke first may be the slower one.
            if stream.began_s is not None and self._now_s - stream.began_s >= ALIVE_S:
                self._fail(stream, relay.AHEAD, None)
            return False
        stream.is_asking, stream.asked_s, stream.asked_at = True, self._now_s, feed.position
        stream.is_overtaken = False
        # A worker appends before it publishes. So what it told up to here is in the answer only
        # if it had got past this place when the question was asked, not when the answer came.
        stream.silent_to = feed.position if self._is_nothing(stream, feed) else ORIGIN
        question = Question(
            feed.name, feed.epoch or "n-", stream.position, since_ms=stream.since_ms
        )
        replays.ask(question, lambda replay: self._answered(stream, replay))
        return True

    def _is_ahead(self, stream: Stream, feed: Feed) -> bool:
        """Whether the stream's place is one that the chain has not got to: silence up to it would
        be a loss that nobody tells."""
        tip_height = self._hub.freshness.tip_height
        return (
            feed.epoch.startswith(NODE_EPOCH_PREFIX)
            and 0 < tip_height < stream.position.height - MAX_AHEAD_BLOCKS
        )

    def _is_of_another(self, stream: Stream, feed: Feed) -> bool:
        """Whether the stream's cursor is of another source than the topic has now: a place there
        says nothing here. Nothing of a public link outlives it, so one that shows no sign of life
        is another."""
        now = cursors.source_of(feed.epoch) if feed.epoch else cursors.NODE
        return bool(stream.source) and stream.source != now

    def _answered(self, stream: Stream, replay: Replay) -> None:
        stream.is_asking = False
        if stream.state is StreamState.REPLAYING:
            self._read(stream, replay)
        self._pump(stream.session, stream)
        self._hub.flush()

    def _read(self, stream: Stream, replay: Replay) -> None:
        feed = stream.feed
        if feed is None:
            return
        if replay.failure is not None:
            # A log that cannot tell where it begins could not be asked: the place stays good.
            self._fail(stream, replay.failure, replay.oldest or stream.position)
            return
        if stream.since_ms is not None:
            stream.position, stream.since_ms = replay.after, None
        if stream.is_first_answer:
            if replay.oldest is None and self._may_be_at_end(stream, feed):
                stream.is_log_read = True
                self._count_empty(stream)
                return
            stream.is_first_answer = False
            if self._is_too_old(stream, feed, replay.oldest):
                self._fail(stream, relay.TOO_OLD, replay.oldest)
                return
        stream.backlog = [e for e in replay.entries if self._is_news(stream, e)]
        stream.is_log_read = replay.is_whole
        if stream.backlog:
            stream.stuck = 0
        else:
            self._count_empty(stream)

    def _count_empty(self, stream: Stream) -> None:
        stream.stuck += 1
        if stream.stuck == 1:
            stream.stuck_s = None

    def _is_too_old(self, stream: Stream, feed: Feed, oldest: Position | None) -> bool:
        if oldest is not None:
            return oldest > stream.position
        return not feed.epoch or not (
            feed.position <= stream.position
            or feed.position <= feed.lost_to  # that is a gap, and known
            or stream.is_silent_to(feed.position)
        )

    def _may_be_at_end(self, stream: Stream, feed: Feed) -> bool:
        """Whether a log without entries may be that of a quiet topic: the worker that spoke first
        has only begun, and the other has told everything, nothing, since the stream's place."""
        return (
            not self._is_stuck(stream)
            and feed.lost_to < feed.position
            and stream.position > ORIGIN
            and self._is_too_old(stream, feed, None)
            and bool(feed.epoch)
        )

    def _catch_up(self, stream: Stream) -> bool:
        """The log is read to its end: go live, unless something came meanwhile that is to be read
        first."""
        feed = stream.feed
        if feed is None or stream.is_overtaken:
            return False
        if not feed.epoch:
            stream.is_proven = False
        elif (
            feed.position > stream.position
            and not stream.is_silent_to(feed.position)
            and not stream.short.has(stream.position, feed.position)
        ):
            # A hole that was declared has been waited for already.
            is_declared = feed.lost_to >= feed.position and stream.asked_at >= feed.position
            if not is_declared and not self._is_stuck(stream):
                return False
            self._gap(stream, stream.position, feed.position, relay.NOT_IN_LOG)
        if stream.state is StreamState.REPLAYING:
            self._arrive(stream)
        return True

    def _is_nothing(self, stream: Stream, feed: Feed) -> bool:
        """Whether a worker that tells everything has gone past the feed's place in silence."""
        tip_of = self._hub.freshness.tip_of
        return any(
            since <= stream.position
            and tip_of(worker, feed.files) >= feed.position.height + MARGIN_BLOCKS
            for worker, since in feed.covers.items()
        )

    def _fail(self, stream: Stream, reason: str, oldest: Position | None) -> None:
        """Follow it no more; it can be resumed after `oldest`, or begin anew."""
        feed = stream.feed
        epoch = feed.epoch if feed is not None and feed.epoch else "n-"
        text = None
        if len(stream.subscription.streams) <= MAX_NAMED:
            # The whole subscription's, so that the others go on where they are.
            source = cursors.source_of(epoch)
            if oldest is None and len(stream.subscription.streams) > 1:
                source = stream.source or source  # the others' places are of that one
            stream.position = oldest or ORIGIN
            text = stream.subscription.cursor(stream, source=source, is_news=False)
        self._hub.counters.resumes_failed += 1
        payload = relay.resume_failed(
            stream.subscription.id_json,
            stream.topic,
            oldest=text,
            oldest_height=oldest.height if oldest else None,  # 0: of a time that was not found yet
            reason=reason,
        )
        self._say(stream, payload)
        stream.session.failed(stream)
        self._complete(stream.subscription)

    # --- freshness ---

    def check_age(self, *, now_s: float) -> None:
        """Tell the sessions what went stale, or is fresh again."""
        if not self.sessions:
            return
        freshness = self._hub.freshness
        chain_ms = freshness.age_ms(now_s=now_s)
        silence_ms = freshness.silence_ms(now_s=now_s)
        for session in self.sessions:
            session.note_silence(chain_ms, is_silent=silence_ms > SILENT_MS)
            for subscription in session.subscriptions.values():
                if subscription.max_age_ms is not None:
                    session.note_age(
                        subscription, _age_ms(subscription, chain_ms=chain_ms, now_s=now_s)
                    )


def _age_ms(subscription: Subscription, *, chain_ms: float, now_s: float) -> float:
    """How old the subscription's oldest topic is: what is made of node data as old as the newest
    block here (`chain_ms`), anything else for as long as it is known to have no source."""
    oldest_ms = 0.0
    for stream in subscription.streams.values():
        feed = stream.feed
        if feed is None:
            continue
        if feed.down_s is not None:
            oldest_ms = max(oldest_ms, (now_s - feed.down_s) * 1_000)
        if not feed.epoch or feed.epoch.startswith(NODE_EPOCH_PREFIX):
            oldest_ms = max(oldest_ms, chain_ms)
    return oldest_ms


def _parts(feed: Feed, envelope: Envelope) -> Parts:
    return Parts(
        envelope.payload,
        feed.topic,
        epoch=feed.epoch,
        position=envelope.position,
        times=envelope.times,
    )


def _opening(feed: Feed, payload: bytes | None, *, at: Position | None = None) -> Parts | None:
    """A snapshot for those who begin; None when there is nothing to show yet."""
    if payload is None:
        return None
    position = feed.position if at is None else at
    return Parts(payload, feed.topic, epoch=feed.epoch, position=position, times=Times())
