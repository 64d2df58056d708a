"""Service credits: overlaps count once, and all of a period are capped together, in any order."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.invoicing.adjusting import decide, propose_sla_credit
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import lock_cursor
from billing.invoicing.service_credits import Fees, fees_of, value, windows_of
from billing.invoicing.sla import Window, union, worth
from billing.models import Adjustment, Concession, Invoice
from billing.rating.prices import Discount
from billing.rating.rate import rate
from billing.rating.segments import PlanSpan, segments
from tenants import services
from tenants.models import Tenant
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, OCTOBER, PlainBook, growth
from tests.tenants.cast import Cast

CHANGED = datetime.fromisoformat("2026-10-11T12:00:00+00:00")
HOUR = timedelta(hours=1)
#: Within October, in steps of 20 minutes, so that windows touch and overlap.
STEPS = 31 * 24 * 3
WINDOWS = st.lists(
    st.tuples(st.integers(0, STEPS), st.integers(1, 200)).map(
        lambda pair: (
            OCTOBER + pair[0] * HOUR / 3,
            min(NOVEMBER, OCTOBER + (pair[0] + pair[1]) * HOUR / 3),
        )
    ),
    max_size=4,
)


@pytest.fixture
def upgraded(book: PlainBook) -> PlainBook:
    """On 49.00 a month until the 11th, on 310.00 then."""
    book.plans = [PlanSpan(growth(), OCTOBER, CHANGED), PlanSpan(growth("310"), CHANGED)]
    return book


def fees_in(book: PlainBook, tenant: Tenant) -> Fees:
    """October's."""
    period = book.period_of(tenant, OCTOBER)
    assert period is not None
    return fees_of(tenant, period, book, lock_cursor(tenant.pk))


def most(book: PlainBook, tenant: Any) -> Decimal:
    """The fees that October's invoice has."""
    period = book.period_of(tenant, OCTOBER)
    assert period is not None
    of_period = book.segments_of(tenant, period)
    return rate(period, of_period, [], discounts=book.discounts).subtotal


def less(percent: int, applies_to: str = "invoice") -> Discount:
    """A discount of all times."""
    return Discount(
        code="less",
        name="Less",
        percent=Decimal(percent),
        starts_at=OCTOBER,
        applies_to=applies_to,
    )


@given(windows=WINDOWS, more=WINDOWS, factor=st.integers(1, 200))
def test_time_counts_once_and_never_beyond_the_fees(
    windows: list[Window], more: list[Window], factor: int
) -> None:
    plain = PlainBook([PlanSpan(growth(), OCTOBER, CHANGED), PlanSpan(growth("310"), CHANGED)])
    period = plain.period_of(None, OCTOBER)  # type: ignore[arg-type]
    assert period is not None
    of_period = segments(period, plain.plans)
    one = worth(windows, period, of_period, factor=factor)
    assert one == worth([*windows, *windows], period, of_period, factor=factor)
    assert one == worth(union(windows), period, of_period, factor=factor)
    both = worth([*windows, *more], period, of_period, factor=factor)
    assert one <= both <= rate(period, of_period, []).subtotal
    assert both <= one + worth(more, period, of_period, factor=factor) + Decimal("0.02")
    covered = {
        OCTOBER + n * HOUR / 3
        for n in range(STEPS)
        if any(start <= OCTOBER + n * HOUR / 3 < end for start, end in windows)
    }
    assert sum((end - start for start, end in union(windows)), start=timedelta(0)) == (
        len(covered) * HOUR / 3
    )


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(
    gaps=st.lists(WINDOWS, min_size=1, max_size=6),
    decisions=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12),
    factor=st.sampled_from([1, 10, 100]),
    early=st.integers(0, 6),
    off=st.sampled_from([0, 35, 100]),
)
def test_what_is_not_rejected_is_the_worth_of_all_of_it(
    cast: Cast,
    upgraded: PlainBook,
    settings: Any,
    gaps: list[list[Window]],
    decisions: list[tuple[int, bool]],
    factor: int,
    early: int,
    off: int,
) -> None:
    """Also where some are decided before others are proposed, and approved ones rejected after
    all. Nothing that is approved grows but by a decision of its own."""
    settings.RELAY_SLA_FACTOR = factor
    upgraded.discounts = [less(off)] if off else []
    with transaction.atomic():
        todo = list(decisions)
        for n, windows in enumerate(gaps):
            propose_sla_credit(cast.acme, windows, reason="x", origin=f"gap:{n}")
            if n < early and todo:
                settle(*todo.pop())
        for decision in todo:
            settle(*decision)
        rows = list(Adjustment.objects.all())
        approved = [row for row in rows if row.state == "approved"]
        fees = fees_in(upgraded, cast.acme)

        def told(credits: list[Adjustment]) -> Decimal:
            windows = [window for row in credits for window in windows_of(row)]
            return value(windows, fees) + sum(row.amount for row in credits)

        assert told(approved) >= 0
        rejected = {row.pk for row in rows if row.state == "rejected"}
        rests = [row for row in rows if (row.origin or "").startswith("more:")]
        # Where the rest of one that holds was judged and refused, so much is not given.
        refused = [
            r for r in rests if r.pk in rejected and int(r.origin.split(":")[1]) not in rejected
        ]
        left = told([row for row in rows if row.state != "rejected"])
        assert left >= 0 if refused else left == 0
        assert all(row.amount < 0 for row in approved)
        assert -sum(row.amount for row in approved) <= most(upgraded, cast.acme)
        transaction.set_rollback(True)


def settle(which: int, approve: bool) -> None:
    rows = list(Adjustment.objects.order_by("pk"))
    if rows:
        try:
            decide(rows[which % len(rows)], approve=approve, by="ben")
        except InvoicingError:
            return
        for row in rows:
            if row.state == "approved":
                now = Adjustment.objects.get(pk=row.pk)
                assert now.amount >= row.amount or now.state == "rejected"


def test_a_month_of_small_gaps_costs_no_more_than_the_fee(cast: Cast, book: PlainBook) -> None:
    for n in range(90):
        window = (OCTOBER + n * HOUR, OCTOBER + (n + 1) * HOUR)
        propose_sla_credit(cast.acme, [window], reason="x", origin=f"gap:{n}")
    rows = list(Adjustment.objects.order_by("-pk"))
    assert -sum(row.amount for row in rows) == 49
    assert rows[0].amount == 0
    for row in rows[:75]:
        decide(row, approve=True, by="ben")
    with pytest.raises(InvoicingError, match="use up the fee: reject it"):
        decide(rows[75], approve=True, by="ben")
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    assert Invoice.objects.get(tenant=cast.acme).due == 0


def test_what_another_covered_comes_back_when_that_is_rejected(cast: Cast, book: PlainBook) -> None:
    (one,) = propose_sla_credit(
        cast.acme, [(OCTOBER, OCTOBER + 2 * HOUR)], reason="x", origin="gap:1"
    )
    alone = one.amount
    (same,) = propose_sla_credit(
        cast.acme, [(OCTOBER, OCTOBER + 2 * HOUR)], reason="x", origin="gap:2"
    )
    assert same.amount == 0
    decide(one, approve=True, by="ben")
    with pytest.raises(InvoicingError, match="other credits of the period cover its time"):
        decide(same, approve=True, by="ben")
    decide(one, approve=False, by="ben")
    assert decide(same, approve=True, by="ben").amount == alone


def test_what_grows_after_it_was_approved_is_judged_again(
    cast: Cast, book: PlainBook, settings: Any
) -> None:
    """The approved part stays, and is billed; the rest waits, for a second person above the limit,
    and is refused once."""
    settings.RELAY_SLA_FACTOR, settings.RELAY_CREDIT_LIMIT = 100, 10
    first, second = (
        propose_sla_credit(cast.acme, [(OCTOBER, OCTOBER + hours * HOUR)], reason="x", origin=name)
        for hours, name in ((2, "gap:1"), (3, "gap:2"))
    )
    decide(first[0], approve=True, by="ben")
    part = decide(second[0], approve=True, by="ada").amount
    decide(first[0], approve=False, by="ben")
    second[0].refresh_from_db()
    assert (second[0].state, second[0].amount) == ("approved", part)
    rest = Adjustment.objects.get(state="proposed")
    assert (rest.amount, rest.windows) == (first[0].amount, second[0].windows)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    assert Invoice.objects.get(tenant=cast.acme).total == 49 + part
    rest.refresh_from_db()
    assert (rest.state, rest.amount) == ("proposed", first[0].amount)
    decide(rest, approve=True, by="ada")
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + timedelta(hours=72))
    later = Invoice.objects.get(tenant=cast.acme, period_start=NOVEMBER)
    assert later.total == 49 + first[0].amount
    assert not Adjustment.objects.filter(state="proposed").exists()


def test_the_rest_is_refused_once_and_goes_with_its_credit(
    cast: Cast, book: PlainBook, settings: Any
) -> None:
    settings.RELAY_SLA_FACTOR = 10
    day = 24 * HOUR
    book.plans = [PlanSpan(growth("31"), OCTOBER)]
    (credit,) = propose_sla_credit(cast.acme, [(OCTOBER, OCTOBER + day)], reason="x", origin="g:1")
    decide(credit, approve=True, by="ben")
    book.plans = [PlanSpan(growth("62"), OCTOBER)]  # other terms, back to the beginning
    others = [
        propose_sla_credit(
            cast.acme, [(OCTOBER + n * day, OCTOBER + n * day + HOUR)], reason="x", origin=f"g:{n}"
        )[0]
        for n in (5, 6, 7)
    ]
    rest = Adjustment.objects.get(origin__startswith="more:")
    assert rest.amount == credit.amount
    decide(rest, approve=False, by="ben")
    decide(others[0], approve=False, by="ben")
    assert Adjustment.objects.filter(origin__startswith="more:").get().state == "rejected"
    book.plans = [PlanSpan(growth("93"), OCTOBER)]
    decide(others[1], approve=False, by="ben")
    again = Adjustment.objects.get(origin__startswith="more:", state="proposed")
    assert again.amount == 2 * credit.amount
    decide(credit, approve=False, by="ben")
    again.refresh_from_db()
    assert again.state == "rejected"


def test_a_window_over_the_end_of_a_period_is_one_of_each(cast: Cast, book: PlainBook) -> None:
    window = (NOVEMBER - HOUR, NOVEMBER + HOUR)
    first, second = propose_sla_credit(cast.acme, [window], reason="x", origin="gap:1")
    assert (first.original_start, second.original_start) == (OCTOBER, NOVEMBER)
    assert (first.original_end, second.original_end) == (NOVEMBER, DECEMBER)
    again = propose_sla_credit(cast.acme, [window], reason="x", origin="gap:1")
    assert again == [first, second]


def test_no_more_than_discounts_left_of_the_fee(cast: Cast, book: PlainBook, settings: Any) -> None:
    settings.RELAY_SLA_FACTOR = 10
    book.discounts = [less(80, "plan_fee")]
    days = [(OCTOBER + n * 24 * HOUR, OCTOBER + (n + 1) * 24 * HOUR) for n in range(2)]
    for n, day in enumerate(days):
        (credit,) = propose_sla_credit(cast.acme, [day], reason="x", origin=f"gap:{n}")
        if credit.amount:
            decide(credit, approve=True, by="ben")
    assert [row.amount for row in Adjustment.objects.order_by("pk")] == [Decimal("-9.80"), 0]
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    assert Invoice.objects.get(tenant=cast.acme).total == 0
    book.discounts = [less(100)]
    assert propose_sla_credit(cast.acme, [days[0]], reason="x", origin="gap:9") == []


def test_what_discounts_leave_nothing_of_waits_again(
    cast: Cast, book: PlainBook, settings: Any
) -> None:
    """Terms that reach back to the beginning of the period come after its first credit."""
    settings.RELAY_SLA_FACTOR = 10
    day = 24 * HOUR
    first, second = (
        propose_sla_credit(cast.acme, [(at, at + day)], reason="x", origin=f"gap:{at}")[0]
        for at in (OCTOBER, OCTOBER + 9 * day)
    )
    decide(first, approve=True, by="ben")
    book.discounts = [less(100)]
    decide(second, approve=False, by="ben")
    first.refresh_from_db()
    assert (first.state, first.amount, first.decided_by) == ("proposed", 0, "")
    assert not Concession.objects.filter(state="given").exists()


def test_billed_is_what_it_is_worth_by_then(cast: Cast, book: PlainBook, settings: Any) -> None:
    """A discount that came after the approval leaves less to credit."""
    settings.RELAY_SLA_FACTOR = 10
    window = (OCTOBER, OCTOBER + 72 * HOUR)
    (credit,) = propose_sla_credit(cast.acme, [window], reason="x", origin="gap:1")
    assert decide(credit, approve=True, by="ben").amount == Decimal("-47.42")
    book.discounts = [less(80)]
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    credit.refresh_from_db()
    assert (credit.state, credit.amount) == ("billed", Decimal("-9.80"))
    assert Invoice.objects.get(tenant=cast.acme).total == 0
    assert Concession.objects.get(state="given").amount == Decimal("9.80")


def test_only_time_as_a_customer_is_worth_anything(
    cast: Cast, book: PlainBook, settings: Any
) -> None:
    settings.RELAY_SLA_FACTOR = 10
    day, acme = 24 * HOUR, cast.acme
    Tenant.objects.filter(pk=acme.pk).update(kind="demo")
    acme.refresh_from_db()
    window = (OCTOBER + day, OCTOBER + 5 * day)
    assert propose_sla_credit(acme, [window], reason="x", origin="gap:1") == []
    acme.kind = "external"
    services.update_tenant(acme, now=OCTOBER + 30 * day)
    assert propose_sla_credit(acme, [window], reason="x", origin="gap:1") == []
    window = (OCTOBER + 29 * day, OCTOBER + 31 * day)
    (credit,) = propose_sla_credit(acme, [window], reason="x", origin="gap:2")
    assert credit.amount == -round(Decimal(49) / 31, 2)  # of its one day, not of the month
