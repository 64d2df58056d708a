"""The first page: true prices, true freshness, and it is there when little else is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.catalogue.publish import publish_plan_version
from gateway import landing
from gateway.operations import sampling, status
from gateway.operations.freshness import Look
from tenants.models import Plan
from tests.billing.catalogue.books import make_prices

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_page(settings: Any, tmp_path: Any) -> Iterator[None]:
    settings.STATIC_ROOT = str(tmp_path)
    settings.REDIS_BUS_URL = "redis://127.0.0.1:1/0"
    for kept in (status.kept, landing.plans):
        kept.forget()
    yield
    for kept in (status.kept, landing.plans):
        kept.forget()


def text_of(client: Client) -> str:
    answer = client.get("/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_says_how_to_connect(client: Client) -> None:
    text = text_of(client)
    assert "ws://testserver/&lt;your key&gt;/ws" in text
    assert 'Info("http://testserver/&lt;your key&gt;")' in text
    assert "/accounts/signup/" in text
    assert "<script>" not in text
    assert client.get("/")["Referrer-Policy"] == "same-origin"


def test_sign_up_is_offered_where_it_is_open(client: Client, settings: Any) -> None:
    settings.RELAY_SIGNUP = False
    assert "/accounts/signup/" not in text_of(client)


def test_prices_are_the_published_ones_in_force(client: Client) -> None:
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    for version, fee, at in ((1, 10, 0), (2, 20, 1), (3, 30, 24)):
        prices = make_prices("mini", fee, version=version, effective_from=now + timedelta(hours=at))
        publish_plan_version(prices, now=now)
    assert [plan.fee for plan in landing.offered(now + timedelta(hours=2))] == [20]
    Plan.objects.create(code="gone", name="Gone", is_active=False)
    text = text_of(client)
    assert "$10 / month" in text
    assert "$20" not in text
    assert "Gone" not in text


def test_how_fresh_it_is(client: Client) -> None:
    assert "Not known at the moment" in text_of(client)
    status.kept.forget()
    sampling.record({"feed:books": Look(True, 412)}, timezone.now())
    text = text_of(client)
    assert "All feeds are fresh" in text
    assert "412 ms" in text


def test_before_anything_was_measured_the_process_says_it_itself(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_edge_says", lambda: None)
    assert "All feeds are fresh" in text_of(client)
    monkeypatch.setattr(status, "_edge_says", lambda: "no upstream worker")
    assert "Nothing fresh is served" in text_of(client)


def test_it_is_there_without_the_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise DatabaseError("gone")

    monkeypatch.setattr(landing, "offered", away)
    text = text_of(client)
    assert "Plans</h2>" not in text
    assert "/&lt;your key&gt;/ws" in text


def test_what_is_kept_is_not_read_again(client: Client) -> None:
    client.get("/")
    with CaptureQueriesContext(connection) as seen:
        client.get("/")
    assert not seen.captured_queries
