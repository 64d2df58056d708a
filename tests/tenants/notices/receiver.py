"""A customer's server: real HTTP on loopback, that answers as a test says."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


#: Answers a request by writing to it.
Answerer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"ok", **headers: str) -> Answerer:
    """A plain answer."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def raw(data: bytes) -> Answerer:
    """Bytes as they are."""
    return lambda handler: handler.wfile.write(data) and None


class Receiver:
    """Listens on `host`, answers by `script`, its last entry for ever. A context manager."""

    def __init__(
        self, *script: Answerer, host: str = "127.0.0.1", port: int = 0, tls: Any = None
    ) -> None:
        self.script = list(script) or [status(200)]
        self.received: list[Received] = []
        self.stopping = threading.Event()
        self._arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with receiver._arrived:
                    receiver.received.append(Received(self.path, dict(self.headers), body))
                    script = receiver.script
                    answer = script.pop(0) if len(script) > 1 else script[0]
                    receiver._arrived.notify_all()
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # cut, as some tests want it
                self.close_connection = True

            do_GET = do_POST

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port: int = self._server.server_address[1]
        if isinstance(tls, ssl.SSLContext):
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http://{host}:{self.port}/hook"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """An answer that never ends: one byte, again and again."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not self.stopping.wait(0.05):
            handler.wfile.write(b".")
            handler.wfile.flush()

    def drip_header(self, handler: BaseHTTPRequestHandler) -> None:
        """A header that never ends."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.stopping.wait(0.05):
            handler.wfile.write(b".")
            handler.wfile.flush()

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """No answer at all."""
        self.stopping.wait(DEADLINE_S)

    def wait_for(self, count: int) -> None:
        """Until so many requests have come."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.received) >= count, DEADLINE_S)
