"""Our Daphne: a WebSocket protocol that pushes back, refuses with a body, and lets a session write
without a task.

Stock Daphne buffers for a client that does not read without limit (190 MB seen), can only refuse
with a bare 403, and pays 3–4 ms per connect, a fifth of it for a `pprint` of a debug line nobody
reads. This leans on Daphne's and autobahn's insides, so both are pinned exactly and
`tests/streaming/test_slow_reader.py` watches them.

What the consumer gets is the ASGI extension `hlrelay.socket`; under another ASGI server it is
absent and the consumer falls back to plain `send`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import autobahn.websocket.protocol as autobahn_protocol
from autobahn.twisted.websocket import ConnectionDeny
from daphne import server, ws_protocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from streaming.core.outbox import Frame
from streaming.ws import bodies, close_codes
from streaming.ws.checks import CheckingServer
from streaming.ws.writer import Account, Writer
from tenants.admission.limiter import TokenBucket
from tenants.admission.presented import peer_address
from tenants.admission.principal import Network

log = logging.getLogger(__name__)

EXTENSION = "hlrelay.socket"
CLOSE_FRAME = 8

#: Linux, include/uapi/linux/tcp.h. The kernel takes at most this much that it has not sent yet, so
#: a stalled customer holds 128 KiB there and not the 4 MB of an auto-tuned send buffer, and
#: conflation sees the stall at once.
TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
NOTSENT_LOWAT_BYTES = 128 * 1024

#: 0.1 ms each, before anything is known of them.
ACCEPTS_PER_TURN = 4
#: Of those who wait when the door closes. All 4,096 would take 0.4 s, in which nobody is let go.
ACCEPTS_AT_END = 64

# Autobahn formats all of its options into a debug line at each connect, before asking whether
# anybody logs debug.
autobahn_protocol.pformat = lambda *_args, **_kwargs: ""


@implementer(IPushProducer)
class Protocol(ws_protocol.WebSocketProtocol):
    """One customer's connection. Also the `Wire` of its `Writer`, and the extension object given to
    the consumer."""

    writer: Writer | None = None
    _socket: socket.socket
    _farewell: Callable[[], list[bytes]]
    _denial_status: int | None = None
    _denial_headers: tuple[tuple[bytes, bytes], ...] = ()
    _denial_body = (
        b'{"code":"handshake_failed","msg":"This is not a WebSocket handshake we can answer."}'
    )
    _unread = 0
    _pings: TokenBucket | None = None  # made for the few who ping
    _refused_pings: TokenBucket
    _is_reading = True

    # --- the extension: what the consumer calls ---

    def attach(
        self, account: Account, *, farewell: Callable[[], list[bytes]], max_lag_s: float
    ) -> Writer:
        """The session's way out; called once, right after the handshake was accepted. `farewell`
        gives the last texts of a customer who is cut for being slow."""
        self._farewell = farewell
        self.writer = Writer(self, account=account, on_overflow=self.cut_slow, max_lag_s=max_lag_s)
        transport = self.transport
        if transport is not None:
            self._socket = transport.socket
            self.writer.fd = self._socket.fileno()
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
            transport.unregisterProducer()  # the HTTP channel left itself registered
            transport.registerProducer(self, True)
            if transport.dataBuffer or transport._tempDataBuffer:  # the handshake's answer
                self._wait_for_transport()
        return self.writer

    def handled(self) -> None:
        """The consumer is done with one inbound frame."""
        self._unread -= 1
        if not self._is_reading and self._unread <= close_codes.MAX_UNREAD_FRAMES // 2:
            self._is_reading = True
            if self.transport is not None:
                self.transport.resumeProducing()

    def end(self, code: int, reason: str = "") -> None:
        """Close in good order: what is on its way leaves first, then the close frame."""
        # Not sendClose: autobahn lets applications use 1000 and 3000–4999 only.
        self.sendCloseFrame(code=code, reasonUtf8=reason.encode()[:123])

    def cut_slow(self) -> None:
        """Close a customer who does not keep up; what has not begun to leave is dropped."""
        if self.writer is not None and not self.writer.is_closing:
            self.writer.drop_waiting()
            for text in self._farewell():
                self.writer.control(Frame(text), is_last=True)
            self.sendCloseFrame(code=int(close_codes.CloseCode.SLOW), reasonUtf8=b"slow consumer")
            self._release_consumer(close_codes.CloseCode.SLOW)

    def _release_consumer(self, code: close_codes.CloseCode) -> None:
        # Muted, Daphne passes on no frame any more, and not the end of the connection either.
        self.application_queue.put_nowait({"type": "websocket.disconnect", "code": int(code)})
        self.muted = True

    # --- Wire: what the writer calls ---

    def send(self, data: bytes | memoryview) -> int:
        """One non-blocking write into the kernel."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def buffer(self, data: bytes) -> None:
        """Leave the rest with Twisted; it pauses us now and resumes us when the kernel took it."""
        self.transport.write(data)
        self._wait_for_transport()

    def _wait_for_transport(self) -> None:
        # Twisted pauses a producer at 64 KiB only; marked as paused, it is resumed as soon as the
        # buffer is empty.
        self.transport.producerPaused = True
        self.pauseProducing()

    # --- IPushProducer: what the transport calls ---

    def pauseProducing(self) -> None:
        """The transport holds bytes."""
        if self.writer is not None:
            self.writer.blocked(now_s=time.monotonic())

    def resumeProducing(self) -> None:
        """The transport is empty."""
        if self.writer is not None:
            self.writer.resume(now_s=time.monotonic())

    def stopProducing(self) -> None:
        """The connection is gone."""

    # --- autobahn and Daphne ---

    def __repr__(self) -> str:
        """Without the path, which may hold a key."""
        return f"<connection of {self.peer}>"

    def connectionLost(self, reason: Any = None) -> None:
        """Let go of everything that holds us, so that the last reference frees us at once: left to
        the collector, 2,000 customers who are cut stop the loop for 0.8 s."""
        if self.writer is not None:
            self.writer.fd = -1  # the number is somebody else's from now on
        super().connectionLost(reason)
        if self.writer is not None:
            self.writer.close()
        self.writer = None
        self.__dict__.pop("_farewell", None)
        self.is_closed = None  # its result is ourselves

    def sendFrame(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        """Control frames take their place among the data: written past it they would cut a frame in
        two. Behind a close frame, our answer to theirs as well, nothing may come: a browser calls
        that an error, and the consumer hears of it later than the hub has more."""
        if self.writer is None or options:
            super().sendFrame(opcode, payload=payload, **options)
            return
        frame = Frame(payload)
        frame.wire = bytes((0x80 | opcode,)) + frame.wire[1:]
        is_last = opcode == CLOSE_FRAME
        self.writer.control(frame, is_last=is_last)
        if is_last:
            self.writer.is_closing = True

    def onConnect(self, request: Any) -> Any:
        """Daphne decodes the subprotocols as ASCII, and logs a traceback where they are not."""
        if not request.headers.get("sec-websocket-protocol", "").isascii():
            raise ConnectionDeny(400, "refused")
        return super().onConnect(request)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Of a handshake that was none the server has not heard."""
        if hasattr(self, "server"):
            super().onClose(wasClean, code, reason)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Count what the consumer has not handled; beyond the limit the socket is not read."""
        if self.muted:
            return
        self._unread += 1
        if self._unread >= close_codes.MAX_UNREAD_FRAMES and self._is_reading:
            self._is_reading = False
            self.transport.pauseProducing()
        super().onMessage(payload, isBinary)

    def onPing(self, payload: bytes) -> None:
        """Pings have the allowance of frames to themselves: beyond it they are not answered, and a
        flood of them ends as one of frames does."""
        if self.muted:
            return
        now_s = time.monotonic()
        if self._pings is None:
            per_s = close_codes.INBOUND_PER_MINUTE / 60
            self._pings, self._refused_pings = (
                TokenBucket(capacity=capacity, refill_per_s=per_s, now_s=now_s)
                for capacity in (close_codes.INBOUND_BURST, close_codes.MAX_REFUSED_FRAMES)
            )
        if not self._pings.take(1, now_s=now_s):
            super().onPing(payload)
        elif self._refused_pings.take(1, now_s=now_s):
            self.end(close_codes.CloseCode.POLICY, "too many pings")
            self._release_consumer(close_codes.CloseCode.POLICY)

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Add ASGI's denial response to what Daphne understands."""
        match message["type"]:
            case "websocket.http.response.start":
                self._denial_status = message["status"]
                self._denial_headers = tuple(message.get("headers", ()))
            case "websocket.http.response.body":
                self._denial_body = message.get("body", b"")
                if hasattr(self, "handshake_deferred"):
                    self.handshake_deferred.errback(
                        ConnectionDeny(self._denial_status or 500, "refused")
                    )
                    del self.handshake_deferred
                    self.server.protocol_disconnected(self)
            case _:
                super().handle_reply(message)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Answer a refused handshake with a body; the reason stays here: it may quote the path, and
        so a key."""
        del reason, responseHeaders
        status, body = self._denial_status or code, self._denial_body
        lines = [b"HTTP/1.1 %d %s" % (status, _REASONS.get(status, b"Refused"))]
        lines += [name + b": " + value for name, value in self._denial_headers]
        if not self._denial_headers:
            lines.append(b"Content-Type: application/json")
        lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", b""]
        self.wasNotCleanReason = "refused"
        self.sendData(b"\r\n".join(lines) + body)
        self.dropConnection(abort=False)


_REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    426: b"Upgrade Required",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}


class Factory(ws_protocol.WebSocketFactory):
    """Builds our protocol, with the options on its class."""

    protocol = Protocol

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A violation is answered with its close code (1002, 1007, 1009), and a customer who was cut
        # for being slow has time to read up to the close frame that says so.
        self.setProtocolOptions(failByDrop=False, closeHandshakeTimeout=close_codes.CLOSE_LINGER_S)

    def setProtocolOptions(self, **options: Any) -> None:
        """Set options on the class too: autobahn then copies none of its 30 to each connection."""
        super().setProtocolOptions(**options)
        for name in self.protocol.CONFIG_ATTRS:
            value = getattr(self, name)
            setattr(self.protocol, name, staticmethod(value) if callable(value) else value)


class Server(CheckingServer):
    """Daphne with our protocol and without an access log (its lines would carry keys)."""

    def __init__(
        self,
        application: Any,
        endpoints: list[str],
        *,
        trusted_proxies: Sequence[Network] = (),
        **options: Any,
    ) -> None:
        self._trusted_proxies = trusted_proxies
        self._ports: list[tuple[Any, Callable[[], None]]] = []
        # The names `run` builds its factories from.
        server.WebSocketFactory = Factory
        server.HTTPFactory = bodies.Factory
        super().__init__(
            application,
            endpoints=endpoints,
            action_logger=None,
            verbosity=0,
            websocket_timeout=-1,
            websocket_max_message_size=close_codes.MAX_INBOUND_FRAME_BYTES,
            websocket_max_frame_size=close_codes.MAX_INBOUND_FRAME_BYTES,
            server_name="hlrelay",
            **options,
        )

    def stop_listening(self) -> None:
        """Take no new connections; those there are go on, and who waits at the door, if they are
        not too many, is let in to be told: closing the door on them is a reset."""
        for port, accept in self._ports:
            port.numberAccepts = ACCEPTS_AT_END
            # Twisted closes in its next turn; just before is the latest there is.
            port.reactor.callLater(0, accept)
            port.stopListening()

    def listen_success(self, port: Any) -> None:
        """Remember the port (Daphne keeps its address alone), and take few of those who wait there
        at a time: Twisted takes a hundred and more in one turn."""
        accept = port.doRead
        self._ports.append((port, accept))

        def accept_few() -> None:
            port.numberAccepts = ACCEPTS_PER_TURN
            accept()

        port.doRead = accept_few
        super().listen_success(port)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Say who it is that asks, and offer the socket itself to WebSocket applications.

        Daphne's own reading of `X-Forwarded-For` believes everybody, and its first entry, which a
        proxy that appends leaves to the caller.
        """
        if self._trusted_proxies and (client := scope.get("client")):
            address = peer_address(client[0], scope["headers"], trusted=self._trusted_proxies)
            if address != client[0]:
                scope["client"] = [address, 0]
        if scope["type"] == "websocket":
            scope["extensions"] = {EXTENSION: protocol, "websocket.http.response": {}}
        return super().create_application(protocol, scope)
