"""Where something of a topic seems to be missing: it waits, is filled, or is declared lost.

Frames whose claim does not reach back to what was delivered are held (`Held`) until the other
worker's copy or the replay log fills the hole, until a worker that tells everything has gone past
it in silence, or until the time is up: then what is missing is told, and the topic goes on behind
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from streaming.core import snapshots
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, end_of
from streaming.core.freshness import MARGIN_BLOCKS
from streaming.core.held import ASK_LOG_AGAIN_S, Held
from streaming.core.replays import Question, Replay
from streaming.core.snapshots import Opening

if TYPE_CHECKING:
    from streaming.core.feed import Feed
    from streaming.core.hub import Hub

__all__ = ["HOLD_MAX_S", "HOLD_S", "Holes"]

#: At a suspected hole: how long the topic waits at least, and at most for a log or a worker that is
#: slow.
HOLD_S = 0.1
HOLD_MAX_S = 1.0
TOLD_OTHERWISE = "the nodes tell this block differently, and who began it did not end it"


class Holes:
    """All suspected holes of the process. The hub calls it wherever a feed may lack something."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._suspects: dict[str, Feed] = {}

    # --- suspected ---

    def suspicion(self, feed: Feed) -> Held:
        """What is held of the feed, from now on if nothing was."""
        if feed.held is None:
            feed.held = Held()
            self._suspects[feed.name] = feed
            self._hub.relays.unsettle(feed)
        return feed.held

    def forget(self, feed: Feed) -> None:
        """Nothing of the feed is held any more."""
        feed.held = None
        self._suspects.pop(feed.name, None)

    def suspect(self, feed: Feed, envelope: Envelope, worker: str) -> None:
        """Hold an update whose claim does not reach back to what was delivered, or that comes while
        others are held."""
        reached = feed.reached
        if envelope.previous <= reached and feed.held is None:
            self.hand_on(feed, envelope, worker)
            return
        if envelope.previous > reached:
            if not feed.is_of_nodes:
                # One worker serves a public link: there is no other copy to wait for.
                self.lose(feed, envelope.previous, "missing upstream")
                self._hub.deliver(feed, envelope)
                return
            if feed.covers.get(worker, ORIGIN) <= reached:
                feed.covers[worker] = envelope.previous
        held = self.suspicion(feed)
        if feed.rivals and self._ends_block(feed, envelope, worker):
            feed.rivals.clear()
            held.join(end_of(feed.position.height), feed.position)
        held.add(envelope, worker)
        self.release(feed, held)
        if held.is_over:
            self._declare(feed, held)

    def gap(self, feed: Feed, envelope: Envelope, worker: str) -> None:
        """A worker lost something; another may have it."""
        if feed.topic.is_state or not self._hub.is_same_chain(feed, envelope.epoch):
            return
        feed.covers[worker] = envelope.position
        if envelope.position <= feed.position:
            return
        reason = envelope.payload.decode(errors="replace")
        if feed.is_of_nodes:
            self.suspicion(feed).suspect(envelope.position, reason)
        else:
            self.lose(feed, envelope.position, reason)

    # --- a block that is told in two ways ---

    def hand_on(self, feed: Feed, envelope: Envelope, worker: str) -> None:
        """Deliver it, unless it tells anew of a block that was told differently: the block is told
        to its end by who began it."""
        # Nearly every frame is of a new block; the call costs 0.1 µs.
        if envelope.position[0] == feed.position[0]:
            if (
                envelope.contradicts(feed.position)
                or envelope.previous > feed.position
                or feed.is_rival(worker)
            ):
                self._hub.counters.disagreements += 1
                feed.note_rival(envelope, worker)
                return
        elif feed.is_rival(worker) and not self._is_told_to_its_end(feed):
            self._hold_behind(feed, envelope, worker)
            return
        feed.teller = worker
        self._hub.deliver(feed, envelope)

    def _is_told_to_its_end(self, feed: Feed) -> bool:
        """Whether who told the block at the feed's place has taken in all of it, also if it is gone
        since."""
        tip_height = self._hub.freshness.last_tip_of(feed.teller, feed.files)
        return tip_height >= feed.position.height

    def _ends_block(self, feed: Feed, envelope: Envelope, worker: str) -> bool:
        """Whether it says that the block at the feed's place was told to its end."""
        return (
            envelope.previous <= feed.position
            and envelope.position.height > feed.position.height
            and not feed.is_rival(worker)
        )

    def _hold_behind(self, feed: Feed, envelope: Envelope, worker: str) -> None:
        """It goes on from another version of the block than the one told, of which the rest may be
        still to come: what it claims counts from the end of the block only."""
        held = self.suspicion(feed)
        held.suspect(envelope.position, TOLD_OTHERWISE)
        held.add(replace(envelope, previous=end_of(feed.position.height)), worker)

    def look_back(self, feed: Feed, envelope: Envelope, worker: str) -> None:
        """A late frame of the block being told: is it a copy, or what its worker tells instead?"""
        if not feed.topic.is_state and feed.differs(envelope):
            feed.note_rival(envelope, worker)

    # --- filled ---

    def release(self, feed: Feed, held: Held) -> None:
        """Deliver what no hole keeps back any more."""
        while (taken := held.take(feed.position, feed.reached)) is not None:
            self.hand_on(feed, *taken)
        if held.is_over_at(feed.reached):
            self.forget(feed)
            self._hub.counters.filled += 1

    def tick(self, *, now_s: float) -> None:
        """Ask the log about suspected holes, and declare those that nothing fills."""
        for feed in list(self._suspects.values()):
            try:
                self._tend(feed, now_s)
            except Exception as error:  # the other topics' holes are to be tended too
                self._hub.fault(feed.name, error)
                self._give_up(feed)

    def _tend(self, feed: Feed, now_s: float) -> None:
        held = feed.held
        if held is None:
            return
        if held.since_s is None:
            held.since_s = now_s
        waited_s = now_s - held.since_s
        if held.ask_at_s is not None and waited_s >= held.ask_at_s:
            held.ask_at_s = None
            self._ask(feed, held, again_at_s=waited_s + ASK_LOG_AGAIN_S)
        if waited_s >= HOLD_MAX_S or (
            waited_s >= HOLD_S and held.is_answered and not self._may_come(feed, held)
        ):
            self._declare(feed, held)

    def _ask(self, feed: Feed, held: Held, *, again_at_s: float) -> None:
        replays = self._hub.replays
        if replays is None:
            held.is_answered = True
            return
        until = max(held.floor(), held.mark)

        def answer(replay: Replay) -> None:
            if feed.held is not held:
                return
            if replay.is_unread:
                held.ask_at_s = again_at_s
                return
            held.is_answered = True
            self._hub.corrections.read(feed, replay)  # the message it came in was lost
            if feed.held is not held:
                self._hub.flush()
                return
            for entry in replay.entries:
                if entry.role is Role.UPDATE and entry.position > feed.position:
                    held.add(entry)
            self.release(feed, held)
            self._hub.flush()

        replays.ask(Question(feed.name, feed.epoch, feed.position, until), answer)

    def _may_come(self, feed: Feed, held: Held) -> bool:
        """Whether a living worker that tells everything has not got to the hole's end yet."""
        return any(
            0 < tip < held.floor().height + MARGIN_BLOCKS for tip in self._tips_without_hole(feed)
        )

    def _is_nothing(self, feed: Feed, until: Position) -> bool:
        """Whether a worker that tells everything has gone past `until` in silence."""
        return any(tip >= until.height + MARGIN_BLOCKS for tip in self._tips_without_hole(feed))

    def _tips_without_hole(self, feed: Feed) -> list[int]:
        tip_of = self._hub.freshness.tip_of
        return [
            tip_of(worker, feed.files)
            for worker, since in feed.covers.items()
            # A rival's silence is about what it tells itself.
            if since <= feed.position and not feed.is_rival(worker)
        ]

    # --- lost ---

    def _give_up(self, feed: Feed) -> None:
        """What is held cannot be tended: go on behind it, and say so."""
        held = feed.held
        self.forget(feed)
        if held is not None and (until := held.last()) > feed.position:
            self.lose(feed, until, "a fault of the relay")

    def _declare(self, feed: Feed, held: Held) -> None:
        """Go on behind the hole, and say so where something may be lost."""
        while feed.held is held:
            until = held.floor()
            if until > feed.position:
                is_told = feed.short.has(feed.position, until)
                if is_told or until <= feed.reached or self._is_nothing(feed, until):
                    feed.position = until
                else:
                    self.lose(feed, until, held.reason)
            self.release(feed, held)

    def lose(self, feed: Feed, until: Position, reason: str) -> None:
        """Declare (what is delivered, `until`] lost."""
        self.report(feed, feed.position, until, reason)
        if feed.topic.is_chained:
            # Diffs without the missing ones would build a wrong book: everybody starts again from
            # a snapshot.
            self._hub.restart(feed, until)
        self._hub.relays.lose(feed, until, reason)
        feed.position = until

    def report(self, feed: Feed, after: Position, until: Position, reason: str) -> None:
        """Write down that something in (`after`, `until`] was not told."""
        hub = self._hub
        hub.counters.hole(feed)
        if hub.ledger is not None:
            hub.ledger.report(
                topic=feed.name, epoch=feed.epoch, begin=after, end=until, reason=reason
            )
        if feed.opening is Opening.TRADES:
            # Who joins later gets the last trades without a hole in them.
            feed.snapshot = snapshots.snapshot_for(feed.topic)
