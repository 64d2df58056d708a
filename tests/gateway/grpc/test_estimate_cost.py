"""`EstimateCost`: the account's estimate, for keys that may look at the account."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest

from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from hlrelay import Refused, Relay, Subscribe
from streaming.bus.rates import RateBook
from streaming.core.topic import Kind, Topic
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge

MINUTES = 30
TOPIC = Topic(Kind.TRADES, "EST")
MAKE = """
from tenants.models import Tenant
from tenants.services import issue_key
print(issue_key(tenant=Tenant.objects.get(), name="grpc", scopes={scopes}).raw)
"""


@pytest.fixture(scope="module")
def measured(edge: GrpcEdge) -> GrpcEdge:
    """Six messages of 100 bytes a minute for half an hour."""
    edge.manage("load_plans")
    now_s = time.time() - 60 * MINUTES
    book = RateBook(worker="est", clock=lambda: now_s)
    for _ in range(MINUTES):
        now_s += 60
        for _ in range(6):
            book.add(TOPIC.name, 100)
        for command in book.flush([TOPIC.name]):
            edge.redis.execute_command(*command)
    return edge


@pytest.fixture
def relay(measured: GrpcEdge) -> Iterator[Relay]:
    raw_key = measured.shell(MAKE.format(scopes=["grpc", "account_read"]))
    relay = Relay(measured.target, key=raw_key)
    yield relay
    relay.close()


def test_what_was_measured(relay: Relay) -> None:
    wanted = Subscribe(channel="trades", coins=["EST"])
    found = relay.estimate(wanted, hours_per_day=12, connections=2, timeout_s=DEADLINE_S)
    assert found.messages_per_month == 6 * 60 * 365 * 2
    assert found.bytes_per_month == 100 * found.messages_per_month
    assert found.messages_per_s == pytest.approx(0.2)
    assert found.lines[0].basis == "measured"
    assert found.measured_hours == pytest.approx(0.5, abs=0.02)
    assert not found.is_whole_day
    assert not found.HasField("plan")  # the demo's has no prices
    assert {cost.plan for cost in found.offers} >= {"free", "starter"}
    assert found.cheapest == "free"
    assert found.offers[0].per_month == "0.00"
    assert any("Less than 24 hours" in line for line in found.assumptions)


@pytest.mark.parametrize(
    ("subscription", "hours", "says"),
    [
        (Subscribe(channel="none"), 24.0, "There is no subscription type"),
        (Subscribe(channel="trades", coins=["EST"]), 30.0, "hours_per_day: 30.0 is not within"),
        (Subscribe(channel="trades", coins=["EST"]), float("nan"), "not a number"),
        (Subscribe(channel="trades", coins=["EST"]), float("inf"), "not a number"),
        (Subscribe(channel="trades", coins=["EST"]), -1.0, "hours_per_day: -1.0 is not within"),
    ],
)
def test_bad_input(relay: Relay, subscription: Subscribe, hours: float, says: str) -> None:
    with pytest.raises(Refused, match=says):
        relay.estimate(subscription, hours_per_day=hours, timeout_s=DEADLINE_S)


def test_a_key_without_the_scope_sees_no_prices(measured: GrpcEdge) -> None:
    relay = Relay(measured.target, key=measured.api_key)
    with pytest.raises(Refused) as refused:
        relay.estimate(Subscribe(channel="allMids"), timeout_s=DEADLINE_S)
    assert refused.value.code == "scope_missing"
    relay.close()


def test_nothing_asked(relay: Relay) -> None:
    method = relay.channel.unary_unary("/hlrelay.v1.Relay/EstimateCost")
    with pytest.raises(grpc.RpcError) as refused:
        method(
            pb.EstimateCostRequest().SerializeToString(),
            metadata=relay.metadata,
            timeout=DEADLINE_S,
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "subscriptions: 1 to 100" in (refused.value.details() or "")
