"""One call's way out: written while the client takes it, else a bounded outbox.

Delivered means that the transport took the message: gRPC's core holds one response, which its flow
control lets go, and everything behind it is ours to bound.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from gateway.grpc.envelopes import Made, Written
from streaming.core.batch import Batch, NumberedBatch
from streaming.core.outbox import Fate, Frame, Outbox
from streaming.core.streams import Item, RelayFrame
from streaming.key_account import KeyAccount
from streaming.ws.close_codes import MAX_OUTBOUND_BYTES

#: One response at most, but for an update that is larger by itself (960 KiB then).
MAX_RESPONSE_BYTES = 64 * 1024
#: So much of what comes while a response is on its way is the next as it stands: who takes a
#: message within 100 µs is not slow, and a frame for the outbox costs five times what it does.
MAX_NEXT_BYTES = 64 * 1024
#: What may come in one turn for a customer who has taken everything before: the opening frames of
#: hundreds of topics. Their payloads are everybody's; the customer's own are some 300 bytes each.
MAX_BURST_BYTES = 8 * 1024 * 1024
#: A burst of so few is not looked at.
FEW = 64
#: About what stands around a payload.
_AROUND_BYTES = 200


#: gRPC's, of one response.
Write = Callable[[bytes], Coroutine[Any, Any, None]]


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
        # What came in one turn while nothing waited, or is the next response, and what came later.
        self._burst: deque[Item] = deque()
        self._burst_bytes = 0
        beside_bytes = MAX_RESPONSE_BYTES + MAX_NEXT_BYTES
        self._outbox = Outbox(MAX_OUTBOUND_BYTES - beside_bytes, max_lag_s=max_lag_s)
        self._write: Write | None = None  # set while `run` runs
        self._over: asyncio.Future[None] | None = None
        self._call: Coroutine[Any, Any, None] | None = None  # of `_write`, which has not returned
        self._taken: Sequence[Item] = ()  # what leaves now
        self._written = Written((), [])
        self._messages: Iterator[Made] = iter(())  # of these, but for the next
        self._message: Made | None = None
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
        items: Sequence[Item] = batch.items if isinstance(batch, NumberedBatch) else batch.frames
        size_bytes = self._burst_bytes
        for item in items:
            size_bytes += _size(item)
        is_behind = self._call is not None and size_bytes > MAX_NEXT_BYTES
        if is_behind or len(self._outbox):
            self._keep(batch.frames)
            return
        self._burst.extend(items)
        self._burst_bytes = size_bytes
        self._go()
        if size_bytes > MAX_BURST_BYTES and len(self._burst) > FEW:
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

    @property
    def is_ready(self) -> bool:
        """Whether nothing waits, here or at the transport."""
        is_leaving = self._call is not None or self._message is not None
        return not (is_leaving or self._burst or len(self._outbox))

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
        return self._burst_bytes + self._outbox.size_bytes

    def drop_waiting(self) -> None:
        """Forget what has not begun to leave, and whatever comes; of a message that is on its way
        in parts, the rest."""
        self.is_closing = True
        dropped = [_frame(item) for item in (*self._cut, *self._burst)] + self._outbox.drop()
        self.shed += len(dropped)
        self._burst.clear()
        self._burst_bytes = 0
        self._on_ready.clear()
        for frame in dropped:
            frame.drop()

    def close(self) -> None:
        """The call is over. What waited or was on its way refers to its session, and that to us:
        let go of it and of the call, so that all are freed at once."""
        self.is_closing = True
        self._on_overflow = _nothing
        self._burst.clear()
        self._outbox.clear()
        self._on_ready.clear()
        self._taken = self._cut = ()
        self._written, self._messages, self._message = Written((), []), iter(()), None

    async def drained(self) -> None:
        """Until everything that waits has left."""
        if not self.is_ready:
            gone = asyncio.Event()
            self._on_ready.append(gone.set)
            await gone.wait()

    # --- out ---

    async def run(self, write: Write) -> None:
        """Write what waits, for ever. Raises CallEnds where a message says so, and whatever `write`
        does."""
        self._write, self._over = write, asyncio.get_running_loop().create_future()
        try:
            self._go()
            await self._over
        finally:
            self._write = self._over = None
            call, self._call = self._call, None
            if call is not None:
                call.close()

    # What follows is a task's work without a task: a response begins to leave within the turn that
    # brought it. With a task that is woken each took 4 µs more, of 43, and left a turn later.

    def _go(self) -> None:
        """Begin with what waits, unless something is on its way."""
        try:
            while self._call is None and self._write is not None and self._is_next():
                message, self._message = self._message or b"", next(self._messages, None)
                # The last one is the transport's, and is delivered; before it all can be missed.
                self._cut = self._taken if self._message is not None else ()
                self._call = self._leave(self._write, message)
                self._step()
        except Exception as error:
            self._end(error)
        if self._call is None and self._on_ready:
            asyncio.get_running_loop().call_soon(self._call_ready)

    async def _leave(self, write: Write, message: Made) -> None:
        made = message if isinstance(message, bytes) else await message
        self.stalled_since_s = time.monotonic()
        await write(made)

    def _is_next(self) -> bool:
        """Whether there is a message to leave: of what was taken, or of what waits."""
        while self._message is None:
            is_over = self.is_closing or self._write is None
            if is_over or not (self._burst or len(self._outbox)):
                return False
            self._taken = self._take()
            self._written = self._writing.write(self._taken)
            self._messages = iter(self._written.messages)
            self._message = next(self._messages, None)
            if self._message is None:
                self._handed_over()
        return not self.is_closing

    def _step(self) -> None:
        """The call to gRPC goes on, as far as it can."""
        assert self._call is not None  # noqa: S101
        try:
            awaited = self._call.send(None)
        except StopIteration:
            self._call = self.stalled_since_s = None
            if self._message is None and not self.is_closing:
                self._handed_over()
        except BaseException:
            self._call = self.stalled_since_s = None
            raise
        else:
            awaited.add_done_callback(self._returned)

    def _returned(self, awaited: object) -> None:
        del awaited  # with its error, which keeps this frame
        if self._call is None:
            return  # the customer is gone
        try:
            self._step()
        except Exception as error:
            self._end(error)
        self._go()

    def _handed_over(self) -> None:
        """All of what was taken is the transport's."""
        written = self._written
        if written.tally:
            self._account.delivered(written.tally)
        self.sent += len(self._taken)
        if written.ends is not None:
            self._end(written.ends)

    def _end(self, error: Exception) -> None:
        self._write = None
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)

    def _take(self) -> Sequence[Item]:
        burst = self._burst
        if not burst:
            return self._outbox.drain(MAX_RESPONSE_BYTES)
        if self._burst_bytes <= MAX_RESPONSE_BYTES:
            taken = list(burst)
            burst.clear()
            self._burst_bytes = 0
            return taken
        taken = [burst.popleft()]
        size_bytes = _size(taken[0])
        while burst:
            following = _size(burst[0])
            if size_bytes + following > MAX_RESPONSE_BYTES:
                break
            size_bytes += following
            taken.append(burst.popleft())
        self._burst_bytes -= size_bytes
        return taken

    def _call_ready(self) -> None:
        if self._on_ready and self.is_ready:
            waiting, self._on_ready = self._on_ready, []
            for callback in waiting:
                callback()


def _nothing() -> None:
    pass


def _size(item: Item) -> int:
    if isinstance(item, tuple):
        return len(item[1].stem) + _AROUND_BYTES
    return item.size_bytes


def _frame(item: Item) -> Frame:
    return RelayFrame.of(*item) if isinstance(item, tuple) else item
