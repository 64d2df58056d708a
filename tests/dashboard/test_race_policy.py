"""The race page's own policy, and what it gives whom."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests.tenants.cast import Cast
from tests.tenants.people import make_person, owner_of, signed_in


def _connects(answer: object) -> list[str]:
    policy = answer["Content-Security-Policy"]  # type: ignore[index]
    return next(part for part in policy.split("; ") if part.startswith("connect-src")).split()[1:]


@pytest.mark.django_db
def test_it_alone_opens_sockets_elsewhere() -> None:
    assert "wss:" in _connects(Client().get("/race/", secure=True))
    assert not {"wss:", "ws:", "https:", "*"}.intersection(_connects(Client().get("/")))


def test_in_production_not_even_loopback_without_tls(settings: object) -> None:
    settings.IS_PRODUCTION = True  # type: ignore[attr-defined]
    answer = Client().get("/race/", secure=True)
    assert set(_connects(answer)) == {"'self'", "wss:", "wss://testserver"}
    assert b"data-loopback" not in answer.content


@pytest.mark.django_db
def test_a_member_needs_no_key(cast: Cast) -> None:
    answer = signed_in(owner_of(cast.acme).user).get("/race/")
    assert reverse("dashboard:token", kwargs={"slug": "acme"}).encode() in answer.content
    assert b'name="key"' not in answer.content


@pytest.mark.django_db
def test_a_stranger_brings_one(cast: Cast) -> None:
    """Also who is signed in and belongs to nobody."""
    for client in (Client(), signed_in(make_person("nobody"))):
        content = client.get("/race/").content
        assert b'name="key" type="password"' in content
        assert b'data-token-url=""' in content


def test_what_it_is_asked_for_is_filled_in_and_nothing_else() -> None:
    content = Client().get("/race/?coin=%3Cb%3E&channel=nope").content
    assert b'value="&lt;b&gt;"' in content
    assert b"<option selected>trades" in content
    assert Client().post("/race/").status_code == 405
