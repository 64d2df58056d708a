"""A node's files → the frames of every topic somebody wants. No clock, no I/O: blocks in, envelopes
out.

Each envelope names the place of the frame before it in its topic, whether or not that one was
wanted at the time, so two workers that began at different moments publish the same thing. Where the
frame before is not known (at the start, after a loss, and for l4Book when it was not wanted: what
touched a coin is known only from statuses, which are not decoded unless wanted), `previous` is the
end of the last block that was not seen: the later worker claims less, and never otherwise.

What a hole in a kind of file takes from a topic of events is told by an envelope with `Role.GAP`;
with `Role.RESET`, where it is found only after later frames have gone out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from msgspec.structs import replace

from streaming.core import l2_diffs, tips
from streaming.core.block_pairs import BlockPairs, Pair
from streaming.core.blocks import FileKind, Loss, OpenBlock, RawBlock
from streaming.core.book import frames
from streaming.core.book.l2 import Best, Grouping, View
from streaming.core.book.l4 import L4Book
from streaming.core.book.statuses import find_details
from streaming.core.books import BUFFER_BYTES, Books, Changes, CheckpointBooks, CheckpointTooOld
from streaming.core.decimals import render_mid
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.l2_diffs import L2Diffs
from streaming.core.l4_feeds import L4_KINDS, L4Feeds
from streaming.core.raw_feeds import RawFeeds
from streaming.core.topic import FAST_LEVELS, Kind, Topic
from streaming.core.trade_feeds import TradeFeeds
from streaming.core.user_feeds import UserFeeds

__all__ = ["NOT_READY", "CheckpointTooOld", "Market"]

CORRECTED = "The book was corrected from a checkpoint"
CAME_LATE = "Part of a block came after it had been told"
NOT_READY = "Order book not ready for streaming (waiting for snapshot)"

#: What is made of the books.
BOOK_KINDS = frozenset({Kind.L2_BOOK, Kind.BBO, Kind.ALL_MIDS, Kind.L2_DIFF}) | L4_KINDS


class Room(Protocol):
    """Topics made of blocks alone. `epoch` goes into every envelope."""

    epoch: str
    KINDS: ClassVar[frozenset[Kind]]
    FILES: ClassVar[frozenset[FileKind]]

    def can_serve(self, topic: Topic) -> bool:
        """Whether there is, or could be, a frame of the topic now."""

    def want(self, topic: Topic) -> None:
        """Publish the topic's frames from the next block on; idempotent."""

    def unwant(self, topic: Topic) -> None:
        """Stop."""

    def prime(self, blocks: Iterable[RawBlock]) -> None:
        """Take in older blocks for what opens a topic; nothing is published."""

    def apply(self, block: RawBlock) -> list[Envelope]:
        """The frames of one block of one kind, in order."""

    def lost(self, kind: FileKind, height: int) -> list[Envelope]:
        """Blocks of `kind` up to `height` are missing: the gaps that makes."""

    def snapshot(self, topic: Topic) -> Envelope:
        """What a late joiner gets."""


_TopBest = tuple[Best | None, Best | None]


@dataclass(slots=True)
class _Track:
    """Where a coin's book topics stand."""

    l2_position: Position = ORIGIN
    bbo_position: Position = ORIGIN
    best: _TopBest = (None, None)


class Market:
    """All topics that node files hold. `faults` counts, by reason, what could not be used; nothing
    in the files raises.
    """

    def __init__(
        self, *, epoch: str, every_block: bool = False, buffer_bytes: int = BUFFER_BYTES
    ) -> None:
        """`every_block`: the files are known to hold a line for every block (`_by_block`); else it
        is learned.
        """
        self.faults: Counter[str] = Counter()
        self.block_time_ns = 0
        self._epoch = epoch
        self._books = Books(self.faults, buffer_bytes=buffer_bytes)
        self._books.every_block = every_block
        self._trades = TradeFeeds(self.faults)
        self._pairs = BlockPairs()
        rooms: tuple[Room, ...] = (
            self._trades, UserFeeds(self.faults), RawFeeds(self.faults),
        )  # fmt: skip
        self._room_of = {kind: room for room in rooms for kind in room.KINDS}
        self._rooms_on = {
            file: tuple(room for room in rooms if file in room.FILES) for file in FileKind
        }
        self._rooms = rooms
        for room in rooms:
            room.epoch = epoch
        self._seen: dict[FileKind, int] = {}
        self._vouched: set[FileKind] = set()  # whose blocks come with a `previous`
        self._wanted: dict[Topic, None] = {}
        self._awaited: Counter[FileKind] = Counter()  # by how many of them
        self._wanted_of: dict[str, dict[Topic, None]] = {}  # by coin, without trades
        self._tracks: dict[str, _Track] = {}
        self._mids_position = ORIGIN
        self._mids_second = 0
        self._l4 = L4Feeds(self.faults, self._books)
        self._l2_diffs = L2Diffs()
        self._l4.epoch = self._l2_diffs.epoch = epoch
        self._coins: frozenset[str] = frozenset()

    # --- state ------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether the books follow the files."""
        return self._books.is_ready

    @property
    def books(self) -> Mapping[str, L4Book]:
        """The books by coin, to look at."""
        return self._books.by_coin

    @property
    def has_diffs(self) -> bool:
        """Whether changes have been seen: a checkpoint asked for from now on joins them."""
        return self._books.seen > 0

    def can_serve(self, topic: Topic) -> bool:
        """Whether the topic is made here, and what it is made of is there: nodes are run without
        some of the files.
        """
        if topic.kind in BOOK_KINDS:
            return self.has_diffs
        if topic.kind is Kind.TRADES and FileKind.FILLS not in self._seen:
            return False
        room = self._room_of.get(topic.kind)
        return room is not None and room.can_serve(topic)

    @property
    def has_fills(self) -> bool:
        """Whether there is a block of fills from which on all are known: before that a snapshot of
        trades says nothing.
        """
        return self._trades.has_begun

    @property
    def height(self) -> int:
        """The last block the books contain; 0 before a checkpoint."""
        return self._books.height

    @property
    def wanted(self) -> Sequence[Topic]:
        """The topics of which updates are published."""
        return list(self._wanted)

    def awaits(self, kind: FileKind) -> bool:
        """Whether anything that is wanted is made of these files."""
        return self._awaited[kind] > 0

    def coins(self) -> frozenset[str]:
        """Every coin that has shown a book or a trade."""
        if not self._books.by_coin.keys() <= self._coins or not self._coins.issuperset(
            self._trades.tape.coins
        ):
            self._coins = self._coins.union(self._books.by_coin, self._trades.tape.coins)
        return self._coins

    def set_epoch(self, epoch: str) -> None:
        """Everything from now on carries `epoch`; places go on."""
        self._epoch = self._l4.epoch = self._l2_diffs.epoch = epoch
        for room in self._rooms:
            room.epoch = epoch

    def want(self, topic: Topic) -> None:
        """Publish the topic's frames from the next block on; idempotent."""
        if topic in self._wanted:
            return
        self._wanted[topic] = None
        self._awaited.update(_files(topic))
        if room := self._room_of.get(topic.kind):
            room.want(topic)
            return
        self._wanted_of.setdefault(topic.coin, {})[topic] = None
        if topic.kind in L4_KINDS:
            self._l4.want(topic, done=self._pairs.done)
        elif topic.kind is Kind.L2_DIFF:
            self._begin_diff(topic)

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        if topic not in self._wanted:
            return
        del self._wanted[topic]
        self._awaited.subtract(_files(topic))
        if room := self._room_of.get(topic.kind):
            room.unwant(topic)
            return
        if topic.kind in L4_KINDS:
            self._l4.unwant(topic)
        elif topic.kind is Kind.L2_DIFF:
            self._l2_diffs.unwant(topic)
        others = self._wanted_of[topic.coin]
        del others[topic]
        if not others:
            del self._wanted_of[topic.coin]
        if topic.coin in self._books.by_coin:
            self._drop_view(self._books.by_coin[topic.coin], topic)

    # --- input ------------------------------------------------------------------------------------

    def apply(self, block: RawBlock) -> list[Envelope]:
        """The frames that one file's closed block makes, in order; of a `Loss`, the gaps."""
        if isinstance(block, Loss):
            return self._lose(block.kind, first=block.first, last=block.height)
        if block.height <= self._seen.get(block.kind, 0):
            self.faults["old_block"] += 1
            return []
        is_behind_a_hole = self._is_behind_a_hole(block)
        self._seen[block.kind] = block.height
        out: list[Envelope] = []
        bad_lines = self.faults["bad_line"]
        match block.kind:
            case FileKind.DIFFS:
                out = self._apply_diffs(block)
            case FileKind.STATUSES:
                out = self._apply_statuses(block, is_behind_a_hole=is_behind_a_hole)
        for room in self._rooms_on[block.kind]:
            if is_behind_a_hole:
                out += room.lost(block.kind, block.height - 1)
            out += room.apply(block)
        self.block_time_ns = max(self.block_time_ns, self._trades.block_time_ns)
        if self.faults["bad_line"] > bad_lines:
            # JSON that is no line of this block: nobody looked so closely before.
            out += self._lose(block.kind, first=block.height, last=block.height)
        return out

    def _lose(self, kind: FileKind, *, first: int, last: int) -> list[Envelope]:
        """Nobody has all that blocks `first` to `last` of a kind hold: what has to be told."""
        self.faults["lost_blocks"] += 1
        self._vouched.add(kind)  # a hole right behind is one more
        out: list[Envelope] = []
        match kind:
            case FileKind.DIFFS if self._books.seen:
                if self._books.is_ready:
                    if first <= self._books.height:
                        out += [self._reset(t, CAME_LATE) for t in self._wanted if t.is_chained]
                    out += self._books_not_ready()
                self._books.lost(last)
            case FileKind.STATUSES if self._pairs.statuses_seen:
                self._l4.lost(min(first, self._pairs.statuses_seen + 1), last)
        if self._seen.get(kind):
            for room in self._rooms_on[kind]:
                out += [_reaching_back(gap, first) for gap in room.lost(kind, last)]
        self._seen[kind] = max(last, self._seen.get(kind, 0))
        return out

    def _books_not_ready(self) -> list[Envelope]:
        return [self._not_ready(topic) for topic in self._wanted if topic.kind in BOOK_KINDS]

    def apply_open(self, block: OpenBlock, *, source: str) -> list[Envelope]:
        """The frames that the lines so far of a block make, of the topics that do not wait for its
        end. `source` names the node: all write the same lines, each at its own pace."""
        return self._trades.apply_open(block, source=source)

    def prime(self, blocks: Iterable[RawBlock]) -> None:
        """Take in older fills for what opens a topic; nothing is published."""
        blocks = list(blocks)
        for room in self._rooms:
            room.prime(blocks)
        self.block_time_ns = max(self.block_time_ns, self._trades.block_time_ns)

    def covers_from(self, height: int) -> None:
        """Promise that every change from block `height` on will be handed in (default: from the
        first one that is).
        """
        self._books.covers_from(height)

    def load_checkpoint(self, height: int, books: CheckpointBooks | Mapping[str, L4Book]) -> None:
        """Start the books from a checkpoint, or from what `books.build_books` made of one.

        Changes up to `height` are ignored from now on, kept ones after it are applied. No frame is
        made: publish `snapshot(topic)` of what is wanted. Raises CheckpointTooOld when changes in
        between are lost.
        """
        self._books.load_checkpoint(height, books)
        here = end_of(self._books.height)
        self._l4.restart(self._books.height)
        for topic in self._wanted:
            if topic.kind is Kind.L2_DIFF:
                self._begin_diff(topic)
        self._mids_position = here
        self._mids_second = self._books.times.block_ns // 1_000_000_000
        self._tracks = {
            coin: _Track(here, here, _best(book)) for coin, book in self._books.by_coin.items()
        }

    def correct(self, books: Mapping[str, L4Book]) -> list[Envelope]:
        """Go on from these books of the same block: those there were wrong. States are shown anew;
        who builds on frames is told to begin again, from the snapshot that follows. That takes a
        place of its own, behind the block: who misses it sees a hole, and asks."""
        self._books.correct(books)
        out: list[Envelope] = []
        for coin in books:
            if (track := self._tracks.get(coin)) is not None:
                track.best = _best(self._books.by_coin[coin])
            for topic in self._wanted_of.get(coin, ()):
                if topic.kind is Kind.L2_DIFF:
                    out.append(self._reset(topic))
                    view = self._view(self._books.by_coin[coin], topic)
                    self._l2_diffs.rebase(topic, view, height=self._books.height)
                elif topic.kind in L4_KINDS:
                    out.append(self._reset(topic))
                    self._l4.rebase(topic, height=self._books.height)
                out.append(self.snapshot(topic))
        return out

    def finish(self) -> list[Envelope]:
        """The frames still waiting for another file: no more will come."""
        self._trades.tape.finish()
        return self._join(self._pairs.finish())

    # --- book changes -----------------------------------------------------------------------------

    def _apply_diffs(self, raw: RawBlock) -> list[Envelope]:
        was_ready = self._books.is_ready
        changes = self._books.apply(raw)
        out: list[Envelope] = []
        if was_ready and not self._books.is_ready:
            out += self._books_not_ready()
        if changes is None:
            return out
        self._note_time(changes.block.times)
        for coin in changes.coins:
            out += self._book_frames(coin, changes)
        if changes.coins:
            out += self._mids_frames(changes)
        return out + self._join(self._pairs.add_changes(changes))

    def _book_frames(self, coin: str, changes: Changes) -> list[Envelope]:
        book = self._books.by_coin[coin]
        here = Position(changes.block.height)
        if (track := self._tracks.get(coin)) is None:  # listed in this block
            start = end_of(changes.block.height - 1)
            track = self._tracks[coin] = _Track(start, start)
        before, track.l2_position = track.l2_position, here
        best = _best(book)
        bbo_before, is_new_best = track.bbo_position, best != track.best
        if is_new_best:
            track.best, track.bbo_position = best, here
        out: list[Envelope] = []
        for topic in self._wanted_of.get(coin, ()):
            if topic.kind is Kind.L2_BOOK:
                out.append(self._update(topic, here, before, changes.block.times))
            elif topic.kind is Kind.BBO and is_new_best:
                out.append(self._update(topic, here, bbo_before, changes.block.times))
            elif topic.kind is Kind.L2_DIFF:
                diff = self._l2_diffs.changed(
                    topic, book, self._view(book, topic), height=here.height,
                    times=changes.block.times,
                )  # fmt: skip
                out += [diff] if diff else []
            elif topic.kind in L4_KINDS and coin in changes.listed:
                out.append(self.snapshot(topic))  # nobody could be given one before
        return out

    def _mids_frames(self, changes: Changes) -> list[Envelope]:
        # The second of block time decides, not the time since the last frame, so that every worker
        # picks the same blocks.
        second = changes.block.times.block_ns // 1_000_000_000
        if second <= self._mids_second:
            return []
        here = Position(changes.block.height)
        before, self._mids_position, self._mids_second = self._mids_position, here, second
        return [
            self._update(topic, here, before, changes.block.times)
            for topic in self._wanted_of.get("", ())
            if topic.kind is Kind.ALL_MIDS
        ]

    # --- statuses ---------------------------------------------------------------------------------

    def _apply_statuses(self, raw: RawBlock, *, is_behind_a_hole: bool) -> list[Envelope]:
        if is_behind_a_hole and self._pairs.statuses_seen:
            self.faults["missing_statuses"] += 1
            self._l4.lost(self._pairs.statuses_seen + 1, raw.height - 1)
        return self._join(self._pairs.add_statuses(raw))

    def _join(self, pairs: Iterable[Pair]) -> list[Envelope]:
        out: list[Envelope] = []
        for pair in pairs:
            if pair.changes is not None and pair.status_lines is not None:
                details = find_details(pair.status_lines, [oid for _, oid in pair.changes.news])
                self._books.add_details(pair.changes, details)
            out += self._l4.apply(pair)
        return out

    # --- output -----------------------------------------------------------------------------------

    def snapshot(self, topic: Topic) -> Envelope:
        """The topic's whole state as of the last block applied, or NOT_READY with the reason as
        payload.
        """
        if room := self._room_of.get(topic.kind):
            return room.snapshot(topic)
        if not self._books.is_ready:
            return self._not_ready(topic)
        times, here = self._books.times, Position(self._books.height)
        payload = self._payload(topic, times)
        before = ORIGIN
        if topic.is_chained:
            feeds = self._l4 if topic.kind in L4_KINDS else self._l2_diffs
            before = feeds.place(topic)
            if before == end_of(self._books.height):
                here = before  # behind a correction, which it contains
        return Envelope(topic.name, self._epoch, here, before, Role.SNAPSHOT, payload, times)

    def _reset(self, topic: Topic, why: str = CORRECTED) -> Envelope:
        feeds = self._l4 if topic.kind in L4_KINDS else self._l2_diffs
        here, before = end_of(self._books.height), feeds.place(topic)
        times = self._books.times
        return Envelope(topic.name, self._epoch, here, before, Role.RESET, why.encode(), times)

    def _update(self, topic: Topic, here: Position, before: Position, times: Times) -> Envelope:
        payload = self._payload(topic, times)
        return Envelope(topic.name, self._epoch, here, before, Role.UPDATE, payload, times)

    def _is_behind_a_hole(self, raw: RawBlock) -> bool:
        """Whether blocks of this kind are missing before this one, as far as can be told."""
        if raw.previous is not None:
            self._vouched.add(raw.kind)
            return False
        return raw.kind in self._vouched

    def _not_ready(self, topic: Topic) -> Envelope:
        why = NOT_READY.encode()
        return Envelope(topic.name, self._epoch, ORIGIN, ORIGIN, Role.NOT_READY, why)

    def _payload(self, topic: Topic, times: Times) -> bytes:
        time_ms = times.block_ns // 1_000_000
        if topic.kind is Kind.ALL_MIDS:
            return frames.all_mids(self._mids(topic.dex), dex=topic.dex)
        # A checkpoint holds every coin with orders, so one it lacks has an empty book.
        book = self._books.by_coin.get(topic.coin) or L4Book(topic.coin, self.faults)
        if topic.kind is Kind.BBO:
            return frames.bbo(book, time_ms=time_ms)
        height = self._books.height
        if topic.kind in L4_KINDS:
            channel = topic.kind.value
            return frames.l4_snapshot(book, channel=channel, time_ms=time_ms, height=height)
        if topic.kind is Kind.L2_DIFF:
            view = self._view(book, topic)
            return l2_diffs.snapshot(topic, book, view, height=height, times=times)
        return frames.l2_book(
            book,
            self._view(book, topic),
            time_ms=time_ms,
            n_levels=min(topic.n_levels, FAST_LEVELS) if topic.fast else topic.n_levels,
            is_fast=topic.fast,
        )

    def _begin_diff(self, topic: Topic) -> None:
        """The topic's next frame is the difference to the book as it is now."""
        book = self._books.by_coin.get(topic.coin)
        view = book.l2.view(_grouping(topic)) if book else None
        self._l2_diffs.want(topic, view, height=self._books.height)

    def _view(self, book: L4Book, topic: Topic) -> View:
        view = book.l2.view(_grouping(topic))
        if topic not in self._wanted:
            self._drop_view(book, topic)  # a look in passing must not cost every later change
        return view

    def _drop_view(self, book: L4Book, topic: Topic) -> None:
        grouping = _grouping(topic)
        others = self._wanted_of.get(topic.coin, ())
        if grouping and all(_grouping(other) != grouping for other in others):
            book.l2.drop(grouping)

    def _mids(self, dex: str) -> dict[str, str]:
        prefix = f"{dex}:"
        mids: dict[str, str] = {}
        for coin, book in self._books.by_coin.items():
            if coin.startswith(prefix) if dex else ":" not in coin:
                bid, ask = _best(book)
                mid = render_mid(bid.px, ask.px) if bid and ask else self._trades.tape.last_px(coin)
                if mid is not None:
                    mids[coin] = mid
        return mids

    def _note_time(self, times: Times) -> None:
        self.block_time_ns = max(self.block_time_ns, times.block_ns)


def _files(topic: Topic) -> tuple[FileKind, ...]:
    # A mid without two sides of a book is the price of the last trade.
    extra = (FileKind.FILLS,) if topic.kind is Kind.ALL_MIDS else ()
    return tips.kinds_of(topic) + extra


def _reaching_back(gap: Envelope, first: int) -> Envelope:
    """The gap from block `first` on. Where frames have gone out since, that is no gap that another
    worker's silence can take back, but a correction of what was told."""
    before = end_of(first - 1)
    if gap.role is not Role.GAP or gap.previous <= before:
        return gap
    return replace(gap, previous=before, role=Role.RESET, payload=CAME_LATE.encode())


def _best(book: L4Book) -> _TopBest:
    exact = book.l2.exact
    return exact.bids.best(), exact.asks.best()


def _grouping(topic: Topic) -> Grouping | None:
    return None if topic.n_sig_figs is None else Grouping(topic.n_sig_figs, topic.mantissa or 1)
