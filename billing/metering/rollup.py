"""What was used, summed by hour, day and month. Times are UTC; periods are half-open, `[start,
end)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, cast

from django.db import connection, transaction
from django.db.models import DateTimeField, Field, QuerySet, Sum
from django.db.models.functions import TruncDay

from billing.models import (
    SUSPENSE,
    Account,
    DailyRollup,
    LedgerEntry,
    MonthlyRollup,
    Rollup,
    UsageRollup,
)


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
        return (self.column, "key_id", "account", "metric", "channel", "zero_rated")


def month_of(day: date) -> date:
    """The first day of its month."""
    return day.replace(day=1)


HOURLY = Grain(UsageRollup, "hour", lambda hour: hour)
DAILY = Grain(DailyRollup, "day", lambda hour: hour.date())
MONTHLY = Grain(MonthlyRollup, "month", lambda hour: month_of(hour.date()))
GRAINS = (HOURLY, DAILY, MONTHLY)
_DAY = timedelta(days=1)


class Span(NamedTuple):
    """Rollups of one table and the time `[start, end)` they are of, whole days or months where they
    are sums of these."""

    grain: Grain
    start: datetime
    end: datetime

    @property
    def entries(self) -> QuerySet[LedgerEntry]:
        """The ledger entries of that time."""
        return LedgerEntry.objects.filter(hour__gte=self.start, hour__lt=self.end)

    @property
    def rollups(self) -> QuerySet[Any]:
        """The rollups of that time."""
        bounds = (self.start, self.end)
        if self.grain is not HOURLY:
            bounds = (self.start.date(), self.end.date())  # type: ignore[assignment]
        column = self.grain.column
        rows = self.grain.model._default_manager
        return rows.filter(**{f"{column}__gte": bounds[0], f"{column}__lt": bounds[1]})


def cut(
    start: datetime, end: datetime, grains: tuple[Grain, ...] = (MONTHLY, DAILY, HOURLY)
) -> Iterator[Span]:
    """The hours `[start, end)` as whole months, then days, then hours: the fewest rows that add up
    to them."""
    grain, *finer = grains
    if not finer:
        if start < end:
            yield Span(grain, start, end)
        return
    first, last = _begins(grain, start), _begins(grain, end)
    if first < start:
        first = _begins(grain, first + (timedelta(days=31) if grain is MONTHLY else _DAY))
    if first < last:
        yield from cut(start, first, tuple(finer))
        yield Span(grain, first, last)
        yield from cut(last, end, tuple(finer))
    else:
        yield from cut(start, end, tuple(finer))


def _begins(grain: Grain, at: datetime) -> datetime:
    """The beginning of the day or month that `at` lies in."""
    day = at.astimezone(UTC).date()
    return midnight(month_of(day) if grain is MONTHLY else day)


def spans(start: date = date.min, end: date = date.max) -> list[Span]:
    """All days `[start, end)` that ledger or rollups know of, and the months these are in. Each is
    summed or compared at once, so that memory and locks have a bound."""
    days = {moment.date() for moment in LedgerEntry.objects.datetimes("hour", "day", tzinfo=UTC)}
    days |= {moment.date() for moment in UsageRollup.objects.datetimes("hour", "day", tzinfo=UTC)}
    days |= set(DailyRollup.objects.dates("day", "day"))
    months = {month_of(day) for day in days if start <= day < end}
    months |= {
        month
        for month in MonthlyRollup.objects.dates("month", "month")
        if month_of(start) <= month < end
    }
    daily = [
        Span(grain, midnight(day), midnight(day + timedelta(days=1)))
        for day in sorted(days)
        if start <= day < end
        for grain in (HOURLY, DAILY)
    ]
    return daily + [
        Span(MONTHLY, midnight(month), midnight(month_of(month + timedelta(days=31))))
        for month in sorted(months)
    ]


def rebuild_rollups(start: date = date.min, end: date = date.max) -> int:
    """Make the rollups of the UTC days `[start, end)`, and of the months they are in, again from
    the ledger. Answers how many rows there are now.

    Each day or month is a transaction, during which no batch is posted: running it again, twice at
    once, or after it was stopped leaves the same rows.
    """
    return sum(_rebuild(span) for span in spans(start, end))


@transaction.atomic
def _rebuild(span: Span) -> int:
    # Whoever posts holds an account, so holding all of them keeps the ledger still.
    list(Account.objects.select_for_update().order_by("pk").values_list("pk", flat=True))
    span.rollups.delete()
    adapt = connection.ops.adapt_datetimefield_value
    bounds = [adapt(span.start), adapt(span.end)]
    return _sum(span.grain, span.start, "hour >= %s AND hour < %s", bounds)


def midnight(day: date) -> datetime:
    """The UTC time at which a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def add_to_rollups(batch_id: int, hour: datetime, *, is_alone: bool = True) -> None:
    """Add the entries of a batch and hour, with `is_alone` all that the batch has, to the sums of
    the hour, its day and month. Inside the transaction that posts, which holds the accounts:
    nobody else is at the same tenant's rollups."""
    condition = "batch_id = %s"
    parameters: list[Any] = [batch_id]
    if not is_alone:
        condition += " AND hour = %s"
        parameters.append(connection.ops.adapt_datetimefield_value(hour))
    for grain in GRAINS:
        units = connection.ops.quote_name("units")
        if connection.vendor == "mysql":
            conflict = f" ON DUPLICATE KEY UPDATE {units} = {units} + VALUES({units})"
        else:
            table = connection.ops.quote_name(grain.model._meta.db_table)
            conflict = (
                f" ON CONFLICT ({', '.join(grain.unique)})"
                f" DO UPDATE SET {units} = {table}.{units} + excluded.{units}"
            )
        _sum(grain, hour, condition, parameters, conflict)


def _sum(
    grain: Grain, within: datetime, condition: str, parameters: list[Any], conflict: str = ""
) -> int:
    """Insert the sums of the entries that fulfil a condition, all of the period that `within` is
    in; of its day, where the period is an hour. Answers how many.

    In the database: a day of a large installation is half a million entries, and the values of a
    batch would have to be sent three times more.
    """
    field = cast("Field[Any, Any]", grain.model._meta.get_field(grain.column))
    start = field.get_db_prep_value(grain.start_of(within), connection)
    table, entries = grain.model._meta.db_table, LedgerEntry._meta.db_table
    place = "key_id, metric, channel, zero_rated"
    period, values = ("hour", parameters) if grain is HOURLY else ("%s", [start, *parameters])
    with connection.cursor() as cursor:
        # Only names from the models' own metadata are put into the text. An account's number is its
        # tenant's id; joining accounts instead made MariaDB read the whole ledger for each batch.
        cursor.execute(
            f"INSERT INTO {table} (tenant_id, {grain.column}, {place}, units) "  # noqa: S608
            f"SELECT NULLIF(account_id, {SUSPENSE}), {period}, {place}, SUM(units) "
            f"FROM {entries} WHERE {condition} "
            f"GROUP BY account_id, {place}{', hour' if grain is HOURLY else ''}{conflict}",
            values,
        )
        return int(cursor.rowcount)


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


def usage_per_region(
    *, tenant_id: int, start: datetime, end: datetime
) -> dict[tuple[str, str], int]:
    """Units by region and metric over the whole period, from the ledger: an entry is of the region
    of its batch."""
    entries = LedgerEntry.objects.for_tenant(tenant_id).filter(hour__gte=start, hour__lt=end)
    rows = entries.order_by("batch__region", "metric").values_list("batch__region", "metric")
    return {(region, metric): units for region, metric, units in rows.annotate(total=Sum("units"))}


def _rows(
    tenant_id: int, start: datetime, end: datetime, key_id: int | None
) -> QuerySet[UsageRollup]:
    rows = UsageRollup.objects.for_tenant(tenant_id).filter(hour__gte=start, hour__lt=end)
    return rows if key_id is None else rows.filter(key=key_id)
