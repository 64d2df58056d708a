"""Month close: a draft for each tenant whose period ended, and after the grace an invoice.

Each tenant is a transaction of its own. Stopping at any point and beginning again, or running twice
at once, makes the same: the cursor says what is done, its row is the lock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from billing.invoicing import draft, finalize
from billing.invoicing.ahead import NOTHING, Ahead, read_ahead
from billing.invoicing.errors import InvoicingError
from billing.invoicing.kinds import custom_of
from billing.invoicing.locks import lock_account, lock_cursor
from billing.invoicing.retrying import retried
from billing.invoicing.terms_port import Terms, book
from billing.invoicing.usage import Ranges, period_of, stretches
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
        cursors = _cursors(chunk)
        due: dict[int, Sequence[Period]] = {}
        for tenant in chunk:
            try:
                since = cursors[tenant.pk].closed_until or _BEGINNING
                due[tenant.pk] = terms.periods_between(tenant, since, at)
            except Exception:
                # One tenant's terms must not keep the others from their invoices.
                log.exception("period_not_closed", tenant=tenant.pk)
                failed += 1
        asking = [tenant for tenant in chunk if due.get(tenant.pk)]
        drafts = [draft.new_draft(tenant, due[tenant.pk][0]) for tenant in asking]
        ahead = _read_ahead(drafts, cursors, terms) if drafts else NOTHING
        for tenant in asking:
            if spent():
                return Closed(done, failed)
            try:
                for period in due[tenant.pk]:
                    done += _close(tenant, period, terms, ahead)
            except Exception:
                log.exception("period_not_closed", tenant=tenant.pk)
                failed += 1
    return Closed(done, failed)


def _cursors(tenants: Sequence[Tenant]) -> dict[int, InvoiceCursor]:
    """The cursors of all of them, begun where there is none."""
    ids = [tenant.pk for tenant in tenants]
    found = InvoiceCursor.objects.order_by().in_bulk(ids)
    missing = [pk for pk in ids if pk not in found]
    if missing:
        InvoiceCursor.objects.bulk_create(
            (InvoiceCursor(pk=pk) for pk in missing), ignore_conflicts=True
        )
        found |= InvoiceCursor.objects.order_by().in_bulk(missing)
    return found


def _read_ahead(
    drafts: Sequence[Invoice], cursors: Mapping[int, InvoiceCursor], terms: Terms
) -> Ahead:
    """What these drafts are made of. Not of a tenant with several: what is written for the first is
    not yet there; nor where the usage is of a part of the time, or as it once was."""
    number = Counter(invoice.tenant_id for invoice in drafts)
    alone = [
        invoice
        for invoice in drafts
        if number[invoice.tenant_id] == 1
        and invoice.sequence == 1
        and not cursors[invoice.tenant_id].kind_changes
    ]
    ranges: dict[int, Ranges] = {}
    for invoice in alone:
        try:
            tenant, period = invoice.tenant, period_of(invoice)
            draft.set_hours(invoice, cursors[tenant.pk], terms)
            segments = terms.segments_of(tenant, period)
            ranges[tenant.pk] = stretches(invoice, period, segments)
        except Exception as error:
            # Told where it is drafted or finalized, which does the same again.
            log.debug("not_read_ahead", tenant=invoice.tenant_id, error=type(error).__name__)
    return read_ahead([invoice.tenant_id for invoice in alone], ranges, book())


def _chunks(only: list[int] | None) -> Iterator[list[Tenant]]:
    last = 0
    while True:
        rows = Tenant.objects.filter(pk__gt=last).order_by("pk").select_related("billing_profile")
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


@retried
@transaction.atomic
def _close(tenant: Tenant, period: Period, terms: Terms, ahead: Ahead) -> bool:
    """Whether there was something to do."""
    cursor = lock_cursor(tenant.pk)
    if cursor.closed_until is not None and period.end <= cursor.closed_until:
        return False  # another beat was here
    if not custom_of(tenant, cursor).is_never:
        # Also who is a customer no longer: what it owes from then is invoiced in order, and of a
        # period with nothing to say there is no invoice.
        draft.draft_invoice(tenant, period, terms=terms, ahead=ahead, cursor=cursor)
    else:
        # Metered and never invoiced, so nothing waits here.
        cursor.position = lock_account(tenant.pk).last_position
        cursor.finalized_until = period.end
        _, cursor.usage_until = terms.usage_hours_of(tenant, period)
    cursor.closed_until = period.end
    cursor.save()
    return True


def finalize_due(now: datetime | None = None, *, limit_s: float | None = None) -> Closed:
    """Finalize each draft whose period ended `RELAY_INVOICE_GRACE_H` hours ago, the oldest of a
    tenant first. In place of a void invoice another has its grace from when it was drafted."""
    at = now or timezone.now()
    spent = _stopwatch(limit_s)
    done = failed = 0
    last = (_BEGINNING, 0)
    ended = at - timedelta(hours=settings.RELAY_INVOICE_GRACE_H)
    due = Invoice.objects.filter(
        Q(sequence=1) | Q(drafted_at__lte=ended),
        state=Invoice.State.DRAFT,
        kind=Invoice.Kind.REGULAR,
        period_end__lte=ended,
    ).select_related("tenant__billing_profile")
    while not spent():
        chunk = [
            *due.filter(period_end=last[0], pk__gt=last[1]).order_by("pk")[:CHUNK],
            *due.filter(period_end__gt=last[0]).order_by("period_end", "pk")[:CHUNK],
        ][:CHUNK]
        if not chunk:
            break
        terms = book().load({invoice.tenant for invoice in chunk})
        cursors = _cursors([invoice.tenant for invoice in chunk])
        ahead = _read_ahead(chunk, cursors, terms)
        for invoice in chunk:
            last = (invoice.period_end, invoice.pk)
            if spent():
                break
            try:
                finalize.finalize(invoice, now=at, terms=terms, ahead=ahead)
                done += 1
            except InvoicingError as error:
                log.warning("invoice_not_finalized", invoice=invoice.pk, why=str(error))
                failed += 1
            except Exception:
                log.exception("invoice_not_finalized", invoice=invoice.pk)
                failed += 1
    return Closed(done, failed)
