"""Clients of others, unchanged but for the base URL, get correct data from a simulated market."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
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

COIN = "BTC"
FRAMES = 3
#: The simulator trades every coin several times a second; allMids comes once a second.
DEADLINE_S = 60
#: The simulated price walks; within a test's minute it stays far inside of this.
NEAR = Decimal("0.05")

Levels = Sequence[dict[str, Any]]


@pytest.fixture(scope="module")
def true_mid(relay: dict[str, Any]) -> Decimal:
    """The middle of the simulator's own book: what the relay did not compute."""
    return middle(ask_simulator(relay, {"type": "l2Book", "coin": COIN})["levels"])


def ask_simulator(relay: dict[str, Any], body: dict[str, Any]) -> Any:
    """The simulator's answer to an /info question, past the relay."""
    request = urllib.request.Request(  # noqa: S310
        f"{relay['simulator']}/info",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def middle(levels: Sequence[Levels]) -> Decimal:
    """Between best bid and best ask."""
    bids, asks = levels
    return (Decimal(bids[0]["px"]) + Decimal(asks[0]["px"])) / 2


def assert_near(price: Any, mid: Decimal) -> None:
    """`price` is one that the simulated market could have had."""
    assert abs(Decimal(str(price)) / mid - 1) < NEAR


def assert_book(book: dict[str, Any], mid: Decimal) -> None:
    """An l2Book of 20 levels a side at most: ordered, not crossed, near the truth."""
    assert book["coin"] == COIN
    assert isinstance(book["time"], int)
    bids, asks = book["levels"]
    assert 0 < len(bids) <= 20
    assert 0 < len(asks) <= 20
    for level in (*bids, *asks):
        assert set(level) == {"px", "sz", "n"}
        assert Decimal(level["sz"]) > 0
        assert level["n"] >= 1
    assert all(Decimal(a["px"]) > Decimal(b["px"]) for a, b in pairwise(bids))
    assert all(Decimal(a["px"]) < Decimal(b["px"]) for a, b in pairwise(asks))
    assert Decimal(bids[0]["px"]) < Decimal(asks[0]["px"])
    assert_near(middle(book["levels"]), mid)


def assert_frames(frames: dict[str, list[Any]], mid: Decimal) -> None:
    """What a client of the official dialect got of the four topics."""
    for book in frames["l2Book"]:
        assert_book(book, mid)
    times = [book["time"] for book in frames["l2Book"]]
    assert times == sorted(times)
    tops = {book["time"]: [side[0] for side in book["levels"]] for book in frames["l2Book"]}
    for quote in frames["bbo"]:
        assert quote["coin"] == COIN
        bid, ask = quote["bbo"]
        assert Decimal(bid["px"]) < Decimal(ask["px"])
        # Two views of one book at one block.
        assert tops.get(quote["time"], quote["bbo"]) == quote["bbo"]
    trades = [trade for frame in frames["trades"] for trade in frame]
    assert trades
    assert len({trade["tid"] for trade in trades}) == len(trades)
    for trade in trades:
        fields = {"coin", "side", "px", "sz", "time", "hash", "tid", "users"}
        assert set(trade) == fields
        assert trade["coin"] == COIN
        assert trade["side"] in ("A", "B")
        assert Decimal(trade["sz"]) > 0
        assert len(trade["users"]) == 2
        assert_near(trade["px"], mid)
    for mids in frames["allMids"]:
        assert_near(mids["mids"][COIN], mid)


def test_python_sdk(relay: dict[str, Any], true_mid: Decimal) -> None:
    """hyperliquid-python-sdk 0.24.0: Info with its WebsocketManager."""
    command = [str(python_environment("python_sdk")), str(HERE / "python_sdk" / "client.py")]
    base_url = f"{relay['http']}/{relay['api_key']}"
    found = run_client(
        command, base_url, COIN, str(FRAMES), str(DEADLINE_S), deadline_s=DEADLINE_S * 2
    )
    assert found["complete"], {name: len(got) for name, got in found["frames"].items()}
    assert_frames(found["frames"], true_mid)
    assert COIN in found["info"]["meta"]
    assert_book(found["info"]["l2Book"], true_mid)
    assert_near(found["info"]["allMids"][COIN], true_mid)


def test_ccxt_pro(relay: dict[str, Any], true_mid: Decimal) -> None:
    """ccxt.pro 4.5.90: load_markets, watch_order_book, watch_trades, watch_tickers."""
    command = [str(python_environment("ccxt")), str(HERE / "ccxt" / "client.py")]
    base_url = f"{relay['http']}/{relay['api_key']}"
    found = run_client(
        command, base_url, relay["ws"], COIN, str(FRAMES), str(DEADLINE_S),
        deadline_s=DEADLINE_S * 2,
    )  # fmt: skip
    symbol = f"{COIN}/USDC:USDC"
    assert symbol in found["markets"]
    for book in (*found["l2Book"], found["fetched"]):
        bids = [Decimal(str(level[0])) for level in book["bids"]]
        asks = [Decimal(str(level[0])) for level in book["asks"]]
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]
        assert_near(bids[0], true_mid)
    assert len({trade["id"] for trade in found["trades"]}) == len(found["trades"])
    for trade in found["trades"]:
        assert trade["symbol"] == symbol
        assert trade["side"] in ("buy", "sell")
        assert_near(trade["price"], true_mid)
    for mid in found["allMids"]:
        assert_near(mid, true_mid)


def test_nktkas(relay: dict[str, Any], true_mid: Decimal) -> None:
    """@nktkas/hyperliquid 0.32.2: its subscribe() waits for a strictly matching acknowledgement."""
    try:
        folder = node_environment("nktkas")
    except Missing as missing:
        skip(str(missing))
        raise
    command = [*node_command(), str(folder / "client.mjs")]
    base_url = f"{relay['http']}/{relay['api_key']}"
    found = run_client(
        command, base_url, relay["ws"], COIN, str(FRAMES), str(DEADLINE_S),
        deadline_s=DEADLINE_S * 2,
    )  # fmt: skip
    assert found["complete"], {name: len(got) for name, got in found["frames"].items()}
    assert_frames(found["frames"], true_mid)
    assert_book(found["info"]["l2Book"], true_mid)
    assert_near(found["info"]["allMids"][COIN], true_mid)
