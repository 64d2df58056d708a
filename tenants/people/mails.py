"""The mails of this room, as plain text through Django's mail backend."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.urls import reverse

from tenants.models import Invitation, Tenant


def send_invitation(invitation: Invitation, token: str) -> None:
    """Ask the invited to follow the link. Raises what the backend raises."""
    link = f"{settings.RELAY_SITE_URL}{reverse('invitation_link', args=[token])}"
    _send(
        "invitation",
        [invitation.email],
        subject=f"{invitation.tenant} invites you to {settings.RELAY_SITE_NAME}",
        invitation=invitation,
        link=link,
    )


def announce_suspension(tenant: Tenant, to: Sequence[str]) -> None:
    """Tell a tenant's people when it will be suspended, and why."""
    _send(
        "suspension",
        to,
        subject=f"{tenant} will be suspended on {tenant.suspend_at:%Y-%m-%d %H:%M} UTC",
        tenant=tenant,
    )


def _send(template: str, to: Sequence[str], *, subject: str, **context: object) -> None:
    text = render_to_string(f"mail/{template}.txt", {**context, "site": settings.RELAY_SITE_NAME})
    # A name may hold a line break, and a header may not. One mail each: nobody needs to see who
    # else has one.
    one_line = " ".join(subject.split())[:200]
    for address in to:
        EmailMessage(subject=one_line, body=text, to=[address]).send()
