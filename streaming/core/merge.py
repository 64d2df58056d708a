"""Several nodes as one: the first copy of each block wins, a late one is dropped, a hole waits.

Nodes write the same blocks, each a little earlier or later than the others, and any one of them may
stall, restart or lose something. `BlockMerge` takes the blocks of all of them and hands out, for
each file kind, every height once and in order.

*Continuity.* The `previous` of a block handed out is the height of the block of its kind handed out
before it when somebody vouches that there is none in between (any source's own `previous`, or
because the heights are neighbours); else it is None: something may be lost there.

*Waiting.* A block behind a hole waits for the source that has what is missing:

- not at all when every source is beyond the hole already, because a source delivers in order;
- while a source that is still behind the hole keeps delivering (it is late and on its way), for at
  most `limit_ns`;
- else for `wait_ns`. So a source that stalls delays the others by that at most.

*Heights that cannot be.* A block more than `FAR_BLOCKS` ahead is believed once a second one follows
it: a single damaged line must not make everything after it late.

*Broken promises.* A height that was never handed out may come late although a source had vouched
that there was nothing (`_streaming` files hold no line for an empty block, so a node that loses a
block's lines looks like a node with an empty block). What was handed out cannot be taken back: it
is counted, the source is named by `drain_breaches`, and the next block of that kind is handed out
with `previous` None, so that whoever builds on the blocks starts again from a checkpoint.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from streaming.core.blocks import FileKind, RawBlock

#: Blocks come every 70 ms, and the lines of one spread over 43 ms: two blocks' time without a sign
#: of life from whoever is behind.
WAIT_NS = 150_000_000
#: One block must not wait longer than this in all: a gap has to be told within a second.
LIMIT_NS = 800_000_000
#: Waiting blocks of one kind. Beyond, the oldest goes on behind a gap. 70 ms a block: 18 s.
MAX_WAITING_BLOCKS = 256
#: All statuses of all coins take 0.5 MB a block.
MAX_WAITING_BYTES = 64 * 1024 * 1024
#: Heights remembered as handed out, to tell a late copy from late news. 70 ms a block: 2.4 min.
REMEMBERED_BLOCKS = 2048
#: Twelve minutes of blocks.
FAR_BLOCKS = 10_000


class Breach(NamedTuple):
    """A source vouched that a kind has no block at `height`, and there was one."""

    source: str
    kind: FileKind
    height: int


@dataclass(slots=True)
class _Waiting:
    """A block that cannot be handed out yet. `previous` is the lowest height anybody vouches
    from."""

    block: RawBlock
    previous: int | None
    since_ns: int


class _Out(NamedTuple):
    """A block handed out. `voucher` is who vouched that nothing was left out before it; empty:
    nobody (a gap), or the heights are neighbours.
    """

    height: int
    is_gap: bool
    voucher: str


@dataclass(slots=True)
class _Heard:
    """How far one source is in one kind."""

    height: int
    at_ns: int


@dataclass(slots=True)
class _Lane:
    """One file kind."""

    last: int | None = None
    is_doubted: bool = False  # what was handed out turned out to be incomplete
    far: int | None = None  # a height far ahead that waits for a second one
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    waiting_bytes: int = 0
    vouchers: dict[int, str] = field(default_factory=dict)  # of what waits
    heard: dict[str, _Heard] = field(default_factory=dict)
    out: deque[_Out] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BLOCKS))


class BlockMerge:
    """All sources' blocks in, one stream out. Times are nanoseconds of one monotonic clock.

    `counts`, by reason: `late_copy` (a height handed out already), `late_news` (a height that had
    been given up), `breach`, `gap` (holes given up), `filled` (blocks that waited and got what they
    waited for), `overflow` (holes given up because too much waited), `far_ahead` (blocks not
    believed).
    """

    def __init__(
        self,
        sources: Iterable[str] = (),
        *,
        wait_ns: int = WAIT_NS,
        limit_ns: int = LIMIT_NS,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        """`sources` are those to wait for from the start; others join with their first block."""
        self.counts: Counter[str] = Counter()
        self._sources: set[str] = set(sources)
        self._wait_ns, self._limit_ns = wait_ns, limit_ns
        self._max_waiting_bytes = max_waiting_bytes
        self._lanes: dict[FileKind, _Lane] = {}
        self._breaches: list[Breach] = []

    @property
    def waiting(self) -> int:
        """How many blocks wait behind a hole."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    @property
    def next_due_ns(self) -> int | None:
        """When `due` should be called if nothing comes before; None when nothing waits."""
        dues = [self._due_ns(lane) for lane in self._lanes.values() if lane.waiting]
        return min(dues, default=None)

    def last(self, kind: FileKind) -> int | None:
        """The last height handed out."""
        lane = self._lanes.get(kind)
        return lane.last if lane else None

    def has_begun(self, kind: FileKind) -> bool:
        """Whether a block of this kind was handed out."""
        lane = self._lanes.get(kind)
        return lane is not None and bool(lane.out)

    def begin_after(self, kind: FileKind, height: int) -> None:
        """The blocks up to `height` are known from elsewhere: the first one handed out shall follow
        them without a hole if anybody has what lies between. Nothing once the kind has begun.
        """
        lane = self._lanes.setdefault(kind, _Lane())
        if not lane.out:
            lane.last = max(height, lane.last or 0)

    def join(self, source: str) -> None:
        """Wait for `source` too, from now on."""
        self._sources.add(source)

    def leave(self, source: str) -> None:
        """`source` is no longer read: nobody waits for it. Call `due` afterwards."""
        self._sources.discard(source)
        for lane in self._lanes.values():
            lane.heard.pop(source, None)

    def drain_breaches(self) -> list[Breach]:
        """The broken promises found since the last call."""
        breaches, self._breaches = self._breaches, []
        return breaches

    def take(self, source: str, block: RawBlock, *, now_ns: int) -> list[RawBlock]:
        """Take one block of one source; returns what can be handed out now, in order."""
        self._sources.add(source)
        lane = self._lanes.setdefault(block.kind, _Lane())
        if self._is_far(lane, block.height):
            self.counts["far_ahead"] += 1
            return []
        lane.heard[source] = _Heard(block.height, now_ns)
        if lane.last is not None and block.height <= lane.last:
            self._take_late(lane, block)
            # A late copy may show that a source is beyond the hole now.
            return self._release(lane, now_ns=now_ns) if lane.waiting else []
        self._keep(lane, source, block, now_ns=now_ns)
        return self._release(lane, now_ns=now_ns)

    def due(self, now_ns: int) -> list[RawBlock]:
        """What has waited long enough, behind the gaps that gives."""
        out: list[RawBlock] = []
        for lane in self._lanes.values():
            if lane.waiting:
                out += self._release(lane, now_ns=now_ns)
        return out

    def _is_far(self, lane: _Lane, height: int) -> bool:
        if lane.last is None or height <= lane.last + FAR_BLOCKS:
            return False
        is_second = lane.far is not None and 0 < height - lane.far <= FAR_BLOCKS
        lane.far = height
        return not is_second

    # --- keeping ----------------------------------------------------------------------------------

    def _keep(self, lane: _Lane, source: str, block: RawBlock, *, now_ns: int) -> None:
        previous = block.previous
        kept = lane.waiting.get(block.height)
        if kept is None:
            lane.waiting[block.height] = _Waiting(block, previous, now_ns)
            lane.waiting_bytes += sum(map(len, block.lines))
        else:
            self.counts["late_copy"] += 1
            if previous is None or (kept.previous is not None and kept.previous <= previous):
                return
            kept.previous = previous
        if previous is not None:
            lane.vouchers[block.height] = source

    def _take_late(self, lane: _Lane, block: RawBlock) -> None:
        at = bisect_left(lane.out, block.height, key=lambda out: out.height)
        if at == len(lane.out):  # from before what the kind began after
            self.counts["late_copy"] += 1
            return
        after = lane.out[at]
        if after.height == block.height:
            self.counts["late_copy"] += 1
        elif after.is_gap or at == 0:
            # It had been given up; or it is from before all that is remembered.
            self.counts["late_news"] += 1
        else:
            self.counts["breach"] += 1
            self._breaches.append(Breach(after.voucher, block.kind, block.height))
            lane.is_doubted = True

    # --- handing out ------------------------------------------------------------------------------

    def _release(self, lane: _Lane, *, now_ns: int) -> list[RawBlock]:
        out: list[RawBlock] = []
        while lane.waiting:
            lowest = min(lane.waiting)
            voucher = self._voucher(lane, lowest)
            if lane.last is None or voucher is not None:
                out.append(self._hand_out(lane, lowest, voucher=voucher, now_ns=now_ns))
                continue
            is_over = self._is_overfull(lane)
            if not is_over and now_ns < self._due_ns(lane):
                break
            self.counts["overflow" if is_over else "gap"] += 1
            out.append(self._hand_out(lane, lowest, voucher=None, now_ns=now_ns))
        return out

    def _voucher(self, lane: _Lane, lowest: int) -> str | None:
        """Who vouches that nothing lies between the last block handed out and the lowest waiting;
        None when nobody does.
        """
        if lane.last is None or lowest == lane.last + 1:
            return ""
        # Whoever vouches for the space before any waiting block, down to the last one handed out,
        # vouches for the space before the lowest one too.
        for height, kept in lane.waiting.items():
            if kept.previous is not None and kept.previous <= lane.last:
                return lane.vouchers.get(height, "")
        return None

    def _hand_out(self, lane: _Lane, height: int, *, voucher: str | None, now_ns: int) -> RawBlock:
        kept = lane.waiting.pop(height)
        lane.vouchers.pop(height, None)
        block = kept.block
        if voucher is not None and kept.since_ns < now_ns:
            self.counts["filled"] += 1
        lane.waiting_bytes -= sum(map(len, block.lines))
        is_proven = voucher is not None and lane.last is not None and not lane.is_doubted
        previous = lane.last if is_proven else None
        lane.is_doubted = False
        lane.out.append(_Out(height, voucher is None, voucher or ""))
        lane.last = height
        if block.previous == previous and type(block) is RawBlock:
            return block
        return RawBlock(block.kind, height, block.lines, block.read_ns, previous)

    def _is_overfull(self, lane: _Lane) -> bool:
        return (
            len(lane.waiting) > MAX_WAITING_BLOCKS or lane.waiting_bytes > self._max_waiting_bytes
        )

    def _due_ns(self, lane: _Lane) -> int:
        """When the hole before the lowest waiting block is given up."""
        lowest = min(lane.waiting)
        since_ns = min(kept.since_ns for kept in lane.waiting.values())
        behind = [lane.heard.get(source) for source in self._sources]
        late = [heard for heard in behind if heard is None or heard.height < lowest]
        if not late:
            return since_ns  # nobody is left who could bring it
        heard_ns = max((heard.at_ns for heard in late if heard is not None), default=since_ns)
        return min(max(since_ns, heard_ns) + self._wait_ns, since_ns + self._limit_ns)
