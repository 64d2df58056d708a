"""A customer of the relay dialect who is cut for being slow is told from where to go on."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from streaming.bus.log import LogWriter
from streaming.core.envelope import Envelope, Position, Role
from streaming.ws import close_codes
from tests.core import relay_world
from tests.core.relay_world import check
from tests.support.edge import DEADLINE_S, Edge

EPOCH = "n-0123456789ab"
PADDING = "x" * 8_000
#: About four times what is held for one customer and what two sockets take.
BLOCKS = 600
COINS = ("SLOWA", "SLOWB")


def trade(coin: str, height: int, role: Role = Role.UPDATE) -> Envelope:
    data = [relay_world.trade(coin, height, hash=PADDING)]
    payload = json.dumps({"channel": "trades", "data": data}).encode()
    return Envelope(f"trades {coin}", EPOCH, Position(height), Position(height - 1), role, payload)


def subscribe(socket_: ClientConnection, coin: str, cursor: str | None = None) -> None:
    frame: dict[str, Any] = {
        "method": "subscribe",
        "id": coin,
        "subscription": {"type": "trades", "coin": coin},
    }
    socket_.send(json.dumps(frame | ({"from": cursor} if cursor else {})))


def test_it_is_told_the_cursor_of_each_subscription_and_loses_nothing(edge: Edge) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", edge.port))
    url = f"ws://127.0.0.1:{edge.port}/{edge.api_key}/ws?relay=1"
    options: dict[str, Any] = {"compression": None, "max_size": None}
    with connect(url, sock=raw, max_queue=(1, None), **options) as slow:
        for coin in COINS:
            subscribe(slow, coin)
            edge.wait_for_lease(f"trades {coin}")
            edge.publish(trade(coin, 0, Role.SNAPSHOT))
        before = edge.closed(close_codes.CloseCode.SLOW)
        log = LogWriter()
        for height in range(1, BLOCKS + 1):
            block = [trade(coin, height) for coin in COINS]
            for command in log.append(block):
                edge.redis.execute_command(*command)
            edge.publish(*block)
        edge.wait_for_close(close_codes.CloseCode.SLOW, beyond=before)
        got, last = _read(slow)
    assert {frame["data"]["type"] for frame in last} == {"slow"}
    told = {frame["data"]["id"]: frame["data"]["cursor"] for frame in last}
    assert set(told) == set(COINS)
    for coin in COINS:
        frames = got[coin]
        assert 0 < len(frames) < BLOCKS
        assert told[coin] == frames[-1]["cursor"]
    with connect(url, **options) as again:
        for coin in COINS:
            subscribe(again, coin, told[coin])
        waiting = set(COINS)
        while waiting:
            frame = check(again.recv(DEADLINE_S))
            if frame["channel"] == "trades":
                got[frame["data"][0]["coin"]].append(frame)
            elif frame["channel"] == "relay" and frame["data"]["type"] == "replayComplete":
                waiting.discard(frame["data"]["id"])
    for coin in COINS:
        assert [frame["data"][0]["tid"] for frame in got[coin]][-BLOCKS:] == [*range(1, BLOCKS + 1)]


def _read(slow: ClientConnection) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """The trades by coin, and the events that came after the last of them."""
    got: dict[str, list[dict[str, Any]]] = {coin: [] for coin in COINS}
    last: list[dict[str, Any]] = []

    def read() -> None:
        while True:
            frame = check(slow.recv(DEADLINE_S))
            if frame["channel"] == "trades":
                got[frame["data"][0]["coin"]].append(frame)
                last.clear()
            elif frame["channel"] == "relay" and frame["data"]["type"] not in ("stale", "fresh"):
                last.append(frame)

    with pytest.raises(ConnectionClosed) as closed:
        read()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == close_codes.CloseCode.SLOW
    return got, last
