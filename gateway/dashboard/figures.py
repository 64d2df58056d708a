"""Numbers as pages show them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

_CENT = Decimal("0.01")


def whole(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def money(amount: Decimal | None) -> str:
    """Dollars and cents, `$1,234.50`; None is a dash."""
    if amount is None:
        return "—"
    shown = amount.quantize(_CENT, ROUND_HALF_UP)
    return f"-${-shown:,}" if shown < 0 else f"${shown:,}"


def size(number: int) -> str:
    """Bytes in the largest unit that they are at least one of: `12.3 GB`."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def rate(number: float) -> str:
    """A rate a second, to three digits at most: `0.042`, `4.2`, `1,234`."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:,.1f}" if number >= 10 else f"{number:.2f}" if number >= 1 else f"{number:.3f}"


def quantity(number: Decimal) -> str:
    """`1,234,567` or `0.25`: without zeros that say nothing."""
    return f"{number:,f}".rstrip("0").rstrip(".") if number % 1 else f"{number:,.0f}"


def short(number: int) -> str:
    """A count to three digits: `987`, `12.3 k`, `4.56 M`."""
    if number < 1000:
        return str(number)
    value = float(number)
    for unit in ("k", "M"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}"
    value /= 1000
    return f"{value:.3g} B" if value < 999.5 else f"{value:,.0f} B"


def minus(number: Decimal | int) -> Decimal | int:
    """The other way round."""
    return -number
