"""What was used, summed by hour, day and month. Times are UTC; periods are half-open, `[start,
end)`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, cast

from django.db import connection
from django.db.models import DateTimeField, Field, QuerySet, Sum
from django.db.models.functions import TruncDay

from billing.metering.ledger import Posting, insert_rows
from billing.models import SUSPENSE, DailyRollup, MonthlyRollup, Rollup, UsageRollup


class Usage(NamedTuple):
    """Units of one metric on one channel in the hour or day that begins at `start`."""

    start: datetime
    metric: str
    channel: str
    units: int


class Grain(NamedTuple):
    """A table of rollups, the column that names its period, and the period of an hour."""

    model: type[Rollup]
    column: str
    start_of: Callable[[datetime], datetime | date]

    @property
    def unique(self) -> tuple[str, ...]:
        """The columns that name one sum."""
        return (self.column, "key_id", "metric", "channel", "zero_rated")


HOURLY = Grain(UsageRollup, "hour", lambda hour: hour)
DAILY = Grain(DailyRollup, "day", lambda hour: hour.date())
MONTHLY = Grain(MonthlyRollup, "month", lambda hour: hour.date().replace(day=1))
GRAINS = (HOURLY, DAILY, MONTHLY)


def add_to_rollups(sums: Counter[Posting]) -> None:
    """Add what was posted to the sums of its hour, day and month. Inside the transaction that
    posts, which holds the accounts: nobody else is at the same tenant's rollups."""
    postings = sorted(sums.items())
    for grain in GRAINS:
        field = cast("Field[Any, Any]", grain.model._meta.get_field(grain.column))
        # A batch is of one hour.
        adapted = {
            hour: field.get_db_prep_value(grain.start_of(hour), connection)
            for hour in {posting.hour for posting, _ in postings}
        }
        rows = []
        for (account, hour, *sum_of), units in postings:
            tenant_id = None if account == SUSPENSE else account
            rows.append((tenant_id, adapted[hour], *sum_of, units))
        columns = ("tenant_id", *grain.unique, "units")
        table = grain.model._meta.db_table
        insert_rows(table, columns, rows, adding="units", unique=grain.unique)


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
