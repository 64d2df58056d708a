"""Of every operation that the description names: who may, who may not, and that strangers see
nothing. A new one is here by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import redis

from gateway.api.describing import description
from gateway.requests.models import RequestRecord
from streaming.bus import keys as names
from streaming.sessions import SessionRow
from tenants.models import APIKey, Delivery, Membership, Notice, Tenant, WebhookEndpoint
from tenants.notices import services as notices
from tests.gateway.api.client import Api, api_of
from tests.tenants.cast import Cast

DESCRIPTION = json.loads(description())
OPERATIONS = [
    (method.upper(), path.removeprefix("/v1/"), operation)
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
]
IDS = [operation["operationId"] for _, _, operation in OPERATIONS]
#: Bodies that would be taken, where one is needed.
BODIES: dict[str, Any] = {
    "create_key": {"name": "made"},
    "update_key": {"note": "changed"},
    "set_rails": {"is_cancel_only": True},
    "preview_plan": {"plan": "large"},
    "set_spending": {"spend_cap": "5.00"},
    "estimate": {"subscriptions": [{"channel": "allMids"}]},
    "create_webhook": {"url": "https://hooks.example.com/a"},
    "update_webhook": {"kinds": ["key.rotated"]},
}
#: What changes nothing, beside what is read by its method.
READING = {"preview_plan", "estimate"}
SECRET = "AcmeSecretWord"


@pytest.fixture
def stage(cast: Cast, settings: Any, redis_url: str) -> Iterator[dict[str, str]]:
    """Things of Acme's, one for each parameter of a path."""
    settings.REDIS_BUS_URL = redis_url.removesuffix("/0") + "/12"
    acme = cast.acme
    key = api_of(acme, "ws", note=SECRET).key
    row = SessionRow(
        id="edge1-1", edge="edge1", key_id=key.pk, key_prefix=key.prefix, tenant_id=acme.pk,
        tenant=acme.slug, address=SECRET, dialect="relay", opened_ms=1, topics=("bbo BTC",),
    )  # fmt: skip
    bus = redis.Redis.from_url(settings.REDIS_BUS_URL)
    bus.flushdb()
    bus.sadd(names.SESSION_EDGES, "edge1")
    bus.hset(names.SESSIONS.format(edge="edge1"), row.id, msgspec.json.encode(row))
    shown = notices.add_endpoint(tenant=acme, url=f"https://{SECRET.lower()}.example.com/")
    notice = Notice.objects.create(tenant=acme, kind="ping", dedupe="ping:1")
    delivery = Delivery.objects.create(tenant=acme, notice=notice, endpoint=shown.endpoint)
    RequestRecord.objects.create(
        at=datetime.now(UTC), request_id="req-of-acme", tenant=acme, door="info", method="POST",
        kind=SECRET, status=400, total_ms=1.0,
    )  # fmt: skip
    yield {
        "key_id": str(key.pk),
        "uid:webhooks": str(shown.endpoint.uid),
        "uid:deliveries": str(delivery.uid),
        "request_id": "req-of-acme",
        "number": "INV-2026-0001",
        "file_format": "csv",
        "name": "invoices",
        "month": "2026-11",
        "connection_id": row.id,
    }
    bus.flushdb()
    bus.close()


def path_of(path: str, stage: dict[str, str]) -> str:
    """With Acme's things in it."""
    first = path.partition("/")[0]

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        return stage.get(f"{name}:{first}") or stage[name]

    return re.sub(r"\{(\w+)\}", value, path)


def ask(api: Api, operation: tuple[str, str, dict[str, Any]], stage: dict[str, str]) -> Any:
    method, path, about = operation
    return api(method, path_of(path, stage), BODIES.get(about["operationId"]))


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_cleo_sees_nothing_of_acme(
    cast: Cast, stage: dict[str, str], operation: tuple[str, str, dict[str, Any]]
) -> None:
    before = _state(cast.acme)
    cleo = api_of(cast.other, "account", "ws", "info", "grpc", "exchange")
    answer = ask(cleo, operation, stage)
    assert SECRET.lower() not in answer.body.decode().lower()
    assert str(cast.acme.slug) not in answer.body.decode()
    if "{" in operation[1] and not operation[1].startswith(("exports/", "receipts/")):
        assert answer.status == 404, answer.body
        assert answer.code == "not_found"
    assert answer.status < 500 or answer.code == "unavailable"
    assert _state(cast.acme) == before
    if "{" not in operation[1]:
        assert "bbo BTC" not in answer.body.decode()  # of the connection


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_a_key_without_the_scope_opens_nothing(
    cast: Cast, stage: dict[str, str], operation: tuple[str, str, dict[str, Any]]
) -> None:
    before = _state(cast.acme)
    leaked = api_of(cast.acme, "ws", "info", "grpc", "exchange", "evm", "history")
    answer = ask(leaked, operation, stage)
    assert (answer.status, answer.code) == (403, "scope_missing")
    assert _state(cast.acme) == _with(before, leaked)
    assert leaked.meter.requests == []
    assert [entry.code for entry in leaked.noted] == ["scope_missing"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_who_may_only_look_changes_nothing(
    cast: Cast, stage: dict[str, str], operation: tuple[str, str, dict[str, Any]]
) -> None:
    looking = api_of(cast.acme, "account_read")
    before = _state(cast.acme)
    answer = ask(looking, operation, stage)
    is_reading = operation[0] == "GET" or operation[2]["operationId"] in READING
    if is_reading:
        assert answer.status != 403, answer.body
    else:
        assert (answer.status, answer.code) == (403, "scope_missing")
    assert _state(cast.acme) == before


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_nobody_without_a_key(
    cast: Cast, stage: dict[str, str], operation: tuple[str, str, dict[str, Any]]
) -> None:
    nobody = api_of(cast.acme)
    nobody.raw_key = ""
    answer = ask(nobody, operation, stage)
    assert (answer.status, answer.code) == (401, "missing_key")
    assert answer.headers["www-authenticate"] == 'Bearer realm="hl-relay"'


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_its_owner_may(
    cast: Cast, stage: dict[str, str], operation: tuple[str, str, dict[str, Any]], redis_server: Any
) -> None:
    ada = api_of(cast.acme, "account", "ws", "info", "grpc")
    answer = ask(ada, operation, stage)
    name = operation[2]["operationId"]
    # What the stage has none of: invoices, and plans with prices.
    if "number" in operation[1] or name in {"preview_plan", "get_running_period"}:
        assert answer.status in (404, 409), answer.body
    else:
        assert 200 <= answer.status < 300, answer.body
        assert ada.meter.requests == [ada.key.pk]
        assert ada.noted == []
    assert answer.headers["ratelimit"]
    assert answer.headers["x-request-id"]


def _state(tenant: Tenant) -> list[Any]:
    """All rows of a tenant that an operation could change."""
    return [
        sorted(
            APIKey.objects.for_tenant(tenant).values_list("pk", "note", "revoked_at", "rotated_at")
        ),
        sorted(
            WebhookEndpoint.objects.filter(tenant=tenant).values_list("pk", "url", "generation")
        ),
        sorted(Delivery.objects.filter(tenant=tenant).values_list("pk", "state", "attempts")),
        sorted(Membership.objects.for_tenant(tenant).values_list("pk", "role")),
    ]


def _with(before: list[Any], api: Api) -> list[Any]:
    keys = sorted([*before[0], (api.key.pk, "", None, None)])
    return [keys, *before[1:]]


def test_there_is_a_row_for_each_parameter(stage: dict[str, str]) -> None:
    for _, path, _ in OPERATIONS:
        assert "{" not in path_of(path, stage)
