"""What one session gets in one tick: the frames, joined, and what they add to the meter."""

from __future__ import annotations

from collections.abc import Sequence

from streaming.core.counted import Counted
from streaming.core.outbox import Frame
from streaming.core.streams import Era, Item, RelayFrame, Stream

__all__ = ["Batch", "NumberedBatch", "Tally", "tally"]

#: (what it counts as, messages, payload bytes) of what counts.
Tally = list[tuple[Counted, int, int]]


class Batch:
    """Frames that are the same for everybody, joined once for all sessions that get these."""

    __slots__ = ("count", "frames", "tally", "wire")

    def __init__(self, frames: tuple[Frame, ...]) -> None:
        self.frames = frames
        self.count = len(frames)
        # One frame is by far the commonest batch: no copy.
        self.wire = (
            frames[0].wire if len(frames) == 1 else b"".join([frame.wire for frame in frames])
        )
        self.tally = tally(frames)


def tally(frames: Sequence[Frame]) -> Tally:
    """What `frames` add to the meter, without those that never count."""
    if len(frames) == 1:  # by far the commonest
        counted = frames[0].counted
        return [] if counted is None else [(counted, counted.messages, frames[0].text_bytes)]
    messages: dict[Counted, int] = {}
    sizes: dict[Counted, int] = {}
    for frame in frames:
        counted = frame.counted
        if counted is None:
            continue
        if counted in messages:
            messages[counted] += counted.messages
            sizes[counted] += frame.text_bytes
        else:
            messages[counted] = counted.messages
            sizes[counted] = frame.text_bytes
    return list(zip(messages, messages.values(), sizes.values(), strict=True))


class NumberedBatch:
    """Frames of the relay dialect, numbered as they leave: no two sessions get the same.

    Nearly always the socket takes all of it, so what most of it consists of (see `Item`) becomes
    text here without becoming frames: 1 µs for each instead of 5.
    """

    __slots__ = ("_before", "_frames", "_wire", "count", "items", "tally")

    def __init__(self, items: Sequence[Item]) -> None:
        self.count = len(items)
        self.items = items
        """As they were made, for a door that does not write text, and numbers them itself."""
        self._frames: tuple[Frame, ...] | None = None
        self._wire = b""
        self.tally: Tally = []
        """What it adds to the meter, as of `wire`."""
        # Of streams that name the frame before: where they stood before this batch.
        self._before: dict[Stream, tuple[Era | None, int]] | None = None

    @classmethod
    def numbered(
        cls,
        items: Sequence[Item],
        wire: bytes,
        tally: Tally,
        before: dict[Stream, tuple[Era | None, int]] | None,
    ) -> NumberedBatch:
        """One that was numbered elsewhere: its text, what it adds to the meter, and where streams
        that name the frame before stood."""
        batch = cls(items)
        batch._wire, batch.tally, batch._before = wire, tally, before
        return batch

    @property
    def wire(self) -> bytes:
        """All of it, numbered now."""
        if not self._wire:
            self._number()
        return self._wire

    @property
    def frames(self) -> tuple[Frame, ...]:
        """One by one, for a socket that did not take all: not numbered any more. As long as their
        `wire` is read in order they get the same numbers again.
        """
        if self._frames is None:
            if self._wire:
                self._take_back()
            self._frames = tuple(
                item if isinstance(item, Frame) else RelayFrame.of(*item) for item in self.items
            )
        return self._frames

    def _number(self) -> None:
        (first, *others) = self.items
        if not others and isinstance(first, tuple):  # by far the commonest
            stream, parts, _, era = first
            number = self._next(stream, era)
            size = len(number)
            begin = parts.begins.get(size) or parts.begin(size)
            self._wire = b"".join((begin, number, parts.rest))
            self.tally = [(stream.counted, 1, parts.size + size)]
            return
        pieces: list[bytes] = []
        # Two of numbers, because a pair for each of 1,000 coins is 1,000 objects more to collect.
        messages: dict[Counted, int] = {}
        sizes: dict[Counted, int] = {}
        counted: Counted | None
        for item in self.items:
            if isinstance(item, tuple):
                stream, parts, _, era = item
                number = self._next(stream, era)
                of_number = len(number)
                begin = parts.begins.get(of_number) or parts.begin(of_number)
                pieces += (begin, number, parts.rest)
                counted, one, text_bytes = stream.counted, 1, parts.size + of_number
            else:
                pieces.append(item.wire)
                counted, text_bytes = item.counted, item.text_bytes
                if counted is None:
                    continue
                one = counted.messages
            if counted in messages:
                messages[counted] += one
                sizes[counted] += text_bytes
            else:
                messages[counted] = one
                sizes[counted] = text_bytes
        self._wire = b"".join(pieces)
        self.tally = list(zip(messages, messages.values(), sizes.values(), strict=True))

    def _next(self, stream: Stream, era: Era) -> bytes:
        """The next number of the era, in its fields."""
        seq = era.seq = era.seq + 1
        number = b"%b%d" % (stream.head, seq)
        if stream.is_numbered:
            known = stream.last_era, stream.last_seq
            if self._before is None:
                self._before = {}
            self._before.setdefault(stream, known)
            stream.last_era, stream.last_seq = era, seq
            number += b',"prevSeq":%d' % (known[1] if known[0] is era else 0)
        return number

    def _take_back(self) -> None:
        # A frame among the items goes further back than where the light ones began.
        for stream, known in (self._before or {}).items():
            stream.last_era, stream.last_seq = known
        self._before = None
        for item in reversed(self.items):
            if isinstance(item, tuple):
                item[3].seq -= 1
            else:
                item.unnumber()
        self._wire = b""
