"""In which language somebody is written to: the switch's choice, and what follows without one."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.test import Client

from tenants.models import ChosenLanguage, Invitation
from tenants.people import languages, selectors, services
from tenants.people.roles import May, Role
from tests.tenants.cast import Cast
from tests.tenants.mailed import CHINESE, reads
from tests.tenants.people import OPERATOR, make_member, make_person, owner_of, signed_in

pytestmark = pytest.mark.django_db
PASSWORD = "a long and odd one"


def chosen(user: User) -> str | None:
    return ChosenLanguage.objects.filter(user=user).values_list("language", flat=True).first()


def invite(cast: Cast, email: str, by: Any) -> Invitation:
    return services.invite(tenant=cast.acme, email=email, role=Role.OWNER, by=by)


def test_the_switch_is_remembered_with_the_user(cast: Cast) -> None:
    ada = owner_of(cast.acme).user
    browser = signed_in(ada)
    assert chosen(ada) is None
    for code in (CHINESE, "en", CHINESE):
        answer = browser.post("/language/", {"language": code, "next": "/app/acme/"})
        assert answer["Location"] == "/app/acme/"
        assert answer.cookies[settings.LANGUAGE_COOKIE_NAME].value == code
        assert chosen(ada) == code


@pytest.mark.parametrize("code", ["", "de", "zh-hans", "x" * 300, "EN'--"])
def test_what_is_no_language_of_ours_changes_nothing(cast: Cast, code: str) -> None:
    ada = reads(owner_of(cast.acme).user, CHINESE)
    signed_in(ada).post("/language/", {"language": code})
    signed_in(ada).get("/language/", {"language": "en"})
    assert chosen(ada) == CHINESE


def test_a_visitors_choice_is_in_the_browser_alone(cast: Cast) -> None:
    Client().post("/language/", {"language": CHINESE})
    assert not ChosenLanguage.objects.exists()


@pytest.mark.usefixtures("redis_server")
def test_a_log_in_takes_along_what_was_chosen_before_it(cast: Cast) -> None:
    cache.clear()
    ada = owner_of(cast.acme).user
    ada.set_password(PASSWORD)
    ada.save()
    form = {"login": ada.email, "password": PASSWORD}
    Client(headers={"Accept-Language": CHINESE}).post("/accounts/login/", form)
    assert chosen(ada) is None  # the browser's wish is no choice
    visitor = Client()
    visitor.post("/language/", {"language": CHINESE})
    assert visitor.post("/accounts/login/", form).status_code == 302
    assert chosen(ada) == CHINESE
    Client().post("/accounts/login/", form)
    assert chosen(ada) == CHINESE


def test_who_chose_nothing_reads_english(cast: Cast) -> None:
    ada = owner_of(cast.acme).user
    assert languages.of_address(ada.email, cast.acme) == "en"
    assert languages.of_owner(cast.other) == "en"  # there is none


def test_an_address_is_read_by_its_member_its_user_or_for_the_owner(cast: Cast) -> None:
    reads(owner_of(cast.acme).user, CHINESE)
    make_member(cast.acme, "ben", Role.FINANCE)
    reads(make_person("cleo"), "en")
    for address, language in (
        ("ADA@example.com ", CHINESE),
        ("ben@example.com", "en"),
        ("cleo@example.com", "en"),
        ("ap@acme.example", CHINESE),
    ):
        assert languages.of_address(address, cast.acme) == language, address


def test_an_address_that_was_not_proved_speaks_for_nobody(cast: Cast) -> None:
    owner_of(cast.acme)
    stranger = reads(make_person("ap", verified=False), CHINESE)
    assert languages.of_address(stranger.email, cast.acme) == "en"
    EmailAddress.objects.filter(user=stranger).update(verified=True)
    assert languages.of_address(stranger.email, cast.acme) == CHINESE


def test_who_left_or_is_shut_out_is_mailed_nothing(cast: Cast) -> None:
    """Where a billing profile still names them, in their own language."""
    ada = owner_of(cast.acme)
    ben = make_member(cast.acme, "ben", Role.OWNER)
    reads(ben.user, CHINESE)
    assert ben.user.email in selectors.addresses_who_may(cast.acme, May.PAY_INVOICES)
    services.remove_member(ben, by=ada)
    assert selectors.addresses_who_may(cast.acme, May.PAY_INVOICES) == (ada.user.email,)
    assert languages.of_address(ben.user.email, cast.acme) == CHINESE
    dan = make_member(cast.acme, "dan", Role.OWNER)
    User.objects.filter(pk=dan.user.pk).update(is_active=False)
    assert selectors.addresses_who_may(cast.acme, May.PAY_INVOICES) == (ada.user.email,)


def test_the_owner_is_the_first_who_is_still_there(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    reads(make_member(cast.acme, "ben", Role.OWNER).user, CHINESE)
    reads(make_member(cast.acme, "vera", Role.VIEWER).user, CHINESE)
    assert languages.of_owner(cast.acme) == "en"
    User.objects.filter(pk=ada.user.pk).update(is_active=False)
    assert languages.of_owner(cast.acme) == CHINESE


def test_an_invitation_is_in_the_language_of_the_account_else_of_who_invites(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    reads(ada.user, CHINESE)
    ben = make_member(cast.acme, "ben", Role.OWNER)
    make_person("dora")
    reads(make_person("emil"), CHINESE)
    assert languages.of_invited(invite(cast, "new@example.com", ada)) == CHINESE
    assert languages.of_invited(invite(cast, "newer@example.com", ben)) == "en"
    assert languages.of_invited(invite(cast, "dora@example.com", ada)) == "en"
    assert languages.of_invited(invite(cast, "emil@example.com", ben)) == CHINESE
    assert languages.of_invited(invite(cast, "newest@example.com", OPERATOR)) == CHINESE


def test_a_language_that_we_do_not_speak_any_more_is_english(cast: Cast, settings: Any) -> None:
    ada = reads(owner_of(cast.acme).user, CHINESE)
    settings.LANGUAGES = [("en", "English")]
    assert languages.of_address(ada.email, cast.acme) == "en"


def test_the_database_wants_a_language_once(cast: Cast) -> None:
    ada = owner_of(cast.acme).user
    with pytest.raises(IntegrityError), transaction.atomic():
        ChosenLanguage.objects.create(user=ada, language="")
    languages.choose(ada, "en")
    with pytest.raises(IntegrityError), transaction.atomic():
        ChosenLanguage.objects.create(user=ada, language=CHINESE)
    ada.memberships.all().delete()
    ada.delete()
    assert not ChosenLanguage.objects.exists()
