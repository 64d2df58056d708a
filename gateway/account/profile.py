"""Who a tenant is: its name, its people, and whom its invoices name."""

from __future__ import annotations

from dataclasses import dataclass

from tenants.models import BillingProfile, Membership, Tenant
from tenants.people.selectors import BillingIdentity, billing_identity

#: Shown at once; a company of more has them in the dashboard.
MAX_MEMBERS = 500


@dataclass(frozen=True, slots=True)
class Profile:
    """A tenant; `billing` is what an invoice would say now, `has_billing_profile` whether anybody
    filled that in."""

    tenant: Tenant
    billing: BillingIdentity
    has_billing_profile: bool


def profile(tenant: Tenant) -> Profile:
    """As it is now."""
    has = BillingProfile.objects.filter(tenant=tenant).exists()
    return Profile(tenant, billing_identity(tenant), has)


def members(tenant: Tenant) -> list[Membership]:
    """Who belongs to it, with `user`, the first to join first. One statement."""
    rows = Membership.objects.for_tenant(tenant).select_related("user")
    return list(rows.order_by("created_at", "pk")[:MAX_MEMBERS])
