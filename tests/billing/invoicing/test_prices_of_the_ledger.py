"""However usage arrives, what is invoiced of a period is the price of its ledger, to the cent, as a
second rating of fractions has it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.invoicing import terms_port
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.late import LATE_USAGE
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import Invoice
from billing.rating.invoice import Usage
from billing.rating.prices import Interval, PlanPrices
from billing.rating.segments import PlanSpan
from tenants.models import APIKey
from tests.billing.invoicing.books import (
    DECEMBER,
    FEBRUARY,
    JANUARY,
    NOVEMBER,
    OCTOBER,
    PlainBook,
    use,
)
from tests.billing.rating.plans import plans
from tests.billing.rating.second import rate_again
from tests.tenants.cast import Cast

GRACE = timedelta(hours=72)
HOURS = (NOVEMBER - OCTOBER) // timedelta(hours=1)
#: An hour of October, a channel, messages, and how many months too late they arrive.
ROWS = st.lists(
    st.tuples(
        st.integers(0, HOURS - 1),
        st.sampled_from(["l2Book", "trades"]),
        st.integers(1, 10**6),
        st.integers(0, 3),
    ),
    max_size=8,
)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(
    plan=plans(st.just(Interval())),
    other=plans(st.just(Interval())),
    rows=ROWS,
    day=st.integers(1, 30),
)
def test_what_is_invoiced_is_the_price_of_the_ledger(
    cast: Cast,
    key: APIKey,
    plan: PlanPrices,
    other: PlanPrices,
    rows: list[tuple[int, str, int, int]],
    day: int,
) -> None:
    change = OCTOBER + timedelta(days=day)
    book = PlainBook(plans=[PlanSpan(plan, OCTOBER, change), PlanSpan(other, change)])
    with transaction.atomic(), terms_port.use(book):
        usage = []
        for months, closed in enumerate((NOVEMBER, DECEMBER, JANUARY, FEBRUARY)):
            for hour, channel, messages, late in rows:
                if late == months:
                    at = OCTOBER + timedelta(hours=hour)
                    use(key, at, messages, channel)
                    usage.append(Usage(at, "messages", channel, "", messages))
            close_due_periods(closed, tenants=[cast.acme.pk])
            assert finalize_due(closed + GRACE).failed == 0
        first = Invoice.objects.get(tenant=cast.acme, period_start=OCTOBER)
        late_lines = [
            line.amount
            for invoice in Invoice.objects.filter(tenant=cast.acme)
            for line in invoice.lines.all()
            if line.code == LATE_USAGE
        ]
        invoiced = first.subtotal + sum(late_lines, start=Decimal(0))
        period = book.periods_between(cast.acme, OCTOBER, NOVEMBER)[0]
        again = rate_again(period, book.plans, usage)
        assert int(invoiced * 100) == again["total"][0]
        assert list(reconcile_invoices()) == []
        transaction.set_rollback(True)
