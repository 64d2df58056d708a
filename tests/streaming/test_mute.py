"""A connection that asks for nothing keeps no place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from streaming.ws.close_codes import CloseCode
from tests.support.edge import DEADLINE_S, Edge


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
        with pytest.raises(ConnectionClosed) as closed:
            mute.recv(DEADLINE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == CloseCode.MUTE
        assert closed.value.rcvd.reason == "nothing asked for within 1 s"
        # Older than the other, and still there.
        modest.send('{"method":"ping"}')
        assert modest.recv(DEADLINE_S) == '{"channel":"pong"}'
