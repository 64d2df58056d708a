"""What a tenant that closes its account owes until then: its plan, its add-ons and its period end
at that second, and the invoice of it is drafted.

The period is cut short as by a change of interval: else who pays by the year would have its last
invoice in a year. The draft is made again by the next month close, with what was posted since, and
becomes final after the grace as any other.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from billing.catalogue import services, terms
from billing.catalogue.written import locked_tenant, write_down
from billing.invoicing.draft import draft_invoice
from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import lock_cursor
from billing.models import AddOnSubscription, BillingAnchor, Invoice, InvoiceCursor
from billing.rating.periods import SECOND, Period, in_utc
from billing.rating.prices import Unit
from tenants.models import Tenant
from tenants.selectors import current_plan_subscription


@transaction.atomic
def end_billing(tenant_id: int, now: datetime) -> Invoice | None:
    """End all that costs anything, and draft what is left to invoice; None where nothing is, or
    nothing ever was."""
    at = in_utc(now)
    cursor = lock_cursor(tenant_id)
    tenant = locked_tenant(tenant_id)
    if tenant.closed_at is not None:
        return None  # somebody else was first
    if current_plan_subscription(tenant) is not None:
        services.cancel(tenant, now=at)
    else:
        services.keep_plan(tenant, now=at)
    held = AddOnSubscription.objects.filter(Q(ended_at=None) | Q(ended_at__gt=at), tenant=tenant)
    for row in held.order_by("pk"):
        services.end_add_on(row, now=at)
    period = _cut(tenant, at)
    return None if period is None else _drafted(tenant, period, cursor)


def _cut(tenant: Tenant, at: datetime) -> Period | None:
    """The period that ends at `at`, also where another would have ended later."""
    try:
        period = terms.period_of(tenant, at)
    except terms.NoTerms:
        return None
    if period.start < at:
        BillingAnchor.objects.create(tenant=tenant, at=at, unit=str(Unit.MONTH), every=1)
        write_down(tenant, at)
    try:
        return terms.period_of(tenant, at - SECOND)
    except terms.NoTerms:
        return None


def _drafted(tenant: Tenant, period: Period, cursor: InvoiceCursor) -> Invoice | None:
    if cursor.finalized_until is not None and period.start < cursor.finalized_until:
        return None
    before = Invoice.objects.filter(
        tenant=tenant,
        kind=Invoice.Kind.REGULAR,
        state=Invoice.State.DRAFT,
        period_start=period.start,
    ).first()
    if before is not None and before.period_end != period.end:
        # Drafted ahead, of a period that was longer then.
        before.period_end, before.full_end = period.end, period.full_end
        before.save_locked()
    try:
        return draft_invoice(tenant, period, cursor=cursor)
    except InvoicingError:  # metered only, and never invoiced
        return None
