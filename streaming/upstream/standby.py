"""When the public feed stands in for the nodes, and when it gives their topics back. Pure: times
are arguments, in seconds of one monotonic clock.

All workers judge by the same tip, the best of all, so that they agree within a heartbeat: only when
no worker's nodes give anything is there anything to stand in for. Feeds of single users stay: the
exchange gives one address ten users.
"""

from __future__ import annotations

from streaming.core.market import BOOK_KINDS
from streaming.core.public import PublicFeed
from streaming.core.topic import Topic

#: Without a new block anywhere for this long the nodes are out. Customers are told `stale` after
#: 1.5 s; a change of source costs followers of events a gap, so it is not made for a hiccup.
OUT_AFTER_S = 4.0
#: Of the time since it was looked last no more counts than this. In what is longer our own process
#: stood still, and what the nodes gave meanwhile is not read yet: that is no silence of theirs.
LOOKED_AT_MOST_S = 1.0
#: Blocks must come again for this long without a pause (other workers tell theirs once a
#: second), ...
BACK_AFTER_S = 2.0
PAUSE_S = 2.5
#: ... and be about as new as they were: nodes that catch up would tell again what the public feed
#: has told.
CATCHING_UP_S = 2.0
#: Whose age has not fallen for this long does not catch up: its clock was stopped with it.
SETTLED_AFTER_S = 60.0
SETTLED_WITHIN_S = 1.0
#: Books without a checkpoint for this long: one of mainnet takes some seconds.
BOOKS_OUT_AFTER_S = 10.0


class Standby:
    """`covers(topic)` says whether another source should have the topic now."""

    def __init__(self) -> None:
        self.is_backed = False  # whether any worker has a public feed to stand in
        self.is_out = False  # whether the nodes give nothing
        self.are_books_out = False
        self._seen_s = self._looked_at_s = 0.0  # how long was looked, and when it was last
        self._height = 0
        self._rose_at_s: float | None = None
        self._rising_since_s: float | None = None
        self._ready_at_s: float | None = None
        self._least_age_s = float("inf")
        self._mark = 0.0, 0.0  # when blocks came again (or later), and how old they were

    def look(self, *, height: int, age_s: float, books_ready: bool, now_s: float) -> bool:
        """Take note of the best tip of all workers (`age_s` after its own time) and whether any has
        books. Returns whether anything is decided otherwise than before.
        """
        before = self.is_out, self.are_books_out
        self._seen_s += min(now_s - self._looked_at_s, LOOKED_AT_MOST_S)
        self._looked_at_s, now_s = now_s, self._seen_s
        if height > self._height:
            self._height, rose_at_s, self._rose_at_s = height, self._rose_at_s, now_s
            if rose_at_s is None or now_s - rose_at_s > PAUSE_S or self._rising_since_s is None:
                self._rising_since_s = now_s
                self._mark = now_s, age_s
            self._least_age_s = min(self._least_age_s, age_s)
        if self._rose_at_s is not None:
            self._judge(age_s=age_s, now_s=now_s)
            self._judge_books(books_ready=books_ready, now_s=now_s)
        return before != (self.is_out, self.are_books_out)

    def covers(self, topic: Topic) -> bool:
        """Whether a public feed should have the topic, although nodes hold it."""
        is_out = self.is_out or (self.are_books_out and topic.kind in BOOK_KINDS)
        return is_out and self.is_backed and not topic.user and PublicFeed.can_serve(topic)

    def _judge(self, *, age_s: float, now_s: float) -> None:
        assert self._rose_at_s is not None  # noqa: S101
        silent_s = now_s - self._rose_at_s
        if silent_s >= OUT_AFTER_S:
            self.is_out, self._rising_since_s = True, None
        elif self.is_out and self._rising_since_s is not None and silent_s <= PAUSE_S:
            is_new = age_s <= self._least_age_s + CATCHING_UP_S or self._is_settled(age_s, now_s)
            self.is_out = not (is_new and now_s - self._rising_since_s >= BACK_AFTER_S)

    def _is_settled(self, age_s: float, now_s: float) -> bool:
        marked_s, marked_age_s = self._mark
        if now_s - marked_s < SETTLED_AFTER_S:
            return False
        if age_s < marked_age_s - SETTLED_WITHIN_S:
            self._mark = now_s, age_s  # it still catches up
            return False
        self._least_age_s = age_s
        return True

    def _judge_books(self, *, books_ready: bool, now_s: float) -> None:
        if books_ready or self._ready_at_s is None:
            self._ready_at_s = now_s
        self.are_books_out = now_s - self._ready_at_s >= BOOKS_OUT_AFTER_S
