"""How old what we serve is, by the chain and not by the coin: a quiet coin is never stale.

Age is how far the best worker's newest block lies behind now. Nodes write some time after the
block's own time (0.3 s on one recorded node, 2-3 s on another): that stays in the age. Only where
the block times are not of today at all (recorded blocks played again), the smallest age seen is
taken for now.
"""

from __future__ import annotations

from dataclasses import dataclass

from streaming.core import tips

#: Beyond it, block times are taken to be another day's.
CLOCKS_AGREE_NS = 60_000_000_000
#: A worker says at least every 100 ms that it lives; one that does not for this long is gone.
WORKER_GONE_S = 1.0
#: At which blocks come, where the age of a place is reckoned.
BLOCK_S = 0.07
#: Of so many that are gone it is remembered how far they came.
MAX_GONE = 16
#: Blocks beyond a place that a worker must have taken in before its silence about the place means
#: that nothing was there: its files of one block do not come at once.
MARGIN_BLOCKS = 3


@dataclass(slots=True)
class _Worker:
    tip_height: int = 0
    heights: tuple[int, ...] = ()  # by kind of file; empty: not told
    heard_s: float = 0.0

    def tip_of(self, files: tuple[int, ...]) -> int:
        """The highest block taken in of all these files, or of any where they are not told."""
        return tips.tip_of(self.heights, files) if files and self.heights else self.tip_height


class Freshness:
    """What the workers say of their newest block, and when they said it. Times are monotonic
    seconds, but for `_ns`: wall clock, since 1970."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._gone: dict[str, _Worker] = {}  # the last few that fell silent
        self.tip_height = 0
        self.tip_ms = 0  # its own time, since 1970
        self._tip_s: float | None = None  # when the tip last rose
        self._tip_age_ns = 0  # how old the tip was then
        self._least_age_ns: int | None = None
        self._began_s: float | None = None

    @property
    def workers(self) -> frozenset[str]:
        """The workers heard of lately."""
        return frozenset(self._workers)

    def age_s(self, *, height: int = 0, ms: int = 0) -> float:
        """How far a block, or a block time, lies behind the newest; 0 where that is not known."""
        if ms and self.tip_ms:
            return (self.tip_ms - ms) / 1000
        return (self.tip_height - height) * BLOCK_S if height and self.tip_height else 0.0

    def heard(
        self,
        worker: str,
        *,
        tip_height: int,
        tip_ns: int,
        now_s: float,
        now_ns: int,
        heights: tuple[int, ...] = (),
    ) -> None:
        """Note a message of a worker. `tip_height` 0: it reads no node. `heights` as in
        `streaming.core.tips`."""
        state = self._workers.get(worker)
        if state is None:
            state = self._workers[worker] = _Worker()
            self._gone.pop(worker, None)
        state.heard_s = now_s
        state.heights = heights
        state.tip_height = max(state.tip_height, tip_height)
        if tip_height > self.tip_height:
            self.tip_height = tip_height
            self.tip_ms = tip_ns // 1_000_000
            self._tip_s = now_s
            self._tip_age_ns = age_ns = now_ns - tip_ns
            if self._least_age_ns is None or age_ns < self._least_age_ns:
                self._least_age_ns = age_ns

    def tip_of(self, worker: str, files: tuple[int, ...] = ()) -> int:
        """The highest block a living worker has taken in, of all these files (`tips.files_of`) when
        it tells; 0 when it is gone or reads no node."""
        state = self._workers.get(worker)
        return 0 if state is None else state.tip_of(files)

    def last_tip_of(self, worker: str, files: tuple[int, ...] = ()) -> int:
        """The same, also of a worker that is gone since."""
        state = self._gone.get(worker)
        return self.tip_of(worker, files) if state is None else state.tip_of(files)

    def gone(self, *, now_s: float) -> list[str]:
        """Forget the workers that fell silent; returns their names."""
        names = [n for n, w in self._workers.items() if now_s - w.heard_s > WORKER_GONE_S]
        for name in names:
            self._gone[name] = self._workers.pop(name)
        while len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]
        if names and not self._workers:
            # The next may read another chain, or the same one played again from its start.
            self.tip_height = 0
        return names

    def age_ms(self, *, now_s: float) -> float:
        """How old the newest block is; for a relay without nodes, how long no worker was heard."""
        if self._tip_s is None:
            heard_s = max((worker.heard_s for worker in self._workers.values()), default=None)
            if heard_s is None:
                self._began_s = now_s if self._began_s is None else self._began_s
                return (now_s - self._began_s) * 1_000
            self._began_s = heard_s
            return (now_s - heard_s) * 1_000
        least_ns = self._least_age_ns or 0
        shift_ns = least_ns if not 0 <= least_ns < CLOCKS_AGREE_NS else 0
        return (now_s - self._tip_s) * 1_000 + max(self._tip_age_ns - shift_ns, 0) / 1e6

    def silence_ms(self, *, now_s: float) -> float:
        """How long nothing new was heard, whatever the block times say."""
        if self._tip_s is None:
            return self.age_ms(now_s=now_s)
        return (now_s - self._tip_s) * 1_000
