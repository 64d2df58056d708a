"""What is remembered of one topic of a public connection: for repetitions, and for those who join.

Each class takes the frames of one kind of feed and answers two questions: what of this frame is
news, and what would somebody new get.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson

from streaming.core.envelope import ORIGIN, Position, Times
from streaming.core.trades import RECENT, render_trades

#: Trades of a coin remembered against repetition. The exchange repeats the last 30 after every
#: subscribe.
MAX_REMEMBERED = 1_000
#: Items of a user feed kept for those who join. A `userFills` snapshot has at most so many.
MAX_ITEMS = 2_000
#: A user feed repeats its whole snapshot after every subscribe.
MAX_ITEMS_REMEMBERED = 2 * MAX_ITEMS
#: 1,600 names are 60 KB; this is no more than a guard against a frame that unpacks without end.
MAX_UNPACKED_BYTES = 8 * 1024 * 1024

Item = dict[str, Any]


@dataclass(slots=True)
class Known:
    """The place and time of a topic's last frame, and that frame.

    `is_resuming` holds from a reconnect to the first frame after it.
    """

    position: Position = ORIGIN
    time_ms: int = 0
    payload: bytes = b""
    times: Times = field(default_factory=Times)
    is_resuming: bool = False

    def snapshot(self) -> bytes:
        """What somebody new gets: the last frame."""
        return self.payload


@dataclass(slots=True)
class Trades(Known):
    """The last trades of a coin."""

    recent: deque[Item] = field(default_factory=lambda: deque(maxlen=RECENT))
    remembered: dict[tuple[int, int], None] = field(default_factory=dict)

    def snapshot(self) -> bytes:
        """The last 30 trades as one frame."""
        return render_trades(orjson.dumps(trade) for trade in self.recent)

    def fresh(self, trades: list[Item]) -> list[Item]:
        """Those never seen, which are remembered from now on."""
        remembered = self.remembered
        found: list[Item] = []
        for trade in trades:
            # `tid` is unique only together with the time. Source: the exchange's documentation.
            key = (trade["time"], trade["tid"])
            if key not in remembered:
                found.append(trade)
                remembered[key] = None
        while len(remembered) > MAX_REMEMBERED:
            del remembered[next(iter(remembered))]
        return found


@dataclass(slots=True)
class Items(Known):
    """A user feed that opens with a snapshot of its items."""

    kept: deque[Item] = field(default_factory=lambda: deque(maxlen=MAX_ITEMS))  # oldest first
    remembered: dict[bytes, None] = field(default_factory=dict)
    opening: bytes | None = None  # the snapshot frame, while nothing came after it
    is_newest_first: bool = True

    def fresh(self, items: list[Item]) -> list[Item]:
        """Those never seen, which are remembered from now on; in the order given."""
        if not all(isinstance(item, dict) for item in items):
            raise TypeError("not items")
        remembered = self.remembered
        found: list[Item] = []
        for item in items:
            # By content, because not every feed's items have an id.
            key = hashlib.blake2b(
                orjson.dumps(item, option=orjson.OPT_SORT_KEYS), digest_size=16
            ).digest()
            if key not in remembered:
                found.append(item)
                remembered[key] = None
        while len(remembered) > MAX_ITEMS_REMEMBERED:
            del remembered[next(iter(remembered))]
        return found

    def open(self, frame: bytes, items: list[Item]) -> None:
        """Begin with a snapshot."""
        self.opening = frame
        times = [_time(item) for item in items]
        # One item, or all of one time, says nothing: then as observed, newest first.
        self.is_newest_first = not times or times[0] >= times[-1]
        self.kept.clear()
        self.extend(items, is_newest_first=self.is_newest_first)

    def extend(self, items: list[Item], *, is_newest_first: bool) -> None:
        """Take further items."""
        self.kept.extend(reversed(items) if is_newest_first else items)

    def items(self) -> list[Item]:
        """What somebody new gets, in the order of the exchange's own snapshot."""
        kept = list(self.kept)
        return kept[::-1] if self.is_newest_first else kept


def _time(item: Item) -> int:
    inner = item.get("fill", item)
    time_ms = inner.get("time", inner.get("statusTimestamp", 0)) if isinstance(inner, dict) else 0
    return time_ms if isinstance(time_ms, int) else 0


@dataclass(slots=True)
class FastContexts(Known):
    """`fastAssetCtxs`: first everything, then what changed, packed."""

    contexts: dict[str, Item] = field(default_factory=dict)

    def extend(self, packed: str) -> None:
        """Take one frame's data. Raises ValueError or TypeError for anything that is not one."""
        try:
            stream = zlib.decompressobj(wbits=-15)
            text = stream.decompress(base64.b64decode(packed, validate=True), MAX_UNPACKED_BYTES)
        except zlib.error as error:
            raise ValueError("not DEFLATE") from error
        if not stream.eof:
            raise ValueError("too large, or cut off")
        changes = orjson.loads(text)
        if not all(isinstance(change, dict) for change in changes.values()):
            raise TypeError("not contexts")
        for coin, change in changes.items():
            self.contexts[coin] = {**self.contexts.get(coin, {}), **change}

    def snapshot(self) -> bytes:
        """Everything known, as one frame."""
        stream = zlib.compressobj(wbits=-15)
        packed = stream.compress(orjson.dumps(self.contexts)) + stream.flush()
        return b'{"channel":"fastAssetCtxs","data":"' + base64.b64encode(packed) + b'"}'
