"""The billing periods that a tenant's pages speak of; calendar months without a plan that has
prices."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from billing.catalogue import terms
from billing.catalogue.timeline import NoTerms, Timeline
from billing.rating.periods import in_utc
from tenants.models import Tenant

Range = tuple[datetime, datetime]


def this_and_last(tenant: Tenant, *, now: datetime | None = None) -> tuple[Range, Range]:
    """The running period and the one before, each half-open."""
    at = in_utc(now or timezone.now())
    timeline = terms.timeline_of(tenant)
    this = _period(timeline, at)
    return this, _period(timeline, this[0] - timedelta(seconds=1))


def _period(timeline: Timeline, at: datetime) -> Range:
    try:
        period = timeline.period_of(at)
    except NoTerms:
        first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return first, (first + timedelta(days=32)).replace(day=1)
    return period.start, period.end
