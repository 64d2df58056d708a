"""Numbers without holes: `INV-2026-000001`, one series for each kind of document and year."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import IntegrityError, transaction

from billing.models import NumberSeries

CREDIT_NOTES = "CN"


def take_number(prefix: str, at: datetime) -> str:
    """The next number of the series. Inside the transaction that puts it on a document: whoever
    else wants one waits for its end, and one that is rolled back gives its number back.

    Take it last: the row is one for all tenants.
    """
    year = at.astimezone(UTC).year
    rows = NumberSeries.objects.select_for_update().order_by()
    series = next(iter(rows.filter(prefix=prefix, year=year)), None)
    if series is None:
        try:
            with transaction.atomic():
                NumberSeries.objects.create(prefix=prefix, year=year)
        except IntegrityError:
            pass  # somebody else began it at the same moment
        series = rows.get(prefix=prefix, year=year)
    series.last += 1
    series.save(update_fields=["last"])
    return f"{prefix}-{year}-{series.last:06d}"
