"""`/<key>/info` at a real edge: refusals in JSON, books and trades from the hub, the rest from an
origin.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from billing.metering.batch import decode
from billing.metering.spool import Spool
from gateway.http.info import BURST
from gateway.http.weights import WEIGHTS
from streaming.bus import keys
from streaming.core.envelope import Role
from streaming.ws.close_codes import MAX_HTTP_BODY_BYTES
from tests.support.edge import DEADLINE_S, Edge, frame
from tests.support.environment import VAR

CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"


class Origin(BaseHTTPRequestHandler):
    """An upstream that remembers what it was sent."""

    seen: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((dict(self.headers), body))
        kind = json.loads(body)["type"]
        status, answer = (422, b"Failed to deserialize") if kind == "odd" else (200, b'{"a": 1.10}')
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def origin() -> Iterator[str]:
    """An upstream's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"ws://127.0.0.1:{server.server_address[1]}/ws"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def edge(redis_url: str) -> Iterator[Edge]:
    """An edge whose upstream answers /info."""
    with origin() as address:
        yield from edge_of(address, redis_url)


def edge_of(address: str, redis_url: str) -> Iterator[Edge]:
    """One that knows two coins."""
    edge = Edge(VAR / "info-edge", redis_url=redis_url.removesuffix("/0") + "/6", upstreams=address)
    # A worker's heartbeat: without a live worker nothing is answered from the hub.
    source = {"kind": "public", "books_ready": True, "silent_s": 0.0}
    edge.redis.sadd(keys.WORKERS, "w")
    edge.redis.set(keys.WORKER.format(worker="w"), json.dumps({"sources": {"public0": source}}))
    edge.redis.set(keys.CATALOGUE, json.dumps({"coins": ["BTC", "ETH"], "dexes": []}))
    edge.start()
    with edge.connect() as customer:  # the runtime has read the heartbeat once a coin is known
        while edge.subscribe(customer, type="bbo", coin="NOPE")["channel"] != "error":
            pass
    yield edge
    edge.stop()


def test_what_is_not_ours_is_asked_without_the_key_and_its_answer_passes_as_it_is(
    edge: Edge,
) -> None:
    assert edge.info(b'{"type":"fileSnapshot", "type": "meta",  "dex":""}') == (
        200,
        b'{"a": 1.10}',
    )
    headers, sent = Origin.seen[-1]
    assert sent == b'{"type":"meta","dex":""}'  # what was checked, not what another parser may read
    assert edge.api_key not in str(headers)


def test_an_origin_s_own_refusal_passes(edge: Edge) -> None:
    assert edge.info(b'{"type":"odd"}') == (422, b"Failed to deserialize")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b'{"type":NaN}', 400, "bad_json"),
        (b"[" * 10_000, 400, "bad_json"),
        (b"[]", 422, "bad_request"),
        (b'{"type":5}', 422, "bad_request"),
        (b'{"type":"l2Book"}', 422, "bad_request"),
        (b'{"type":"fileSnapshot","outPath":"/etc/passwd"}', 403, "not_served"),
        (b'{"type":"meta","outPath":"/etc/passwd"}', 403, "not_served"),
        (b'{"type":"meta","x":"' + b"x" * 70_000 + b'"}', 413, "too_large"),
    ],
)
def test_refusals_have_code_and_msg(edge: Edge, body: bytes, status: int, code: str) -> None:
    got, answer = edge.info(body)
    assert got == status
    error = json.loads(answer)
    assert error["code"] == code
    assert error["msg"]


def test_a_wrong_content_type_a_wrong_method_and_a_wrong_key(edge: Edge) -> None:
    assert edge.info(b"{}", **{"content-type": "text/plain"})[0] == 415
    assert edge.get(f"/{edge.api_key}/info")[0] == 405
    status, answer = edge.info(b'{"type":"meta"}', api_key="wrong")
    assert status == 401
    assert json.loads(answer)["code"] == "invalid_key"


def test_books_and_trades_come_from_the_hub(edge: Edge) -> None:
    book = b'{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[],[]]}}'
    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(
        target=lambda: answers.append(edge.info(b'{"type":"l2Book","coin":"BTC"}'))
    )
    asking.start()
    edge.wait_for_lease("l2Book BTC 20 0 0 0")
    edge.publish(frame("l2Book BTC 20 0 0 0", 1, book, role=Role.SNAPSHOT))
    asking.join(DEADLINE_S)
    assert answers == [(200, b'{"coin":"BTC","time":1,"levels":[[],[]]}')]
    trades = b'{"channel":"trades","data":[{"tid":1},{"tid":2}]}'
    with edge.connect() as customer:
        edge.subscribe(customer, type="trades", coin="BTC")
        edge.wait_for_lease("trades BTC")
        edge.publish(frame("trades BTC", 1, trades, role=Role.SNAPSHOT))
        customer.recv(DEADLINE_S)
    assert edge.info(b'{"type":"recentTrades","coin":"BTC"}') == (200, b'[{"tid":2},{"tid":1}]')


def test_unknown_coins_and_bad_aggregations_answer_as_the_exchange_does(edge: Edge) -> None:
    assert edge.info(b'{"type":"l2Book","coin":"NOPE"}') == (200, b"null")
    assert edge.info(b'{"type":"l2Book","coin":"BTC","nSigFigs":9}') == (500, b"null")


def test_a_book_nobody_can_give_comes_from_the_origin(edge: Edge) -> None:
    assert edge.info(b'{"type":"l2Book","coin":"ETH"}') == (200, b'{"a": 1.10}')


def test_posts_over_the_socket_give_the_same(edge: Edge) -> None:
    with edge.connect() as customer:
        request = {"type": "info", "payload": {"type": "meta"}}
        customer.send(json.dumps({"method": "post", "id": 9, "request": request}))
        assert customer.recv(DEADLINE_S) == (
            '{"channel":"post","data":{"id":9,"response":{"type":"info",'
            '"payload":{"type":"meta","data":{"a": 1.10}}}}}'
        )


@pytest.mark.parametrize("is_announced", [True, False])
def test_an_endless_body_is_cut_not_spooled(edge: Edge, *, is_announced: bool) -> None:
    head = f"POST /{edge.api_key}/info HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    size = MAX_HTTP_BODY_BYTES + 1
    head += f"Content-Length: {size}\r\n\r\n" if is_announced else CHUNKED
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", edge.port), timeout=DEADLINE_S) as customer:
        customer.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(0 if is_announced else 10_000):
                customer.sendall(chunk)
        with contextlib.suppress(ConnectionResetError):
            assert customer.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert edge.get("/livez")[0] == 200


def test_a_path_of_trading_clients_refuses_in_json(edge: Edge) -> None:
    status, answer = edge.get(f"/{edge.api_key}/exchange")
    assert status == 405
    assert json.loads(answer)["code"] == "method_not_allowed"


@pytest.mark.alone
def test_a_key_that_asks_too_often_is_told_when_to_come_back(edge: Edge) -> None:
    # Of the heaviest kind, so that what comes back meanwhile on a slow machine is soon spent.
    heavy = WEIGHTS["userRole"]
    answers = [edge.info(b'{"type":"userRole"}') for _ in range(2 * BURST // heavy)]
    refusals = [answer for status, answer in answers if status == 429]
    assert refusals
    # The public API's minute may be spent before the key's.
    assert {json.loads(refusal)["code"] for refusal in refusals} >= {"rate_limited"}


def test_a_stopped_edge_has_sealed_what_it_counted(redis_url: str) -> None:
    """Also an answered post, which is one request; a refused one is none. No other process has to
    take the meter over."""
    with origin() as upstream:
        url = redis_url.removesuffix("/0") + "/10"
        edge = Edge(VAR / "sealing-edge", redis_url=url, upstreams=upstream)
        edge.start()
        with edge.connect() as customer:
            for number, kind in enumerate(("meta", "odd", "fileSnapshot"), start=1):
                request = {"type": "info", "payload": {"type": kind}}
                customer.send(json.dumps({"method": "post", "id": number, "request": request}))
                customer.recv(DEADLINE_S)
            customer.send('{"method":"post","id":4,"request":{"type":"action","payload":{}}}')
            customer.recv(DEADLINE_S)
        assert edge.info(b'{"type":"meta"}')[0] == 200
        edge.stop()
    usage = edge.var / "usage"
    assert list((usage / "meters").iterdir()) == []
    spool = Spool(usage / "spool")
    batches = [decode(spool.read(batch_id) or b"") for batch_id in spool.ids()]
    lines = [line for batch in batches for line in batch.lines]
    assert {line.channel for line in lines} == {"info"}
    assert sum(line.messages for line in lines) == 0
    assert sum(line.requests for line in lines) == 3  # meta, odd (an upstream's error), meta
