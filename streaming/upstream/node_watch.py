"""What is noticed of each node on the way: how it does, what it says differently, what it costs.

Nothing here holds up a block: it is called after the frames have gone out.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.checks import BlockChecks, Disagreement
from streaming.core.merge import Breach
from streaming.core.node_lines import parse_time_ns
from streaming.core.tips import Tips
from streaming.upstream import metrics
from streaming.upstream.health import Health, Verdict

log = structlog.get_logger(__name__)

MARKS = ("lagging", "stalled", "disagreeing")
STOPPED = "stopped"
_BLOCK_TIME = b'"block_time":"'


class NodeWatch:
    """The nodes of one worker, judged. `on_book_difference(now_s)` is called when two nodes have
    different book changes in a block.
    """

    def __init__(self, *, on_book_difference: Callable[[float], None]) -> None:
        self.checks = BlockChecks()
        self._on_book_difference = on_book_difference
        self._health = Health()
        self._tips: defaultdict[str, Tips] = defaultdict(Tips)
        self._bytes: Counter[str] = Counter()
        self._rates: dict[str, tuple[float, int]] = {}  # at, bytes: of the last `figures`
        self._marks: dict[str, list[str]] = {}

    def join(self, name: str) -> None:
        """Begin to judge a node."""
        self._health.join(name, now_s=time.monotonic())

    def leave(self, name: str) -> None:
        """Forget a node."""
        self._health.leave(name)
        self._tips.pop(name, None)
        self._bytes.pop(name, None)
        self._rates.pop(name, None)
        self._marks.pop(name, None)

    def judge(self, name: str) -> Verdict:
        """What to say of a node now."""
        return self._health.judge(name, now_s=time.monotonic())

    def ranked(self, names: Iterable[str], *, weights: Mapping[str, int]) -> list[str]:
        """The healthiest first."""
        return self._health.ranked(names, now_s=time.monotonic(), weights=weights)

    def note(self, name: str, blocks: Iterable[RawBlock], *, now_s: float) -> None:
        """Take note of what a node has brought. Blocks whose height cannot be are left out by the
        caller.
        """
        tops: dict[FileKind, RawBlock] = {}
        tips = self._tips[name]
        for block in blocks:
            metrics.BLOCKS.labels(name, block.kind).inc()
            self._bytes[name] += sum(map(len, block.lines))
            tops[block.kind] = block
            tips.note(block)
            difference = self.checks.note(name, block)
            if difference is not None:
                self._differ(difference, now_s=now_s)
        for block in tops.values():
            self._health.heard(name, block.height, now_s=now_s, block_age_s=block_age_s(block))

    def breached(self, breaches: Iterable[Breach], *, now_s: float) -> None:
        """Mark the nodes that vouched for what was not so."""
        for breach in breaches:
            self._health.broke_promise(breach.source, now_s=now_s)
            metrics.FAULTS.labels(breach.source, "breach").inc()
            log.warning(
                "node_left_blocks_out",
                source=breach.source,
                file_kind=str(breach.kind),
                height=breach.height,
            )

    def figures(self, name: str) -> dict[str, Any]:
        """A node's figures for the heartbeat."""
        now_s = time.monotonic()
        verdict = self._health.judge(name, now_s=now_s)
        before_s, before_bytes = self._rates.get(name, (now_s, 0))
        size, took_s = self._bytes[name], now_s - before_s
        self._rates[name] = (now_s, size)
        return {
            "height": verdict.height,
            "lag": verdict.lag,
            "silent_s": None if verdict.silent_s is None else round(verdict.silent_s, 3),
            "block_age_s": round(verdict.block_age_s, 3),
            "marks": self._marks_of(name, verdict),
            "lagging": verdict.is_lagging,
            "stalled": verdict.is_stalled,
            "disagreeing": verdict.is_disagreeing,
            "differing": verdict.differing,
            "breaches": verdict.breaches,
            "bytes": size,
            "bytes_per_s": round((size - before_bytes) / took_s) if took_s > 0 else 0,
        }

    def show(self, names: Iterable[str]) -> None:
        """Bring the metrics up to date, and say when a node's marks have changed."""
        for name in names:
            verdict = self.judge(name)
            metrics.HEIGHT.labels(name).set(verdict.height)
            metrics.LAG_BLOCKS.labels(name).set(verdict.lag)
            metrics.BLOCK_AGE.labels(name).set(verdict.block_age_s)
            found = self._marks_of(name, verdict)
            for mark in MARKS:
                metrics.MARKED.labels(name, mark).set(mark in found)
            metrics.MARKED.labels(name, STOPPED).set(any(m.startswith(STOPPED) for m in found))
            if found != self._marks.get(name, []):
                self._marks[name] = found
                marks = ",".join(found)
                log.warning("node_marked", source=name, marks=marks, lag=verdict.lag)

    def _marks_of(self, name: str, verdict: Verdict) -> list[str]:
        """A node's marks, with the kinds of file of which nothing comes any more by name."""
        stopped = self._tips[name].stopped
        return [*verdict.marks, *(f"{STOPPED} {kind}" for kind in sorted(stopped))]

    def _differ(self, difference: Disagreement, *, now_s: float) -> None:
        metrics.DISAGREEMENTS.labels(difference.kind).inc()
        for name in (difference.first, difference.other):
            if not self._health.judge(name, now_s=now_s).is_disagreeing:
                log.error(
                    "nodes_disagree",
                    source=name,
                    file_kind=str(difference.kind),
                    height=difference.height,
                    forwarded=difference.first,
                )
            self._health.differed(name, now_s=now_s)
        if difference.kind is FileKind.DIFFS:
            self._on_book_difference(now_s)


def block_age_s(block: RawBlock) -> float:
    """How long after its own time the block was read; 0 when its line does not say."""
    line = block.lines[0] if block.lines else b""
    begin = line.find(_BLOCK_TIME, 0, 200)
    if begin < 0:
        return 0.0
    begin += len(_BLOCK_TIME)
    text = line[begin : line.find(b'"', begin, begin + 40)].decode("ascii", "replace")
    try:
        return (block.read_ns - parse_time_ns(text)) / 1e9
    except (ValueError, OverflowError):
        return 0.0
