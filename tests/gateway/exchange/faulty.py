"""An exchange that breaks where it is told to, and remembers every byte that reached it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from enum import StrEnum

REPLY = b'{"status":"ok","response":{"type":"default"}}'
_HEAD = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

#: How serving one ends: it left, it broke, or the exchange is taken down.
_ENDS = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)


class Fault(StrEnum):
    """Where it breaks."""

    NONE = "none"
    RESET_AT_ACCEPT = "reset_at_accept"
    RESET_IN_BODY = "reset_in_body"
    CLOSE_BEFORE_REPLY = "close_before_reply"
    RESET_BEFORE_REPLY = "reset_before_reply"
    REPLY_CUT = "reply_cut"
    GARBAGE = "garbage"
    BAD_GATEWAY = "bad_gateway"
    STALL = "stall"
    CLOSE_AFTER_REPLY = "close_after_reply"
    REDIRECT = "redirect"


class FaultyExchange:
    """`bodies` are the complete ones, in the order they came; `begun` those of which a byte did."""

    def __init__(self) -> None:
        self.fault = Fault.NONE
        self.bodies: list[bytes] = []
        self.begun = 0
        self.url = ""
        self.reply = REPLY
        self.is_reached = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        with contextlib.suppress(*_ENDS), _closing(writer):
            if self.fault is Fault.RESET_AT_ACCEPT:
                _reset(writer)
                return
            while await self._one(reader, writer):
                pass

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.begun += 1
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        if self.fault is Fault.RESET_IN_BODY:
            await reader.readexactly(min(10, length))
            _reset(writer)
            return False
        self.bodies.append(await reader.readexactly(length))
        self.is_reached.set()
        match self.fault:
            case Fault.CLOSE_BEFORE_REPLY:
                return False
            case Fault.RESET_BEFORE_REPLY:
                _reset(writer)
                return False
            case Fault.STALL:
                await self.may_answer.wait()
                writer.write(_HEAD % (200, len(self.reply)) + self.reply)
            case Fault.REPLY_CUT:
                writer.write(_HEAD % (200, len(self.reply)) + self.reply[:10])
                return False
            case Fault.GARBAGE:
                writer.write(b"\x00\xffnothing of HTTP\r\n\r\n")
                return False
            case Fault.BAD_GATEWAY:
                writer.write(_HEAD % (502, 3) + b"bad")
            case Fault.REDIRECT:
                writer.write(
                    b"HTTP/1.1 307 X\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n",
                )
            case _:
                writer.write(_HEAD % (200, len(self.reply)) + self.reply)
        await writer.drain()
        return self.fault is not Fault.CLOSE_AFTER_REPLY


@contextlib.contextmanager
def _closing(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def faulty_exchange() -> AsyncIterator[FaultyExchange]:
    """One that listens."""
    exchange = FaultyExchange()
    server = await asyncio.start_server(exchange.serve, "127.0.0.1", 0)
    exchange.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/exchange"
    try:
        yield exchange
    finally:
        server.close()
        for task in exchange.serving:
            task.cancel()
        await asyncio.gather(*exchange.serving, return_exceptions=True)


def refusing_url() -> str:
    """An address at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}/exchange"
