"""How long a customer who was away needs from the handshake until they are live again."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
from collections.abc import Iterator

from tests.bench.cases.contract import Bench
from tests.bench.cases.hop import start_writer, wait_for_books
from tests.bench.processes import Failed
from tests.bench.report import Measurement
from tests.bench.subjects.contract import Running, Stage, Subject
from tests.bench.subjects.relay import Relay

#: Each of the writer's blocks holds one trade: 500 messages a second, 15,000 missed.
OFFERED = 500
AWAY_S = 30.0
TIMES = 3
DEADLINE_S = 20.0
SUBSCRIPTION = {"type": "trades", "coin": "BTC"}


class Resume:
    """One customer of the relay dialect leaves for 30 s and comes back with their last cursor; the
    topic goes on. Worker and edge share one core."""

    name = "resume"
    subjects: tuple[str, ...] = ("relay",)

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Best and worst time to `replayComplete`, and how many frames that took."""
        assert isinstance(subject, Relay)
        with bench.stage() as stage:
            folder = stage.temporary / "node-resume"
            writer = start_writer(stage, folder, offered=OFFERED)
            info_port = writer.line(timeout_s=15)
            running = subject.start(stage)
            upstreams = f"node://{folder}?info=http://127.0.0.1:{info_port}"
            worker = subject.start_worker(stage, upstreams=upstreams)
            wait_for_books(bench, stage, running, worker=worker)
            runs = [self._run(stage, running) for _ in range(TIMES)]
        took_ms = sorted(ms for ms, _ in runs)
        for metric, value, unit in (
            ("best_ms", took_ms[0], "ms"),
            ("worst_ms", took_ms[-1], "ms"),
            ("replayed", min(count for _, count in runs), "frames"),
        ):
            yield Measurement(self.name, subject.name, metric, value, unit, OFFERED, 1)

    def _run(self, stage: Stage, running: Running) -> tuple[float, int]:
        with Customer(running) as customer:
            customer.say({"method": "subscribe", "subscription": SUBSCRIPTION})
            customer.read_until(b'"seq":5,')
        cursor = customer.last_cursor()
        time.sleep(AWAY_S)
        begun_ns = time.perf_counter_ns()
        with Customer(running) as customer:
            customer.say({"method": "subscribe", "subscription": SUBSCRIPTION, "from": cursor})
            customer.read_until(b'"type":"replayComplete"')
            took_ms = (time.perf_counter_ns() - begun_ns) / 1e6
        replayed = customer.received.count(b'"replay":true')
        if b'"type":"gap"' in customer.received or replayed < 0.9 * AWAY_S * OFFERED:
            raise Failed(f"{replayed} frames for {AWAY_S:g} s at {OFFERED}/s, or a gap")
        return took_ms, replayed


class Customer:
    """A socket and nothing between: 15,000 frames through a client library would measure it."""

    def __init__(self, running: Running) -> None:
        self.received = bytearray()
        self._socket = socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {running.path}?relay=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "\r\n".encode()
        )
        self.read_until(b"\r\n\r\n")

    def __enter__(self) -> Customer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def say(self, message: dict[str, object]) -> None:
        """Send one short text frame."""
        payload, mask = json.dumps(message).encode(), b"\0\0\0\0"
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + struct.pack(">H", size)
        self._socket.sendall(b"\x81" + length + mask + payload)

    def read_until(self, word: bytes) -> None:
        """Read until `word` has come. Raises Failed when the other side closes, TimeoutError."""
        searched = 0
        while (at := self.received.find(word, searched)) < 0:
            searched = max(0, len(self.received) - len(word))
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise Failed(f"closed before {word.decode()!r}: {bytes(self.received[-200:])!r}")
            self.received += piece
        assert at >= 0

    def last_cursor(self) -> str:
        """The newest cursor that came whole."""
        before, _, _ = bytes(self.received).rpartition(b'","epoch"')
        return before.rpartition(b'"cursor":"')[2].decode()
