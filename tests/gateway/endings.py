"""How customers end, in all ways there are: sockets of both dialects, handshakes, requests."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from streaming.core.envelope import Role
from streaming.ws.close_codes import INBOUND_BURST, MAX_REFUSED_FRAMES, CloseCode
from tests.gateway.exchange.test_rails import order
from tests.support.collector import Observer
from tests.support.edge import Edge, frame
from tests.support.raw_customer import PING, RawCustomer

FLOOD = INBOUND_BURST + MAX_REFUSED_FRAMES + 200
#: What was never asked for before.
numbers = itertools.count()


@dataclass
class Street:
    """An edge before an upstream, who looks at it, and who issues keys meanwhile."""

    edge: Edge
    observer: Observer
    shell: subprocess.Popen[str]

    @functools.cached_property
    def keys(self) -> list[str]:
        """The one that will be revoked, and the one that may ask once."""
        assert self.shell.stdout is not None
        return self.shell.stdout.readline().split()

    def customer(self, path: str = "ws", *, key: str = "", receive_buffer: int = 0) -> RawCustomer:
        """One who is let in."""
        customer = RawCustomer(self.edge.port, receive_buffer=receive_buffer)
        assert customer.shake(f"/{key or self.edge.api_key}/{path}") == 101
        return customer


def asked(method: str, coin: str, *, kind: str = "bbo") -> bytes:
    """A subscribe or an unsubscribe."""
    return json.dumps({"method": method, "subscription": {"type": kind, "coin": coin}}).encode()


def posted(kind: str, payload: object) -> bytes:
    return json.dumps(
        {"method": "post", "id": 1, "request": {"type": kind, "payload": payload}}
    ).encode()


def action() -> dict[str, object]:
    return {
        "action": {"type": "order", "orders": [order()], "grouping": "na"},
        "nonce": time.time_ns() // 1_000_000,
        "signature": {"r": "0x1", "s": "0x2", "v": 27},
    }


def rpc(method: str, *params: object) -> bytes:
    call = {"jsonrpc": "2.0", "id": 5, "method": method, "params": params}
    return json.dumps(call).encode()


# --- sockets of both dialects, at `path` ---


def one_cut(street: Street, path: str) -> None:
    customer = street.customer(path)
    customer.say(asked("subscribe", "ONE"))
    customer.hear()
    customer.reset()


def many_cut(street: Street, path: str) -> None:
    customer = street.customer(path)
    for number in range(20):
        customer.say(asked("subscribe", f"MANY{number}"))
        customer.hear()
    customer.close()


def fed_and_left(street: Street, path: str) -> None:
    customer, coin = street.customer(path), f"FED{next(numbers)}"
    customer.say(asked("subscribe", coin))
    customer.hear()
    street.edge.wait_for_lease(f"bbo {coin}")
    for height in range(1, 4):
        payload = b'{"channel":"bbo","data":%d}' % height
        street.edge.publish(frame(f"bbo {coin}", height, payload, role=Role.SNAPSHOT))
    customer.hear()
    customer.leave()


def resumed_and_left(street: Street, path: str) -> None:
    customer = street.customer(path)
    for start in ({"height": 5}, {"ms": 5}, "nonsense"):
        request = json.loads(asked("subscribe", f"FROM{next(numbers)}", kind="trades"))
        customer.say(json.dumps(request | {"from": start}).encode())
        customer.hear()
    customer.leave()


def unsubscribed(street: Street, path: str) -> None:
    customer = street.customer(path)
    for method, coin in (("subscribe", "A"), ("subscribe", "B"), ("unsubscribe", "A")):
        customer.say(asked(method, coin))
        customer.hear()
    customer.leave()


def refused_frames(street: Street, path: str) -> None:
    customer = street.customer(path)
    customer.say(b"{", asked("subscribe", "A"), asked("subscribe", "A"), asked("x", "A"))
    customer.say(asked("unsubscribe", "B"), b'{"method":"ping"}')
    customer.leave()


def flooded(street: Street, path: str) -> None:
    customer = street.customer(path)
    customer.say(*[b'{"method":"ping"}'] * FLOOD)
    assert customer.hear_end() == CloseCode.POLICY


def flooded_with_pings(street: Street, path: str) -> None:
    customer = street.customer(path)
    customer.say(*[b""] * FLOOD, opcode=PING)
    assert customer.hear_end() == CloseCode.POLICY


def too_large_a_frame(street: Street, path: str) -> None:
    customer = street.customer(path)
    customer.say(b"x" * 70_000)
    assert customer.hear_end() == CloseCode.TOO_BIG


def who_reads_little(street: Street, path: str, *, frames: int) -> RawCustomer:
    """To whom so many frames of 60 kB were published."""
    customer = street.customer(path, receive_buffer=4_096)
    coin = f"LITTLE{next(numbers)}"
    topic = f"trades {coin}"
    customer.say(asked("subscribe", coin, kind="trades"))
    customer.hear()
    street.edge.wait_for_lease(topic)
    payload = b'{"channel":"trades","data":["%b"]}' % (b"x" * 60_000)
    street.edge.publish(frame(topic, 0, payload, role=Role.SNAPSHOT))
    street.edge.publish(*(frame(topic, 1 + number, payload) for number in range(frames)))
    return customer


def slow(street: Street, path: str) -> None:
    # Three times what is held for one, and what two sockets take.
    customer = who_reads_little(street, path, frames=119)
    assert customer.hear_end() == CloseCode.SLOW


def cut_while_frames_wait(street: Street, path: str) -> None:
    """More than the sockets take, less than we hold."""
    customer = who_reads_little(street, path, frames=11)
    customer.hear()
    customer.reset()


def posts(street: Street, path: str) -> None:
    customer = street.customer(path)
    for kind, payload in (
        ("info", {"type": "meta"}),
        ("info", {"type": "userFees"}),  # which our upstream fails
        ("info", {"type": "isVip"}),  # which it hangs up at
        ("info", {}),
        ("action", action()),
        ("action", {}),
    ):
        customer.say(posted(kind, payload))
        assert b'"post"' in customer.hear()[1]
    customer.leave()


def cut_with_a_post(street: Street, path: str) -> None:
    customer = street.customer(path)
    customer.say(posted("info", {"type": "clearinghouseState", "user": f"{next(numbers):#042x}"}))
    customer.reset()


# --- sockets, once ---


def unreadable(street: Street) -> None:
    customer = street.customer("ws?relay=1")
    customer.say(*[b"{"] * 10)
    assert customer.hear_end() == CloseCode.UNREADABLE


def evm_followed(street: Street) -> None:
    customer = street.customer("evm")
    for call in (
        rpc("eth_subscribe", "newHeads"),
        rpc("eth_subscribe", "logs"),
        rpc("eth_chainId"),
        rpc("eth_subscribe", "nonesuch"),
        rpc("nonesuch"),
        rpc("eth_unsubscribe", "0x1"),
        b"{",
    ):
        customer.say(call)
        while b'"id"' not in customer.hear()[1]:
            pass
    customer.leave()


def evm_cut(street: Street) -> None:
    customer = street.customer("evm")
    customer.say(rpc("eth_subscribe", "newHeads"))
    customer.hear()
    customer.reset()


def evm_flooded(street: Street) -> None:
    customer = street.customer("evm")
    customer.say(*[b"{}"] * FLOOD)
    assert customer.hear_end() == CloseCode.POLICY


# --- handshakes ---


def refused(street: Street) -> None:
    for path, status in (
        ("/ws", 401),
        ("/nonsense/ws", 401),
        ("/nonsense/evm", 401),
        ("/elsewhere", 404),
    ):
        for leave in (RawCustomer.finish, RawCustomer.reset):
            customer = RawCustomer(street.edge.port)
            assert customer.shake(path) == status
            leave(customer)


def refused_but_stays(street: Street) -> None:
    """Until the edge has forgotten them."""
    customers = [RawCustomer(street.edge.port) for _ in range(3)]
    for customer in customers:
        assert customer.shake("/nonsense/ws") == 401
    street.edge.get("/livez")
    for customer in customers:
        customer.close()


def no_handshake(street: Street) -> None:
    for lines in (
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 99\r\n",
    ):
        customer = RawCustomer(street.edge.port)
        assert customer.ask("/ws", head=lines) == 400
        customer.finish()


def never_completed(street: Street) -> None:
    for begun in (
        b"",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpg",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n",
        b"POST /info HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ):
        for leave in (RawCustomer.close, RawCustomer.reset):
            customer = RawCustomer(street.edge.port)
            customer.socket.sendall(begun)
            leave(customer)


def cut_in_the_handshake(street: Street) -> None:
    for key in (street.edge.api_key, "nonsense"):
        for leave in (RawCustomer.close, RawCustomer.reset):
            customer = RawCustomer(street.edge.port)
            customer.send_handshake(f"/{key}/ws")
            leave(customer)


# --- requests ---


def requests(path: str, status: int, *bodies: bytes | Callable[[], bytes]) -> Callable[..., None]:
    """Each body by POST, over one connection."""

    def ask(street: Street) -> None:
        where = path.replace("KEY", street.edge.api_key).replace("GONE", street.keys[0])
        customer = RawCustomer(street.edge.port)
        for body in bodies:
            given = body() if callable(body) else body
            assert customer.ask(where, method="POST", body=given) == status
        customer.close()

    return ask


def account() -> bytes:
    return b'{"type":"clearinghouseState","user":"0x%040x"}' % next(numbers)


def balance() -> bytes:
    return rpc("eth_getBalance", f"0x{next(numbers):040x}", "latest")


def cut_while_it_waits(street: Street) -> None:
    for path, body in (("info", account()), ("evm", balance())):
        customer = RawCustomer(street.edge.port)
        customer.send_request(f"/{street.edge.api_key}/{path}", method="POST", body=body)
        customer.reset()


def too_large_a_body(street: Street) -> None:
    for leave in (RawCustomer.finish, RawCustomer.reset):
        customer = RawCustomer(street.edge.port)
        customer.send_request("/info", method="POST", head="Content-Length: 2000000\r\n")
        customer.answer()
        leave(customer)


def spent(street: Street) -> None:
    """After the first of all, each is refused."""
    for path in ("ws", "evm"):
        customer = RawCustomer(street.edge.port)
        customer.shake(f"/{street.keys[1]}/{path}")
        customer.reset()
    for path, body in (("info", account()), ("evm", balance()), ("evm", b"[%b]" % balance())):
        customer = RawCustomer(street.edge.port)
        customer.ask(f"/{street.keys[1]}/{path}", method="POST", body=body)
        customer.close()


EVERY_DIALECT = [
    one_cut, many_cut, fed_and_left, resumed_and_left, unsubscribed, refused_frames, flooded,
    flooded_with_pings, too_large_a_frame, slow, cut_while_frames_wait, posts, cut_with_a_post,
]  # fmt: skip
ONCE: dict[str, Callable[[Street], None]] = {
    case.__name__: case
    for case in (
        unreadable, evm_followed, evm_cut, evm_flooded, refused, refused_but_stays, no_handshake,
        never_completed, cut_in_the_handshake, cut_while_it_waits, too_large_a_body, spent,
    )
} | {
    "info": requests("/KEY/info", 200, b'{"type":"meta"}', account),
    "info_failed": requests("/KEY/info", 502, b'{"type":"userFees"}'),
    "info_unavailable": requests("/KEY/info", 502, b'{"type":"isVip"}'),
    "info_of_nobody": requests("/KEY/info", 400, b"{", b"\xff"),
    "info_not_served": requests("/KEY/info", 403, b'{"type":"fileSnapshot"}'),
    "info_too_large": requests("/KEY/info", 413, b'{"type":"%b"}' % (b"x" * 70_000)),
    "info_without_a_key": requests("/nonsense/info", 401, b"{}"),
    "info_of_another_scope": requests("/GONE/info", 403, b"{}"),
    "exchange": requests("/KEY/exchange", 200, lambda: json.dumps(action()).encode()),
    "exchange_refused": requests("/KEY/exchange", 422, b"{}", b"[" * 10_000),
    "exchange_without_a_key": requests("/nonsense/exchange", 401, b"{}"),
    "evm": requests("/KEY/evm", 200, rpc("eth_blockNumber"), balance),
    "evm_refused": requests("/KEY/evm", 200, rpc("nonesuch"), b"{", rpc("eth_getBalance")),
    "evm_batch": requests("/KEY/evm", 200, b"[%b,{}]" % rpc("eth_chainId"), b"[]"),
    "evm_without_a_key": requests("/nonsense/evm", 401, b"{}"),
}  # fmt: skip
