"""Reads of people. Each asks by who is asking, so that a stranger finds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet

from tenants.models import (
    BillingProfile,
    Invitation,
    Membership,
    Tenant,
    TermsAcceptance,
)
from tenants.people.roles import ALLOWED, May, Role, may


@dataclass(frozen=True, slots=True)
class BillingIdentity:
    """Whom an invoice names and how it is taxed; copied into an invoice, so that it stays."""

    legal_name: str
    address: tuple[str, ...]
    country: str
    tax_id: str
    tax_name: str
    tax_percent: Decimal
    reverse_charge_text: str
    invoice_emails: tuple[str, ...]
    currency: str = "USD"


def memberships_of(user: User) -> QuerySet[Membership]:
    """Where somebody belongs, by the tenant's name. Nowhere for who is not signed in."""
    if not user.is_authenticated or not user.is_active:
        return Membership.objects.none()
    return Membership.objects.filter(user=user).select_related("tenant").order_by("tenant__name")


def membership(user: User, slug: str) -> Membership | None:
    """Somebody's membership in the tenant with this slug; None also where there is no such
    tenant."""
    return memberships_of(user).filter(tenant__slug=slug).first()


def members(by: Membership) -> QuerySet[Membership]:
    """The people of the tenant, for a member who may see them."""
    return (
        Membership.objects.filter(_seen_by(by, May.SEE_PEOPLE))
        .select_related("user")
        .order_by("created_at", "pk")
    )


def open_invitations(by: Membership) -> QuerySet[Invitation]:
    """Who is asked in and has not answered, for a member who manages people."""
    return Invitation.objects.open().filter(_seen_by(by, May.MANAGE_PEOPLE))


def billing_profile(by: Membership) -> BillingProfile | None:
    """The tenant's billing profile, for a member who may see invoices."""
    return BillingProfile.objects.filter(_seen_by(by, May.SEE_INVOICES)).first()


def accepted_terms(tenant: Tenant | int) -> TermsAcceptance | None:
    """The newest acceptance of the terms in force, or None while nobody has accepted them."""
    in_force = settings.RELAY_TERMS_VERSION
    return TermsAcceptance.objects.for_tenant(tenant).filter(version=in_force).first()


class BillingContacts(NamedTuple):
    """Profiles of tenants, and the addresses of the owners of those that name no other."""

    profiles: Mapping[int, BillingProfile]
    owners: Mapping[int, tuple[str, ...]]


def billing_contacts(tenant_ids: Iterable[int]) -> BillingContacts:
    """Of many tenants at once, in two queries."""
    ids = set(tenant_ids)
    profiles = {row.tenant_id: row for row in BillingProfile.objects.filter(tenant__in=ids)}
    asked = ids - {number for number, profile in profiles.items() if profile.invoice_email}
    owners: dict[int, dict[str, None]] = {number: {} for number in asked}
    rows = (
        Membership.objects.filter(
            tenant__in=asked, role=str(Role.OWNER), user__is_active=True
        ).exclude(user__email="")
        if asked
        else Membership.objects.none()
    )
    for number, email in rows.order_by("pk").values_list("tenant_id", "user__email"):
        owners[number][email] = None
    return BillingContacts(profiles, {number: tuple(found) for number, found in owners.items()})


def billing_identity(tenant: Tenant, contacts: BillingContacts | None = None) -> BillingIdentity:
    """Whom invoices of `tenant` name. Without a profile it bills under its name, untaxed, to its
    owners."""
    if contacts is None:
        contacts = billing_contacts([tenant.pk])
    profile = contacts.profiles.get(tenant.pk)
    if profile is None:
        profile = BillingProfile(tenant=tenant, legal_name=tenant.name)
    place = " ".join(filter(None, (profile.postal_code, profile.city)))
    lines = (profile.address_line1, profile.address_line2, place, profile.region)
    return BillingIdentity(
        legal_name=profile.legal_name,
        address=tuple(filter(None, lines)),
        country=profile.country,
        tax_id=profile.tax_id,
        tax_name=profile.tax_name,
        tax_percent=profile.tax_percent,
        reverse_charge_text=profile.reverse_charge_text,
        invoice_emails=(
            (profile.invoice_email,) if profile.invoice_email else contacts.owners[tenant.pk]
        ),
    )


def addresses_who_may(tenant: Tenant | int, act: May) -> tuple[str, ...]:
    """The e-mail addresses of the active members who may do `act`, each once."""
    return _addresses(tenant, [role for role in Role if act in ALLOWED[role]])


def owns(user: User | AnonymousUser, email: str) -> bool:
    """Whether somebody has proved that the address is theirs."""
    if not user.is_authenticated:
        return False
    return EmailAddress.objects.filter(user=user, verified=True, email__iexact=email).exists()


def addresses_of(
    tenant: Tenant | int, roles: Iterable[str], named: Iterable[str]
) -> tuple[str, ...]:
    """Those of the active members in these roles, and of those who are named by theirs (in lower
    case); each once, without those of anybody else."""
    wanted, held = set(named), set(roles)
    rows = (
        Membership.objects.for_tenant(tenant)
        .filter(user__is_active=True)
        .exclude(user__email="")
        .order_by("pk")
        .values_list("role", "user__email")
    )
    found = [email for role, email in rows if role in held or email.lower() in wanted]
    return tuple(dict.fromkeys(found))


def _addresses(tenant: Tenant | int, roles: list[Role]) -> tuple[str, ...]:
    found = (
        Membership.objects.for_tenant(tenant)
        .filter(role__in=[str(role) for role in roles], user__is_active=True)
        .exclude(user__email="")
        .values_list("user__email", flat=True)
    )
    return tuple(dict.fromkeys(found))


def _seen_by(by: Membership, act: May) -> Q:
    """Rows of the member's tenant, or none at all; asked of the database, since a role that was
    read a while ago may be gone."""
    now = Membership.objects.filter(pk=by.pk, user__is_active=True).first()
    if now is None or not may(now.role, act):
        return Q(pk__in=[])
    return Q(tenant=now.tenant_id)
