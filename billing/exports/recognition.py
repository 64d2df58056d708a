"""When a fee is earned: pure arithmetic.

A fee that is invoiced while its time `[start, end)` still runs is earned by the second. What is not
earned yet is deferred. What is credited is taken from what is deferred first: a customer who leaves
gives back the time to come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from billing.rating.money import quotient, rounded

ZERO = Decimal("0.00")
_SECOND = timedelta(seconds=1)


class _State(NamedTuple):
    """From `at` on `held` is deferred, after `taken` was credited."""

    at: datetime
    held: Decimal
    taken: Decimal


@dataclass(frozen=True, slots=True)
class Deferral:
    """A fee of `amount` for `[start, end)` that was invoiced at `invoiced_at`. `credits` are when
    and how much of it was credited, by time."""

    amount: Decimal
    start: datetime
    end: datetime
    invoiced_at: datetime
    credits: tuple[tuple[datetime, Decimal], ...] = ()

    @property
    def deferred(self) -> Decimal:
        """What was not earned when it was invoiced."""
        return self._states()[0].held

    def taken(self, n: int) -> Decimal:
        """What of the n-th credit was not earned yet."""
        return self._states()[n + 1].taken

    def left(self, at: datetime) -> Decimal:
        """What is not earned at `at`, of what was booked before."""
        if at <= self.invoiced_at:
            return ZERO
        booked = sum(1 for when, _ in self.credits if when < at)
        return self._left(self._states()[booked], at)

    def earned(self, start: datetime, end: datetime) -> Decimal:
        """What of what was deferred is earned in `[start, end)`."""
        added = self.deferred if start <= self.invoiced_at < end else ZERO
        credited = (self.taken(n) for n, (at, _) in enumerate(self.credits) if start <= at < end)
        return self.left(start) + added - sum(credited, start=ZERO) - self.left(end)

    def _states(self) -> list[_State]:
        """After the invoice, and after each credit."""
        whole = _State(self.start, self.amount, ZERO)
        states = [_State(self.invoiced_at, self._left(whole, self.invoiced_at), ZERO)]
        for when, amount in self.credits:
            at = max(when, states[-1].at)
            held = self._left(states[-1], at)
            taken = min(amount, held)
            states.append(_State(at, held - taken, taken))
        return states

    def _left(self, state: _State, at: datetime) -> Decimal:
        start = max(state.at, self.start)
        if at >= self.end:
            return ZERO
        if at <= start:
            return state.held
        rest, whole = (self.end - at) // _SECOND, (self.end - start) // _SECOND
        return rounded(quotient(state.held * rest, whole))


def months(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The UTC months, or parts of them, that make up `[start, end)`."""
    while start < end:
        year, month = divmod(start.year * 12 + start.month, 12)
        until = min(end, datetime(year, month + 1, 1, tzinfo=UTC))
        yield start, until
        start = until
