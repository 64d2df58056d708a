"""Messages of whole blocks: what leaves at once of one block is one message, in which each coin has
its own piece. It is metered by piece: packed or not, each is a message of its coin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.grpc import events
from gateway.grpc.envelopes import Made, Written
from gateway.grpc.plain import Plain, count
from gateway.grpc.statuses import CallEnds
from gateway.grpc.wire import number_field
from streaming.core.counted import Counted
from streaming.core.streams import Item, RelayFrame

#: Of every message that is packed.
TIME, HEIGHT = 1, 2


class Piece(NamedTuple):
    """One coin's part of a block's message: a repeated field, encoded."""

    time_ms: int
    height: int
    is_snapshot: bool
    body: bytes


#: One update as a piece, or as a whole message of its own; None where nothing is asked for.
#: Raises CallEnds.
Cutting = Callable[[RelayFrame], Piece | Made | None]


class Packed(Plain):
    """Implements `call_sink.Writing`."""

    def __init__(self, cut: Cutting, *, snapshot_field: int, is_gap_told: bool) -> None:
        """`snapshot_field`: the message's own number for "these are no changes"."""
        super().__init__(lambda _: (), is_gap_told=is_gap_told)
        self._cut = cut
        self._snapshot_field = snapshot_field

    def write(self, items: Sequence[Item]) -> Written:
        """All of `items`, up to one that ends the call. Snapshots and changes are not mixed."""
        messages: list[Made] = []
        tally: list[tuple[Counted, int, int]] = []
        pieces: list[bytes] = []  # of the message that is being made
        place: tuple[int, bool] | None = None  # its height, and whether it is of snapshots
        ends: CallEnds | None = None
        for item in items:
            frame = RelayFrame.of(*item) if isinstance(item, tuple) else item
            if not isinstance(frame, RelayFrame):
                if (ends := self.end(events.read(frame.payload))) is not None:
                    break
                continue
            frame.take_number()
            try:
                made = self._cut(frame)
            except CallEnds as over:
                ends = over
                break
            if made is None:
                continue
            size_bytes = 0
            if not isinstance(made, Piece) or place != (made.height, made.is_snapshot):
                if pieces:
                    messages.append(b"".join(pieces))
                pieces, place = [], None
            if not isinstance(made, Piece):
                messages.append(made)
                if frame.counted is not None:
                    count(tally, frame.counted, [made])
                continue
            if place is None:
                place = (made.height, made.is_snapshot)
                pieces.append(self._head(made))
                size_bytes = len(pieces[0])
            pieces.append(made.body)
            if frame.counted is not None:
                size_bytes += len(made.body)
                tally.append((frame.counted, frame.counted.messages, size_bytes))
        if pieces:
            messages.append(b"".join(pieces))
        return Written(messages, tally, ends)

    def _head(self, piece: Piece) -> bytes:
        return b"".join(
            (
                number_field(TIME, piece.time_ms),
                number_field(HEIGHT, piece.height),
                number_field(self._snapshot_field, piece.is_snapshot),
            )
        )
