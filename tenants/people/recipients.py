"""Whom a notice is mailed to: the members whose business it is."""

from __future__ import annotations

from tenants.models import Tenant
from tenants.people import selectors
from tenants.people.roles import May

#: By the first word of a notice's kind.
_BUSINESS_OF = {
    "quota": May.CHANGE_PLAN,
    "key": May.MANAGE_KEYS,
    "gap": May.MANAGE_KEYS,
    "webhook": May.MANAGE_KEYS,
}


def recipients(tenant: Tenant, kind: str) -> tuple[str, ...]:
    """Mail addresses. Of invoices those that the billing profile names."""
    subject = kind.partition(".")[0]
    if subject == "invoice":
        return tuple(selectors.billing_identity(tenant).invoice_emails)
    act = _BUSINESS_OF.get(subject)
    return () if act is None else selectors.addresses_who_may(tenant, act)
