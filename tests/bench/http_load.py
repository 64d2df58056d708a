"""`python -m tests.bench.http_load`: POSTs one body over some kept connections, and prints a line
of JSON: rate and quantiles of the window.

Each connection sends the next when the last is answered; with `--rate` at its times, and then
latencies are from those, whether or not the last answer was there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time


class Client(asyncio.Protocol):
    """One connection. Reads heads by their Content-Length alone."""

    def __init__(
        self,
        request: bytes,
        latencies: list[float],
        until_s: list[float],
        *,
        every_s: float = 0.0,
        first_s: float = 0.0,
    ) -> None:
        self._request, self._latencies, self._until_s = request, latencies, until_s
        self._every_s, self._due_s = every_s, first_s
        self._buffer = b""
        self._sent_s = 0.0
        self.failures = 0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._next()

    def _next(self) -> None:
        if not self._every_s:
            self._send(time.perf_counter())
            return
        wait_s = self._due_s - time.perf_counter()
        asyncio.get_running_loop().call_later(max(0.0, wait_s), self._send, self._due_s)
        self._due_s += self._every_s

    def _send(self, at_s: float) -> None:
        self._sent_s = at_s
        if not self.transport.is_closing():
            self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Part of an answer, or all of it."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        begin = head.index(b"content-length:") + 15
        line_end = head.find(b"\r\n", begin)
        size = int(head[begin : line_end if line_end > 0 else None])
        if len(self._buffer) < end + 4 + size:
            return
        if not head.startswith(b"http/1.1 200"):
            self.failures += 1
        self._buffer = b""
        now_s = time.perf_counter()
        self._latencies.append(now_s - self._sent_s)
        if now_s < self._until_s[0]:
            self._next()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The end, also too early."""
        if not self.closed.done():
            self.closed.set_result(None)


def request_of(options: argparse.Namespace, number: int) -> bytes:
    """What connection `number` sends: 40 digits of its own in the place of `@@`."""
    body = options.body.replace("@@", f"{number:040x}").encode()
    head = (
        f"POST {options.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(options: argparse.Namespace) -> dict[str, float]:
    """Load for a while; what is answered in the warm-up does not count."""
    loop = asyncio.get_running_loop()
    until_s = [time.perf_counter() + options.warmup + options.seconds]
    latencies: list[float] = []
    clients = []
    for number in range(options.connections):
        request = request_of(options, number)
        every_s = options.connections / options.rate if options.rate else 0.0
        first_s = time.perf_counter() + number / options.rate if options.rate else 0.0
        _, client = await loop.create_connection(
            lambda request=request, every_s=every_s, first_s=first_s: Client(  # type: ignore[misc]
                request, latencies, until_s, every_s=every_s, first_s=first_s
            ),
            "127.0.0.1",
            options.port,
        )
        clients.append(client)
    await asyncio.sleep(options.warmup)
    latencies.clear()
    began_s = time.perf_counter()
    async with asyncio.timeout(options.seconds + 10):
        await asyncio.gather(*(client.closed for client in clients))
    took_s = time.perf_counter() - began_s
    latencies.sort()
    return {
        "per_s": len(latencies) / took_s,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
        "failures": sum(client.failures for client in clients),
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/info")
    parser.add_argument("--body", required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=0.0, help="a second, over all connections")
    parser.add_argument("--warmup", type=float, default=1.0)
    print(json.dumps(asyncio.run(run(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
