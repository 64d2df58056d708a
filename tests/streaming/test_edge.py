"""A customer at a real edge: the handshake, the dialect, the bounds of what they may send."""

import json
import socket
import threading
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from streaming.core.envelope import Role
from streaming.ws import close_codes
from tests.support.edge import DEADLINE_S, Edge, frame

UNKNOWN_KEY = "hlr_test_" + "0" * 32 + "000000"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/ws", 401, "missing_key"),
        ("/nonsense/ws", 401, "invalid_key"),
        (f"/{UNKNOWN_KEY}/ws", 401, "invalid_key"),
        ("/elsewhere", 404, "not_found"),
    ],
)
def test_a_refused_handshake_says_why(edge: Edge, path: str, status: int, code: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{edge.port}{path}")
    response = refused.value.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.body)["code"] == code
    assert UNKNOWN_KEY not in response.body.decode()


@pytest.mark.parametrize("header", ["X-API-Key: {}", "Authorization: Bearer {}"])
def test_the_key_may_come_in_a_header(edge: Edge, header: str) -> None:
    name, _, value = header.format(edge.api_key).partition(": ")
    with connect(f"ws://127.0.0.1:{edge.port}/ws", additional_headers={name: value}) as customer:
        customer.send('{"method":"ping"}')
        assert customer.recv(DEADLINE_S) == '{"channel":"pong"}'


def test_compression_is_not_negotiated(edge: Edge) -> None:
    url = f"ws://127.0.0.1:{edge.port}/{edge.api_key}/ws"
    with connect(url, compression="deflate") as customer:
        assert not customer.protocol.extensions


def test_frames_pass_byte_for_byte(edge: Edge) -> None:
    odd = b'{ "channel" : "bbo", "data": {"coin":"EXACT","px":1.10, "\xc3\xa9":"\\u00e9"} }'
    with edge.connect() as customer:
        edge.subscribe(customer, type="bbo", coin="EXACT")
        edge.wait_for_lease("bbo EXACT")
        edge.publish(frame("bbo EXACT", 1, odd, role=Role.SNAPSHOT))
        assert customer.recv(DEADLINE_S) == odd.decode()


def test_nothing_comes_behind_the_answer_to_a_close_frame(edge: Edge) -> None:
    """Even to who asked before it, in the same segment."""
    with (
        socket.create_connection(("127.0.0.1", edge.port), DEADLINE_S) as raw,
        raw.makefile("rb") as stream,
    ):
        raw.sendall(
            f"GET /{edge.api_key}/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while stream.readline() != b"\r\n":
            pass
        ping, close = b'{"method":"ping"}', (1000).to_bytes(2, "big")
        no_mask = bytes(4)
        asked = bytes((0x81, 0x80 | len(ping))) + no_mask + ping
        raw.sendall(3 * asked + bytes((0x88, 0x80 | len(close))) + no_mask + close)
        answers = stream.read()
    assert answers == bytes((0x88, len(close))) + close


def test_the_lease_outlives_the_customer_and_warms_the_next(edge: Edge) -> None:
    with edge.connect() as customer:
        edge.subscribe(customer, type="bbo", coin="WARM")
        edge.wait_for_lease("bbo WARM")
        edge.publish(frame("bbo WARM", 1, b'{"channel":"bbo","data":1}', role=Role.SNAPSHOT))
        customer.recv(DEADLINE_S)
    with edge.connect() as customer:
        edge.subscribe(customer, type="bbo", coin="WARM")
        assert customer.recv(DEADLINE_S) == '{"channel":"bbo","data":1}'


def test_too_large_a_frame_closes_with_1009(edge: Edge) -> None:
    with edge.connect() as customer:
        customer.send("x" * (close_codes.MAX_INBOUND_FRAME_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            customer.recv(DEADLINE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == close_codes.CloseCode.TOO_BIG


def test_a_thousand_frames_at_once_are_answered_and_the_next_refused(edge: Edge) -> None:
    with edge.connect() as customer:
        for _ in range(close_codes.INBOUND_BURST + 200):
            customer.send('{"method":"ping"}')
        answers = [customer.recv(DEADLINE_S) for _ in range(close_codes.INBOUND_BURST)]
        assert set(answers) == {'{"channel":"pong"}'}
        rest = set()
        while len(rest) < 1:
            rest.add(customer.recv(DEADLINE_S))
            rest.discard('{"channel":"pong"}')  # the bucket refills while we count
        (text,) = rest
        assert json.loads(text)["data"] == "Cannot send more than 2000 messages per minute."


def test_who_floods_is_closed_and_gone_as_soon_as_they_answer(edge: Edge) -> None:
    before = edge.closed(close_codes.CloseCode.POLICY)
    with edge.connect() as customer:

        def flood() -> None:
            for _ in range(2 * (close_codes.INBOUND_BURST + close_codes.MAX_REFUSED_FRAMES)):
                customer.send('{"method":"ping"}')

        # At the same time: who does not read is cut for that.
        sending = threading.Thread(target=lambda: _until_closed(flood))
        sending.start()
        closed = _until_closed(lambda: customer.recv(DEADLINE_S))
        sending.join()
    assert closed.rcvd is not None
    assert (closed.rcvd.code, closed.rcvd.reason) == (1008, "too many messages")
    # Not after CLOSE_LINGER_S, which is for those who do not answer.
    edge.wait_for_close(close_codes.CloseCode.POLICY, beyond=before)


def _until_closed(act: Callable[[], object]) -> ConnectionClosed:
    with pytest.raises(ConnectionClosed) as closed:
        _forever(act)
    return closed.value


def _forever(act: Callable[[], object]) -> None:
    while True:
        act()


def test_pings_are_answered_and_a_flood_of_them_ends_the_connection(edge: Edge) -> None:
    before = edge.closed(close_codes.CloseCode.POLICY)
    with edge.connect() as customer, edge.connect() as other:
        assert customer.ping().wait(DEADLINE_S)

        def flood() -> None:
            for _ in range(10_000):
                customer.ping()
            customer.recv(DEADLINE_S)

        with pytest.raises(ConnectionClosed) as closed:
            flood()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "too many pings")
        edge.wait_for_close(close_codes.CloseCode.POLICY, beyond=before)
        assert other.ping().wait(DEADLINE_S)


def test_binary_garbage_is_refused_and_the_socket_stays(edge: Edge) -> None:
    with edge.connect() as customer:
        customer.send(b"\xff\xfe\x00")
        assert "Error parsing JSON" in json.loads(customer.recv(DEADLINE_S))["data"]
        customer.send('{"method":"ping"}')
        assert customer.recv(DEADLINE_S) == '{"channel":"pong"}'


def test_posts_say_what_they_cannot_do(edge: Edge) -> None:
    with edge.connect() as customer:
        customer.send('{"method":"post","id":4,"request":{"type":"action","payload":{}}}')
        answer = json.loads(customer.recv(DEADLINE_S))["data"]
        assert answer["id"] == 4
        assert answer["response"]["type"] == "error"
        assert answer["response"]["payload"].startswith("bad_action: 'action' must be an object")


def test_a_revoked_key_closes_its_sockets_and_opens_no_more(edge: Edge) -> None:
    issue = (
        "from tenants import services; from tenants.models import Tenant;"
        "print(services.issue_key(tenant=Tenant.objects.get(slug='demo'), name='r').raw)"
    )
    raw_key = edge.shell(issue)
    with edge.connect(raw_key) as customer, edge.connect() as other:
        edge.shell(
            "from tenants import services; from tenants.models import APIKey;"
            "services.revoke_key(APIKey.objects.get(name='r', revoked_at=None))"
        )
        with pytest.raises(ConnectionClosed) as closed:
            customer.recv(5.0)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == close_codes.CloseCode.POLICY
        other.send('{"method":"ping"}')
        assert other.recv(DEADLINE_S) == '{"channel":"pong"}'
    with pytest.raises(InvalidStatus) as refused:
        edge.connect(raw_key)
    assert refused.value.response.status_code == 401


def test_no_key_is_ever_logged(edge: Edge) -> None:
    with edge.connect() as customer:
        customer.send("not json")
        customer.recv(DEADLINE_S)
    edge.info(b"{broken")
    edge.get(f"/{edge.api_key}/nowhere")
    log = edge.log.read_text()
    assert edge.api_key not in log
    assert edge.api_key not in edge.get("/metrics")[1].decode()
