"""Reads of what was used, by hour and by day. Times are UTC; periods are half-open, `[start,
end)`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from django.db.models import DateTimeField, QuerySet, Sum
from django.db.models.functions import TruncDay

from billing.models import UsageRollup


class Usage(NamedTuple):
    """Units of one metric on one channel in the hour or day that begins at `start`."""

    start: datetime
    metric: str
    channel: str
    units: int


def usage_per_hour(
    *, tenant_id: int, start: datetime, end: datetime, key_id: int | None = None
) -> list[Usage]:
    """A tenant's usage by hour, or that of one of its keys; hours without usage are missing."""
    rows = _rows(tenant_id, start, end, key_id).values_list("hour", "metric", "channel")
    summed = rows.annotate(total=Sum("units")).order_by("hour", "metric", "channel")
    return [Usage(*row) for row in summed]


def usage_per_day(
    *, tenant_id: int, start: datetime, end: datetime, key_id: int | None = None
) -> list[Usage]:
    """The same by UTC day. Whole hours between `start` and `end` only."""
    day = TruncDay("hour", tzinfo=UTC, output_field=DateTimeField())
    rows = (
        _rows(tenant_id, start, end, key_id)
        .annotate(day=day)
        .values_list("day", "metric", "channel")
    )
    summed = rows.annotate(total=Sum("units")).order_by("day", "metric", "channel")
    return [Usage(*row) for row in summed]


def usage_total(
    *, tenant_id: int, start: datetime, end: datetime, key_id: int | None = None
) -> dict[str, int]:
    """Units by metric over the whole period."""
    rows = _rows(tenant_id, start, end, key_id).values_list("metric").order_by("metric")
    return dict(rows.annotate(total=Sum("units")))


def _rows(
    tenant_id: int, start: datetime, end: datetime, key_id: int | None
) -> QuerySet[UsageRollup]:
    rows = UsageRollup.objects.for_tenant(tenant_id).filter(hour__gte=start, hour__lt=end)
    return rows if key_id is None else rows.filter(key=key_id)
