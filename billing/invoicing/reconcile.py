"""Do finalized invoices say what the ledger says? The invoices' part of `manage.py reconcile`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.db import transaction
from django.db.models import QuerySet, Sum

from billing.invoicing import crediting
from billing.invoicing.draft import LATE_USAGE
from billing.invoicing.finalize import adds_up
from billing.invoicing.standing import Stand, stand_of
from billing.invoicing.usage import Place, hours_of
from billing.metering.reconcile import Difference
from billing.models import (
    CreditNote,
    Invoice,
    InvoiceCursor,
    InvoiceLine,
    InvoiceStanding,
    LedgerEntry,
    NumberSeries,
)


def reconcile_invoices(start: date = date.min, end: date = date.max) -> Iterator[Difference]:
    """All differences of invoices whose period ends within the UTC days `[start, end)`: their usage
    and the ledger, their sums and hashes, where they stand, and holes in the numbers."""
    rows = Invoice.objects.finalized().order_by("tenant", "ledger_position", "pk")
    if start > date.min:
        rows = rows.filter(period_end__gte=datetime(start.year, start.month, start.day, tzinfo=UTC))
    if end < date.max:
        rows = rows.filter(period_end__lt=datetime(end.year, end.month, end.day, tzinfo=UTC))
    for invoice in rows.iterator(chunk_size=500):
        yield from reconcile_invoice(invoice)
    yield from _positions()
    yield from _numbers()


def reconcile_invoice(invoice: Invoice) -> Iterator[Difference]:
    """The differences of one finalized invoice: its sums and hash, its usage, where it stands."""
    lines = list(invoice.lines.order_by("place"))
    if not adds_up(invoice, lines):
        yield Difference("invoice", str(invoice), "sums or hash are not those of its lines")
    if invoice.kind == Invoice.Kind.REGULAR:
        yield from _usage(invoice, lines)
    yield from _late(invoice, lines)
    yield from _standing(invoice)
    for note in invoice.credit_notes.filter(number__isnull=False):
        if not crediting.adds_up(note):
            yield Difference("credit note", str(note), "sums or hash are not those of its lines")


def _told(lines: list[dict[str, Any]]) -> Counter[Place]:
    found: Counter[Place] = Counter()
    for source in lines:
        found[source["metric"], source["channel"], source["reason"]] += source["units"]
    return found


def _posted(
    invoice: Invoice, within: tuple[datetime, datetime], **positions: int
) -> Counter[Place]:
    rows = (
        LedgerEntry.objects.filter(
            account=invoice.tenant_id, hour__gte=within[0], hour__lt=within[1], **positions
        )
        .order_by()
        .values_list("metric", "channel", "zero_rated")
        .annotate(total=Sum("units"))
    )
    found: Counter[Place] = Counter()
    for metric, channel, reason, units in rows:
        found[metric, channel, reason] = int(units)
    return found


def _compare(
    check: str, invoice: Invoice, told: Counter[Place], posted: Counter[Place]
) -> Iterator[Difference]:
    for place in sorted(told.keys() | posted.keys()):
        if told[place] != posted[place]:
            where = f"{invoice} tenant {invoice.tenant_id} {' '.join(place)}".rstrip()
            yield Difference(check, where, f"invoice {told[place]}, ledger {posted[place]}")


def _usage(invoice: Invoice, lines: list[InvoiceLine]) -> Iterator[Difference]:
    """The usage of its period up to its position, and what of it nothing charges for."""
    sources = [source for line in lines if line.code != LATE_USAGE for source in line.sources]
    own = [row for row in invoice.unmetered if not row.get("is_late")]
    posted = _posted(invoice, hours_of(invoice), position__lte=invoice.ledger_position)
    yield from _compare("invoice usage", invoice, _told([*sources, *own]), posted)


def _late(invoice: Invoice, lines: list[InvoiceLine]) -> Iterator[Difference]:
    """What came late of each earlier period since the invoice before, line by line."""
    before = Invoice.objects.finalized().filter(
        tenant=invoice.tenant_id,
        kind=Invoice.Kind.REGULAR,
        ledger_position__lte=invoice.previous_position,
        period_end__lte=invoice.period_start,
    )
    told = {line.original_start: line.sources for line in lines if line.code == LATE_USAGE}
    for billed in before.order_by("period_start"):
        posted = _posted(
            invoice,
            hours_of(billed),
            position__gt=invoice.previous_position,
            position__lte=invoice.ledger_position,
        )
        sources = told.pop(billed.period_start, [])
        yield from _compare("late usage", invoice, _told(sources), posted)
    for period_start in told:
        yield Difference("late usage", str(invoice), f"of {period_start}, which has no invoice")


def _positions() -> Iterator[Difference]:
    """Each invoice of a tenant goes on where the one before it stopped, and the cursor with the
    last: so nothing was posted between two invoices that neither has looked at."""
    rows = (
        Invoice.objects.finalized()
        .order_by("tenant", "ledger_position", "previous_position", "pk")
        .values_list("tenant", "number", "previous_position", "ledger_position")
    )
    reached = {}
    for tenant, found in groupby(rows.iterator(), key=lambda row: row[0]):
        upto = None
        for _, number, previous, position in found:
            # A period without an invoice moves the cursor too, so there may be a step, never back.
            if previous > position or (upto is not None and previous < upto):
                yield Difference(
                    "positions", f"{number} tenant {tenant}", f"begins at {previous}, not {upto}"
                )
            upto = position
        reached[tenant] = upto or 0
    # After the invoices, because a cursor only moves on while they are read.
    cursors = dict(InvoiceCursor.objects.values_list("tenant", "position"))
    for tenant, upto in reached.items():
        if cursors.get(tenant, 0) < upto:
            yield Difference(
                "positions", f"tenant {tenant}", f"cursor {cursors.get(tenant)}, invoices {upto}"
            )


def _standing(invoice: Invoice) -> Iterator[Difference]:
    told, found = _stands(invoice, InvoiceStanding.objects.all())
    if told != found:
        # A payment may have come between two reads: again, with the lock of whoever settles.
        with transaction.atomic():
            told, found = _stands(invoice, InvoiceStanding.objects.select_for_update())
    if told != found:
        yield Difference("standing", str(invoice), f"says {told}, its rows {tuple(found)}")


def _stands(
    invoice: Invoice, standings: QuerySet[InvoiceStanding]
) -> tuple[tuple[str, Decimal] | None, Stand]:
    """What its standing says, and what its rows add up to."""
    standing = standings.filter(invoice=invoice).first()
    told = None if standing is None else (standing.state, standing.balance)
    return told, stand_of(invoice)


def _numbers() -> Iterator[Difference]:
    """All numbers of a series are on documents, from 1 on."""
    # Documents get numbers meanwhile: at least those given before, at most those given after.
    before = _series()
    given: dict[str, set[int]] = {}
    for model in (Invoice, CreditNote):
        numbers = model._default_manager.exclude(number=None).values_list("number", flat=True)
        for number in numbers.iterator():
            series, _, n = str(number).rpartition("-")
            given.setdefault(series, set()).add(int(n))
    after = _series()
    for series, last in after.items():
        found = given.pop(series, set())
        missing = set(range(1, before.get(series, 0) + 1)) - found
        wrong = sorted(missing | {n for n in found if not 1 <= n <= last})
        if wrong:
            yield Difference("numbers", series, f"{wrong[:5]} of {last}")
    for series in given:
        yield Difference("numbers", series, "no such series")


def _series() -> dict[str, int]:
    return {f"{row.prefix}-{row.year}": row.last for row in NumberSeries.objects.all()}
