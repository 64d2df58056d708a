"""Second factors of people, as operators may touch them: taken away, never read."""

from __future__ import annotations

from allauth.mfa.models import Authenticator
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

MAX_REASON_CHARS = 200


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
