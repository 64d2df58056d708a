"""A real edge process: its traces outlive it, and what was signed is in no store of ours."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from gateway.exchange import trace_selectors
from tenants.models import Tenant
from tests.gateway.exchange.test_rails import order
from tests.support.edge import DEADLINE_S, Edge
from tests.support.environment import VAR

ANSWER = (
    b'{"status":"ok","response":{"type":"order","data":{"statuses":[{"resting":{"oid":777}}]}}}'
)


class Handler(http.server.BaseHTTPRequestHandler):
    """An exchange at which everything rests."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def edge(redis_url: str) -> Iterator[Edge]:
    """One before that exchange."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    made = Edge(
        VAR / "trace-edge",
        redis_url=redis_url.removesuffix("/0") + "/4",
        upstreams=f"node:///nowhere?info={url}&exchange={url}",
    )
    made.start()
    yield made
    if made.process.poll() is None:
        made.stop()
    server.shutdown()
    server.server_close()


def test_a_trace_outlives_its_process_and_holds_nothing_that_was_signed(
    edge: Edge, redis_url: str, settings: Any
) -> None:
    settings.REDIS_CACHE_URL = redis_url.removesuffix("/0") + "/4"
    canaries = [secrets.token_hex(32) for _ in range(2)]
    price = "1234.56789"
    body = {
        "action": {"type": "order", "orders": [order(p=price)], "grouping": "na"},
        "nonce": int(time.time() * 1e3),
        "signature": {"r": f"0x{canaries[0]}", "s": f"0x{canaries[1]}", "v": 27},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{edge.port}/{edge.api_key}/exchange",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "x-request-id": "mine-1"},
    )
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310
        assert answer.read() == ANSWER
    assert "egress_not_read" not in edge.log.read_text("utf-8")
    tenant, deadline_s = Tenant(pk=1), time.monotonic() + DEADLINE_S
    while not (rows := trace_selectors.traces(tenant).rows):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    edge.process.kill()
    edge.process.wait(DEADLINE_S)
    (row,) = trace_selectors.traces(tenant).rows
    assert (row.trace.request_id, row.trace.oid, row.trace.status) == ("mine-1", 777, "resting")
    assert rows[0].trace.sent_ms is not None
    assert row.missing  # no node, no block: and it says so
    with redis.Redis.from_url(settings.REDIS_CACHE_URL) as client:
        stores = [_content(client, key) for key in client.scan_iter("*")]
    assert any(b"mine-1" in store for store in stores)
    assert len(stores) > 3
    stores += [path.read_bytes() for path in edge.var.rglob("*") if path.is_file()]
    for canary in (*canaries, price):
        assert not any(canary.encode() in store for store in stores)


def _content(client: redis.Redis, key: bytes) -> bytes:
    """All that Redis has at a key, as it is: a dump would be compressed."""
    reads: dict[bytes, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    return repr((key, reads[client.type(key)](key))).encode()  # type: ignore[index]
