"""What a tenant chooses about being told: at which percentages, and what is mailed to whom."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from tenants.admission.caps import USED_UP
from tenants.admission.principal import THRESHOLDS
from tenants.models import AlertChoice, Tenant
from tenants.notices.kinds import MAILED_TO_MEMBERS
from tenants.people import selectors
from tenants.people.actors import lock
from tenants.services import announce_tenant


def alerts_of(tenant: Tenant) -> AlertChoice:
    """What was chosen, or, not saved, what holds until something is."""
    found = AlertChoice.objects.filter(tenant=tenant).first()
    if found is not None:
        # What was a choice once need not be one any more.
        found.mail_kinds = [kind for kind in found.mail_kinds if kind in MAILED_TO_MEMBERS]
    return found or AlertChoice(
        tenant=tenant, thresholds=list(THRESHOLDS), mail_kinds=list(MAILED_TO_MEMBERS)
    )


@transaction.atomic
def choose_alerts(
    tenant: Tenant,
    *,
    thresholds: Iterable[int] | None = None,
    mail_kinds: Iterable[str] | None = None,
    mail_roles: Iterable[str] | None = None,
    mail_addresses: Iterable[str] | None = None,
) -> AlertChoice:
    """Change what is given. 100 % is among the thresholds in any case; `mail_kinds` are of
    `MAILED_TO_MEMBERS`; addresses are members' and kept in lower case.

    Edges hear of it as of a plan's change. Raises ValidationError by field.
    """
    lock(tenant)
    choice = alerts_of(tenant)
    if thresholds is not None:
        choice.thresholds = sorted({*thresholds, USED_UP})
    if mail_kinds is not None:
        choice.mail_kinds = list(mail_kinds)
    if mail_roles is not None:
        choice.mail_roles = list(mail_roles)
    if mail_addresses is not None:
        choice.mail_addresses = [one.strip().lower() for one in mail_addresses]
    choice.full_clean()
    if mail_addresses is not None:
        _require_members(choice)
    choice.save()
    announce_tenant(tenant)
    return choice


def _require_members(choice: AlertChoice) -> None:
    known = {
        one.lower() for one in selectors.addresses_of(choice.tenant, (), choice.mail_addresses)
    }
    if strangers := [one for one in choice.mail_addresses if one not in known]:
        raise ValidationError(
            {
                "mail_addresses": _("%(email)s is no member's address: invite them first.")
                % {"email": strangers[0][:80]}
            }
        )
