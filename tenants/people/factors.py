"""Second factors of people: whether a log-in used one, and how operators take them away."""

from __future__ import annotations

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

MAX_REASON_CHARS = 200
#: What proves somebody; recovery codes alone are no factor.
FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


def has_factor(user: User) -> bool:
    """Whether somebody has set one up."""
    return bool(is_mfa_enabled(user, FACTORS))


def used_factor(request: HttpRequest) -> bool:
    """Whether this log-in proved a factor that still exists: one that is reset ends what it
    opened."""
    records = get_authentication_records(request, request.user)
    used = [record.get("id") for record in records if record.get("method") == "mfa"]
    return bool(used) and Authenticator.objects.filter(user=request.user, pk__in=used).exists()


@transaction.atomic
def reset_factors(user: User, *, by: str, reason: str) -> list[str]:
    """Take all second factors, recovery codes too, from who has lost them; their types, sorted.

    The audit names who did it (`by`, an account of the machine or a person) and why. Raises
    ValidationError without a reason, and where there is nothing to take.
    """
    text = " ".join(reason.split())
    if not text or len(text) > MAX_REASON_CHARS:
        raise ValidationError(f"reason: say why, in at most {MAX_REASON_CHARS} characters.")
    factors = list(Authenticator.objects.select_for_update().filter(user=user))
    if not factors:
        raise ValidationError(f"{user.get_username()} has no second factor.")
    types = sorted({str(factor.type) for factor in factors})
    for factor in factors:
        factor.delete()  # one by one: each has its own entry in the audit
    LogEntry.objects.log_create(
        user,
        action=LogEntry.Action.UPDATE,
        changes={"second factors": [", ".join(types), "none"]},
        additional_data={"by": by, "reason": text},
    )
    return types
