"""The last known state of a topic at one edge: what a customer who joins a live topic gets
first."""

from __future__ import annotations

from collections import deque

import orjson

from streaming.core.topic import Kind, Topic

#: The exchange opens a trades subscription with the coin's last 30 trades, oldest first.
TRADES_IN_SNAPSHOT = 30


class StateSnapshot:
    """A state topic's newest frame is its snapshot."""

    __slots__ = ("_payload",)

    def __init__(self) -> None:
        self._payload: bytes | None = None

    def start(self, payload: bytes) -> None:
        """Begin from a snapshot frame."""
        self._payload = payload

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

    __slots__ = ("_frames", "_joined")

    def __init__(self) -> None:
        # A frame holds at least one trade, so this many frames are always enough.
        self._frames: deque[bytes] = deque(maxlen=TRADES_IN_SNAPSHOT + 1)
        self._joined: bytes | None = None

    def start(self, payload: bytes) -> None:
        """Begin from a snapshot frame."""
        self._frames.clear()
        self.extend(payload)

    def extend(self, payload: bytes) -> None:
        """Take the topic's next frame."""
        self._frames.append(payload)
        self._joined = None

    def frame(self) -> bytes | None:
        """The last 30 trades as one frame, oldest first; None while there were none."""
        if self._joined is None:
            trades = [trade for payload in self._frames for trade in orjson.loads(payload)["data"]]
            if not trades:
                return None
            data = orjson.dumps(trades[-TRADES_IN_SNAPSHOT:])
            self._joined = b'{"channel":"trades","data":' + data + b"}"
        return self._joined


class NoSnapshot:
    """A topic whose snapshot only the upstream worker can make (`l4Book`: 19 MB for BTC)."""

    __slots__ = ()

    def start(self, payload: bytes) -> None:
        """Nothing is kept."""

    def extend(self, payload: bytes) -> None:
        """Nothing is kept."""

    def frame(self) -> None:
        """Never known here: ask the worker."""


Snapshot = StateSnapshot | TradesSnapshot | NoSnapshot


def snapshot_for(topic: Topic) -> Snapshot:
    """An empty snapshot of the right kind."""
    if topic.is_state:
        return StateSnapshot()
    return TradesSnapshot() if topic.kind is Kind.TRADES else NoSnapshot()
