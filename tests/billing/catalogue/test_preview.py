"""A preview says what rating then bills, and writes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.catalogue import services, terms
from billing.catalogue.preview import preview_plan_change
from billing.invoicing.usage import usage_of
from billing.rating.invoice import Rated
from billing.rating.periods import Period
from billing.rating.rate import rate
from billing.rating.segments import hours_paid
from tenants.models import Plan, Tenant
from tests.billing.catalogue.books import make_tenant, note_usage, publish_book

START = datetime(2026, 11, 1, tzinfo=UTC)
AT = datetime(2026, 11, 16, 9, 30, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def book(db: None) -> dict[str, Plan]:
    return publish_book()


@pytest.fixture
def ada(book: dict[str, Plan]) -> Tenant:
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"], now=START)
    services.choose_overage(tenant, is_on=True, now=START)
    note_usage(tenant, AT.replace(day=3, minute=0), 70_000)
    return tenant


def bill(tenant: Tenant, period: Period) -> Rated:
    segments = terms.segments_of(tenant, period)
    discounts = terms.discounts_of(tenant, period)
    usage = usage_of(tenant.pk, hours_paid(period, segments))
    return rate(period, segments, usage, discounts=discounts)


@pytest.mark.parametrize("code", ["large", "year", "convert"])
@pytest.mark.parametrize("at", [AT, DECEMBER, datetime(2026, 11, 1, tzinfo=UTC)])
def test_it_is_what_is_billed(ada: Tenant, book: dict[str, Plan], code: str, at: datetime) -> None:
    now = min(at, AT)
    before = bill(ada, terms.period_of(ada, at))
    preview = preview_plan_change(ada, book[code], at, now=now)
    assert preview.before == before
    services.change_plan(ada, plan=book[code], at=at, now=now)
    assert preview.after == bill(ada, preview.after.period)
    total = preview.after.total
    if preview.begun is not None:
        assert code == "year"
        assert preview.begun == bill(ada, terms.period_of(ada, at))
        total += preview.begun.total
    assert preview.difference == total - before.total
    assert preview.next_fee == {"large": 300, "year": 3_650, "convert": 60}[code]


def test_by_hand(ada: Tenant, book: dict[str, Plan]) -> None:
    preview = preview_plan_change(ada, book["large"], datetime(2026, 11, 16, tzinfo=UTC))
    # 30 and 40 thousand messages at 5; half a month of each fee.
    assert preview.before is not None
    assert preview.before.total == Decimal("230.00")
    assert preview.after.total == Decimal("365.00")
    assert preview.difference == Decimal("135.00")


def test_it_writes_nothing(ada: Tenant, book: dict[str, Plan]) -> None:
    with CaptureQueriesContext(connection) as queries:
        preview_plan_change(ada, book["year"], AT)
    assert not [q["sql"] for q in queries if not q["sql"].lstrip("( ").startswith("SELECT")]
