"""Invoices that were issued in a period: one row each."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import QuerySet

from billing.exports.csv import flag, number, text, time
from billing.exports.scope import Row, Scope, paged
from billing.models import Invoice

COLUMNS = (
    *text("number", "kind"),
    *time("issued_at", "due_at", "period_start", "period_end"),
    *text("tenant", "buyer_name", "buyer_country", "buyer_tax_id", "currency"),
    *number("subtotal", "tax_total", "total", "prepaid", "due"),
    *text("tax_name"),
    *number("tax_percent"),
    *flag("is_reverse_charge"),
    *text("content_sha256"),
    *number("carried", "payable"),
)
_READ = (
    *("kind", "finalized_at", "due_at", "period_start", "period_end", "tenant__slug", "buyer"),
    *("currency", "subtotal", "tax_total", "total", "prepaid", "due", "tax", "content_sha256"),
    "carried",
)


def chosen(scope: Scope) -> QuerySet[Invoice]:
    """Finalized in the period: drafts have no such time."""
    return Invoice.objects.filter(**scope.within("finalized_at"), **scope.of())


def rows(scope: Scope) -> Iterator[Row]:
    """Those of the period, by number."""
    return rows_of(chosen(scope))


def rows_of(invoices: QuerySet[Invoice]) -> Iterator[Row]:
    """Those of some that have a number, by it. Where they stand is not told: it moves, and these
    rows are for good."""
    for row in paged(invoices.filter(number__isnull=False), ("number",), _READ):
        number_, kind, *times, slug, buyer, currency = row[:9]
        *amounts, tax, sha256, carried = row[9:]
        due = amounts[-1]
        yield (
            *(number_, kind, *times, slug),
            *(buyer.get("name", ""), buyer.get("country", ""), buyer.get("tax_id", "")),
            *(currency, *amounts, tax.get("name", ""), Decimal(tax.get("percent", "0"))),
            *(bool(tax.get("reverse_charge")), sha256, carried, due - carried),
        )
