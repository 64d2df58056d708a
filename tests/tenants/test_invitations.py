"""An invitation is accepted once, in time, by whom it was sent to; its token is in the mail
alone."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.core import mail
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from tenants import tasks
from tenants.models import Invitation, Membership
from tenants.people import services
from tenants.people.roles import Role
from tests.tenants.cast import Cast
from tests.tenants.people import (
    OPERATOR,
    last_digest,
    last_link,
    make_member,
    make_person,
    owner_of,
    signed_in,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def tasks_at_once(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Tasks run where they are asked for, and what they were given is kept."""
    given: list[tuple[Any, ...]] = []

    def run(*arguments: Any) -> None:
        given.append(arguments)
        tasks.send_invitation.run(*arguments)

    monkeypatch.setattr(tasks.send_invitation, "delay", run)
    return given


@pytest.fixture
def invited(cast: Cast, django_capture_on_commit_callbacks: Any) -> Invitation:
    ada = owner_of(cast.acme)
    with django_capture_on_commit_callbacks(execute=True):
        return services.invite(
            tenant=cast.acme, email=" Ben@Example.com ", role=Role.DEVELOPER, by=ada
        )


def test_the_mail_brings_in_whom_it_was_sent_to(cast: Cast, invited: Invitation) -> None:
    assert mail.outbox[-1].to == ["ben@example.com"]
    ben = make_person("ben")
    membership = services.accept_invitation(digest=last_digest(), user=ben)
    assert (membership.tenant, membership.role) == (cast.acme, "developer")
    invited.refresh_from_db()
    assert (invited.state(timezone.now()), invited.accepted_by) == ("accepted", ben)
    with pytest.raises(ValidationError) as refused:
        services.accept_invitation(digest=last_digest(), user=make_person("dan"))
    assert refused.value.code == "used"


def test_nothing_but_the_mail_holds_the_token(
    invited: Invitation, tasks_at_once: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    token = last_link().rpartition("/")[2]
    invited.refresh_from_db()
    assert tasks_at_once == [(invited.pk,)]
    assert len(token) == 43
    row = json.dumps([str(value) for value in Invitation.objects.values_list().get(pk=invited.pk)])
    entries = json.dumps(list(LogEntry.objects.values_list("changes_text", "object_repr")))
    changes = json.dumps(list(LogEntry.objects.values_list("changes", flat=True)))
    for text in (row, entries, changes, caplog.text, repr(invited)):
        assert token not in text
    assert str(invited.digest) not in changes


def test_who_else_comes_with_the_link_is_refused(invited: Invitation) -> None:
    ben = make_person("ben", verified=False)
    for user in (ben, make_person("cleo")):
        with pytest.raises(ValidationError) as refused:
            services.accept_invitation(digest=last_digest(), user=user)
        assert refused.value.code == "wrong_address"
    assert Membership.objects.filter(user=ben).count() == 0


def test_it_ends_at_its_last_moment(invited: Invitation) -> None:
    ben, digest = make_person("ben"), last_digest()
    with pytest.raises(ValidationError) as refused:
        services.accept_invitation(digest=digest, user=ben, now=invited.expires_at)
    assert refused.value.code == "expired"
    services.accept_invitation(
        digest=digest, user=ben, now=invited.expires_at - timedelta(microseconds=1)
    )


def test_withdrawn_is_withdrawn(invited: Invitation) -> None:
    services.withdraw_invitation(invited, by=OPERATOR)
    services.withdraw_invitation(invited, by=OPERATOR)
    with pytest.raises(ValidationError) as refused:
        services.accept_invitation(digest=last_digest(), user=make_person("ben"))
    assert refused.value.code == "withdrawn"
    with pytest.raises(ValidationError):
        services.resend_invitation(invited, by=OPERATOR)


@pytest.mark.parametrize("digest", ["", "0" * 64, None])
def test_no_link_opens_nothing(invited: Invitation, digest: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        services.accept_invitation(digest=digest, user=make_person("ben"))
    assert refused.value.code == "unknown"


def test_a_new_mail_ends_the_old_link(
    invited: Invitation, django_capture_on_commit_callbacks: Any
) -> None:
    old = last_digest()
    with django_capture_on_commit_callbacks(execute=True):
        services.resend_invitation(invited, by=OPERATOR)
    assert last_digest() != old
    ben = make_person("ben")
    with pytest.raises(ValidationError):
        services.accept_invitation(digest=old, user=ben)
    services.accept_invitation(digest=last_digest(), user=ben)


def test_a_repeated_task_sends_no_second_mail(invited: Invitation) -> None:
    digest, sent = last_digest(), len(mail.outbox)
    tasks.send_invitation.run(invited.pk)
    assert len(mail.outbox) == sent
    services.accept_invitation(digest=digest, user=make_person("ben"))
    tasks.send_invitation.run(invited.pk)
    assert len(mail.outbox) == sent


def test_a_rolled_back_invitation_sends_nothing(
    cast: Cast, django_capture_on_commit_callbacks: Any
) -> None:
    ada = owner_of(cast.acme)
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        services.invite(tenant=cast.acme, email="ben@example.com", role="viewer", by=ada)
        transaction.set_rollback(True)
    assert mail.outbox == []


def test_who_may_invite_as_what(cast: Cast) -> None:
    """An admin makes no owner, nobody else invites, and another tenant's owner is nobody here."""
    ada = owner_of(cast.acme)
    admin = make_member(cast.acme, "adam", Role.ADMIN)
    developer = make_member(cast.acme, "dev", Role.DEVELOPER)
    cleo = owner_of(cast.other, "cleo")
    for by, role in ((admin, "owner"), (developer, "viewer"), (cleo, "viewer")):
        with pytest.raises(PermissionDenied):
            services.invite(tenant=cast.acme, email="x@example.com", role=role, by=by)
    assert Invitation.objects.count() == 0
    services.invite(tenant=cast.acme, email="x@example.com", role="admin", by=admin)
    services.invite(tenant=cast.acme, email="y@example.com", role="owner", by=ada)


@pytest.mark.parametrize(
    ("email", "role"),
    [
        ("ben@example.com", "king"),
        ("no address", "viewer"),
        ("a@b@c.example", "viewer"),
        ("x" * 250 + "@example.com", "viewer"),
        ("ADA@example.com", "viewer"),  # a member
        ("ben@example.com", "viewer"),  # invited already
    ],
)
def test_bad_invitations(cast: Cast, invited: Invitation, email: str, role: str) -> None:
    with pytest.raises(ValidationError):
        services.invite(tenant=cast.acme, email=email, role=role, by=OPERATOR)


def test_our_name_is_not_for_mass_mail(cast: Cast, invited: Invitation) -> None:
    """Also for who withdraws each invitation and sends the next."""
    ada = Membership.objects.get(tenant=cast.acme)
    invited.refresh_from_db()
    with pytest.raises(ValidationError, match="a moment ago"):
        services.resend_invitation(invited, by=ada)
    services.resend_invitation(invited, by=ada, now=timezone.now() + services.RESEND_PAUSE)

    def invite(n: int, **when: Any) -> Invitation:
        return services.invite(
            tenant=cast.acme, email=f"x{n}@example.com", role="viewer", by=ada, **when
        )

    many = [invite(n) for n in range(services.MAX_OPEN_INVITATIONS - 1)]
    with pytest.raises(ValidationError, match="are open"):
        invite(100)
    for invitation in many:
        services.withdraw_invitation(invitation, by=ada)
    for n in range(services.MAX_INVITATIONS_A_DAY - services.MAX_OPEN_INVITATIONS):
        services.withdraw_invitation(invite(n), by=ada)
    with pytest.raises(ValidationError, match="24 hours"):
        invite(100)
    invite(100, now=timezone.now() + timedelta(days=1))


def test_the_first_member_is_an_owner(cast: Cast) -> None:
    with pytest.raises(ValidationError, match="owner"):
        services.invite(tenant=cast.acme, email="ben@example.com", role="viewer", by=OPERATOR)
    services.invite(tenant=cast.acme, email="ben@example.com", role="owner", by=OPERATOR)


def test_who_is_removed_leaves_no_way_back(cast: Cast) -> None:
    ada, adam = owner_of(cast.acme), make_member(cast.acme, "adam", Role.ADMIN)
    mine = services.invite(tenant=cast.acme, email="own2@example.com", role="admin", by=adam)
    other = services.invite(tenant=cast.acme, email="ben@example.com", role="viewer", by=ada)
    services.remove_member(adam, by=ada)
    for invitation, state in ((mine, "withdrawn"), (other, "waiting")):
        invitation.refresh_from_db()
        assert invitation.state(timezone.now()) == state


def test_the_database_keeps_states_apart(invited: Invitation) -> None:
    rows = Invitation.objects.filter(pk=invited.pk)
    now = timezone.now()
    for wrong in (
        {"is_open": None},
        {"accepted_at": now},
        {"withdrawn_at": now},
        {"is_open": None, "accepted_at": now},  # by nobody
        {"is_open": False, "withdrawn_at": now},
        {"role": "king"},
        {"expires_at": invited.created_at},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(**wrong)


def test_through_the_browser(cast: Cast, invited: Invitation) -> None:
    """The link leaves the address bar at once; a stranger's browser gets nowhere with it."""
    link, ben = last_link(), make_person("ben")
    browser = signed_in(ben)
    followed = browser.get(link)
    assert (followed.status_code, followed["Location"]) == (302, "/invitations/")
    assert b"Join Acme" in browser.get("/invitations/").content
    cleo = signed_in(make_person("cleo"))
    cleo.get(link)
    assert b"another e-mail address" in cleo.post("/invitations/").content
    assert browser.post("/invitations/").status_code == 302
    assert Membership.objects.get(user=ben).role == "developer"
    assert browser.post("/invitations/").status_code == 404  # used
    unsigned = Client()
    unsigned.get(link)
    assert unsigned.get("/invitations/").status_code == 404
    assert Client().get("/invitations/").status_code == 404


def test_whoever_is_signed_in_as_somebody_else_is_told_and_comes_back(
    cast: Cast, invited: Invitation
) -> None:
    """The invitation outlives the signing out, and is open to whom it was sent to."""
    dan, ben = make_person("dan"), make_person("ben")
    browser = signed_in(dan)
    page = browser.get(last_link(), follow=True).content.decode()
    assert (
        "You are signed in as dan@example.com, and this invitation is for ben@example.com" in page
    )
    assert ">Accept<" not in page
    shown = browser.post("/invitations/", {"sign_out": "1"}, follow=True).content.decode()
    assert "_auth_user_id" not in browser.session
    assert "Sign in or sign up with that address to accept." in shown
    assert not Membership.objects.filter(user=dan).exists()
    browser.force_login(ben)
    browser.get(last_link())
    assert re.search(r">\s*Accept\s*<", browser.get("/invitations/").content.decode())
    # Without a link there is nothing to come back to, and nobody is signed out.
    other = signed_in(dan)
    assert other.post("/invitations/", {"sign_out": "1"}).status_code == 404
    assert "_auth_user_id" in other.session
