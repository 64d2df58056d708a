"""What a tenant chose about being told: at which percentages, and what is mailed to whom."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import models
from django.utils.translation import gettext as _

from tenants.admission.caps import USED_UP
from tenants.models.admission import Tenant
from tenants.notices.kinds import MAILED_TO_MEMBERS
from tenants.people.roles import Role

MAX_THRESHOLDS = 8
#: In percent.
MIN_THRESHOLD, MAX_THRESHOLD = 1, 1_000
MAX_ALERT_ADDRESSES = 20


def validate_thresholds(given: object) -> None:
    """Raises ValidationError unless it is a short list of whole percentages, each once, the one of
    what is used up among them."""
    if not isinstance(given, list) or not all(type(one) is int for one in given):
        raise ValidationError(_("Whole numbers of percent are needed."))
    for one in given:
        if not MIN_THRESHOLD <= one <= MAX_THRESHOLD:
            raise ValidationError(
                _("%(number)s %% is not within %(least)s and %(most)s %%.")
                % {"number": str(one)[:20], "least": MIN_THRESHOLD, "most": MAX_THRESHOLD}
            )
    if len(set(given)) != len(given):
        raise ValidationError(_("A percentage is named twice."))
    if len(given) > MAX_THRESHOLDS:
        raise ValidationError(
            _("%(count)s percentages; at most %(most)s are told.")
            % {"count": len(given), "most": MAX_THRESHOLDS}
        )
    if USED_UP not in given:
        raise ValidationError(_("%(number)s %% is always told.") % {"number": USED_UP})


def validate_mail_kinds(given: object) -> None:
    """Raises ValidationError unless it is a list of kinds that are mailed to members, each once."""
    _require_known(given, MAILED_TO_MEMBERS)


def validate_mail_roles(given: object) -> None:
    """Raises ValidationError unless it is a list of roles, each once."""
    _require_known(given, tuple(map(str, Role)))


def validate_mail_addresses(given: object) -> None:
    """Raises ValidationError unless it is a short list of mail addresses, each once."""
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise ValidationError(_("A list of mail addresses is needed."))
    if len(given) > MAX_ALERT_ADDRESSES:
        raise ValidationError(
            _("%(count)s addresses; at most %(most)s are mailed.")
            % {"count": len(given), "most": MAX_ALERT_ADDRESSES}
        )
    for one in given:
        try:
            validate_email(one)
        except ValidationError:  # whose code the field has another sentence for
            raise ValidationError(
                _("“%(text)s” is no e-mail address.") % {"text": one[:80]}
            ) from None
    if len(set(given)) != len(given):
        raise ValidationError(_("An address is named twice."))


def _require_known(given: object, known: tuple[str, ...]) -> None:
    if not isinstance(given, list):
        raise ValidationError(_("A list is needed."))
    if unknown := [one for one in given if one not in known]:
        raise ValidationError(
            _("“%(name)s” is none of %(known)s.")
            % {"name": str(unknown[0])[:40], "known": ", ".join(known)}
        )
    if len(set(given)) != len(given):
        raise ValidationError(_("“%(name)s” is named twice.") % {"name": _twice(given)})


def _twice(given: list[str]) -> str:
    return next(one for one in given if given.count(one) > 1)


class AlertChoice(models.Model):
    """A tenant without one is told at `caps.THRESHOLDS`, and all is mailed to the members whose
    business it is. Roles and addresses come together; without either it is those again."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="alert_choice")
    thresholds = models.JSONField(
        "told at", default=list, validators=[validate_thresholds], help_text="Percent."
    )
    mail_kinds = models.JSONField(
        "mailed events", default=list, blank=True, validators=[validate_mail_kinds]
    )
    mail_roles = models.JSONField(
        "mailed roles", default=list, blank=True, validators=[validate_mail_roles]
    )
    mail_addresses = models.JSONField(
        "mailed addresses", default=list, blank=True, validators=[validate_mail_addresses]
    )

    def __str__(self) -> str:
        return f"alerts of {self.tenant}"
