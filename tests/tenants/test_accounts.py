"""Sign-up, sign-in and second factors, through the pages."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from tenants import selectors
from tenants.models import Membership, Tenant, TermsAcceptance
from tenants.people import services
from tests.tenants.authenticator import Passkey
from tests.tenants.cast import Cast, make_plan
from tests.tenants.people import last_code, make_person, owner_of, signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server", "fresh_limits")]
AJAX = {"X-Requested-With": "XMLHttpRequest"}
FORM = {
    "email": "Dora@example.com",
    "password1": "a long and odd one",
    "password2": "a long and odd one",
    "company": "Dora  Trading",
    "terms": "on",
}


@pytest.fixture
def fresh_limits(redis_server: Any, settings: Any) -> None:
    """Nobody has tried anything yet; and passwords are hashed quickly."""
    cache.clear()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def sign_up(**values: Any) -> Client:
    browser = Client(REMOTE_ADDR="198.51.100.7")
    answer = browser.post("/accounts/signup/", {**FORM, **values})
    assert answer.status_code == 302, answer.content.decode()
    return browser


def confirm(browser: Client) -> Any:
    return browser.post("/accounts/confirm-email/", {"code": last_code()})


def test_a_stranger_becomes_an_owner_once_the_address_is_proved() -> None:
    plan = make_plan("free", max_connections=1, max_subscriptions=5)
    browser = sign_up()
    assert mail.outbox[-1].to == ["dora@example.com"]
    # Not signed in before the code is typed.
    assert browser.get("/accounts/email/").status_code == 302
    assert not EmailAddress.objects.get(email="dora@example.com").verified
    assert confirm(browser).status_code == 302
    assert browser.get("/accounts/email/").status_code == 200
    owner = Membership.objects.get(user__email="dora@example.com")
    assert (owner.role, owner.tenant.name, owner.tenant.kind) == (
        "owner", "Dora Trading", "external",
    )  # fmt: skip
    current = selectors.current_plan_subscription(owner.tenant)
    assert current is not None
    assert current.plan == plan
    terms = TermsAcceptance.objects.get(tenant=owner.tenant)
    assert (terms.version, terms.from_address, terms.user) == ("1", "198.51.100.7", owner.user)


def test_a_wrong_code_proves_nothing() -> None:
    browser = sign_up()
    for _ in range(4):
        browser.post("/accounts/confirm-email/", {"code": "AAA-AAA"})
    confirm(browser)  # too many before it
    assert not EmailAddress.objects.get(email="dora@example.com").verified


def test_without_such_a_plan_there_is_none_and_names_may_be_equal() -> None:
    sign_up()
    sign_up(email="other@example.com")
    slugs = set(Tenant.objects.filter(name="Dora Trading").values_list("slug", flat=True))
    assert "dora-trading" in slugs
    assert len(slugs) == 2
    for tenant in Tenant.objects.all():
        assert selectors.current_plan_subscription(tenant) is None


def test_a_name_in_any_script() -> None:
    sign_up(company="東京取引")
    assert Tenant.objects.get().name == "東京取引"


@pytest.mark.parametrize(
    "wrong",
    [
        {"company": " "},
        {"terms": ""},
        {"company": "x" * 121},
        {"email": "none"},
        {"password1": "12345678", "password2": "12345678"},
        {"password2": "another one"},
    ],
)
def test_a_bad_sign_up_leaves_nothing(wrong: dict[str, str]) -> None:
    assert Client().post("/accounts/signup/", {**FORM, **wrong}).status_code == 200
    assert not User.objects.exists()
    assert not Tenant.objects.exists()
    assert mail.outbox == []


def test_a_known_address_is_not_told_from_an_unknown_one() -> None:
    make_person("dora")
    browser = sign_up()
    assert User.objects.count() == 1
    assert not Tenant.objects.exists()
    assert "already" in str(mail.outbox[-1].body)
    assert browser.get("/accounts/email/").status_code == 302


def test_a_failure_half_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tenants.people.signup.accept_terms", refuse)
    with pytest.raises(ZeroDivisionError):
        sign_up()
    assert not User.objects.exists()
    assert not Tenant.objects.exists()


def test_closed_sign_up_is_open_to_the_invited(cast: Cast, settings: Any) -> None:
    settings.RELAY_SIGNUP = False
    stranger = Client()
    assert "Sign Up Closed" in stranger.get("/accounts/signup/").content.decode()
    stranger.post("/accounts/signup/", FORM)
    assert not User.objects.filter(email="dora@example.com").exists()

    ada = owner_of(cast.acme)
    invitation = services.invite(tenant=cast.acme, email="dora@example.com", role="finance", by=ada)
    made = services.make_token(invitation.pk)
    assert made is not None
    browser = Client()
    browser.get(reverse("invitation_link", args=[made[1]]))
    assert "company" not in browser.get("/accounts/signup/").content.decode().lower()
    form = {key: FORM[key] for key in ("email", "password1", "password2")}
    assert browser.post("/accounts/signup/", form).status_code == 302
    assert confirm(browser)["Location"] == "/invitations/"
    assert browser.post("/invitations/").status_code == 302
    dora = Membership.objects.get(user__email="dora@example.com")
    assert (dora.tenant, dora.role) == (cast.acme, "finance")
    assert Tenant.objects.count() == 2  # no company of her own


def test_a_session_is_keyed_anew_at_sign_in(cast: Cast) -> None:
    owner = owner_of(cast.acme, "owner")
    invitation = services.invite(tenant=cast.acme, email="x@example.com", role="viewer", by=owner)
    made = services.make_token(invitation.pk)
    assert made is not None
    ada = make_person("ada")
    ada.set_password("a long and odd one")
    ada.save()
    browser = Client()
    browser.get("/invitations/no-such-link")
    assert "sessionid" not in browser.cookies
    browser.get(reverse("invitation_link", args=[made[1]]))  # a visitor's session
    before = browser.session.session_key
    answer = browser.post(
        "/accounts/login/", {"login": "ADA@example.com", "password": "a long and odd one"}
    )
    assert answer.status_code == 302
    assert browser.session["_auth_user_id"] == str(ada.pk)
    assert before is not None
    assert browser.session.session_key != before
    fixed = Client()
    fixed.cookies["sessionid"] = before
    assert fixed.get("/accounts/email/").status_code == 302


def test_guessing_is_slowed_down_across_processes() -> None:
    """By the cache in Redis, which all processes share."""
    make_person("ada")
    login = {"login": "ada@example.com", "password": "wrong"}
    pages = [Client().post("/accounts/login/", login).content.decode() for _ in range(12)]
    assert "Too many failed login attempts" in pages[-1]
    assert "Too many failed login attempts" not in pages[0]


def test_guesses_elsewhere_lock_nobody_out() -> None:
    ada = make_person("ada")
    ada.set_password("a long and odd one")
    ada.save()
    login = {"login": "ada@example.com", "password": "wrong"}
    for n in range(12):
        Client(REMOTE_ADDR=f"203.0.113.{n}").post("/accounts/login/", login)
    login["password"] = "a long and odd one"
    answer = Client(REMOTE_ADDR="192.0.2.1").post("/accounts/login/", login)
    assert answer.status_code == 302


def test_who_has_many_addresses_of_one_network_is_slowed_down_as_one() -> None:
    make_person("ada")
    login = {"login": "ada@example.com", "password": "wrong"}
    pages = [
        Client(REMOTE_ADDR=f"2001:db8::{n}").post("/accounts/login/", login) for n in range(1, 13)
    ]
    assert "Too many failed login attempts" in pages[-1].content.decode()


def test_a_second_factor_is_asked_for_and_kept_encrypted() -> None:
    ada = make_person("ada")
    ada.set_password("a long and odd one")
    ada.save()
    factor = TOTP.activate(ada, "JBSWY3DPEHPK3PXP").instance
    assert "JBSWY3DPEHPK3PXP" not in str(Authenticator.objects.values_list("data").get())
    browser = Client()
    login = {"login": "ada@example.com", "password": "a long and odd one"}
    assert browser.post("/accounts/login/", login)["Location"].startswith("/accounts/2fa/")
    assert browser.get("/accounts/email/").status_code == 302  # not in yet
    assert browser.post("/accounts/2fa/authenticate/", {"code": "000000"}).status_code == 200
    code = format_hotp_value(hotp_value("JBSWY3DPEHPK3PXP", next(yield_hotp_counters_from_time())))
    assert browser.post("/accounts/2fa/authenticate/", {"code": code}).status_code == 302
    assert browser.get("/accounts/email/").status_code == 200
    assert factor.user == ada


def test_every_page_opens() -> None:
    signed_out = ("login", "signup", "reset_password")
    for name in signed_out:
        page = Client().get(reverse(f"account_{name}"))
        assert page.status_code == 200
        assert "HL Relay" in page.content.decode()
    assert "passkey" in Client().get("/accounts/login/").content.decode().lower()
    browser = signed_in(make_person("ada"))
    for name in (
        "account_email",
        "account_change_password",
        "account_set_password",
        "account_logout",
        "mfa_index",
        "mfa_list_webauthn",
    ):
        assert browser.get(reverse(name)).status_code in (200, 302), name


def test_the_pages_of_second_factors_open_once_the_password_is_given_again() -> None:
    ada = make_person("ada")
    ada.set_password("a long and odd one")
    ada.save()
    browser = Client()
    browser.post("/accounts/login/", {"login": ada.email, "password": "a long and odd one"})
    # What changes a factor asks for the password again, however fresh the sign-in is.
    asked = browser.get(reverse("mfa_activate_totp"))
    assert asked["Location"].startswith("/accounts/reauthenticate/")
    browser.post("/accounts/reauthenticate/", {"password": "a long and odd one"})
    totp = browser.get(reverse("mfa_activate_totp"))
    assert totp.status_code == 200
    assert "svg" in totp.content.decode()
    assert browser.get(reverse("mfa_add_webauthn")).status_code == 200
    TOTP.activate(ada, "JBSWY3DPEHPK3PXP")
    assert browser.post(reverse("mfa_generate_recovery_codes")).status_code == 302
    assert browser.get(reverse("mfa_view_recovery_codes")).status_code == 200


def test_a_passkey_signs_in_by_itself(settings: Any) -> None:
    settings.MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = False  # as in production
    ada = make_person("ada")
    passkey = Passkey("https://testserver")
    browser = signed_in(ada)
    page = browser.get("/accounts/2fa/webauthn/add/", secure=True)
    assert page.status_code == 200
    assert "mfa/js/webauthn.js" in page.content.decode()
    options = page.context["js_data"]["creation_options"]
    form = {"name": "laptop", "passwordless": "on", "credential": passkey.register(options)}
    added = browser.post("/accounts/2fa/webauthn/add/", form, secure=True)
    assert added.status_code == 302, added.content.decode()

    assert "mfa/js/webauthn.js" in Client().get("/accounts/login/").content.decode()
    for key, opens in ((Passkey("https://testserver"), False), (passkey, True)):
        stranger = Client()
        asked = stranger.get("/accounts/2fa/webauthn/login/", headers=AJAX, secure=True)
        key.user_handle = passkey.user_handle
        answer = key.sign_in(asked.json()["request_options"])
        stranger.post("/accounts/2fa/webauthn/login/", {"credential": answer}, secure=True)
        assert ("_auth_user_id" in stranger.session) is opens
        assert (stranger.get("/accounts/email/").status_code == 200) is opens
    # The same answer again is to a question that is not asked any more.
    stranger.logout()
    stranger.post("/accounts/2fa/webauthn/login/", {"credential": answer}, secure=True)
    assert "_auth_user_id" not in stranger.session
