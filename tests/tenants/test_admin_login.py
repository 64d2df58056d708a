"""The operators' log-in is slowed down, believes only our proxies, and does not go round a second
factor."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from relay_site.client_address import lockout_address

pytestmark = pytest.mark.django_db
PASSWORD = "a long and odd one"
SEED = "JBSWY3DPEHPK3PXP"


def code(seed: str = SEED) -> str:
    """What an authenticator app shows now."""
    return str(format_hotp_value(hotp_value(seed, next(yield_hotp_counters_from_time()))))


@pytest.fixture
def op(settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return User.objects.create_superuser("op", "op@example.com", PASSWORD)


def log_in(password: str, *, peer: str, forwarded: str = "") -> Any:
    headers = {"X-Forwarded-For": forwarded} if forwarded else None
    return Client(REMOTE_ADDR=peer, headers=headers).post(
        "/admin/login/?next=/admin/", {"username": "op", "password": password}
    )


def test_the_sixth_try_is_locked_out_even_with_the_right_password(op: User) -> None:
    assert [log_in("wrong", peer="192.0.2.1").status_code for _ in range(5)] == [200] * 4 + [429]
    assert log_in(PASSWORD, peer="192.0.2.1").status_code == 429
    assert log_in(PASSWORD, peer="192.0.2.2").status_code == 302  # the operator, elsewhere


def test_a_header_does_not_make_another_address(op: User) -> None:
    for n in range(5):
        log_in("wrong", peer="192.0.2.1", forwarded=f"203.0.113.{n}")
    assert log_in(PASSWORD, peer="192.0.2.1", forwarded="203.0.113.9").status_code == 429


def test_behind_our_proxy_the_customer_is_counted_not_the_proxy(op: User, settings: Any) -> None:
    settings.RELAY_TRUSTED_PROXIES = ["10.0.0.0/8"]
    for n in range(5):
        # What stands before the last entry, the caller has written.
        log_in("wrong", peer="10.0.0.1", forwarded=f"203.0.113.{n}, 192.0.2.1")
    assert log_in(PASSWORD, peer="10.0.0.1", forwarded="192.0.2.1").status_code == 429
    assert log_in(PASSWORD, peer="10.0.0.1", forwarded="192.0.2.2").status_code == 302


def test_an_ipv6_customer_has_one_network_not_all_its_addresses(op: User) -> None:
    for n in range(5):
        log_in("wrong", peer=f"2001:db8::{n + 1}")
    assert log_in(PASSWORD, peer="2001:db8::ffff").status_code == 429
    assert log_in(PASSWORD, peer="2001:db8:0:1::1").status_code == 302


@pytest.mark.parametrize(
    ("peer", "counted"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("", None), ("unix:", None)],
)
def test_what_is_counted(rf: Any, peer: str, counted: str | None) -> None:
    assert lockout_address(rf.get("/", REMOTE_ADDR=peer)) == counted


@pytest.mark.usefixtures("redis_server")
def test_a_password_alone_does_not_open_who_has_a_second_factor(op: User) -> None:
    """By name, and so also for who has no e-mail address."""
    cache.clear()
    User.objects.update(email="")
    TOTP.activate(op, SEED)
    browser = Client(REMOTE_ADDR="192.0.2.1")
    login = {"username": "op", "password": PASSWORD}
    answer = browser.post("/admin/login/?next=/admin/tenants/tenant/", login)
    assert answer["Location"] == "/accounts/2fa/authenticate/"
    assert "_auth_user_id" not in browser.session
    assert browser.get("/admin/").status_code == 302
    answer = browser.post("/accounts/2fa/authenticate/", {"code": code()})
    assert answer["Location"] == "/admin/tenants/tenant/"
    assert browser.get("/admin/tenants/tenant/").status_code == 200


@pytest.mark.usefixtures("redis_server")
def test_no_log_in_leads_elsewhere(op: User) -> None:
    cache.clear()  # a code is good once
    TOTP.activate(op, SEED)
    browser = Client()
    login = {"username": "op", "password": PASSWORD}
    browser.post("/admin/login/?next=https://evil.example/", login)
    answer = browser.post("/accounts/2fa/authenticate/", {"code": code()})
    assert answer["Location"] == "/admin/"


def test_what_the_cockpit_shows_of_it_holds_no_secret(op: User) -> None:
    TOTP.activate(op, "JBSWY3DPEHPK3PXP")
    log_in("wrong", peer="192.0.2.1")
    browser = Client()
    browser.force_login(op)
    factor = op.authenticator_set.get()
    for path in (
        "/admin/mfa/authenticator/",
        f"/admin/mfa/authenticator/{factor.pk}/change/",
        "/admin/axes/accessattempt/",
        "/admin/axes/accesslog/",
        "/admin/account/emailaddress/",
    ):
        page = browser.get(path)
        assert page.status_code == 200, path
        assert factor.data["secret"] not in page.content.decode()
