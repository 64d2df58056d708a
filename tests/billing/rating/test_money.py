"""Money is exact until it is rounded once, and is written without exponents."""

from __future__ import annotations

from decimal import Decimal, Inexact, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating import money
from tests.billing.rating.second import cents


@pytest.mark.parametrize(
    ("exact", "shown"),
    [
        ("0.005", "0.01"),
        ("0.0049999999", "0.00"),
        ("-0.005", "-0.01"),
        ("-0.001", "0.00"),
        ("1.005", "1.01"),
        ("2.665", "2.67"),
        ("49", "49.00"),
        ("1E+3", "1000.00"),
    ],
)
def test_halves_go_away_from_zero(exact: str, shown: str) -> None:
    assert money.render_amount(money.rounded(Decimal(exact))) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("0.00000001", "0.00000001"),
        ("1E-8", "0.00000001"),
        ("5.00", "5"),
        ("1E+6", "1000000"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("0.10", "0.1"),
        ("100", "100"),
    ],
)
def test_numbers_are_written_without_exponents(number: str, shown: str) -> None:
    assert money.render(Decimal(number)) == shown


@given(st.integers(-(10**20), 10**20), st.integers(1, 10**9))
def test_a_rounded_quotient_is_that_of_whole_numbers(amount: int, divisor: int) -> None:
    quotient = money.quotient(Decimal(amount), divisor * 1000)
    if abs(quotient) >= money.AMOUNT_LIMIT:
        return
    assert money.rounded(quotient) * 100 == cents(Fraction(amount, divisor * 1000))


@given(st.integers(0, 2**63 - 1), st.decimals(0, 10**9, places=8), st.decimals(0, 10**5, places=4))
def test_the_widest_products_are_exact(units: int, price: Decimal, weight: Decimal) -> None:
    with money.exact():
        product = units * weight * price / 10**12
    assert Fraction(product) == units * Fraction(weight) * Fraction(price) / 10**12


def test_what_would_not_be_exact_raises() -> None:
    with money.exact(), pytest.raises(Inexact):
        Decimal(1) / 3


def test_rounding_does_not_depend_on_the_callers_context() -> None:
    with localcontext() as ambient:
        ambient.prec = 3
        assert money.rounded(Decimal("123456.785")) == Decimal("123456.79")
        assert money.render_amount(Decimal("123456.79")) == "123456.79"


def test_no_amount_is_wider_than_its_column() -> None:
    assert money.rounded(money.AMOUNT_LIMIT - 1) == money.AMOUNT_LIMIT - 1
    with pytest.raises(money.AmountTooLarge, match="10\\^18"):
        money.rounded(money.AMOUNT_LIMIT)


def test_fractions_of_a_cent_are_not_rendered_as_an_amount() -> None:
    with pytest.raises(ValueError, match="whole cents"):
        money.render_amount(Decimal("0.001"))
