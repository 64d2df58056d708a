"""The last known state of a topic at one edge: what a customer who joins a live topic gets
first."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Any

import orjson

from streaming.core.topic import CHAINED_KINDS, Kind, Topic

#: The exchange opens a trades subscription with the coin's last 30 trades, oldest first.
TRADES_IN_SNAPSHOT = 30


class StateSnapshot:
    """A state topic's newest frame is its snapshot."""

    __slots__ = ("_payload",)

    def __init__(self) -> None:
        self._payload: bytes | None = None

    def start(self, payload: bytes) -> None:
        """Begin from a snapshot frame; an empty one says that there is none yet."""
        self._payload = payload or None

    def extend(self, payload: bytes) -> None:
        """Take the topic's next frame."""
        self._payload = payload

    def frame(self) -> bytes | None:
        """The frame for somebody new, or None while nothing is known."""
        return self._payload


class TradesSnapshot:
    """The last trades of a coin, kept as frames and put together only when somebody joins.

    Joins are rare and frames are not, so nothing is parsed until a join asks for it.
    """

    __slots__ = ("_frames", "_is_start", "_joined")

    def __init__(self) -> None:
        # A frame holds at least one trade, so this many frames are always enough.
        self._frames: deque[bytes] = deque(maxlen=TRADES_IN_SNAPSHOT + 1)
        self._joined: bytes | None = None
        self._is_start = False

    def start(self, payload: bytes) -> None:
        """Begin from a snapshot frame."""
        self._frames.clear()
        self.extend(payload)
        self._is_start = True

    def extend(self, payload: bytes) -> None:
        """Take the topic's next frame."""
        self._frames.append(payload)
        self._joined = None
        self._is_start = False

    def missing(self, payload: bytes) -> tuple[bytes | None, bool]:
        """The trades of a newer snapshot that are not known here, as a frame or None, and whether
        they are all: True when the two overlap, so that nothing lies between.
        """
        known = {_identity(trade) for trade in self._trades()}
        newer = orjson.loads(payload)["data"]
        fresh = [trade for trade in newer if _identity(trade) not in known]
        is_all = len(fresh) < len(newer) or not fresh
        return (_frame(fresh) if fresh else None), is_all

    def frame(self) -> bytes | None:
        """The last 30 trades as one frame, oldest first; None while there were none."""
        if len(self._frames) == 1 and self._is_start:
            return self._frames[0] if self._trades() else None  # as it came, byte for byte
        if self._joined is None:
            trades = self._trades()
            if not trades:
                return None
            self._joined = _frame(trades[-TRADES_IN_SNAPSHOT:])
        return self._joined

    def _trades(self) -> list[dict[str, Any]]:
        return [trade for payload in self._frames for trade in orjson.loads(payload)["data"]]


def _frame(trades: list[dict[str, Any]]) -> bytes:
    return b'{"channel":"trades","data":' + orjson.dumps(trades) + b"}"


def _identity(trade: dict[str, Any]) -> tuple[Any, Any]:
    """`tid` is unique only together with the time. Source: the exchange's documentation."""
    return trade.get("time"), trade.get("tid")


class NoSnapshot:
    """A topic whose snapshot only the upstream worker can make (`l4Book`: 19 MB for BTC), or that
    has none."""

    __slots__ = ()

    def start(self, payload: bytes) -> None:
        """Nothing is kept."""

    def extend(self, payload: bytes) -> None:
        """Nothing is kept."""

    def frame(self) -> None:
        """Never known here: ask the worker."""


class Opening(Enum):
    """What somebody new gets first, and from where."""

    STATE = auto()  # the newest frame, known at the edge
    TRADES = auto()  # the last trades, known at the edge
    WORKER = auto()  # a snapshot that the worker makes for them
    NOTHING = auto()  # the next frame


_WORKER_KINDS = CHAINED_KINDS | {
    Kind.USER_FILLS,
    Kind.USER_TWAP_SLICE_FILLS,
    Kind.USER_TWAP_HISTORY,
    Kind.USER_FUNDINGS,
    Kind.USER_LEDGER,
    Kind.USER_HISTORICAL_ORDERS,
    Kind.FAST_ASSET_CTXS,  # first all, then what changed
}


def opening_of(topic: Topic) -> Opening:
    """How a follower of `topic` begins."""
    if topic.is_state:
        return Opening.STATE
    if topic.kind is Kind.TRADES:
        return Opening.TRADES
    return Opening.WORKER if topic.kind in _WORKER_KINDS else Opening.NOTHING


Snapshot = StateSnapshot | TradesSnapshot | NoSnapshot


def snapshot_for(topic: Topic) -> Snapshot:
    """An empty snapshot of the right kind."""
    if topic.is_state:
        return StateSnapshot()
    return TradesSnapshot() if topic.kind is Kind.TRADES else NoSnapshot()
