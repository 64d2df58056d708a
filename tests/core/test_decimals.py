"""Wire strings are exact integers and back."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.decimals import SCALE, parse, render, render_mid

UNITS = st.integers(-(10**24), 10**24)


@given(UNITS)
def test_parse_of_render_is_identity(units: int) -> None:
    assert parse(render(units)) == units


@given(UNITS)
def test_text_is_exact_plain_and_short(units: int) -> None:
    text = render(units)
    assert Decimal(text) == Decimal(units) / SCALE
    assert re.fullmatch(r"-?(0|[1-9]\d*)\.(\d*[1-9]|0)", text)


@pytest.mark.parametrize("text", ["84143.0", "0.00001", "0.6435", "0.0", "-0.0213", "1.0"])
def test_wire_strings_come_back_as_they_were(text: str) -> None:
    assert render(parse(text)) == text


@pytest.mark.parametrize(("text", "units"), [("5", 5 * SCALE), ("007.10", 710_000_000)])
def test_other_spellings_are_read(text: str, units: int) -> None:
    assert parse(text) == units


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".5", "1e5", "NaN", "1_0", " 1", "1.0\n", "0.000000001", "\u0661", "+1", "0x1"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal"):
        parse(text)


@given(st.integers(0, 10**16), st.integers(0, 10**16))
def test_mid_is_exact(bid: int, ask: int) -> None:
    assert Decimal(render_mid(bid, ask)) == (Decimal(bid) + Decimal(ask)) / 2 / SCALE


def test_mid_may_need_one_decimal_more_than_a_price() -> None:
    assert render_mid(parse("81307.0"), parse("81308.0")) == "81307.5"
    assert render_mid(1, 2) == "0.000000015"
