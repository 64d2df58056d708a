"""A second rating, written from the description alone, in whole numbers and fractions.

It shares no code with `billing.rating`: it reads the fields of its values, and nothing else.
Terms are looked up between all instants at which anything changes, tiers are walked from the top,
and everything is a Fraction of a dollar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

Seconds = int


def cents(dollars: Fraction) -> int:
    """Whole cents, halves away from zero."""
    scaled = abs(dollars) * 100
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return whole if dollars >= 0 else -whole


def stamp(at: datetime) -> Seconds:
    return int(at.timestamp() // 1)


@dataclass(frozen=True)
class Terms:
    """What holds in `[start, end)`, in seconds since 1970."""

    start: Seconds
    end: Seconds
    plan: Any
    own: Any
    add_ons: tuple[tuple[Any, int], ...]
    trial: bool

    @property
    def fee(self) -> Fraction:
        own_fee = None if self.own is None else self.own.fee
        return Fraction(self.plan.fee if own_fee is None else own_fee)

    @property
    def meters(self) -> dict[str, Any]:
        found = {} if self.own is None else {meter.code: meter for meter in self.own.meters}
        # A meter of the tenant's own that names no channel and is not the plan's "all others" under
        # the same code has the metric for itself.
        alone = {
            mine.metric
            for mine in found.values()
            if not mine.channels
            and not any(
                theirs.code == mine.code and theirs.metric == mine.metric and not theirs.channels
                for theirs in self.plan.meters
            )
        }
        for meter in self.plan.meters:
            if meter.metric not in alone:
                found.setdefault(meter.code, meter)
        return found

    def included(self, code: str) -> int:
        extra = sum(n * add_on.included.get(code, 0) for add_on, n in self.add_ons)
        return self.meters[code].included + extra

    def meter_for(self, metric: str, channel: str) -> Any:
        named = [m for m in self.meters.values() if m.metric == metric and channel in m.channels]
        general = [m for m in self.meters.values() if m.metric == metric and not m.channels]
        return (named + general + [None])[0]


def within(at: Seconds, start: datetime, end: datetime | None) -> bool:
    return stamp(start) <= at and (end is None or at < stamp(end))


def terms_of(
    period: Any, plans: Sequence[Any], add_ons: Sequence[Any], overrides: Sequence[Any]
) -> list[Terms]:
    """The terms between every two instants at which anything begins or ends."""
    cuts = {stamp(period.start), stamp(period.end)}
    for span in plans:
        cuts |= {stamp(at) for at in (span.start, span.end, span.trial_end) if at}
    for span in add_ons:
        cuts |= {stamp(at) for at in (span.start, span.end) if at}
    for own in overrides:
        cuts |= {stamp(at) for at in (own.starts_at, own.ends_at) if at}
    found = []
    inside = sorted(at for at in cuts if stamp(period.start) <= at <= stamp(period.end))
    for start, end in pairwise(inside):
        for span in plans:
            if within(start, span.start, span.end):
                own = [
                    own
                    for own in overrides
                    if own.plan == span.plan.code and within(start, own.starts_at, own.ends_at)
                ]
                held = [s for s in add_ons if within(start, s.start, s.end)]
                trial = span.trial_end is not None and start < stamp(span.trial_end)
                found.append(
                    Terms(
                        start,
                        end,
                        span.plan,
                        own[0] if own else None,
                        tuple((s.add_on, s.quantity) for s in held),
                        trial,
                    )
                )
    return found


def price_of(pricing: Any, quantity: Fraction) -> Fraction:
    """What `quantity` charged units cost."""
    if quantity == 0:
        return Fraction(0)
    match type(pricing).__name__:
        case "Flat":
            return Fraction(pricing.price)
        case "PerUnit":
            return quantity * Fraction(pricing.price) / pricing.per
        case "Package":
            packages = -(-quantity // pricing.size)
            return packages * Fraction(pricing.price)
        case "Volume":
            rates = [t for t in pricing.tiers if t.up_to is None or quantity <= t.up_to]
            return quantity * Fraction(rates[0].price) / rates[0].per
        case "Graduated":
            cost, left = Fraction(0), quantity
            floors = [0, *(t.up_to for t in pricing.tiers[:-1])]
            for tier, floor in reversed(list(zip(pricing.tiers, floors, strict=True))):
                if left > floor:
                    cost += (left - floor) * Fraction(tier.price) / tier.per
                    left = Fraction(floor)
            return cost
    raise AssertionError(pricing)


def rate_again(
    period: Any,
    plans: Sequence[Any],
    usage: Sequence[Any],
    *,
    add_ons: Sequence[Any] = (),
    overrides: Sequence[Any] = (),
    tax_percent: Fraction = Fraction(0),
) -> dict[str, list[int]]:
    """The amounts of all lines in cents, by kind, ascending, and the tax and total."""
    terms = terms_of(period, plans, add_ons, overrides)
    full_s = stamp(period.full_end) - stamp(period.start)
    kinds: dict[str, list[int]] = {"plan_fee": [], "add_on_fee": [], "usage": []}

    plan_fees: dict[Any, Fraction] = {}
    add_on_fees: dict[Any, Fraction] = {}
    for term in terms:
        share = Fraction(0 if term.trial else term.end - term.start, full_s)
        key = (term.plan.code, term.plan.name, term.fee)
        plan_fees[key] = plan_fees.get(key, Fraction(0)) + share * term.fee
        for add_on, n in term.add_ons:
            key = (add_on.code, add_on.name, add_on.fee, n)
            add_on_fees[key] = add_on_fees.get(key, Fraction(0)) + share * n * Fraction(add_on.fee)
    kinds["plan_fee"] = [cents(fee) for fee in plan_fees.values()]
    kinds["add_on_fee"] = [cents(fee) for fee in add_on_fees.values()]

    for code, metric in {(m.code, m.metric) for term in terms for m in term.meters.values()}:
        kinds["usage"] += _meter_cents(code, metric, terms, usage, full_s)

    amounts = [amount for kind in kinds.values() for amount in kind]
    taxes = [cents(Fraction(amount, 100) * tax_percent / 100) for amount in amounts]
    return {
        **{kind: sorted(found) for kind, found in kinds.items()},
        "tax": [sum(taxes)],
        "total": [sum(amounts) + sum(taxes)],
    }


def discount_again(
    discount: Any, period: Any, lines: Sequence[tuple[str, str, int]]
) -> tuple[int, Fraction]:
    """What a discount takes off lines of (kind, code, cents): the most it could, and exactly."""
    wanted = discount.applies_to.split(":")
    base = sum(
        amount
        for kind, code, amount in lines
        if wanted == ["invoice"] or wanted in ([kind], [kind, code])
    )
    first, last = stamp(period.start), stamp(period.end)
    begin = max(first, stamp(discount.starts_at))
    end = last if discount.ends_at is None else min(last, stamp(discount.ends_at))
    in_force = max(0, end - begin)
    if discount.percent is not None:
        share = Fraction(in_force, last - first) * Fraction(discount.percent) / 100
        return base, Fraction(base, 100) * share
    full = Fraction(in_force, stamp(period.full_end) - first) * Fraction(discount.amount)
    return base, min(Fraction(base, 100), full)


def settle_again(
    discounts: Sequence[Any],
    period: Any,
    lines: Sequence[tuple[str, str, int]],
    tax_percent: Fraction,
) -> tuple[int, int]:
    """The cents without tax and of tax that discounts leave of lines of (kind, code, cents).

    Each discount eats its cents out of its lines, one line after the other; each line is taxed on
    the cents that nothing ate.
    """
    rest = list(lines)
    for discount in discounts:
        _, exact = discount_again(discount, period, rest)
        wanted = discount.applies_to.split(":")
        hunger = cents(exact)
        for n, (kind, code, amount) in enumerate(rest):
            if wanted == ["invoice"] or wanted in ([kind], [kind, code]):
                bite = hunger if hunger < amount else amount
                rest[n] = (kind, code, amount - bite)
                hunger -= bite
    taxes = [cents(Fraction(amount, 100) * tax_percent / 100) for *_, amount in rest]
    return sum(amount for *_, amount in rest), sum(taxes)


def _meter_cents(
    code: str, metric: str, terms: list[Terms], usage: Sequence[Any], full_s: int
) -> list[int]:
    having = [t for t in terms if code in t.meters and t.meters[code].metric == metric]
    left = {True: Fraction(0), False: Fraction(0)}
    for term in having:
        left[term.trial] += Fraction(term.included(code) * (term.end - term.start), full_s)
    left = {trial: Fraction(-(-share // 1)) for trial, share in left.items()}
    # One entry for each set of prices, in the order they were first used.
    charged: list[tuple[Any, Fraction]] = []
    for term in having:
        meter = term.meters[code]
        rows = [
            row
            for row in usage
            if row.units
            and paying(row.hour, terms) is term
            and term.meter_for(row.metric, row.channel) is meter
            # R20: what is sent again, and shown to the customer, is free, whatever the meter says.
            and row.reason not in {"replay", "resync", "dashboard", *meter.zero_rated}
        ]
        if not rows:
            continue
        quantity = sum(
            (row.units * Fraction(meter.weights.get(row.channel, 1)) for row in rows), Fraction(0)
        )
        free = min(quantity, left[term.trial])
        left[term.trial] -= free
        prices = (meter.pricing, meter.cap, meter.overage, term.trial)
        beyond = quantity - free if meter.overage and not term.trial else Fraction(0)
        for n, (known, before) in enumerate(charged):
            if known == prices:
                charged[n] = (known, before + beyond)
                break
        else:
            charged.append((prices, beyond))
    found: list[int] = []
    largest, under_caps = 0, 0  # cents: the largest cap so far, and what was charged under any
    for (pricing, cap, *_), quantity in charged:
        asked = cents(price_of(pricing, quantity))
        if cap is not None:
            own = int(Fraction(cap) * 100)
            largest = max(largest, own)
            asked = min(asked, own, largest - under_caps)
            under_caps += asked
        found.append(asked)
    return found


def paying(hour: datetime, terms: list[Terms]) -> Terms | None:
    """The earliest terms that hold at some time within the hour: of an hour of this period, those
    at its beginning or the first that begin in it."""
    first, last = stamp(hour), stamp(hour + timedelta(hours=1))
    touching = [term for term in terms if term.start < last and term.end > first]
    return min(touching, key=lambda term: term.start, default=None)


def period_of_hour(hour: datetime, all_periods: Sequence[Any], plans: Sequence[Any]) -> int:
    """Which period an hour's usage is billed in, looked for second by second.

    The one in which, within the hour, a plan is in force for the first time; in an hour without a
    plan, the one at its beginning; before all of them, the first.
    """
    first = stamp(hour)
    moments = {first, *(stamp(plan.start) for plan in plans)}
    held = [
        at
        for at in sorted(moments)
        if first <= at < first + 3_600 and any(within(at, plan.start, plan.end) for plan in plans)
    ]
    at = held[0] if held else first
    inside = [n for n, p in enumerate(all_periods) if stamp(p.start) <= at < stamp(p.end)]
    return inside[0] if inside else 0
