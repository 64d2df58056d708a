"""The paths of customers' clients, the same under Daphne and under another server: headers, request
ids, JSON-RPC with subscriptions, and a record of whatever went wrong."""

from __future__ import annotations

import asyncio
import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.gateway.evm_chain import FIRST, EvmNode
from tests.support.edge import DEADLINE_S, Edge
from tests.support.environment import VAR
from tests.support.services import wait_until

META = b'{"type":"meta"}'


class Upstream:
    """A node: `/info` that answers as it is told, `/evm` whose chain grows ten blocks a second."""

    def __init__(self) -> None:
        began_s = time.monotonic()
        self.evm = EvmNode()
        self.evm.rpc.chain._height = lambda: FIRST + int((time.monotonic() - began_s) * 10)
        self.asked = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(DEADLINE_S)

    async def _info(self, request: web.Request) -> web.Response:
        self.asked += 1
        kind = (await request.json())["type"]
        if kind == "userFees":
            return web.Response(status=502, body=b"bad gateway")
        if kind == "portfolio":
            return web.Response(status=429)
        if kind == "isVip" and request.transport is not None:
            request.transport.abort()
        return web.Response(body=b'{"universe":[1.10]}', content_type="application/json")

    async def _exchange(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b'{"status":"ok"}', content_type="application/json")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/info", self._info)
        app.router.add_post("/evm", self.evm.answer)
        app.router.add_post("/exchange", self._exchange)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def stop(self) -> None:
        """Take the port away."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)


@pytest.fixture(scope="module", params=["run_daphne", "serve_http"])
def served(request: pytest.FixtureRequest, redis_url: str) -> Iterator[tuple[Edge, Upstream]]:
    """An edge under one of the servers, and its upstream."""
    number = "7" if request.param == "run_daphne" else "8"
    upstream = Upstream()
    url = f"http://127.0.0.1:{upstream.port}"
    edge = Edge(
        VAR / f"http-edge-{request.param}",
        redis_url=redis_url.removesuffix("/0") + f"/{number}",
        upstreams=f"node:///nowhere?info={url}&evm={url}",
        server=request.param,
    )
    edge.start()
    yield edge, upstream
    edge.stop()
    upstream.stop()


def post(
    edge: Edge, path: str, body: bytes, *, method: str = "POST", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields by lower-case name, body."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=DEADLINE_S)
    fields = {"Content-Type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, fields)
    answer = connection.getresponse()
    got = {name.lower(): value for name, value in answer.getheaders()}
    found = answer.status, got, answer.read()
    connection.close()
    return found


def rpc(edge: Edge, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.loads(post(edge, f"/{edge.api_key}/evm", json.dumps(body).encode())[2])


def records(edge: Edge) -> list[dict[str, Any]]:
    with sqlite3.connect(edge.var / "relay.sqlite3") as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute("SELECT * FROM requests_requestrecord")]
    database.close()
    return found


def recorded(edge: Edge, request_id: str) -> dict[str, Any]:
    """The record with this id, once it is written."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [row for row in records(edge) if row["request_id"] == request_id]
        return bool(found)

    wait_until(is_there, process=edge.process, what=request_id, log=edge.log)
    return found[0]


def test_an_answer_says_where_it_comes_from_and_how_old_it_is(
    served: tuple[Edge, Upstream],
) -> None:
    edge, upstream = served
    before = upstream.asked
    first = post(edge, f"/{edge.api_key}/info", META, X_Request_Id="order-7.a")
    again = post(edge, f"//{edge.api_key}//info/", META, X_Request_Id="<script>")
    for status, headers, body in (first, again):
        assert (status, body) == (200, b'{"universe":[1.10]}')
        assert headers["content-type"] == "application/json"
        assert headers["x-relay-source"] == "node"
        assert "r=" in headers["ratelimit"]
    assert first[1]["x-request-id"] == "order-7.a"
    assert len(again[1]["x-request-id"]) == 32
    assert (first[1]["x-relay-cache"], again[1]["x-relay-cache"]) == ("miss", "hit")
    assert int(again[1]["x-relay-age-ms"]) >= int(first[1]["x-relay-age-ms"])
    assert upstream.asked == before + 1


def test_whatever_is_refused_or_fails_leaves_a_record(served: tuple[Edge, Upstream]) -> None:
    edge, _ = served
    path = f"/{edge.api_key}/info"
    evm = f"/{edge.api_key}/evm"
    cases: list[tuple[str, str, bytes, str, int, str, str]] = [
        ("a1", path, b'{"type":"userFees"}', "POST", 502, "upstream_refused", "userFees"),
        ("a2", path, b'{"type":"fileSnapshot"}', "POST", 403, "not_served", "fileSnapshot"),
        ("a3", path, b"{", "POST", 400, "bad_json", ""),
        ("a4", path, b"", "GET", 405, "method_not_allowed", ""),
        ("a5", "/hlr_wrong/info", META, "POST", 401, "invalid_key", ""),
        ("a6", "/info", META, "POST", 401, "missing_key", ""),
        ("a7", path, b'{"type":"x"' + b" " * 70_000 + b"}", "POST", 413, "too_large", ""),
        ("a8", evm, b"{", "POST", 200, "bad_json", "(unknown)"),
        ("a9", evm, b'{"id":1,"method":"admin_x"}', "POST", 200, "not_served", "(refused)"),
    ]
    for request_id, where, body, method, status, _, _ in cases:
        got = post(edge, where, body, method=method, X_Request_Id=request_id)
        assert got[0] == status, (request_id, got)
        assert got[1]["x-request-id"] == request_id
        assert got[1]["content-type"] == "application/json" or status == 502
    for request_id, where, _, method, status, code, kind in cases:
        row = recorded(edge, request_id)
        assert (row["status"], row["code"], row["kind"]) == (status, code, kind), request_id
        assert (row["method"], row["door"]) == (method, where.rpartition("/")[2])
        knows_key = edge.api_key in where and method == "POST"
        assert (row["tenant_id"] is not None) == knows_key
        assert row["key_prefix"] == (edge.api_key[:12] if edge.api_key in where else "")
        assert row["total_ms"] > 0
        assert (row["upstream_ms"] is not None) == (request_id == "a1")
    assert edge.api_key not in str(records(edge))
    assert edge.api_key not in edge.log.read_text("utf-8")


def test_unknown_paths_are_not_found(served: tuple[Edge, Upstream]) -> None:
    edge, _ = served
    assert post(edge, f"/{edge.api_key}/nonesuch", META)[0] in (403, 404)
    assert edge.get("/livez")[0] == 200


def test_evm_over_http(served: tuple[Edge, Upstream]) -> None:
    edge, upstream = served
    assert rpc(edge, "eth_chainId")["result"] == "0x3e7"
    number = int(rpc(edge, "eth_blockNumber")["result"], 16)
    block = rpc(edge, "eth_getBlockByNumber", "latest", False)["result"]
    assert int(block["number"], 16) >= number >= FIRST
    body = b'{"jsonrpc":"2.0","id":"x","method":"eth_chainId","params":[]}'
    status, headers, answer = post(edge, f"/{edge.api_key}/evm", body)
    assert (status, answer) == (200, b'{"jsonrpc":"2.0","id":"x","result":"0x3e7"}')
    assert headers["x-relay-cache"] == "hit"
    assert int(headers["x-relay-height"]) >= number
    assert upstream.evm.asked("eth_chainId") == 1


def test_evm_subscriptions(served: tuple[Edge, Upstream]) -> None:
    edge, upstream = served
    url = f"ws://127.0.0.1:{edge.port}/{edge.api_key}/evm"
    with connect(url, compression=None, open_timeout=DEADLINE_S) as socket:

        def ask(method: str, *params: Any) -> Any:
            call = {"jsonrpc": "2.0", "id": 5, "method": method, "params": params}
            socket.send(json.dumps(call))
            while "id" not in (answer := json.loads(socket.recv(DEADLINE_S))):
                pass
            return answer

        socket.send("{")
        assert json.loads(socket.recv(DEADLINE_S))["error"]["code"] == -32700
        assert ask("admin_x")["error"]["code"] == -32601
        heads = ask("eth_subscribe", "newHeads")["result"]
        token = upstream.evm.rpc.chain.token
        logs = ask("eth_subscribe", "logs", {"address": token})["result"]
        assert ask("eth_subscribe", "newPendingTransactions")["error"]["code"] == -32602
        assert ask("eth_chainId")["result"] == "0x3e7"
        numbers, log_blocks = [], []
        while len(numbers) < 8:
            params = json.loads(socket.recv(DEADLINE_S))["params"]
            number = int(params["result"].get("number", params["result"].get("blockNumber")), 16)
            (numbers if params["subscription"] == heads else log_blocks).append(number)
        assert numbers == list(range(numbers[0], numbers[0] + 8))
        first = log_blocks[0]
        wanted = [n for n in range(first, numbers[-1]) for _ in range(n % 4)]
        assert log_blocks[: len(wanted)] == wanted
        assert ask("eth_unsubscribe", heads)["result"] is True
        assert ask("eth_unsubscribe", heads)["result"] is False
        assert ask("eth_unsubscribe", logs)["result"] is True
    _wait_for_records_of_calls(edge)
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{edge.port}/hlr_wrong/evm", open_timeout=DEADLINE_S)
    assert refused.value.response.status_code in (401, 403)


def _wait_for_records_of_calls(edge: Edge) -> None:
    wanted = {
        ("eth_subscribe", "bad_params"),
        ("(refused)", "not_served"),
        ("(unknown)", "bad_json"),
    }

    def are_there() -> bool:
        rows = [row for row in records(edge) if (row["door"], row["method"]) == ("evm", "WS")]
        assert all(row["key_prefix"] == edge.api_key[:12] and row["status"] == 200 for row in rows)
        return {(row["kind"], row["code"]) for row in rows} == wanted

    wait_until(are_there, process=edge.process, what="records", log=edge.log)


ISSUE = """
from tenants.admission.principal import Scope
from tenants.models import Tenant
from tenants.services import issue_key
tenant = Tenant.objects.get(slug="demo")
print(issue_key(tenant=tenant, name="short", scopes=[Scope.EVM]).raw)
"""
REVOKE = """
from tenants.models import APIKey
from tenants.services import revoke_key
revoke_key(APIKey.objects.get(name="short", revoked_at=None))
"""


def test_a_revoked_key_ends_its_subscriptions_and_opens_nothing(
    served: tuple[Edge, Upstream],
) -> None:
    edge, _ = served
    api_key = edge.shell(ISSUE)
    url = f"ws://127.0.0.1:{edge.port}/{api_key}/evm"
    with connect(url, compression=None, open_timeout=DEADLINE_S) as socket:
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
        socket.send(json.dumps(call))
        assert "result" in json.loads(socket.recv(DEADLINE_S))
        edge.shell(REVOKE)
        with pytest.raises(ConnectionClosed) as closed:
            _read_to_the_end(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
    status, _, answer = post(edge, f"/{api_key}/evm", body)
    assert (status, json.loads(answer)["code"]) == (401, "invalid_key")
    # A key of the scope `evm` alone opens no other door.
    other = edge.shell(ISSUE)
    status, _, answer = post(edge, f"/{other}/info", META)
    assert (status, json.loads(answer)["code"]) == (403, "scope_missing")
    edge.shell(REVOKE)


@pytest.mark.alone
def test_one_who_does_not_read_is_cut_and_the_others_go_on(
    served: tuple[Edge, Upstream],
) -> None:
    """200 subscriptions of one socket are 3 MB a second, of which it takes none."""
    edge, _ = served
    url = f"ws://127.0.0.1:{edge.port}/{edge.api_key}/evm"
    with (
        connect(url, compression=None, open_timeout=DEADLINE_S) as reader,
        connect(
            url, compression=None, open_timeout=DEADLINE_S, max_queue=1, close_timeout=0.1
        ) as silent,
    ):
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
        for _ in range(200):
            silent.send(json.dumps(call))
        reader.send(json.dumps(call))
        numbers = []
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s:
            frame = json.loads(reader.recv(DEADLINE_S))
            if "params" in frame:
                numbers.append(int(frame["params"]["result"]["number"], 16))
                if len(numbers) > 20 and _followers(edge) == 1:
                    break
        assert _followers(edge) == 1
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _read_to_the_end(socket: ClientConnection) -> None:
    while True:
        socket.recv(DEADLINE_S)


def _followers(edge: Edge) -> int:
    sample = 'relay_evm_subscriptions{kind="newHeads"} '
    lines = edge.get("/metrics")[1].decode().splitlines()
    return round(sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample)))
