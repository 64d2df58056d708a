"""US dollars as Decimal, and the one place that rounds.

**The rounding rule.** Everything is exact until a line of an invoice is finished; then its amount
becomes whole cents, halves away from zero, once. What stands on a line for itself (the tax on it)
is rounded the same way. A total is a sum of rounded amounts and is never rounded again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import (
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)

CURRENCY = "USD"
#: Decimals of an amount: cents. Of a price: 0.00000001 dollar, and a price may be for many units.
AMOUNT_PLACES = 2
PRICE_PLACES = 8
#: Below it every amount stays: what a database column of 20 digits holds.
AMOUNT_LIMIT = Decimal(10) ** 18

ZERO = Decimal(0)
CENT = Decimal(1).scaleb(-AMOUNT_PLACES)

# The widest product there is (units × weight × price: 19 + 10 + 17 digits) needs 46 digits, so
# anything inexact within 80 is a mistake of ours, and raises. The ambient context of a thread has
# 28 digits and rounds without a word.
_EXACT = Context(
    prec=80,
    rounding=ROUND_HALF_UP,
    traps=[Inexact, InvalidOperation, DivisionByZero, Overflow],
)
# A quotient of seconds seldom ends, but is never so near to half a cent that 80 digits misjudge it:
# a fraction over n differs from any other over 1000 by at least 1 / (1000 n).
_QUOTIENT = Context(
    prec=80, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow]
)


class AmountTooLarge(ValueError):
    """An amount of 10^18 dollars or more: no invoice, but a slip in a price."""


def exact() -> AbstractContextManager[Context]:
    """Within it, Decimal arithmetic is exact or raises `decimal.Inexact`."""
    return localcontext(_EXACT)


def quotient(numerator: Decimal, denominator: Decimal | int) -> Decimal:
    """The quotient to 80 digits: only to be shown, or to be rounded at once."""
    return _QUOTIENT.divide(numerator, Decimal(denominator))


def rounded(amount: Decimal) -> Decimal:
    """`amount` in whole cents, halves away from zero, never `-0.00`. Raises AmountTooLarge."""
    if abs(amount) >= AMOUNT_LIMIT:
        raise AmountTooLarge(f"{amount:.0f} {CURRENCY} is beyond 10^18")
    cents = amount.quantize(CENT, rounding=ROUND_HALF_UP, context=_QUOTIENT)
    return cents if cents else ZERO.quantize(CENT)


def rounded_down(amount: Decimal) -> Decimal:
    """`amount`, 0 or more, in whole cents, and never more than it: a limit, not a price."""
    return amount.quantize(CENT, rounding=ROUND_FLOOR, context=_QUOTIENT)


def render(number: Decimal) -> str:
    """`number` as plain digits, without an exponent and needless zeros: `0.000005`, `49`, `1.5`."""
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def render_amount(amount: Decimal) -> str:
    """`amount` with its two decimals: `49.00`. Raises ValueError when it has more: round first."""
    cents = amount.quantize(CENT, context=_QUOTIENT)
    if cents != amount:
        raise ValueError(f"{render(amount)} is not in whole cents")
    return f"{cents:f}"
