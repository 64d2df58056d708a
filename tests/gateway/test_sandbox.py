"""The sandbox: the same key trades at a simulated exchange, and nothing of it is ever real."""

from __future__ import annotations

import http.client
import http.server
import json
import secrets
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientError, web
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateway.sandbox.origin import Sandbox, problem_of
from gateway.sandbox.socket import session_of_one_host
from tests.clients.simulator import running_simulator
from tests.gateway.exchange.faulty import faulty_exchange
from tests.gateway.exchange.test_rails import CANCEL
from tests.support.edge import DEADLINE_S, Edge
from tests.support.environment import VAR
from tests.support.wallet import Wallet


class RealExchange:
    """Keeps what gets to it, at any path."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        seen = self.bodies

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                seen.append(self.rfile.read(int(self.headers["content-length"])))
                body = b'{"status":"ok","response":{"type":"default"}}'
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def actions(self) -> int:
        """How many are no reads."""
        return sum(b'"action"' in body for body in self.bodies)


@pytest.fixture(scope="module")
def at(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Edge, RealExchange, str]]:
    """An edge between a real exchange and a simulator, whose base URL is the third."""
    real = RealExchange()
    with running_simulator(tmp_path_factory.mktemp("simulator")) as simulator:
        edge = Edge(
            VAR / "sandbox-edge",
            redis_url=redis_url.removesuffix("/0") + "/6",
            upstreams=f"node:///nowhere?info={real.url}&exchange={real.url}",
            variables={"RELAY_SANDBOX": simulator},
        )
        edge.start()
        yield edge, real, simulator
        edge.stop()
    real.server.shutdown()
    real.server.server_close()


def post(edge: Edge, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=DEADLINE_S)
    fields = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection.request("POST", path, body, fields)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    try:
        return answer.status, json.loads(data)
    except ValueError:
        return answer.status, data


def arrived(simulator: str) -> int:
    with urllib.request.urlopen(f"{simulator}/sim/exchange") as answer:  # noqa: S310
        return int(json.load(answer)["received"])


def sandboxed(key: str) -> list[str]:
    """Ways to write its path, also wrong ones."""
    return [
        f"/sandbox/{key}/exchange",
        f"//sandbox//{key}//exchange/",
        f"/sandbox/{key}/exchange?x=/{key}/exchange",
        f"/sandbox/{key}/../{key}/exchange",
        f"/sandbox/../{key}/exchange",
        f"/sandbox/%2e%2e/{key}/exchange",
        f"/sandbox%2F{key}/exchange",
        f"/sandbox/sandbox/{key}/exchange",
        f"/sandbox/{key}/sandbox/exchange",
        f"/sandbox/{key}/{key}/exchange",
        f"/SANDBOX/{key}/exchange",
        "/sandbox/exchange",
    ]


def test_whatever_is_sent_to_the_sandbox_never_reaches_the_exchange(
    at: tuple[Edge, RealExchange, str],
) -> None:
    edge, real, simulator = at
    key, before = edge.api_key, arrived(simulator)
    bodies = [CANCEL, b"{}", b"", CANCEL.replace(b'"cancel"', b'"order"'), b"\x00" * 100]
    for path in sandboxed(key):
        for body in bodies:
            post(edge, path, body)
            post(edge, path, body, X_API_Key=key, Host="api.hyperliquid.xyz")
    with connect(f"ws://127.0.0.1:{edge.port}/sandbox/{key}/ws", compression=None) as ws:
        action = {"method": "post", "id": 1}
        action["request"] = {"type": "action", "payload": json.loads(CANCEL)}
        ws.send(json.dumps(action))
        assert "action" in str(ws.recv(DEADLINE_S))
    assert real.bodies == []
    assert arrived(simulator) > before


def test_nothing_of_the_real_door_reaches_the_sandbox(at: tuple[Edge, RealExchange, str]) -> None:
    edge, real, simulator = at
    before, real_before = arrived(simulator), real.actions
    for path in (f"/{edge.api_key}/exchange", f"/{edge.api_key}/exchange/?sandbox=1", "/exchange"):
        status, told = post(edge, path, CANCEL, X_API_Key=edge.api_key)
        assert (status, told["status"]) == (200, "ok")
    assert real.actions == real_before + 3
    assert arrived(simulator) == before


def test_a_key_trades_there_and_its_feeds_tell_it(at: tuple[Edge, RealExchange, str]) -> None:
    edge, real, _ = at
    base, wallet = f"/sandbox/{edge.api_key}", Wallet(secrets.token_bytes(32))
    before = real.actions
    status, state = post(
        edge,
        f"{base}/info",
        json.dumps({"type": "clearinghouseState", "user": wallet.address}).encode(),
    )
    assert (status, state["withdrawable"]) == (200, "10000.0")
    _, mids = post(edge, f"{base}/info", b'{"type":"allMids"}')
    price = f"{float(mids['ETH']) * 1.01:.4g}"
    url = f"ws://127.0.0.1:{edge.port}{base}/ws"
    with connect(url, compression=None, max_size=None) as ws:
        for kind in ("orderUpdates", "userFills", "userEvents"):
            subscription = {"type": kind, "user": wallet.address}
            ws.send(json.dumps({"method": "subscribe", "subscription": subscription}))
        for kind in ("l2Book", "trades"):
            subscription = {"type": kind, "coin": "ETH"}
            ws.send(json.dumps({"method": "subscribe", "subscription": subscription}))
        row = {"a": 1, "b": True, "p": price, "s": "0.05", "r": False}
        action = {
            "type": "order",
            "orders": [{**row, "t": {"limit": {"tif": "Ioc"}}}],
            "grouping": "na",
        }
        body = wallet.l1(action, nonce=int(time.time() * 1e3))
        status, told = post(edge, f"{base}/exchange", json.dumps(body).encode())
        assert told["status"] == "ok", told
        oid = told["response"]["data"]["statuses"][0]["filled"]["oid"]
        seen: dict[str, Any] = {}
        while not {"orderUpdates", "userFills", "user", "l2Book", "trades"} <= seen.keys() or (
            not seen["userFills"]["fills"]
        ):
            frame = json.loads(ws.recv(DEADLINE_S))
            seen[frame["channel"]] = frame["data"]
        assert seen["userFills"]["fills"][0]["oid"] == oid
    assert real.actions == before


def test_what_is_refused_there(at: tuple[Edge, RealExchange, str]) -> None:
    edge, real, _ = at
    base, before = f"/sandbox/{edge.api_key}", real.actions
    assert post(edge, f"{base}/info", b'{"type":"fileSnapshot","outPath":"/tmp/x"}')[0] == 403
    assert post(edge, f"{base}/exchange", b'{"action":{}}')[0] == 422
    assert post(edge, "/sandbox/hlr_live_none/info", b'{"type":"meta"}')[0] == 401
    assert post(edge, f"{base}/evm", b"{}")[0] == 404
    url = f"ws://127.0.0.1:{edge.port}"
    with pytest.raises(InvalidStatus):
        connect(f"{url}/sandbox/hlr_live_none/ws")
    with connect(f"{url}{base}/ws", compression=None) as ws:
        payload = {"type": "fileSnapshot", "outPath": "/tmp/x"}
        request = {"type": "info", "payload": payload}
        ws.send(json.dumps({"method": "post", "id": 1, "request": request}))
        assert "not served" in str(ws.recv(DEADLINE_S))
    assert real.actions == before


def test_a_key_that_is_revoked_is_out_of_the_sandbox_too(
    at: tuple[Edge, RealExchange, str],
) -> None:
    edge, _, _ = at
    made = edge.shell(
        "from tenants import services; from tenants.models import Tenant;"
        "print(services.issue_key(tenant=Tenant.objects.get(slug='demo'), name='b',"
        " scopes=['sandbox']).raw)"
    )
    with connect(f"ws://127.0.0.1:{edge.port}/sandbox/{made}/ws", compression=None) as ws:
        ws.send('{"method":"ping"}')
        assert "pong" in str(ws.recv(DEADLINE_S))
        # It opens nothing that is real.
        assert post(edge, f"/{made}/exchange", CANCEL)[0] == 403
        edge.shell(
            "from tenants import services; from tenants.models import APIKey;"
            "services.revoke_key(APIKey.objects.get(name='b'))"
        )
        with pytest.raises(ConnectionClosed):
            ws.recv(DEADLINE_S)


def test_reads_over_its_socket_spend_what_they_do_over_http(
    at: tuple[Edge, RealExchange, str],
) -> None:
    edge, _, _ = at
    payload = {"type": "userRole", "user": "0x" + "ab" * 20}  # of weight 60
    count, told = 40, []
    with connect(f"ws://127.0.0.1:{edge.port}/sandbox/{edge.api_key}/ws", compression=None) as ws:
        for n in range(count):
            request = {"type": "info", "payload": payload}
            ws.send(json.dumps({"method": "post", "id": n, "request": request}))
        while len(told) < count:
            told.append(json.loads(ws.recv(DEADLINE_S))["data"])
        refused = [one for one in told if one["response"]["type"] == "error"]
        assert len(refused) >= count // 4
        assert refused[0]["response"]["payload"].startswith("Too many requests")
        ws.send('{"method":"ping"}')  # it costs the request, not the connection
        assert "pong" in str(ws.recv(DEADLINE_S))


def test_without_an_address_there_is_none(redis_url: str) -> None:
    edge = Edge(VAR / "no-sandbox-edge", redis_url=redis_url.removesuffix("/0") + "/5")
    edge.start()
    try:
        status, told = post(edge, f"/sandbox/{edge.api_key}/exchange", CANCEL)
        assert (status, told["code"]) == (404, "no_sandbox")
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{edge.port}/sandbox/{edge.api_key}/ws")
        assert refused.value.response.status_code == 404
    finally:
        edge.stop()


@pytest.mark.parametrize(
    "spec",
    [
        "https://api.hyperliquid.xyz",
        "https://API.hyperliquid.xyz.:443/",
        "https://api.hyperliquid-testnet.xyz/exchange",
        "https://x@hyperliquid.xyz",
        "wss://127.0.0.1",
        "127.0.0.1:3001",
        "http://127.0.0.1:99999",
        "http://127.0.0.1?a=b",
    ],
)
def test_what_is_no_simulator_s_address(spec: str) -> None:
    assert problem_of(spec)


def test_what_is_one() -> None:
    for spec in ("", "simulator:", "http://127.0.0.1:3001", "https://sim.example.org/"):
        assert problem_of(spec) is None


async def test_a_sandbox_that_sends_elsewhere_is_not_followed() -> None:
    """Neither its HTTP nor its WebSocket."""
    async with faulty_exchange() as real:
        asked: list[str] = []

        async def elsewhere(request: web.Request) -> web.Response:
            asked.append(request.path)
            raise web.HTTPTemporaryRedirect(real.url)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", elsewhere)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sandbox = Sandbox(f"http://127.0.0.1:{runner.addresses[0][1]}")
        passed = await sandbox.exchange(CANCEL)
        assert passed.answer is not None
        assert passed.answer.status == 307
        assert (await sandbox.info({"type": "meta"})).status == 307
        async with session_of_one_host() as session:
            with pytest.raises(ClientError):
                await session.ws_connect(sandbox.ws_url)
        assert asked == ["/exchange", "/info", "/ws"]
        assert real.begun == 0
        await sandbox.close()
        await runner.cleanup()
