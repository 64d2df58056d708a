"""When an upstream is not worth reading for a while. Pure: times are arguments, in seconds of one
monotonic clock.

One kind of frame in a new shape must not cost the others of its connection, so a quarter of all
frames must be unusable, and many: garbage at full rate, or names made up.
"""

from __future__ import annotations

WINDOW_S = 60.0
MAX_FAULTS = 300
MIN_SHARE = 0.25
#: Not read for so long, twice as long each time it is no better.
FIRST_S, LONGEST_S = 60.0, 900.0
#: Read for so long without, and what was is forgotten.
FORGIVEN_S = 600.0


class Quarantine:
    """The record of one connection to an upstream."""

    def __init__(self) -> None:
        self._began_s = float("-inf")
        self._frames = self._faults = 0
        self._times = 0  # in a row
        self._until_s = float("-inf")

    def note(self, *, faults: int, now_s: float) -> bool:
        """Take note of a frame, in which so much could not be used. Whether it is enough."""
        if now_s - self._began_s >= WINDOW_S:
            self._began_s, self._frames, self._faults = now_s, 0, 0
        self._frames += 1
        self._faults += faults
        return self._faults >= MAX_FAULTS and self._faults >= MIN_SHARE * self._frames

    def begin(self, *, now_s: float) -> float:
        """The seconds not to read it, from now on."""
        self._times = self._times + 1 if now_s - self._until_s < FORGIVEN_S else 1
        for_s = min(FIRST_S * 2 ** (self._times - 1), LONGEST_S)
        self._until_s = now_s + for_s
        self._began_s = float("-inf")
        return for_s

    def is_on(self, *, now_s: float) -> bool:
        """Whether it is not to be read."""
        return now_s < self._until_s
