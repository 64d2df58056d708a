"""What one class of replay logs holds, and what must go: bounded by time and by bytes.

Bookkeeping of the writer's own appends, so that no Redis command is spent on finding out what is
old.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from streaming.core.envelope import Position

#: Both bounds are kept to one part in this many. More would cost memory: a part remembers each
#: topic it holds, so 3,000 topics take about 20 MB here.
PARTS = 60


@dataclass(slots=True)
class _Part:
    """What was appended within one stretch of time: the last place of each log in it."""

    begun_s: float
    size_bytes: int = 0
    last: dict[str, Position] = field(default_factory=dict)


class LogBudget:
    """Remembers appends in the order of time and answers which are beyond the bounds."""

    def __init__(self, *, keep_s: float, max_bytes: int) -> None:
        self.keep_s = keep_s
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._parts: deque[_Part] = deque()
        self._last: dict[str, Position] = {}

    @property
    def span_s(self) -> float:
        """From the oldest part's beginning to the newest one's, in seconds."""
        return self._parts[-1].begun_s - self._parts[0].begun_s if self._parts else 0.0

    def add(self, key: str, position: Position, *, size_bytes: int, now_s: float) -> None:
        """Note one append."""
        part = self._parts[-1] if self._parts else None
        if (
            part is None
            or now_s - part.begun_s >= self.keep_s / PARTS
            or part.size_bytes >= self.max_bytes / PARTS
        ):
            part = _Part(now_s)
            self._parts.append(part)
        part.size_bytes += size_bytes
        part.last[key] = self._last[key] = position
        self.size_bytes += size_bytes

    def overdue(self, now_s: float) -> dict[str, Position]:
        """Forget what is beyond the bounds and say, for each log it is in, the first place to keep.

        The last entry of a log is always kept: while the topic stays leased, who holds it as a
        cursor has missed nothing, however long it has been quiet.
        """
        first_kept: dict[str, Position] = {}
        while self._parts and self._is_over(self._parts[0], now_s):
            part = self._parts.popleft()
            self.size_bytes -= part.size_bytes
            for key, position in part.last.items():
                after = Position(position.height, position.index + 1)
                first_kept[key] = min(after, self._last[key])
        return first_kept

    def forget(self, key: str) -> None:
        """The log is gone. Its bytes stay counted until their time is over: rather too many than
        too few."""
        self._last.pop(key, None)
        for part in self._parts:
            part.last.pop(key, None)

    def _is_over(self, part: _Part, now_s: float) -> bool:
        # Once more than all its time has passed, since a part is as old as its newest entry.
        is_old = now_s - part.begun_s >= self.keep_s * (1 + 1 / PARTS)
        return is_old or self.size_bytes > self.max_bytes
