"""Trades and candles, from fills alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

from streaming.core import node_lines
from streaming.core.blocks import FileKind, OpenBlock, RawBlock
from streaming.core.candles import Candles
from streaming.core.early_trades import EarlyTrade, EarlyTrades
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.topic import Kind, Topic
from streaming.core.trades import Print, Tape

LOST = "no node has the fills"
NOT_WHOLE = "This candle began before the relay saw all trades; the next one is served"


class TradeFeeds:
    """`trades` and `candle` of all coins. `block_time_ns` is that of the newest block of fills."""

    KINDS: ClassVar[frozenset[Kind]] = frozenset({Kind.TRADES, Kind.CANDLE})
    FILES: ClassVar[frozenset[FileKind]] = frozenset({FileKind.FILLS})

    def __init__(self, faults: Counter[str]) -> None:
        self.epoch = ""
        self.block_time_ns = 0
        self.tape = Tape(faults)
        self._faults = faults
        self._early = EarlyTrades(self.tape)
        self._candles = Candles()
        self._wanted: set[Topic] = set()
        self._candles_of: dict[str, dict[Topic, Position]] = {}  # by coin: the last frame's place
        self._seen = 0
        self._told_from: Position | None = None  # trades after this were published, if wanted

    # --- demand -----------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether there is a block from which on all trades are known: before that a snapshot says
        nothing.
        """
        return self._told_from is not None

    def can_serve(self, topic: Topic) -> bool:
        """Whether there is, or could be, a frame of the topic now."""
        if topic.kind is Kind.TRADES:
            return True
        return self.has_begun and self._candles.is_whole(topic.interval, now_ms=self._now_ms)

    def want(self, topic: Topic) -> None:
        """Publish the topic's frames from the next block on; idempotent."""
        if topic.kind is Kind.CANDLE:
            self._candles_of.setdefault(topic.coin, {}).setdefault(topic, ORIGIN)
        else:
            self._wanted.add(topic)

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        self._wanted.discard(topic)
        own = self._candles_of.get(topic.coin, {})
        own.pop(topic, None)
        if not own:
            self._candles_of.pop(topic.coin, None)

    # --- input ------------------------------------------------------------------------------------

    def prime(self, blocks: Iterable[RawBlock]) -> None:
        """Take in older fills; nothing is published."""
        for raw in blocks:
            if raw.kind is FileKind.FILLS and not self.has_begun and raw.height > self._seen:
                self._take(raw)

    def apply_open(self, block: OpenBlock, *, source: str) -> list[Envelope]:
        """The frames of `by_event` topics that the lines so far of a block make; none where it is
        not known to be the next one."""
        is_next = block.height == self._seen + 1 or (
            block.previous is not None and block.previous <= self._seen < block.height
        )
        if not self._told_from or not is_next or not any(t.by_event for t in self._wanted):
            return []
        trades, times = self._early.take(block, source=source)
        return list(self._early_frames(trades, times))

    def _early_frames(self, trades: Iterable[EarlyTrade], times: Times) -> Iterable[Envelope]:
        for trade in trades:
            topic = Topic(Kind.TRADES, trade.coin, by_event=True)
            if topic in self._wanted:
                yield self._update(topic, trade.position, trade.previous, trade.payload, times)

    def apply(self, raw: RawBlock) -> list[Envelope]:
        """The frames of one block of fills."""
        taken = self._take(raw)
        if self._told_from is None:
            self._told_from = end_of(raw.height - 1)
        if taken is None:
            return []
        prints, times = taken
        out: list[Envelope] = []
        for made in prints:
            topic = Topic(Kind.TRADES, made.coin)
            if topic in self._wanted:
                out.append(self._update(topic, made.position, made.previous, made.payload, times))
            if made.coin in self._candles_of:
                out += self._candle_frames(made, times)
        out += self._early_frames(self._early.close(raw.height, prints), times)
        return out

    def lost(self, kind: FileKind, height: int) -> list[Envelope]:
        """Fills up to block `height` are missing: the gaps of trades; candles wait for the next."""
        del kind
        self._faults["missing_fills"] += 1
        place, times = end_of(height), Times(block_ns=self.block_time_ns)
        out = [
            Envelope(
                topic.name, self.epoch, place, self._place(topic), Role.GAP, LOST.encode(), times
            )
            for topic in sorted(self._wanted)
        ]  # fmt: skip
        for own in self._candles_of.values():
            out += [self._not_ready(topic, NOT_WHOLE) for topic in own]
        self.tape.lost(height)
        self._seen = max(self._seen, height)
        self._early.reset()
        self._candles.since_ms = None  # until the next block tells its time
        return out

    def _take(self, raw: RawBlock) -> tuple[list[Print], Times] | None:
        block = node_lines.decode(raw, self._faults)
        if block is None:
            return None
        is_next = raw.height == self._seen + 1
        is_behind_a_hole = not is_next and (raw.previous is None or raw.previous > self._seen)
        if is_behind_a_hole and not self.has_begun:
            # What opens a subscription has no hole: history that does not reach up to this block is
            # forgotten.
            self.tape.lost(raw.height - 1)
            self._candles.since_ms = None
        self._seen = raw.height
        self.block_time_ns = max(self.block_time_ns, block.times.block_ns)
        if self._candles.since_ms is None:
            self._candles.begin(block.time_ms)
        prints = self.tape.apply(block.height, block.events)
        for made in prints:
            try:
                self._candles.add(made.trades)
            except ValueError:
                self._faults["bad_fill"] += 1
        return prints, block.times

    # --- output -----------------------------------------------------------------------------------

    def _place(self, topic: Topic) -> Position:
        room = self._early if topic.by_event else self.tape
        return room.place(topic.coin)

    @property
    def _now_ms(self) -> int:
        return self.block_time_ns // 1_000_000

    def snapshot(self, topic: Topic) -> Envelope:
        """The last trades, or the open candle (an empty payload before its first trade)."""
        times = Times(block_ns=self.block_time_ns)
        if topic.kind is Kind.TRADES:
            position, payload = self.tape.recent(topic.coin)
            if topic.by_event:
                position, payload = self._early.place(topic.coin), self._early.recent(topic.coin)
            place = max(position, self._told_from or ORIGIN)
            return Envelope(topic.name, self.epoch, place, ORIGIN, Role.SNAPSHOT, payload, times)
        if not self.can_serve(topic):
            return self._not_ready(topic, NOT_WHOLE)
        frame = self._candles.frame(topic.coin, topic.interval, now_ms=self._now_ms)
        place = Position(self._seen)
        return Envelope(topic.name, self.epoch, place, ORIGIN, Role.SNAPSHOT, frame or b"", times)

    def _candle_frames(self, made: Print, times: Times) -> list[Envelope]:
        here, own = Position(made.position.height), self._candles_of[made.coin]
        out: list[Envelope] = []
        for topic, before in own.items():
            frame = self._candles.frame(topic.coin, topic.interval, now_ms=self._now_ms)
            if frame is not None:
                own[topic] = here
                out.append(self._update(topic, here, before, frame, times))
        return out

    def _update(
        self, topic: Topic, here: Position, before: Position, payload: bytes, times: Times, /
    ) -> Envelope:
        return Envelope(topic.name, self.epoch, here, before, Role.UPDATE, payload, times)

    def _not_ready(self, topic: Topic, why: str) -> Envelope:
        return Envelope(topic.name, self.epoch, ORIGIN, ORIGIN, Role.NOT_READY, why.encode())
