"""The mails of this room, as plain text through Django's mail backend."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import reverse

from tenants import letters
from tenants.models import Invitation, Tenant
from tenants.people import languages


def send_invitation(invitation: Invitation, token: str) -> None:
    """Ask the invited to follow the link. Raises what the backend raises."""
    _send(
        "invitation",
        invitation.email,
        language=languages.of_invited(invitation),
        invitation=invitation,
        link=f"{settings.RELAY_SITE_URL}{reverse('invitation_link', args=[token])}",
    )


def announce_suspension(tenant: Tenant, to: Sequence[str]) -> None:
    """Tell a tenant's people when it will be suspended, and why. One mail each: nobody needs to see
    who else has one."""
    for address in to:
        language = languages.of_address(address, tenant)
        _send("suspension", address, language=language, tenant=tenant)


def _send(name: str, address: str, *, language: str, **context: object) -> None:
    letter = letters.write(name, language=language, site=settings.RELAY_SITE_NAME, **context)
    EmailMessage(subject=letter.subject, body=letter.text, to=[address]).send()
