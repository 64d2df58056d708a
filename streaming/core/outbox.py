"""What waits for one customer while their socket is full: bounded in bytes, newest state wins,
events never dropped.

Bulk (`l4Book` and raw lines, 6 MB a second for BTC alone) is bounded by its age instead. Its frames
are the same objects for everybody who waits, so five seconds of it are 30 MB a process and not 30
MB a customer, while 1 MiB of it would be a sixth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from streaming.core.counted import Counted

#: How far behind a customer of bulk may fall, unless their plan says otherwise.
MAX_LAG_S = 5.0


class Fate(Enum):
    """What became of an offered frame. Every frame has exactly one."""

    QUEUED = auto()
    CONFLATED = auto()  # queued in the place of an older frame of the same state topic
    SHED = auto()  # refused: the customer is too far behind


class Frame:
    """One WebSocket message, encoded once and shared by all customers who get it.

    `counted` is what it counts as; None for what never counts (acks, pongs, errors). `topic` is the
    conflation key of a state topic and None for everything that must not be conflated.
    `text_bytes` is the size of the message without its WebSocket header: what is metered. `made_s`
    is when a frame of bulk was made, by a monotonic clock, and None for all others.
    """

    __slots__ = ("counted", "made_s", "payload", "text_bytes", "topic", "wire")

    def __init__(
        self,
        payload: bytes,
        *,
        counted: Counted | None = None,
        topic: str | None = None,
        made_s: float | None = None,
    ) -> None:
        self.made_s = made_s
        self.payload = payload
        self.counted = counted
        self.topic = topic
        self.text_bytes = len(payload)
        self.wire = wired(payload)

    def as_counted(self, counted: Counted) -> Frame:
        """The same frame, the same bytes, that counts as something else."""
        twin = Frame.__new__(Frame)
        twin.made_s, twin.topic, twin.counted = self.made_s, self.topic, counted
        twin.payload, twin.text_bytes, twin.wire = self.payload, self.text_bytes, self.wire
        return twin

    @property
    def size_bytes(self) -> int:
        """What the frame takes on the wire; at most, where that is not known before it leaves."""
        return len(self.wire)

    @property
    def wire_bytes(self) -> int:
        """The length of `wire`, without making it."""
        return len(self.wire)

    def cut(self, begin: int, end: int) -> bytes:
        """`wire[begin:end]`, without making more of it."""
        return self.wire[begin:end]

    def keep(self) -> None:
        """The frame does not leave yet: forget what it was given for leaving now."""

    def unnumber(self) -> None:
        """Forget the number it was given for leaving now, and nothing else."""

    def replace(self, older: Frame) -> None:
        """The frame takes the place of a waiting one of its topic."""

    def skip(self) -> bool:
        """The outbox is full: whether the customer goes on without the frame (and is told)."""
        return False

    def drop(self) -> None:
        """The frame was queued for a customer who will not get it: the connection ends."""


def wired(text: bytes) -> bytes:
    """A text with its header."""
    return header(len(text)) + text


def header(size: int) -> bytes:
    """What stands before a text of `size` bytes. RFC 6455 §5.2: FIN + text, unmasked from the
    server."""
    if size < 126:
        return bytes((0x81, size))
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


class Outbox:
    """Frames in the order they will leave: at most `max_bytes` of what is not bulk (one frame is
    always allowed), and of bulk what is at most `max_lag_s` old."""

    __slots__ = ("_frames", "_slots", "max_bytes", "max_lag_s", "size_bytes")

    def __init__(self, max_bytes: int, *, max_lag_s: float = MAX_LAG_S) -> None:
        self.max_bytes = max_bytes
        self.max_lag_s = max_lag_s
        self.size_bytes = 0
        self._frames: dict[str | int, Frame] = {}
        self._slots = 0

    def __len__(self) -> int:
        return len(self._frames)

    def offer(self, frame: Frame) -> Fate:
        """Queue `frame`, or replace the one waiting on its topic; refuse beyond the bounds."""
        frame.keep()
        slot = self._slot(frame)
        if frame.made_s is not None:
            if frame.made_s - self._bulk_since_s(frame.made_s) > self.max_lag_s:
                return Fate.SHED
            self._frames[slot] = frame
            return Fate.QUEUED
        replaced = self._frames.get(slot)
        size_bytes = self.size_bytes + frame.size_bytes - (replaced.size_bytes if replaced else 0)
        if size_bytes > self.max_bytes and self._frames:
            return Fate.SHED
        if replaced is not None:
            frame.replace(replaced)
        # A dict keeps the place of a replaced key, so order across topics survives conflation.
        self._frames[slot] = frame
        self.size_bytes = size_bytes
        return Fate.CONFLATED if replaced else Fate.QUEUED

    def append(self, frame: Frame) -> None:
        """Queue the last frame of all, whatever the bound: it says why there will be no more."""
        frame.keep()
        self._frames[self._slot(frame)] = frame
        self.size_bytes += _own_bytes(frame)

    def give_back(self, frames: Sequence[Frame]) -> None:
        """Put drained frames back in front of what waits; a newer state that waits replaces one."""
        later = self._frames
        self._frames = {}
        for frame in frames:
            frame.keep()
            self._frames[self._slot(frame)] = frame
        for slot, frame in later.items():
            older = self._frames.get(slot)
            if older is not None:
                frame.replace(older)
            self._frames[slot] = frame
        self.size_bytes = sum(map(_own_bytes, self._frames.values()))

    def _bulk_since_s(self, now_s: float) -> float:
        """When the oldest bulk that waits was made."""
        return next((f.made_s for f in self._frames.values() if f.made_s is not None), now_s)

    def _slot(self, frame: Frame) -> str | int:
        if frame.topic is not None:
            return frame.topic
        self._slots += 1
        return self._slots

    def drain(self, limit_bytes: int) -> list[Frame]:
        """Take frames from the front: at least one, then as many as fit into `limit_bytes`."""
        taken: list[Frame] = []
        taken_bytes = own_bytes = 0
        for slot in list(self._frames):
            frame = self._frames[slot]
            size_bytes = frame.size_bytes
            if taken and taken_bytes + size_bytes > limit_bytes:
                break
            taken.append(frame)
            taken_bytes += size_bytes
            own_bytes += _own_bytes(frame)
            del self._frames[slot]
        self.size_bytes -= own_bytes
        return taken

    def drop(self) -> list[Frame]:
        """Take everything, in order, to be dropped."""
        dropped = list(self._frames.values())
        self.clear()
        return dropped

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self.size_bytes = 0


def _own_bytes(frame: Frame) -> int:
    """What a waiting frame takes of this customer's bound."""
    return frame.size_bytes if frame.made_s is None else 0
