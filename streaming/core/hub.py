"""Topic → sessions, inside one process: the only place where one message becomes many.

`publish` is a plain loop that appends the same frame object to the list of each follower; `flush`
then hands each session everything of this tick at once. Nothing here waits, parses JSON or makes a
task.

Two workers publish the same; the first copy of a place is taken. Every envelope claims that nothing
lies between the place before it and its own. Where a claim does not reach back to what was
delivered, the topic waits a moment for the other worker's copy and for the replay log (`tick`);
then the hole is filled, or declared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from streaming.core import snapshots
from streaming.core.batch import Batch, NumberedBatch
from streaming.core.corrections import Corrections
from streaming.core.counted import Reason, counted_of
from streaming.core.cursor import NODE_EPOCH_PREFIX
from streaming.core.envelope import LAST_INDEX, ORIGIN, Envelope, Position, Role, end_of
from streaming.core.feed import Feed
from streaming.core.freshness import Freshness
from streaming.core.holes import Holes
from streaming.core.outbox import Frame
from streaming.core.relaying import Relays
from streaming.core.replays import GapLedger, Replays
from streaming.core.snapshots import Opening
from streaming.core.topic import Topic

if TYPE_CHECKING:
    from streaming.core.session import Session, Sink
    from streaming.core.streams import Parts, Stream

__all__ = ["LINGER_S", "Demand", "Feed", "Hub"]

#: How long a topic stays leased after its last follower left: a reconnect or a polling reader finds
#: it warm.
LINGER_S = 30.0
#: How long after it was asked for a snapshot may be asked for again.
ASK_AGAIN_S = 1.0
#: The same for a topic of which it was said that nobody serves it.
ASK_REFUSED_S = 3.0


class Demand(Protocol):
    """Tells the upstream worker what this process wants."""

    def want(self, name: str) -> None:
        """Lease the topic, and ask for its snapshot (again)."""

    def drop(self, name: str) -> None:
        """Give the lease back."""


class Fanout(Protocol):
    """The loops of a fan-out, where somebody does what is plain of them faster."""

    def queue(
        self, followers: dict[Session, None], frame: Frame, dirty: list[Recipient]
    ) -> list[Session]:
        """Add a frame to what each of the official dialect gets; who is left to do."""

    def deliver(
        self,
        streams: dict[Stream, None],
        parts: Parts,
        here: Position,
        dirty: list[Recipient],
        *,
        is_state: bool,
    ) -> tuple[int, list[Stream]]:
        """Give an update to those of the relay dialect to whom it is plain; how many those are, and
        who is left to do."""

    def hand_over(self, dirty: list[Recipient], begin: int) -> tuple[list[Recipient], int]:
        """Write what waits for each, from the `begin`th on and round; who is left to do, and how
        many failed."""


class Recipient(Protocol):
    """Who is handed frames: a session of either dialect."""

    sink: Sink
    pending: list[Any]
    is_numbered: ClassVar[bool]  # whether its frames are numbered for it alone


@dataclass(slots=True)
class Counters:
    """What the hub has seen; read by the metrics, never reset."""

    envelopes: int = 0
    deliveries: int = 0
    late: int = 0  # an envelope at or before a position already delivered
    holes: dict[str, int] = field(default_factory=dict)  # by kind: declared
    filled: int = 0  # suspected holes that were none, or were filled
    disagreements: int = 0  # another version of a block of which one was delivered
    epochs: int = 0
    sink_failures: int = 0
    resumes: int = 0
    resumes_failed: int = 0
    resets: int = 0  # topics begun again because what was told of them was wrong

    def hole(self, feed: Feed) -> None:
        """A hole of the feed was declared."""
        kind = feed.topic.kind
        self.holes[kind] = self.holes.get(kind, 0) + 1


class _Chain(Enum):
    """How an envelope's epoch stands to its feed's."""

    SAME = auto()
    FIRST = auto()  # the topic's first sign of life
    OTHER = auto()  # a place here says nothing about a place there
    ENDED = auto()


class Hub:
    """The process's one distribution point. Owned by the event loop; not thread-safe."""

    def __init__(
        self,
        demand: Demand,
        *,
        replays: Replays | None = None,
        ledger: GapLedger | None = None,
        on_fault: Callable[[str, Exception], None] | None = None,
        fanout: Fanout | None = None,
    ) -> None:
        """`on_fault` is told of a fault of ours in what a timer does for one topic or session: the
        others go on. Without it the fault is raised."""
        self.demand = demand
        self._feeds: dict[str, Feed] = {}
        self.dirty: list[Recipient] = []
        self._node_epoch = ""
        self._starter = 0
        self.now_s = 0.0  # of the newest message
        self._ended_epochs: deque[str] = deque(maxlen=64)
        self.replays = replays
        self.ledger = ledger
        self.on_fault = on_fault
        self.fanout = fanout
        self.counters = Counters()
        self.freshness = Freshness()
        self.relays = Relays(self)
        self.holes = Holes(self)
        self.corrections = Corrections(self)

    @property
    def feeds(self) -> Mapping[str, Feed]:
        """Topics by name."""
        return self._feeds

    # --- following ---

    def follow(self, session: Session, topic: Topic) -> None:
        """Add a follower; they get the topic's snapshot first, at once when it is known here."""
        is_new = topic.name not in self._feeds
        feed = self.feed(topic)
        feed.idle_since_s = None
        feed.joined(session.tenant_id)
        if feed.opening is Opening.NOTHING:
            feed.live[session] = None
        elif feed.epoch and feed.opening is not Opening.WORKER:
            payload = feed.snapshot.frame()
            if (
                payload is not None
            ):  # None: a coin that has not traded yet; live from its first trade
                self._give(session, self._frame(feed, payload))
            feed.live[session] = None
            return
        else:
            # One snapshot, 19 MB for BTC, starts everybody who waits when it comes.
            is_asked = is_new or self._is_awaited(feed)
            feed.waiting[session] = False
            if feed.opening is Opening.WORKER and not is_asked:
                self.want(feed)
        if feed.why_not is not None:
            session.refuse(topic, feed.why_not)

    def unfollow(self, session: Session, topic: Topic, *, now_s: float) -> None:
        """Remove a follower; the lease outlives the last one by `LINGER_S`."""
        feed = self._feeds.get(topic.name)
        if feed is None:
            return
        if session in feed.live or session in feed.waiting:
            feed.left(session.tenant_id)
        feed.live.pop(session, None)
        feed.waiting.pop(session, None)
        feed.joined_at.pop(session, None)
        if not feed.is_followed:
            feed.idle_since_s = now_s

    def tenants(self, name: str) -> tuple[int, ...]:
        """Whose sessions follow the topic now, by id."""
        feed = self._feeds.get(name)
        return () if feed is None else feed.tenants

    def touch(self, topic: Topic, *, now_s: float) -> Feed:
        """The topic's feed for a reader without a socket; the lease lingers as if a follower had
        just left."""
        feed = self.feed(topic)
        if not feed.is_followed:
            feed.idle_since_s = now_s
        return feed

    def sweep(self, *, now_s: float) -> None:
        """Give back the leases nobody has needed for `LINGER_S`, and ask again for first frames
        that never came.
        """
        for feed in self._feeds.values():
            if self._is_awaited(feed):
                if feed.is_overdue and (
                    feed.why_not is None or now_s - feed.asked_s >= ASK_REFUSED_S
                ):
                    feed.asked_s = now_s
                    self.demand.want(feed.name)
                feed.is_overdue = True
            else:
                feed.is_overdue = False
        for feed in [f for f in self._feeds.values() if f.idle_since_s is not None]:
            if feed.idle_since_s is not None and now_s - feed.idle_since_s >= LINGER_S:
                del self._feeds[feed.name]
                self.holes.forget(feed)
                self.demand.drop(feed.name)

    def resync(self) -> None:
        """Ask for every snapshot again: the bus was cut, and a quiet topic would not tell that it
        changed meanwhile."""
        for feed in self._feeds.values():
            feed.covers.clear()
            self.demand.want(feed.name)

    def want(self, feed: Feed) -> None:
        """Ask for the topic's snapshot again: now, or at the next sweep when it was asked for less
        than `ASK_AGAIN_S` ago. A snapshot of BTC's `l4Book` is 19 MB, and whoever subscribes and
        unsubscribes in a loop must not have one each time."""
        if 0 <= self.now_s - feed.asked_s < ASK_AGAIN_S:
            feed.is_overdue = True
            return
        feed.asked_s = self.now_s
        self.demand.want(feed.name)

    def feed(self, topic: Topic) -> Feed:
        """The topic's feed; leased from now on."""
        name = topic.name
        feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = Feed(topic)
            self.demand.want(name)
        return feed

    def _is_awaited(self, feed: Feed) -> bool:
        return bool(feed.waiting) or self.relays.is_awaited(feed)

    # --- delivering ---

    def publish(self, envelope: Envelope, worker: str = "") -> None:
        """Queue one envelope for all who follow its topic; `flush` sends."""
        feed = self._feeds.get(envelope.topic)
        if feed is None:
            return
        self.counters.envelopes += 1
        if envelope.role is Role.UPDATE:
            self._update(feed, envelope, worker)
        elif envelope.role is Role.SNAPSHOT:
            self._snapshot(feed, envelope, worker)
        elif envelope.role is Role.GAP:
            self.holes.gap(feed, envelope, worker)
        elif envelope.role is Role.RESET:
            self.corrections.apply(feed, envelope, worker)
        else:
            self._not_ready(feed, envelope.payload.decode(errors="replace"), worker)
        if feed.watchers:
            feed.notify()

    def _update(self, feed: Feed, envelope: Envelope, worker: str) -> None:
        if envelope.epoch != feed.epoch and not self._begins(feed, envelope):
            return
        since = feed.covers.setdefault(worker, envelope.previous)
        if envelope.previous[1] == LAST_INDEX and (
            # A worker of events that has not just begun has said why it begins again there.
            feed.topic.is_chained or since < envelope.previous
        ):
            self.corrections.look_for(feed, envelope.previous)
        if envelope.position <= feed.position:
            self.counters.late += 1
            # Of most blocks there is but one frame, and this is its other copy.
            if envelope.position[0] == feed.position[0] and (
                len(feed.told) > 1 or envelope.position != feed.position
            ):
                self.holes.look_back(feed, envelope, worker)
        elif feed.topic.is_state:
            self.deliver(feed, envelope)
        elif envelope.previous <= feed.position and feed.held is None:
            self.holes.hand_on(feed, envelope, worker)
        else:
            self.holes.suspect(feed, envelope, worker)

    def deliver(self, feed: Feed, envelope: Envelope) -> None:
        """Give the update to everybody to whom it is news: the feed stands at its place now."""
        if feed.why_not is not None:
            self._revive(feed)
        if envelope.position[0] == feed.position[0]:
            feed.told.append(envelope.position)
        else:
            feed.told = [envelope.position]
        feed.position = envelope.position
        feed.snapshot.extend(envelope.payload)
        if feed.streams:
            self.relays.deliver(feed, envelope)
        if feed.waiting and feed.opening is Opening.STATE:
            self._go_live(feed)
        followers: Collection[Session] = feed.live
        if not followers:
            return
        frame = self._frame(feed, envelope.payload)
        dirty = self.dirty
        if feed.joined_at:
            followers = self._past_their_snapshot(feed, envelope.position)
        elif self.fanout is not None:
            self.counters.deliveries += len(followers)
            followers = self.fanout.queue(feed.live, frame, dirty)
            self.counters.deliveries -= len(followers)
        for session in followers:
            if not session.pending:
                dirty.append(session)
            session.pending.append(frame)
        self.counters.deliveries += len(followers)

    # --- epochs ---

    def _chain(self, feed: Feed, epoch: str) -> _Chain:
        if epoch == feed.epoch:
            return _Chain.SAME
        if epoch.startswith(NODE_EPOCH_PREFIX):
            self._turn(epoch)
        if not feed.epoch:
            return _Chain.FIRST
        if feed.is_of_nodes and epoch.startswith(NODE_EPOCH_PREFIX):
            return _Chain.SAME
        return _Chain.ENDED if epoch in feed.ended_epochs else _Chain.OTHER

    def is_same_chain(self, feed: Feed, epoch: str) -> bool:
        """Whether a place in `epoch` says something about the feed's own."""
        return bool(feed.epoch) and self._chain(feed, epoch) is _Chain.SAME

    def _turn(self, epoch: str) -> None:
        """Node data has a new epoch: places stay, what was kept in Redis is gone.

        The other worker may speak in the old one for a second more; that changes nothing.
        """
        if epoch == self._node_epoch or epoch in self._ended_epochs:
            return
        ended, self._node_epoch = self._node_epoch, epoch
        if not ended:
            return
        self._ended_epochs.append(ended)
        self.counters.epochs += 1
        for feed in self._feeds.values():
            if feed.is_of_nodes:
                feed.epoch = epoch
                self.relays.resync(feed, "Redis was emptied")

    def _named(self, epoch: str) -> str:
        return self._node_epoch if epoch.startswith(NODE_EPOCH_PREFIX) else epoch

    def _begins(self, feed: Feed, envelope: Envelope) -> bool:
        """Whether an update of another epoch than the feed's is to be looked at."""
        match self._chain(feed, envelope.epoch):
            case _Chain.FIRST:
                if feed.opening in (Opening.TRADES, Opening.WORKER):
                    return False  # ahead of the snapshot that was asked for, and contained in it
                feed.epoch = self._named(envelope.epoch)
                if not feed.topic.is_state:
                    feed.position = envelope.previous
                self._revive(feed)
                self.relays.alive(feed)
            case _Chain.OTHER:
                self._break(feed, envelope.epoch)
                if not feed.topic.is_state:
                    feed.position = envelope.previous
            case _Chain.ENDED:
                self.counters.late += 1
                return False
        return True

    def _break(self, feed: Feed, epoch: str) -> None:
        """Go on in an epoch whose places say nothing about those of the one before."""
        self.counters.epochs += 1
        if not feed.topic.is_state:
            self.counters.hole(feed)
            if feed.topic.is_chained:
                self.restart(feed)
        self._enter(feed, epoch, is_lost=not feed.topic.is_state)

    def _enter(self, feed: Feed, epoch: str, *, is_lost: bool) -> None:
        feed.end_epoch()
        self.holes.forget(feed)
        old, feed.epoch, feed.position = feed.epoch, self._named(epoch), ORIGIN
        feed.covers.clear()
        self.relays.leap(feed, old, is_lost=is_lost)

    # --- holes ---

    def tick(self, *, now_s: float) -> None:
        """Ask the log about suspected holes, and declare those that nothing fills. Call it every
        20 ms or so."""
        self.holes.tick(now_s=now_s)
        self.corrections.tick(now_s=now_s)
        self.relays.tick(now_s=now_s)
        self.flush()

    def fault(self, what: str, error: Exception) -> None:
        """A fault of ours with one topic or session: the others go on. Raises it again when nobody
        is to be told."""
        if self.on_fault is None:
            raise error
        self.on_fault(what, error)

    def restart(self, feed: Feed, until: Position | None = None) -> None:
        """Let live followers of a chained topic wait for a snapshot, but for those whose own
        already contains `until`."""
        self.put_back(feed, until)
        self.demand.want(feed.name)

    def put_back(self, feed: Feed, until: Position | None = None) -> None:
        """The same, where the snapshot comes unasked."""
        for session in list(feed.live):
            if until is None or feed.joined_at.get(session, ORIGIN) < until:
                del feed.live[session]
                feed.joined_at.pop(session, None)
                feed.waiting[session] = True

    # --- snapshots ---

    def _snapshot(self, feed: Feed, envelope: Envelope, worker: str) -> None:
        chain = self._chain(feed, envelope.epoch)
        if chain is _Chain.ENDED:
            return
        self._revive(feed)
        match feed.opening:
            case Opening.STATE | Opening.TRADES:
                self._edge_snapshot(feed, envelope, chain)
            case Opening.WORKER:
                self._worker_snapshot(feed, envelope, chain)
            case Opening.NOTHING:
                self._sign_of_life(feed, envelope, chain, worker)
        since = envelope.previous if feed.opening is Opening.WORKER else envelope.position
        feed.covers.setdefault(worker, since)
        if chain is _Chain.FIRST:
            self.relays.alive(feed)

    def _edge_snapshot(self, feed: Feed, envelope: Envelope, chain: _Chain) -> None:
        is_live = bool(feed.live) or self.relays.is_live(feed)
        if chain is _Chain.SAME and envelope.position <= feed.position:
            pass
        elif chain is _Chain.SAME and is_live and feed.is_of_nodes and not feed.topic.is_state:
            # What lies between is on its way, or the bus was cut and the log has it. The snapshot
            # itself proves nothing: a worker may have made it with a hole of its own.
            self.holes.suspicion(feed).suspect(envelope.position)
        else:
            self._take_snapshot(feed, envelope, chain, is_live=is_live)
        payload = feed.snapshot.frame()
        self._start_all(feed, None if payload is None else self._frame(feed, payload))
        self.relays.start(feed, payload)

    def _take_snapshot(
        self, feed: Feed, envelope: Envelope, chain: _Chain, *, is_live: bool
    ) -> None:
        missed, is_all = self._missed(feed, envelope) if is_live else (None, True)
        if not is_all:
            self.counters.hole(feed)
        if chain is _Chain.OTHER:
            self.counters.epochs += 1
            self._enter(feed, envelope.epoch, is_lost=not is_all)
        elif not is_all:
            self.relays.lose(feed, envelope.position, "missing upstream")
        feed.epoch, feed.position = self._named(envelope.epoch), envelope.position
        feed.snapshot.start(envelope.payload)
        if missed is not None:
            # A state of a source that began again is no news; trades that were missed are.
            is_again = chain is _Chain.OTHER and feed.topic.is_state
            frame = self._frame(feed, missed)
            if is_again:
                frame.counted = counted_of(feed.topic, Reason.RESYNC)
            for session in feed.live:
                self._give(session, frame)
            update = _as_update(envelope, missed, after=ORIGIN)
            self.relays.deliver(feed, update, is_again=is_again)

    def _missed(self, feed: Feed, envelope: Envelope) -> tuple[bytes | None, bool]:
        """What live followers lack of a newer snapshot, and whether that is all: a state whole,
        trades as far as it goes.

        The bus was cut or the source began again; trades older than the snapshot's are lost, and
        counted.
        """
        if feed.topic.is_state:
            return envelope.payload or None, True
        if not isinstance(feed.snapshot, snapshots.TradesSnapshot):
            return None, True
        return feed.snapshot.missing(envelope.payload)

    def _worker_snapshot(self, feed: Feed, envelope: Envelope, chain: _Chain) -> None:
        """Start those who wait. Its `previous` is the last update published before it: live
        followers who lack that one start again too, the others need nothing.
        """
        if chain is _Chain.OTHER:
            self._break(feed, envelope.epoch)
            self._wait_again(feed)
        is_live = bool(feed.live) or self.relays.is_live(feed)
        here = envelope.position
        if chain is not _Chain.SAME:
            feed.epoch, feed.position = self._named(envelope.epoch), envelope.previous
            feed.reset_at = end_of(here.height)  # what was wrong before is not in it
        elif envelope.previous > feed.position:
            if is_live and feed.is_of_nodes:
                self.holes.suspicion(feed).suspect(envelope.previous)
            elif is_live:
                self.holes.lose(feed, envelope.previous, "missing upstream")
                self._wait_again(feed)
            else:
                feed.position = envelope.previous
        elif end_of(here.height) < feed.position:
            return  # made by a worker that is behind; the other answers too
        if feed.position == end_of(here.height):
            here = feed.position  # its whole block is in it, and so is a correction of that
        if envelope.payload:
            self._open_all(feed, self._frame(feed, envelope.payload))
            # The snapshot may be ahead of the updates: a block's wait for its statuses.
            feed.joined_at.update(dict.fromkeys(feed.waiting, here))
        self._go_live(feed)
        self.relays.start(feed, envelope.payload or None, at=here)

    def _sign_of_life(self, feed: Feed, envelope: Envelope, chain: _Chain, worker: str) -> None:
        """A topic without a snapshot is served from `position` on. With a payload it is an update
        that went out as the answer to a lease."""
        if envelope.payload:
            if chain is not _Chain.SAME:
                self._begins(feed, envelope)
            self._update(feed, envelope, worker)
            return
        if chain is _Chain.OTHER:
            self._break(feed, envelope.epoch)
        if chain is not _Chain.SAME:
            feed.epoch, feed.position = self._named(envelope.epoch), envelope.position
        elif envelope.position > feed.position:
            if feed.is_of_nodes:
                self.holes.suspicion(feed).suspect(envelope.position)
            else:
                feed.position = envelope.position

    def _past_their_snapshot(self, feed: Feed, position: Position) -> list[Session]:
        """The followers to whom an update at `position` is news."""
        news = [s for s in feed.live if feed.joined_at.get(s, ORIGIN) < position]
        for session in news:
            feed.joined_at.pop(session, None)
        return news

    def _start_all(self, feed: Feed, frame: Frame | None) -> None:
        if frame is not None:
            self._open_all(feed, frame)
        self._go_live(feed)

    def _open_all(self, feed: Feed, frame: Frame) -> None:
        """Give those who wait a snapshot. Who had one before does not pay for it."""
        again = frame
        if any(feed.waiting.values()):
            again = frame.as_counted(counted_of(feed.topic, Reason.RESYNC))
        for session, had_one in feed.waiting.items():
            self._give(session, again if had_one else frame)

    def _wait_again(self, feed: Feed) -> None:
        feed.waiting.update(dict.fromkeys(feed.live, True))
        feed.live.clear()

    def _go_live(self, feed: Feed) -> None:
        feed.live.update(dict.fromkeys(feed.waiting))
        feed.waiting.clear()

    def _not_ready(self, feed: Feed, why: str, worker: str) -> None:
        feed.covers.pop(worker, None)
        if feed.covers or feed.why_not == why:
            return  # another worker serves it
        if feed.why_not is None:
            feed.down_s = self.now_s
        feed.why_not = why
        if feed.topic.is_state:
            # What was known is no longer true: who joins now waits for what comes next.
            feed.epoch, feed.position = "", ORIGIN
            feed.snapshot = snapshots.snapshot_for(feed.topic)
        for session in list(feed.waiting):
            session.refuse(feed.topic, why)
        self.relays.refuse(feed, why)

    def _revive(self, feed: Feed) -> None:
        """Somebody serves it (again)."""
        if feed.why_not is not None:
            feed.why_not = feed.down_s = None
            self.relays.revive(feed)

    # --- what the workers say of themselves ---

    def heard(
        self,
        worker: str,
        *,
        tip_height: int,
        tip_ns: int,
        now_s: float,
        now_ns: int,
        heights: tuple[int, ...] = (),
    ) -> None:
        """A worker's message came: its highest block, that block's own time, and the highest of
        each kind of file. Call it before the message's envelopes are published."""
        self.now_s = now_s
        self.freshness.heard(
            worker,
            tip_height=tip_height,
            tip_ns=tip_ns,
            now_s=now_s,
            now_ns=now_ns,
            heights=heights,
        )

    def check_age(self, *, now_s: float) -> None:
        """Tell relay sessions what went stale or came back. Call it every 100 ms or so."""
        for worker in self.freshness.gone(now_s=now_s):
            for feed in self._feeds.values():
                feed.covers.pop(worker, None)
        self.relays.check_age(now_s=now_s)
        self.flush()

    # --- sending ---

    def _frame(self, feed: Feed, payload: bytes) -> Frame:
        topic = feed.topic
        return Frame(
            payload,
            counted=feed.counted,
            topic=feed.name if topic.is_state else None,
            made_s=self.now_s if topic.is_bulk else None,
        )

    def _give(self, session: Recipient, frame: Frame) -> None:
        self.queue(session, frame)
        self.counters.deliveries += 1

    def queue(self, session: Recipient, frame: Frame) -> None:
        """Add a frame of any kind to what a session gets in this tick."""
        if not session.pending:
            self.dirty.append(session)
        session.pending.append(frame)

    def flush(self) -> None:
        """Hand each session everything queued since the last flush, as one batch."""
        if not self.dirty:
            return
        dirty, self.dirty = self.dirty, []
        # Somebody is first, and each time somebody else: over 200 customers the last is 1 ms
        # behind.
        self._starter += 1
        begin = self._starter % len(dirty)
        if self.fanout is not None:
            dirty, failures = self.fanout.hand_over(dirty, begin)
            self.counters.sink_failures += failures
        elif begin:
            dirty = dirty[begin:] + dirty[:begin]
        # Sessions that follow the same topics get the same frames, so they share one joined buffer:
        # finding it by the frames' identity costs 0.06 µs for three frames, a join of their own 1
        # µs.
        batches: dict[tuple[Frame, ...], Batch] = {}
        batch: Batch | NumberedBatch | None
        for session in dirty:
            pending = session.pending
            if not pending:
                continue
            session.pending = []
            if session.is_numbered:
                batch = NumberedBatch(pending)
            else:
                key = tuple(pending)
                batch = batches.get(key)
                if batch is None:
                    batch = batches[key] = Batch(key)
            try:
                session.sink.send(batch)
            except Exception:
                # One customer's fault must not keep the others' frames: theirs is ended by whoever
                # owns the sink, and counted.
                self.counters.sink_failures += 1


def _as_update(envelope: Envelope, payload: bytes, *, after: Position) -> Envelope:
    return Envelope(
        envelope.topic,
        envelope.epoch,
        envelope.position,
        after,
        Role.UPDATE,
        payload,
        envelope.times,
    )
