"""What the trace tells of the python SDK's orders: each step, in its order, at plausible times."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.exchange import trace_selectors
from gateway.exchange.trace_selectors import Shown
from tenants.models import Tenant
from tests.clients.test_trading import trade

pytestmark = [pytest.mark.timeout(600), pytest.mark.relay]

SKEW_MS = 2_000  # of the simulator's block time to the clock, on a machine that is starved


@pytest.fixture
def tenant(relay: dict[str, Any], settings: Any) -> Tenant:
    """The demo's, whose traces are in the relay's own Redis."""
    settings.REDIS_CACHE_URL = relay["redis_url"]
    return Tenant(pk=1)


def settled(tenant: Tenant, oid: int) -> list[Shown]:
    """The traces of an order, once nothing more is awaited."""
    deadline_s = time.monotonic() + 30
    while True:
        rows = trace_selectors.traces(tenant, oid=oid).rows
        if rows and not any(row.trace.is_waiting for row in rows):
            return rows
        assert time.monotonic() < deadline_s, rows
        time.sleep(0.2)


def test_every_step_of_the_sdk_s_orders(relay: dict[str, Any], tenant: Tenant) -> None:
    said = trade(f"{relay['http']}/{relay['api_key']}")
    market = said["market_open"]["response"]["data"]["statuses"][0]["filled"]
    (bought,) = settled(tenant, market["oid"])
    trace = bought.trace
    assert (trace.kind, trace.coin, trace.status, trace.last_status) == (
        *("order", "ETH", "filled"),
        "filled",
    )
    assert bought.missing == ""
    assert trace.sent_ms is not None
    assert trace.acked_ms is not None
    assert trace.block_ms is not None
    assert trace.received_ms <= trace.sent_ms <= trace.acked_ms
    assert abs(trace.block_ms - trace.acked_ms) < SKEW_MS
    assert trace.fill_ms == trace.block_ms
    assert trace.height == trace.fill_height
    assert trace.height is not None
    assert trace.height > 1_100_000_000
    assert trace.fills >= 1

    rested = said["order"]["response"]["data"]["statuses"][0]["resting"]["oid"]
    placed, *_ = reversed(settled(tenant, rested))
    assert (placed.trace.status, placed.trace.last_status) == ("resting", "canceled")
    assert placed.trace.block_ms  # the first order of a user, before anybody followed
    by_kind = {row.trace.kind for row in trace_selectors.traces(tenant, limit=500).rows}
    assert {
        "order",
        "cancel",
        "batchModify",
        "cancelByCloid",
        "usdSend",
        "updateLeverage",
    } <= by_kind
    steps = trace_selectors.latency(tenant)
    for step in ("sent", "acked", "block", "fill"):
        assert steps[step].counted
        assert steps[step].p50_ms is not None
    budget = trace_selectors.address_budget(trace.user)
    assert budget is not None
    assert budget.cap >= 10_000
    assert budget.used > 0
