"""A fee is earned by the second, once, whatever is credited of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from billing.exports.balances import age
from billing.exports.recognition import Deferral, months

YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
_SECONDS = 365 * 86_400


@st.composite
def deferrals(draw: st.DrawFn) -> Deferral:
    """A yearly fee invoiced before, within or after its year, and credits after that."""
    amount = Decimal(draw(st.integers(1, 10**7))) / 100
    invoiced_at = YEAR[0] + timedelta(seconds=draw(st.integers(-_SECONDS // 2, _SECONDS + 99)))
    credits, rest = [], amount
    for _ in range(draw(st.integers(0, 3))):
        part = Decimal(draw(st.integers(1, 10**7))) / 100
        if part <= rest:
            rest -= part
            after = timedelta(seconds=draw(st.integers(0, _SECONDS)))
            credits.append((invoiced_at + after, part))
    return Deferral(amount, *YEAR, invoiced_at, tuple(sorted(credits)))


@given(fee=deferrals())
def test_what_is_deferred_is_earned_or_credited(fee: Deferral) -> None:
    """Month by month it comes to all that was deferred, and never more than that is left."""
    first, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)
    parts = [fee.earned(*month) for month in months(first, end)]
    taken = [fee.taken(n) for n in range(len(fee.credits))]
    assert sum(parts) + sum(taken) == fee.deferred
    assert all(part >= 0 for part in parts)
    assert all(0 <= part <= amount for part, (_, amount) in zip(taken, fee.credits, strict=True))
    assert fee.left(end) == fee.left(first) == 0
    assert all(0 <= fee.left(start) <= fee.deferred for start, _ in months(first, end))


def test_a_year_paid_ahead() -> None:
    fee = Deferral(Decimal(365), *YEAR, YEAR[0])
    assert fee.deferred == Decimal(365)
    assert fee.earned(*next(months(*YEAR))) == Decimal(31)
    assert fee.left(datetime(2026, 12, 31, tzinfo=UTC)) == Decimal(1)
    july = datetime(2026, 7, 1, tzinfo=UTC)
    left = Deferral(Decimal(365), *YEAR, YEAR[0], ((july, Decimal(200)),))
    # 184 days were to come: 16 of the 200 had been earned.
    assert (left.taken(0), left.left(july + timedelta(seconds=1))) == (Decimal(184), Decimal(0))


def test_a_fee_invoiced_afterwards_is_earned_at_once() -> None:
    assert Deferral(Decimal(49), *YEAR, YEAR[1] + timedelta(hours=72)).deferred == 0


def test_buckets() -> None:
    at = datetime(2026, 12, 1, tzinfo=UTC)
    days = {0: 0, 1: 1, 30: 1, 31: 2, 60: 2, 61: 3, 90: 3, 91: 4, 900: 4, -5: 0}
    assert {n: age(at - timedelta(days=n), at) for n in days} == days
    assert age(at - timedelta(seconds=1), at) == 1
    assert age(at - timedelta(days=30, seconds=1), at) == 2
