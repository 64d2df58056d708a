"""A void period is invoiced again, and what it was of is billed once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from billing.invoicing import draft, terms_port
from billing.invoicing.adjusting import decide, propose
from billing.invoicing.again import draft_again
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.crediting import void
from billing.invoicing.errors import InvoicingError
from billing.invoicing.finalize import discard, finalize
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import Adjustment, Invoice, LedgerEntry
from billing.rating.prices import Tier, Volume
from billing.rating.segments import PlanSpan
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
    use,
)
from tests.tenants.cast import Cast

HOUR, GRACE = timedelta(hours=1), timedelta(hours=72)


def close(until: datetime, tenants: list[int] | None = None) -> None:
    close_due_periods(until, tenants=tenants)
    assert finalize_due(until + GRACE).failed == 0


def is_void(invoice: Invoice) -> bool:
    return invoice.standing.state == "voided"


def invoiced(tenant: Tenant) -> Counter[str]:
    """Units by channel on the invoices that hold."""
    found: Counter[str] = Counter()
    for invoice in Invoice.objects.finalized().filter(tenant=tenant).select_related("standing"):
        for line in invoice.lines.all() if not is_void(invoice) else ():
            for source in line.sources:
                found[source["channel"]] += source["units"]
    return found


def test_the_same_usage_at_other_prices(cast: Cast, key: APIKey, book: PlainBook) -> None:
    book.wallets[cast.acme.pk] = Decimal(10)
    discount = propose(cast.acme, Decimal("-9.00"), code="sla", name="Credit", origin="gap:1")
    decide(discount, approve=True, by="ben")
    use(key, NOVEMBER - HOUR, 250)
    close(NOVEMBER)
    wrong = Invoice.objects.get(tenant=cast.acme)
    assert (wrong.total, wrong.due) == (Decimal("41.50"), Decimal("31.50"))
    with pytest.raises(InvoicingError, match="is not void"):
        draft_again(wrong)
    use(key, NOVEMBER - HOUR, 30)  # late, so on the next

    void(wrong, reason="wrong price", by="ada")
    assert book.wallets[cast.acme.pk] == 10
    again = Adjustment.objects.get(tenant=cast.acme, state="proposed")
    assert (again.amount, again.origin) == (Decimal(-9), f"void:{discount.pk}")
    assert list(reconcile_invoices()) == []

    close(DECEMBER)
    book.plans = [PlanSpan(growth(price="0.02"), OCTOBER)]
    right = draft_again(wrong)
    assert draft_again(wrong) == right
    assert (right.sequence, right.period_start) == (2, OCTOBER)
    use(key, NOVEMBER - HOUR, 4)
    right.refresh_from_db()
    assert finalize_due(right.drafted_at + GRACE - HOUR) == (0, 0)  # it has a grace of its own
    assert finalize_due(right.drafted_at + GRACE) == (1, 0)
    right.refresh_from_db()
    # The wallet was used by the invoice that was made first.
    assert line_amounts(right) == {
        "growth": Decimal(49),
        "messages": Decimal("3.00"),
        "sla": Decimal(-9),
    }
    with pytest.raises(InvoicingError, match="in place of"):
        draft_again(wrong)
    close(JANUARY)
    assert invoiced(cast.acme) == {"bbo": 250 + 30 + 4}
    assert Adjustment.objects.filter(state="billed").count() == 2
    assert list(reconcile_invoices()) == []


def test_in_place_of_a_one_off(cast: Cast, key: APIKey, book: PlainBook) -> None:
    use(key, NOVEMBER - HOUR, 100)
    close(NOVEMBER)
    use(key, NOVEMBER - HOUR, 70)
    setup = propose(cast.acme, Decimal("5.00"), code="setup", name="Setup")
    decide(setup, approve=True, by="ben")
    first = finalize(draft.draft_one_off(cast.acme))
    assert first is not None
    void(first, reason="another buyer", by="ada")
    close(DECEMBER)
    second = finalize(draft_again(first))
    assert second is not None
    assert line_amounts(second) == {"late-usage": Decimal("0.70"), "setup": Decimal(5)}
    assert invoiced(cast.acme) == {"bbo": 170}
    assert list(reconcile_invoices()) == []


def test_a_draft_in_place_of_it_can_be_discarded(cast: Cast, key: APIKey, book: PlainBook) -> None:
    close(NOVEMBER)
    wrong = Invoice.objects.get(tenant=cast.acme)
    void(wrong, reason="wrong customer", by="ada")
    discard(draft_again(wrong), by="ada")
    assert draft_again(wrong).sequence == 2


def test_a_wrong_charge_does_not_come_back_by_itself(cast: Cast, book: PlainBook) -> None:
    setup = propose(cast.acme, Decimal(20), code="setup", name="Setup")
    decide(setup, approve=True, by="ben")
    close(NOVEMBER)
    wrong = Invoice.objects.get(tenant=cast.acme)
    void(wrong, reason="wrong customer", by="ada")
    copy = Adjustment.objects.get(origin=f"void:{setup.pk}")
    assert (copy.state, copy.decided_by, copy.decided_at) == ("proposed", "", None)
    close(DECEMBER)
    latest = Invoice.objects.filter(tenant=cast.acme, period_start=NOVEMBER).get()
    assert line_amounts(latest) == {"growth": 49}

    again = draft_again(wrong, by="cleo")
    copy.refresh_from_db()
    assert (copy.state, copy.decided_by) == ("approved", "cleo")
    assert line_amounts(again) == {"growth": 49, "setup": 20}
    discard(again, by="ada")
    copy.refresh_from_db()
    assert (copy.state, copy.decided_by, copy.decided_at) == ("proposed", "", None)
    decide(copy, approve=False, by="ben")
    assert line_amounts(draft_again(wrong, by="ada")) == {"growth": 49}


def test_a_one_off_is_of_the_moment_it_is_made(cast: Cast, key: APIKey, book: PlainBook) -> None:
    """Drafted before November's invoice, and made when that had late usage."""
    close(NOVEMBER)
    setup = propose(cast.acme, Decimal("5.00"), code="setup", name="Setup")
    decide(setup, approve=True, by="ben")
    one_off = draft.draft_one_off(cast.acme, now=NOVEMBER + GRACE + HOUR)
    use(key, DECEMBER - HOUR, 150)
    close(DECEMBER)
    use(key, DECEMBER - HOUR, 50)
    setup = propose(cast.acme, Decimal("6.00"), code="setup", name="Setup")
    decide(setup, approve=True, by="ben")
    at = DECEMBER + GRACE + HOUR
    made = draft.draft_one_off(cast.acme, now=at)
    assert (made, made.period_start) == (one_off, at)
    final = finalize(made, now=at + HOUR)
    assert final is not None
    assert (final.period_start, final.period_end) == (at + HOUR, at + HOUR)
    assert line_amounts(final) == {"late-usage": Decimal("0.50"), "setup": Decimal(6)}
    assert list(reconcile_invoices()) == []


def test_late_usage_of_a_void_period(cast: Cast, key: APIKey, book: PlainBook) -> None:
    """Where more costs less, it would have been below 0. In place of the void one, it is priced
    on that."""
    tiers = Volume((Tier(1_000, Decimal("0.10")), Tier(None, Decimal("0.01"))))
    plan = growth(included=0)
    plan = replace(plan, meters=(replace(plan.meters[0], pricing=tiers),))
    book.plans = [PlanSpan(plan, OCTOBER)]
    use(key, NOVEMBER - HOUR, 900)
    close(NOVEMBER)
    wrong = Invoice.objects.get(tenant=cast.acme)
    void(wrong, reason="wrong buyer", by="ada")
    use(key, NOVEMBER - 2 * HOUR, 200)
    close(DECEMBER)
    second = Invoice.objects.get(tenant=cast.acme, period_start=NOVEMBER)
    line = second.lines.get(code="late-usage")
    assert (line.amount, line.name) == (
        Decimal(0),
        f"Late usage of 2026-10-01 to 2026-11-01 (invoice {wrong.number} is void: not charged)",
    )
    assert [source["units"] for source in line.sources] == [200]
    assert list(reconcile_invoices()) == []

    again = finalize(draft_again(wrong))
    assert again is not None
    assert line_amounts(again) == {"growth": Decimal(49), "messages": Decimal(90)}
    use(key, NOVEMBER - 3 * HOUR, 50)
    close(JANUARY)
    third = Invoice.objects.get(tenant=cast.acme, period_start=DECEMBER)
    line = third.lines.get(code="late-usage")
    assert (line.amount, line.name) == (
        Decimal("0.50"),
        f"Late usage of 2026-10-01 to 2026-11-01 (invoice {again.number})",
    )
    assert list(reconcile_invoices()) == []


# --- the law --------------------------------------------------------------------------------------

STEPS = st.lists(
    st.sampled_from(["use", "late", "later", "void", "void last", "again", "one-off", "adjust"]),
    max_size=6,
)


@pytest.mark.timeout(400)
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(months=st.lists(STEPS, min_size=3, max_size=3))
@example(months=[["use"], ["late", "use"], ["void", "void last", "later"]])
@example(months=[["use"], ["late", "one-off", "void last", "again"], ["void last", "again"]])
def test_each_unit_is_on_one_invoice_that_holds(
    cast: Cast, key: APIKey, months: list[list[str]]
) -> None:
    """However often invoices are made void and again; and their sum is the price of the ledger."""
    with transaction.atomic(), terms_port.use(PlainBook()):
        used: Counter[str] = Counter()
        charged = Decimal(0)
        ends = (NOVEMBER, DECEMBER, JANUARY)
        for end, steps in zip(ends, months, strict=True):
            for place, step in enumerate(steps):
                held = Invoice.objects.finalized().filter(tenant=cast.acme)
                if step in {"use", "late", "later"}:
                    back = {"use": 0, "late": 31, "later": 62}[step]
                    hour = end - timedelta(days=back + place, hours=1)
                    if hour >= OCTOBER:
                        channel = f"c{len(used)}"
                        use(key, hour, 60 + place, channel)
                        used[channel] = 60 + place
                elif step.startswith("void"):
                    paid = [row for row in held.order_by("pk") if row.standing.balance > 0]
                    if paid:
                        void(paid[-1 if step == "void last" else 0], reason="x", by="ada")
                elif step == "again":
                    _again(cast.acme)
                elif step == "adjust":
                    row = propose(cast.acme, Decimal(3), code="extra", name="Extra")
                    decide(row, approve=True, by="ben")
                    charged += 3
                else:
                    _one_off(cast.acme)
            close(end, [cast.acme.pk])
        close(FEBRUARY, [cast.acme.pk])
        while _again(cast.acme):
            pass
        close(FEBRUARY + timedelta(days=28), [cast.acme.pk])
        assert invoiced(cast.acme) == used
        hold = [row for row in Invoice.objects.filter(tenant=cast.acme) if not is_void(row)]
        total = sum((row.total for row in hold), start=Decimal(0))
        missing = charged + _price(cast.acme) - total
        # What came late while a period's invoice was void, and none in its place, is not charged.
        free = [
            source["units"]
            for row in hold
            for line in row.lines.filter(code="late-usage", name__contains="is void")
            for source in line.sources
        ]
        assert 0 <= missing <= sum(free) * Decimal("0.01")
        assert list(reconcile_invoices()) == []
        transaction.set_rollback(True)


def _again(tenant: Tenant) -> int:
    """Make all void ones again. Answers how many there were."""
    rows = Invoice.objects.filter(tenant=tenant, standing__state="voided", replaced_by=None)
    for invoice in (found := list(rows)):
        finalize(draft_again(invoice))
    return len(found)


def _one_off(tenant: Tenant) -> None:
    try:
        finalize(draft.draft_one_off(tenant))
    except InvoicingError:
        pass


def _price(tenant: Tenant) -> Decimal:
    """Of the ledger: a fee and each message beyond 100 of a month, as a customer adds them up."""
    sums: Counter[tuple[int, int]] = Counter()
    for hour, units in LedgerEntry.objects.for_tenant(tenant).values_list("hour", "units"):
        sums[hour.year, hour.month] += units
    beyond = sum(max(0, units - 100) for units in sums.values())
    return 5 * Decimal(49) + beyond * Decimal("0.01")
