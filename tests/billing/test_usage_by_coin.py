"""Usage by coin: messages by day, minutes by hour, 50 names a day, and what is kept how long."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from billing.metering import coins, retention
from billing.metering.batch import Batch, MinutesLine, UsageLine
from billing.metering.coins import CoinUsage, fold_coins, usage_per_coin
from billing.metering.ingest import ingest
from billing.metering.reconcile import reconcile
from billing.metering.rollup import usage_per_region, usage_total
from billing.models import (
    CoinHour,
    CoinRollup,
    DailyRollup,
    LedgerEntry,
    QuarantinedBatch,
    UsageBatch,
    UsageRollup,
)
from tenants import services
from tests.billing.usage import HOUR, WORKER
from tests.tenants.cast import Cast

DAY = HOUR.date()
HOURS = int(HOUR.timestamp()) // 3600


def a_batch(
    *lines: UsageLine,
    minutes: list[MinutesLine] | None = None,
    seq: int = 1,
    region: str = "",
    hour: datetime = HOUR,
    worker: str = WORKER,
) -> Batch:
    return Batch(
        v=2,
        worker=worker,
        seq=seq,
        hour=hour,
        lines=list(lines),
        minutes=minutes or [],
        region=region,
    )


def key_of(cast: Cast) -> int:
    return services.issue_key(tenant=cast.acme, name="bot").key.pk


def test_messages_are_told_by_coin_and_by_reason(cast: Cast) -> None:
    key = key_of(cast)
    assert ingest(
        a_batch(
            UsageLine(key, "bbo", 5, 50, 0, "BTC"),
            UsageLine(key, "bbo", 2, 20, 0, "BTC", "replay"),
            UsageLine(key, "bbo", 3, 30, 0, "kPEPE"),
            UsageLine(key, "info", 0, 700, 4),
        )
    )
    period = {"tenant_id": cast.acme.pk, "start": DAY, "end": DAY + timedelta(days=1)}
    assert usage_per_coin(**period) == [
        CoinUsage("BTC", "bbo", "", 5, 50),
        CoinUsage("kPEPE", "bbo", "", 3, 30),
        CoinUsage("BTC", "bbo", "replay", 2, 20),
        CoinUsage("", "info", "", 0, 700),
    ]
    entries = LedgerEntry.objects.filter(metric="messages").values_list("zero_rated", "units")
    assert sorted(entries) == [("", 8), ("replay", 2)]
    assert list(reconcile()) == []

    CoinRollup.objects.filter(coin="kPEPE").update(messages=4)
    (difference,) = reconcile()
    assert (difference.check, difference.what) == ("coins", "rollup day 8, over all coins 9")


def test_names_that_differ_by_case_are_two_coins(cast: Cast) -> None:
    key = key_of(cast)
    lines = [UsageLine(key, "bbo", n, n, 0, coin) for n, coin in ((1, "kPEPE"), (2, "KPEPE"))]
    minutes = [MinutesLine(key, coin, HOURS, 1) for coin in ("kPEPE", "KPEPE")]
    assert ingest(a_batch(*lines, minutes=minutes))
    assert set(CoinRollup.objects.values_list("coin", "messages")) == {("kPEPE", 1), ("KPEPE", 2)}
    assert CoinHour.objects.count() == 2


def test_a_minute_that_many_tell_is_one(cast: Cast) -> None:
    key = key_of(cast)
    first = MinutesLine(key, "BTC", HOURS, 0b0111)
    again = MinutesLine(key, "BTC", HOURS, 0b1110)
    # Told with the messages of the hour before: a batch may be sealed a little after the hour.
    before = HOUR - timedelta(hours=1)
    line = UsageLine(key, "bbo", 1, 1, 0, "BTC")
    assert ingest(a_batch(line, minutes=[first], hour=before))
    assert ingest(a_batch(minutes=[again], worker="b" * 32))
    assert not ingest(a_batch(minutes=[again], worker="b" * 32))
    assert ingest(a_batch(minutes=[first], worker="c" * 32))
    row = CoinHour.objects.get()
    assert (row.hour, row.minutes, row.count) == (HOUR, 0b1111, 4)
    posted = LedgerEntry.objects.filter(metric="coin_minutes").order_by("pk")
    assert list(posted.values_list("hour", "channel", "units")) == [
        (HOUR, "coins", 3),
        (HOUR, "coins", 1),
    ]
    hours = {"start": HOUR, "end": HOUR + timedelta(hours=1)}
    assert usage_total(tenant_id=cast.acme.pk, **hours) == {"coin_minutes": 4}
    assert list(reconcile()) == []

    CoinHour.objects.update(minutes=0b111)
    (difference,) = reconcile()
    assert difference.check == "coin-minutes"
    assert difference.what == "minutes followed 3, in the ledger 4"


def test_minutes_of_long_ago_count_nothing(cast: Cast) -> None:
    """What they were added to may be deleted: rather too little than twice."""
    since = retention.hours_since(timezone.now())
    key, hour = key_of(cast), int(since.timestamp()) // 3600
    told = [MinutesLine(key, "BTC", hour - 1, 1), MinutesLine(key, "BTC", hour, 1)]
    assert ingest(a_batch(minutes=told))
    assert [row.hour for row in CoinHour.objects.all()] == [since]


def test_a_database_takes_no_more_than_sixty_minutes(cast: Cast) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        CoinHour.objects.create(key_id=1, coin="BTC", hour=HOUR, minutes=1 << 60)


def test_usage_is_told_by_region(cast: Cast) -> None:
    key = key_of(cast)
    for seq, region in enumerate(("tokyo", "frankfurt", "tokyo"), start=1):
        assert ingest(a_batch(UsageLine(key, "bbo", seq, 10, 0), seq=seq, region=region))
    period = {"tenant_id": cast.acme.pk, "start": HOUR, "end": HOUR + timedelta(hours=1)}
    assert usage_per_region(**period) == {
        ("frankfurt", "bytes"): 10,
        ("frankfurt", "messages"): 2,
        ("tokyo", "bytes"): 20,
        ("tokyo", "messages"): 4,
    }


amounts = st.dictionaries(
    st.tuples(
        st.sampled_from([f"C{n}" for n in range(8)] + ["", "other"]),
        st.sampled_from(["bbo", "trades"]),
        st.sampled_from(["", "replay"]),
    ),
    st.integers(0, 5),
    min_size=1,
)


class FoldLaws(TestCase):
    @given(amounts, amounts)
    @settings(max_examples=40)
    def test_the_most_used_keep_their_names_and_no_sum_changes(
        self, first: dict[Any, int], late: dict[Any, int]
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(coins, "KEPT_COINS", 3)
            before: Counter[tuple[str, str]] = Counter()
            for seq, of_it in enumerate((first, late), start=1):
                lines = [
                    UsageLine(7, channel, n, 10 * n, 0, coin, reason)
                    for (coin, channel, reason), n in of_it.items()
                ]
                assert ingest(a_batch(*lines, seq=seq))
                for (_, channel, reason), n in of_it.items():
                    before[channel, reason] += n
                by_coin: Counter[str] = Counter()
                for coin, n in CoinRollup.objects.values_list("coin", "messages"):
                    by_coin[coin] += n
                fold_coins(DAY + timedelta(days=1))
                assert fold_coins(DAY + timedelta(days=1)) == 0
                named = sorted(
                    (-n, coin) for coin, n in by_coin.items() if coin not in ("", "other")
                )
                kept = {coin for _, coin in named[:3]}
                left = set(CoinRollup.objects.values_list("coin", flat=True)) - {"", "other"}
                assert left == kept
            after: Counter[tuple[str, str]] = Counter()
            for channel, reason, n in CoinRollup.objects.values_list(
                "channel", "zero_rated", "messages"
            ):
                after[channel, reason] += n
            assert +after == +before
            assert list(reconcile()) == []


def test_today_is_not_folded(cast: Cast) -> None:
    lines = [UsageLine(7, "bbo", 1, 1, 0, f"C{n}") for n in range(60)]
    assert ingest(a_batch(*lines))
    assert fold_coins(DAY) == 0
    assert fold_coins(DAY + timedelta(days=1)) == 10
    assert CoinRollup.objects.get(coin="other").messages == 10


def test_what_is_older_than_it_is_kept_goes_and_nothing_else(cast: Cast, settings: Any) -> None:
    settings.RELAY_KEEP_HOURLY_DAYS = settings.RELAY_KEEP_COIN_HOURS_DAYS = 10
    settings.RELAY_KEEP_QUARANTINE_DAYS = 10
    now = datetime(2026, 11, 29, 3, tzinfo=UTC)
    # Ten days are less than this month and the one before, which may still be rated.
    edge = datetime(2026, 10, 1, tzinfo=UTC)
    assert retention.rollups_since(now) == retention.needed_since(now) == edge
    key = key_of(cast)
    old, kept = edge - timedelta(days=1, hours=1), edge - timedelta(hours=1)
    for seq, hour in enumerate((old, kept, edge), start=1):
        assert ingest(a_batch(UsageLine(key, "bbo", 1, 1, 0, "BTC"), seq=seq, hour=hour))
        CoinHour.objects.create(key_id=key, coin="BTC", hour=hour, minutes=1)
        QuarantinedBatch.objects.create(
            worker="x", flush_seq=seq, received_at=hour, reason="", text="", digest=str(seq)
        )
    assert retention.delete_expired(now, is_time=lambda: True) == dict.fromkeys(
        ("hourly", "coin_hours", "quarantine"), 0
    )
    deleted = retention.delete_expired(now)
    assert deleted == {"hourly": 2, "coin_hours": 1, "quarantine": 1}
    assert sum(retention.delete_expired(now).values()) == 0
    assert {row.hour for row in UsageRollup.objects.all()} == {kept, edge}
    assert {row.hour for row in CoinHour.objects.all()} == {kept, edge}
    assert (UsageBatch.objects.count(), LedgerEntry.objects.count()) == (3, 6)
    assert DailyRollup.objects.filter(day=date(2026, 9, 29)).count() == 2
    assert connection.vendor in {"sqlite", "mysql"}


def test_reconcile_does_not_miss_hourly_sums_that_are_not_kept(cast: Cast) -> None:
    since = retention.rollups_since(timezone.now())
    for seq, hour in enumerate((since - timedelta(hours=1), since), start=1):
        assert ingest(a_batch(UsageLine(key_of(cast), "bbo", 1, 1, 0), seq=seq, hour=hour))
    UsageRollup.objects.filter(hour__lt=since).delete()
    assert list(reconcile()) == []
    UsageRollup.objects.all().delete()
    assert {difference.check for difference in reconcile()} == {"rollup hour"}
