"""One customer's way out: straight into the kernel while the socket takes it, else a bounded
outbox.

Delivered means handed to a writable socket: a frame is metered when its last byte has entered the
kernel, so what an edge held in its own buffers when it died was never billed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streaming.core.hub import Batch, tally
from streaming.core.outbox import Fate, Frame, Outbox
from streaming.ws import close_codes

#: What the transport gets at a time when the kernel is full. Small, because it is copied.
PIECE_BYTES = 64 * 1024


class Wire(Protocol):
    """The socket below, as far as the writer needs it."""

    def send(self, data: bytes | memoryview) -> int:
        """Hand bytes to the kernel; returns how many it took (0 when full). Raises OSError when the
        peer is gone."""

    def buffer(self, data: bytes) -> None:
        """Leave bytes with the transport, which calls `Writer.blocked` now and `Writer.resume` when
        the kernel has all."""


class Account(Protocol):
    """Counts what was delivered to one key."""

    def delivered(self, tally: list[tuple[str, int, int]]) -> None:
        """Add (channel, messages, payload bytes)."""


class Writer:
    """Implements `streaming.core.session.Sink` on a socket."""

    __slots__ = (
        "_account", "_counted", "_counted_bytes", "_in_flight", "_on_overflow", "_outbox", "_sent",
        "_wire",
        "conflated", "is_blocked", "is_closing", "shed", "stalled_since_s",
    )  # fmt: skip

    def __init__(self, wire: Wire, *, account: Account, on_overflow: Callable[[], None]) -> None:
        self._wire = wire
        self._account = account
        self._on_overflow = on_overflow
        self._outbox = Outbox(close_codes.MAX_OUTBOUND_BYTES)
        self._in_flight: Batch | None = None
        self._counted = 0  # frames of `_in_flight` already metered, and where the last of them ends
        self._counted_bytes = 0
        self._sent = (
            0  # bytes of `_in_flight` that have left our hands, the transport's buffer included
        )
        self.is_blocked = False
        self.is_closing = False
        self.stalled_since_s: float | None = None
        self.conflated = 0
        self.shed = 0

    def send(self, batch: Batch) -> None:
        """Deliver a batch now, or keep its frames until the socket takes more."""
        if self.is_closing:
            return
        if self.is_blocked:
            self._keep(batch.frames)
        else:
            self._write(batch)

    def control(self, frame: Frame) -> None:
        """Queue one control frame (ping, pong, close) in its place among the data."""
        if self.is_blocked:
            # Pongs to a client that asks and never reads count against its bound like everything
            # else.
            self._keep((frame,))
        else:
            self._write(Batch((frame,)))

    def blocked(self, *, now_s: float) -> None:
        """The transport holds bytes the kernel did not take."""
        if not self.is_blocked:
            self.is_blocked = True
            self.stalled_since_s = now_s

    def resume(self, *, now_s: float) -> None:
        """The transport's buffer is empty again: go on with what waits."""
        self.is_blocked = False
        self.stalled_since_s = None
        batch = self._in_flight
        if batch is not None:
            self._continue(batch)
        while not self.is_blocked and len(self._outbox):
            self._write(Batch(tuple(self._outbox.drain(close_codes.MAX_WRITE_BYTES))))

    def drop_waiting(self) -> None:
        """Forget what has not begun to leave; a frame cut in the middle still gets its rest."""
        self.shed += self._outbox.clear()
        self.is_closing = True

    @property
    def held_bytes(self) -> int:
        """Bytes this customer costs us now: waiting frames and the unsent rest of the current
        write."""
        in_flight = len(self._in_flight.wire) - self._sent if self._in_flight else 0
        return self._outbox.size_bytes + in_flight + (PIECE_BYTES if self.is_blocked else 0)

    def _keep(self, frames: tuple[Frame, ...]) -> None:
        in_flight = len(self._in_flight.wire) - self._sent if self._in_flight else 0
        for frame in frames:
            fate = self._outbox.offer(frame, held_bytes=in_flight)
            if fate is Fate.CONFLATED:
                self.conflated += 1
            elif fate is Fate.SHED:
                self.shed += 1
                self._on_overflow()
                return

    def _write(self, batch: Batch) -> None:
        wire = batch.wire
        try:
            sent = self._wire.send(wire)
        except OSError:
            # The transport notices by itself and ends the session; until then nothing more may be
            # tried.
            self.is_closing = True
            return
        if sent == len(wire):
            if batch.tally:
                self._account.delivered(batch.tally)
            return
        self._in_flight, self._sent = batch, sent
        self._counted = self._counted_bytes = 0
        self._count(batch)
        self._buffer_piece(batch)

    def _continue(self, batch: Batch) -> None:
        wire = batch.wire
        if self._sent < len(wire):
            try:
                self._sent += self._wire.send(memoryview(wire)[self._sent :])
            except OSError:
                self.is_closing = True
                return
        self._count(batch)
        if self._sent < len(wire):
            self._buffer_piece(batch)
        else:
            self._in_flight = None

    def _count(self, batch: Batch) -> None:
        """Meter the frames whose last byte is in the kernel; a kill must not cost more than the one
        being cut."""
        begun = self._counted
        for frame in batch.frames[begun:]:
            end = self._counted_bytes + len(frame.wire)
            if end > self._sent:
                break
            self._counted, self._counted_bytes = self._counted + 1, end
        if self._counted > begun:
            self._account.delivered(tally(batch.frames[begun : self._counted]))

    def _buffer_piece(self, batch: Batch) -> None:
        piece = batch.wire[self._sent : self._sent + PIECE_BYTES]
        self._sent += len(piece)
        self._wire.buffer(piece)
