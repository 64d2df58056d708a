"""How every change of a tenant's terms begins, and which instants it may name."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.utils import timezone

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
        raise ValidationError(f"{when:%Y-%m-%d %H:%M:%S} is in the past; choose now or later.")
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
            f"starts_at: {when:%Y-%m-%d %H:%M} is before the running billing period, which began "
            f"at {earliest:%Y-%m-%d %H:%M}; write that or later."
        )
    return when


def next_hour(now: datetime) -> datetime:
    return full_hour(now) if now == full_hour(now) else full_hour(now) + HOUR


def no_version(code: str, version: int | None, at: datetime) -> str:
    what = "no version" if version is None else f"version {version} is not published, or not"
    return f"{code}: {what} in force at {at:%Y-%m-%d %H:%M}; publish one, or choose a later time."
