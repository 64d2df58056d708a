"""The python SDK trades at the simulator: its own examples, with its documented one-line fix."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.environments import HERE, python_environment, run_client
from tests.clients.simulator import running_simulator

pytestmark = pytest.mark.timeout(600)

DEADLINE_S = 240


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_simulator(tmp_path_factory.mktemp("simulator")) as url:
        yield url


def trade(url: str, *options: str) -> dict[str, Any]:
    """What the SDK was answered, with a key that nobody has seen before."""
    command = [str(python_environment("python_sdk")), str(HERE / "python_sdk" / "trade.py")]
    key = "0x" + secrets.token_hex(32)
    return run_client(command, url, key, *options, deadline_s=DEADLINE_S)


@pytest.fixture(scope="module")
def said(simulator: str) -> dict[str, Any]:
    return trade(simulator)


def statuses(reply: dict[str, Any]) -> list[Any]:
    assert reply["status"] == "ok", reply
    return list(reply["response"]["data"]["statuses"])


def test_a_fresh_key_can_trade_at_once(said: dict[str, Any]) -> None:
    assert said["state"]["withdrawable"] == "10000.0"
    (placed,) = statuses(said["order"])
    assert said["status_by_oid"]["order"]["status"] == "open"
    assert [row["oid"] for row in said["open_orders"]] == [placed["resting"]["oid"]]


def test_orders_are_modified_and_canceled(said: dict[str, Any]) -> None:
    assert "resting" in statuses(said["modify"])[0]
    assert statuses(said["cancel"]) == ["success"]
    assert "never placed" in statuses(said["cancel_again"])[0]["error"]
    assert said["status_by_cloid"]["order"]["order"]["cloid"] == f"0x{77:032x}"
    assert statuses(said["modify_by_cloid"])[0]["resting"]["cloid"] == f"0x{77:032x}"
    assert statuses(said["cancel_by_cloid"]) == ["success"]
    assert [statuses(reply) for reply in said["cancel_all"]] == [["success"]] * 3


def test_a_batch_is_answered_one_by_one(said: dict[str, Any]) -> None:
    first, second, third = statuses(said["batch"])
    assert "resting" in first
    assert second == {"error": "Order must have minimum value of $10. asset=1"}
    assert "resting" in third


def test_positions_are_opened_watched_and_closed(said: dict[str, Any]) -> None:
    assert said["leverage"] == said["isolated"] == {"status": "ok", "response": {"type": "default"}}
    assert statuses(said["market_open"])[0]["filled"]["totalSz"] == "0.05"
    (held,) = said["state_open"]["assetPositions"]
    assert held["position"]["leverage"] == {"type": "cross", "value": 7}
    assert "resting" in statuses(said["stop"])[0]
    assert [row["orderType"] for row in said["frontend"] if row["isTrigger"]] == ["Stop Market"]
    assert statuses(said["market_close"])[0]["filled"]["totalSz"] == "0.05"


def test_agents_transfers_and_the_rest(said: dict[str, Any]) -> None:
    for name in ("schedule_cancel", "schedule_clear", "approve_agent", "usd_transfer", "noop"):
        assert said[name] == {"status": "ok", "response": {"type": "default"}}, name
    assert "resting" in statuses(said["agent_order"])[0]
    assert [row["name"] for row in said["extra_agents"]] == ["bot"]
    assert said["friend"]["withdrawable"] == "12.5"
    assert said["class_transfer"]["status"] == said["spot_transfer"]["status"] == "ok"
    assert statuses(said["spot_order"])[0]["filled"]["totalSz"] == "200.0"
    assert said["expired"]["status"] == "err"
    assert said["rate_limit"]["nRequestsUsed"] > 20


def test_what_happened_came_over_the_socket(said: dict[str, Any]) -> None:
    asked = {fill["tid"]: fill for fill in said["fills"]}
    pushed = {fill["tid"]: fill for frame in said["events"]["userFills"] for fill in frame["fills"]}
    assert pushed == asked
    seen = [update["status"] for frame in said["events"]["orderUpdates"] for update in frame]
    assert {"open", "canceled", "filled"} <= set(seen)
    events = [fill for frame in said["events"]["userEvents"] for fill in frame.get("fills", [])]
    assert {fill["tid"] for fill in events} == set(asked)


@pytest.mark.relay
def test_the_relay_delivers_what_was_traded(relay: dict[str, Any]) -> None:
    """Like any node's user's: through the node's files."""
    feed = f"{relay['http']}/{relay['api_key']}"
    test_what_happened_came_over_the_socket(trade(relay["simulator"], "--feed", feed))


@pytest.mark.relay
def test_the_sdk_trades_through_the_relay(relay: dict[str, Any]) -> None:
    """All it does at the exchange itself, with the key in its base URL and nothing else."""
    said = trade(f"{relay['http']}/{relay['api_key']}")
    for check in (
        test_a_fresh_key_can_trade_at_once,
        test_orders_are_modified_and_canceled,
        test_a_batch_is_answered_one_by_one,
        test_positions_are_opened_watched_and_closed,
        test_agents_transfers_and_the_rest,
        test_what_happened_came_over_the_socket,
    ):
        check(said)


@pytest.mark.relay
def test_the_sdk_trades_in_the_sandbox(relay: dict[str, Any]) -> None:
    """The same key, behind `/sandbox`, its feeds included."""
    said = trade(relay["sandbox"])
    for check in (
        test_a_fresh_key_can_trade_at_once,
        test_orders_are_modified_and_canceled,
        test_positions_are_opened_watched_and_closed,
        test_agents_transfers_and_the_rest,
        test_what_happened_came_over_the_socket,
    ):
        check(said)


@pytest.mark.relay
def test_the_relay_says_why_the_sdk_signs_for_testnet(relay: dict[str, Any]) -> None:
    said = trade(f"{relay['http']}/{relay['api_key']}", "unpatched")
    assert said["order"]["response"].startswith("User or API Wallet 0x")
    assert "MAINNET_API_URL = <the base URL" in said["order"]["response"]


def test_without_its_fix_the_sdk_signs_for_testnet(simulator: str) -> None:
    said = trade(simulator, "unpatched")
    assert said["order"]["response"].startswith("User or API Wallet 0x")
    assert said["order"]["response"].endswith(" does not exist.")
    assert said["usd_transfer"]["response"].startswith("Must deposit before performing actions.")
