"""A customer's socket by hand, for those who end it as no library does."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from tests.support.edge import DEADLINE_S

TEXT, CLOSE, PING = 1, 8, 9
_NO_MASK = bytes(4)


class RawCustomer:
    """One TCP connection. Reads raise OSError once it is cut from the other side."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(("127.0.0.1", port))
        self._stream = self.socket.makefile("rb")

    def ask(self, path: str, *, method: str = "GET", body: bytes = b"", head: str = "") -> int:
        """One request over HTTP; returns the status of its answer, which is read."""
        self.send_request(path, method=method, body=body, head=head)
        return self.answer()

    def send_request(
        self, path: str, *, method: str = "GET", body: bytes = b"", head: str = ""
    ) -> None:
        """`head` are more lines, each with its end."""
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        lines = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n"
        self.socket.sendall(lines.encode() + body)

    def answer(self) -> int:
        """Read one; its status."""
        status = int(self._stream.readline().split()[1])
        length = 0
        while (line := self._stream.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        self._stream.read(length)
        return status

    def shake(self, path: str, *, head: str = "") -> int:
        """The handshake of a WebSocket; returns the status."""
        self.send_handshake(path, head=head)
        return self.answer()

    def send_handshake(self, path: str, *, head: str = "") -> None:
        """Without reading what is answered."""
        self.send_request(
            path,
            head="Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{head}",
        )

    def say(self, *payloads: bytes, opcode: int = TEXT) -> None:
        """Frames, in one piece."""
        self.socket.sendall(b"".join(_frame(opcode, payload) for payload in payloads))

    def hear(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload; a close frame's payload begins with its code.
        Raises EOFError."""
        head = self._stream.read(2)
        if len(head) < 2:
            raise EOFError
        length = head[1]
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(self._stream.read(size), "big")
        return head[0] & 0x0F, self._stream.read(length)

    def hear_end(self) -> int:
        """Read to the close frame, and answer it; returns its code."""
        while True:
            opcode, payload = self.hear()
            if opcode == CLOSE:
                self.say(payload, opcode=CLOSE)
                self.finish()
                return int.from_bytes(payload[:2], "big")

    def leave(self) -> None:
        """In good order."""
        self.say((1000).to_bytes(2, "big"), opcode=CLOSE)
        with contextlib.suppress(EOFError):
            while True:
                self.hear()
        self.close()

    def finish(self) -> None:
        """Read until the other side hangs up, and hang up."""
        with contextlib.suppress(OSError):
            while self._stream.read(65_536):
                pass
        self.close()

    def reset(self) -> None:
        """RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """FIN."""
        self._stream.close()
        self.socket.close()


@contextlib.contextmanager
def raw_customer(port: int) -> Iterator[RawCustomer]:
    """One who is gone afterwards."""
    customer = RawCustomer(port)
    try:
        yield customer
    finally:
        customer.close()


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65_536:
        length = bytes((0x80 | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((0x80 | 127,)) + size.to_bytes(8, "big")
    return bytes((0x80 | opcode,)) + length + _NO_MASK + payload
