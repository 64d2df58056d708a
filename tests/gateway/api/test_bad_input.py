"""What bad input gets: a status, a code that never changes, and one line that says what to do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.api.door import MAX_BODY_BYTES
from gateway.requests.models import RequestRecord
from tests.gateway.api.client import Api, api_of
from tests.tenants.cast import Cast


@pytest.fixture
def ada(cast: Cast) -> Api:
    return api_of(cast.acme, "account", "ws")


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b'{"name":"a","name":"b"}', 400, "bad_json"),
        (b'{"name":NaN}', 400, "bad_json"),
        (b'{"name":"a","daily_quota":1e400}', 400, "bad_json"),
        (b'{"name":"\\ud800"}', 400, "bad_json"),
        (b'{"name":"\xff"}', 400, "bad_json"),
        (b"[" * 10_000 + b"]" * 10_000, 400, "bad_json"),
        (b'{"name":' + b"[" * 900 + b"]" * 900 + b"}", 400, "bad_json"),
        (b"[1]", 400, "bad_value"),
        (b'"name"', 400, "bad_value"),
        (b"null", 400, "bad_value"),
        (b'{"name":"a\\u0000b"}', 400, "bad_value"),
        (b'{"name":"a","scopes":"ws"}', 400, "bad_value"),
        (b'{"name":"a","scopes":["none"]}', 400, "bad_value"),
        (b'{"name":"a","scopes":["ws","ws"]}', 400, "bad_value"),
        (b'{"name":"a","scope":["ws"]}', 400, "bad_value"),
        (b'{"name":"a","daily_quota":99999999999999999999999}', 400, "bad_value"),
        (b'{"name":"a","daily_quota":-1}', 400, "bad_value"),
        (b'{"name":"a","allowed_networks":["300.1.1.1"]}', 400, "bad_value"),
        (b'{"name":"a","expires_at":"yesterday"}', 400, "bad_value"),
        (b'{"name":"a","expires_at":"2001-01-01T00:00:00Z"}', 400, "bad_value"),
        (b'{"name":"a","expires_at":"9999-12-31T23:59:59-12:00"}', 400, "bad_value"),
        (b'{"name":"a","rate_per_minute":10}', 400, "bad_value"),
        (b'{"name":"' + b"x" * MAX_BODY_BYTES + b'"}', 413, "too_large"),
    ],
)
def test_bodies(ada: Api, raw: bytes, status: int, code: str) -> None:
    answer = ada("POST", "keys", raw=raw)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert len(answer.body) < 600


@pytest.mark.parametrize(
    ("path", "query", "says"),
    [
        ("keys", {"limit": -1}, "limit: "),
        ("keys", {"limit": 0}, "limit: "),
        ("keys", {"limit": 10**9}, "limit: "),
        ("keys", {"limit": "ten"}, "limit: "),
        ("keys", {"limit": [1, 2]}, "limit: is given twice"),
        ("keys", {"colour": "red"}, "colour: is no field here"),
        ("keys", {"cursor": "abc"}, "cursor: none of this list's"),
        ("keys", {"cursor": "x" * 5_000}, "cursor: "),
        ("keys", {"active": "perhaps"}, "active: "),
        ("account", {"limit": 1}, "limit: is no field here"),
        ("usage", {"step": "week"}, "step: "),
        ("usage", {"start": "2026-11-02T00:00:00Z", "end": "2026-11-01T00:00:00Z"}, "start: "),
        ("usage", {"start": "2020-01-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}, "at most 400"),
        ("usage", {"start": "2026-09-01T00:00:00Z", "step": "hour"}, "at most 31 days"),
        ("usage", {"start": "0001-01-01T00:00:00Z"}, "years 2000 to 2999"),
        ("usage", {"end": "0001-01-01T00:00:00+14:00"}, "end: "),
        ("usage", {"end": "9999-12-31T23:59:59-12:00"}, ""),
        ("usage", {"by_coin": "true", "step": "hour"}, "coins are told by the day"),
        ("usage", {"key": "0"}, "key[0]: "),
        ("usage", {"key": 2**70}, "key[0]: "),
        ("usage", {"metric": "miles"}, "metric: "),
        ("usage.csv", {"product": "none"}, "product: "),
        ("invoices", {"state": "lost"}, "state: "),
        ("requests", {"since": "2001-01-01T00:00:00Z"}, "records are kept"),
        ("requests", {"status": "9000"}, "status: "),
        ("deliveries", {"webhook": "7"}, "webhook: "),
        ("gaps", {"since": "2001-01-01T00:00:00Z"}, "31 days"),
        ("exports/invoices", {"period": "2026-13"}, "period: "),
        ("receipts/2026-13", {}, "month: "),
    ],
)
def test_queries(ada: Api, path: str, query: dict[str, Any], says: str) -> None:
    answer = ada("GET", path, **query)
    assert answer.status == 400, answer.body
    assert answer.code in {"bad_value", "bad_cursor"}
    assert says in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nothing", 404, "not_found"),
        ("GET", "keys/", 404, "not_found"),
        ("GET", "", 404, "not_found"),
        ("GET", "keys/x", 404, "not_found"),
        ("GET", "keys/99999999999999999999999999", 404, "not_found"),
        ("GET", "webhooks/1", 404, "not_found"),
        ("GET", "invoices/%00", 404, "not_found"),
        ("GET", "invoices/INV-1/exe", 400, "bad_value"),
        ("GET", "exports/journal", 404, "not_found"),
        ("GET", "connections/\u2603", 404, "not_found"),
        ("PUT", "keys", 405, "method_not_allowed"),
        ("DELETE", "account", 405, "method_not_allowed"),
        ("OPTIONS", "keys", 405, "method_not_allowed"),
        ("TRACE", "keys", 405, "method_not_allowed"),
    ],
)
def test_paths(
    ada: Api, settings: Any, redis_url: str, method: str, path: str, status: int, code: str
) -> None:
    settings.REDIS_BUS_URL = redis_url
    answer = ada(method, path)
    assert (answer.status, answer.code) == (status, code), answer.body


def test_another_media_type(ada: Api) -> None:
    answer = ada("POST", "keys", raw=b"name=a", headers={"content-type": "text/plain"})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    answer = ada("GET", "keys", headers={"accept": "text/html"})
    assert (answer.status, answer.code) == (406, "not_acceptable")


def test_another_host(ada: Api) -> None:
    answer = ada("GET", "keys", headers={"host": "evil.example"})
    assert (answer.status, answer.code) == (400, "bad_request")


def test_a_cursor_is_of_its_list_and_tenant(ada: Api, cast: Cast) -> None:
    for _ in range(3):
        api_of(cast.acme, "ws")
    page = ada.get("keys", limit=2)
    assert [row["name"] for row in page["rows"]] == ["api", "api"]
    following = ada.get("keys", limit=2, cursor=page["next_cursor"])
    ids = [row["id"] for row in page["rows"] + following["rows"]]
    assert len(set(ids)) == 4
    assert following["next_cursor"] == ""
    cleo = api_of(cast.other)
    assert cleo("GET", "keys", cursor=page["next_cursor"]).code == "bad_cursor"
    assert ada("GET", "requests", cursor=page["next_cursor"]).code == "bad_cursor"


def test_pages_tell_every_row_once_also_of_one_moment(ada: Api, cast: Cast) -> None:
    at = datetime.now(UTC) - timedelta(minutes=5)
    rows = [
        RequestRecord(
            at=at, request_id=f"r{n}", tenant=cast.acme, door="info", method="POST", status=400,
            total_ms=1.0,
        )
        for n in range(25)
    ]  # fmt: skip
    RequestRecord.objects.bulk_create(rows)
    seen: list[str] = []
    cursor = ""
    while True:
        page = ada.get("requests", limit=7, cursor=cursor)
        seen += [row["request_id"] for row in page["rows"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert sorted(seen) == sorted(f"r{n}" for n in range(25))


def test_an_error_leaves_a_record_and_costs_nothing(ada: Api) -> None:
    ada("GET", "keys", limit=0)
    (entry,) = ada.noted
    assert (entry.door, entry.kind, entry.status, entry.code) == (
        "account", "keys", 400, "bad_value",
    )  # fmt: skip
    assert ada.meter.requests == []


def test_what_goes_wrong_inside_says_no_more_than_its_id(ada: Api, monkeypatch: Any) -> None:
    from gateway.account import profile

    def fail(tenant: Any) -> None:
        raise RuntimeError("the password is secret")

    monkeypatch.setattr(profile, "profile", fail)
    answer = ada("GET", "account")
    assert (answer.status, answer.code) == (500, "internal")
    assert "secret" not in json.dumps(answer.json)
    assert answer.headers["x-request-id"] in answer.json["error"]["message"]
