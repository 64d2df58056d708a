"""Who was short of what in which minutes, and what that is worth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.models import Adjustment, CoinHour, UsageRollup
from gateway.operations.gap_credits import FAILED, MINUTE, credit_gaps, minutes_between
from streaming.nodes.models import GapRecord
from tenants import services
from tenants.models import Notice, Tenant
from tests.billing.invoicing.books import PlainBook, growth
from tests.billing.invoicing.conftest import book as book
from tests.tenants.cast import Cast

HOUR = datetime(2026, 11, 5, 10, tzinfo=UTC)
LATER = HOUR + timedelta(hours=4)


def gap(at: datetime, *, coin: str = "BTC", kind: str = "trades", blocks: int = 1) -> None:
    GapRecord.objects.create(
        topic=f"{kind} {coin}",
        kind=kind,
        coin=coin,
        source="node",
        from_height=1_000,
        from_index=0,
        to_height=1_000 + blocks,
        to_index=0,
        reason="missing upstream",
        detected_at=at,
    )


def follow(cast: Cast, tenant: str, *minutes: int, coin: str = "BTC", kind: str = "trades") -> None:
    key = services.issue_key(tenant=getattr(cast, tenant), name="bot").key
    mask = sum(1 << minute for minute in minutes)
    CoinHour.objects.create(key=key, coin=coin, hour=HOUR, minutes=mask)
    UsageRollup.objects.create(
        tenant=key.tenant, key=key, metric="messages", channel=kind, hour=HOUR, units=5
    )


def test_who_followed_it_gets_its_minutes_back_once(cast: Cast, book: PlainBook) -> None:
    gap(HOUR + timedelta(minutes=3, seconds=20))
    gap(HOUR + timedelta(minutes=7, seconds=1), blocks=100)  # 7 s: it began a minute earlier
    follow(cast, "acme", *range(7))
    follow(cast, "other", 30)  # at another time
    assert credit_gaps(LATER) == 1
    assert credit_gaps(LATER + timedelta(hours=1)) == 1
    (credit,) = Adjustment.objects.all()
    assert credit.tenant == cast.acme
    fee_s = growth().fee / (30 * 24 * 3_600)
    assert credit.amount == -round(fee_s * 10 * 120, 2)
    assert "2 minutes with gaps (BTC)" in credit.name
    assert credit.state == "proposed"
    assert Notice.objects.filter(kind="gap.recorded").count() == 1


def test_one_tenant_s_books_stop_no_other_s(
    cast: Cast, book: PlainBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap(HOUR + MINUTE)
    follow(cast, "acme", 1)
    follow(cast, "other", 1)
    broken = min(cast.acme, cast.other, key=lambda tenant: tenant.pk)
    segments_of = book.segments_of

    def torn(tenant: Tenant, *args: Any) -> Any:
        if tenant == broken:
            raise ZeroDivisionError
        return segments_of(tenant, *args)

    monkeypatch.setattr(book, "segments_of", torn)
    before = FAILED._value.get()
    assert credit_gaps(LATER) == 2
    assert FAILED._value.get() == before + 1
    assert Adjustment.objects.get().tenant != broken
    monkeypatch.undo()
    credit_gaps(LATER)
    assert Adjustment.objects.filter(tenant=broken).count() == 1


def test_another_coin_or_channel_is_not_short(cast: Cast, book: PlainBook) -> None:
    gap(HOUR + MINUTE)
    follow(cast, "acme", 1, coin="ETH")
    follow(cast, "other", 1, kind="bbo")
    assert credit_gaps(LATER) == 0
    assert not Adjustment.objects.exists()


def test_an_hour_waits_for_its_late_usage(cast: Cast, book: PlainBook) -> None:
    gap(HOUR + MINUTE)
    follow(cast, "acme", 1)
    assert credit_gaps(HOUR + timedelta(minutes=90)) == 0
    assert credit_gaps(HOUR + timedelta(hours=2)) == 1


@given(st.integers(-7_200, 7_200), st.integers(0, 7_200))
def test_minutes_are_those_that_it_touches(begin_s: int, length_s: int) -> None:
    start = HOUR + timedelta(seconds=begin_s)
    end = start + timedelta(seconds=length_s)
    mask = minutes_between(HOUR, start, end)
    for minute in range(60):
        at = HOUR + minute * MINUTE
        touches = start < at + MINUTE and end >= at
        assert bool(mask >> minute & 1) == touches
    assert mask < 1 << 60
