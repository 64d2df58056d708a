"""What waits at a suspected hole: frames whose claim does not reach back to what was delivered.

Two workers publish the same; what one lost is usually on its way from the other. So frames behind
a hole wait a moment, in order, each once, with the best claim of its copies.
"""

from __future__ import annotations

from bisect import bisect_left

from msgspec.structs import replace

from streaming.core.envelope import ORIGIN, Envelope, Position

#: Bounds of one topic's wait; beyond them the hole is declared at once. 2,000 frames are four
#: seconds of a topic at 500 a second.
MAX_FRAMES = 2_000
#: When the log is asked (the other worker's copy is usually 1-10 ms behind), and how long after
#: that when it could not be read.
ASK_LOG_S = 0.02
ASK_LOG_AGAIN_S = 0.1
MAX_BYTES = 8 * 1024 * 1024


class Held:
    """The frames of one topic behind a hole, and what else is known of it."""

    __slots__ = (
        "_frames", "_places", "_workers", "ask_at_s", "is_answered", "mark", "reason", "since_s",
        "size_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self._places: list[Position] = []
        self._frames: list[Envelope] = []
        self._workers: list[str] = []  # who told it; "": the log
        self.size_bytes = 0
        self.mark = ORIGIN  # somebody says there is, or was, something up to here
        self.reason = "missing upstream"
        self.since_s: float | None = None  # when the wait began
        self.ask_at_s: float | None = ASK_LOG_S  # the log, so long after; None: it is asked
        self.is_answered = False

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_over(self) -> bool:
        """Whether the bounds are passed."""
        return len(self._frames) > MAX_FRAMES or self.size_bytes > MAX_BYTES

    def add(self, envelope: Envelope, worker: str = "") -> None:
        """Keep a frame; of two copies, the one that claims more. Both where one of them names a
        place in its own block: the other may be of a node that counts the block's events otherwise,
        and which of the two goes on from what is told before is not known yet."""
        place = envelope.position
        at = bisect_left(self._places, place)
        while at < len(self._places) and self._places[at] == place:
            there = self._frames[at]
            lower, higher = sorted((envelope.previous, there.previous))
            if higher.height != place.height or (
                lower == higher and envelope.payload == there.payload
            ):
                if envelope.previous < there.previous:
                    self._frames[at], self._workers[at] = envelope, worker
                return
            if envelope.previous < there.previous:
                break
            at += 1
        self._places.insert(at, place)
        self._frames.insert(at, envelope)
        self._workers.insert(at, worker)
        self.size_bytes += len(envelope.payload)

    def suspect(self, mark: Position, reason: str | None = None) -> None:
        """Note that something up to `mark` exists or is lost."""
        self.mark = max(self.mark, mark)
        if reason is not None:
            self.reason = reason

    def take(self, told: Position, reached: Position) -> tuple[Envelope, str] | None:
        """The next frame behind `told` in order, and who told it, if nothing is missing between
        `reached` and it; forgets older ones."""
        passed = bisect_left(self._places, (told.height, told.index + 1))
        self._forget(passed)
        if not self._frames or self._frames[0].previous > reached:
            return None
        taken = self._frames[0], self._workers[0]
        self._forget(1)
        return taken

    def join(self, end: Position, told: Position) -> None:
        """Nothing lies between `told` and `end`: what follows the one follows the other."""
        self._frames = [
            replace(frame, previous=told) if frame.previous == end else frame
            for frame in self._frames
        ]

    def is_over_at(self, reached: Position) -> bool:
        """Whether nothing waits any more once everything up to `reached` is delivered."""
        return not self._frames and self.mark <= reached

    def floor(self) -> Position:
        """Where the hole ends: the place before the first frame that waits, or the mark."""
        return self._frames[0].previous if self._frames else self.mark

    def last(self) -> Position:
        """The furthest place that waits, or the mark."""
        return max(self._places[-1], self.mark) if self._places else self.mark

    def clear(self) -> None:
        """Forget the frames."""
        self._forget(len(self._frames))

    def _forget(self, count: int) -> None:
        if count:
            self.size_bytes -= sum(len(frame.payload) for frame in self._frames[:count])
            del self._frames[:count], self._places[:count], self._workers[:count]
