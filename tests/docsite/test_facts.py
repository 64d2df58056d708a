"""What pages say in numbers and names is what the code has."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.grpc.generated.hlrelay.v1 import relay_pb2
from gateway.grpc.generated.hyperliquid import streaming_pb2
from gateway.grpc.generated.hyperliquid_l1_gateway.v1 import gateway_pb2 as v1
from gateway.grpc.generated.hyperliquid_l1_gateway.v2 import gateway_pb2 as v2
from gateway.operations import freshness, sampling, selectors, status
from gateway.operations.models import Freshness
from streaming.bus import demand, feeder, keys, lease, publisher
from streaming.core import holes, hub, merge, outbox
from streaming.core.topic import MAX_LEVELS, Kind
from streaming.upstream import health, standby
from streaming.ws import close_codes, server
from tests.docsite.snippets import ROOT

Span = Freshness.Span


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def test_the_free_plan_is_the_seeds() -> None:
    book = json.loads((ROOT / "billing/rating/seed/plans.json").read_text("utf-8"))
    limits = next(p for p in book["plans"] if p["code"] == "free")["entitlements"]
    assert (limits["connections"], limits["subscriptions"], limits["coins"]) == (2, 50, 10)
    assert "two connections, 50 subscriptions, 10 coins" in page("quickstart")


def test_every_channel_is_on_the_page_of_guarantees() -> None:
    text = page("guarantees")
    missing = {str(kind) for kind in Kind if f"`{kind}`" not in text}
    # Of the market as a whole, or of users' other feeds: "everything else".
    assert missing <= {
        "activeAssetCtx", "assetCtxs", "spotAssetCtxs", "allDexsAssetCtxs", "fastAssetCtxs",
        "outcomeMetaUpdates", "notification", "twapStates", "webData2", "webData3",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["migrating", "grpc", "quickstart"])
def test_services_and_methods_are_those_of_the_protos(name: str) -> None:
    services = {
        service.full_name: set(service.methods_by_name)
        for file in (relay_pb2, streaming_pb2, v1, v2)
        for service in file.DESCRIPTOR.services_by_name.values()
    }
    text = page(name)
    for full, method in re.findall(r"((?:hlrelay|hyperliquid)[\w.]*\.[A-Z]\w+)/(\w+)", text):
        assert method in services[full], f"{full}/{method}"
    for full in re.findall(r"`(hyperliquid(?:_l1_gateway\.v\d)?\.[A-Z]\w+)`", text):
        assert full in services, full


def test_levels_and_queues() -> None:
    assert MAX_LEVELS == 100
    assert close_codes.MAX_OUTBOUND_BYTES == 1024 * 1024
    assert close_codes.STALL_LIMIT_S == 10
    assert outbox.MAX_LAG_S == 5


#: A phrase of a design page, in English and Chinese alike by its number, and what it is of.
DESIGN: list[tuple[str, str, Any, Any]] = [
    ("relay-core-design", "150 ms", merge.WAIT_NS, 150_000_000),
    ("relay-core-design", "800 ms", merge.LIMIT_NS, 800_000_000),
    ("relay-core-design", "15 s to live", keys.LEASE_TTL_S, 15),
    ("relay-core-design", "every 2 s anyway", demand.RECONCILE_S, 2.0),
    ("relay-core-design", "pinged every 5 s", feeder.PING_EVERY_S, 5.0),
    ("relay-core-design", "15 s of silence", feeder.SILENCE_LIMIT_S, 15.0),
    ("relay-core-design", "a lease of 0.85 s", lease.TTL_S, 0.85),
    ("relay-core-design", "renewed every 0.2 s", lease.RENEW_S, 0.2),
    ("relay-core-design", "At 64 MiB", publisher.MAX_UNSENT_BYTES, 64 * 1024 * 1024),
    ("relay-core-design", "ends 30 s after its last follower", hub.LINGER_S, 30.0),
    ("relay-core-design", "hold 0.1 s (1 s at most)", (holes.HOLD_S, holes.HOLD_MAX_S), (0.1, 1.0)),
    ("relay-core-design", "block for 4 s", standby.OUT_AFTER_S, 4.0),
    ("relay-core-design", "2 s after the nodes are back", standby.BACK_AFTER_S, 2.0),
    ("relay-core-design", "silent for 2 s", health.STALL_S, 2.0),
    ("relay-core-design", "(128 KiB)", server.NOTSENT_LOWAT_BYTES, 128 * 1024),
    ("control-plane-design", "for 3 minutes", selectors.LATE.total_seconds(), 180),
    ("control-plane-design", "each 10 s", status.KEEP_S, 10.0),
    (
        "control-plane-design",
        "(48 h, 45 d, 400 d)",
        [sampling.KEPT[span].total_seconds() / 3600 for span in (Span.MINUTE, Span.HOUR, Span.DAY)],
        [48, 45 * 24, 400 * 24],
    ),
]


@pytest.mark.parametrize(("name", "phrase", "value", "said"), DESIGN, ids=[d[1] for d in DESIGN])
def test_the_design_says_what_the_code_has(name: str, phrase: str, value: Any, said: Any) -> None:
    assert phrase in page(f"design/{name}")
    assert value == said


def test_the_page_of_the_status_names_every_field() -> None:
    """Of the JSON as it is made, empty or not."""
    from gateway.operations import shown

    text = page("status")
    at = datetime(2026, 11, 30, tzinfo=UTC)
    day = selectors.Day(at, looks=2, fresh=1)
    feed = selectors.History("feed:books", at, True, 1, 1, 1, 1.0, (day,))
    gap = selectors.Gap("trades", "BTC", 1, 2, 0.07, "why", at, False)
    made = shown.as_json(status.Status(at=at, measured_at=at, feeds=(feed,), gaps=(gap,)), None)
    names = {*made, *made["feeds"][0], *made["feeds"][0]["days"][0], *made["gaps"][0]}
    assert {name for name in names if f"`{name}`" not in text} == set()
    for state in (status.OPERATIONAL, status.DEGRADED, status.DOWN, status.UNKNOWN):
        assert f"`{state}`" in text
    for name in freshness.FEEDS:
        assert f"| {name} |" in text
    assert f"{shown.GOOD:.2%}".replace("%", " %") in text
    assert f"{shown.FAIR:.0%}".replace("%", " %") in text
