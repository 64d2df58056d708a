"""From a published plan to an invoice: the real terms, wallet and gap credits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing.catalogue import services, wallet
from billing.invoicing import crediting
from billing.invoicing.adjusting import decide, propose_sla_credit
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import Invoice, WalletEntry
from tenants import services as tenant_services
from tenants.models import Tenant
from tests.billing.catalogue.books import make_tenant, publish_book
from tests.billing.invoicing.books import DECEMBER, FEBRUARY, JANUARY, line_amounts, use

BEGAN = datetime(2026, 11, 11, tzinfo=UTC)
GRACE, HOUR = timedelta(hours=72), timedelta(hours=1)
CHANGED = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def ada(db: None) -> Tenant:
    """On the small plan (30 a month) from the 11th, on the large one (300) from the 21st."""
    book = publish_book()
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"], now=BEGAN)
    services.change_plan(tenant, plan=book["large"], now=CHANGED)
    return tenant


def test_a_change_of_plan_is_prorated_and_the_wallet_pays(ada: Tenant) -> None:
    key = tenant_services.issue_key(tenant=ada, name="bot").key
    use(key, DECEMBER - HOUR, 100)
    use(key, DECEMBER, 7)
    wallet.enter(ada, amount=Decimal(50), kind=WalletEntry.Kind.TOP_UP)
    gap = (CHANGED + 5 * HOUR, CHANGED + 6 * HOUR)
    (credit,) = propose_sla_credit(ada, [gap], reason="node down", origin="gap:7")
    assert propose_sla_credit(ada, [gap], reason="node down", origin="gap:7") == [credit]
    # An hour of a month of 720, ten times.
    assert credit.amount == -(Decimal(300) * 10 / 720).quantize(Decimal("0.01"))
    decide(credit, approve=True, by="ben")

    close_due_periods(DECEMBER)
    assert finalize_due(DECEMBER + GRACE) == (1, 0)
    invoice = Invoice.objects.get()
    assert line_amounts(invoice) == {
        "small": Decimal("10.00"),
        "large": Decimal("100.00"),
        "messages": Decimal("0.00"),
        "sla-credit": Decimal("-4.17"),
    }
    assert (invoice.prepaid, invoice.due) == (Decimal(50), Decimal("55.83"))
    assert wallet.wallet_balance(ada) == 0
    assert len(invoice.segments) == 2
    assert list(reconcile_invoices()) == []

    crediting.void(invoice, reason="wrong customer", by="ada")
    assert wallet.wallet_balance(ada) == Decimal(50)
    assert invoice.standing.balance == 0
    assert list(reconcile_invoices()) == []


def test_without_terms_there_is_nothing_to_invoice(db: None) -> None:
    tenant = make_tenant("Ben")
    assert propose_sla_credit(tenant, [(BEGAN, CHANGED)], reason="x", origin="gap:1") == []
    assert close_due_periods(DECEMBER) == (0, 0)
    assert not Invoice.objects.exists()


def test_late_usage_of_one_who_left_is_on_a_last_invoice(ada: Tenant) -> None:
    """Periods go on without a plan: with nothing to say, they make no invoice."""
    key = tenant_services.issue_key(tenant=ada, name="bot").key
    services.cancel(ada, at=DECEMBER, now=CHANGED + HOUR)
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    close_due_periods(JANUARY)
    finalize_due(JANUARY + GRACE)
    assert Invoice.objects.count() == 1
    use(key, DECEMBER - HOUR, 40_000)
    close_due_periods(FEBRUARY)
    finalize_due(FEBRUARY + GRACE)
    last = Invoice.objects.get(period_start=JANUARY)
    assert [line.code for line in last.lines.all()] == ["late-usage"]
    assert list(reconcile_invoices()) == []


def test_the_hour_from_which_overage_is_chosen_is_paid_for(db: None) -> None:
    """Also where the terms before it began within an hour, which pays for itself."""
    plans = publish_book()
    tenant = make_tenant()
    key = tenant_services.issue_key(tenant=tenant, name="bot").key
    services.subscribe(tenant, plan=plans["small"], now=day(1))
    services.change_plan(tenant, plan=plans["large"], now=day(2) + timedelta(hours=10.5))
    chosen = day(5) + timedelta(hours=13)
    services.choose_overage(tenant, is_on=True, now=chosen + timedelta(minutes=20))
    use(key, chosen, 1_000_000)
    close_due_periods(DECEMBER + timedelta(days=3))
    finalize_due(DECEMBER + timedelta(days=3))
    invoice = Invoice.objects.get(tenant=tenant)
    assert invoice.unmetered == []
    assert line_amounts(invoice)["messages"] > 1_000
    assert list(reconcile_invoices()) == []


def day(number: int) -> datetime:
    return datetime(2026, 11, number, tzinfo=UTC)
