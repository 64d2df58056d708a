"""Whom a notice is mailed to: the members whose business it is."""

from __future__ import annotations

from tenants.models import AlertChoice, Tenant
from tenants.notices.kinds import MAILED_TO_MEMBERS
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
    """Mail addresses. Of invoices those that the billing profile names; of the rest those that the
    tenant chose (`people/alerts.py`), or the members whose business it is."""
    subject = kind.partition(".")[0]
    if subject == "invoice":
        return tuple(selectors.billing_identity(tenant).invoice_emails)
    act = _BUSINESS_OF.get(subject)
    if act is None:
        return ()
    choice = AlertChoice.objects.filter(tenant=tenant).first()
    if choice is not None and kind in MAILED_TO_MEMBERS:
        if kind not in choice.mail_kinds:
            return ()
        # Whoever was chosen may have left since: then it is as if nobody had been chosen.
        if chosen := selectors.addresses_of(tenant, choice.mail_roles, choice.mail_addresses):
            return chosen
    return selectors.addresses_who_may(tenant, act)
