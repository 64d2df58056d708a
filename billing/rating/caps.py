"""Caps: the most that what a meter counts costs in a period.

Each set of prices costs its own cap at most, and all that have one together no more than the
largest of them: who changes between two capped plans in a period never pays two caps, and what was
used without a cap takes nothing of a later one. A cap is not prorated by time, as fees are: the use
of a whole month may lie in one hour, and whoever left after it would owe that hour's share.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from billing.rating import money
from billing.rating.prices import Meter


class Charged(NamedTuple):
    """What earlier prices of the period with a `cap` came to."""

    cap: Decimal
    amount: Decimal


def most_of(meter: Meter, before: Sequence[Charged]) -> Decimal | None:
    """The most that the prices of `meter` may cost after what was charged under those `before` them
    in the period, in whole cents; None without a cap."""
    if meter.cap is None:
        return None
    room = max([meter.cap, *(one.cap for one in before)]) - sum(one.amount for one in before)
    return money.rounded_down(min(meter.cap, room))
