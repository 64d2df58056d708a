"""Lines of the invoices that were issued in a period."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from django.db.models import QuerySet

from billing.exports.csv import number, text, time
from billing.exports.invoices import chosen
from billing.exports.scope import PAGE_DOCUMENTS, Row, Scope, pages
from billing.models import Invoice, InvoiceLine

COLUMNS = (
    *text("invoice"),
    *time("issued_at"),
    *text("tenant", "currency"),
    *number("place"),
    *text("kind", "code", "name", "reason"),
    *number("quantity"),
    *text("unit"),
    *number("amount", "tax_percent", "tax"),
    *time("window_start", "window_end", "original_start", "original_end"),
    *number("net"),
)
_READ = (
    *("place", "kind", "code", "name", "reason", "quantity", "unit", "amount", "tax_percent"),
    *("tax", "window_start", "window_end", "original_start", "original_end", "net"),
)


def rows(scope: Scope) -> Iterator[Row]:
    """Those of the period, by the invoice's number and their place."""
    return rows_of(chosen(scope))


def rows_of(invoices: QuerySet[Invoice]) -> Iterator[Row]:
    """Those of some invoices that have a number."""
    read = ("finalized_at", "tenant__slug", "currency")
    for (number_, _, *about), lines in with_lines(invoices, read, _READ):
        for line in lines:
            yield (number_, *about, *line)


def with_lines(
    invoices: QuerySet[Invoice], columns: tuple[str, ...], of_line: tuple[str, ...]
) -> Iterator[tuple[Row, list[Row]]]:
    """Number, id and `columns` of each invoice that has a number, by it, with `of_line` of its
    lines by their place."""
    found = pages(
        invoices.filter(number__isnull=False), ("number",), ("pk", *columns), size=PAGE_DOCUMENTS
    )
    for page in found:
        lines: dict[int, list[Row]] = defaultdict(list)
        rows = InvoiceLine.objects.filter(invoice__in=[row[1] for row in page])
        for owner, *line in rows.order_by("invoice", "place").values_list("invoice", *of_line):
            lines[owner].append(tuple(line))
        for row in page:
            yield row, lines.get(row[1], [])
