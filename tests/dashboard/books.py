"""A customer with a past: an invoice that is partly paid, and one that is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from billing.catalogue import services
from billing.invoicing import payments
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.models import Invoice, Payment
from tenants.models import Plan, Tenant
from tests.billing.catalogue.books import make_tenant, publish_book

BEGAN = datetime(2026, 9, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
GRACE = timedelta(hours=72)


def customer_with_a_past(name: str = "Ada") -> Tenant:
    """On the small plan (30 USD a month) since September, with invoices of two months."""
    book = {plan.code: plan for plan in Plan.objects.all()} or publish_book()
    tenant = make_tenant(name)
    services.subscribe(tenant, plan=book["small"], now=BEGAN)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + GRACE)
    first = Invoice.objects.filter(tenant=tenant).order_by("period_start")[0]
    paid = payments.record_payment(
        tenant,
        amount=Decimal("20.00"),
        method=Payment.Method.BANK_TRANSFER,
        received_at=NOVEMBER + 2 * GRACE,
        reference=f"transfer of {name}",
    )
    payments.allocate(paid, first, Decimal("12.50"))
    return tenant
