"""What was used, by month, key, metric and channel: the monthly sums of the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from billing.exports.csv import number, text, time
from billing.exports.scope import Row, Scope, paged
from billing.models import MonthlyRollup

COLUMNS = (
    *time("month"),
    *text("tenant"),
    *number("key"),
    *text("metric", "channel", "zero_rated"),
    *number("units"),
)
#: Of their unique constraint: ids would be other ones after the sums were made again.
_ORDER = ("month", "key_id", "metric", "channel", "zero_rated")


def rows(scope: Scope) -> Iterator[Row]:
    """All sums of the months; `tenant` is empty for a key that is in no table."""
    first, end = scope.months
    sums = MonthlyRollup.objects.filter(month__gte=first, month__lt=end, **scope.of())
    for month, key, *what, slug, units in paged(sums, _ORDER, ("tenant__slug", "units")):
        yield (month, slug, key, *what, units)
