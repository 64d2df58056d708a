"""Month close: a draft, a grace, an invoice; each once, whatever runs twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from billing import tasks
from billing.invoicing import draft, finalize
from billing.invoicing.adjusting import decide, propose
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.errors import InvoicingError, NotYetError
from billing.invoicing.finalize import adds_up
from billing.invoicing.late import LATE_USAGE
from billing.invoicing.reconcile import reconcile_invoices
from billing.metering.reconcile import reconcile
from billing.models import Adjustment, Invoice, InvoiceCursor
from tenants.models import APIKey, Tenant
from tests.billing.invoicing.books import (
    DECEMBER,
    JANUARY,
    NOVEMBER,
    PlainBook,
    line_amounts,
    units_billed,
    use,
)
from tests.tenants.cast import Cast

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
GRACE = timedelta(hours=72)


def months(tenant: Tenant) -> list[tuple[datetime, str]]:
    rows = Invoice.objects.filter(tenant=tenant).order_by("period_start", "pk")
    return [(invoice.period_start, invoice.state) for invoice in rows]


def test_a_period_that_ended_has_one_draft_and_after_the_grace_one_number(
    cast: Cast, key: APIKey, book: PlainBook
) -> None:
    use(key, NOVEMBER - HOUR, 250)
    assert close_due_periods(NOVEMBER - SECOND) == (0, 0)
    assert close_due_periods(NOVEMBER).done == 2  # Acme's and Cleo's
    assert close_due_periods(NOVEMBER) == (0, 0)
    assert finalize_due(NOVEMBER + GRACE - SECOND) == (0, 0)
    assert finalize_due(NOVEMBER + GRACE) == (2, 0)
    assert finalize_due(NOVEMBER + GRACE) == (0, 0)

    invoice = Invoice.objects.get(tenant=cast.acme)
    assert line_amounts(invoice) == {"growth": Decimal("49.00"), "messages": Decimal("1.50")}
    assert invoice.due == Decimal("50.50")
    assert adds_up(invoice, list(invoice.lines.order_by("place")))
    numbers = Invoice.objects.order_by("number").values_list("number", flat=True)
    assert list(numbers) == ["INV-2026-000001", "INV-2026-000002"]
    assert [*reconcile(), *reconcile_invoices()] == []


def test_usage_in_the_grace_is_on_the_invoice(cast: Cast, key: APIKey, book: PlainBook) -> None:
    close_due_periods(NOVEMBER)
    use(key, NOVEMBER - HOUR, 200)
    finalize_due(NOVEMBER + GRACE)
    assert line_amounts(Invoice.objects.get(tenant=cast.acme))["messages"] == Decimal("1.00")


@pytest.mark.parametrize("late", [-SECOND, timedelta(0), SECOND, timedelta(days=35)])
def test_usage_around_the_close_is_billed_once(
    cast: Cast, key: APIKey, book: PlainBook, late: timedelta
) -> None:
    """An event of the last hour of October, and one of the first of November, posted just before,
    at, just after or long after the invoice of October became final."""
    at, invoiced = NOVEMBER + GRACE + late, NOVEMBER + GRACE
    use(key, NOVEMBER - 2 * HOUR, 100)
    events = [(invoiced, "finalize"), (DECEMBER + GRACE, "finalize"), (at, "use")]
    # At the very moment, either may be first: here the usage is.
    for moment, what in sorted(events, key=lambda event: (event[0], event[1] == "finalize")):
        if what == "use":
            use(key, NOVEMBER - HOUR, 7)
            use(key, NOVEMBER, 11)
        else:
            close_due_periods(moment)
            finalize_due(moment)
    close_due_periods(JANUARY + GRACE)
    finalize_due(JANUARY + GRACE)

    bills = list(Invoice.objects.finalized().filter(tenant=cast.acme).order_by("period_start"))
    assert len(bills) == 3
    assert units_billed(cast.acme) == 100 + 7 + 11
    total = sum(invoice.total for invoice in bills)
    assert total == 3 * Decimal(49) + Decimal("0.07")
    lines = [(n, line) for n, bill in enumerate(bills) for line in bill.lines.all()]
    found = [
        (n, line.amount, line.original_start)
        for n, line in lines
        if line.sources and line.original_start
    ]
    if late <= timedelta(0):
        assert found == []
    elif late < timedelta(days=30):
        assert found == [(1, Decimal("0.07"), bills[0].period_start)]
    else:  # of both months, on the third invoice
        assert found == [
            (2, Decimal("0.07"), bills[0].period_start),
            (2, Decimal("0.00"), bills[1].period_start),
        ]
    assert [*reconcile(), *reconcile_invoices()] == []


def test_late_usage_costs_what_it_would_have_cost(cast: Cast, key: APIKey, book: PlainBook) -> None:
    """Below the included it is free, and shown at 0.00."""
    use(key, NOVEMBER - HOUR, 60)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + GRACE)
    use(key, NOVEMBER - HOUR, 30)
    use(key, NOVEMBER - 5 * HOUR, 30)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    second = Invoice.objects.get(tenant=cast.acme, period_start=NOVEMBER)
    late = second.lines.get(code=LATE_USAGE)
    assert (late.amount, late.sources[0]["units"]) == (Decimal("0.20"), 60)
    assert "INV-2026-" in late.name


def test_late_usage_of_a_tenant_without_further_periods_waits_for_a_one_off(
    cast: Cast, key: APIKey, book: PlainBook
) -> None:
    use(key, NOVEMBER - HOUR, 100)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + GRACE)
    use(key, NOVEMBER - HOUR, 5)
    one_off = draft.draft_one_off(cast.acme)
    assert finalize.finalize(one_off) is not None
    with pytest.raises(NotYetError, match="nothing waits"):
        draft.draft_one_off(cast.acme)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    assert units_billed(cast.acme) == 105
    assert [*reconcile(), *reconcile_invoices()] == []


def test_our_own_and_demos_are_never_invoiced(cast: Cast, key: APIKey, book: PlainBook) -> None:
    Tenant.objects.update(kind=Tenant.Kind.INTERNAL)
    use(key, NOVEMBER - HOUR, 500)
    close_due_periods(NOVEMBER)
    assert not Invoice.objects.exists()
    period = book.period_of(cast.acme, NOVEMBER - HOUR)
    assert period is not None
    with pytest.raises(InvoicingError, match="never invoiced"):
        draft.draft_invoice(Tenant.objects.get(pk=cast.acme.pk), period)
    # It becomes a customer: what it used before stays free, also what is late of it.
    Tenant.objects.update(kind=Tenant.Kind.EXTERNAL)
    use(key, NOVEMBER - HOUR, 500)
    use(key, NOVEMBER, 101)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    assert Invoice.objects.get(tenant=cast.acme).total == Decimal("49.01")


def test_finalized_in_order_and_when_over(cast: Cast, book: PlainBook) -> None:
    close_due_periods(DECEMBER)
    second = Invoice.objects.get(tenant=cast.acme, period_start=NOVEMBER)
    with pytest.raises(NotYetError, match="2026-10-01 first"):
        finalize.finalize(second, now=DECEMBER + GRACE)
    with pytest.raises(NotYetError, match="runs until"):
        finalize.finalize(second, now=DECEMBER - SECOND)
    assert finalize_due(DECEMBER + GRACE).failed == 0
    assert months(cast.acme) == [
        (NOVEMBER - timedelta(days=31), "finalized"),
        (NOVEMBER, "finalized"),
    ]


def test_an_approved_adjustment_is_billed_once(cast: Cast, book: PlainBook) -> None:
    credit = propose(
        cast.acme, Decimal("-9.00"), code="sla", name="Service credit", origin="gap:1", by="ada"
    )
    again = propose(
        cast.acme, Decimal("-9.00"), code="sla", name="Service credit", origin="gap:1", by="ada"
    )
    assert credit == again
    proposed = propose(cast.acme, Decimal("5.00"), code="setup", name="Setup")
    decide(credit, approve=True, by="ben")
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    first, second = Invoice.objects.filter(tenant=cast.acme).order_by("period_start")
    assert (first.total, second.total) == (Decimal(40), Decimal(49))
    credit.refresh_from_db()
    assert (credit.state, credit.billed_on) == (Adjustment.State.BILLED, first)
    proposed.refresh_from_db()
    assert proposed.billed_on is None


def test_the_wallet_pays_first(cast: Cast, book: PlainBook) -> None:
    book.wallets[cast.acme.pk] = Decimal(60)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    rows = Invoice.objects.filter(tenant=cast.acme).order_by("period_start")
    assert [(row.prepaid, row.due) for row in rows] == [(49, 0), (11, 38)]
    assert book.wallets[cast.acme.pk] == 0
    assert [row.standing.state for row in rows] == ["paid", "open"]


def test_a_draft_that_says_nothing_is_no_invoice(cast: Cast, book: PlainBook) -> None:
    """The plan ended with October: of November there is nothing to say."""
    book.plans = [replace(book.plans[0], end=NOVEMBER)]
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    assert len(months(cast.acme)) == 1
    assert InvoiceCursor.objects.get(tenant=cast.acme).finalized_until == DECEMBER
    assert close_due_periods(DECEMBER) == (0, 0)


@pytest.mark.parametrize(("limit_s", "asked"), [(0.0, 1), (180.0, 0)])
def test_a_turn_that_was_too_short_asks_for_the_next(
    limit_s: float, asked: int, cast: Cast, book: PlainBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[bool] = []
    monkeypatch.setattr(tasks, "LIMIT_S", limit_s)
    for task in (tasks.close_periods, tasks.finalize_invoices):
        monkeypatch.setattr(task, "delay", lambda: again.append(True))
        task()
    assert len(again) == 2 * asked
