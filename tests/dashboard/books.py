"""A customer with a past: an invoice that is partly paid, and one that is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from billing.catalogue import services
from billing.invoicing import crediting, payments
from billing.invoicing.adjusting import decide, propose
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.draft import draft_one_off
from billing.invoicing.finalize import finalize
from billing.models import CreditNote, Invoice, Payment
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


def invoice_of(tenant: Tenant) -> Invoice:
    """A finalized invoice of 10 USD, for one-off work."""
    row = propose(tenant, Decimal("10.00"), code="work", name="Work", by="ann")
    decide(row, approve=True, by="ben")
    return finalize(draft_one_off(tenant))


def credit_note_of(invoice: Invoice) -> CreditNote:
    """A credit note of all of it."""
    note = crediting.credit(invoice, reason="A mistake", by="ann")
    return note if note.number else crediting.approve_credit(note, by="ben")
