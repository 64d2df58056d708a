"""`l4Book` and `l4Diff`: what happened to a coin's orders, block by block.

A frame needs both files of a block, so these topics follow `BlockPairs`. `l4Diff` is `l4Book`
without the statuses of orders that left the book as it was: of BTC's 950 a block, 17 remain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

from streaming.core import node_lines
from streaming.core.block_pairs import Pair
from streaming.core.blocks import FileKind, RawBlock
from streaming.core.book import frames, l4_statuses
from streaming.core.books import Books
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.topic import Kind, Topic

L4_KINDS = frozenset({Kind.L4_BOOK, Kind.L4_DIFF})
LOST_STATUSES = "no node has the order statuses"
LATE_FILE = "the order statuses or the book changes are too late"

_Status = l4_statuses.Status | dict[str, Any]


class L4Feeds:
    """The wanted `l4Book` and `l4Diff` topics. `books` are read, never changed."""

    def __init__(self, faults: Counter[str], books: Books) -> None:
        self.epoch = ""
        self._faults, self._books = faults, books
        self._positions: dict[Topic, Position] = {}
        self._coins: frozenset[str] = frozenset()
        self._from_height = 0  # of the first block after the checkpoint
        self._hole: tuple[int, int] | None = None  # blocks whose statuses no node has

    def want(self, topic: Topic, *, done: int) -> None:
        """Publish from the block after `done` on: what touched a coin before is not known."""
        self._positions[topic] = end_of(max(done, self._from_height - 1))
        self._coins = frozenset(topic.coin for topic in self._positions)

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        del self._positions[topic]
        self._coins = frozenset(topic.coin for topic in self._positions)

    def restart(self, height: int) -> None:
        """The books begin anew after block `height`."""
        self._from_height = height + 1
        self._positions = dict.fromkeys(self._positions, end_of(height))

    def rebase(self, topic: Topic, *, height: int) -> None:
        """The book was another: the topic goes on behind block `height`, also where the statuses up
        to it are still to come."""
        self._positions[topic] = max(self._positions[topic], end_of(height))

    def lost(self, first: int, last: int) -> None:
        """No node has the statuses of these blocks: their frames would be half of one."""
        self._hole = (self._hole[0] if self._hole else first, last)

    def place(self, topic: Topic) -> Position:
        """Where the topic's last frame stands."""
        return self._positions.get(topic, ORIGIN)

    def apply(self, pair: Pair) -> list[Envelope]:
        """The frames of one block, both its files together, and the gaps before it."""
        if pair.is_cut:
            return self._cut(pair.height)
        out = self._pass_hole(pair)
        if not self._positions or not self._books.is_ready or pair.height < self._from_height:
            return out
        if self._hole is not None and self._hole[0] <= pair.height:
            return out
        statuses, times = self._statuses_by_coin(pair)
        diffs = pair.changes.coins if pair.changes else {}
        if pair.changes is not None:
            times = pair.changes.block.times
        here = Position(pair.height)
        for topic, before in list(self._positions.items()):
            if here <= before:
                continue  # contained in a corrected book
            coin = topic.coin
            own, changes = statuses.get(coin, []), diffs.get(coin, [])
            if topic.kind is Kind.L4_DIFF:
                own = _of_orders(own, changes)
            if coin not in self._books.by_coin or not (own or changes):
                continue
            payload = frames.l4_updates(
                channel=topic.kind.value,
                time_ms=times.block_ns // 1_000_000,
                height=pair.height,
                statuses=own,
                diffs=changes,
            )
            self._positions[topic] = here
            out.append(Envelope(topic.name, self.epoch, here, before, Role.UPDATE, payload, times))
        return out

    def _pass_hole(self, pair: Pair) -> list[Envelope]:
        """The gaps to tell before the first block behind a hole."""
        if self._hole is None or pair.height <= self._hole[1]:
            return []
        (first, last), self._hole = self._hole, None
        return self._gaps(first, last, LOST_STATUSES)

    def _cut(self, height: int) -> list[Envelope]:
        """One of the block's files is too late. That is told at the first such block; the end of
        the hole at the next whole one. In between each gap would cost every follower a snapshot."""
        is_news = self._hole is None
        self.lost(height, height)
        self._faults["block_cut"] += 1
        return self._gaps(height, height, LATE_FILE) if is_news else []

    def _gaps(self, first: int, last: int, why: str) -> list[Envelope]:
        """Blocks `first` to `last` are not whole; of a topic that has told one of them already,
        what it told is wrong."""
        place = end_of(last)
        gaps = [
            Envelope(
                topic.name,
                self.epoch,
                place,
                before,
                Role.RESET if first <= before.height and before.index == 0 else Role.GAP,
                why.encode(),
            )
            for topic, before in self._positions.items()
            if before < place
        ]
        self._positions = {t: max(before, place) for t, before in self._positions.items()}
        return gaps

    def _statuses_by_coin(self, pair: Pair) -> tuple[dict[str, list[_Status]], Times]:
        """The statuses of the coins that are wanted."""
        if pair.status_lines is None:
            self._faults["block_without_statuses"] += 1
            return {}, Times()
        # In `_streaming` files a line is one event, and most are of other coins: left undecoded.
        needles = [b'"coin":%b' % orjson.dumps(coin) for coin in self._coins]
        lines = [line for line in pair.status_lines if any(needle in line for needle in needles)]
        by_coin: dict[str, list[_Status]] = {}
        times = Times()
        for line in lines:
            try:
                body = l4_statuses.read(line, pair.height)
                times = times if times.block_ns else _times(body.block_time, body.local_time)
                for event in body.events:
                    if event.order.coin in self._coins:
                        by_coin.setdefault(event.order.coin, []).append(event)
            except ValueError:
                slow = self._statuses_patiently(line, pair.height, by_coin)
                times = times if times.block_ns else slow
        return by_coin, times

    def _statuses_patiently(
        self, line: bytes, height: int, by_coin: dict[str, list[_Status]]
    ) -> Times:
        """One event that is not an order status must not cost the others of its line."""
        block = node_lines.decode(RawBlock(FileKind.STATUSES, height, [line], 0), self._faults)
        for event in block.events if block else ():
            try:
                coin = event["order"]["coin"]
                if coin in self._coins:
                    by_coin.setdefault(coin, []).append(l4_statuses.from_event(event))
            except (AttributeError, KeyError, TypeError):
                self._faults["bad_status"] += 1
        return block.times if block else Times()


def _of_orders(statuses: Iterable[_Status], changes: Iterable[dict[str, Any]]) -> list[_Status]:
    """The statuses of the orders that the book changes are about."""
    oids = {b"%d" % event["oid"] for event in changes if type(event.get("oid")) is int}
    return [status for status in statuses if _oid(status) in oids] if oids else []


def _oid(status: _Status) -> bytes:
    if isinstance(status, l4_statuses.Status):
        return bytes(status.order.oid)
    return str(status["order"]["oid"]).encode()


def _times(block_time: str, local_time: str) -> Times:
    return Times(node_lines.parse_time_ns(block_time), node_lines.parse_time_ns(local_time))
