"""With `RELAY_STAFF_MFA` the admin answers only sessions that were opened with a second factor, and
who lost theirs has a way back."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import TOTP
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client

from tests.support.relay import ROOT
from tests.tenants.people import make_person
from tests.tenants.test_admin_login import PASSWORD, SEED, code

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server", "with_mfa")]
PAGES = (
    "/admin/",
    "/admin/tenants/tenant/",
    "/admin/cockpit/margin/",
    "/admin/jsi18n/",
    "/admin/x",
)


@pytest.fixture
def with_mfa(redis_server: Any, settings: Any) -> None:
    cache.clear()
    settings.RELAY_STAFF_MFA = True
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def op(with_mfa: None) -> User:
    return User.objects.create_superuser("op", "", PASSWORD)


def logged_in() -> Client:
    browser = Client()
    browser.post("/admin/login/?next=/admin/", {"username": "op", "password": PASSWORD})
    return browser


def reset(*arguments: str) -> str:
    out = StringIO()
    call_command("reset_second_factor", *arguments, stdout=out)
    return out.getvalue()


def test_an_operator_without_one_is_led_to_set_one_up_and_then_gets_in(op: User) -> None:
    browser = logged_in()
    for path in PAGES:
        assert browser.get(path)["Location"] == "/accounts/2fa/", path
    assert "Operators need a second factor" in browser.get("/accounts/2fa/").content.decode()

    asked = browser.get("/accounts/2fa/totp/activate/")
    browser.post(asked["Location"], {"password": PASSWORD})
    assert browser.get("/accounts/2fa/totp/activate/").status_code == 200
    shown = browser.session["mfa.totp.secret"]
    done = browser.post("/accounts/2fa/totp/activate/", {"code": code(shown)})
    assert done.status_code == 302

    # It has one now, and is asked for it once.
    asked = browser.get("/admin/tenants/tenant/?q=a")
    assert asked["Location"].startswith("/accounts/2fa/reauthenticate/?next=")
    cache.clear()  # a code is good once, and the test has no 30 s
    back = browser.post(asked["Location"], {"code": code(shown)})
    assert back["Location"] == "/admin/tenants/tenant/?q=a"
    assert [browser.get(path).status_code for path in PAGES[:3]] == [200, 200, 200]
    added = LogEntry.objects.get_for_object(op.authenticator_set.get(type="totp")).get()
    assert added.actor == op
    assert "data" not in (added.changes or {})


def test_a_session_from_before_is_not_let_in_and_its_forms_change_nothing(op: User) -> None:
    browser = logged_in()
    TOTP.activate(op, SEED)
    answer = browser.post("/admin/auth/user/add/", {"username": "eve"})
    assert answer["Location"] == "/accounts/2fa/reauthenticate/?next=%2Fadmin%2F"
    assert not User.objects.filter(username="eve").exists()
    forced = Client()
    forced.force_login(op)
    for path in PAGES:
        assert forced.get(path)["Location"].startswith("/accounts/2fa/reauthenticate/"), path


def test_the_records_of_another_factor_or_person_open_nothing(op: User) -> None:
    other = make_person("cleo")
    theirs = TOTP.activate(other, SEED).instance
    TOTP.activate(op, SEED)
    browser = logged_in()
    session = browser.session
    session["account_authentication_methods"] = [{"method": "mfa", "at": 1, "id": theirs.pk}]
    session.save()
    assert browser.get("/admin/").status_code == 302


def test_strangers_customers_and_the_log_in_are_as_before(op: User) -> None:
    assert Client().get("/admin/")["Location"] == "/admin/login/?next=/admin/"
    assert Client().get("/admin/login/").status_code == 200
    customer = Client()
    customer.force_login(make_person("ada"))
    assert customer.get("/admin/")["Location"] == "/admin/login/?next=/admin/"
    assert customer.get("/accounts/email/").status_code == 200
    browser = logged_in()
    assert browser.post("/admin/logout/").status_code == 200


def test_off_it_is_a_password(op: User, settings: Any) -> None:
    settings.RELAY_STAFF_MFA = False
    assert logged_in().get("/admin/").status_code == 200


def test_a_lost_device(op: User) -> None:
    TOTP.activate(op, SEED)
    browser = Client()
    browser.post("/admin/login/?next=/admin/", {"username": "op", "password": PASSWORD})
    browser.post("/accounts/2fa/authenticate/", {"code": code()})
    assert browser.get("/admin/").status_code == 200
    assert reset("op", "--reason", "phone stolen, asked in person") == "op: totp taken away.\n"
    # What was opened with it is shut, until there is a new one.
    assert browser.get("/admin/")["Location"] == "/accounts/2fa/"
    assert logged_in().get("/admin/")["Location"] == "/accounts/2fa/"
    entry = LogEntry.objects.get_for_object(op).latest("pk")
    assert entry.changes == {"second factors": ["totp", "none"]}
    assert entry.additional_data["reason"] == "phone stolen, asked in person"
    assert entry.additional_data["by"].startswith("command line")
    assert LogEntry.objects.filter(content_type__model="authenticator", action=2).count() == 1
    with pytest.raises(CommandError, match="op has no second factor"):
        reset("op", "--reason", "again")


def test_whose_it_is_is_never_guessed(op: User) -> None:
    TOTP.activate(make_person("ada"), SEED)
    twin = make_person("ben")
    User.objects.filter(pk__in=[op.pk, twin.pk]).update(email="both@example.com")
    with pytest.raises(CommandError, match="nobody is called none"):
        reset("none", "--reason", "x")
    with pytest.raises(CommandError, match="more than one person"):
        reset("both@example.com", "--reason", "x")
    with pytest.raises(CommandError, match="say why"):
        reset("ADA@example.com", "--reason", " ")
    assert "totp taken away" in reset("ADA@example.com", "--reason", "lost")


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [({}, False), ({"RELAY_ENV": "production"}, True), ({"RELAY_STAFF_MFA": "1"}, True)],
)
def test_by_default_production_asks(
    environment: dict[str, str], is_on: bool, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from relay_site import settings as s; print(s.RELAY_STAFF_MFA)"],
        env={"PATH": os.environ["PATH"], "RELAY_VAR": str(tmp_path), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == str(is_on)
