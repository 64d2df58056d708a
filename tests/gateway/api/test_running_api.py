"""The account API of a running edge: what schemathesis makes of its description, its rates, and how
soon a kill switch holds."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.api.describing import description
from tests.support.edge import DEADLINE_S, Edge
from tests.support.environment import VAR
from tests.support.services import wait_until

#: Beyond what ids are tried, so that the key does not revoke itself.
KEY_ID = 8_765_432_109
MAKE = f"""
from tenants.models import APIKey, Tenant
from tenants.services import issue_key
tenant = Tenant.objects.get()
issued = issue_key(
    tenant=tenant, name="api", scopes={{scopes}}, rate_per_minute={{rate}}, rate_burst={{rate}}
)
if {{far}}:
    APIKey.objects.filter(pk=issued.key.pk).update(id={KEY_ID})
print(issued.key.pk, issued.raw)
"""


def make_key(
    edge: Edge, *scopes: str, rate: int | None = None, far: bool = False
) -> tuple[int, str]:
    """Id and raw key."""
    said = edge.shell(MAKE.format(scopes=list(scopes), rate=rate, far=far)).split()
    return int(said[0]), said[1]


@pytest.fixture(scope="module")
def edge(redis_url: str) -> Iterator[Edge]:
    edge = Edge(VAR / "account-edge", redis_url=redis_url.removesuffix("/0") + "/11")
    edge.start()
    yield edge
    edge.stop()


@pytest.fixture(scope="module")
def raw_key(edge: Edge) -> str:
    """One that may everything, as fast as it likes."""
    scopes = ("account", "ws", "info", "exchange")
    return make_key(edge, *scopes, rate=1_200_000, far=True)[1]


def ask(
    edge: Edge, raw_key: str, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=DEADLINE_S)
    fields = {"X-API-Key": raw_key, **headers} if raw_key else dict(headers)
    data = None if body is None else json.dumps(body)
    if data is not None:
        fields["Content-Type"] = "application/json"
    connection.request(method, path, data, fields)
    answer = connection.getresponse()
    got = {name.lower(): value for name, value in answer.getheaders()}
    found = answer.status, got, answer.read()
    connection.close()
    return found


schema = schemathesis.openapi.from_dict(json.loads(description()))


@pytest.mark.any_database
@schema.parametrize()
@settings(
    max_examples=6,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_schemathesis(case: schemathesis.Case, edge: Edge, raw_key: str) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{edge.port}",
        headers={"X-API-Key": raw_key},
        timeout=DEADLINE_S,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
            negative_data_rejection,
        ],
    )


def test_the_description_and_its_page_need_no_key(edge: Edge) -> None:
    status, headers, body = ask(edge, "", "GET", "/v1/schema")
    assert status == 200
    assert json.loads(body) == json.loads(description())
    assert ask(edge, "", "GET", "/v1/schema", **{"If-None-Match": headers["etag"]})[0] == 304
    status, headers, body = ask(edge, "", "GET", "/v1/docs")
    assert status == 200
    assert "'unsafe-inline'" not in headers["content-security-policy"]
    page = body.decode()
    assert "<style" not in page
    assert page.count("<script") == page.count('<script src="')
    status, headers, body = ask(edge, "", "GET", "/v1/docs?script")
    assert (status, headers["content-type"].split(";")[0]) == (200, "application/javascript")
    assert b"schema" in body


def test_both_headers_and_no_path(edge: Edge, raw_key: str) -> None:
    assert ask(edge, raw_key, "GET", "/v1/account")[0] == 200
    bearer = {"Authorization": f"Bearer {raw_key}"}
    assert ask(edge, "", "GET", "/v1/account", **bearer)[0] == 200
    assert ask(edge, "", "GET", f"/{raw_key}/v1/account")[0] == 404
    assert ask(edge, "", "GET", f"/v1/account?api_key={raw_key}")[0] == 401


def test_rates_are_told_and_hold(edge: Edge) -> None:
    _, slow = make_key(edge, "account", rate=10)
    answers = [ask(edge, slow, "GET", "/v1/account") for _ in range(5)]
    assert [status for status, _, _ in answers] == [200] * 5
    for _ in range(50):  # what fills up meanwhile is spent too
        status, headers, body = ask(edge, slow, "GET", "/v1/account")
        if status == 429:
            break
    assert status == 429
    assert int(headers["retry-after"]) >= 1
    assert json.loads(body)["error"]["code"] == "rate_limited"
    assert '"default";q=10' in answers[0][1]["ratelimit-policy"]
    assert "ratelimit" in headers


@pytest.mark.alone
def test_a_kill_switch_holds_within_a_second(edge: Edge, raw_key: str) -> None:
    bot_id, bot = make_key(edge, "exchange")
    order = {"action": {"type": "noop"}, "nonce": 1, "signature": {"r": "0x1", "s": "0x1", "v": 27}}

    def refused() -> bool:
        body = ask(edge, bot, "POST", "/exchange", order)[2]
        return b"kill" in body.lower() or b"switch" in body.lower()

    assert not refused()
    assert ask(edge, raw_key, "POST", f"/v1/keys/{bot_id}/kill")[0] == 200
    began_s = time.monotonic()
    wait_until(refused, process=edge.process, what="the kill switch", log=edge.log)
    assert time.monotonic() - began_s <= 1.0


def test_use_is_counted(edge: Edge, raw_key: str) -> None:
    """In the process's meter, on a channel of its own."""
    _, counted = make_key(edge, "account_read")
    for _ in range(3):
        assert ask(edge, counted, "GET", "/v1/account")[0] == 200
    assert ask(edge, counted, "POST", "/v1/keys", {"name": "no"})[0] == 403


def test_open_connections_are_seen_and_closed(edge: Edge, raw_key: str) -> None:
    _, socket_key = make_key(edge, "ws")
    with edge.connect(socket_key) as socket:
        edge.subscribe(socket, type="allMids")

        def rows() -> list[dict[str, Any]]:
            body = json.loads(ask(edge, raw_key, "GET", "/v1/connections")[2])
            return [row for row in body["rows"] if row["key_prefix"] == socket_key[:12]]

        wait_until(
            lambda: any(row["subscription_count"] for row in rows()),
            process=edge.process,
            what="the connection",
            log=edge.log,
        )
        (row,) = rows()
        assert (row["door"], row["subscriptions"]) == ("ws", ["allMids"])
        assert ask(edge, raw_key, "DELETE", f"/v1/connections/{row['id']}")[0] == 204
        list(socket)  # until it is closed
        assert socket.close_code == 1001
