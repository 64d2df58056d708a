"""What is on its way, what is next, and what waits behind both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import pytest

from gateway.grpc.call_sink import MAX_NEXT_BYTES, CallSink
from gateway.grpc.envelopes import Written
from gateway.grpc.statuses import CallEnds
from streaming.core.batch import Batch
from streaming.core.counted import counted_of
from streaming.core.outbox import Frame
from streaming.core.streams import Item
from streaming.core.topic import Kind, Topic
from streaming.key_account import KeyAccount


class Tallies:
    """As much of a meter as a key's account needs."""

    messages = 0

    def slot(self, key_id: int, channel: str, coin: str = "", reason: str = "") -> int:
        return 0

    def add_each(self, slots: object, tally: Sequence[tuple[object, int, int]]) -> None:
        self.messages += sum(messages for _, messages, _ in tally)


COUNTED = counted_of(Topic(Kind.L2_BOOK, "BTC"))


class Joined:
    """All that leaves at once is one message."""

    def write(self, items: Sequence[Item]) -> Written:
        frames = [item for item in items if isinstance(item, Frame)]
        text = b" ".join(frame.payload[:4] for frame in frames)
        return Written((text,), [(COUNTED, len(frames), len(text))])


class Transport:
    """Takes one message at a time, when told to."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self._on_its_way: asyncio.Future[None] | None = None

    async def write(self, message: bytes) -> None:
        self.taken.append(message)
        self._on_its_way = asyncio.get_running_loop().create_future()
        await self._on_its_way

    async def let_go(self, error: Exception | None = None) -> None:
        """What is on its way is gone, or failed."""
        assert self._on_its_way is not None
        if error:
            self._on_its_way.set_exception(error)
        else:
            self._on_its_way.set_result(None)
        await asyncio.sleep(0.01)


def book(number: int, *, size: int = 100) -> Batch:
    return Batch((Frame(b"%04d" % number + b" " * size, counted=COUNTED, topic="BTC"),))


def sink_of(tallies: Tallies) -> CallSink:
    def overflows() -> None:
        raise AssertionError("it overflows")

    account = KeyAccount(tallies, 1)  # type: ignore[arg-type]
    return CallSink(Joined(), account=account, on_overflow=overflows, max_lag_s=5.0)


def test_what_comes_beside_a_response_is_the_next_as_it_stands() -> None:
    async def run() -> None:
        tallies, transport = Tallies(), Transport()
        sink = sink_of(tallies)
        writer = asyncio.ensure_future(sink.run(transport.write))
        await asyncio.sleep(0)
        sink.send(book(1))
        assert transport.taken == [b"0001"]  # within the turn that brought it
        sink.send(book(2))
        sink.send(book(3))
        assert (transport.taken, sink.is_ready, tallies.messages) == ([b"0001"], False, 0)
        await transport.let_go()
        assert (transport.taken[1:], tallies.messages) == ([b"0002 0003"], 1)
        await transport.let_go()
        assert (sink.is_ready, sink.held_bytes, sink.sent, tallies.messages) == (True, 0, 3, 3)
        writer.cancel()

    asyncio.run(run())


def test_beyond_it_a_newer_book_replaces_an_older_one() -> None:
    async def run() -> None:
        transport = Transport()
        sink = sink_of(Tallies())
        writer = asyncio.ensure_future(sink.run(transport.write))
        await asyncio.sleep(0)
        sink.send(book(1))
        sink.send(book(2, size=MAX_NEXT_BYTES - 1_000))
        for number in range(3, 100):
            sink.send(book(number, size=1_000))
        assert sink.held_bytes < MAX_NEXT_BYTES + 2_000
        for _ in range(3):
            await transport.let_go()
        assert transport.taken == [b"0001", b"0002", b"0099"]
        assert sink.conflated == 96
        writer.cancel()

    asyncio.run(run())


def test_a_call_that_breaks_ends_the_writer_and_the_customer_may_wait_for_nothing() -> None:
    async def run() -> None:
        tallies, transport = Tallies(), Transport()
        sink = sink_of(tallies)
        writer = asyncio.ensure_future(sink.run(transport.write))
        await asyncio.sleep(0)
        sink.send(book(1))
        sink.send(book(2))
        await transport.let_go(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError, match="gone"):
            await writer
        assert (transport.taken, tallies.messages) == ([b"0001"], 0)

    asyncio.run(run())


def test_nothing_leaves_behind_what_ends_the_call() -> None:
    class Ending(Joined):
        def write(self, items: Sequence[Item]) -> Written:
            return Written((), [], CallEnds(grpc.StatusCode.DATA_LOSS, "a hole"))

    async def run() -> None:
        transport = Transport()
        account = KeyAccount(Tallies(), 1)  # type: ignore[arg-type]
        sink = CallSink(Ending(), account=account, on_overflow=lambda: None, max_lag_s=5.0)
        writer = asyncio.ensure_future(sink.run(transport.write))
        await asyncio.sleep(0)
        sink.send(book(1))
        sink.send(book(2))
        with pytest.raises(CallEnds, match="a hole"):
            await writer
        assert transport.taken == []

    asyncio.run(run())


def test_a_message_that_is_still_made_is_waited_for_and_holds_its_place() -> None:
    async def run() -> None:
        making: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        class Late(Joined):
            def write(self, items: Sequence[Item]) -> Written:
                written = super().write(items)
                if written.messages == (b"0001",):
                    return written._replace(messages=(making,))
                return written

        transport = Transport()
        account = KeyAccount(Tallies(), 1)  # type: ignore[arg-type]
        sink = CallSink(Late(), account=account, on_overflow=lambda: None, max_lag_s=5.0)
        writer = asyncio.ensure_future(sink.run(transport.write))
        await asyncio.sleep(0)
        sink.send(book(1))
        sink.send(book(2))
        # It is not the customer who is slow.
        assert (transport.taken, sink.is_ready, sink.stalled_since_s) == ([], False, None)
        making.set_result(b"made")
        await asyncio.sleep(0.01)
        await transport.let_go()
        assert transport.taken == [b"made", b"0002"]
        writer.cancel()

    asyncio.run(run())


def test_who_waits_for_room_is_told_once_when_all_is_gone() -> None:
    async def run() -> None:
        transport = Transport()
        told: list[str] = []
        sink = sink_of(Tallies())
        writer = asyncio.ensure_future(sink.run(transport.write))
        await asyncio.sleep(0)
        sink.when_ready(lambda: told.append("at once"))
        sink.send(book(1))
        sink.send(book(2))
        sink.when_ready(lambda: told.append("later"))
        await transport.let_go()
        assert told == ["at once"]
        await transport.let_go()
        assert told == ["at once", "later"]
        writer.cancel()

    asyncio.run(run())
