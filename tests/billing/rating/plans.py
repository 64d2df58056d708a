"""Random prices, within the limits of a document, and plain ones to start from."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from string import ascii_lowercase
from typing import Any

from hypothesis import strategies as st

from billing.rating.document import PER
from billing.rating.invoice import Rated, Usage
from billing.rating.periods import Anchor, period_at
from billing.rating.prices import (
    AddOnPrices,
    Discount,
    Entitlements,
    Flat,
    Graduated,
    Interval,
    Meter,
    Metric,
    Override,
    Package,
    PerUnit,
    PlanPrices,
    Pricing,
    Tier,
    Trial,
    Unit,
    Volume,
)
from billing.rating.rate import rate
from billing.rating.segments import PlanSpan, segments

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
CHANNELS = ("l2Book", "l4Book", "trades", "info")
REASONS = ("resync", "replay", "dashboard")
CODES = ("messages", "bytes", "requests")

codes = st.from_regex(re.compile(r"[a-z0-9]{1,8}(?:[-_][a-z0-9]{1,8})?", re.ASCII), fullmatch=True)
names = st.text(ascii_lowercase + "ä🜁 &=", min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)
fees = st.one_of(
    st.just(Decimal(0)),
    st.sampled_from([Decimal("49"), Decimal("0.01"), Decimal("299.99"), Decimal(10**9)]),
    st.decimals(0, 10_000, places=2),
)
prices = st.one_of(
    st.just(Decimal(0)),
    st.decimals(0, 100, places=7),
    st.decimals(0, 1, places=8),
    st.sampled_from([Decimal("0.0000005"), Decimal(5), Decimal("1000.05")]),
)
pers = st.sampled_from(PER)
amounts_included = st.one_of(st.just(0), st.integers(0, 10**7), st.just(2**63 - 1))
hours = st.integers(0, 10_000).map(lambda n: JANUARY + timedelta(hours=n))


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    bounds = sorted(draw(st.sets(st.integers(1, 10**7), max_size=4)))
    return tuple(Tier(up_to, draw(prices), draw(pers)) for up_to in [*bounds, None])


pricings: st.SearchStrategy[Pricing] = st.one_of(
    st.builds(Flat, prices),
    st.builds(PerUnit, prices, pers),
    st.builds(Graduated, tiers()),
    st.builds(Volume, tiers()),
    st.builds(Package, prices, st.integers(1, 10**7)),
)


@st.composite
def meters(draw: st.DrawFn, codes_: tuple[str, ...] = CODES) -> tuple[Meter, ...]:
    """For each of some metrics a meter of all channels, or one of some and one of the rest.

    Their codes are the metrics' names, now and then another one's: a code says nothing.
    """
    found = []
    metrics = draw(st.sets(st.sampled_from(codes_)))
    others = draw(st.one_of(st.just(codes_), st.permutations(codes_)))
    for code, metric in zip(codes_, others, strict=True):
        if metric not in metrics:
            continue
        named = draw(st.sets(st.sampled_from(CHANNELS), max_size=2))
        for channels in {tuple(sorted(named)), ()}:
            found.append(
                Meter(
                    code=f"{code}-named" if channels else code,
                    name=code.title(),
                    metric=Metric(metric),
                    pricing=draw(pricings),
                    channels=channels,
                    weights=draw(
                        st.dictionaries(
                            st.sampled_from(CHANNELS), st.decimals(0, 100, places=4), max_size=2
                        )
                    ),
                    included=draw(amounts_included),
                    overage=draw(st.booleans()),
                    cap=draw(st.one_of(st.none(), fees)),
                    zero_rated=tuple(sorted(draw(st.sets(st.sampled_from(REASONS))))),
                )
            )
    return tuple(found)


limits = st.one_of(st.none(), st.integers(0, 1_000_000))


@st.composite
def entitlements(draw: st.DrawFn) -> Entitlements:
    rate = draw(st.integers(0, 1_000))
    return Entitlements(
        products=tuple(draw(st.sets(codes, max_size=3))),
        channels=draw(st.one_of(st.none(), st.sets(st.sampled_from(CHANNELS)).map(tuple))),
        regions=draw(st.one_of(st.none(), st.sets(codes, max_size=2).map(tuple))),
        connections=draw(limits),
        subscriptions=draw(limits),
        coins=draw(limits),
        users=draw(limits),
        requests_per_s=rate,
        burst=draw(st.one_of(st.none(), st.integers(rate, 10_000))),
        retention_hours=draw(limits),
    )


def plans(interval: st.SearchStrategy[Interval]) -> st.SearchStrategy[PlanPrices]:
    return st.builds(
        PlanPrices,
        code=codes,
        name=names,
        version=st.integers(1, 1_000_000),
        effective_from=hours,
        fee=fees,
        interval=interval,
        trial=st.one_of(st.none(), st.builds(Trial, st.integers(1, 366), converts=st.booleans())),
        entitlements=entitlements(),
        meters=meters(),
    )


intervals = st.builds(Interval, st.sampled_from(list(Unit)), st.integers(1, 10))
add_ons = st.builds(
    AddOnPrices,
    code=codes,
    name=names,
    version=st.integers(1, 1_000_000),
    effective_from=hours,
    fee=fees,
    included=st.dictionaries(st.sampled_from(CODES), amounts_included),
    entitlements=entitlements(),
)
overrides = st.builds(
    Override,
    plan=codes,
    starts_at=hours,
    ends_at=st.one_of(st.none(), st.just(JANUARY + timedelta(days=1_000))),
    fee=st.one_of(st.none(), fees),
    entitlements=st.one_of(st.none(), entitlements()),
    meters=meters(),
)
discounts = st.builds(
    lambda either, **fields: Discount(**fields, **either),
    st.one_of(
        st.decimals(0, 100, places=4).map(lambda percent: {"percent": percent}),
        fees.map(lambda amount: {"amount": amount}),
    ),
    code=codes,
    name=names,
    starts_at=hours,
    ends_at=st.one_of(st.none(), st.just(JANUARY + timedelta(days=1_000))),
    applies_to=st.sampled_from(["invoice", "plan_fee", "usage", "usage:messages", "add_on_fee:x"]),
)


# --- plain ones, to work out by hand ----------------------------------------------------------

NOVEMBER = period_at(
    [Anchor(datetime(2026, 11, 1, tzinfo=UTC), Interval())], datetime(2026, 11, 1, tzinfo=UTC)
)
MESSAGES = Meter(
    code="messages", name="Messages", metric=Metric.MESSAGES, pricing=Flat(Decimal(0)), overage=True
)


def day(n: int, hour: int = 0, minute: int = 0) -> datetime:
    """A time in November 2026, which has 30 days."""
    return datetime(2026, 11, n, hour, minute, tzinfo=UTC)


def make_plan(
    code: str, fee: str | Decimal, *meters: Meter, interval: Interval = NOVEMBER.interval
) -> PlanPrices:
    return PlanPrices(
        code=code,
        name=code.title(),
        version=1,
        effective_from=JANUARY,
        fee=Decimal(fee),
        interval=interval,
        meters=meters,
    )


def used(at: datetime, units: int, channel: str = "l2Book", reason: str = "") -> Usage:
    return Usage(at, "messages", channel, reason, units)


def november_with(pricing: Pricing, units: int, **options: Any) -> Rated:
    """A month without a fee, on one meter of messages."""
    meter = replace(MESSAGES, pricing=pricing, **options)
    spans = [PlanSpan(make_plan("plan", "0", meter), NOVEMBER.start)]
    return rate(NOVEMBER, segments(NOVEMBER, spans), [used(day(3), units)])
