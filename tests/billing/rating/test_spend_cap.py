"""A budget becomes the greatest number of units that it pays for."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.prices import Flat, Graduated, Package, PerUnit, Pricing, Tier, Volume
from billing.rating.tiers import units_within
from tests.billing.rating import plans
from tests.billing.rating.second import price_of

DEARER = (Tier(100, Decimal("0.1")), Tier(None, Decimal("0.2")))


@pytest.mark.parametrize(
    ("pricing", "budget", "units"),
    [
        (Flat(Decimal(5)), "4.99", 0),
        (Flat(Decimal(5)), "5", None),
        (PerUnit(Decimal(5), 1_000_000), "49", 9_800_000),
        (PerUnit(Decimal(0)), "0", None),
        (Package(Decimal(10), 1_000), "29.99", 2_000),
        (Graduated(DEARER), "10", 100),
        (Graduated(DEARER), "10.39", 101),
        (Volume(DEARER), "10", 100),
        (Volume(DEARER), "20.19", 100),
        (Volume(DEARER), "20.2", 101),
    ],
)
def test_a_budget_by_hand(pricing: Pricing, budget: str, units: int | None) -> None:
    assert units_within(pricing, Decimal(budget)) == units


@given(plans.pricings, plans.fees, st.data())
def test_a_budget_is_used_up_and_never_overdrawn(
    pricing: Pricing, budget: Decimal, data: st.DataObject
) -> None:
    units = units_within(pricing, budget)
    fewer = data.draw(st.integers(0, 10**15 if units is None else units))
    assert price_of(pricing, Fraction(fewer)) <= budget
    if units is not None:
        assert price_of(pricing, Fraction(units)) <= budget < price_of(pricing, Fraction(units + 1))
