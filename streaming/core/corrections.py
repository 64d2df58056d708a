"""What was told and is known to be wrong since: followers hear of it, whoever told it.

A correction (`Role.RESET`) is no hole: nothing is waited for, and no other worker's word or silence
says otherwise. It has a place and is in the replay log, so it is also found when the message it
came in was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streaming.core.envelope import LAST_INDEX, Envelope, Position, Role
from streaming.core.replays import Question, Replay

if TYPE_CHECKING:
    from streaming.core.feed import Feed
    from streaming.core.hub import Hub

__all__ = ["Corrections"]


class Corrections:
    """Takes corrections as they come, and looks for those that did not. The hub calls it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def apply(self, feed: Feed, envelope: Envelope, *, is_late: bool = False) -> None:
        """What followers built is wrong, whoever told it: all begin again, from the snapshot behind
        this. Nothing is lost, so no other worker's word or silence says otherwise; one that is yet
        to correct itself will say so too."""
        hub = self._hub
        if not feed.topic.is_chained or not hub.is_same_chain(feed, envelope.epoch):
            return
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

    def read(self, feed: Feed, replay: Replay) -> None:
        """Apply those in the log that never came."""
        for entry in replay.entries:
            if entry.role is Role.RESET and entry.position > feed.reset_at:
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

        def answer(replay: Replay) -> None:
            self.read(feed, replay)
            self._hub.flush()

        after = Position(end.height, LAST_INDEX - 1)
        replays.ask(Question(feed.name, feed.epoch, after, end), answer)
