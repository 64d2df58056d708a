"""`docs/usage.md` against a real edge: each channel in both dialects, counted by the customer and
by the meter."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from billing.metering.batch import decode
from billing.metering.spool import Spool, recover
from streaming.core.catalogue import Catalogue
from streaming.core.counted import Reason, coin_of
from streaming.core.dialects import official, relay
from streaming.core.envelope import Envelope, Position, Role
from streaming.core.snapshots import Opening, opening_of
from streaming.core.topic import CHAINED_KINDS, Kind, Topic
from tests.support.edge import DEADLINE_S, Edge
from tests.support.environment import VAR

TABLE = (Path(__file__).resolve().parents[2] / "docs" / "usage.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (yes|no) \| (yes|no) \| (yes|no) \|", TABLE, re.MULTILINE)
USER = "0x" + "ab" * 20
EPOCH = "n-0123456789ab"
#: Channel, coin, reason.
Place = tuple[str, str, str]


def subscription(kind: str) -> dict[str, Any]:
    """One subscription of the kind."""
    wanted = {"type": kind, "coin": "BTC", "user": USER, "interval": "1m", "stream": "node_fills"}
    names = official._FIELDS.get(kind, ("coin", "stream") if kind == "raw" else ("coin",))
    return {name: value for name, value in wanted.items() if name in ("type", *names)}


def topic_of(kind: str) -> Topic:
    text = json.dumps({"method": "subscribe", "subscription": subscription(kind)})
    request = relay.parse(text, Catalogue())
    assert isinstance(request, relay.Subscribe)
    (topic,) = request.topics
    return topic


def payload(topic: Topic, number: int) -> bytes:
    data: Any = {"number": number}
    if topic.kind is Kind.TRADES:
        data = [{"time": number, "tid": number}]
    return json.dumps({"channel": topic.kind.value, "data": data}).encode()


@pytest.fixture(scope="module")
def own_edge(redis_url: str) -> Iterator[Edge]:
    edge = Edge(
        VAR / "usage-edge",
        redis_url=redis_url.removesuffix("/0") + "/9",
        variables={"RELAY_REGION": "tokyo"},
    )
    edge.start()
    yield edge
    if edge.process.poll() is None:
        edge.stop()


class Customer:
    """Counts for itself what it is given, by what it asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.counted: Counter[tuple[Place, str]] = Counter()
        self.given: Counter[str] = Counter()
        self.others = 0

    def take(self, channel: str) -> dict[str, Any]:
        """Read up to and with the next frame of a channel."""
        while True:
            text = self.socket.recv(DEADLINE_S)
            frame: dict[str, Any] = json.loads(text)
            name = frame["channel"]
            if name in Kind._value2member_map_:
                is_again = bool(frame.get("snapshot")) and self.given[name] > 0
                place = (name, coin_of(topic_of(name)), "resync" if is_again else "")
                self.given[name] += 1
                self.counted[place, "messages"] += 1
                self.counted[place, "bytes"] += len(str(text).encode())
            else:
                self.others += 1
            if name == channel:
                return frame


def test_each_channel_counts_as_the_table_says(own_edge: Edge) -> None:
    edge = own_edge
    with edge.connect() as plain, edge.connect(query="?relay=1") as numbered:
        customers = {"official": Customer(plain), "relay": Customer(numbered)}
        for kind, _, is_official, _ in ROWS:
            topic = topic_of(kind)
            has_official = is_official == "yes"
            following = [customers["relay"], *([customers["official"]] if has_official else [])]
            for customer in following:
                asked = {"method": "subscribe", "subscription": subscription(kind)}
                customer.socket.send(json.dumps(asked))
                customer.take("subscriptionResponse")
            edge.wait_for_lease(topic.name)
            # What has no snapshot opens with an update.
            first = 0 if opening_of(topic) is Opening.NOTHING else 1
            roles = [(Role.SNAPSHOT, 1, first), (Role.UPDATE, 2, 1), (Role.UPDATE, 3, 2)]
            for number, (role, height, before) in enumerate(roles):
                edge.publish(
                    Envelope(
                        topic.name,
                        EPOCH,
                        Position(height),
                        Position(before),
                        role,
                        payload(topic, number),
                    )
                )
                for customer in following:
                    customer.take(kind)
        # What was told of a chained topic was wrong: the snapshot that follows is free.
        for kind in sorted(kind.value for kind in CHAINED_KINDS):
            topic = topic_of(kind)
            edge.publish(
                Envelope(topic.name, EPOCH, Position(9), Position(3), Role.RESET, b"wrong"),
                Envelope(
                    topic.name, EPOCH, Position(9), Position(9), Role.SNAPSHOT, payload(topic, 9)
                ),
            )
            customers["relay"].take(kind)
            if kind == Kind.L4_BOOK:
                # The official dialect has no mark for it: the customer knows because we do.
                before = customers["official"].counted.copy()
                customers["official"].take(kind)
                news = customers["official"].counted - before
                customers["official"].counted.subtract(news)
                for ((channel, coin, _), metric), units in news.items():
                    customers["official"].counted[(channel, coin, "resync"), metric] += units
        for customer in customers.values():
            for frame in ({"method": "ping"}, {"method": "nonsense"}):
                customer.socket.send(json.dumps(frame))
        customers["official"].take("pong")
        customers["relay"].take("pong")
    # What it had counted is in its file, however it ends.
    edge.process.kill()
    edge.process.wait(DEADLINE_S)
    spool = Spool(edge.var / "usage" / "spool")
    recover(edge.var / "usage" / "meters", spool, now=datetime.now(UTC))
    batches = [decode(spool.read(batch_id) or b"") for batch_id in spool.ids()]
    metered: Counter[tuple[Place, str]] = Counter()
    for line in (line for batch in batches for line in batch.lines):
        place = (line.channel, line.coin, line.reason)
        metered[place, "messages"] += line.messages
        metered[place, "bytes"] += line.payload_bytes
    counted = customers["official"].counted + customers["relay"].counted
    assert metered == counted
    assert {batch.region for batch in batches} == {"tokyo"}
    assert all(customer.others for customer in customers.values())

    assert {kind for kind, *_ in ROWS} == {kind.value for kind in Kind}
    for kind, by_coin, is_official, is_relay in ROWS:
        coins = {coin for (channel, coin, _), _ in metered if channel == kind}
        assert coins == ({"BTC"} if by_coin == "yes" else {""}), kind
        assert customers["official"].given[kind] == (3 if is_official == "yes" else 0) + (
            kind == Kind.L4_BOOK
        ), kind
        assert is_relay == "yes"
        assert customers["relay"].given[kind] == 3 + (Kind(kind) in CHAINED_KINDS), kind
    minutes = {(line.coin, line.hour) for batch in batches for line in batch.minutes}
    assert {coin for coin, _ in minutes} == {"BTC"}


def test_the_reasons_are_those_of_the_code() -> None:
    section = TABLE.split("## Free of charge")[1].split("## By coin")[0]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {reason.value for reason in Reason} - {""}
