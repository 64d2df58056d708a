"""How long usage in detail is kept, and what deletes the rest.

Batches, ledger and seals are kept for good, and so are the sums by day, month and coin. By age go
the hourly sums, which the ledger can make again, the minutes of each coin, and batches that could
not be read. Nothing goes that the present calendar month or the one before may still need: an
invoice of that is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from billing.models import CoinHour, QuarantinedBatch, UsageRollup

#: Rows deleted in one statement: a transaction of its own, so nobody waits long for its locks.
CHUNK = 2_000
#: Deleted this much later than counted as kept, so that who counts and who deletes, each by its own
#: clock, never disagree about a row.
MARGIN = timedelta(days=1)


def needed_since(now: datetime) -> datetime:
    """What may still be rated anew begins here: the month before the present one."""
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (month - timedelta(days=1)).replace(day=1)


def _since(now: datetime, days: int) -> datetime:
    by_age = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return min(by_age - timedelta(days=days), needed_since(now))


def rollups_since(now: datetime) -> datetime:
    """Hourly sums are kept from this UTC midnight on."""
    return _since(now, settings.RELAY_KEEP_HOURLY_DAYS)


def hours_since(now: datetime) -> datetime:
    """Minutes of coins are kept, and taken in, from this UTC midnight on."""
    return _since(now, settings.RELAY_KEEP_COIN_HOURS_DAYS)


def quarantine_since(now: datetime) -> datetime:
    """Batches that could not be read are kept from this UTC midnight on."""
    return _since(now, settings.RELAY_KEEP_QUARANTINE_DAYS)


def _expired(now: datetime) -> Iterator[tuple[str, QuerySet[Any]]]:
    yield "hourly", UsageRollup.objects.filter(hour__lt=rollups_since(now) - MARGIN)
    yield "coin_hours", CoinHour.objects.filter(hour__lt=hours_since(now) - MARGIN)
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
