"""A node's files → the frames of every topic somebody wants. No clock, no I/O: blocks in, envelopes
out.

Each envelope names the place of the frame before it in its topic, whether or not that one was
wanted at the time, so two workers that began at different moments publish the same thing. Where the
frame before is not known (at the start, after a loss, and for l4Book when it was not wanted: what
touched a coin is known only from statuses, which are not decoded unless wanted), `previous` is the
end of the last block that was not seen: the later worker claims less, and never otherwise.

What a hole in a kind of file takes from a topic of events is told by an envelope with `Role.GAP`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from streaming.core import node_lines
from streaming.core.block_pairs import BlockPairs, Pair
from streaming.core.blocks import FileKind, RawBlock
from streaming.core.book import frames, l4_statuses
from streaming.core.book.l2 import Best, Grouping, View
from streaming.core.book.l4 import L4Book
from streaming.core.book.statuses import find_details
from streaming.core.books import BUFFER_BYTES, Books, Changes, CheckpointBooks, CheckpointTooOld
from streaming.core.decimals import render_mid
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.topic import FAST_LEVELS, Kind, Topic
from streaming.core.trades import Tape

__all__ = ["NOT_READY", "CheckpointTooOld", "Market"]

LOST_FILLS = "no node has the fills"
LOST_STATUSES = "no node has the order statuses"
NOT_READY = "Order book not ready for streaming (waiting for snapshot)"

L4Status = l4_statuses.Status | dict[str, Any]
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
        self._tape = Tape(self.faults)
        self._pairs = BlockPairs()
        self._fills_seen = 0
        self._told_from: Position | None = None  # trades after this were published, if wanted
        self._vouched: set[FileKind] = set()  # whose last block came with a `previous`
        self._wanted: dict[Topic, None] = {}
        self._wanted_of: dict[str, dict[Topic, None]] = {}  # by coin, without trades
        self._tracks: dict[str, _Track] = {}
        self._mids_position = ORIGIN
        self._mids_second = 0
        self._l4_positions: dict[str, Position] = {}  # by wanted coin
        self._l4_from = 0
        self._l4_hole: tuple[int, int] | None = None  # blocks whose statuses no node has
        self._coins: frozenset[str] = frozenset()

    # --- state ------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether the books follow the files."""
        return self._books.is_ready

    @property
    def has_diffs(self) -> bool:
        """Whether changes have been seen: a checkpoint asked for from now on joins them."""
        return self._books.seen > 0

    @property
    def has_fills(self) -> bool:
        """Whether there is a block of fills from which on all are known: before that a snapshot of
        trades says nothing.
        """
        return self._told_from is not None

    @property
    def height(self) -> int:
        """The last block the books contain; 0 before a checkpoint."""
        return self._books.height

    @property
    def wanted(self) -> Sequence[Topic]:
        """The topics of which updates are published."""
        return list(self._wanted)

    def coins(self) -> frozenset[str]:
        """Every coin that has shown a book or a trade."""
        if not self._books.by_coin.keys() <= self._coins or not self._coins.issuperset(
            self._tape.coins
        ):
            self._coins = self._coins.union(self._books.by_coin, self._tape.coins)
        return self._coins

    def set_epoch(self, epoch: str) -> None:
        """Everything from now on carries `epoch`; places go on."""
        self._epoch = epoch

    def want(self, topic: Topic) -> None:
        """Publish the topic's frames from the next block on; idempotent."""
        if topic in self._wanted:
            return
        self._wanted[topic] = None
        if topic.kind is not Kind.TRADES:
            self._wanted_of.setdefault(topic.coin, {})[topic] = None
        if topic.kind is Kind.L4_BOOK:
            known = max(self._pairs.done, self._l4_from - 1)
            self._l4_positions[topic.coin] = end_of(known)

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        if topic not in self._wanted:
            return
        del self._wanted[topic]
        if topic.kind is Kind.L4_BOOK:
            del self._l4_positions[topic.coin]
        if topic.kind is Kind.TRADES:
            return
        others = self._wanted_of[topic.coin]
        del others[topic]
        if not others:
            del self._wanted_of[topic.coin]
        if topic.coin in self._books.by_coin:
            self._drop_view(self._books.by_coin[topic.coin], topic)

    # --- input ------------------------------------------------------------------------------------

    def apply(self, block: RawBlock) -> list[Envelope]:
        """The frames that one file's closed block makes, in order."""
        match block.kind:
            case FileKind.FILLS:
                return self._apply_fills(block)
            case FileKind.DIFFS:
                return self._apply_diffs(block)
            case FileKind.STATUSES:
                return self._apply_statuses(block)
        return []

    def prime(self, blocks: Iterable[RawBlock]) -> None:
        """Take in older fills for the trades history; nothing is published."""
        for raw in blocks:
            if raw.kind is not FileKind.FILLS or self._told_from is not None:
                continue
            if raw.height <= self._fills_seen:
                continue
            block = node_lines.decode(raw, self.faults)
            if block is not None:
                self._follow_history(raw)
                self._fills_seen = raw.height
                self._note_time(block.times)
                self._tape.apply(block.height, block.events)

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
        self._l4_from = self._books.height + 1
        here = end_of(self._books.height)
        self._l4_positions = dict.fromkeys(self._l4_positions, here)
        self._mids_position = here
        self._mids_second = self._books.times.block_ns // 1_000_000_000
        self._tracks = {
            coin: _Track(here, here, _best(book)) for coin, book in self._books.by_coin.items()
        }

    def finish(self) -> list[Envelope]:
        """The frames still waiting for another file: no more will come."""
        self._tape.finish()
        return self._join(self._pairs.finish())

    # --- fills ------------------------------------------------------------------------------------

    def _apply_fills(self, raw: RawBlock) -> list[Envelope]:
        if raw.height <= self._fills_seen:
            self.faults["old_block"] += 1
            return []
        block = node_lines.decode(raw, self.faults)
        if block is None:
            return []
        out: list[Envelope] = []
        is_behind_a_hole = self._is_behind_a_hole(raw)
        if self._told_from is None:
            self._told_from = end_of(raw.height - 1)
            self._follow_history(raw)
        elif is_behind_a_hole:
            self.faults["missing_fills"] += 1
            trades = [topic for topic in self._wanted if topic.kind is Kind.TRADES]
            out += [
                self._gap(t, self._tape.place(t.coin), raw.height - 1, LOST_FILLS) for t in trades
            ]
            self._tape.lost(raw.height - 1)
        self._fills_seen = raw.height
        self._note_time(block.times)
        for tape_print in self._tape.apply(block.height, block.events):
            topic = Topic(Kind.TRADES, tape_print.coin)
            if topic in self._wanted:
                out.append(
                    Envelope(
                        topic.name,
                        self._epoch,
                        tape_print.position,
                        tape_print.previous,
                        Role.UPDATE,
                        tape_print.payload,
                        block.times,
                    )
                )
        return out

    def _follow_history(self, raw: RawBlock) -> None:
        """What opens a trades subscription has no hole: history that does not reach up to this
        block is forgotten.
        """
        is_next = raw.height == self._fills_seen + 1
        if not is_next and (raw.previous is None or raw.previous > self._fills_seen):
            self._tape.lost(raw.height - 1)

    # --- book changes -----------------------------------------------------------------------------

    def _apply_diffs(self, raw: RawBlock) -> list[Envelope]:
        was_ready = self._books.is_ready
        changes = self._books.apply(raw)
        out: list[Envelope] = []
        if was_ready and not self._books.is_ready:
            out += [
                self._not_ready(topic) for topic in self._wanted if topic.kind is not Kind.TRADES
            ]
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
            elif topic.kind is Kind.L4_BOOK and coin in changes.listed:
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

    def _apply_statuses(self, raw: RawBlock) -> list[Envelope]:
        if raw.height <= self._pairs.statuses_seen:
            self.faults["old_block"] += 1
            return []
        if self._is_behind_a_hole(raw) and self._pairs.statuses_seen:
            self.faults["missing_statuses"] += 1
            from_height = self._l4_hole[0] if self._l4_hole else self._pairs.statuses_seen + 1
            self._l4_hole = (from_height, raw.height - 1)
        return self._join(self._pairs.add_statuses(raw))

    def _join(self, pairs: Iterable[Pair]) -> list[Envelope]:
        out: list[Envelope] = []
        for pair in pairs:
            if pair.changes is not None and pair.status_lines is not None:
                details = find_details(pair.status_lines, [oid for _, oid in pair.changes.news])
                self._books.add_details(pair.changes, details)
            out += self._pass_l4_hole(pair)
            if self._l4_positions and self._books.is_ready and pair.height >= self._l4_from:
                out += self._l4_frames(pair)
        return out

    def _pass_l4_hole(self, pair: Pair) -> list[Envelope]:
        """The gaps to tell before the first block behind a hole in the statuses."""
        if self._l4_hole is None or pair.height <= self._l4_hole[1]:
            return []
        (_, last), self._l4_hole = self._l4_hole, None
        return [
            self._gap(Topic(Kind.L4_BOOK, coin), before, last, LOST_STATUSES)
            for coin, before in self._l4_positions.items()
        ]

    def _l4_frames(self, pair: Pair) -> list[Envelope]:
        if self._l4_hole is not None and self._l4_hole[0] <= pair.height:
            return []  # without its statuses a frame would be half of one
        statuses, times = self._statuses_by_coin(pair)
        diffs = pair.changes.coins if pair.changes else {}
        if pair.changes is not None:
            times = pair.changes.block.times
        here = Position(pair.height)
        out: list[Envelope] = []
        for coin, before in list(self._l4_positions.items()):
            if coin not in self._books.by_coin or not (coin in statuses or coin in diffs):
                continue
            payload = frames.l4_updates(
                time_ms=times.block_ns // 1_000_000,
                height=pair.height,
                statuses=statuses.get(coin, ()),
                diffs=diffs.get(coin, ()),
            )
            self._l4_positions[coin] = here
            name = Topic(Kind.L4_BOOK, coin).name
            out.append(Envelope(name, self._epoch, here, before, Role.UPDATE, payload, times))
        return out

    def _statuses_by_coin(self, pair: Pair) -> tuple[dict[str, list[L4Status]], Times]:
        """The statuses of the coins whose l4Book is wanted."""
        if pair.status_lines is None:
            self.faults["block_without_statuses"] += 1
            return {}, Times()
        # In `_streaming` files a line is one event, and most are of other coins: left undecoded.
        needles = [b'"coin":%b' % orjson.dumps(coin) for coin in self._l4_positions]
        lines = [line for line in pair.status_lines if any(needle in line for needle in needles)]
        if not lines:
            return {}, Times()
        by_coin: dict[str, list[L4Status]] = {}
        times = Times()
        for line in lines:
            try:
                body = l4_statuses.read(line, pair.height)
                times = times if times.block_ns else _times(body.block_time, body.local_time)
                for event in body.events:
                    if event.order.coin in self._l4_positions:
                        by_coin.setdefault(event.order.coin, []).append(event)
            except ValueError:
                slow = self._statuses_patiently(line, pair.height, by_coin)
                times = times if times.block_ns else slow
        return by_coin, times

    def _statuses_patiently(
        self, line: bytes, height: int, by_coin: dict[str, list[L4Status]]
    ) -> Times:
        """One event that is not an order status must not cost the others of its line."""
        block = node_lines.decode(RawBlock(FileKind.STATUSES, height, [line], 0), self.faults)
        for event in block.events if block else ():
            try:
                coin = event["order"]["coin"]
                if coin in self._l4_positions:
                    status = l4_statuses.from_event(event)
                    by_coin.setdefault(coin, []).append(status)
            except (AttributeError, KeyError, TypeError):
                self.faults["bad_status"] += 1
        return block.times if block else Times()

    # --- output -----------------------------------------------------------------------------------

    def snapshot(self, topic: Topic) -> Envelope:
        """The topic's whole state as of the last block applied, or NOT_READY with the reason as
        payload.
        """
        if topic.kind is Kind.TRADES:
            position, payload = self._tape.recent(topic.coin)
            position = max(position, self._told_from or ORIGIN)
            times = Times(block_ns=self.block_time_ns)
            return Envelope(
                topic.name, self._epoch, position, ORIGIN, Role.SNAPSHOT, payload, times
            )
        if not self._books.is_ready:
            return self._not_ready(topic)
        times, here = self._books.times, Position(self._books.height)
        payload = self._payload(topic, times)
        is_l4 = topic.kind is Kind.L4_BOOK
        before = self._l4_positions.get(topic.coin, ORIGIN) if is_l4 else ORIGIN
        return Envelope(topic.name, self._epoch, here, before, Role.SNAPSHOT, payload, times)

    def _update(self, topic: Topic, here: Position, before: Position, times: Times) -> Envelope:
        payload = self._payload(topic, times)
        return Envelope(topic.name, self._epoch, here, before, Role.UPDATE, payload, times)

    def _is_behind_a_hole(self, raw: RawBlock) -> bool:
        """Whether blocks of this kind are missing before this one, as far as can be told."""
        was_vouched = raw.kind in self._vouched
        if raw.previous is not None:
            self._vouched.add(raw.kind)
            return False
        self._vouched.discard(raw.kind)
        return was_vouched

    def _gap(self, topic: Topic, before: Position, height: int, why: str) -> Envelope:
        """Tells that what `topic` had after `before`, up to block `height`, is lost."""
        if topic.kind is Kind.L4_BOOK:
            self._l4_positions[topic.coin] = end_of(height)
        times = Times(block_ns=self.block_time_ns)
        place = end_of(height)
        return Envelope(topic.name, self._epoch, place, before, Role.GAP, why.encode(), times)

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
        if topic.kind is Kind.L4_BOOK:
            return frames.l4_snapshot(book, time_ms=time_ms, height=self._books.height)
        return frames.l2_book(
            book,
            self._view(book, topic),
            time_ms=time_ms,
            n_levels=min(topic.n_levels, FAST_LEVELS) if topic.fast else topic.n_levels,
            is_fast=topic.fast,
        )

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
                mid = render_mid(bid.px, ask.px) if bid and ask else self._tape.last_px(coin)
                if mid is not None:
                    mids[coin] = mid
        return mids

    def _note_time(self, times: Times) -> None:
        self.block_time_ns = max(self.block_time_ns, times.block_ns)


def _times(block_time: str, local_time: str) -> Times:
    return Times(node_lines.parse_time_ns(block_time), node_lines.parse_time_ns(local_time))


def _best(book: L4Book) -> _TopBest:
    exact = book.l2.exact
    return exact.bids.best(), exact.asks.best()


def _grouping(topic: Topic) -> Grouping | None:
    return None if topic.n_sig_figs is None else Grouping(topic.n_sig_figs, topic.mantissa or 1)
