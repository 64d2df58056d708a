"""How each node does compared with the others: lagging, stalled, disagreeing. Pure: times are
arguments, in seconds of one monotonic clock.

A mark stops nothing: the merge takes the first copy from whoever has it. It is shown to the
operator, and a marked node is the last to be asked for a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

#: Heights behind the best node. A block is 70 ms: 2 s, as late as a healthy recorded node was.
LAG_BLOCKS = 30
#: Without a new height for this long a node counts as stalled.
STALL_S = 2.0
#: How long a difference between two nodes marks both.
DISAGREE_S = 60.0


@dataclass(slots=True)
class _Record:
    height: int = 0
    rose_at_s: float | None = None
    known_since_s: float | None = None
    block_age_s: float = 0.0
    differing: int = 0
    differed_at_s: float | None = None
    breaches: int = 0


class Verdict(NamedTuple):
    """One source, now. `lag` in blocks; `silent_s` since its height rose, None before any."""

    height: int
    lag: int
    silent_s: float | None
    block_age_s: float
    is_lagging: bool
    is_stalled: bool
    is_disagreeing: bool
    differing: int
    breaches: int

    @property
    def marks(self) -> list[str]:
        """The marks it bears, by name."""
        named = (
            ("lagging", self.is_lagging),
            ("stalled", self.is_stalled),
            ("disagreeing", self.is_disagreeing),
        )
        return [name for name, is_set in named if is_set]


class Health:
    """The record of all sources of one kind of blocks."""

    def __init__(
        self,
        *,
        lag_blocks: int = LAG_BLOCKS,
        stall_s: float = STALL_S,
        disagree_s: float = DISAGREE_S,
    ) -> None:
        self._lag_blocks, self._stall_s, self._disagree_s = lag_blocks, stall_s, disagree_s
        self._records: dict[str, _Record] = {}

    @property
    def best_height(self) -> int:
        """The highest height any source has shown."""
        return max((record.height for record in self._records.values()), default=0)

    def join(self, source: str, *, now_s: float) -> None:
        """Begin to judge `source`: it has `stall_s` for its first block."""
        record = self._records.setdefault(source, _Record())
        if record.known_since_s is None:
            record.known_since_s = now_s

    def leave(self, source: str) -> None:
        """Forget `source`."""
        self._records.pop(source, None)

    def heard(self, source: str, height: int, *, now_s: float, block_age_s: float) -> None:
        """`source` has brought block `height`, `block_age_s` after that block's own time."""
        record = self._records.setdefault(source, _Record(known_since_s=now_s))
        if height > record.height:
            record.height, record.rose_at_s, record.block_age_s = height, now_s, block_age_s

    def differed(self, source: str, *, now_s: float) -> None:
        """`source` has other events in a block than another source."""
        record = self._records.setdefault(source, _Record(known_since_s=now_s))
        record.differing += 1
        record.differed_at_s = now_s

    def broke_promise(self, source: str, *, now_s: float) -> None:
        """`source` had vouched for a gapless stretch that was not."""
        self.differed(source, now_s=now_s)
        self._records[source].breaches += 1

    def judge(self, source: str, *, now_s: float) -> Verdict:
        """What to say of `source` now."""
        record = self._records.get(source, _Record())
        lag = self.best_height - record.height if record.height else 0
        since_s = record.rose_at_s if record.rose_at_s is not None else record.known_since_s
        differed_at_s = record.differed_at_s
        return Verdict(
            height=record.height,
            lag=lag,
            silent_s=None if record.rose_at_s is None else now_s - record.rose_at_s,
            block_age_s=record.block_age_s,
            is_lagging=lag > self._lag_blocks,
            is_stalled=since_s is not None and now_s - since_s > self._stall_s,
            is_disagreeing=differed_at_s is not None and now_s - differed_at_s < self._disagree_s,
            differing=record.differing,
            breaches=record.breaches,
        )

    def ranked(
        self, sources: Iterable[str], *, now_s: float, weights: Mapping[str, int]
    ) -> list[str]:
        """The sources from the healthiest on: unmarked before marked, then by weight (higher
        first), then by lag.
        """

        def rank(source: str) -> tuple[bool, bool, bool, int, int, str]:
            verdict = self.judge(source, now_s=now_s)
            return (
                verdict.is_stalled or not verdict.height,
                verdict.is_lagging,
                verdict.is_disagreeing,
                -weights.get(source, 1),
                verdict.lag,
                source,
            )

        return sorted(sources, key=rank)
