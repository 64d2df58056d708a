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

*Copies.* A copy that cannot be read is none. One that was closed by quiet alone (its node may write
the rest later), or torn, goes on only when the other sources have had their turn: each that speaks,
and writes this kind, is waited for, for at most `wait_ns`. One closed by quiet does not wait for
a source whose last copy came later than that, or that was waited for in vain: who is always late
would delay every block. What is torn everywhere, or cannot be read, is no block: a `Loss` stands in
its place.

*Heights that cannot be.* A block more than `FAR_BLOCKS` above everything handed out is believed
once a second one follows it: a single damaged line must not make everything after it late. The
first block of all is believed once another lies near it, or nothing else came for `wait_ns`: of a
healthy node the next one comes within milliseconds.

*Broken promises.* Events of a height that was never handed out may come late although a source had
vouched that there was nothing (`_streaming` files hold no line for an empty block, so a node that
loses a block's lines looks like a node with an empty block; the empty line of a `_by_block` node
says the same later). Or the rest of a block comes that was handed out without it. What was handed
out cannot be taken back: it is counted, the source is named by `drain_breaches`, and a `Loss` from
that height on is handed out at once, so that whoever builds on the blocks starts again from a
checkpoint.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from streaming.core.blocks import Ending, FileKind, LateBlock, Loss, RawBlock
from streaming.core.checks import events_of, joined_events
from streaming.core.node_lines import is_readable

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
#: Of the newest of these their lines too, to tell the rest of a block from a repetition: 1.3 s of
#: all coins' statuses, minutes of fills.
REMEMBERED_BYTES = 8 * 1024 * 1024
#: A source that has brought nothing for so long is not expected to bring a better copy.
SILENT_NS = 2_000_000_000
#: 7 s of blocks: no source skips that many but one that was away.
FAR_BLOCKS = 100
#: Far blocks kept until one follows.
MAX_FAR = 16
#: A line without events; some writers put a blank before them.
_EMPTY = (b'"events":[]}', b'"events": []}')


class Breach(NamedTuple):
    """A source vouched that a kind has no block at `height`, or no more of one, and there was."""

    source: str
    kind: FileKind
    height: int


@dataclass(slots=True)
class _Waiting:
    """A height that cannot be handed out yet: each source's copy, in the order they came.
    `previous` is the lowest height anybody vouches from.
    """

    copies: dict[str, RawBlock]
    previous: int | None
    since_ns: int
    unreadable: set[str] = field(default_factory=set)
    readable: set[str] = field(default_factory=set)

    def best(self) -> tuple[str, RawBlock] | None:
        """The first of the best copies that can be read. Each is looked at once at most: 0.4 ms for
        450 KB.
        """
        found: tuple[str, RawBlock] | None = None
        for source, block in self.copies.items():
            if found is not None and not _is_better(block, found[1]):
                continue
            if source in self.unreadable:
                continue
            if source not in self.readable:
                if not is_readable(block):
                    self.unreadable.add(source)
                    continue
                self.readable.add(source)
            found = source, block
        return found


def _is_better(block: RawBlock, other: RawBlock) -> bool:
    if block.ending is not other.ending:
        return block.ending < other.ending
    return block.ending is not Ending.SURE and len(block.lines) > len(other.lines)


@dataclass(slots=True)
class _Out:
    """A block handed out. `voucher` is who vouched that nothing was left out before it; empty:
    nobody (a gap), or the heights are neighbours. `lines` are remembered for a while.
    """

    height: int
    is_gap: bool
    voucher: str
    since_ns: int  # when its first copy came
    source: str = ""
    ending: Ending = Ending.SURE
    is_lost: bool = False
    lines: list[bytes] | None = None

    def lacks(self, block: RawBlock, *, source: str) -> bool:
        """Whether `block` holds more of this height than was handed out.

        Nodes may write the same thing differently (see `checks`). So only what can be nothing else
        counts: further lines of the same node, or a copy that begins with what was handed out.
        """
        if self.lines is None or not (source == self.source or self.ending is Ending.QUIET):
            return False
        if _is_empty(block):
            return False
        if isinstance(block, LateBlock):
            known = Counter(map(events_of, self.lines))
            return bool(Counter(map(events_of, block.lines)) - known)
        ours, theirs = joined_events(self.lines), joined_events(block.lines)
        return len(theirs) > len(ours) and theirs.startswith(ours)


@dataclass(slots=True)
class _Heard:
    """How far one source is in one kind. `is_late`: its last copy came too late to be waited for,
    or it was waited for in vain.
    """

    height: int
    at_ns: int
    is_late: bool = False


@dataclass(slots=True)
class _Lane:
    """One file kind."""

    last: int | None = None
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    waiting_bytes: int = 0
    vouchers: dict[int, str] = field(default_factory=dict)  # of what waits
    heard: dict[str, _Heard] = field(default_factory=dict)
    out: deque[_Out] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BLOCKS))
    remembered: deque[_Out] = field(default_factory=deque)  # those whose lines are
    remembered_bytes: int = 0

    def remember(self, out: _Out, lines: list[bytes]) -> None:
        """Keep what was handed out, and its lines for a while."""
        self.out.append(out)
        out.lines = lines
        self.remembered.append(out)
        self.remembered_bytes += _size(lines)
        while self.remembered_bytes > REMEMBERED_BYTES or len(self.remembered) > REMEMBERED_BLOCKS:
            oldest = self.remembered.popleft()
            self.remembered_bytes -= _size(oldest.lines or ())
            oldest.lines = None


class BlockMerge:
    """All sources' blocks in, one stream out. Times are nanoseconds of one monotonic clock.

    `counts`, by reason: `late_copy` (a height handed out already), `late_news` (a height that had
    been given up), `breach`, `gap` (holes given up), `filled` (blocks that waited and got what they
    waited for), `overflow` (holes given up because too much waited), `far_ahead` (blocks not
    believed at once), `torn` (heights of which nobody had a whole copy), `unreadable` (copies that
    could not be read), `taken_back` (copies of a damaged height).
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
        self._tip: int | None = None  # the highest block handed out, of any kind
        # Far above it, or the first of all, and not believed yet.
        self._far: list[tuple[str, RawBlock]] = []
        self._first_due_ns = 0  # when the first of all is, if it is alone until then
        self._heard_ns: dict[str, int] = {}
        self._breaches: list[Breach] = []

    @property
    def waiting(self) -> int:
        """How many blocks wait behind a hole."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    @property
    def next_due_ns(self) -> int | None:
        """When `due` should be called if nothing comes before; None when nothing waits."""
        dues = [self._due_ns(lane) for lane in self._lanes.values() if lane.waiting]
        if self._tip is None and len(self._far) == 1:
            dues.append(self._first_due_ns)
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
            if not self._far:  # else that is believed with the next one
                self._tip = max(lane.last, self._tip or 0)

    def can_be(self, height: int) -> bool:
        """Whether a height is not far above all that was handed out."""
        return self._tip is None or height <= self._tip + FAR_BLOCKS

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
        self._heard_ns[source] = now_ns
        out: list[RawBlock] = []
        if self._tip is None and not self._far:
            self._first_due_ns = now_ns + self._wait_ns
        for whose, each in self._believed(source, block):
            out += self._take(whose, each, now_ns=now_ns)
        return out

    def _take(self, source: str, block: RawBlock, *, now_ns: int) -> list[RawBlock]:
        lane = self._lanes.setdefault(block.kind, _Lane())
        heard = lane.heard.get(source)
        if heard is None:
            lane.heard[source] = _Heard(block.height, now_ns)
        elif isinstance(block, LateBlock):
            # The rest of a block says nothing of how far its node is.
            heard.height, heard.at_ns = max(block.height, heard.height), now_ns
        else:
            if block.height < heard.height:
                self._take_back(lane, source, above=block.height)
            heard.height, heard.at_ns, heard.is_late = block.height, now_ns, False
        if lane.last is not None and block.height <= lane.last:
            out = self._take_late(lane, source, block, now_ns=now_ns)
            # A late copy may show that a source is beyond the hole now.
            return out + self._release(lane, now_ns=now_ns) if lane.waiting else out
        self._keep(lane, source, block, now_ns=now_ns)
        return self._release(lane, now_ns=now_ns)

    def due(self, now_ns: int) -> list[RawBlock]:
        """What has waited long enough, behind the gaps that gives."""
        out: list[RawBlock] = []
        if self._tip is None and len(self._far) == 1 and now_ns >= self._first_due_ns:
            ((source, block),), self._far = self._far, []
            out += self._take(source, block, now_ns=now_ns)
        for lane in self._lanes.values():
            if lane.waiting:
                out += self._release(lane, now_ns=now_ns)
        return out

    def _believed(self, source: str, block: RawBlock) -> list[tuple[str, RawBlock]]:
        """What to take now: the block, and those far ahead that it confirms."""
        if self._tip is not None and self.can_be(block.height):
            if self._far:
                # A source delivers each kind in order: what it brought from further was damaged.
                self._far = [
                    (whose, far)
                    for whose, far in self._far
                    if whose != source or far.kind is not block.kind or far.height <= block.height
                ]
            return [(source, block)]
        follows = any(
            _confirms(source, block, whose, far)
            # A leap of the first two says nothing of which is damaged.
            and (self._tip is not None or abs(block.height - far.height) <= FAR_BLOCKS)
            for whose, far in self._far
        )
        self._far.append((source, block))
        if not follows:
            if self._tip is not None or len(self._far) > 1:
                self.counts["far_ahead"] += 1
            del self._far[:-MAX_FAR]
            return []
        believed, self._far = self._far, []
        return [each for each in believed if abs(each[1].height - block.height) <= FAR_BLOCKS]

    # --- keeping ----------------------------------------------------------------------------------

    def _keep(self, lane: _Lane, source: str, block: RawBlock, *, now_ns: int) -> None:
        previous = block.previous
        kept = lane.waiting.get(block.height)
        if kept is None:
            lane.waiting[block.height] = _Waiting({source: block}, previous, now_ns)
            lane.waiting_bytes += _size(block.lines)
        else:
            self._add_copy(lane, kept, source, block)
            if previous is None or (kept.previous is not None and kept.previous <= previous):
                return
            kept.previous = previous
        if previous is not None:
            lane.vouchers[block.height] = source

    def _add_copy(self, lane: _Lane, kept: _Waiting, source: str, block: RawBlock) -> None:
        own = kept.copies.get(source)
        if own is None:
            self.counts["late_copy"] += 1
            lines = block.lines
        elif isinstance(block, LateBlock):
            # The rest of what its node has brought before.
            known = set(map(events_of, own.lines))
            lines = [line for line in block.lines if events_of(line) not in known]
            block = replace(own, lines=own.lines + lines)
        elif _is_better(block, own):
            lane.waiting_bytes -= _size(own.lines)
            lines = block.lines
        else:
            self.counts["late_copy"] += 1
            return
        kept.copies[source] = block
        kept.readable.discard(source)
        lane.waiting_bytes += _size(lines)

    def _take_back(self, lane: _Lane, source: str, *, above: int) -> None:
        """A source delivers each kind in order: what it brought from above, and what waits yet, has
        a damaged height.
        """
        for height in [
            h for h, kept in lane.waiting.items() if h > above and source in kept.copies
        ]:
            kept = lane.waiting[height]
            lane.waiting_bytes -= _size(kept.copies.pop(source).lines)
            self.counts["taken_back"] += 1
            lane.vouchers.pop(height, None)
            kept.previous = None
            for whose, copy in kept.copies.items():
                if copy.previous is not None and (
                    kept.previous is None or copy.previous < kept.previous
                ):
                    kept.previous, lane.vouchers[height] = copy.previous, whose
            if not kept.copies:
                del lane.waiting[height]

    def _take_late(
        self, lane: _Lane, source: str, block: RawBlock, *, now_ns: int
    ) -> list[RawBlock]:
        at = bisect_left(lane.out, block.height, key=lambda out: out.height)
        if at == len(lane.out):  # from before what the kind began after
            self.counts["late_copy"] += 1
            return []
        after = lane.out[at]
        if now_ns > after.since_ns + self._wait_ns and not isinstance(block, LateBlock):
            lane.heard[source].is_late = True
        if after.height == block.height and not after.is_lost:
            # Of the same node also what cannot be read is more than it had shown.
            if after.lacks(block, source=source) and (source == after.source or is_readable(block)):
                return self._break(lane, after.source, block)
            self.counts["late_copy"] += 1
            return []
        if after.is_gap or after.is_lost or at == 0:
            # It had been given up; or it is from before all that is remembered.
            self.counts["late_news"] += 1
            return []
        if _is_empty(block):
            # By block there is a line for an empty block too: it says what was vouched for.
            self.counts["late_copy"] += 1
            return []
        return self._break(lane, after.voucher, block)

    def _break(self, lane: _Lane, source: str, block: RawBlock) -> list[RawBlock]:
        self.counts["breach"] += 1
        self._breaches.append(Breach(source, block.kind, block.height))
        for out in lane.out:  # told once: the loss reaches up to here
            if out.height >= block.height:
                out.is_lost, out.lines = True, None
        assert lane.last is not None  # noqa: S101
        return [Loss(block.kind, lane.last, [], block.read_ns, first=block.height)]

    # --- handing out ------------------------------------------------------------------------------

    def _release(self, lane: _Lane, *, now_ns: int) -> list[RawBlock]:
        out: list[RawBlock] = []
        while lane.waiting:
            lowest = min(lane.waiting)
            voucher = self._voucher(lane, lowest)
            is_over = self._is_overfull(lane)
            if not is_over and now_ns < self._due_of(lane, lowest, voucher=voucher):
                break
            if voucher is None:
                self.counts["overflow" if is_over else "gap"] += 1
            out.append(self._hand_out(lane, lowest, voucher=voucher, now_ns=now_ns))
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
        lane.waiting_bytes -= sum(_size(copy.lines) for copy in kept.copies.values())
        if voucher is not None and kept.since_ns < now_ns:
            self.counts["filled"] += 1
        best = kept.best()
        if kept.unreadable:
            self.counts["unreadable"] += len(kept.unreadable)
        previous = lane.last if voucher is not None else None
        lane.last = height
        self._tip = max(height, self._tip or 0)
        out = _Out(height, voucher is None, voucher or "", kept.since_ns)
        if (best is None or best[1].ending is not Ending.SURE) and (
            now_ns >= kept.since_ns + self._wait_ns
        ):
            for heard in lane.heard.values():
                heard.is_late = heard.is_late or heard.height < height
        if best is None or best[1].ending is Ending.TORN:
            self.counts["torn"] += 1
            out.is_lost = True
            lane.out.append(out)
            any_copy = next(iter(kept.copies.values()))
            return Loss(any_copy.kind, height, [], any_copy.read_ns, first=height)
        out.source, block = best
        out.ending = block.ending
        lane.remember(out, block.lines)
        if block.previous == previous and type(block) is RawBlock:
            return block
        return RawBlock(block.kind, height, block.lines, block.read_ns, previous, block.ending)

    def _is_overfull(self, lane: _Lane) -> bool:
        return (
            len(lane.waiting) > MAX_WAITING_BLOCKS or lane.waiting_bytes > self._max_waiting_bytes
        )

    def _due_ns(self, lane: _Lane) -> int:
        """When the lowest waiting block goes on, whatever comes until then."""
        lowest = min(lane.waiting)
        return self._due_of(lane, lowest, voucher=self._voucher(lane, lowest))

    def _due_of(self, lane: _Lane, lowest: int, *, voucher: str | None) -> int:
        due_ns = self._hole_due_ns(lane, lowest) if voucher is None else 0
        kept = lane.waiting[lowest]
        best = kept.best()
        ending = best[1].ending if best else Ending.TORN
        if ending is not Ending.SURE and self._may_improve(lane, lowest, ending):
            due_ns = max(due_ns, kept.since_ns + self._wait_ns)
        return due_ns

    def _may_improve(self, lane: _Lane, height: int, ending: Ending) -> bool:
        """Whether a source that speaks, and has spoken of this kind, has not come to `height` yet;
        where there is something to hand out, one that was in time before.
        """
        newest_ns = max(self._heard_ns.values(), default=0)
        for source in self._sources:
            heard = lane.heard.get(source)
            if heard is None or heard.height >= height:
                continue
            if heard.is_late and ending is Ending.QUIET:
                continue
            if newest_ns - self._heard_ns[source] < SILENT_NS:
                return True
        return False

    def _hole_due_ns(self, lane: _Lane, lowest: int) -> int:
        """When the hole before the lowest waiting block is given up."""
        since_ns = min(kept.since_ns for kept in lane.waiting.values())
        behind = [lane.heard.get(source) for source in self._sources]
        late = [heard for heard in behind if heard is None or heard.height < lowest]
        if not late:
            return since_ns  # nobody is left who could bring it
        heard_ns = max((heard.at_ns for heard in late if heard is not None), default=since_ns)
        return min(max(since_ns, heard_ns) + self._wait_ns, since_ns + self._limit_ns)


def _is_empty(block: RawBlock) -> bool:
    """Whether there is no event in it, surely."""
    return all(line.endswith(_EMPTY) for line in block.lines)


def _size(lines: Iterable[bytes]) -> int:
    return sum(map(len, lines))


def _confirms(source: str, block: RawBlock, whose: str, far: RawBlock) -> bool:
    """Whether a far block shows that one before it was no damage."""
    if source == whose and block.kind is far.kind:
        return block.height > far.height
    return abs(block.height - far.height) <= FAR_BLOCKS
