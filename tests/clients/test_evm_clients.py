"""web3.py and viem, unchanged but for the URL, read and follow the simulated chain."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.clients.environments import (
    HERE,
    node_command,
    node_environment,
    python_environment,
    run_client,
)
from tests.conftest import skip
from tests.support.services import Missing

pytestmark = [pytest.mark.relay, pytest.mark.timeout(600)]

HEADS = 3
DEADLINE_S = 60


def truth(relay: dict[str, Any], method: str, *params: Any) -> Any:
    """The simulator's own answer, past the relay."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    request = urllib.request.Request(  # noqa: S310
        f"{relay['simulator']}/evm",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)["result"]


def assert_true(found: dict[str, Any], relay: dict[str, Any]) -> None:
    """What a client read is what the chain says."""
    number = found["number"]
    assert found["chain_id"] == 999
    block = truth(relay, "eth_getBlockByNumber", hex(number), False)
    assert block["hash"].removeprefix("0x") == found["hash"].removeprefix("0x")
    logs = truth(relay, "eth_getLogs", {"fromBlock": hex(number - 8), "toBlock": hex(number)})
    assert found["logs"] == found["transfers"] == len(logs) > 0
    assert found["value"] == 1_000
    assert found["receipt_logs"] == 1
    assert found["name"] == "Simulated Dollar"
    assert found["balance"] > 0
    heads = found["heads"]
    assert heads == list(range(heads[0], heads[0] + len(heads)))
    assert len(heads) >= HEADS
    assert all(block % 4 for block in found["log_blocks"])


def test_web3py(relay: dict[str, Any]) -> None:
    """web3.py 8.0.0: reads, a batch, a contract, a payment, and subscriptions."""
    command = [str(python_environment("web3py")), str(HERE / "web3py" / "client.py")]
    found = run_client(
        command, relay["evm"], str(HEADS), str(DEADLINE_S), deadline_s=DEADLINE_S * 3
    )
    assert_true(found, relay)
    assert found["parents"][0] == found["parents"][1]
    assert found["paid"] == 10**15
    assert found["mined_in"] >= found["number"]
    assert found["unsubscribed"]


def test_viem(relay: dict[str, Any]) -> None:
    """viem 2.57.20: reads in batches, a contract, watchBlocks and watchContractEvent."""
    try:
        folder = node_environment("viem")
    except Missing as missing:
        skip(str(missing))
        raise
    command = [*node_command(), str(folder / "client.mjs")]
    found = run_client(
        command, relay["evm"], str(HEADS), str(DEADLINE_S), deadline_s=DEADLINE_S * 3
    )
    assert found["complete"], found
    assert_true(found, relay)
