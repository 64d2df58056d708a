"""gRPC as part of `make run`, with the simulator behind it."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hlrelay import Relay, Subscribe, Update
from hlrelay.v1.relay_pb2 import GetBookRequest
from tests.support.edge import DEADLINE_S

pytestmark = pytest.mark.relay


def test_a_client_needs_what_run_json_says(relay: dict[str, Any]) -> None:
    client = Relay(relay["grpc"], key=relay["api_key"])
    stream = client.stream(
        Subscribe(id="book", channel="l2Book", coins=["BTC"]),
        Subscribe(id="raw", channel="raw", stream="node_fills"),
    )
    seen: dict[str, Update] = {}
    for item in stream:
        if isinstance(item, Update):
            seen[item.id] = item
        if len(seen) == 2:
            break
    assert seen["book"].json()["channel"] == "l2Book"
    assert seen["raw"].envelope.t_block > 0
    asked = GetBookRequest(coin="BTC", n_levels=3)
    book = client.stub.GetBook(asked, metadata=client.metadata, timeout=DEADLINE_S)
    assert len(book.book.bids) == 3
    with grpc.insecure_channel(relay["grpc"]) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        # A relay that has just begun is looked at again within a second or two.
        end_s = time.monotonic() + DEADLINE_S
        asked_for = health_pb2.HealthCheckRequest()
        while check(asked_for, timeout=DEADLINE_S).status != health_pb2.HealthCheckResponse.SERVING:
            assert time.monotonic() < end_s
    client.close()
