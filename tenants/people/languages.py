"""In which language somebody is written to: what they chose by the language switch, else English.

A mail is made in a worker, where no request says who reads it, so the choice is kept with the user
and asked for when the mail is written.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest

from tenants.models import ChosenLanguage, Invitation, Membership, Tenant
from tenants.people.roles import Role


def choose(user: User, code: str | None) -> bool:
    """Write to `user` in this language from now on; whether it is one of ours."""
    if code not in dict(settings.LANGUAGES):
        return False
    ChosenLanguage.objects.update_or_create(user=user, defaults={"language": code})
    return True


def take_along(sender: object, request: HttpRequest | None, user: Any, **_: object) -> None:
    """What was chosen before the log-in, in this browser, is chosen: `user_logged_in`."""
    if request is not None and isinstance(user, User):
        choose(user, request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME))


def of_address(address: str, tenant: Tenant) -> str:
    """Of who reads the tenant's mail there: its member, else who has proved that it is theirs, else
    nobody we know, to whom the tenant's owner speaks. A claim without proof counts for nothing, or
    a stranger's sign-up would change the language of somebody's invoices."""
    email = address.strip().lower()
    users = User.objects.filter(memberships__tenant=tenant, email__iexact=email)
    reader = users.order_by("pk").values_list("pk", flat=True).first() or _who_proved(email)
    return of_owner(tenant) if reader is None else _chosen_by(reader)


def of_proven(address: str) -> str | None:
    """What was chosen by who has proved that the address is theirs; None where nobody has, or
    chose none of ours."""
    reader = _who_proved(address.strip().lower())
    return None if reader is None else _choice_of(reader)


def of_invited(invitation: Invitation) -> str:
    """Of who has an account with that address; else of who invites, and where that is the relay's
    operator without a name, of the tenant's owner."""
    reader = _who_proved(invitation.email) or invitation.invited_by_id
    return of_owner(invitation.tenant) if reader is None else _chosen_by(reader)


def of_owner(tenant: Tenant) -> str:
    """Of the tenant's first owner who is still there."""
    owners = Membership.objects.for_tenant(tenant).filter(
        role=str(Role.OWNER), user__is_active=True
    )
    owner = owners.order_by("pk").values_list("user_id", flat=True).first()
    return settings.LANGUAGE_CODE if owner is None else _chosen_by(owner)


def _who_proved(email: str) -> int | None:
    users = User.objects.filter(emailaddress__email=email, emailaddress__verified=True)
    return users.order_by("pk").values_list("pk", flat=True).first()


def _chosen_by(user_id: int) -> str:
    return _choice_of(user_id) or settings.LANGUAGE_CODE


def _choice_of(user_id: int) -> str | None:
    """None too when it is a language that we do not speak any more."""
    chosen = ChosenLanguage.objects.filter(pk=user_id).values_list("language", flat=True).first()
    return chosen if chosen in dict(settings.LANGUAGES) else None
