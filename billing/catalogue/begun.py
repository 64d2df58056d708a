"""How every change of a tenant's terms begins, and which instants it may name."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from billing.catalogue import terms
from billing.catalogue.written import locked_tenant, settle
from billing.rating.periods import HOUR, full_hour, in_utc
from tenants.models import Tenant


def begun(tenant: Tenant, now: datetime | None) -> tuple[datetime, Tenant]:
    """The present to the second, and the tenant, locked, with all that was due done."""
    at = in_utc(now or timezone.now())
    locked = locked_tenant(tenant)
    settle(locked, at)
    return at, locked


def not_past(at: datetime | None, now: datetime) -> datetime:
    when = now if at is None else in_utc(at)
    if when < now:
        raise ValidationError(
            _("%(when)s is in the past; choose now or later.")
            % {"when": f"{when:%Y-%m-%d %H:%M:%S}"}
        )
    return when


def in_running_period(tenant: Tenant, at: datetime | None, now: datetime) -> datetime:
    """`at`, which may be in the past, but not in that of which there may be an invoice."""
    when = now if at is None else in_utc(at)
    try:
        earliest = terms.period_of(tenant, now).start
    except terms.NoTerms:
        earliest = full_hour(now)
    if when < earliest:
        raise ValidationError(
            _(
                "starts_at: %(when)s is before the running billing period, which began at "
                "%(began)s; write that or later."
            )
            % {"when": f"{when:%Y-%m-%d %H:%M}", "began": f"{earliest:%Y-%m-%d %H:%M}"}
        )
    return when


def next_hour(now: datetime) -> datetime:
    return full_hour(now) if now == full_hour(now) else full_hour(now) + HOUR


def no_version(code: str, version: int | None, at: datetime) -> str:
    if version is None:
        text = _("%(code)s: no version in force at %(at)s; publish one, or choose a later time.")
    else:
        text = _(
            "%(code)s: version %(version)s is not published, or not in force at %(at)s; publish "
            "one, or choose a later time."
        )
    return text % {"code": code, "version": version, "at": f"{at:%Y-%m-%d %H:%M}"}
