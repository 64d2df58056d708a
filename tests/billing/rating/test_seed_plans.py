"""The seed plans price known months to the cent, and the cheapest for a use is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing.rating.document import Catalogue, read_catalogue, write
from billing.rating.estimate import Offer, Projection, cheapest, compare, estimate
from billing.rating.invoice import Rated, Usage
from billing.rating.periods import Anchor, period_at
from billing.rating.prices import Discount, Interval, Unit
from billing.rating.rate import rate
from billing.rating.seed import load
from billing.rating.segments import AddOnSpan, PlanSpan, segments
from tests.billing.rating.plans import NOVEMBER, day, make_plan

SEED = load()
MILLION = 1_000_000
GIGABYTE = 10**9


def november(plan: str, usage: dict[tuple[str, str], int], *add_ons: str) -> Rated:
    spans = [PlanSpan(SEED.plan(plan, day(1)), NOVEMBER.start)]
    held = [AddOnSpan(SEED.add_on(code, day(1)), NOVEMBER.start) for code in add_ons]
    rows = [Usage(day(7, 13), *key, "", units) for key, units in usage.items()]
    return rate(NOVEMBER, segments(NOVEMBER, spans, held), rows)


@pytest.mark.parametrize(
    ("plan", "add_ons", "usage", "total"),
    [
        # One book for a month is 27 M messages: within Starter's 30 M, refused on Free beyond 5 M.
        ("free", (), {("messages", "l2Book"): 27 * MILLION}, "0.00"),
        ("starter", (), {("messages", "l2Book"): 27 * MILLION}, "49.00"),
        # Two are 24 M beyond, at $5.
        ("starter", (), {("messages", "l2Book"): 54 * MILLION}, "169.00"),
        # One message beyond is half a thousandth of a cent; 1,000 are half a cent.
        ("starter", (), {("messages", "bbo"): 30 * MILLION + 1}, "49.00"),
        ("starter", (), {("messages", "bbo"): 30 * MILLION + 999}, "49.00"),
        ("starter", (), {("messages", "bbo"): 30 * MILLION + 1_000}, "49.01"),
        # l2Diff counts half: 80 M are 40 M, 10 M beyond.
        ("starter", (), {("messages", "l2Diff"): 80 * MILLION}, "99.00"),
        ("growth", (), {("messages", "trades"): 412_345_678}, "636.04"),  # 112.345678 × 3
        ("business", (), {("messages", "trades"): 1_501 * MILLION}, "1001.00"),
        # 5 M and one request: a second package of a million would begin at 6 M and one.
        ("starter", (), {("requests", "info"): 5 * MILLION + 1}, "51.00"),
        ("starter", (), {("requests", "info"): 6 * MILLION + 1}, "53.00"),
        ("starter", (), {("requests", "exchange"): 90 * MILLION}, "49.00"),
        # 1,500 GB of l4Book: 1,000 at 8 cents, 500 at 5.
        ("business", (), {("bytes", "l4Book"): 1_500 * GIGABYTE}, "1104.00"),
        ("business", (), {("bytes", "l2Book"): 1_500 * GIGABYTE}, "999.00"),
        # The order book's 30 M come on top of Starter's: 70 M are 10 M beyond.
        ("starter", ("order-book",), {("messages", "l4Book"): 70 * MILLION}, "298.00"),
        ("growth", ("grpc", "order-book"), {}, "797.00"),
        ("books-10", (), {("coin_minutes", "l2Book"): 450_000}, "300.00"),
        # Without overage: no spend cap could bound it. Ten coins for 31 days are 446,400.
        ("books-10", (), {("coin_minutes", "l2Book"): 550_000}, "300.00"),
    ],
)
def test_a_month_on_a_seed_plan(
    plan: str, add_ons: tuple[str, ...], usage: dict[tuple[str, str], int], total: str
) -> None:
    assert f"{november(plan, usage, *add_ons).total:f}" == total


def test_the_fees_are_those_of_the_field() -> None:
    fees = {plan.code: plan.fee for plan in SEED.plans} | {a.code: a.fee for a in SEED.add_ons}
    assert fees == {
        "free": 0,
        "starter": 49,
        "growth": 299,
        "business": 999,
        "business-yearly": 9_990,
        "books-10": 300,
        "books-50": 1_200,
        "books-100": 2_500,
        "order-book": 199,
        "grpc": 299,
    }
    assert [plan.entitlements.coins for plan in SEED.plans[-3:]] == [10, 50, 100]


def test_the_seed_file_is_as_it_would_be_written() -> None:
    assert read_catalogue(write(SEED)) == SEED


def test_the_version_in_force_is_found_by_date() -> None:
    old = SEED.plan("starter", day(1))
    new = replace(old, version=2, effective_from=day(15))
    catalogue = Catalogue(plans=(new, old))
    assert catalogue.plan("starter", day(14, 23)) is old
    assert catalogue.plan("starter", day(15)) is new
    with pytest.raises(LookupError, match="no version of starter is in force at 2025-12-31"):
        catalogue.plan("starter", datetime(2025, 12, 31, tzinfo=UTC))
    with pytest.raises(LookupError):
        catalogue.add_on("starter", day(1))


# --- estimates --------------------------------------------------------------------------------

OFFERS = [Offer(plan) for plan in SEED.plans if not plan.code.startswith("books")]


@pytest.mark.parametrize(
    ("millions", "plan", "per_month"),
    [
        (5, "free", "0.00"),
        (6, "starter", "49.00"),
        (80, "starter", "299.00"),  # as much as Growth, and named first
        (81, "growth", "299.00"),
        (477, "growth", "830.00"),
        (478, "business-yearly", "832.50"),
    ],
)
def test_the_cheapest_that_serves_the_use(millions: int, plan: str, per_month: str) -> None:
    found = cheapest(OFFERS, [Projection("messages", "l2Book", millions * MILLION)])
    assert found is not None
    assert (found.offer.plan.code, f"{found.per_month:f}") == (plan, per_month)


def test_a_plan_that_would_refuse_is_not_the_cheapest() -> None:
    first, *_, last = compare(OFFERS, [Projection("messages", "l2Book", 6 * MILLION)])
    assert first.serves_all
    assert (last.offer.plan.code, last.refused, last.per_month) == ("free", ("messages",), 0)


def test_a_channel_that_is_not_carried_is_named() -> None:
    use = [Projection("messages", "l4Book", MILLION)]
    starter = SEED.plan("starter", day(1))
    assert estimate(Offer(starter), use).missing == ("l4Book",)
    with_book = Offer(starter, ((SEED.add_on("order-book", day(1)), 1),))
    assert estimate(with_book, use).serves_all
    assert cheapest([Offer(starter)], use) is None
    assert cheapest([], use) is None


def test_an_estimate_is_the_invoice_of_a_whole_period() -> None:
    use = [Projection("messages", "l2Book", 54 * MILLION)]
    starter = estimate(Offer(SEED.plan("starter", day(1))), use)
    assert starter.rated.total == november("starter", {("messages", "l2Book"): 54 * MILLION}).total
    yearly = estimate(Offer(SEED.plan("business-yearly", day(1))), use)
    assert yearly.rated.lines[1].quantity == 12 * 54 * MILLION


@pytest.mark.parametrize(
    ("begin", "total"),
    [
        (datetime(2026, 10, 1, tzinfo=UTC), "49.00"),
        (datetime(2026, 11, 1, 10, 30, tzinfo=UTC), "24.50"),
        (datetime(2027, 1, 1, tzinfo=UTC), "49.00"),
    ],
)
def test_discounts_of_an_estimate_are_those_of_its_time(begin: datetime, total: str) -> None:
    half = Discount(
        code="half",
        name="Half",
        starts_at=datetime(2026, 11, 1, tzinfo=UTC),
        ends_at=datetime(2027, 1, 1, tzinfo=UTC),
        percent=Decimal(50),
    )
    starter = Offer(SEED.plan("starter", day(1)))
    use = [Projection("messages", "bbo", 1)]
    assert f"{estimate(starter, use, discounts=[half], at=begin).rated.total:f}" == total
    with pytest.raises(ValueError, match="say `at`"):
        estimate(starter, use, discounts=[half])


def test_days_are_spread_over_months() -> None:
    plan = make_plan("ten-days", "10", interval=Interval(Unit.DAY, 10))
    found = estimate(Offer(plan), [])
    assert found.per_month == Decimal("30.42")  # 10 × 365 / (12 × 10)
    assert found.rated.period == period_at(
        [Anchor(found.rated.period.start, plan.interval)], found.rated.period.start
    )
