"""One cap as a process knows it: what was told of it, what the database says, what is new. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from tenants.admission.caps import MICRO, Cap

#: In Redis an amount is whole thousandths.
STORED = MICRO // 1_000
#: So many times nobody has told: then what the database says is told. Processes that have seen more
#: come first, because the database is behind them.
TOLD_BY_NOBODY = 2
#: What processes do not count as it is used is asked of the database so often.
LEDGER_EVERY = timedelta(seconds=60)


class Used(NamedTuple):
    """What the database has of one key family on one channel."""

    family_id: int
    metric: str
    channel: str
    units: int


class Account:
    """`seen` and `loaded` in thousandths, `pending` (what we used and is not in `seen`) in
    millionths. `told` is the last threshold that was told, `told_of` the units it was of."""

    __slots__ = ("absent", "cap", "loaded", "loaded_at", "pending", "seen", "told", "told_of")

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self.seen: int | None = None
        self.loaded: int | None = None
        self.loaded_at: datetime | None = None
        self.pending = 0
        self.absent = 0
        self.told = self.told_of = 0

    @property
    def to_tell(self) -> int | None:
        """The most that is known of all processes; None: nothing, or others come first."""
        if self.seen is not None:
            return self.seen
        return self.loaded if self.absent >= TOLD_BY_NOBODY else None

    def micros(self, processes: int) -> int:
        """What is used, if each of so many processes used as much as we since it last told."""
        return max(self.seen or 0, self.loaded or 0) * STORED + self.pending * processes

    def is_to_load(self, now: datetime) -> bool:
        """Whether what the database says is a minute old, where it alone can say it."""
        is_old = self.loaded_at is None or now - self.loaded_at >= LEDGER_EVERY
        return self.cap.is_of_ledger and is_old

    def load(self, rows: Iterable[Used], *, at: datetime) -> None:
        """What the database has; what was heard of processes meanwhile is newer."""
        self.loaded_at = at
        if self.seen is None:
            self.loaded = sum(micros_of(self.cap, row) for row in rows) // STORED


def micros_of(cap: Cap, row: Used) -> int:
    """How much of a cap a row takes, in millionths."""
    if row.metric not in cap.metrics or (cap.family_id and row.family_id != cap.family_id):
        return 0
    if not cap.covers(row.channel):
        return 0
    return row.units * dict(cap.weights).get(row.channel, MICRO)
