"""What a plan allows is what real edges give: rates, allowances, channels, and what is told."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from relay_site.processes import free_port
from streaming.bus import keys
from streaming.core.envelope import Role
from streaming.ws.close_codes import CloseCode
from tenants.admission.allowances import SETTLE_EVERY_S
from tenants.admission.keys import Environment, generate
from tenants.admission.wrong_keys import WRONG_BURST
from tests.core.relay_world import check, trade
from tests.support.edge import DEADLINE_S, Edge, frame
from tests.support.environment import VAR
from tests.support.services import Service, start_redis

IMPORTS = """
import json
from datetime import timedelta
from django.utils import timezone
from tenants import services
from tenants.admission import changes
from tenants.models import *
def tenant(slug, **limits):
    made = services.create_tenant(name=slug, slug=slug, plan=plan)
    if limits: QuotaOverride.objects.create(tenant=made, **limits)
    return made
def allow(tenant, units, code='messages', **fields):
    now = timezone.now()
    Allowance.objects.create(tenant=tenant, code=code, metric='messages', units=units,
        starts_at=now - timedelta(hours=3), ends_at=now + timedelta(hours=3), **fields)
def key(tenant, **rights): print(services.issue_key(tenant=tenant, name='bot', **rights).raw)
plan, _ = Plan.objects.get_or_create(code='wide', name='Wide')
Quota.objects.get_or_create(plan=plan, max_connections=100)
"""
#: Messages a second of the feed.
RATE = 100


@pytest.fixture(scope="module")
def quota_redis() -> Iterator[list[Service]]:
    """The Redis of rates and allowances alone, which a test may kill."""
    running = [start_redis(VAR / "quota-redis", port=free_port())]
    yield running
    running[0].stop()


@pytest.fixture(scope="module")
def edges(redis_url: str, quota_redis: list[Service]) -> Iterator[tuple[Edge, Edge]]:
    """Two edges of one relay, behind a proxy, which is us."""
    variables = {"RELAY_TRUSTED_PROXIES": "127.0.0.1", "REDIS_QUOTA_URL": quota_redis[0].url}
    first, second = (
        Edge(
            VAR / f"quota-edge-{number}",
            redis_url=redis_url.removesuffix("/0") + "/12",
            variables=variables,
        )
        for number in (1, 2)
    )
    second.share(first)
    first.redis.flushdb()
    # A worker's heartbeat: then a coin that is none is answered without an origin.
    source = {"kind": "public", "books_ready": True, "silent_s": 0.0}
    first.redis.sadd(keys.WORKERS, "w")
    first.redis.set(keys.WORKER.format(worker="w"), json.dumps({"sources": {"public0": source}}))
    coins = ["HARD", "LOST", "A", "B", "C"]
    first.redis.set(keys.CATALOGUE, json.dumps({"coins": coins, "dexes": []}))
    for edge in (first, second):
        edge.start()
    yield first, second
    for edge in (first, second):
        edge.stop()


def act(edge: Edge, code: str) -> str:
    """Do something as an operator's process would; answers the last line printed."""
    return edge.shell(IMPORTS + code)


class Customer(threading.Thread):
    """Reads all a socket gives until it ends."""

    def __init__(self, edge: Edge, raw: str, coin: str, *, is_relay: bool) -> None:
        super().__init__(daemon=True)
        self.url = f"ws://127.0.0.1:{edge.port}/{raw}/ws" + ("?relay=1" if is_relay else "")
        self.coin, self.is_relay = coin, is_relay
        self.data = 0
        self.notices: list[dict[str, Any]] = []
        self.close: tuple[int, str] | None = None
        self.others: list[str] = []
        self.is_ready = threading.Event()
        self.start()
        assert self.is_ready.wait(DEADLINE_S)

    def run(self) -> None:
        with connect(self.url, compression=None) as socket:
            subscription = {"type": "trades", "coin": self.coin}
            socket.send(json.dumps({"method": "subscribe", "subscription": subscription}))
            assert "subscriptionResponse" in str(socket.recv(DEADLINE_S))
            self.is_ready.set()
            self.read(socket)

    def read(self, socket: ClientConnection) -> None:
        """Until it is closed."""
        try:
            while True:
                text = socket.recv()
                got = check(text) if self.is_relay else json.loads(text)
                if got["channel"] == "trades":
                    self.data += 1
                elif got["data"].get("type") == "notice":
                    self.notices.append(got["data"])
                else:
                    self.others.append(got["channel"])
        except ConnectionClosed as closed:
            self.close = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


def feed(
    edges: tuple[Edge, ...],
    coin: str,
    *,
    until: Callable[[], bool],
    at: dict[int, Callable[[], None]] | None = None,
) -> None:
    """`RATE` messages a second to each edge until `until`; `at` are deeds before a message."""
    topic, begun_s = f"trades {coin}", time.monotonic()
    for height in range(1, 60 * RATE):
        if at and height in at:
            at[height]()
            begun_s = time.monotonic() - height / RATE  # the feed stood still meanwhile
        data = json.dumps({"channel": "trades", "data": [trade(coin, height)]}).encode()
        for edge in edges:
            role = Role.SNAPSHOT if height == 1 else Role.UPDATE
            edge.publish(frame(topic, height, data, role=role))
        # The feed is a clock: what is tested is what comes in a second.
        time.sleep(max(0.0, begun_s + height / RATE - time.monotonic()))
        if until():
            return
    raise AssertionError("it went on and on")


def test_a_hard_allowance_is_told_and_then_ends_what_is_open_at_both_edges(
    edges: tuple[Edge, Edge],
) -> None:
    units = 2_400  # from three quarters to all takes two settlements
    raw = act(edges[0], f"t = tenant('hard'); allow(t, {units}); key(t)")
    customers = [
        Customer(edges[0], raw, "HARD", is_relay=True),
        Customer(edges[1], raw, "HARD", is_relay=True),
        Customer(edges[1], raw, "HARD", is_relay=False),
    ]
    for edge in edges:
        edge.wait_for_lease("trades HARD")
    feed(edges, "HARD", until=lambda: all(customer.close for customer in customers))
    for customer in customers:
        customer.join(DEADLINE_S)
    delivered = sum(customer.data for customer in customers)
    bound = 2 * SETTLE_EVERY_S * RATE * len(customers)
    assert units <= delivered <= units + bound * 1.25  # a busy machine's seconds are longer
    for customer in customers[:2]:
        codes = [notice["code"] for notice in customer.notices]
        assert codes[-1] == "quota_exhausted"
        assert "allowance_used" in codes[:-1]
        assert customer.close is not None
        assert customer.close[0] == CloseCode.QUOTA
    assert customers[2].notices == customers[2].others == []
    assert customers[2].close is not None
    assert customers[2].close[0] == CloseCode.POLICY
    assert "quota exhausted: messages" in customers[2].close[1]
    for edge in edges:
        with pytest.raises(InvalidStatus) as refused:
            edge.connect(raw)
        response = refused.value.response
        answer = json.loads(response.body)
        assert (response.status_code, answer["code"]) == (429, "quota_exhausted")
        assert answer["limit"] == units <= answer["used"]
        assert answer["resets_at"].endswith("Z")
        assert 10_000 < int(response.headers["retry-after"]) <= 3 * 3600
    rows = act(
        edges[0],
        "rows = QuotaWarning.objects.filter(tenant__slug='hard').order_by('threshold')\n"
        "print(json.dumps(list(rows.values_list('threshold', flat=True))))",
    )
    told = json.loads(rows)
    assert told[-1] >= 100
    assert len(told) == len(set(told)) >= 2


def test_a_key_s_own_day_is_its_own_and_counts_requests_too(edges: tuple[Edge, Edge]) -> None:
    edge = edges[0]
    raw = act(edge, "t = tenant('day'); key(t, daily_quota=3)")
    other = act(edge, "key(Tenant.objects.get(slug='day'))")
    answer, deadline_s = {"code": ""}, time.monotonic() + DEADLINE_S
    # Its rate may be used up before its day is known to be.
    while answer.get("code") != "quota_exhausted" and time.monotonic() < deadline_s:
        status, _, body = ask(edge, raw, "l2Book", coin="NOPE")
        answer = json.loads(body) or {}
    assert (status, answer["code"], answer["allowance"]) == (429, "quota_exhausted", "key-day")
    assert answer["resets_at"].endswith("T00:00:00Z")
    assert ask(edge, other, "l2Book", coin="NOPE")[0] == 200


def ask(
    edge: Edge, raw: str, kind: str, *, coin: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One `/info` request: status, headers, body."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{edge.port}/{raw}/info",
        data=json.dumps({"type": kind, "coin": coin}).encode(),
        headers={"content-type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_info_says_how_the_rates_stand_and_both_edges_share_them(edges: tuple[Edge, Edge]) -> None:
    raw = act(
        edges[0],
        "t = tenant('paced', requests_per_s=1, burst=100, max_connections=5)\n"
        "key(t, rate_per_minute=600, rate_burst=200)",
    )
    _, headers, _ = ask(edges[0], raw, "userRole")
    fields = {name.lower(): value for name, value in headers.items()}
    assert fields["ratelimit-policy"] == '"default";q=200;w=20, "plan";q=100;w=100'
    assert fields["ratelimit"].startswith('"default";r=140;t=6, "plan";r=40;')
    assert ask(edges[1], raw, "meta")[0] != 429  # 20 of 40
    status, headers, body = ask(edges[1], raw, "userRole")
    assert (status, json.loads(body)["code"]) == (429, "rate_limited")
    fields = {name.lower(): value for name, value in headers.items()}
    assert int(fields["retry-after"]) >= 20
    assert '"plan";r=' in fields["ratelimit"]


def subscribe(socket: ClientConnection, **asked: Any) -> dict[str, Any]:
    """The first answer that is about it."""
    socket.send(json.dumps({"method": "subscribe", **asked}))
    while True:
        got: dict[str, Any] = json.loads(socket.recv(DEADLINE_S))
        if got["channel"] != "relay" or got["data"]["type"] == "error":
            return got


def test_what_a_plan_has_not_is_refused_by_name(edges: tuple[Edge, Edge]) -> None:
    edge = edges[0]
    raw = act(
        edge,
        "key(tenant('small', channels=['trades', 'bbo'], products=['ws'], max_coins=2,"
        " max_users=0, retention_hours=1))",
    )
    status, _, body = ask(edge, raw, "meta")
    assert (status, json.loads(body)["code"], json.loads(body)["has"]) == (
        403,
        "not_in_plan",
        ["ws"],
    )
    with edge.connect(raw) as official:
        book = subscribe(official, subscription={"type": "l2Book", "coin": "A"})
        assert book["data"] == (
            "Invalid subscription: The channel 'l2Book' is not in your plan, which has bbo, trades."
        )
        for kind, coin in (("trades", "A"), ("bbo", "A"), ("trades", "B")):
            got = subscribe(official, subscription={"type": kind, "coin": coin})
            assert got["channel"] == "subscriptionResponse"
        third = subscribe(official, subscription={"type": "trades", "coin": "C"})
        assert third["data"] == "Cannot track more than 2 total coins."
    with connect(f"ws://127.0.0.1:{edge.port}/{raw}/ws?relay=1", compression=None) as relay:
        book = check(json.dumps(subscribe(relay, subscription={"type": "l2Book", "coin": "A"})))
        assert (book["data"]["code"], book["data"]["has"]) == ("not_in_plan", ["bbo", "trades"])
        coins = {"type": "trades", "coins": ["A", "B", "C"]}
        many = check(json.dumps(subscribe(relay, subscription=coins)))
        assert (many["data"]["code"], many["data"]["limit"]) == ("too_many_coins", 2)
        two = {"type": "trades", "coins": ["A", "B"]}
        assert subscribe(relay, subscription=two)["channel"] == "subscriptionResponse"


def test_wrong_keys_are_throttled_by_address_and_good_ones_are_not(
    edges: tuple[Edge, Edge],
) -> None:
    edge = edges[0]
    raw = act(edge, "key(tenant('guessed'))")
    here, elsewhere = {"x-forwarded-for": "192.0.2.1"}, {"x-forwarded-for": "192.0.2.2"}
    wrong = [ask(edge, generate(Environment.LIVE), "meta", **here) for _ in range(WRONG_BURST + 20)]
    statuses = [status for status, _, _ in wrong]
    assert statuses[:WRONG_BURST] == [401] * WRONG_BURST
    assert statuses[-1] == 429
    assert json.loads(wrong[-1][2])["code"] == "too_many_wrong_keys"
    assert ask(edge, raw, "meta", **here)[0] not in (401, 429)  # never seen here before
    assert ask(edge, generate(Environment.LIVE), "meta", **elsewhere)[0] == 401


def test_a_redis_that_dies_and_comes_back_empty_neither_resets_nor_doubles(
    edges: tuple[Edge, Edge], quota_redis: list[Service]
) -> None:
    units = 2_000
    raw = act(edges[0], f"t = tenant('lost'); allow(t, {units}); key(t)")
    customers = [Customer(edge, raw, "LOST", is_relay=True) for edge in edges]
    for edge in edges:
        edge.wait_for_lease("trades LOST")
    port = int(quota_redis[0].url.rsplit(":", 1)[1].split("/")[0])

    def restart() -> None:
        quota_redis[0] = start_redis(VAR / "quota-redis", port=port)

    feed(
        edges,
        "LOST",
        until=lambda: all(customer.close for customer in customers),
        at={400: lambda: quota_redis[0].kill(), 550: restart},
    )
    for customer in customers:
        customer.join(DEADLINE_S)
    delivered = sum(customer.data for customer in customers)
    bound = 2 * SETTLE_EVERY_S * RATE * len(customers)
    assert units <= delivered <= units + bound * 1.25
