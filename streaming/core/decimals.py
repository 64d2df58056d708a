"""Prices and sizes as scaled integers: exact, and quick to add and compare.

One unit is 1e-8, the finest step Hyperliquid writes. The text form is the exchange's own: no
exponent, no needless zeros, but always at least one decimal (`84143.0`, `0.00001`).
"""

from __future__ import annotations

import re
from functools import lru_cache

#: Units in 1.
SCALE = 100_000_000

_DECIMALS = 8
_NUMBER = re.compile(r"(-?)(\d{1,30})(?:\.(\d{1,8}))?", re.ASCII)


def parse(text: str) -> int:
    """The number of 1e-8 units in a wire string.

    Raises ValueError for anything that is not a plain decimal, or is finer than 1e-8: a number is
    never rounded.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"not a decimal of at most {_DECIMALS} places: {text[:40]!r}")
    sign, whole, fraction = match.groups()
    units = int(whole) * SCALE
    if fraction:
        units += int(fraction.ljust(_DECIMALS, "0"))
    return -units if sign else units


def render(units: int) -> str:
    """The wire string of `units`; `parse` is its inverse."""
    return _text(units, _DECIMALS)


def render_mid(bid: int, ask: int) -> str:
    """The exact middle of two prices in units, as a wire string (the half unit needs a ninth
    decimal).
    """
    return _text((bid + ask) * 5, _DECIMALS + 1)


def _text(value: int, places: int) -> str:
    digits = str(abs(value)).rjust(places + 1, "0")
    fraction = digits[-places:].rstrip("0") or "0"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{fraction}"


# Prices come back, so their strings are cached: the 51,351 orders of the recorded BTC book stand at
# 21,381 prices, and 1,159 recorded changes touched 227 of them. Sizes are not cached: they would
# only push the prices out.
parse_price = lru_cache(maxsize=1 << 16)(parse)
render_price = lru_cache(maxsize=1 << 16)(render)
