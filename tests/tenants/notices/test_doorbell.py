"""A committed notice wakes a worker; a broker that is down holds up nobody and loses nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis

from relay_site.redis_urls import for_celery
from tenants.models import Delivery
from tenants.notices import doorbell, services
from tests.support.services import Service
from tests.tenants.cast import Cast

QUEUE = "relay:celery:relay"


@pytest.fixture
def queue(redis_server: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The broker's Redis, with nothing waiting."""
    url = for_celery(redis_server.url)
    monkeypatch.setattr(celery.current_app.conf, "broker_write_url", url)
    forget(monkeypatch)
    client = redis.Redis.from_url(redis_server.url)
    client.delete(QUEUE)
    yield client
    client.delete(QUEUE)
    client.close()


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a thread that has not rung yet."""
    monkeypatch.setattr(doorbell._local, "broker", None, raising=False)
    monkeypatch.setattr(doorbell._local, "quiet_until_s", 0.0, raising=False)


def tell(cast: Cast, fact: str) -> None:
    services.notify(
        tenant=cast.acme,
        kind="key.rotated",
        payload={"prefix": "hlr_live_ab12", "ends_at": "2026-12-01T00:00:00Z"},
        dedupe=fact,
        to=["ada@acme.example"],
    )


def test_a_commit_rings_and_the_bell_says_nothing(queue: redis.Redis, committed_cast: Cast) -> None:
    services.add_endpoint(tenant=committed_cast.acme, url="https://hooks.example/")
    tell(committed_cast, "one")
    rung: list[dict[str, Any]] = [json.loads(text) for text in queue.lrange(QUEUE, 0, -1)]
    names = {message["headers"]["task"] for message in rung}
    assert names == {"tenants.tasks.send_webhooks", "tenants.tasks.send_mail"}
    assert {message["headers"]["argsrepr"] for message in rung} == {"()"}
    tell(committed_cast, "one")  # told before
    assert queue.llen(QUEUE) == 2


def test_a_broker_that_is_down_holds_up_nobody(
    committed_cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery.current_app.conf, "broker_write_url", "redis://127.0.0.1:9/0")
    forget(monkeypatch)
    began_s = time.monotonic()
    for number in range(20):
        tell(committed_cast, f"fact:{number}")
    assert time.monotonic() - began_s < 5
    assert Delivery.objects.filter(state="pending").count() == 20
