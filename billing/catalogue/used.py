"""What a tenant used in a billing period so far, as rating wants it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.db.models import Sum

from billing.models import UsageRollup
from billing.rating.invoice import Usage
from billing.rating.periods import Period
from billing.rating.segments import Segment, hours_paid
from tenants.models import Tenant


def usage_of(
    tenant: Tenant | int,
    period: Period,
    segments: Sequence[Segment],
) -> Iterator[Usage]:
    """Units by metric, channel and reason, one query for each segment. Usage from times without a
    plan is left out: it costs nothing."""
    rows = UsageRollup.objects.for_tenant(tenant).order_by()
    for first, end in hours_paid(period, segments):
        if first < end:
            sums = (
                rows.filter(hour__gte=first, hour__lt=end)
                .values_list("metric", "channel", "zero_rated")
                .annotate(total=Sum("units"))
            )
            for metric, channel, reason, units in sums:
                yield Usage(first, metric, channel, reason, int(units))
