"""Metered, never invoiced: whatever a tenant becomes, what it used as a customer is on one invoice,
and what it used as our own or a demo on none."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import count, pairwise

import pytest
from django.db import Error, transaction
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from billing.invoicing import draft, terms_port
from billing.invoicing.again import draft_again
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.crediting import void
from billing.invoicing.errors import InvoicingError
from billing.invoicing.finalize import discard, finalize
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import Invoice, InvoiceCursor, KindChange
from billing.rating.segments import PlanSpan
from tenants import services
from tenants.models import APIKey, Tenant
from tests.billing.invoicing.books import (
    DECEMBER,
    FEBRUARY,
    JANUARY,
    NOVEMBER,
    OCTOBER,
    PlainBook,
    growth,
    line_amounts,
    units_billed,
    use,
)
from tests.tenants.cast import Cast

GRACE, HOUR, MINUTE, DAY = (
    timedelta(hours=72),
    timedelta(hours=1),
    timedelta(minutes=1),
    timedelta(days=1),
)
EXTERNAL, INTERNAL, DEMO = Tenant.Kind.EXTERNAL, Tenant.Kind.INTERNAL, Tenant.Kind.DEMO
MONTHS = (OCTOBER, NOVEMBER, DECEMBER, JANUARY, FEBRUARY)


def become(tenant: Tenant, kind: str, at: datetime) -> None:
    tenant.kind = kind
    services.update_tenant(tenant, now=at)


def close(until: datetime) -> None:
    close_due_periods(until)
    assert finalize_due(until + GRACE).failed == 0


# --- the law --------------------------------------------------------------------------------------

#: Minutes until the next step, and the step: a kind, a close, or units used so many hours ago.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 7, 25, 60, 61, 500, 3_000, 9_000, 20_000]),
        st.one_of(
            st.sampled_from([EXTERNAL, INTERNAL, DEMO, EXTERNAL, INTERNAL]),
            st.just("close"),
            st.sampled_from([0, 0, 0, 1, 2, 30, 500]),
        ),
    ),
    max_size=16,
)


class Oracle:
    """What should be billed, by the minutes alone."""

    def __init__(self, kind: str) -> None:
        self.kinds: list[tuple[datetime, str]] = [(OCTOBER, kind)]
        self.units: dict[str, int] = {}

    def is_customer(self, at: datetime) -> bool:
        return [kind for since, kind in self.kinds if since <= at][-1] == EXTERNAL

    def seconds(self, start: datetime, end: datetime) -> int:
        """As a customer."""
        edges = {at for at, _ in self.kinds if start < at < end}
        parts = pairwise(sorted({start, end, *edges}))
        held = (b - a for a, b in parts if self.is_customer(a))
        return sum(held, start=timedelta(0)) // timedelta(seconds=1)


@pytest.mark.timeout(400)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(kind=st.sampled_from([EXTERNAL, INTERNAL, DEMO]), steps=STEPS)
# Within one hour there and back, with usage of it before, between, after, and late.
@example(
    kind=EXTERNAL,
    steps=[(7, 0), (7, INTERNAL), (7, 0), (7, EXTERNAL), (7, 0), (500, 30), (61, 1)],
)
# A customer until after a draft; then the next months are closed before it is one again.
@example(
    kind=EXTERNAL,
    steps=[
        *((60, 0), (20_000, 0), (20_000, 0), (9_000, "close"), (1, INTERNAL), (20_000, 0)),
        *((20_000, "close"), (60, 0), (60, EXTERNAL), (60, 0), (500, 500), (60, "close")),
    ],
)
# A demo that becomes a customer in the midst of a month.
@example(kind=DEMO, steps=[(3_000, 0), (20_000, EXTERNAL), (60, 0), (60, 30), (20_000, 500)])
def test_what_was_used_as_a_customer_is_on_one_invoice(
    cast: Cast, key: APIKey, kind: str, steps: list[tuple[int, str | int]]
) -> None:
    with transaction.atomic(), terms_port.use(PlainBook()):
        Tenant.objects.filter(pk=cast.acme.pk).update(kind=kind)
        tenant = Tenant.objects.get(pk=cast.acme.pk)
        oracle, now, numbers = Oracle(kind), OCTOBER, count()
        for minutes, step in steps:
            now += minutes * MINUTE
            if now >= FEBRUARY:
                break
            if step == "close":
                close_due_periods(now, tenants=[tenant.pk])
                assert finalize_due(now).failed == 0
            elif isinstance(step, int):
                hour = (now - step * HOUR).replace(minute=0)
                if hour < OCTOBER:
                    continue
                channel = f"c{next(numbers)}"
                use(key, hour, 100 + step, channel)
                # Of an hour that is over it is known by the hour only: its end decides.
                if oracle.is_customer(min(now, hour + HOUR - MINUTE)):
                    oracle.units[channel] = 100 + step
            else:
                become(tenant, step, now)
                oracle.kinds.append((now, step))
        for end in (*MONTHS[1:], FEBRUARY + 31 * DAY):
            close_due_periods(end + GRACE, tenants=[tenant.pk])
            assert finalize_due(end + GRACE).failed == 0

        assert not Invoice.objects.filter(tenant=tenant, state="draft").exists()
        billed: Counter[str] = Counter()
        fees: Counter[datetime] = Counter()
        for invoice in Invoice.objects.filter(tenant=tenant):
            assert invoice.unmetered == []
            for line in invoice.lines.all():
                billed.update({source["channel"]: source["units"] for source in line.sources})
                if line.code == "growth":
                    fees[invoice.period_start] += line.amount  # type: ignore[assignment]
        assert billed == oracle.units
        for start in (*MONTHS[1:], FEBRUARY + 28 * DAY):  # each month by itself says the same
            ends = start.date(), start.date() + timedelta(days=1)
            assert list(reconcile_invoices(*ends)) == []
        for start, end in pairwise(MONTHS):
            exact = Decimal(49) * oracle.seconds(start, end) / ((end - start) // (MINUTE / 60))
            assert fees[start] == exact.quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert list(reconcile_invoices()) == []
        transaction.set_rollback(True)


# --- cases ----------------------------------------------------------------------------------------


def test_there_and_back_with_a_draft_between(cast: Cast, key: APIKey, book: PlainBook) -> None:
    """October's draft is there, November is ours, and from December on it is a customer again."""
    use(key, NOVEMBER - HOUR, 150)
    close_due_periods(NOVEMBER)
    become(cast.acme, INTERNAL, NOVEMBER)
    use(key, NOVEMBER + HOUR, 1_000)
    close_due_periods(DECEMBER)
    become(cast.acme, EXTERNAL, DECEMBER)
    use(key, DECEMBER + HOUR, 120)
    close(JANUARY)
    rows = Invoice.objects.filter(tenant=cast.acme).order_by("period_start")
    assert [(row.period_start, row.state, row.total) for row in rows] == [
        (OCTOBER, "finalized", Decimal("49.50")),
        (DECEMBER, "finalized", Decimal("49.20")),
    ]
    assert list(reconcile_invoices()) == []


def test_who_leaves_owes_until_then_and_late_usage_too(
    cast: Cast, key: APIKey, book: PlainBook
) -> None:
    middle = NOVEMBER + 15 * DAY
    use(key, middle - 2 * HOUR, 100)
    become(cast.acme, DEMO, middle)
    use(key, middle + HOUR, 900)
    close(DECEMBER)
    use(key, middle - 3 * HOUR, 51)
    close(JANUARY)
    bills = list(Invoice.objects.filter(tenant=cast.acme).order_by("period_start"))
    assert line_amounts(bills[1]) == {"growth": Decimal("24.50"), "messages": Decimal("0.50")}
    assert line_amounts(bills[2]) == {"late-usage": Decimal("0.51")}
    assert units_billed(cast.acme) == 151
    assert list(reconcile_invoices()) == []


def test_a_draft_that_the_cursor_has_passed_stops_nobody(cast: Cast, book: PlainBook) -> None:
    """As there may be from before changes of kind were noted."""
    close_due_periods(NOVEMBER)
    InvoiceCursor.objects.filter(tenant=cast.acme).update(finalized_until=NOVEMBER)
    passed = Invoice.objects.get(tenant=cast.acme)
    close_due_periods(DECEMBER)
    later = Invoice.objects.get(tenant=cast.acme, period_start=NOVEMBER)
    assert finalize(later, now=DECEMBER + GRACE) is not None
    with pytest.raises(InvoicingError, match="discard the draft"):
        finalize(passed, now=DECEMBER + GRACE)
    discard(passed, by="ada", reason="was ours")
    close_due_periods(JANUARY)
    with pytest.raises(InvoicingError, match="draft of a period"):
        discard(Invoice.objects.get(tenant=cast.acme, period_start=DECEMBER))


def test_the_change_is_noted_once_and_for_good(cast: Cast, key: APIKey) -> None:
    use(key, OCTOBER, 5)
    become(cast.acme, INTERNAL, NOVEMBER)
    become(cast.acme, INTERNAL, NOVEMBER + HOUR)
    cast.acme.name = "Acme Two"
    services.update_tenant(cast.acme)
    change = KindChange.objects.get()
    assert (change.before, change.after, change.position) == (EXTERNAL, INTERNAL, 1)
    assert Tenant.objects.get(pk=cast.acme.pk).kind == INTERNAL
    with pytest.raises(Error, match="append-only"), transaction.atomic():
        KindChange._base_manager.filter(pk=change.pk).update(position=0)
    # Another host's clock is behind.
    become(cast.acme, EXTERNAL, OCTOBER)
    assert KindChange.objects.get(number=2).at == NOVEMBER


def test_who_never_was_a_customer_has_no_one_off(cast: Cast, book: PlainBook) -> None:
    Tenant.objects.update(kind=DEMO)
    tenant = Tenant.objects.get(pk=cast.acme.pk)
    become(tenant, INTERNAL, NOVEMBER)
    with pytest.raises(InvoicingError, match="never invoiced"):
        draft.draft_one_off(tenant)


def test_the_hour_in_which_a_period_ended_and_a_customer_began(cast: Cast, key: APIKey) -> None:
    """The cursor was behind that hour already, at the period's close."""
    begins = OCTOBER + 14 * HOUR + 30 * MINUTE
    with terms_port.use(PlainBook(plans=[PlanSpan(growth(), begins)], begins=begins)):
        Tenant.objects.filter(pk=cast.acme.pk).update(kind=DEMO)
        ended = begins + 31 * DAY
        use(key, ended - 30 * MINUTE, 1_000)
        close_due_periods(ended + MINUTE)
        become(cast.acme, EXTERNAL, ended + 20 * MINUTE)
        use(key, ended - 30 * MINUTE, 107)
        close(ended + 30 * DAY)
    invoice = Invoice.objects.get(tenant=cast.acme)
    assert units_billed(cast.acme) == 107
    assert line_amounts(invoice)["messages"] == Decimal("0.07")
    assert list(reconcile_invoices()) == []


@pytest.mark.parametrize("begins", [OCTOBER, OCTOBER + 14 * HOUR + 30 * MINUTE])
def test_who_became_ours_before_that_was_noted(cast: Cast, key: APIKey, begins: datetime) -> None:
    """It was a customer until where its last invoice ends; that invoice says the same again."""
    book = PlainBook(plans=[PlanSpan(growth(), begins)], begins=begins)
    ended = begins + 31 * DAY
    tenant = Tenant.objects.get(pk=cast.acme.pk)
    with terms_port.use(book):
        use(key, begins + 2 * HOUR, 250)
        use(key, ended.replace(minute=0), 7)  # within the grace, of the hour it ends within
        close(ended + HOUR)
        first = Invoice.objects.get(tenant=tenant)
        Tenant.objects.filter(pk=tenant.pk).update(kind=INTERNAL)
        tenant.refresh_from_db()
        use(key, ended + 9 * DAY, 1_000)
        close(ended + 30 * DAY)
        become(tenant, EXTERNAL, ended + 30 * DAY + HOUR)
        use(key, ended + 32 * DAY, 150)
        close(ended + 61 * DAY)
        assert list(reconcile_invoices()) == []
        void(first, reason="wrong buyer", by="ada")
        again = draft_again(first)
        assert line_amounts(again) == line_amounts(first)
        finalize(again)
        assert list(reconcile_invoices()) == []
    changes = KindChange.objects.filter(tenant=tenant).values_list("number", "before", "after")
    assert list(changes) == [(1, EXTERNAL, INTERNAL), (2, INTERNAL, EXTERNAL)]
    assert InvoiceCursor.objects.get(tenant=tenant).kind_changes == 2
    last = Invoice.objects.filter(tenant=tenant, sequence=1).order_by("period_start").last()
    assert last is not None
    assert sum(s["units"] for line in last.lines.all() for s in line.sources) == 150
