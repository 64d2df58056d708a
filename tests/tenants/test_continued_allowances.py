"""Where nobody has written a period's allowances, the last ones go on: neither open nor shut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.periods import Anchor, boundary
from billing.rating.prices import Interval, Unit
from tenants import metrics, selectors, services
from tenants.admission.continued import continued
from tenants.admission.principal import Allowed
from tenants.models import Allowance
from tests.tenants.cast import Cast

NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def row(starts_at: datetime, ends_at: datetime) -> Allowed:
    return Allowed("messages", "messages", starts_at, ends_at, 30_000, True)


@given(
    st.integers(0, 3 * 365 * 24),
    st.sampled_from([(Unit.MONTH, 1), (Unit.MONTH, 3), (Unit.YEAR, 1), (Unit.DAY, 7)]),
    st.integers(0, 30),
    st.integers(1, 40),
    st.floats(0, 0.999),
)
def test_it_is_in_the_tenant_s_own_periods(
    hour: int, interval: tuple[Unit, int], k: int, later: int, part: float
) -> None:
    """So who stays below the plan's amount in each of them is never refused. But for anchors on a
    29th or 30th when the last period that is known ends at the end of February: one cannot tell."""
    anchor = Anchor(NOVEMBER + timedelta(hours=hour), Interval(*interval))
    starts = [boundary(anchor, n) for n in (k, k + 1, k + later, k + later + 1)]
    if max(starts[0].day, starts[1].day) < anchor.at.day:
        return
    now = starts[2] + part * (starts[3] - starts[2])
    found = list(continued([row(starts[0], starts[1])], now))
    assert (found[0].starts_at, found[0].ends_at) == (starts[2], starts[3])
    assert found[0].units == 30_000


def test_nothing_is_added_while_there_is_a_period_ahead() -> None:
    last = row(NOVEMBER, DECEMBER)
    assert not list(continued([last], DECEMBER - timedelta(hours=1, seconds=1)))
    (soon,) = continued([last], DECEMBER - SECOND)
    assert (soon.starts_at, soon.ends_at) == (DECEMBER, datetime(2027, 1, 1, tzinfo=UTC))


def test_a_cut_period_goes_on_at_its_length() -> None:
    trial = row(NOVEMBER, NOVEMBER + timedelta(days=14))
    (found,) = continued([trial], NOVEMBER + timedelta(days=30))
    assert found.starts_at == NOVEMBER + timedelta(days=28)


def wanted(cast: Cast, *starts: datetime) -> list[Allowance]:
    """A month from each; the last goes on."""
    return [
        Allowance(
            tenant=cast.acme,
            code="messages",
            metric="messages",
            starts_at=start,
            ends_at=(start + timedelta(days=31)).replace(day=1),
            units=30_000,
            goes_on=start == starts[-1],
        )
        for start in starts
    ]


def known(cast: Cast, now: datetime) -> list[tuple[int, int]]:
    """Month and units of what a tenant may use at `now` and later."""
    found = selectors.allowances_of(cast.acme.pk, now)
    return [(allowed.starts_at.month, allowed.units) for allowed in found]


def continued_reads() -> float:
    return next(iter(metrics.continued_allowances.collect())).samples[0].value


def test_doors_go_on_with_what_was_written_last_and_it_is_counted(cast: Cast) -> None:
    services.set_allowances(cast.acme, wanted(cast, NOVEMBER, DECEMBER), since=NOVEMBER)
    before = continued_reads()
    assert known(cast, NOVEMBER) == [(11, 30_000), (12, 30_000)]
    assert continued_reads() == before
    assert known(cast, datetime(2027, 2, 20, tzinfo=UTC)) == [(2, 30_000)]
    assert continued_reads() == before + 1
    # The jobs are back.
    february = datetime(2027, 2, 1, tzinfo=UTC)
    march = datetime(2027, 3, 1, tzinfo=UTC)
    services.set_allowances(cast.acme, wanted(cast, february, march), since=february)
    assert known(cast, datetime(2027, 2, 20, tzinfo=UTC)) == [(2, 30_000), (3, 30_000)]
    assert Allowance.objects.filter(goes_on=True).count() == 1


@pytest.mark.parametrize("at", [NOVEMBER + timedelta(days=10), datetime(2027, 2, 20, tzinfo=UTC)])
def test_terms_without_an_allowance_leave_none_that_goes_on(cast: Cast, at: datetime) -> None:
    services.set_allowances(cast.acme, wanted(cast, NOVEMBER, DECEMBER), since=NOVEMBER)
    services.set_allowances(cast.acme, [], since=at)
    assert known(cast, at) == []
    assert known(cast, datetime(2027, 6, 1, tzinfo=UTC)) == []
