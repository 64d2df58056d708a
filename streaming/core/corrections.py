"""What was told and is known to be wrong since: followers hear of it, whoever told it.

A correction (`Role.RESET`) is no hole: nothing is waited for, and no other worker's word or silence
says otherwise. It has a place and is in the replay log, so it is also found when the message it
came in was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streaming.core.envelope import LAST_INDEX, ORIGIN, Envelope, Position, Role, end_of
from streaming.core.replays import Question, Replay

if TYPE_CHECKING:
    from streaming.core.feed import Feed
    from streaming.core.hub import Hub

__all__ = ["REACH_BLOCKS", "Corrections", "concerns"]

#: A correction may be news to who stands so far behind its place: a worker may be so far behind the
#: other (then it is marked), whose frames the customer was given when the correction came.
REACH_BLOCKS = 30
#: When the log is asked again that could not be read.
LOOK_AGAIN_S = 0.5


def concerns(correction: Envelope, after: Position) -> bool:
    """Whether somebody who stands at `after` may not have heard of it."""
    place = correction.position
    return after < end_of(place.height + REACH_BLOCKS)


class Corrections:
    """Takes corrections as they come, and looks for those that did not. The hub calls it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # By topic: where the log could not be read, (after, until].
        self._unread: dict[str, tuple[Feed, Position, Position]] = {}
        self._look_at_s = 0.0

    def apply(
        self, feed: Feed, envelope: Envelope, worker: str = "", *, is_late: bool = False
    ) -> None:
        """Tell it. `is_late`: the message it came in was lost, and the log had it."""
        if feed.topic.is_state or not self._hub.is_same_chain(feed, envelope.epoch):
            return
        if feed.topic.is_chained:
            self._begin_again(feed, envelope, is_late=is_late)
        else:
            self._tell_short(feed, envelope, worker)

    def _begin_again(self, feed: Feed, envelope: Envelope, *, is_late: bool) -> None:
        """What followers built is wrong, whoever told it: all begin again, from the snapshot behind
        this. Nothing is lost, so no other worker's word or silence says otherwise; one that is yet
        to correct itself will say so too."""
        hub = self._hub
        hub.counters.resets += 1
        feed.reset_at = max(feed.reset_at, envelope.position)
        # The snapshot is in the same message: it is asked for only if it does not start everybody.
        feed.asked_s, feed.is_overdue = hub.now_s, True
        if is_late or envelope.position < feed.position:
            # It was lost too, or is of a block before the last one told, and starts nobody.
            hub.demand.want(feed.name)
        hub.put_back(feed)
        hub.relays.restart(feed, envelope.position, envelope.payload.decode(errors="replace"))
        feed.position = max(feed.position, envelope.position)
        if feed.held is not None:
            hub.holes.release(feed, feed.held)

    def _tell_short(self, feed: Feed, envelope: Envelope, worker: str) -> None:
        """What was told of a stretch was not all. Said once, though each worker finds it out; what
        the other has behind the short block is given all the same."""
        hub, after, until = self._hub, envelope.previous, envelope.position
        reason = envelope.payload.decode(errors="replace")
        if worker:
            feed.covers[worker] = until
        if feed.short.add(after, until, reached=feed.position):
            hub.holes.report(feed, after, until, reason)
            hub.relays.tell_short(feed, envelope)
        if until > feed.position:
            hub.holes.suspicion(feed).suspect(until, reason)

    def read(self, feed: Feed, replay: Replay) -> None:
        """Apply those in the log that never came."""
        for entry in replay.entries:
            if entry.role is Role.RESET and (
                not feed.topic.is_chained or entry.position > feed.reset_at
            ):
                self.apply(feed, entry, is_late=True)

    def look_for(self, feed: Feed, end: Position) -> None:
        """A worker's frame follows the end of a block: it has begun there, or lost something, or
        corrected the book. The other worker's frame may hide the place, so ask whether the
        correction was missed."""
        replays = self._hub.replays
        if replays is None or not feed.is_of_nodes:
            return
        if end <= max(feed.reset_at, feed.looked_to):
            return
        feed.looked_to = end
        self._look(feed, Position(end.height, LAST_INDEX - 1), end)

    def _look(self, feed: Feed, after: Position, until: Position) -> None:
        def answer(replay: Replay) -> None:
            if replay.is_unread:
                # That nothing is there was not said: whoever followed on would keep a wrong book.
                _, first, last = self._unread.get(feed.name, (feed, after, ORIGIN))
                self._unread[feed.name] = (feed, min(first, after), max(last, until))
                return
            self.read(feed, replay)
            self._hub.flush()

        assert self._hub.replays is not None  # noqa: S101
        self._hub.replays.ask(Question(feed.name, feed.epoch, after, until), answer)

    def tick(self, *, now_s: float) -> None:
        """Ask again what could not be answered."""
        if not self._unread or now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_AGAIN_S
        unread, self._unread = self._unread, {}
        for name, (feed, after, until) in unread.items():
            if self._hub.feeds.get(name) is feed:
                self._look(feed, after, until)
