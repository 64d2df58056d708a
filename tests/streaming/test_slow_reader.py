"""A customer who does not read: bounded, cut with 4008, and nobody else notices."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from streaming.core.envelope import Role
from streaming.ws import close_codes
from tests.support.edge import DEADLINE_S, Edge, frame

#: 1.6 KB, as a 20-level book.
PADDING = "x" * 1_570


def payload(topic: str, number: int) -> bytes:
    channel = topic.split()[0]
    return json.dumps({"channel": channel, "data": [{"n": number, "p": PADDING}]}).encode()


def rss_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096


class Reader(threading.Thread):
    """A customer who reads everything."""

    def __init__(self, customer: ClientConnection) -> None:
        super().__init__(daemon=True)
        self.customer = customer
        self.numbers: list[int] = []
        self.last = threading.Event()
        self.until = -1

    def run(self) -> None:
        while self.until not in self.numbers[-1:]:
            data = json.loads(self.customer.recv(DEADLINE_S))["data"]
            self.numbers += [one["n"] for one in data]
        self.last.set()


def read_to_the_end(customer: ClientConnection) -> tuple[list[int], int]:
    """All that is still in flight, and the close code."""
    numbers: list[int] = []

    def read() -> None:
        while True:
            numbers.extend(one["n"] for one in json.loads(customer.recv(DEADLINE_S))["data"])

    with pytest.raises(ConnectionClosed) as closed:
        read()
    assert closed.value.rcvd is not None, "cut without a close frame"
    return numbers, closed.value.rcvd.code


def stalled(edge: Edge) -> ClientConnection:
    """A customer with a small receive buffer, who stops reading when the test does."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", edge.port))
    return edge.connect(sock=raw, max_queue=(1, None))


@pytest.fixture
def fast(edge: Edge) -> Iterator[ClientConnection]:
    with edge.connect() as customer:
        yield customer


@pytest.fixture
def slow(edge: Edge) -> Iterator[ClientConnection]:
    with stalled(edge) as customer:
        yield customer


def test_events_are_cut_at_the_bound_and_nobody_else_notices(
    edge: Edge, slow: ClientConnection, fast: ClientConnection
) -> None:
    topic = "trades SLOW"
    for customer in (slow, fast):
        answer = edge.subscribe(customer, type="trades", coin="SLOW")
        assert answer["channel"] == "subscriptionResponse"
    edge.wait_for_lease(topic)
    edge.publish(frame(topic, 0, payload(topic, 0), role=Role.SNAPSHOT))
    reader = Reader(fast)
    count = 3 * close_codes.MAX_OUTBOUND_BYTES // 1_600
    reader.until = count
    reader.start()
    before = rss_bytes(edge.process.pid)
    for number in range(1, count + 1):
        edge.publish(frame(topic, number, payload(topic, number)))
    assert reader.last.wait(DEADLINE_S)
    assert reader.numbers == list(range(count + 1))
    # The bound, plus what the allocator rounds up and the other customer's frames in flight.
    assert rss_bytes(edge.process.pid) - before < 3 * close_codes.MAX_OUTBOUND_BYTES
    numbers, code = read_to_the_end(slow)
    assert code == close_codes.CloseCode.SLOW
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < count


def test_a_chatty_client_that_never_reads_is_cut_too(edge: Edge, slow: ClientConnection) -> None:
    """Asking without reading: each refused frame quotes 60 KB back, so the answers pile up."""
    cut = edge.closed(close_codes.CloseCode.SLOW)

    def chat() -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            for _ in range(close_codes.INBOUND_BURST):
                slow.send("x" * 60_000)

    threading.Thread(target=chat, daemon=True).start()
    _wait_for_cut(edge, beyond=cut)

    def read() -> None:
        while True:
            slow.recv(DEADLINE_S)

    with pytest.raises(ConnectionClosed) as closed:
        read()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == close_codes.CloseCode.SLOW


def test_a_stalled_state_reader_is_cut_after_the_stall_limit(
    edge: Edge, slow: ClientConnection
) -> None:
    topic = "bbo STALL"
    edge.subscribe(slow, type="bbo", coin="STALL")
    edge.wait_for_lease(topic)
    cut, began = edge.closed(close_codes.CloseCode.SLOW), time.monotonic()
    for number in range(2_000):
        edge.publish(
            frame(
                topic, number, payload(topic, number), role=Role.UPDATE if number else Role.SNAPSHOT
            )
        )
    # Conflation keeps them inside the bytes; what ends them is that nothing moves. Their socket is
    # not touched until the edge has let go of them.
    _wait_for_cut(edge, beyond=cut)
    assert time.monotonic() - began >= close_codes.STALL_LIMIT_S
    numbers, code = read_to_the_end(slow)
    assert code == close_codes.CloseCode.SLOW
    assert numbers == sorted(numbers)


def _wait_for_cut(edge: Edge, *, beyond: int) -> None:
    deadline_s = close_codes.STALL_LIMIT_S + DEADLINE_S
    edge.wait_for_close(close_codes.CloseCode.SLOW, beyond=beyond, deadline_s=deadline_s)
