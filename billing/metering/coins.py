"""What was used, by coin: messages and bytes by day, and the minutes in which a coin was followed.

By coin the ledger tells nothing, because that would make it fifty times longer; what is charged by
coin, coin-minutes, is in it as a number of minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import structlog
from django.db import connection, transaction
from django.db.models import Count, Sum
from django.utils import timezone

from billing.metering import retention
from billing.metering.batch import Batch, MinutesLine
from billing.metering.ledger import Posting, insert_rows, lock_accounts
from billing.models import OTHER_COINS, SUSPENSE, CoinHour, CoinRollup, Metric

log = structlog.get_logger(__name__)

#: Coins of a key and day that are kept by name.
KEPT_COINS = 50
#: Days that are looked at again for coins to be folded, because batches may be late.
FOLD_DAYS = 35
#: What coin-minutes have in the place of a channel: they are of no one.
COINS = "coins"
_KEYS_PER_QUERY = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROLLUP_COLUMNS = (
    *("day", "key_id", "channel", "coin", "zero_rated"),
    *("tenant_id", "messages", "bytes"),
)
_ONE_SUM = (*_ROLLUP_COLUMNS[:5], "account")


class CoinUsage(NamedTuple):
    """What was got of one coin ("": of no one coin) on one channel."""

    coin: str
    channel: str
    zero_rated: str
    messages: int
    bytes: int


def add_to_coins(batch: Batch, tenant_of: Mapping[int, int]) -> None:
    """Add a batch's lines to the sums by coin of their day. Inside the transaction that posts,
    which holds the accounts."""
    messages: Counter[tuple[int, str, str, str]] = Counter()
    sizes: Counter[tuple[int, str, str, str]] = Counter()
    for line in batch.lines:
        if line.messages or line.payload_bytes:
            place = (line.key_id, line.channel, line.coin, line.reason)
            messages[place] += line.messages
            sizes[place] += line.payload_bytes
    day = batch.hour.date()
    _add(
        [
            (day, *place, tenant_of.get(place[0]), units, sizes[place])
            for place, units in messages.items()
        ]
    )


def _add(rows: list[tuple[object, ...]]) -> None:
    insert_rows(
        CoinRollup._meta.db_table,
        _ROLLUP_COLUMNS,
        sorted(rows, key=lambda row: row[:5]),
        adding=("messages", "bytes"),
        unique=_ONE_SUM,
    )


def add_minutes(
    lines: Iterable[MinutesLine], tenant_of: Mapping[int, int], accounts: Iterable[int]
) -> Counter[Posting]:
    """Take minutes in; answers how many of them nobody had told before, as they are to be posted.

    Locks the accounts of their keys, and those given: whoever else tells minutes of the same key
    waits, so each minute is new once. What is older than these are kept counts nothing.
    """
    told: dict[tuple[int, int, str], int] = {}
    since = retention.hours_since(timezone.now())
    late = 0
    for line in lines:
        if _EPOCH + timedelta(hours=line.hour) < since:
            late += 1
            continue
        place = (line.hour, line.key_id, line.coin)
        told[place] = told.get(place, 0) | line.minutes
    if late:
        log.error("coin_minutes_too_late", lines=late, since=since.isoformat())
    owners = {tenant_of.get(key_id, SUSPENSE) for _, key_id, _ in told}
    lock_accounts(owners.union(accounts))
    known = _known(told)
    news = {
        place: minutes
        for place, of_it in sorted(told.items())
        if (minutes := of_it & ~known.get(place, 0))
    }
    adapt = connection.ops.adapt_datetimefield_value
    insert_rows(
        CoinHour._meta.db_table,
        ("hour", "key_id", "coin", "minutes"),
        [
            (adapt(_EPOCH + timedelta(hours=hour)), key_id, coin, minutes)
            for (hour, key_id, coin), minutes in news.items()
        ],
        adding=("minutes",),
        unique=("hour", "key_id", "coin"),
    )
    posted: Counter[Posting] = Counter()
    metric = Metric.COIN_MINUTES.value
    for (hour, key_id, _), minutes in news.items():
        account = tenant_of.get(key_id, SUSPENSE)
        begins = _EPOCH + timedelta(hours=hour)
        posted[Posting(account, begins, key_id, metric, COINS, "")] += minutes.bit_count()
    return posted


def _known(told: Iterable[tuple[int, int, str]]) -> dict[tuple[int, int, str], int]:
    """What is known of the same hours and keys."""
    keys = sorted({key_id for _, key_id, _ in told})
    hours = [_EPOCH + timedelta(hours=hour) for hour in sorted({hour for hour, _, _ in told})]
    known: dict[tuple[int, int, str], int] = {}
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        rows = CoinHour.objects.filter(
            hour__in=hours, key__in=keys[start : start + _KEYS_PER_QUERY]
        )
        for hour, key_id, coin, minutes in rows.order_by().values_list(
            "hour", "key_id", "coin", "minutes"
        ):
            known[int((hour - _EPOCH) / timedelta(hours=1)), key_id, coin] = minutes
    return known


def fold_coins(today: date, *, days: int = FOLD_DAYS) -> int:
    """Of the days before `today`, keep the 50 coins with most messages of each key by name, and add
    the others up as `other`. Answers how many rows went into it.

    A key and day is a transaction; again, or at the same time, it finds nothing more to do.
    """
    named = CoinRollup.objects.exclude(coin__in=("", OTHER_COINS))
    crowded = (
        named.filter(day__lt=today, day__gte=today - timedelta(days=days))
        .order_by("day", "key_id", "account")
        .values_list("day", "key_id", "account")
        .annotate(coins=Count("coin", distinct=True))
        .filter(coins__gt=KEPT_COINS)
    )
    return sum(_fold(day, key_id, account) for day, key_id, account, _ in list(crowded))


@transaction.atomic
def _fold(day: date, key_id: int, account: int) -> int:
    of_day = CoinRollup.objects.filter(day=day, key=key_id, account=account)
    owner = None if account == SUSPENSE else account
    # The lock of whoever adds.
    lock_accounts([account])
    named = of_day.exclude(coin__in=("", OTHER_COINS))
    ranked = named.values_list("coin").annotate(total=Sum("messages")).order_by("-total", "coin")
    folded = {coin for coin, _ in ranked[KEPT_COINS:]}
    # In Python: the list of a few thousand coins may be longer than a statement takes.
    rows = [row for row in named.order_by("pk") if row.coin in folded]
    sums: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        of_it = sums.setdefault((row.channel, row.zero_rated), [0, 0])
        of_it[0] += row.messages
        of_it[1] += row.bytes
    _add(
        [
            (day, key_id, channel, OTHER_COINS, zero_rated, owner, *units)
            for (channel, zero_rated), units in sums.items()
        ]
    )
    for start in range(0, len(rows), _KEYS_PER_QUERY):
        chunk = [row.pk for row in rows[start : start + _KEYS_PER_QUERY]]
        CoinRollup.objects.filter(pk__in=chunk).delete()
    return len(rows)


def usage_per_coin(
    *, tenant_id: int, start: date, end: date, key_id: int | None = None
) -> list[CoinUsage]:
    """A tenant's usage of the days `[start, end)` by coin and channel, most messages first."""
    rows = CoinRollup.objects.for_tenant(tenant_id).filter(day__gte=start, day__lt=end)
    if key_id is not None:
        rows = rows.filter(key=key_id)
    summed = rows.values_list("coin", "channel", "zero_rated").annotate(
        all_messages=Sum("messages"), all_bytes=Sum("bytes")
    )
    return [CoinUsage(*row) for row in summed.order_by("-all_messages", "coin", "channel")]
