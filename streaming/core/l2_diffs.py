"""`l2Diff`: a book by price as a snapshot, and then only the levels that changed, block by block.

A level comes with its whole size and number of orders; one that is gone, or has left the window of
`nLevels`, comes with size "0.0" and 0 orders, and one that moves into it comes like a new one. So a
copy kept by price is, after every frame, the window itself.

Every 64th height at which something changed, and every snapshot, carries a checksum of the best 20
levels of each side (fewer where the window has fewer): CRC-32 of `px:sz` joined by commas, bids
first, a bar between the sides, as the frames write the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from streaming.core.book.l2 import View
from streaming.core.book.l4 import L4Book
from streaming.core.decimals import render, render_price
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.topic import Topic

CHECKSUM_EVERY = 64
CHECKSUM_LEVELS = 20

Level = tuple[int, int, int]  # price and size in 1e-8, orders
Window = tuple[list[Level], list[Level]]


@dataclass(slots=True)
class _Track:
    position: Position
    sent: Window = field(default_factory=lambda: ([], []))


class L2Diffs:
    """The wanted `l2Diff` topics."""

    def __init__(self) -> None:
        self.epoch = ""
        self._tracks: dict[Topic, _Track] = {}

    def want(self, topic: Topic, view: View | None, *, height: int) -> None:
        """Publish the changes after block `height`; `view` is the book then, None without one."""
        self._tracks[topic] = _Track(end_of(height), _window(topic, view))

    def rebase(self, topic: Topic, view: View, *, height: int) -> None:
        """The book was another: the next frame is the difference to `view`, that of block `height`,
        and follows its end."""
        self.want(topic, view, height=height)

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        del self._tracks[topic]

    def place(self, topic: Topic) -> Position:
        """Where the topic's last frame stands."""
        track = self._tracks.get(topic)
        return track.position if track else ORIGIN

    def changed(
        self, topic: Topic, book: L4Book, view: View, *, height: int, times: Times
    ) -> Envelope | None:
        """The frame of a block that changed the coin's book; None when the window did not."""
        track = self._tracks[topic]
        before, now = track.sent, _window(topic, view)
        bids, asks = _difference(before[0], now[0]), _difference(before[1], now[1])
        if not bids and not asks:
            return None
        tail = b',"checksum":%d' % checksum(now) if height % CHECKSUM_EVERY == 0 else b""
        payload = _render(book, (bids, asks), height=height, times=times, tail=tail)
        here, previous = Position(height), track.position
        track.sent, track.position = now, here
        return Envelope(topic.name, self.epoch, here, previous, Role.UPDATE, payload, times)


def snapshot(topic: Topic, book: L4Book, view: View, *, height: int, times: Times) -> bytes:
    """The whole window, as a frame."""
    now = _window(topic, view)
    tail = b',"snapshot":true,"checksum":%d' % checksum(now)
    return _render(book, now, height=height, times=times, tail=tail)


def checksum(window: Window) -> int:
    """CRC-32 of the best levels of both sides."""
    sides = (
        ",".join(f"{render_price(px)}:{render(sz)}" for px, sz, _ in side[:CHECKSUM_LEVELS])
        for side in window
    )
    return crc32("|".join(sides).encode())


def _window(topic: Topic, view: View | None) -> Window:
    if view is None:
        return [], []
    return view.bids.top(topic.n_levels), view.asks.top(topic.n_levels)


def _difference(before: list[Level], now: list[Level]) -> list[Level]:
    """The levels of `now` that are new or other than before, and those that are gone."""
    if before == now:
        return []
    known, prices = set(before), {level[0] for level in now}
    return [
        *(level for level in now if level not in known),
        *((px, 0, 0) for px, _, _ in before if px not in prices),
    ]


def _render(book: L4Book, window: Window, *, height: int, times: Times, tail: bytes) -> bytes:
    bids, asks = (
        ",".join(
            f'{{"px":"{render_price(px)}","sz":"{render(sz)}","n":{n}}}' for px, sz, n in side
        ).encode()
        for side in window
    )
    head = b'{"channel":"l2Diff","data":{"coin":%b,"time":%d,"height":%d' % (
        book.coin_json,
        times.block_ns // 1_000_000,
        height,
    )
    return b'%b,"levels":[[%b],[%b]]%b}}' % (head, bids, asks, tail)
