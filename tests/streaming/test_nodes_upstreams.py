"""Upstreams in the admin: what may be written, when it is used, and how each does now."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils.html import escape

from streaming.bus import keys
from streaming.nodes import probe, selectors, services
from streaming.nodes.models import UpstreamNode
from streaming.upstream.spec import BadUpstreams, TlsFiles, UpstreamKind, parse_upstreams
from tests.streaming.gateways import GatewayProcess
from tests.streaming.node_lines import BY_BLOCK, FILLS, NodeDirectory, node_line
from tests.support.services import find_binary

pytestmark = pytest.mark.django_db
BASE = "/admin/nodes/upstreamnode/"


@pytest.fixture
def bus(settings: Any, redis_url: str) -> Iterator[redis.Redis]:
    settings.REDIS_BUS_URL = redis_url.removesuffix("/0") + "/11"
    with redis.Redis.from_url(settings.REDIS_BUS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def rows(settings: Any) -> None:
    """The rows are the list."""
    settings.RELAY_UPSTREAMS = ""


def beat(bus: redis.Redis, worker: str, sources: dict[str, Any]) -> None:
    """A worker's heartbeat."""
    bus.sadd(keys.WORKERS, worker)
    state = {"at_s": time.time(), "topics": 0, "sources": sources}
    bus.set(keys.WORKER.format(worker=worker), orjson.dumps(state), ex=60)


def node(kind: str, address: str, **fields: Any) -> UpstreamNode:
    upstream = UpstreamNode(kind=kind, address=address, **fields)
    upstream.full_clean()
    upstream.save()
    return upstream


# --- what may be written ---


@pytest.mark.parametrize(
    ("kind", "written", "kept"),
    [
        ("node", " /var/hl/data/ ", "/var/hl/data"),
        ("node", "node:///var/hl/data", "/var/hl/data"),
        ("gateway", "gateway://Node1.example.org:50052", "node1.example.org:50052"),
        ("gateway", "[::1]:50052", "[::1]:50052"),
        ("public", "wss://API.hyperliquid.xyz", "wss://api.hyperliquid.xyz/ws"),
    ],
)
def test_an_address_has_one_form(kind: str, written: str, kept: str) -> None:
    assert node(kind, written).address == kept
    with pytest.raises(ValidationError) as refused:
        node(kind, kept)
    assert refused.value.message_dict == {"address": ["This upstream is in the list already."]}


@pytest.mark.parametrize(
    ("kind", "address", "field", "why"),
    [
        ("node", "data", "address", "absolute folder"),
        ("node", "/a,b", "address", "no blank, comma"),
        ("gateway", "node1", "address", "host and port"),
        ("gateway", "node1:0", "address", "no port 0"),
        ("gateway", "node1:70000", "address", "no port 70000"),
        ("public", "https://api.hyperliquid.xyz", "address", "ws or wss URL"),
        ("public", "wss://user:secret@host/ws", "address", "password"),
        ("public", "wss://host:99999999/ws", "address", "ws or wss URL"),
    ],
)
def test_a_bad_address_is_one_clear_error(kind: str, address: str, field: str, why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        node(kind, address)
    assert list(refused.value.message_dict) == [field]
    assert why in refused.value.message_dict[field][0]


def test_other_fields_say_what_is_wrong_too() -> None:
    with pytest.raises(ValidationError) as refused:
        node("node", "/data", info_url="localhost:3001", region="a b", weight=0)
    assert set(refused.value.message_dict) == {"info_url", "region", "weight"}


# --- when it is used ---


def test_rows_are_read_as_the_setting_would_be(rows: None) -> None:
    node("node", "/data", info_url="http://127.0.0.1:3001", region="tokyo", weight=3)
    node("public", "wss://api.hyperliquid-testnet.xyz/ws", chain="testnet")
    node("node", "/other", is_enabled=False)
    node("node", "/third", is_draining=True)
    one, two = services.configured().values()
    assert (one.kind, one.address, one.region, one.weight) == (
        UpstreamKind.NODE, "/data", "tokyo", 3,
    )  # fmt: skip
    assert one.info_url == "http://127.0.0.1:3001/info"
    assert (two.kind, two.chain) == (UpstreamKind.PUBLIC, "testnet")
    assert two.info_url == "https://api.hyperliquid-testnet.xyz/info"


def test_the_setting_wins_and_the_page_says_so(
    settings: Any, operator: Client, bus: redis.Redis
) -> None:
    row = node("node", "/data")
    settings.RELAY_UPSTREAMS = "wss://api.hyperliquid.xyz/ws"
    assert [spec.kind for spec in services.configured().values()] == [UpstreamKind.PUBLIC]
    page = operator.get(BASE).content.decode()
    assert "data-fixed" in page
    assert "wss://api.hyperliquid.xyz/ws" in page
    assert operator.get(f"{BASE}add/").status_code == 403
    assert operator.get(f"{BASE}{row.pk}/change/").status_code == 200
    assert operator.post(f"{BASE}{row.pk}/change/", {"address": "/x"}).status_code == 403
    assert operator.post(f"{BASE}{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_an_operator_adds_one(rows: None, operator: Client, bus: redis.Redis) -> None:
    fields = {"kind": "gateway", "address": "Node1:50052", "chain": "mainnet", "weight": "1"}
    answer = operator.post(f"{BASE}add/", {**fields, "is_enabled": "on"})
    assert answer.status_code == 302, answer.content.decode()
    assert UpstreamNode.objects.get().address == "node1:50052"
    answer = operator.post(f"{BASE}add/", {**fields, "address": "node1"})
    assert escape("Write the gateway's host and port") in answer.content.decode()


# --- how it does ---


def test_the_live_state_comes_from_the_heartbeats(
    rows: None, operator: Client, bus: redis.Redis
) -> None:
    row = node("node", "/data")
    good = {"kind": "node", "address": "/data", "height": 1_000_050, "silent_s": 0.07,
            "lag": 0, "books_ready": True, "bytes_per_s": 7_100_000, "faults": {},
            "marks": []}  # fmt: skip
    late = good | {"address": "/b", "height": 1_000_000, "lag": 50, "marks": ["lagging"],
                   "faults": {"bad_json": 1_234}}  # fmt: skip
    beat(bus, "worker-one", {"node0": good, "node1": late})
    bus.sadd(keys.WORKERS, "dead")  # its heartbeat has expired
    bus.sadd(keys.WORKERS, "odd")
    bus.set(keys.WORKER.format(worker="odd"), b"not json")

    first, second = selectors.live_sources()
    assert (first.height, first.lag, first.marks) == (1_000_050, 0, ())
    assert (second.lag, second.marks, second.error_total) == (50, ("lagging",), 1_234)

    page = operator.get(BASE).content.decode()
    for text in ("1,000,050", "50 blocks", "lagging", "1,234", "7.1 MB/s", "worker-one"):
        assert text in page, text
    page = operator.get(f"{BASE}{row.pk}/change/").content.decode()
    assert "worker worker-one, node0: up" in page


def test_a_worker_that_says_less_is_judged_here(bus: redis.Redis) -> None:
    beat(bus, "w", {
        "a": {"kind": "node", "height": 900, "silent_s": 3.5, "books_ready": True, "faults": {}},
        "b": {"kind": "node", "height": 1_000, "silent_s": 0.1, "books_ready": False},
        "c": {"kind": "public", "height": None, "silent_s": 90.0, "books_ready": True},
        "d": "nonsense",
        "e": {"kind": "node", "height": "x", "silent_s": None, "faults": "x"},
    })  # fmt: skip
    a, b, c, e = selectors.live_sources()
    assert (a.lag, a.marks) == (100, ("stalled",))
    assert (b.lag, b.marks) == (0, ("no books yet",))
    assert (c.lag, c.marks) == (None, ())
    assert (e.height, e.marks) == (None, ("stalled",))


def test_without_redis_the_pages_still_open(rows: None, operator: Client, settings: Any) -> None:
    settings.REDIS_BUS_URL = "redis://127.0.0.1:9/0"
    node("node", "/data")
    page = operator.get(BASE).content.decode()
    assert "Redis does not answer" in page
    assert "/data" in page


# --- whether it answers ---


def test_a_connection_is_tested(tmp_path: Path, rows: None) -> None:
    found = probe.probe(UpstreamNode(kind="node", address=str(tmp_path)))
    assert (found.is_good, "no node files" in found.text) == (False, True)
    (tmp_path / "node_fills_by_block").mkdir()
    found = probe.probe(UpstreamNode(kind="node", address=str(tmp_path)))
    assert (found.is_good, found.text) == (True, "The folder holds node_fills_by_block.")
    assert not probe.probe(UpstreamNode(kind="node", address="/nowhere")).is_good
    assert not probe.probe(UpstreamNode(kind="gateway", address="127.0.0.1:9")).is_good
    assert not probe.probe(UpstreamNode(kind="public", address="ws://127.0.0.1:9/ws")).is_good
    down = UpstreamNode(kind="node", address=str(tmp_path), info_url="http://127.0.0.1:9/info")
    found = probe.probe(down)
    assert not found.is_good
    assert "/info does not answer" in found.text


def test_one_that_never_answers_costs_three_seconds(
    operator: Client, rows: None, bus: redis.Redis
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        row = node("public", f"ws://127.0.0.1:{silent.getsockname()[1]}/ws")
        begun_s = time.monotonic()
        data = {"action": "test_connection", "_selected_action": [str(row.pk)]}
        page = operator.post(BASE, data, follow=True).content.decode()
        assert time.monotonic() - begun_s < probe.LIMIT_S + 1.5
        assert "No answer within 3 s." in page
    page = operator.get(f"{BASE}{row.pk}/test/", follow=True).content.decode()
    assert "No WebSocket" in page


# --- what the page says ---


def test_a_public_feed_that_is_not_there_is_not_up(bus: redis.Redis) -> None:
    public = {"kind": "public", "height": None, "books_ready": True, "silent_s": 0.2,
              "connections": 1, "subscriptions": 4, "waiting": 2, "bytes_per_s": 1_200}  # fmt: skip
    beat(bus, "w", {
        "a": public,
        "b": public | {"connections": 0},
        "c": public | {"silent_s": 40.0},
        "d": public | {"books_ready": False},
        "e": public | {"connections": 0, "subscriptions": 0, "silent_s": None},
        "f": {"kind": "polled", "topics": 3, "answered": []},
    })  # fmt: skip
    assert [source.state for source in selectors.live_sources()] == [
        "up", "not connected", "stalled", "no names yet", "idle", "not answered",
    ]  # fmt: skip
    assert selectors.live_sources()[0].notes == ("1 connections, 4 subscriptions, 2 waiting",)


def test_the_page_says_why_a_gateway_is_not_connected(
    rows: None, operator: Client, bus: redis.Redis
) -> None:
    row = node("gateway", "node1:50052")
    beat(bus, "w", {"gateway1": {
        "kind": "node", "via": "gateway", "address": "node1:50052", "height": 0, "silent_s": 90.0,
        "books_ready": False, "connected": False, "errors": 500, "lost": 2,
        "error": "unavailable: connection refused", "faults": {"garbage": 3},
        "lag": 0, "block_age_s": 0.0, "marks": ["stalled"], "not_served": ["misc_events"],
        "gateway": {"kinds": {"node_fills": {"height": 7, "silent_s": 1.5}, "node_twap": {}}},
    }})  # fmt: skip
    (source,) = selectors.live_sources()
    assert (source.state, source.error_total) == ("not connected", 505)
    assert (source.lag, source.block_age_s) == (None, None)
    page = operator.get(BASE).content.decode()
    for text in ("not connected", "unavailable: connection refused", "505", "connection: 500",
                 "not served: misc_events"):  # fmt: skip
        assert text in page, text
    page = operator.get(f"{BASE}{row.pk}/change/").content.decode()
    for text in ("not served: misc_events", "node_fills: 7, grew 1.5 s ago", "no file yet",
                 "connection refused"):  # fmt: skip
        assert text in page, text


def test_a_row_that_was_given_up_and_is_read_still_says_so(
    rows: None, operator: Client, bus: redis.Redis
) -> None:
    node("node", "/data", is_draining=True)
    assert "still read" not in operator.get(BASE).content.decode()
    beat(bus, "w", {"node1": {"kind": "node", "address": "/data", "silent_s": 0.1, "marks": []}})
    assert "still read" in operator.get(BASE).content.decode()


def test_no_page_shows_a_key(settings: Any, operator: Client, bus: redis.Redis) -> None:
    settings.RELAY_UPSTREAMS = "wss://ada:HUNTER2@host/HUNTER2/ws?info=https://host/HUNTER2"
    row = node("public", "wss://host/HUNTER2/ws", info_url="https://host/HUNTER2/info")
    beat(bus, "w", {"public0": {"kind": "public", "address": "wss://host/…/ws"}})
    for page in (BASE, f"{BASE}{row.pk}/change/"):  # which nobody may change now
        text = operator.get(page).content.decode()
        assert "wss://host/…/ws" in text
        assert "HUNTER2" not in text
    assert "worker w, public0" in text


def test_no_refusal_shows_one() -> None:
    for entry in (
        "gateway://ada:HUNTER2@node1:1", "htp://host/HUNTER2", "wss://?info=HUNTER2",
        "wss://host/ws?HUNTER2", "wss://HUNTER2:2@[host/ws",
    ):  # fmt: skip
        with pytest.raises(BadUpstreams) as refused:
            parse_upstreams(entry)
        assert "HUNTER2" not in str(refused.value)


# --- TLS ---


def test_a_gateway_row_names_tls_files(rows: None) -> None:
    files = {"tls_ca": "/t/ca.pem", "tls_cert": "/t/a,b.pem", "tls_key": "/t/key.pem"}
    node("gateway", "node1:50052", **files)
    node("gateway", "node2:50052", tls_ca="system")
    one, two = services.configured().values()
    assert one.tls == TlsFiles("/t/ca.pem", "/t/a,b.pem", "/t/key.pem")
    assert two.tls == TlsFiles()


@pytest.mark.parametrize(
    ("kind", "files", "fields"),
    [
        ("gateway", {"tls_ca": "ca.pem"}, {"tls_ca"}),
        ("gateway", {"tls_cert": "/c.pem"}, {"tls_key"}),
        ("gateway", {"tls_key": "/k.pem"}, {"tls_cert"}),
        ("gateway", {"tls_cert": "system", "tls_key": "/k.pem"}, {"tls_cert"}),
        ("public", {"tls_ca": "/ca.pem"}, {"tls_ca"}),
    ],
)
def test_bad_tls_files_are_told_at_their_field(
    kind: str, files: dict[str, str], fields: set[str]
) -> None:
    address = "node1:50052" if kind == "gateway" else "wss://host/ws"
    with pytest.raises(ValidationError) as refused:
        node(kind, address, **files)
    assert set(refused.value.message_dict) == fields


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that signed itself, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    openssl = find_binary("openssl", package="openssl")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
               "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


def test_a_gateway_is_asked_for_its_status(
    tmp_path: Path, rows: None, pair: tuple[str, str]
) -> None:
    cert, key = pair
    files = NodeDirectory(tmp_path / "hl" / "data")
    files.write(FILLS, BY_BLOCK, node_line(100) + b"\n")
    options = ("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", cert)
    with GatewayProcess(files.root, log=tmp_path / "gateway.log", options=options) as gateway:
        mutual = node("gateway", gateway.address, tls_ca=cert, tls_cert=cert, tls_key=key)
        found = probe.probe(mutual)
        assert found.is_good, found.text
        assert "The gateway answers: block 100" in found.text
        for files_given in ({}, {"tls_ca": cert}, {"tls_ca": "/none.pem"}):
            found = probe.probe(
                UpstreamNode(kind="gateway", address=gateway.address, **files_given)
            )
            assert not found.is_good, files_given
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = probe.probe(
            UpstreamNode(kind="gateway", address=f"127.0.0.1:{silent.getsockname()[1]}")
        )
    assert not found.is_good  # an open port is no gateway


def test_info_that_sends_elsewhere_is_not_followed(tmp_path: Path, rows: None) -> None:
    (tmp_path / "node_fills").mkdir()
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", "/latest/meta-data")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        info_url = f"http://127.0.0.1:{server.server_port}/info"
        found = probe.probe(UpstreamNode(kind="node", address=str(tmp_path), info_url=info_url))
    finally:
        server.shutdown()
        server.server_close()
    assert (found.is_good, "sends elsewhere" in found.text) == (False, True)
    assert asked == ["/info"]
