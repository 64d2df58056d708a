"""Trades of a block that a node is still writing, each by itself.

A `_streaming` file tells no block's end: a block of fills counts as closed when a later one begins,
or after some quiet (`tail.QUIET_S`). Who does not want to wait so long gets every trade when its
second side is written.

What is handed out is a function of the chain alone, whichever node wrote first and however much of
a block was seen at a time: one trade at the place of its second side. So two workers publish the
same. Of a block that was never seen open, everything comes when it closes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from streaming.core import node_lines
from streaming.core.blocks import OpenBlock, RawBlock
from streaming.core.envelope import Position, Times, end_of
from streaming.core.trades import RECENT, Print, Tape, Trade, render_trades


class EarlyTrade(NamedTuple):
    """One trade, its place, and the place of the coin's trade before."""

    coin: str
    position: Position
    previous: Position
    payload: bytes


class EarlyTrades:
    """What `tape` does not know yet. Tell it of every block that the tape has taken (`close`)."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._begin(0)

    def _begin(self, height: int) -> None:
        self._height = height
        self._events = 0  # of the block, seen
        self._lines = ("", 0)  # of whom, and how many lines that was
        self._pairing = self._tape.pairing_ahead()
        self._shown: dict[str, list[Trade]] = {}

    def take(self, block: OpenBlock, *, source: str) -> tuple[list[EarlyTrade], Times]:
        """The trades that the lines so far complete and nobody had before."""
        if block.height > self._height:
            self._begin(block.height)
        known_of, known_lines = self._lines
        is_same = known_of == source and known_lines <= len(block.lines)
        lines = block.lines[known_lines:] if is_same else block.lines
        news = RawBlock(block.kind, block.height, lines, block.read_ns)
        # What cannot be read is counted when the block has closed.
        decoded = node_lines.decode(news, Counter()) if block.height == self._height else None
        if decoded is None:
            return [], Times()
        # Every node writes the same events in the same order: another one's are skipped as far as
        # they are known.
        events = decoded.events if is_same else decoded.events[self._events :]
        if is_same or events:
            self._lines = source, len(block.lines)
        begin, self._events = self._events, self._events + len(events)
        trades = self._pairing.pair(block.height, events, begin=begin)
        return self._show(trades), decoded.times

    def close(self, height: int, prints: Sequence[Print]) -> list[EarlyTrade]:
        """The tape has taken block `height`: the trades of it that were not seen while it was
        open."""
        if self._height != height:
            self._begin(height)
        out: list[EarlyTrade] = []
        for made in prints:
            shown = self._shown.get(made.coin, [])
            before = Position(height, shown[-1].last) if shown else made.previous
            known = {trade.json for trade in shown}
            missing = sorted(
                (trade for trade in made.trades if trade.json not in known), key=lambda t: t.last
            )
            late = [trade for trade in missing if shown and trade.last <= shown[-1].last]
            for trade in missing[len(late) :]:
                here = Position(height, trade.last)
                out.append(EarlyTrade(made.coin, here, before, render_trades([trade.json])))
                before = here
            if late:
                # Two nodes wrote the block differently. Nothing may be left out.
                payload = render_trades(trade.json for trade in late)
                out.append(EarlyTrade(made.coin, end_of(height), before, payload))
        self._begin(height + 1)
        return out

    def reset(self) -> None:
        """Blocks were lost."""
        self._begin(0)

    def place(self, coin: str) -> Position:
        """Where the coin's newest trade stands."""
        shown = self._shown.get(coin)
        return Position(self._height, shown[-1].last) if shown else self._tape.place(coin)

    def recent(self, coin: str) -> bytes:
        """The coin's last trades as one frame, oldest first."""
        ahead = [trade.json for trade in self._shown.get(coin, ())]
        return render_trades([*self._tape.trades(coin), *ahead][-RECENT:])

    def _show(self, trades: list[Trade]) -> list[EarlyTrade]:
        out: list[EarlyTrade] = []
        for trade in sorted(trades, key=lambda trade: trade.last):
            before, here = self.place(trade.coin), Position(self._height, trade.last)
            self._shown.setdefault(trade.coin, []).append(trade)
            out.append(EarlyTrade(trade.coin, here, before, render_trades([trade.json])))
        return out
