"""Team, log-ins, audit, settings: who may do what, and what is written down."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from gateway.account import audit, audit_words
from gateway.dashboard import audit_words as translated
from tenants import services as tenants
from tenants import tasks
from tenants.audit import EXCLUDED
from tenants.models import APIKey, Invitation, Membership, Tenant, TermsAcceptance
from tenants.people import closing
from tenants.people import services as people
from tenants.people.actors import Operator
from tenants.people.roles import Role
from tenants.people.signup import open_account
from tests.dashboard.books import customer_with_a_past
from tests.tenants.cast import Cast
from tests.tenants.people import last_link, make_member, make_person, owner_of, signed_in

pytestmark = pytest.mark.django_db
MOST_QUERIES = 16


def url(name: str, slug: str = "acme", **arguments: Any) -> str:
    return reverse(f"dashboard:{name}", kwargs={"slug": slug, **arguments})


@pytest.fixture
def owner(cast: Cast) -> Membership:
    return owner_of(cast.acme)


@pytest.fixture
def client(owner: Membership) -> Client:
    return signed_in(owner.user)


def give_factor(user: User) -> Authenticator:
    return Authenticator.objects.create(
        user=user, type=Authenticator.Type.TOTP, data={"secret": "kept elsewhere"}
    )


def prove(client: Client, factor: Authenticator) -> None:
    """As if the log-in had been asked for the factor."""
    note(client, {"method": "mfa", "type": "totp", "id": factor.pk})


def note(client: Client, record: dict[str, Any]) -> None:
    """As allauth remembers how a log-in proved who it is."""
    session = client.session
    session["account_authentication_methods_user"] = str(session["_auth_user_id"])
    session["account_authentication_methods"] = [record | {"at": time.time()}]
    session.save()


def test_from_invited_to_removed(
    cast: Cast,
    owner: Membership,
    client: Client,
    django_capture_on_commit_callbacks: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks.send_invitation, "delay", tasks.send_invitation.run)
    with django_capture_on_commit_callbacks(execute=True):
        client.post(url("team"), {"email": "ben@example.com", "role": "viewer"})
    invitation = Invitation.objects.get()
    assert b"ben@example.com" in client.get(url("team")).content
    ben = signed_in(make_person("ben"))
    ben.get(last_link(), follow=True)
    ben.post(reverse("invitation"))
    row = Membership.objects.get(user__email="ben@example.com")
    assert ben.get(url("team")).status_code == 200
    client.post(url("team_member", pk=row.pk), {"role": "developer"})
    row.refresh_from_db()
    assert row.role == Role.DEVELOPER
    client.post(url("team_member", pk=row.pk), {"remove": "1"})
    assert ben.get(url("team")).status_code == 404
    assert client.post(url("team_invitation", pk=invitation.pk), follow=True).status_code == 200
    assert len(mail.outbox) == 1


def test_what_cannot_be_is_told(cast: Cast, owner: Membership, client: Client) -> None:
    assert client.post(url("team"), {"email": "no", "role": "viewer"}).status_code == 422
    mine = client.post(url("team_member", pk=owner.pk), {"role": "viewer"}, follow=True)
    assert b"needs an owner" in mine.content
    theirs = owner_of(cast.other, "cleo")
    assert client.post(url("team_member", pk=theirs.pk), {"remove": "1"}).status_code == 404
    assert b"needs an owner" in client.post(url("team_leave"), follow=True).content
    admin = make_member(cast.acme, "abe", Role.ADMIN)
    abe = signed_in(admin.user)
    taken = abe.post(url("team_member", pk=owner.pk), {"role": "viewer"}, follow=True)
    assert b"may not manage the role owner" in taken.content
    assert abe.post(url("team_transfer"), {"to": str(admin.pk)}).status_code == 403
    client.post(url("team_transfer"), {"to": str(admin.pk)})
    admin.refresh_from_db()
    assert admin.role == Role.OWNER


def test_a_second_factor_comes_before_any_page(
    cast: Cast, owner: Membership, client: Client
) -> None:
    refused = client.post(url("team_second_factor"), {"on": "1"}, follow=True)
    assert b"of your own first" in refused.content
    factor = give_factor(owner.user)
    client.post(url("team_second_factor"), {"on": "1"})
    cast.acme.refresh_from_db()
    assert cast.acme.requires_second_factor
    # The owner's own log-in has not used it, either.
    assert client.get(url("team"))["Location"].startswith(reverse("mfa_reauthenticate"))
    prove(client, factor)
    assert client.get(url("team")).status_code == 200
    vera = signed_in(make_member(cast.acme, "vera", Role.VIEWER).user)
    for name, method in (("overview", "get"), ("team", "get"), ("token", "post")):
        answer = getattr(vera, method)(url(name))
        assert answer["Location"] == reverse("mfa_index"), name
    part = vera.get(url("team"), headers={"HX-Request": "true"})
    assert part["HX-Redirect"] == reverse("mfa_index")
    factor.delete()  # reset: what it opened is shut
    assert client.get(url("team"))["Location"] == reverse("mfa_index")


def test_log_ins_are_listed_and_ended(owner: Membership, client: Client) -> None:
    other = signed_in(owner.user, headers={"User-Agent": "Otherfox/1"})
    stranger = signed_in(make_person("zoe"))
    for one in (client, other):
        assert one.get(url("sessions")).status_code == 200
    with CaptureQueriesContext(connection) as seen:
        page = client.get(url("sessions")).content.decode()
    assert len(seen) <= MOST_QUERIES, len(seen)
    assert "Otherfox/1" in page
    assert client.session.session_key not in page
    row = UserSession.objects.get(session_key=other.session.session_key)
    make_member(owner.tenant, "yan", Role.VIEWER)
    assert stranger.post(url("session_end"), {"session": str(row.pk)}).status_code == 404
    client.post(url("session_end"), {"session": str(row.pk)})
    assert other.get(url("sessions"))["Location"].startswith(reverse("account_login"))
    third = signed_in(owner.user)
    third.get(url("sessions"))
    client.post(url("session_end"), {"others": "1"})
    assert third.get(url("sessions")).status_code == 302
    assert client.get(url("sessions")).status_code == 200
    assert client.post(url("session_end"), {"session": "x"}).status_code == 404


def test_another_members_log_in_is_not_mine_to_end(owner: Membership, client: Client) -> None:
    client.get(url("sessions"))
    row = UserSession.objects.get()
    vera = signed_in(make_member(owner.tenant, "vera", Role.VIEWER).user)
    assert vera.post(url("session_end"), {"session": str(row.pk)}).status_code == 404
    assert client.get(url("sessions")).status_code == 200


def test_the_audit_is_the_tenants_own(cast: Cast, owner: Membership, client: Client) -> None:
    tenants.issue_key(tenant=cast.acme, name="our bot")
    tenants.issue_key(tenant=cast.other, name="their bot")
    gone = make_member(cast.acme, "gus", Role.VIEWER)
    client.post(url("team_member", pk=gone.pk), {"remove": "1"})
    client.get(url("audit"))
    with CaptureQueriesContext(connection) as seen:
        page = client.get(url("audit")).content.decode()
    assert len(seen) <= MOST_QUERIES, len(seen)
    assert "our bot" in page
    assert "their bot" not in page
    assert "removed" in page  # also of what is gone
    by_me = client.get(f"{url('audit')}?actor={owner.user_id}").content.decode()
    assert "our bot" not in by_me
    assert "removed" in by_me
    keys = client.get(f"{url('audit')}?kind=apikey&actor=relay").content.decode()
    assert "our bot" in keys
    assert "digest" not in keys
    assert client.get(f"{url('audit')}?kind=user").status_code == 302
    vera = signed_in(make_member(cast.acme, "vera", Role.VIEWER).user)
    assert vera.get(url("audit")).status_code == 403


def test_the_audit_says_what_changed_in_words(
    cast: Cast, owner: Membership, client: Client
) -> None:
    """The model's own fields, by names and without the database's ways of writing values; nobody
    of the relay's company by name."""
    op = User.objects.create_user("op-kim", "kim@relay.example", is_staff=True)
    key = tenants.issue_key(tenant=cast.acme, name="bot", scopes=["ws", "info"]).key
    people.invite(tenant=cast.acme, email="x@example.com", role="viewer", by=Operator(op))
    people.require_second_factor(cast.acme, is_on=True, by=Operator(op))
    tenants.change_plan(cast.acme, plan=cast.large)
    found = audit.entries(cast.acme).rows
    fields = {name: after for row in reversed(found) for name, _, after in row.changes}
    assert fields["second factor asked of everybody"] == "yes"
    assert fields["scopes"] == "ws, info"
    assert fields["plan"] == "Large"
    assert fields["user"] == "ada@example.com"
    assert fields["invited by"] == "support"
    assert re.fullmatch(r"2\d{3}-\d\d-\d\d \d\d:\d\d UTC", fields["started at"])
    every = json.dumps([row.changes for row in found])
    for internal in ("tenants.", "None", "kim@", "True", "+00:00", '"id"', key.digest):
        assert internal not in every, internal
    for model in map(apps.get_model, (f"tenants.{kind}" for kind in audit.KINDS)):
        hidden = {*audit_words._SILENT, *EXCLUDED[model.__name__]}
        for one in model._meta.concrete_fields:
            if one.name not in hidden:
                name = audit_words.readable(one)
                assert "_" not in name
                assert name in translated._FIELDS, name


def test_the_account_is_renamed_and_terms_accepted(
    cast: Cast, client: Client, settings: Any
) -> None:
    settings.RELAY_TERMS_VERSION = "2027-01"
    data = {"name": "Acme Ltd", "support_email": "it@example.com"}
    assert client.post(url("settings"), data).status_code == 302
    cast.acme.refresh_from_db()
    assert (cast.acme.name, cast.acme.slug) == ("Acme Ltd", "acme")
    assert client.post(url("settings"), data | {"name": ""}).status_code == 422
    client.post(url("terms_accept"), {"version": "2026-01"})
    assert not TermsAcceptance.objects.exists()
    client.post(url("terms_accept"), {"version": "2027-01"})
    assert TermsAcceptance.objects.get().version == "2027-01"


def test_everything_is_taken_out_and_no_secret() -> None:
    ada = customer_with_a_past()
    customer_with_a_past("Ben")
    issued = tenants.issue_key(tenant=ada, name="bot")
    client = signed_in(owner_of(ada).user)
    answer = client.get(url("take_out", "ada"))
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))
    assert archive.testzip() is None
    names = archive.namelist()
    assert {"README.txt", "account.json", "people.csv", "keys.csv", "audit.csv"} <= set(names)
    assert len([name for name in names if name.endswith(".pdf")]) == 2
    assert json.loads(archive.read("account.json"))["alerts"]["thresholds"] == [75, 80, 100, 150]
    every = b"".join(archive.read(name) for name in names)
    assert issued.key.prefix.encode() in every
    assert issued.raw.encode() not in every
    assert issued.key.digest.encode() not in every
    assert b"Ben" not in every
    vera = signed_in(make_member(ada, "vera", Role.FINANCE).user)
    assert vera.get(url("take_out", "ada")).status_code == 403


def test_an_account_is_closed_by_who_proves_it() -> None:
    ada = customer_with_a_past()
    key = tenants.issue_key(tenant=ada, name="bot").key
    owner = owner_of(ada)
    owner.user.set_password("correct horse")
    owner.user.save()
    client = signed_in(owner.user)
    assert client.get(url("close", "ada"))["Location"].startswith(reverse("account_reauthenticate"))
    note(client, {"method": "password", "reauthenticated": True})
    page = client.get(url("close", "ada")).content.decode()
    assert "1 key is revoked" in page
    assert "47.50 USD" in page
    assert client.post(url("close", "ada"), {"typed": "Ada"}).status_code == 422
    assert client.post(url("close", "ada"), {"typed": "ada"}).status_code == 302
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert not APIKey.objects.filter(revoked_at=None).exists()
    assert b"was closed on" in client.get(url("invoices", "ada")).content
    refused = client.post(url("settings", "ada"), {"name": "Ada again"})
    assert refused.status_code == 403
    assert Tenant.objects.get(pk=ada.pk).name == "Ada"
    assert client.get(url("take_out", "ada")).status_code == 200


def test_in_a_closed_account_access_is_still_taken_away(cast: Cast, owner: Membership) -> None:
    """By everybody their own, by the owner others'; and what is owed can still be paid."""
    client = signed_in(owner.user)
    vera, yan = (make_member(cast.acme, name, Role.VIEWER) for name in ("vera", "yan"))
    closing.close_tenant(cast.acme, typed="acme", by=owner)
    hers, elsewhere = signed_in(vera.user), signed_in(vera.user)
    for one in (hers, elsewhere):
        one.get(url("sessions"))
    assert hers.post(url("session_end"), {"others": "1"}).status_code == 302
    assert elsewhere.get(url("sessions"))["Location"].startswith(reverse("account_login"))
    assert hers.post(url("team_leave")).status_code == 302
    assert client.post(url("team_member", pk=yan.pk), {"remove": "1"}).status_code == 302
    assert list(Membership.objects.for_tenant(cast.acme)) == [owner]
    assert client.post(url("payment_method")).status_code == 302
    assert client.post(url("team"), {"email": "x@example.com", "role": "viewer"}).status_code == 403


def test_ids_of_any_length_are_nobodys(client: Client) -> None:
    assert client.post(url("team_transfer"), {"to": "9" * 5_000}).status_code == 404
    assert client.post(url("session_end"), {"session": "9" * 5_000}).status_code == 404


def test_a_customer_may_be_called_as_any_page() -> None:
    user = make_person("eve")
    slug = open_account(user=user, company="End view", from_address=None).tenant.slug
    assert signed_in(user).get(url("overview", slug)).status_code == 200
