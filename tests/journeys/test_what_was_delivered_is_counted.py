"""From socket to ledger: a customer's own count equals the usage rows, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.relay import RunningRelay
from tests.support.services import wait_until

SUBSCRIPTIONS = [
    {"type": "l2Book", "coin": "BTC"},
    {"type": "bbo", "coin": "BTC"},
    {"type": "bbo", "coin": "ETH"},
    {"type": "trades", "coin": "BTC"},
    {"type": "allMids"},
]
DEADLINE_S = 30.0

Usage = Counter[tuple[str, str]]


def listen(relay: RunningRelay, *, frames: int, then: Callable[[], None] | None = None) -> Usage:
    """Subscribe, read `frames` data frames, do `then`, read whatever still comes; count it all."""
    seen: Usage = Counter()

    def count(text: str | bytes) -> bool:
        channel = json.loads(text)["channel"]
        if channel == "subscriptionResponse":
            return False
        seen[channel, "messages"] += 1
        seen[channel, "bytes"] += len(text.encode() if isinstance(text, str) else text)
        return True

    with connect(relay.run["ws"], compression=None, max_size=None) as customer:
        for subscription in SUBSCRIPTIONS:
            customer.send(json.dumps({"method": "subscribe", "subscription": subscription}))
        while frames:
            frames -= count(customer.recv(DEADLINE_S))
        if then is None:
            for subscription in SUBSCRIPTIONS:
                customer.send(json.dumps({"method": "unsubscribe", "subscription": subscription}))
            acks = 0
            while acks < len(SUBSCRIPTIONS):
                acks += not count(customer.recv(DEADLINE_S))
        else:
            then()
            try:
                while True:
                    count(customer.recv(DEADLINE_S))
            except ConnectionClosed:
                pass
    return seen


def ledger(var: Path) -> Usage:
    """The usage rows of the relay's own database."""
    database = sqlite3.connect(f"file:{var}/relay.sqlite3?mode=ro", uri=True, timeout=10)
    try:
        rows = database.execute(
            "SELECT channel, metric, SUM(units) FROM billing_usagerollup"
            " WHERE metric <> 'coin_minutes' GROUP BY channel, metric"
        ).fetchall()
    finally:
        database.close()
    return Counter({(channel, metric): units for channel, metric, units in rows})


def settled(relay: RunningRelay, *, at: Usage | None = None) -> Usage:
    """The ledger once it is `at`, or has stood still for longer than a batch takes to arrive."""
    state = {"usage": ledger(relay.var), "since": time.monotonic()}

    def is_still() -> bool:
        usage = ledger(relay.var)
        if usage != state["usage"]:
            state.update(usage=usage, since=time.monotonic())
        return usage == at or time.monotonic() - float(str(state["since"])) > 12.0

    wait_until(
        is_still,
        process=relay.process,
        what="a settled ledger",
        log=relay.var.parent / f"{relay.var.name}.out",
        deadline_s=120.0,
    )
    return ledger(relay.var)


# Half a minute of it is standing still, and six processes are started, some of them again.
@pytest.mark.timeout(240)
def test_the_ledger_is_what_customers_counted(start_relay: Callable[..., RunningRelay]) -> None:
    relay = start_relay("counted")
    counted = listen(relay, frames=300)

    # Jobs die with batches on their way, again and again.
    def kill(name: str) -> Callable[[], None]:
        return lambda: os.kill(int(relay.run["processes"][name]), signal.SIGKILL)

    kill("jobs")()
    counted += listen(relay, frames=200)
    assert settled(relay, at=counted) == counted  # what came later would be too much below

    # The edge dies while it delivers: what its last write held is not counted, which is at most one
    # message of each subscription here.
    _reread(relay)
    died = listen(relay, frames=200, then=kill("web"))
    counted += died
    missing = counted - settled(relay)
    assert not ledger(relay.var) - counted, "counted what nobody got"
    lost = sum(units for (_, metric), units in missing.items() if metric == "messages")
    assert lost <= len(SUBSCRIPTIONS)

    # Redis dies with everything in it.
    before = ledger(relay.var)
    _wait_until_ready(relay)
    third = listen(relay, frames=200)
    kill("redis")()
    _wait_until_ready(relay)
    assert settled(relay) - before == third


def _reread(relay: RunningRelay) -> None:
    relay.run = json.loads((relay.var / "run.json").read_text())


def _wait_until_ready(relay: RunningRelay) -> None:
    def is_ready() -> bool:
        try:
            with connect(relay.run["ws"], compression=None, open_timeout=2) as customer:
                customer.send('{"method":"ping"}')
                customer.recv(2)
        except (OSError, TimeoutError, ConnectionClosed):
            return False
        return True

    wait_until(
        is_ready,
        process=relay.process,
        what="a customer's socket",
        log=relay.var.parent / f"{relay.var.name}.out",
        deadline_s=DEADLINE_S,
    )
    _reread(relay)
