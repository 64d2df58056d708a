"""A bound on HTTP bodies, which Daphne spools to disk, at any length, before anybody is asked; and
an end for requests that became a WebSocket."""

from __future__ import annotations

from typing import Any

from daphne import http_protocol

from streaming.ws.close_codes import MAX_HTTP_BODY_BYTES

_MESSAGE = b'{"code":"too_large","msg":"The body is larger than %d bytes."}' % MAX_HTTP_BODY_BYTES
_ANSWER = (
    b"HTTP/1.1 413 Payload Too Large\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_MESSAGE), _MESSAGE)
)


class Request(http_protocol.WebRequest):
    """Refuses a body that is announced or grows too large, and reads no more of it."""

    _received_bytes = 0
    _is_refused = False
    _is_answered = False

    def __init__(self, *args: Any, **options: Any) -> None:
        # Twisted would read forms for itself, as Django does, and to find that a body of JSON is
        # none it makes a class each time: a third of what an `/info` answer takes.
        super().__init__(*args, **{**options, "parsePOSTFormSubmission": False})

    def __repr__(self) -> str:
        """Without the path, which may hold a key."""
        return f"<request at {id(self):#x}>"

    def process(self) -> Any:
        """The request is whole. Of one that became a WebSocket the channel has no more use: without
        its list of requests both are freed now, 5 KB for each customer, and not when a collector
        looks."""
        done = super().process()
        if self.transport is None:
            self.channel.requests.clear()
        return done

    def handle_exception(self, exception: Exception) -> None:
        """The application failed. An answer that has begun cannot become an error: it is cut, so
        that nobody waits for the rest, nor takes a part for the whole."""
        if not self._response_started:
            super().handle_exception(exception)
        elif not self.finished and self.channel is not None:
            self.channel.forceAbortClient()

    def finish(self) -> None:
        """The answer is whole. Daphne tells the application then that its customer is gone, which
        Django makes an exception of, and of it a cycle with all of the page: 100 objects."""
        self._is_answered = True
        super().finish()

    def send_disconnect(self) -> None:
        """Only of who is gone before."""
        if not self._is_answered:
            super().send_disconnect()

    def connectionLost(self, reason: Any) -> None:
        """Its channel reads no more: the decoder of a body that was not whole refers to it."""
        self.channel._transferDecoder = None
        super().connectionLost(reason)

    def gotLength(self, length: int | None) -> None:
        """The announced length; None for a chunked body."""
        super().gotLength(length)
        if length is not None and length > MAX_HTTP_BODY_BYTES:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """A piece of the body."""
        if self._is_refused:
            return
        self._received_bytes += len(data)
        if self._received_bytes > MAX_HTTP_BODY_BYTES:
            self._refuse()
        else:
            super().handleContentChunk(data)

    def _refuse(self) -> None:
        self._is_refused = True
        self.channel.transport.write(_ANSWER)
        self.channel.loseConnection()


class Factory(http_protocol.HTTPFactory):
    """Builds our requests."""

    def buildProtocol(self, addr: Any) -> Any:
        """The channel of one connection."""
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = Request
        return protocol
