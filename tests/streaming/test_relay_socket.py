"""The relay dialect at a real edge: asked for, spoken, resumed from the log in Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from streaming.bus.log import LogWriter
from streaming.core.envelope import Envelope, Position, Role
from tests.core import relay_world
from tests.core.relay_world import check
from tests.support.edge import DEADLINE_S, Edge

EPOCH = "n-0123456789ab"


def url(edge: Edge, query: str = "?relay=1") -> str:
    return f"ws://127.0.0.1:{edge.port}/{edge.api_key}/ws{query}"


@pytest.fixture
def customer(edge: Edge) -> Iterator[ClientConnection]:
    with connect(url(edge), compression=None, max_size=None) as socket:
        yield socket


def receive(socket: ClientConnection) -> dict[str, Any]:
    return check(socket.recv(DEADLINE_S))


def ask(socket: ClientConnection, **frame: Any) -> dict[str, Any]:
    socket.send(json.dumps({"method": "subscribe", **frame}))
    return receive(socket)


def until(socket: ClientConnection, event: str) -> list[dict[str, Any]]:
    """The frames up to the event, without those about age: this edge has no worker of its own."""
    frames: list[dict[str, Any]] = []
    while True:
        frame = receive(socket)
        data = frame["data"]
        if frame["channel"] == "relay" and data["type"] == event:
            return frames
        if frame["channel"] != "relay" or data["type"] not in ("stale", "fresh"):
            frames.append(frame)


def trade(coin: str, height: int, role: Role = Role.UPDATE) -> Envelope:
    data = [relay_world.trade(coin, height)]
    payload = json.dumps({"channel": "trades", "data": data}).encode()
    return Envelope(f"trades {coin}", EPOCH, Position(height), Position(height - 1), role, payload)


def publish(edge: Edge, *envelopes: Envelope) -> None:
    """As a worker: into the log, then onto the bus."""
    for command in LogWriter().append(list(envelopes)):
        edge.redis.execute_command(*command)
    edge.publish(*envelopes)


def test_the_subprotocol_is_echoed_and_chooses_the_dialect(edge: Edge) -> None:
    with connect(url(edge, ""), subprotocols=["hlrelay.v1"], compression=None) as socket:
        assert socket.subprotocol == "hlrelay.v1"
        ack = ask(socket, id="x", subscription={"type": "bbo", "coin": "SUB"})
        assert ack["id"] == "x"
    with connect(url(edge, ""), compression=None) as socket:
        assert socket.subprotocol is None
        socket.send("{")
        assert json.loads(socket.recv(DEADLINE_S))["channel"] == "error"


def test_ten_unreadable_frames_close_with_4400(customer: ClientConnection) -> None:
    for _ in range(10):
        customer.send("nonsense")

    def read() -> None:
        while True:
            receive(customer)

    with pytest.raises(ConnectionClosed) as closed:
        read()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400


def test_cut_and_resumed_with_the_last_cursor(edge: Edge, customer: ClientConnection) -> None:
    ask(customer, id=1, subscription={"type": "trades", "coin": "CUT"})
    edge.wait_for_lease("trades CUT")
    publish(edge, trade("CUT", 100, Role.SNAPSHOT), *(trade("CUT", h) for h in range(101, 104)))
    frames: list[dict[str, Any]] = []
    while len(frames) < 4:
        frame = receive(customer)
        if frame["channel"] == "trades":
            frames.append(frame)
    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4]
    customer.close()
    publish(edge, *(trade("CUT", h) for h in range(104, 400)))
    with connect(url(edge), compression=None) as again:
        ask(
            again,
            id=1,
            subscription={"type": "trades", "coin": "CUT"},
            **{"from": frames[-1]["cursor"]},
        )
        replayed = until(again, "replayComplete")
        assert [f["data"][0]["tid"] for f in replayed] == list(range(104, 400))
        publish(edge, trade("CUT", 400))
        while (frame := receive(again))["channel"] != "trades":
            pass
        assert (frame["data"][0]["tid"], frame["seq"]) == (400, 297)


def test_a_hole_in_the_bus_is_filled_from_the_log(edge: Edge, customer: ClientConnection) -> None:
    ask(customer, subscription={"type": "trades", "coin": "FILL"})
    edge.wait_for_lease("trades FILL")
    publish(edge, trade("FILL", 100, Role.SNAPSHOT))
    for command in LogWriter().append([trade("FILL", 101), trade("FILL", 102)]):
        edge.redis.execute_command(*command)
    publish(edge, trade("FILL", 103))
    got: list[int] = []
    while len(got) < 4:
        frame = receive(customer)
        if frame["channel"] == "trades":
            got += [one["tid"] for one in frame["data"]]
    assert got == [100, 101, 102, 103]


def test_what_nobody_has_is_a_gap_frame_and_a_report(
    edge: Edge, customer: ClientConnection
) -> None:
    ask(customer, id=8, subscription={"type": "trades", "coin": "GONE"})
    edge.wait_for_lease("trades GONE")
    publish(edge, trade("GONE", 100, Role.SNAPSHOT), trade("GONE", 110))
    while (frame := receive(customer))["data"] and frame["channel"] != "relay":
        pass
    while frame["data"].get("type") != "gap":
        frame = receive(customer)
    assert (frame["data"]["fromHeight"], frame["data"]["toHeight"]) == (100, 109)
    while (frame := receive(customer))["channel"] != "trades":
        pass
    assert frame["data"][0]["tid"] == 110
