"""What of an invoice's lines can still be credited: pure arithmetic.

A line is credited by parts of its net, which is what discounts left of it. The tax goes along in
proportion: after any number of credits the tax that was given back is the line's tax by the share
of its net that was, rounded. So all parts together are the line's net and tax to the cent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.rating.money import quotient, rounded

ZERO = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Left:
    """A line of `net` and `tax`, and what of both is not credited yet."""

    net: Decimal
    tax: Decimal
    net_left: Decimal
    tax_left: Decimal

    def tax_with(self, amount: Decimal) -> Decimal:
        """The tax that goes with `amount` of a net above 0."""
        if amount == self.net_left:
            return self.tax_left
        given = self.net - self.net_left + amount
        due = rounded(quotient(self.tax * given, self.net)) - (self.tax - self.tax_left)
        return min(max(due, ZERO), self.tax_left)


@dataclass(frozen=True, slots=True)
class Sums:
    """Net and tax of an invoice, or of a part of it."""

    net: Decimal
    tax: Decimal

    @property
    def total(self) -> Decimal:
        """Both."""
        return self.net + self.tax

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.net - other.net, self.tax - other.tax)


def summed(parts: Iterable[tuple[Decimal, Decimal]]) -> Sums:
    """The sums of nets and taxes."""
    net = tax = ZERO
    for one, other in parts:
        net, tax = net + one, tax + other
    return Sums(net, tax)


def less(net: Decimal, tax: Decimal, given: Iterable[tuple[Decimal, Decimal]]) -> Left:
    """What is left of a line after some credits; of a charge never below 0."""
    rest = Sums(net, tax) - summed(given)
    if net >= 0:
        # Credits of before were of amounts without discounts, and may have been more.
        rest = Sums(min(max(rest.net, ZERO), net), min(max(rest.tax, ZERO), tax))
    return Left(net, tax, rest.net, rest.tax)


def within(lines: list[Left], whole: Sums) -> list[Left]:
    """`lines` with no more left than `whole`: what credits of before took beyond a line's net is
    taken from the charges, in order."""
    left = summed((line.net_left, line.tax_left) for line in lines)
    net, tax = max(left.net - whole.net, ZERO), max(left.tax - whole.tax, ZERO)
    found = []
    for line in lines:
        off = min(net, max(line.net_left, ZERO))
        tax_off = min(tax, max(line.tax_left, ZERO))
        net, tax = net - off, tax - tax_off
        found.append(replace(line, net_left=line.net_left - off, tax_left=line.tax_left - tax_off))
    return found


def can_follow(rest: Sums, before: Sums) -> bool:
    """Whether the `rest` of what was left before a credit can be credited after it: no sign has
    changed, and there is something of it. So credits of charges never reach into what other credits
    on the same invoice took from them."""
    signs = ((before.net, rest.net), (before.tax, rest.tax))
    return rest.total > 0 and all(min(was, ZERO) <= now <= max(was, ZERO) for was, now in signs)
