"""Credit notes that were issued in a period, and their lines. Amounts are positive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from django.db.models import QuerySet

from billing.exports.csv import flag, number, text, time
from billing.exports.scope import PAGE_DOCUMENTS, Row, Scope, paged, pages
from billing.models import CreditNote, CreditNoteLine

COLUMNS = (
    *text("number", "invoice"),
    *time("issued_at"),
    *text("tenant", "currency", "reason"),
    *flag("is_void"),
    *number("subtotal", "tax_total", "total"),
    *text("content_sha256"),
    *text("requested_by", "approved_by", is_internal=True),
)
_READ = (
    *("invoice__number", "issued_at", "invoice__tenant__slug", "invoice__currency", "reason"),
    *("voids", "subtotal", "tax_total", "total", "content_sha256"),
    *("requested_by", "approved_by"),
)
LINE_COLUMNS = (
    *text("credit_note", "invoice"),
    *time("issued_at"),
    *text("tenant", "currency"),
    *number("place"),
    *text("kind", "code", "name"),
    *number("amount", "tax_percent", "tax"),
)
_READ_LINE = ("line__place", "line__kind", "line__code", "name", "amount", "tax_percent", "tax")


def chosen(scope: Scope) -> QuerySet[CreditNote]:
    """Issued in the period."""
    return CreditNote.objects.filter(**scope.within("issued_at"), **scope.of("invoice__tenant"))


def rows(scope: Scope) -> Iterator[Row]:
    """Those of the period, by number."""
    return rows_of(chosen(scope))


def rows_of(notes: QuerySet[CreditNote]) -> Iterator[Row]:
    """Those of some that have a number, by it."""
    return paged(notes.filter(number__isnull=False), ("number",), _READ)


def line_rows(scope: Scope) -> Iterator[Row]:
    """Their lines, by the note's number and the place of the line on the invoice."""
    return lines_of(chosen(scope))


def lines_of(notes: QuerySet[CreditNote]) -> Iterator[Row]:
    """The lines of some that have a number."""
    read = ("invoice__number", "issued_at", "invoice__tenant__slug", "invoice__currency")
    for (number_, _, *about), lines in with_lines(notes, read, _READ_LINE):
        for line in lines:
            yield (number_, *about, *line)


def with_lines(
    notes: QuerySet[CreditNote], columns: tuple[str, ...], of_line: tuple[str, ...]
) -> Iterator[tuple[Row, list[Row]]]:
    """Number, id and `columns` of each note that has a number, by it, with `of_line` of its
    lines."""
    found = pages(
        notes.filter(number__isnull=False), ("number",), ("pk", *columns), size=PAGE_DOCUMENTS
    )
    for page in found:
        lines: dict[int, list[Row]] = defaultdict(list)
        rows = CreditNoteLine.objects.filter(credit_note__in=[row[1] for row in page])
        ordered = rows.order_by("credit_note", "line__place", "pk")
        for owner, *line in ordered.values_list("credit_note", *of_line):
            lines[owner].append(tuple(line))
        for row in page:
            yield row, lines.get(row[1], [])
