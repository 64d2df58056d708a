"""Month close: a draft for each tenant whose period ended, and after the grace an invoice.

Each tenant is a transaction of its own. Stopping at any point and beginning again, or running twice
at once, makes the same: the cursor says what is done, its row is the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.invoicing import draft, finalize
from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import is_invoiced, lock_account, lock_cursor
from billing.invoicing.terms_port import Terms, book
from billing.models import Invoice, InvoiceCursor
from billing.rating.periods import Period
from tenants.models import Tenant

log = structlog.get_logger(__name__)

#: Tenants whose terms are read at once.
CHUNK = 200
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


class Closed(NamedTuple):
    """How a run went. `failed` are in the log, and tried again by the next run."""

    done: int
    failed: int


def close_due_periods(
    now: datetime | None = None, *, limit_s: float | None = None, tenants: list[int] | None = None
) -> Closed:
    """Draft an invoice for each customer's period that has ended and has none. After `limit_s`
    seconds it stops, and the next run goes on."""
    at = now or timezone.now()
    spent = _stopwatch(limit_s)
    done = failed = 0
    for chunk in _chunks(tenants):
        terms = book().load(chunk, None, at)
        until = dict(
            InvoiceCursor.objects.filter(tenant__in=chunk).values_list("tenant", "closed_until")
        )
        for tenant in chunk:
            if spent():
                return Closed(done, failed)
            try:
                since = until.get(tenant.pk) or _BEGINNING
                for period in terms.periods_between(tenant, since, at):
                    done += _close(tenant, period, terms)
            except Exception:
                # One tenant's terms must not keep the others from their invoices.
                log.exception("period_not_closed", tenant=tenant.pk)
                failed += 1
    return Closed(done, failed)


def _chunks(only: list[int] | None) -> Iterator[list[Tenant]]:
    last = 0
    while True:
        rows = Tenant.objects.filter(pk__gt=last).order_by("pk")
        if only is not None:
            rows = rows.filter(pk__in=only)
        chunk = list(rows[:CHUNK])
        if not chunk:
            return
        yield chunk
        last = chunk[-1].pk


def _stopwatch(limit_s: float | None) -> Callable[[], bool]:
    began = time.monotonic()
    return lambda: limit_s is not None and time.monotonic() - began > limit_s


@transaction.atomic
def _close(tenant: Tenant, period: Period, terms: Terms) -> bool:
    """Whether there was something to do."""
    cursor = lock_cursor(tenant.pk)
    if cursor.closed_until is not None and period.end <= cursor.closed_until:
        return False  # another beat was here
    if is_invoiced(tenant):
        draft.draft_invoice(tenant, period, terms=terms)
    else:
        # Metered and never invoiced: should it become a customer, its invoices begin here.
        cursor.position = lock_account(tenant.pk).last_position
        cursor.finalized_until = period.end
        _, cursor.usage_until = terms.usage_hours_of(tenant, period)
    cursor.closed_until = period.end
    cursor.save()
    return True


def finalize_due(now: datetime | None = None, *, limit_s: float | None = None) -> Closed:
    """Finalize each draft whose period ended `RELAY_INVOICE_GRACE_H` hours ago, the oldest of a
    tenant first."""
    at = now or timezone.now()
    spent = _stopwatch(limit_s)
    done = failed = 0
    last = (_BEGINNING, 0)
    ended = at - timedelta(hours=settings.RELAY_INVOICE_GRACE_H)
    due = Invoice.objects.filter(
        state=Invoice.State.DRAFT, kind=Invoice.Kind.REGULAR, period_end__lte=ended
    ).select_related("tenant")
    while not spent():
        chunk = [
            *due.filter(period_end=last[0], pk__gt=last[1]).order_by("pk")[:CHUNK],
            *due.filter(period_end__gt=last[0]).order_by("period_end", "pk")[:CHUNK],
        ][:CHUNK]
        if not chunk:
            break
        terms = book().load({invoice.tenant for invoice in chunk})
        for invoice in chunk:
            last = (invoice.period_end, invoice.pk)
            if spent():
                break
            try:
                finalize.finalize(invoice, now=at, terms=terms)
                done += 1
            except InvoicingError as error:
                log.warning("invoice_not_finalized", invoice=invoice.pk, why=str(error))
                failed += 1
            except Exception:
                log.exception("invoice_not_finalized", invoice=invoice.pk)
                failed += 1
    return Closed(done, failed)
