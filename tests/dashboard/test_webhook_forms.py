"""Webhooks' forms sent again: their answers are pages, and pages are loaded again."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from gateway.account import webhooks
from gateway.dashboard.once import new_ticket
from tenants.models import WebhookEndpoint
from tests.tenants.cast import Cast
from tests.tenants.people import owner_of, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(cast: Cast, redis_url: str, settings: Any) -> Client:
    settings.REDIS_CACHE_URL = redis_url
    return signed_in(owner_of(cast.acme).user)


def url(name: str, **arguments: Any) -> str:
    return reverse(f"dashboard:{name}", kwargs={"slug": "acme", **arguments})


def test_an_endpoint_is_added_once(client: Client) -> None:
    form = {"url": "https://example.com/hook", "once": new_ticket()}
    assert b"whsec_" in client.post(url("webhook-add"), form).content
    assert client.post(url("webhook-add"), form)["Location"] == url("webhooks")
    assert WebhookEndpoint.objects.count() == 1


def test_the_secret_that_the_receiver_has_goes_on(cast: Cast, client: Client) -> None:
    """Rotated twice, it would end before anybody could put in the new one."""
    made = webhooks.add(cast.acme, url="https://example.com/hook").endpoint
    form = {"hours": "24", "once": new_ticket()}
    assert b"whsec_" in client.post(url("webhook-rotate", uid=made.uid), form).content
    made.refresh_from_db()
    fingerprint, until = made.fingerprint, made.previous_until
    assert client.post(url("webhook-rotate", uid=made.uid), form).status_code == 302
    made.refresh_from_db()
    assert (made.fingerprint, made.previous_until) == (fingerprint, until)
