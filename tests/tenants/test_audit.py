"""Every change of a tenant, its people, keys and plans has an entry: who, from where, before and
after; never a secret."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.apps import apps
from django.db import DatabaseError, transaction
from django.test import Client
from django.utils import timezone

from tenants import audit, services
from tenants.append_only import AppendOnlyError
from tenants.models import Invitation, Membership, TermsAcceptance
from tenants.people import services as people
from tenants.people.roles import Role
from tests.tenants.cast import Cast, operator_client
from tests.tenants.people import OPERATOR, make_member, owner_of


def test_every_model_is_audited_or_says_why_not() -> None:
    """A new model is one or the other; the reasons are sentences."""
    for model in apps.get_app_config("tenants").get_models():
        name = model.__name__
        assert auditlog.contains(model) != (name in audit.UNAUDITED), name
        assert name in audit.EXCLUDED or len(audit.UNAUDITED[name].split()) > 3, name


def test_no_field_that_sounds_like_a_secret_is_kept() -> None:
    for model in apps.get_app_config("tenants").get_models():
        if not auditlog.contains(model):
            continue
        kept = {field.name for field in model._meta.get_fields() if field.concrete}
        kept -= set(auditlog.get_model_fields(model)["exclude_fields"])
        for word in ("digest", "token", "secret", "password", "hash"):
            assert not [name for name in kept if word in name], model


def newest(instance: Any) -> LogEntry:
    entry = LogEntry.objects.get_for_object(instance).order_by("-pk").first()
    assert entry is not None
    return entry


@pytest.mark.django_db
def test_each_change_has_its_entry(cast: Cast) -> None:
    acme = cast.acme
    ada = owner_of(acme)
    ben = make_member(acme, "ben", Role.VIEWER)
    people.change_role(ben, role=Role.FINANCE, by=ada)
    assert newest(ben).changes == {"role": ["viewer", "finance"]}
    people.remove_member(ben, by=ada)
    gone = LogEntry.objects.filter(content_type__model="membership", action=2).get()
    assert gone.changes["role"] == ["finance", "None"]

    invitation = people.invite(tenant=acme, email="x@example.com", role="viewer", by=ada)
    people.withdraw_invitation(invitation, by=ada)
    assert "withdrawn_at" in newest(invitation).changes

    profile = people.save_billing_profile(tenant=acme, by=ada, legal_name="Acme LLC")
    people.save_billing_profile(
        tenant=acme, by=OPERATOR, tax_name="VAT", tax_percent=Decimal("19.0000")
    )
    assert newest(profile).changes["tax_percent"] == ["0.0000", "19.0000"]

    acme.name = "Acme Two"
    services.update_tenant(acme)
    assert newest(acme).changes == {"name": ["Acme", "Acme Two"]}
    services.suspend_tenant(acme, reason="unpaid")
    assert newest(acme).changes["suspension_reason"] == ["", "unpaid"]

    key = services.issue_key(tenant=acme, name="bot").key
    services.revoke_key(key)
    assert set(newest(key).changes) == {"revoked_at"}
    subscription = services.change_plan(acme, plan=cast.large)
    assert newest(subscription).action == LogEntry.Action.CREATE
    cast.small.quota.max_connections = 7
    cast.small.quota.save()
    assert newest(cast.small.quota).changes["max_connections"] == ["2", "7"]
    cast.small.name = "Smaller"
    cast.small.save()
    assert newest(cast.small).changes == {"name": ["Small", "Smaller"]}
    everything = json.dumps(list(LogEntry.objects.values_list("changes", flat=True)))
    assert key.digest not in everything


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("trusted", "forwarded", "seen"),
    [
        ([], "203.0.113.9", "192.0.2.1"),  # anybody can write that
        (["192.0.2.0/24"], "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (["192.0.2.0/24"], "not an address", "192.0.2.1"),
        (["192.0.2.0/24"], "", "192.0.2.1"),
    ],
)
def test_an_entry_says_who_and_from_where(
    cast: Cast, settings: Any, trusted: list[str], forwarded: str, seen: str
) -> None:
    settings.RELAY_TRUSTED_PROXIES = trusted
    browser = operator_client()
    browser.defaults["REMOTE_ADDR"] = "192.0.2.1"
    browser.post(
        "/admin/tenants/tenant/",
        {"action": "suspend", "_selected_action": [cast.acme.pk]},
        headers={"X-Forwarded-For": forwarded} if forwarded else None,
    )
    entry = newest(cast.acme)
    assert (str(entry.actor), entry.remote_addr) == ("op", seen)


@pytest.mark.django_db
def test_accepted_terms_are_never_changed(cast: Cast, settings: Any) -> None:
    """Not by the model, its querysets, or whoever comes past Django."""
    ada = owner_of(cast.acme)
    first = people.accept_terms(by=ada, version="1", from_address="192.0.2.1")
    assert people.accept_terms(by=ada, version="1", from_address="192.0.2.2") == first
    with pytest.raises(people.ValidationError):
        people.accept_terms(by=ada, version="2", from_address=None)
    settings.RELAY_TERMS_VERSION = "2"
    people.accept_terms(by=ada, version="2", from_address=None)
    assert TermsAcceptance.objects.count() == 2
    first.version = "9"
    for change in (first.save, first.delete, TermsAcceptance.objects.all().delete):
        with pytest.raises(AppendOnlyError):
            change()
    from django.db import connection

    for statement in (
        "UPDATE tenants_termsacceptance SET version = '9'",
        "DELETE FROM tenants_termsacceptance",
    ):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.mark.django_db
def test_the_pages_of_people(operator: Client, cast: Cast) -> None:
    """The tenant's page invites, and keeps the billing profile; roles have a page of their own."""
    ada = owner_of(cast.acme)
    page = f"/admin/tenants/tenant/{cast.acme.pk}/change/"
    content = operator.get(page).content.decode()
    assert "ada" in content
    inlines = {
        f"{prefix}-{field}": 0
        for prefix in (
            "api_keys", "plan_subscriptions", "memberships", "invitations", "billing_profile",
            "terms_acceptances",
        )
        for field in ("TOTAL_FORMS", "INITIAL_FORMS")
    }  # fmt: skip
    form = {
        **{"name": "Acme", "slug": "acme", "kind": "external"},
        **inlines,
        "support_email": "desk@example.com",
        "invitations-TOTAL_FORMS": 1,
        "invitations-0-tenant": cast.acme.pk,
        "invitations-0-email": "Ben@example.com",
        "invitations-0-role": "viewer",
        "billing_profile-TOTAL_FORMS": 1,
        "billing_profile-0-tenant": cast.acme.pk,
        "billing_profile-0-legal_name": "Acme LLC",
        "billing_profile-0-country": "DE",
        "billing_profile-0-tax_name": "VAT",
        "billing_profile-0-tax_percent": "19",
    }
    answer = operator.post(page, form)
    assert answer.status_code == 302, answer.content.decode()
    cast.acme.refresh_from_db()
    assert cast.acme.support_email == "desk@example.com"
    assert cast.acme.billing_profile.tax_percent == 19
    invitation = Invitation.objects.get()
    assert (invitation.email, str(invitation.invited_by)) == ("ben@example.com", "op")

    # What the service would refuse is said on the page.
    wrong = {**form, "billing_profile-TOTAL_FORMS": 0}
    assert b"invited already" in operator.post(page, wrong).content
    wrong["invitations-TOTAL_FORMS"] = 0
    wrong |= {
        "billing_profile-TOTAL_FORMS": 1,
        "billing_profile-INITIAL_FORMS": 1,
        "billing_profile-0-id": cast.acme.billing_profile.pk,
        "billing_profile-0-country": "xx",
    }
    assert b"no country" in operator.post(page, wrong).content

    role = f"/admin/tenants/membership/{ada.pk}/change/"
    assert b"needs an owner" in operator.post(role, {"role": "viewer"}).content
    refused = operator.post(f"/admin/tenants/membership/{ada.pk}/delete/", {"post": "yes"})
    assert b"needs an owner" in refused.content
    assert Membership.objects.filter(pk=ada.pk).exists()
    ben = make_member(cast.acme, "ben", Role.OWNER)
    assert operator.post(role, {"role": "viewer"}).status_code == 302
    ada.refresh_from_db()
    assert ada.role == "viewer"
    operator.post(f"/admin/tenants/membership/{ada.pk}/delete/", {"post": "yes"})
    assert list(Membership.objects.for_tenant(cast.acme)) == [ben]


@pytest.mark.django_db
def test_resend_and_withdraw_in_the_admin(operator: Client, cast: Cast) -> None:
    invitation = people.invite(tenant=cast.acme, email="ben@example.com", role="owner", by=OPERATOR)
    made = people.make_token(invitation.pk)
    assert made is not None
    people.note_sent(made[0])
    pages = "/admin/tenants/invitation/"
    for page in (pages, f"{pages}{invitation.pk}/change/"):
        content = operator.get(page).content.decode()
        assert made[1] not in content
        assert made[0].digest not in content
    for action, state in (("resend", "waiting"), ("withdraw", "withdrawn")):
        operator.post(pages, {"action": action, "_selected_action": [invitation.pk]})
        invitation.refresh_from_db()
        assert invitation.state(timezone.now()) == state
    again = operator.post(
        pages, {"action": "resend", "_selected_action": [invitation.pk]}, follow=True
    )
    assert b"has been withdrawn" in again.content
