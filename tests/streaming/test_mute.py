"""A connection that asks for nothing keeps no place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.sync.client import ClientConnection
from websockets.typing import Subprotocol

from streaming.core.dialects.relay import SUBPROTOCOL
from streaming.ws.close_codes import CloseCode
from tests.support.edge import DEADLINE_S, Edge

RELAY = [Subprotocol(SUBPROTOCOL)]


@pytest.fixture
def edge(tmp_path: Path, redis_url: str) -> Iterator[Edge]:
    edge = Edge(tmp_path / "var", redis_url=redis_url, mute_s=1.0)
    edge.start()
    yield edge
    edge.stop()


def test_who_says_nothing_is_closed_and_a_ping_is_something(edge: Edge) -> None:
    with edge.connect() as mute, edge.connect() as modest:
        modest.send('{"method":"ping"}')
        assert modest.recv(DEADLINE_S) == '{"channel":"pong"}'
        closed = end_of(mute)
        assert (closed.code, closed.reason) == (CloseCode.POLICY, "nothing asked for within 1 s")
        # Older than the other, and still there.
        modest.send('{"method":"ping"}')
        assert modest.recv(DEADLINE_S) == '{"channel":"pong"}'


def test_in_the_relay_dialect_a_ping_is_not_enough(edge: Edge) -> None:
    with edge.connect(subprotocols=RELAY) as idle, edge.connect(subprotocols=RELAY) as reader:
        subscription = {"type": "trades", "coin": "BTC"}
        reader.send(json.dumps({"method": "subscribe", "id": 1, "subscription": subscription}))
        idle.send('{"method":"ping"}')
        assert idle.recv(DEADLINE_S) == '{"channel":"pong"}'
        assert end_of(idle).code == CloseCode.MUTE
        reader.send('{"method":"ping"}')
        while reader.recv(DEADLINE_S) != '{"channel":"pong"}':
            pass


def end_of(client: ClientConnection) -> Close:
    with pytest.raises(ConnectionClosedError):
        list(client)
    assert client.protocol.close_rcvd is not None
    return client.protocol.close_rcvd
