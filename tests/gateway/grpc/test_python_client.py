"""The published Python client, with the server killed under it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from hlrelay import Event, Gap, Refused, Relay, Subscribe, Update
from streaming.core.envelope import Role
from tests.gateway.grpc.clients import alive, raw, trade
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge

KILLS = 3
PER_LIFE = 40


@pytest.fixture
def own(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcEdge]:
    """An edge that may be killed."""
    var = tmp_path_factory.mktemp("client") / "var"
    edge = GrpcEdge(var, redis_url=redis_url.removesuffix("/0") + "/10")
    edge.start()
    yield edge
    edge.stop()


def test_nothing_lost_and_nothing_twice_over_kills(own: GrpcEdge) -> None:
    total, has_all = PER_LIFE * (KILLS + 1), threading.Event()

    def market() -> None:
        own.wait_for_lease("trades KILL")
        own.tell(trade("KILL", 1, Role.SNAPSHOT))
        height = 2
        for life in range(KILLS + 1):
            if life:
                own.restart()
                own.wait_for_lease("trades KILL")
                own.publish(trade("KILL", height - 1, Role.SNAPSHOT))
            while height <= PER_LIFE * (life + 1):
                own.tell(trade("KILL", height))
                height += 1
        # A child ends with the thread that started it, and the client may still be reading.
        has_all.wait(DEADLINE_S)

    relay = Relay(own.target, key=own.api_key)
    worker = threading.Thread(target=market, daemon=True)
    worker.start()
    got: list[int] = []
    for item in relay.stream(Subscribe(id="k", channel="trades", coins=["KILL"])):
        assert not isinstance(item, Gap), item
        if isinstance(item, Update):
            got += [row["tid"] for row in item.json()["data"]]
            if got[-1] >= total:
                break
    has_all.set()
    worker.join()
    relay.close()
    assert got == list(range(1, total + 1))


def test_gaps_and_parts_are_items(edge: GrpcEdge) -> None:
    relay = Relay(edge.target, key=edge.api_key)
    stream = relay.stream(Subscribe(id="p", channel="raw", stream="hip3_oracle_updates"))
    large = raw("hip3_oracle_updates", 101, [{"n": n, "text": "x" * 50} for n in range(30_000)])

    def market() -> None:
        edge.wait_for_lease("raw stream=hip3_oracle_updates")
        edge.tell(alive("hip3_oracle_updates", 100), large)
        edge.tell(raw("hip3_oracle_updates", 105, [1]))

    worker = threading.Thread(target=market)
    worker.start()
    items = []
    for item in stream:
        if not isinstance(item, Event):
            items.append(item)
        if isinstance(item, Update) and item.height == 105:
            break
    worker.join()
    first, gap, last = items
    assert isinstance(first, Update)
    assert first.text == large.payload
    assert isinstance(gap, Gap)
    assert (gap.from_height, gap.to_height) == (101, 104)
    assert isinstance(last, Update)
    relay.close()


def test_what_cannot_be_is_raised(edge: GrpcEdge) -> None:
    wrong = Relay(edge.target, key="hlr_test_wrong")
    with pytest.raises(Refused, match="invalid_key"):
        next(wrong.stream(Subscribe(id="x", channel="trades", coins=["BTC"])))
    wrong.close()
    relay = Relay(edge.target, key=edge.api_key)
    with pytest.raises(Refused, match="unknown_type"):
        next(relay.stream(Subscribe(id="x", channel="nonsense")))
    with pytest.raises(ValueError, match="id"):
        relay.stream(Subscribe(channel="trades"))
    relay.close()
