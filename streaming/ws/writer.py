"""One customer's way out: straight into the kernel while the socket takes it, else a bounded
outbox.

Delivered means handed to a writable socket: a frame is metered when its last byte has entered the
kernel, so what an edge held in its own buffers when it died was never billed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from streaming.core.batch import Batch, NumberedBatch, Tally, tally
from streaming.core.outbox import MAX_LAG_S, Fate, Frame, Outbox
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

    def delivered(self, tally: Tally) -> None:
        """Add (what it counts as, messages, payload bytes)."""


class Writer:
    """Implements `streaming.core.session.Sink` on a socket."""

    __slots__ = (
        "_account", "_cut", "_on_overflow", "_on_ready", "_outbox", "_sent", "_wire",
        "conflated", "fd", "is_blocked", "is_closing", "sent", "shed", "stalled_since_s",
    )  # fmt: skip

    def __init__(
        self,
        wire: Wire,
        *,
        account: Account,
        on_overflow: Callable[[], None],
        max_lag_s: float = MAX_LAG_S,
        fd: int = -1,
    ) -> None:
        """`fd` is the socket's descriptor while it may be written to by it; -1: never."""
        self._wire = wire
        self.fd = fd
        self._account = account
        self._on_overflow = on_overflow
        self._outbox = Outbox(close_codes.MAX_OUTBOUND_BYTES, max_lag_s=max_lag_s)
        self._on_ready: list[Callable[[], None]] = []
        # The one frame that is partly in the kernel, and how much of it has left our hands (the
        # transport's buffer included). It is shared with everybody who gets it, and not bounded.
        self._cut: Frame | None = None
        self._sent = 0
        self.is_blocked = False
        self.is_closing = False
        self.stalled_since_s: float | None = None
        self.sent = 0  # frames, control frames too; these three are shown to operators
        self.conflated = 0
        self.shed = 0

    def send(self, batch: Batch | NumberedBatch) -> None:
        """Deliver a batch now, or keep its frames until the socket takes more."""
        if self.is_closing:
            return
        if self.is_blocked:
            self._keep(batch.frames)
            return
        self._keep(self._write(batch))

    def took(self, batch: Batch | NumberedBatch, sent: int) -> None:
        """Go on with a batch of which `fd` took `sent` bytes, which is not all; -1: the peer is
        gone."""
        self._keep(self._took(batch, sent))

    def control(self, frame: Frame, *, is_last: bool = False) -> None:
        """Queue one control frame (ping, pong, close) in its place among the data.

        Pongs to a client that asks and never reads count against its bound like everything else;
        the last ones (what was lost, and the close frame) do not.
        """
        if not self.is_blocked:
            self._write(Batch((frame,)))
        elif is_last:
            self._outbox.append(frame)
        else:
            self._keep((frame,))

    def blocked(self, *, now_s: float) -> None:
        """The transport holds bytes the kernel did not take."""
        if not self.is_blocked:
            self.is_blocked = True
            self.stalled_since_s = now_s

    def resume(self, *, now_s: float) -> None:
        """The transport's buffer is empty again: go on with what waits."""
        self.is_blocked = False
        self.stalled_since_s = None
        if self._cut is not None:
            self._continue(self._cut)
        while not self.is_blocked and len(self._outbox):
            drained = self._outbox.drain(close_codes.MAX_WRITE_BYTES)
            self._outbox.give_back(self._write(Batch(tuple(drained))))
        if self._on_ready and self.is_ready:
            waiting, self._on_ready = self._on_ready, []
            for callback in waiting:
                callback()

    @property
    def is_ready(self) -> bool:
        """Whether the socket took all there was."""
        return not self.is_blocked and not len(self._outbox)

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the socket has taken all; never, when it is closed before."""
        if self.is_ready:
            callback()
        elif not self.is_closing:
            self._on_ready.append(callback)

    def drop_waiting(self) -> None:
        """Forget what has not begun to leave; a frame cut in the middle still gets its rest."""
        dropped = self._outbox.drop()
        self.shed += len(dropped)
        for frame in dropped:
            frame.drop()
        self.is_closing = True

    def close(self) -> None:
        """The connection is gone. What waited refers to its session, and that to us: let go of it,
        so that all are freed at once."""
        self.is_closing = True
        self._outbox.clear()
        self._on_ready.clear()
        self._cut = None

    @property
    def held_frames(self) -> int:
        """Frames that wait for this customer, bulk included."""
        return len(self._outbox) + (self._cut is not None)

    @property
    def held_bytes(self) -> int:
        """Bytes this customer costs us: waiting frames and the piece in the transport's buffer."""
        return self._outbox.size_bytes + (PIECE_BYTES if self.is_blocked else 0)

    def _keep(self, frames: Sequence[Frame]) -> None:
        for number, frame in enumerate(frames):
            fate = self._outbox.offer(frame)
            if fate is Fate.CONFLATED:
                self.conflated += 1
            elif fate is Fate.SHED:
                self.shed += 1
                if not frame.skip():
                    for lost in frames[number:]:
                        lost.drop()
                    self._on_overflow()
                    return

    def _write(self, batch: Batch | NumberedBatch) -> tuple[Frame, ...]:
        """Hand the batch to the kernel; returns the frames of which it took nothing."""
        try:
            sent = self._wire.send(batch.wire)
        except OSError:
            sent = -1
        return self._took(batch, sent)

    def _took(self, batch: Batch | NumberedBatch, sent: int) -> tuple[Frame, ...]:
        if sent < 0:
            # The transport notices by itself and ends the session; nothing more may be tried.
            self.is_closing = True
            self._outbox.clear()
            return ()
        if sent == len(batch.wire):
            self.sent += batch.count
            if batch.tally:
                self._account.delivered(batch.tally)
            return ()
        return self._cut_at(batch.frames, sent)

    def _cut_at(self, frames: tuple[Frame, ...], sent: int) -> tuple[Frame, ...]:
        """Meter the frames that are whole in the kernel, go on with the one being cut."""
        whole = 0
        while sent >= (size := frames[whole].wire_bytes):
            sent -= size
            whole += 1
        if whole:
            self.sent += whole
            self._account.delivered(tally(frames[:whole]))
        self._cut, self._sent = frames[whole], sent
        self._buffer_piece(frames[whole])
        return frames[whole + 1 :]

    def _continue(self, frame: Frame) -> None:
        size = frame.wire_bytes
        try:
            while self._sent < size:
                piece = frame.cut(self._sent, self._sent + close_codes.MAX_WRITE_BYTES)
                taken = self._wire.send(piece)
                self._sent += taken
                if taken < len(piece):
                    break
        except OSError:
            self.is_closing = True
            self._outbox.clear()
            self._cut = None
            return
        if self._sent < size:
            self._buffer_piece(frame)
            return
        self._cut = None
        self.sent += 1
        if frame.counted is not None:
            self._account.delivered(tally((frame,)))

    def _buffer_piece(self, frame: Frame) -> None:
        piece = frame.cut(self._sent, self._sent + PIECE_BYTES)
        self._sent += len(piece)
        self._wire.buffer(piece)
