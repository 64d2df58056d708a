"""When a second person has to approve what an operator gives away. Pure.

What counts is the sum of all that one operator gave to one tenant alone in the days before, so that
a large gift in small parts is a large gift. What a second person approved is not counted again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple


class Gift(NamedTuple):
    """What was given alone, and when."""

    at: datetime
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Verdict:
    """On `amount`, with `before` of the last `days`, under `limit`; all in USD."""

    amount: Decimal
    before: Decimal
    limit: Decimal
    days: int

    @property
    def total(self) -> Decimal:
        """What the limit is held against."""
        return self.before + self.amount

    @property
    def needs_second(self) -> bool:
        """Whether somebody else has to approve it."""
        return self.total > self.limit

    def told(self, by: str, place: str) -> str:
        """How much, the limit, and who may approve it among the rows of `place`: one line."""
        amount = f"{self.amount:.2f} USD"
        if self.before:
            amount += f", {self.total:.2f} with what was given alone in {self.days} days,"
        return (
            f"{amount} is above {self.limit:.2f}: somebody else than {by or 'the relay'} with the "
            f"right to change {place} approves it, under {place}"
        )


def weigh(
    amount: Decimal, given: Iterable[Gift], *, now: datetime, limit: Decimal, days: int
) -> Verdict:
    """Judge `amount` (above 0) after what the same operator gave the same tenant alone."""
    since = now - timedelta(days=days)
    before = sum((gift.amount for gift in given if gift.at > since), start=Decimal(0))
    return Verdict(amount, before, limit, days)
