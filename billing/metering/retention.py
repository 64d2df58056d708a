"""How long usage in detail is kept, and what deletes the rest.

Batches, ledger and seals are kept for good, and so are the sums by day, month and coin. By age go
the hourly sums, which the ledger can make again, the minutes of each coin, and batches that could
not be read. Nothing goes that the present calendar month, the one before, or an older period
without a finalized invoice may still need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Min, OuterRef, QuerySet, Subquery

from billing.models import CoinHour, Invoice, InvoiceCursor, QuarantinedBatch, UsageRollup

#: Rows deleted in one statement: a transaction of its own, so nobody waits long for its locks.
CHUNK = 2_000
#: Deleted this much later than counted as kept, so that who counts and who deletes, each by its own
#: clock, never disagree about a row.
MARGIN = timedelta(days=1)


def needed_since(now: datetime) -> datetime:
    """What may still be rated begins at this UTC midnight: at the latest the month before the
    present one, and before that whatever is in a draft or in no invoice yet."""
    drafts = Invoice.objects.filter(state=Invoice.State.DRAFT)
    used = UsageRollup.objects.filter(tenant=OuterRef("tenant"), hour__gte=OuterRef("usage_until"))
    behind = InvoiceCursor.objects.filter(usage_until__lt=_month_before(now)).annotate(
        first=Subquery(used.order_by("hour").values("hour")[:1])
    )
    # Of a draft also the hours, which may begin in the one before its period's.
    oldest = [
        *drafts.aggregate(Min("period_start"), Min("usage_from")).values(),
        *behind.aggregate(Min("first")).values(),
    ]
    known = [_midnight(moment) for moment in oldest if moment is not None]
    return min([_month_before(now), *known])


def _month_before(now: datetime) -> datetime:
    month = _midnight(now).replace(day=1)
    return (month - timedelta(days=1)).replace(day=1)


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _since(now: datetime, days: int) -> datetime:
    return min(_midnight(now) - timedelta(days=days), _month_before(now))


def rollups_since(now: datetime) -> datetime:
    """Hourly sums are kept from this UTC midnight on."""
    return _since(now, settings.RELAY_KEEP_HOURLY_DAYS)


def hours_since(now: datetime) -> datetime:
    """Minutes of coins are kept, and taken in, from this UTC midnight on. Those of a period without
    an invoice are kept for longer, and no more are taken in: asking for that costs each batch."""
    return _since(now, settings.RELAY_KEEP_COIN_HOURS_DAYS)


def quarantine_since(now: datetime) -> datetime:
    """Batches that could not be read are kept from this UTC midnight on."""
    return _since(now, settings.RELAY_KEEP_QUARANTINE_DAYS)


def _expired(now: datetime) -> Iterator[tuple[str, QuerySet[Any]]]:
    needed = needed_since(now)
    hourly, minutes = min(rollups_since(now), needed), min(hours_since(now), needed)
    yield "hourly", UsageRollup.objects.filter(hour__lt=hourly - MARGIN)
    yield "coin_hours", CoinHour.objects.filter(hour__lt=minutes - MARGIN)
    quarantined = QuarantinedBatch.objects.filter(received_at__lt=quarantine_since(now) - MARGIN)
    yield "quarantine", quarantined


def delete_expired(now: datetime, *, is_time: Callable[[], bool] = lambda: False) -> dict[str, int]:
    """Delete what is older than it is kept, a few thousand rows at a time, until nothing is left or
    `is_time` to stop. Answers how many rows of each kind went.

    Again, or twice at once, it deletes what is left.
    """
    deleted: dict[str, int] = {}
    for name, rows in _expired(now):
        deleted[name] = 0
        while not is_time():
            chunk = list(rows.order_by("pk").values_list("pk", flat=True)[:CHUNK])
            if not chunk:
                break
            deleted[name] += rows.model._default_manager.filter(pk__in=chunk).delete()[0]
    return deleted
