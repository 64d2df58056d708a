"""Clients of others follow one simulated user: at the simulator itself, and through the relay."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.clients.environments import (
    HERE,
    node_command,
    node_environment,
    python_environment,
    run_client,
)
from tests.clients.simulator import running_simulator
from tests.conftest import skip
from tests.support.services import Missing

pytestmark = [pytest.mark.relay, pytest.mark.timeout(600)]

COIN = "BTC"
FRAMES = 3
DEADLINE_S = 90
FILL_KEYS = [
    "coin", "px", "sz", "side", "time", "startPosition", "dir", "closedPnl", "hash", "oid",
    "crossed", "fee",
]  # fmt: skip
CANDLE_KEYS = ["t", "T", "s", "i", "o", "c", "h", "l", "v", "n"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client connects, and where the truth is asked for."""

    http: str
    ws: str
    simulator: str

    def ask(self, body: dict[str, Any]) -> Any:
        """The simulator's answer, whoever stands before it."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.simulator}/info",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    @property
    def user(self) -> str:
        """A maker: one who has orders in nearly every block, and fills every second."""
        users = self.ask({"type": "simUsers"})
        return str(users[0])


@pytest.fixture(scope="module", params=["simulator", "relay"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Both ends of the line: a client that fails at the second alone has found a fault of ours."""
    if request.param == "relay":
        run = request.getfixturevalue("relay")
        yield Place(f"{run['http']}/{run['api_key']}", run["ws"], run["simulator"])
        return
    with running_simulator(tmp_path_factory.mktemp("simulator")) as url:
        yield Place(url, f"ws{url.removeprefix('http')}/ws", url)


def assert_user_frames(frames: dict[str, list[Any]], place: Place, user: str) -> None:
    """Fills, order updates and candles as the exchange shapes them, and true."""
    true_fills = {row["tid"]: row for row in place.ask({"type": "userFills", "user": user})}
    first, *later = frames["userFills"]
    assert first["isSnapshot"] is True
    assert not any("isSnapshot" in frame and frame["isSnapshot"] for frame in later)
    assert all(frame["user"] == user for frame in frames["userFills"])
    seen: list[int] = []
    for fill in (fill for frame in later for fill in frame["fills"]):
        assert list(fill)[: len(FILL_KEYS)] == FILL_KEYS
        assert fill == true_fills[fill["tid"]]
        seen.append(fill["tid"])
    assert len(seen) == len(set(seen))
    for event in frames["user"]:
        assert len(event) == 1
        for fill in event.get("fills", []):
            assert fill == true_fills[fill["tid"]]
    for update in (update for frame in frames["orderUpdates"] for update in frame):
        assert list(update) == ["order", "status", "statusTimestamp"]
        assert list(update["order"])[:7] == [
            "coin", "side", "limitPx", "sz", "oid", "timestamp", "origSz",
        ]  # fmt: skip
    for candle in frames["candle"]:
        assert list(candle) == CANDLE_KEYS
        assert (candle["s"], candle["i"]) == (COIN, "1m")


def tids_of(place: Place, user: str) -> set[int]:
    """Of the newest fills, of which so many are told."""
    return {row["tid"] for row in place.ask({"type": "userFills", "user": user})}


def assert_known_orders(oids: set[int], place: Place, user: str) -> None:
    """Every order id is one of the user's."""
    for oid in sorted(oids)[:20]:
        answer = place.ask({"type": "orderStatus", "user": user, "oid": oid})
        assert answer["status"] == "order", oid


def test_python_sdk(place: Place) -> None:
    user = place.user
    command = [str(python_environment("python_sdk")), str(HERE / "python_sdk" / "user_feeds.py")]
    found = run_client(
        command, place.http, user, COIN, str(FRAMES), str(DEADLINE_S), deadline_s=DEADLINE_S * 2
    )
    assert found["complete"], {name: len(got) for name, got in found["frames"].items()}
    assert_user_frames(found["frames"], place, user)
    updates = [update for frame in found["frames"]["orderUpdates"] for update in frame]
    assert_known_orders({update["order"]["oid"] for update in updates}, place, user)


def test_ccxt_pro(place: Place) -> None:
    user = place.user
    command = [str(python_environment("ccxt")), str(HERE / "ccxt" / "user_feeds.py")]
    # The oldest of the snapshot's are no longer told of once as many newer ones are there.
    before = tids_of(place, user)
    found = run_client(
        command, place.http, place.ws, user, COIN, str(FRAMES), str(DEADLINE_S),
        deadline_s=DEADLINE_S * 2,
    )  # fmt: skip
    assert {fill["tid"] for fill in found["fills"]} <= before | tids_of(place, user)
    assert all(order["symbol"] for order in found["orders"])
    assert_known_orders({int(order["id"]) for order in found["orders"]}, place, user)
    for candle in found["candles"]:
        _, opened, high, low, closed, volume = candle
        assert low <= min(opened, closed) <= max(opened, closed) <= high
        assert volume > 0


def test_nktkas(place: Place) -> None:
    try:
        folder = node_environment("nktkas")
    except Missing as missing:
        skip(str(missing))
        raise
    user = place.user
    command = [*node_command(), str(folder / "user_feeds.mjs")]
    found = run_client(
        command, place.ws, user, COIN, str(FRAMES), str(DEADLINE_S), deadline_s=DEADLINE_S * 2
    )
    assert found["complete"], {name: len(got) for name, got in found["frames"].items()}
    assert_user_frames(found["frames"], place, user)
