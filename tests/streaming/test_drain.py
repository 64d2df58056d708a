"""An edge that is asked to end lets its customers go, spread over the drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from streaming.ws.drain import departures, let_go
from tests.core.relay_world import check
from tests.support.edge import DEADLINE_S, Edge

DRAIN_S = 1.5
CUSTOMERS = 30


@given(st.integers(1, 500), st.integers(0, 60_000).map(lambda ms: ms / 1000), st.integers())
def test_no_stretch_of_the_drain_sees_more_than_its_share_and_one(
    count: int, within_s: float, seed: int
) -> None:
    times = departures(count, within_s=within_s, chance=random.Random(seed))
    assert len(times) == count
    assert times == sorted(times)
    part, rounding = within_s / count, within_s * 1e-9
    for number, at in enumerate(times):
        assert number * part - rounding <= at <= (number + 1) * part + rounding


def test_a_drain_ends_early_when_everybody_has_gone() -> None:
    class Gone:
        def going_away(self, in_ms: int) -> None:
            assert 0 <= in_ms <= 60_000

        def go_away(self) -> None:
            raise AssertionError("nobody is there")

    async def run() -> float:
        begun = time.monotonic()
        all_gone = asyncio.Event()
        all_gone.set()
        await let_go([Gone()] * 3, within_s=60.0, all_gone=all_gone, chance=random.Random(1))
        return time.monotonic() - begun

    assert asyncio.run(run()) < 10.0


@pytest.fixture
def leaving(tmp_path: Path, redis_url: str) -> Iterator[Edge]:
    redis_url = redis_url.removesuffix("/0") + "/6"
    edge = Edge(tmp_path / "var", redis_url=redis_url, drain_s=DRAIN_S)
    edge.start()
    yield edge
    edge.process.kill()
    edge.process.wait()


class Customer(threading.Thread):
    """Reads until closed."""

    def __init__(self, edge: Edge, *, is_relay: bool) -> None:
        super().__init__(daemon=True)
        query = "?relay=1" if is_relay else ""
        self.url = f"ws://127.0.0.1:{edge.port}/{edge.api_key}/ws{query}"
        self.is_open = threading.Event()
        self.frames: list[str] = []
        self.code = 0
        self.at_s = 0.0
        self.start()
        assert self.is_open.wait(DEADLINE_S)

    def run(self) -> None:
        try:
            with connect(self.url, compression=None) as socket:
                self.is_open.set()
                while True:
                    self.frames.append(str(socket.recv(6 * DEADLINE_S)))
        except ConnectionClosed as closed:
            self.at_s = time.monotonic()
            self.code = closed.rcvd.code if closed.rcvd else 0


@pytest.mark.alone
def test_sigterm_lets_customers_go_one_by_one_and_tells_them_when(leaving: Edge) -> None:
    customers = [Customer(leaving, is_relay=number % 2 == 0) for number in range(CUSTOMERS)]
    with socket.create_connection(("127.0.0.1", leaving.port)) as idle:
        begun_s = time.monotonic()
        leaving.process.send_signal(signal.SIGTERM)
        _until_refused(leaving.port)
        # A proxy's connection, made before: it gets an answer, and customers go elsewhere.
        idle.sendall(
            f"GET /{leaving.api_key}/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        answer = idle.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503"), answer
        assert b"draining" in answer
    for customer in customers:
        customer.join(6 * DEADLINE_S)
        assert customer.code == 1001
    assert leaving.process.wait(DEADLINE_S) == 0
    left_s = sorted(customer.at_s - begun_s for customer in customers)
    # No third of the drain sees more than half of them, wherever it begins.
    for number, at_s in enumerate(left_s):
        together = sum(1 for other in left_s[number:] if other - at_s <= DRAIN_S / 3)
        assert together <= CUSTOMERS // 2
    for customer in customers[::2]:
        told = [check(frame)["data"] for frame in customer.frames if "goingAway" in frame]
        assert len(told) == 1
        assert 0 <= told[0]["inMs"] <= DRAIN_S * 1000
    assert not any(customer.frames for customer in customers[1::2])


def _until_refused(port: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except (ConnectionRefusedError, ConnectionResetError):  # the latter in the very moment
            return
    raise AssertionError("it still listens")


def test_two_edges_share_a_port_and_one_may_leave(tmp_path: Path, redis_url: str) -> None:
    redis_url = redis_url.removesuffix("/0") + "/7"
    first = Edge(tmp_path / "var", redis_url=redis_url, options=("--reuse-port",))
    second = Edge(
        tmp_path / "other", redis_url=redis_url, options=("--reuse-port",), port=first.port
    )
    second.share(first)
    first.start()
    second.start()
    try:
        with contextlib.ExitStack() as stack:
            customers = [stack.enter_context(first.connect()) for _ in range(40)]
            first.stop()
            outcomes = [_ping(customer) for customer in customers]
        # The kernel spreads them: that all 40 met one process happens once in 2^39.
        assert set(outcomes) == {"pong", "1001"}
        with first.connect() as again:
            assert _ping(again) == "pong"
    finally:
        for edge in (first, second):
            edge.process.kill()
            edge.process.wait()


def _ping(customer: ClientConnection) -> str:
    try:
        customer.send(json.dumps({"method": "ping"}))
        return str(json.loads(customer.recv(DEADLINE_S))["channel"])
    except ConnectionClosed as closed:
        return str(closed.rcvd.code) if closed.rcvd else "cut"
