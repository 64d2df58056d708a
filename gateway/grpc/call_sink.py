"""One call's way out: written while the client takes it, else a bounded outbox.

Delivered means that the transport took the message: gRPC's core holds one response, which its flow
control lets go, and everything behind it is ours to bound.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from gateway.grpc.envelopes import Written
from streaming.core.batch import Batch, NumberedBatch
from streaming.core.outbox import Fate, Frame, Outbox
from streaming.core.streams import Item, RelayFrame
from streaming.key_account import KeyAccount
from streaming.ws.close_codes import MAX_OUTBOUND_BYTES

#: One response at most, but for an update that is larger by itself (960 KiB then).
MAX_RESPONSE_BYTES = 64 * 1024
#: What may come in one turn for a customer who has taken everything before: the opening frames of
#: hundreds of topics. Their payloads are everybody's; the customer's own are some 300 bytes each.
MAX_BURST_BYTES = 8 * 1024 * 1024
#: A burst of so few is not looked at.
FEW = 64
#: About what stands around a payload.
_AROUND_BYTES = 200


class Writing(Protocol):
    """Makes messages of what waits."""

    def write(self, items: Sequence[Item]) -> Written:
        """All of `items`, which leave now."""


class CallSink:
    """Implements `streaming.core.session.Sink`."""

    def __init__(
        self,
        writing: Writing,
        *,
        account: KeyAccount,
        on_overflow: Callable[[], None],
        max_lag_s: float,
    ) -> None:
        self._writing = writing
        self._account = account
        self._on_overflow = on_overflow
        # What came in one turn while nothing waited, and what came later.
        self._burst: deque[Item] = deque()
        self._outbox = Outbox(MAX_OUTBOUND_BYTES - MAX_RESPONSE_BYTES, max_lag_s=max_lag_s)
        self._wake = asyncio.Event()
        self._on_ready: list[Callable[[], None]] = []
        self._cut: Sequence[Item] = ()  # of which some messages left, and others not yet
        self.stalled_since_s: float | None = None  # while a response is with the transport
        self.is_closing = False
        self.sent = self.conflated = self.shed = 0

    # --- in ---

    def send(self, batch: Batch | NumberedBatch) -> None:
        """Take the frames of one tick."""
        if self.is_closing:
            return
        if self.stalled_since_s is not None or len(self._outbox):
            self._keep(batch.frames)
        else:
            burst = self._burst
            burst.extend(batch.items if isinstance(batch, NumberedBatch) else batch.frames)
            self._wake.set()
            if len(burst) > FEW and sum(map(_size, burst)) > MAX_BURST_BYTES:
                self._on_overflow()

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
        self._wake.set()

    @property
    def is_ready(self) -> bool:
        """Whether nothing waits, here or at the transport."""
        return self.stalled_since_s is None and not self._burst and not len(self._outbox)

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when nothing waits any more; never, when the call ends before."""
        if self.is_ready:
            callback()
        elif not self.is_closing:
            self._on_ready.append(callback)

    @property
    def held_frames(self) -> int:
        """Frames that wait for this customer."""
        return len(self._burst) + len(self._outbox)

    @property
    def held_bytes(self) -> int:
        """Bytes that wait for this customer."""
        burst = sum(map(_size, self._burst))
        return burst + self._outbox.size_bytes

    def drop_waiting(self) -> None:
        """Forget what has not begun to leave, and whatever comes; of a message that is on its way
        in parts, the rest."""
        self.is_closing = True
        dropped = [_frame(item) for item in (*self._cut, *self._burst)] + self._outbox.drop()
        self.shed += len(dropped)
        self._burst.clear()
        self._on_ready.clear()
        for frame in dropped:
            frame.drop()

    async def drained(self) -> None:
        """Until everything that waits has left."""
        if not self.is_ready:
            gone = asyncio.Event()
            self._on_ready.append(gone.set)
            await gone.wait()

    # --- out ---

    async def run(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write what waits, for ever. Raises CallEnds where a message says so, and whatever `write`
        does."""
        while True:
            if not self._burst and not len(self._outbox):
                self._wake.clear()
                self._call_ready()  # who waited for this has more, and sets it again
                await self._wake.wait()
                continue
            taken = self._take()
            written = self._writing.write(taken)
            await self._hand_over(written, taken, write)
            if self.is_closing:
                return
            if written.tally:
                self._account.delivered(written.tally)
            self.sent += len(taken)
            if written.ends is not None:
                raise written.ends

    async def _hand_over(
        self,
        written: Written,
        taken: Sequence[Item],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        messages = iter(written.messages)
        message = next(messages, None)
        while message is not None:
            following = next(messages, None)
            # The last one is the transport's, and is delivered; before it all of it can be missed.
            self._cut = taken if following is not None else ()
            self.stalled_since_s = time.monotonic()
            await write(message)
            self.stalled_since_s = None
            if self.is_closing:
                return
            message = following

    def _take(self) -> Sequence[Item]:
        burst = self._burst
        if not burst:
            return self._outbox.drain(MAX_RESPONSE_BYTES)
        taken = [burst.popleft()]
        size_bytes = _size(taken[0])
        while burst:
            size_bytes += _size(burst[0])
            if size_bytes > MAX_RESPONSE_BYTES:
                break
            taken.append(burst.popleft())
        return taken

    def _call_ready(self) -> None:
        if self._on_ready:
            waiting, self._on_ready = self._on_ready, []
            for callback in waiting:
                callback()


def _size(item: Item) -> int:
    if isinstance(item, tuple):
        return len(item[1].stem) + _AROUND_BYTES
    return item.size_bytes


def _frame(item: Item) -> Frame:
    return RelayFrame.of(*item) if isinstance(item, tuple) else item
