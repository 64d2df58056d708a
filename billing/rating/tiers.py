"""What a number of charged units costs, under each pricing model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from billing.rating.money import ZERO, exact
from billing.rating.prices import Flat, Graduated, Package, PerUnit, Pricing, Tier, Volume


class Share(StrEnum):
    """Why a part of a usage line costs what it costs."""

    INCLUDED = "included"
    TIER = "tier"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPart:
    """`quantity` units at `price` for `per` of them, `amount` together and exact.

    `above` and `up_to` bound the tier (None: open) in charged units; of an included part, `up_to`
    is how many are included. A package's `price` is for each of `packages`, of `per` units.
    """

    share: Share
    quantity: Decimal
    amount: Decimal = ZERO
    price: Decimal = ZERO
    per: int = 1
    above: int = 0
    up_to: int | None = None
    packages: int | None = None


def charge(pricing: Pricing, quantity: Decimal) -> tuple[TierPart, ...]:
    """The parts of the price of `quantity` charged units, none for 0. Exact: call it within
    `money.exact()`."""
    if not quantity:
        return ()
    match pricing:
        case Flat(price):
            return (TierPart(share=Share.TIER, quantity=quantity, amount=price, price=price),)
        case PerUnit(price, per):
            return (_part(Tier(None, price, per), 0, quantity),)
        case Graduated(tiers):
            return tuple(_graduated(tiers, quantity))
        case Volume(tiers):
            return (_volume(tiers, quantity),)
        case Package(price, size):
            return (_packages(price, size, quantity),)


def units_within(pricing: Pricing, budget: Decimal) -> int | None:
    """How many charged units a budget pays for: neither they nor any fewer cost more. None for any
    number. It is what a spend cap becomes where units are admitted."""
    with exact():
        match pricing:
            case Flat(price):
                return None if price <= budget else 0
            case PerUnit(price, per):
                return _afforded(Tier(None, price, per), budget)
            case Package(price, size):
                return size * int(budget // price) if price else None
            case Graduated(tiers):
                return _afforded_in_turn(tiers, budget)
            case Volume(tiers):
                return _afforded_at_once(tiers, budget)


def _afforded(tier: Tier, budget: Decimal) -> int | None:
    return int(budget * tier.per // tier.price) if tier.price else None


def _afforded_in_turn(tiers: tuple[Tier, ...], budget: Decimal) -> int | None:
    above = 0
    for tier in tiers:
        units = _afforded(tier, budget)
        if tier.up_to is None or (units is not None and units < tier.up_to - above):
            return None if units is None else above + units
        budget -= (tier.up_to - above) * tier.price / tier.per
        above = tier.up_to
    raise ValueError("the last tier is not open")


def _afforded_at_once(tiers: tuple[Tier, ...], budget: Decimal) -> int | None:
    above = 0
    for tier in tiers:
        units = _afforded(tier, budget)
        if tier.up_to is None or (units is not None and units < tier.up_to):
            # A dearer tier may cost too much from its first unit on.
            return None if units is None else max(above, units)
        above = tier.up_to
    raise ValueError("the last tier is not open")


def _graduated(tiers: tuple[Tier, ...], quantity: Decimal) -> Iterator[TierPart]:
    above = 0
    for tier in tiers:
        within = quantity if tier.up_to is None else min(quantity, Decimal(tier.up_to))
        if within > above:
            yield _part(tier, above, within - above)
        above = tier.up_to or above


def _volume(tiers: tuple[Tier, ...], quantity: Decimal) -> TierPart:
    above = 0
    for tier in tiers:
        if tier.up_to is None or quantity <= tier.up_to:
            return _part(tier, above, quantity)
        above = tier.up_to
    raise ValueError("the last tier is not open")


def _packages(price: Decimal, size: int, quantity: Decimal) -> TierPart:
    whole, rest = divmod(quantity, size)
    packages = int(whole) + bool(rest)
    return TierPart(
        share=Share.TIER,
        quantity=quantity,
        amount=packages * price,
        price=price,
        per=size,
        packages=packages,
    )


def _part(tier: Tier, above: int, quantity: Decimal) -> TierPart:
    return TierPart(
        share=Share.TIER,
        quantity=quantity,
        # `per` is a power of ten, so the division is exact.
        amount=quantity * tier.price / tier.per,
        price=tier.price,
        per=tier.per,
        above=above,
        up_to=tier.up_to,
    )
