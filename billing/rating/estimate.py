"""What a projected use would cost under several plans, and under which it costs least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from billing.rating import money
from billing.rating.invoice import NO_TAX, Rated, Tax, Usage
from billing.rating.periods import Anchor, full_hour, period_at
from billing.rating.prices import AddOnPrices, Discount, Interval, PlanPrices, Unit
from billing.rating.rate import rate
from billing.rating.segments import Segment, entitled
from billing.rating.tiers import Share, TierPart

# Any will do without discounts: a whole period costs the same wherever it lies.
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_MONTHS_PER_YEAR = 12
_DAYS_PER_YEAR = 365


class Projection(NamedTuple):
    """`units` a month that a tenant expects to use of one metric on one channel."""

    metric: str
    channel: str
    units: int


class Offer(NamedTuple):
    """A plan with the add-ons that would be bought with it, and how many of each."""

    plan: PlanPrices
    add_ons: tuple[tuple[AddOnPrices, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an offer costs: `rated` is the invoice of a whole period, `per_month` its total spread
    over the months of it, in whole cents, halves up.

    `refused` names the meters whose allowance the use exceeds, `missing` the channels that the
    offer does not carry: with either, it would not serve the use.
    """

    offer: Offer
    rated: Rated
    per_month: Decimal
    refused: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def serves_all(self) -> bool:
        """Whether nothing of the projected use would be turned away."""
        return not self.refused and not self.missing


def estimate(
    offer: Offer,
    projected: Iterable[Projection],
    *,
    discounts: Sequence[Discount] = (),
    tax: Tax = NO_TAX,
    at: datetime | None = None,
) -> Estimate:
    """The price of a whole period of `offer` that begins `at`, after its trial, at the projected
    use. Only discounts hang on the time, and with them it must be given.

    Use that no meter of the plan counts is free under it (`rated.unmetered`), so to compare plans
    that charge for different metrics, project all of them. Raises as `rate`, and ValueError for
    discounts without a time.
    """
    if at is None and discounts:
        raise ValueError("discounts hold at their time: say `at` when the period begins")
    interval, begin = offer.plan.interval, at or _ANY_TIME
    period = period_at([Anchor(begin, interval)], begin)
    segment = Segment(start=period.start, end=period.end, plan=offer.plan, add_ons=offer.add_ons)
    months, of = _months(interval)
    usage = [
        Usage(full_hour(period.start), use.metric, use.channel, "", -(-use.units * months // of))
        for use in projected
    ]
    rated = rate(period, [segment], usage, discounts=discounts, tax=tax)
    channels = entitled(segment).channels
    return Estimate(
        offer=offer,
        rated=rated,
        per_month=money.rounded(money.quotient(rated.total * of, months)),
        refused=tuple(
            line.code
            for line in rated.lines
            if any(isinstance(p, TierPart) and p.share is Share.REFUSED for p in line.parts)
        ),
        missing=tuple(
            dict.fromkeys(
                use.channel
                for use in usage
                if use.units and channels is not None and use.channel not in channels
            )
        ),
    )


def compare(offers: Iterable[Offer], projected: Sequence[Projection]) -> tuple[Estimate, ...]:
    """An estimate for each offer: those that serve all of the use first, the cheapest leading; of
    two at one price, the one named first."""
    estimates = [estimate(offer, projected) for offer in offers]
    return tuple(sorted(estimates, key=lambda found: (not found.serves_all, found.per_month)))


def cheapest(offers: Iterable[Offer], projected: Sequence[Projection]) -> Estimate | None:
    """The cheapest that serves all of the use; None when none does."""
    best = next(iter(compare(offers, projected)), None)
    return best if best is not None and best.serves_all else None


def _months(interval: Interval) -> tuple[int, int]:
    """How many months an interval is, as a fraction. A day is the 365th part of a year."""
    match interval.unit:
        case Unit.MONTH:
            return interval.every, 1
        case Unit.YEAR:
            return interval.every * _MONTHS_PER_YEAR, 1
        case Unit.DAY:
            return interval.every * _MONTHS_PER_YEAR, _DAYS_PER_YEAR
