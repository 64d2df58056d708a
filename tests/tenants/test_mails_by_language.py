"""Each mail of this app in both languages, through the task that sends it or the page that does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from allauth.core.context import request_context
from django.core import mail
from django.core.cache import cache
from django.test import Client, RequestFactory
from django.utils import timezone, translation

from tenants import services as tenants
from tenants import tasks
from tenants.models import ChosenLanguage, Notice
from tenants.notices import reasons, services
from tenants.notices.kinds import KINDS, PING
from tenants.people import closing, tokens
from tenants.people import services as people
from tenants.people.roles import Role
from tests.tenants.cast import Cast
from tests.tenants.mailed import (
    CHINESE,
    assert_no_secret,
    assert_reads,
    in_both_languages,
    reads,
)
from tests.tenants.people import last_code, last_link, make_member, make_person, owner_of, signed_in

pytestmark = pytest.mark.django_db
PASSWORD = "a long and odd one"
VALUES = {
    "allowance": "messages", "used": 1_234_567, "limit": 2_000_000, "percent": 75,
    "resets_at": "2026-12-01T00:00:00+00:00",
    "number": "INV-7", "invoice": "INV-6", "total": "1234.50", "amount": "12.50",
    "currency": "USD", "due_on": "2026-11-30", "next_attempt_at": "2026-12-02T00:00Z",
    "prefix": "hlr_live_ab12", "ends_at": "2026-12-01T00:00:00+00:00",
    "stream": "trades, l2Book", "from": "2026-11-30T07:00:00+00:00",
    "to": "2026-11-30T08:00:00+00:00", "endpoint": "3f0e1c52",
}  # fmt: skip
REASONS = {
    "payment.failed": ("the bank refused it", "銀行拒絕了這筆付款"),
    "gap.recorded": ("12 minutes with gaps (BTC, ETH)", "12 分鐘有缺口（BTC, ETH）"),
    "webhook.disabled": (
        "no delivery succeeded for 5 days; last: answered 500",
        "已 5 天沒有任何投遞成功；最後一次：answered 500",
    ),
}


@pytest.fixture(autouse=True)
def no_mail_tells_a_secret() -> Iterator[None]:
    yield
    for message in mail.outbox:
        assert_no_secret(message)


def tell(cast: Cast, kind: str, *to: str, **payload: Any) -> Notice:
    if kind in REASONS:
        payload = {"reason": REASONS[kind][0], **payload}
    told = services.notify(
        tenant=cast.acme, kind=kind, payload=VALUES | payload, dedupe=f"{kind}:1", to=to
    )
    assert told is not None
    return told


@in_both_languages
@pytest.mark.parametrize("kind", KINDS)
def test_a_notice(cast: Cast, kind: str, language: str) -> None:
    ada = reads(owner_of(cast.acme).user, language)
    tell(cast, kind, ada.email)
    tasks.send_mail.apply()
    (message,) = mail.outbox
    english, chinese = REASONS.get(kind, ("", ""))
    shown = {cast.acme.name, *VALUES.values(), "BTC", "ETH", "answered"}
    assert_reads(message, language, shown=shown)
    text = " ".join(f"{message.subject}\n{message.body}".split())
    # What it holds is the same to the letter in both, but for the relay's own reasons.
    assert not [name for name in KINDS[kind] if name != "reason" and str(VALUES[name]) not in text]
    assert (chinese if language == CHINESE else english) in text
    ((html, media_type),) = message.alternatives
    assert media_type == "text/html"
    assert f'<html lang="{language}">' in html
    assert f"<title>{message.subject}</title>" in html
    first = str(message.body).splitlines()[0]
    assert first in html


def test_a_payment_that_is_not_tried_again(cast: Cast) -> None:
    ada = reads(owner_of(cast.acme).user, CHINESE)
    tell(cast, "payment.failed", ada.email, next_attempt_at="", reason="Ihre Karte ist zu alt")
    tasks.send_mail.apply()
    assert_reads(mail.outbox[0], CHINESE, shown={*VALUES.values(), "Acme", "Ihre Karte ist zu alt"})
    assert "我們不會再自行嘗試" in str(mail.outbox[0].body)


def test_each_reads_their_own_language_of_one_notice(cast: Cast) -> None:
    """Also when the worker was left in another one by what it did before."""
    ada = reads(owner_of(cast.acme).user, CHINESE)
    ben = make_member(cast.acme, "ben", Role.ADMIN).user
    tell(cast, "key.rotated", ada.email, ben.email, "ops@acme.example")
    with translation.override("zh-hant"):
        tasks.send_mail.apply()
        assert translation.get_language() == "zh-hant"
    by_address = {message.to[0]: message for message in mail.outbox}
    assert_reads(by_address[ben.email], "en")
    for address in (ada.email, "ops@acme.example"):
        assert_reads(by_address[address], CHINESE, shown={"Acme", "hlr_live_ab12", "+00:00", "T00"})


def test_the_choice_is_asked_for_when_the_mail_is_written(cast: Cast) -> None:
    ada = owner_of(cast.acme).user
    tell(cast, PING, ada.email)
    signed_in(ada).post("/language/", {"language": CHINESE})
    tasks.send_mail.apply()
    assert_reads(mail.outbox[0], CHINESE, shown={"Acme"})


def test_reasons_are_those_that_the_relay_gives() -> None:
    with translation.override("zh-hant"):
        for given in (services.BY_AN_OPERATOR, closing.CLOSED, "by you"):
            assert reasons.translated(given) != given
        for other in ("", "%(days)s", "the bank refused it twice", "x" * 200):
            assert reasons.translated(other) == other
    assert reasons.translated("the bank refused it") == "the bank refused it"


@in_both_languages
@pytest.mark.parametrize("has_inviter", [True, False])
def test_an_invitation(cast: Cast, language: str, has_inviter: bool) -> None:
    ada = owner_of(cast.acme)
    reads(ada.user, language)
    invitation = people.invite(
        tenant=cast.acme, email="new@example.com", role=Role.DEVELOPER, by=ada
    )
    if not has_inviter:
        type(invitation).objects.update(invited_by=None)
    tasks.send_invitation.apply([invitation.pk])
    (message,) = mail.outbox
    until = f"{invitation.expires_at:%Y-%m-%d %H:%M}"
    link = f"http://localhost:8000{last_link()}"
    shown = {"Acme", link, last_link(), ada.user.email, until}
    text = str(message.body)
    assert_reads(message, language, shown={*shown, *text.split("\n\n")[3:4]})
    assert (f"有效至 {until} UTC" if language == CHINESE else f"until {until} UTC") in text
    assert ("角色為開發者" if language == CHINESE else "as developer") in text
    assert (ada.user.email in text) == has_inviter
    invitation.refresh_from_db()
    assert str(invitation.digest) not in text
    assert invitation.digest == tokens.digest(last_link().rpartition("/")[2])


@in_both_languages
def test_a_suspension(cast: Cast, language: str) -> None:
    """To each in their own; the support's address reads the owner's."""
    reads(owner_of(cast.acme).user, language)
    other = CHINESE if language == "en" else "en"
    reads(make_member(cast.acme, "fin", Role.FINANCE).user, other)
    gone = make_member(cast.acme, "gone", Role.OWNER)
    people.remove_member(gone, by=gone)
    type(cast.acme).objects.update(support_email="help@acme.example")
    at = timezone.now() + timedelta(days=3)
    tenants.schedule_suspension(cast.acme, at=at, reason="unpaid since May")
    tasks.announce_suspension.apply([cast.acme.pk])
    read = {"ada@example.com": language, "fin@example.com": other, "help@acme.example": language}
    assert {message.to[0] for message in mail.outbox} == set(read)
    for message in mail.outbox:
        assert_reads(message, read[message.to[0]], shown={"Acme", "unpaid since May"})
        assert f"{at:%Y-%m-%d %H:%M} UTC" in str(message.subject)
        assert "unpaid since May" in str(message.body)


# The accounts' own: in the language that the owner of the address chose, else the page's.


@pytest.fixture
def fresh_limits(redis_server: Any) -> None:
    """Nobody has tried anything yet."""
    cache.clear()


def browser_in(language: str, **options: Any) -> Client:
    return Client(headers={"Accept-Language": language}, **options)


@in_both_languages
@pytest.mark.usefixtures("fresh_limits")
def test_a_sign_up_and_what_is_forgotten(cast: Cast, language: str) -> None:
    browser = browser_in(language)
    form = {
        "email": "dora@example.com", "password1": PASSWORD, "password2": PASSWORD,
        "company": "Dora Trading", "terms": "on",
    }  # fmt: skip
    assert browser.post("/accounts/signup/", form).status_code == 302
    code = last_code()
    assert_reads(mail.outbox[-1], language, shown={code, "testserver"})
    assert str(mail.outbox[-1].subject).startswith("[HL Relay] ")
    assert browser.post("/accounts/confirm-email/", {"code": code}).status_code == 302
    dora = EmailAddress.objects.get(email="dora@example.com").user
    # What she read then is what she is written to.
    assert ChosenLanguage.objects.get(user=dora).language == language
    url = "http://testserver/accounts/signup/"
    for page, email, shown in (
        ("/accounts/signup/", "dora@example.com", "http://testserver/accounts/password/reset/"),
        ("/accounts/password/reset/", "dora@example.com", None),
        ("/accounts/password/reset/", "nobody@example.com", url),
    ):
        cache.clear()
        mail.outbox.clear()
        browser_in(language).post(page, {**form, "email": email})
        (message,) = mail.outbox
        assert message.to == [email]
        assert (shown or last_code()) in str(message.body)
        assert_reads(message, language, shown={shown or last_code(), email, "testserver"})


@in_both_languages
@pytest.mark.usefixtures("fresh_limits")
def test_a_change_of_ones_account(cast: Cast, language: str) -> None:
    """With where it came from; who never chose reads what the page is in."""
    ada = make_person("ada")
    ada.set_password(PASSWORD)
    ada.save()
    browser = browser_in(language, REMOTE_ADDR="198.51.100.7", HTTP_USER_AGENT="Firefox")
    browser.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})
    new = "another long and odd one"
    browser.post(
        "/accounts/password/change/",
        {"oldpassword": PASSWORD, "password1": new, "password2": new},
    )
    browser.post("/accounts/email/", {"action_add": "1", "email": "new@example.com"})
    assert len(mail.outbox) == 2
    changed, code = mail.outbox
    assert_reads(changed, language, shown={"Firefox", "testserver"})
    assert "198.51.100.7" in str(changed.body)
    assert_reads(code, language, shown={last_code(), "testserver"})
    assert new not in str(changed.body)


@in_both_languages
@pytest.mark.usefixtures("fresh_limits")
def test_who_acts_does_not_choose_what_the_owner_reads(cast: Cast, language: str) -> None:
    """Who took over an account, or tries another's address, may read something else."""
    other = CHINESE if language == "en" else "en"
    ada = reads(make_person("ada"), language)
    ada.set_password(PASSWORD)
    ada.save()
    new = "another long and odd one"
    browser = browser_in(other, REMOTE_ADDR="198.51.100.7", HTTP_USER_AGENT="Firefox")
    browser.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})
    browser.post(
        "/accounts/password/change/",
        {"oldpassword": PASSWORD, "password1": new, "password2": new},
    )
    form = {
        "email": "Ada@Example.com", "password1": PASSWORD, "password2": PASSWORD,
        "company": "Eve", "terms": "on",
    }  # fmt: skip
    for page in ("/accounts/signup/", "/accounts/password/reset/"):
        browser_in(other).post(page, form)
    changed, exists, code = mail.outbox
    reset = "http://testserver/accounts/password/reset/"
    assert_reads(changed, language, shown={"Firefox", "testserver"})
    assert_reads(exists, language, shown={reset, ada.email, "testserver"})
    assert_reads(code, language, shown={last_code(), ada.email, "testserver"})


@pytest.mark.usefixtures("fresh_limits")
def test_who_has_not_proved_an_address_chooses_for_nobody(cast: Cast) -> None:
    """Nor does a language that is none of ours any more."""
    reads(make_person("eve", verified=False), CHINESE)
    reads(make_person("fay"), "tlh")
    for address in ("eve@example.com", "fay@example.com"):
        browser_in("en").post("/accounts/password/reset/", {"email": address})
    assert len(mail.outbox) == 2
    for message in mail.outbox:
        assert_reads(message, "en")


CHANGES = {
    "account/email/email_changed": {"from_email": "a@example.com", "to_email": "b@example.com"},
    "account/email/email_confirm": {},
    "account/email/email_deleted": {"deleted_email": "a@example.com"},
    "account/email/password_changed": {},
    "account/email/password_reset": {},
    "account/email/password_set": {},
    "mfa/email/recovery_codes_generated": {},
    "mfa/email/totp_activated": {},
    "mfa/email/totp_deactivated": {},
    "mfa/email/webauthn_added": {},
    "mfa/email/webauthn_removed": {},
}


@in_both_languages
@pytest.mark.parametrize("has_chosen", [True, False])
@pytest.mark.parametrize("prefix", CHANGES)
def test_each_change_that_is_told(
    rf: RequestFactory, prefix: str, language: str, has_chosen: bool
) -> None:
    """As allauth's flows ask for it, in a request whose language was found out before."""
    ada = make_person("ada")
    if has_chosen:
        reads(ada, language)
    page = (CHINESE if language == "en" else "en") if has_chosen else language
    request = rf.post("/", HTTP_USER_AGENT="Firefox", REMOTE_ADDR="198.51.100.7")
    with request_context(request), translation.override(page):
        get_adapter().send_notification_mail(prefix, ada, dict(CHANGES[prefix]))
    (message,) = mail.outbox
    assert message.to == [ada.email]
    assert_reads(message, language, shown={*CHANGES[prefix].values(), "Firefox", "testserver"})
    for each in (*CHANGES[prefix].values(), "198.51.100.7", "Firefox"):
        assert each in str(message.body)
