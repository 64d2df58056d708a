"""The end of an account, by its owner: at once for keys and what they hold open, and to the second
for what is billed. Nothing is deleted that a law wants kept; operators may open it again."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants import ending, services
from tenants.dashboard_tokens import end_all_of
from tenants.models import APIKey, Invitation, Tenant, WebhookEndpoint
from tenants.notices.services import disable_endpoint
from tenants.people.actors import Actor, allowed, lock
from tenants.people.roles import May

#: What a closed account's suspension says.
CLOSED = gettext_noop("closed by its owner")


@transaction.atomic
def close_tenant(tenant: Tenant, *, typed: str, by: Actor, now: datetime | None = None) -> Tenant:
    """Close an account for good; `typed` is its short name, typed by who wants it. Closing again
    keeps the first time. Whether it is really them (a password, a second factor) is the caller's
    to ask.

    All keys are revoked and what they hold open closes; webhooks are disabled, invitations
    withdrawn, dashboards shut. The plan ends, and with it the billing period: its last invoice is
    drafted at once, and becomes final as any other. What is owed stays owed. Members stay, and can
    look at all of it. Raises ValidationError, PermissionDenied.
    """
    at = now or timezone.now()
    allowed(by, tenant, act=May.DELETE_TENANT)
    if typed.strip() != tenant.slug:
        raise ValidationError(
            _("Type %(slug)s, the short name of this account.") % {"slug": tenant.slug},
            code="not_typed",
        )
    ending.tell(tenant.pk, at)
    locked = lock(tenant)
    allowed(by, locked, act=May.DELETE_TENANT)
    if locked.closed_at is not None:
        return locked
    for key in APIKey.objects.for_tenant(locked).filter(revoked_at=None).order_by("pk"):
        services.revoke_key(key, now=at)
    for endpoint in WebhookEndpoint.objects.filter(tenant=locked, disabled_at=None):
        disable_endpoint(endpoint, reason=CLOSED)
    for invitation in Invitation.objects.for_tenant(locked).filter(is_open=True):
        invitation.withdrawn_at, invitation.is_open = at, None
        invitation.save(update_fields=["withdrawn_at", "is_open"])
    end_all_of(locked)
    locked.closed_at = at
    if locked.suspended_at is None:  # else it stays so, for what it was suspended for
        locked.suspended_at, locked.suspension_reason = at, CLOSED
    locked.suspend_at, locked.suspend_reason = None, ""
    locked.save(
        update_fields=[
            *("closed_at", "suspended_at", "suspension_reason", "suspend_at", "suspend_reason")
        ]
    )
    services.announce_tenant(locked)
    tenant.closed_at, tenant.suspended_at = locked.closed_at, locked.suspended_at
    return locked


@transaction.atomic
def reopen_tenant(tenant: Tenant) -> Tenant:
    """Undo a closing, by an operator: the account may have a plan and keys again, and has none of
    those that it had. One that was suspended before it closed still is."""
    locked = lock(tenant)
    if locked.closed_at is None:
        raise ValidationError(f"{locked} is not closed.")
    locked.closed_at = None
    if locked.suspension_reason == CLOSED:
        locked.suspended_at, locked.suspension_reason = None, ""
    locked.save(update_fields=["closed_at", "suspended_at", "suspension_reason"])
    services.announce_tenant(locked)
    return locked
