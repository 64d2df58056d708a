"""What browsers are told to refuse."""

from __future__ import annotations

import pytest
from django.template.loader import render_to_string
from django.test import Client

from tests.tenants.cast import Cast
from tests.tenants.people import owner_of, signed_in


def _policy(answer: object) -> dict[str, str]:
    text = answer["Content-Security-Policy"]  # type: ignore[index]
    return {part.split()[0]: part.partition(" ")[2] for part in text.split("; ")}


@pytest.mark.django_db
def test_customers_pages_run_nothing_that_is_not_ours(cast: Cast) -> None:
    policy = _policy(signed_in(owner_of(cast.acme).user).get("/app/acme/"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert policy["connect-src"] == "'self' ws://testserver"
    assert "unsafe" not in str(policy)


@pytest.mark.django_db
def test_a_page_over_tls_names_its_sockets() -> None:
    policy = _policy(Client().get("/", secure=True))
    assert policy["connect-src"] == "'self' wss://testserver"


@pytest.mark.django_db
def test_only_the_admin_may_evaluate() -> None:
    assert "'unsafe-eval'" in _policy(Client().get("/admin/login/"))["script-src"]
    assert "'unsafe-eval'" not in _policy(Client().get("/accounts/login/"))["script-src"]


def test_the_page_of_a_fault_needs_nothing() -> None:
    """Neither a request nor the database, either of which may be what broke."""
    text = render_to_string("500.html")
    assert "Something broke on our side" in text
