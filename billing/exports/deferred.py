"""Fees that are invoiced while their time still runs, and what of them is not earned yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.db.models import F

from billing.exports.csv import number, text
from billing.exports.recognition import Deferral
from billing.exports.scope import PAGE_DOCUMENTS, Row, Scope, pages
from billing.models import CreditNoteLine, Invoice, InvoiceLine
from billing.rating.invoice import LineKind

ZERO = Decimal("0.00")
FEES = (LineKind.PLAN_FEE.value, LineKind.ADD_ON_FEE.value)

COLUMNS = (
    *text("tenant"),
    *number("opening", "invoiced", "credited", "recognised", "closing"),
)


class Deferred(NamedTuple):
    """A line of an invoice whose fee was not all earned when it was invoiced. `notes` are the
    credit notes (ids) of its credits, in the same order."""

    line: int
    invoice: str
    place: int
    tenant: str
    fee: Deferral
    notes: tuple[int, ...]


def within(scope: Scope) -> Iterator[Deferred]:
    """All that were deferred at some time in the period, by invoice and place."""
    invoices = (
        Invoice.objects.finalized()
        .filter(period_end__gt=scope.start, finalized_at__lt=scope.end, **scope.of())
        .filter(finalized_at__lt=F("period_end"))
    )
    for page in pages(invoices, ("number",), ("pk",), size=PAGE_DOCUMENTS):
        yield from of_invoices([row[1] for row in page])


def of_invoices(invoices: Iterable[int]) -> list[Deferred]:
    """The deferred lines of some invoices, by their ids."""
    lines = InvoiceLine.objects.filter(
        invoice__in=list(invoices),
        kind__in=FEES,
        window_end__gt=F("invoice__finalized_at"),
        net__gt=0,
    ).order_by("invoice__number", "place")
    about = ("pk", "invoice__number", "place", "invoice__tenant__slug", "net")
    times = ("window_start", "window_end", "invoice__finalized_at")
    found = list(lines.values_list(*about, *times))
    credited: dict[int, list[tuple[datetime, Decimal, int]]] = defaultdict(list)
    rows = CreditNoteLine.objects.filter(
        line__in=[row[0] for row in found], credit_note__number__isnull=False
    ).order_by("credit_note__issued_at", "credit_note")
    for line, *credit in rows.values_list(
        "line", "credit_note__issued_at", "amount", "credit_note"
    ):
        credited[line].append(tuple(credit))
    made = []
    for pk, invoice, place, tenant, amount, start, end, invoiced_at in found:
        credits = tuple((at, part) for at, part, _ in credited[pk])
        fee = Deferral(amount, start, end, invoiced_at, credits)
        notes = tuple(note for *_, note in credited[pk])
        made.append(Deferred(pk, invoice, place, tenant, fee, notes))
    return made


def rows(scope: Scope) -> Iterator[Row]:
    """The roll-forward of each tenant: opening + invoiced - credited - recognised = closing."""
    sums: dict[str, list[Decimal]] = defaultdict(lambda: [ZERO] * 5)
    for row in within(scope):
        fee, start, end = row.fee, scope.start, scope.end
        invoiced = fee.deferred if start <= fee.invoiced_at < end else ZERO
        taken = (fee.taken(n) for n, (at, _) in enumerate(fee.credits) if start <= at < end)
        moved = (fee.left(start), invoiced, sum(taken, start=ZERO), fee.earned(start, end))
        parts = (*moved, fee.left(end))
        sums[row.tenant] = [a + b for a, b in zip(sums[row.tenant], parts, strict=True)]
    for slug in sorted(sums):
        yield (slug, *sums[slug])
