"""What the hub asks of the replay log, and whom it tells of what is lost: ports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from streaming.core.envelope import ORIGIN, Envelope, Position


@dataclass(frozen=True, slots=True)
class Replay:
    """What the replay log had to say. `entries` are in order; `oldest` is the earliest place that
    can be resumed from, None when there is no log; `is_whole` is False when there is more to read.
    `after` is the place the reading began after; `failure` says why there is no answer.
    """

    entries: list[Envelope] = field(default_factory=list)
    oldest: Position | None = None
    is_whole: bool = True
    after: Position = ORIGIN
    failure: str | None = None

    @property
    def is_unread(self) -> bool:
        """Whether the log was not read, and may be another time: it has said nothing."""
        return self.failure is not None and self.oldest is None


@dataclass(frozen=True, slots=True)
class Question:
    """A stretch of a topic's log: (`after`, `until`], or from block time `since_ms` on."""

    name: str
    epoch: str
    after: Position
    until: Position | None = None
    since_ms: int | None = None


class Replays(Protocol):
    """The replay log, asked here and answered later."""

    def ask(self, question: Question, answer: Callable[[Replay], None]) -> None:
        """Read, and call `answer` once, also when it fails."""


class GapLedger(Protocol):
    """Keeps what was lost."""

    def report(
        self, *, topic: str, epoch: str, begin: Position, end: Position, reason: str
    ) -> None:
        """(`begin`, `end`] of the topic was not delivered."""
