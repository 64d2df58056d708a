"""What the server looks at once a second: who is silent, whose application failed, who is gone."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay_site.processes import free_port
from tests.support.services import start_process, wait_until

DEADLINE_S = 10.0


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    port, log = free_port(), tmp_path / "server.log"
    process = start_process(
        [sys.executable, "-m", "tests.support.small_server", str(port)], log=log
    )

    def is_up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_up, process=process, what="server", log=log)
    yield port
    process.kill()
    process.wait()


def known(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=DEADLINE_S) as answer:
        return int(answer.read())


def until_forgotten(port: int) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while known(port):
        assert time.monotonic() < end_s, "who is gone is still known"
        time.sleep(0.1)


def silent_customer(port: int) -> socket.socket:
    """One that answers no ping."""
    customer = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
    customer.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += customer.recv(1)
    return customer


def test_a_customer_who_answers_no_ping_is_let_go(port: int) -> None:
    """A connection of which one end is gone: nobody else would ever tell."""
    with silent_customer(port) as customer:
        assert customer.recv(1) == b"\x89"  # a ping
        with contextlib.suppress(ConnectionResetError):
            while customer.recv(100):
                pass
    until_forgotten(port)


def test_an_answer_that_breaks_off_is_cut_and_ends_no_checks(port: int) -> None:
    """It cannot become an error any more; who looks at the connections looked at none after it."""
    for _ in range(3):
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/broken", timeout=DEADLINE_S).read()
    with silent_customer(port) as customer:
        assert customer.recv(1) == b"\x89"
    until_forgotten(port)
