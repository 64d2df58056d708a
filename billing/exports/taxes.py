"""Taxes of a period: what was invoiced less what was credited, document by document and in sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from billing.exports import credit_notes, invoices, lines
from billing.exports.csv import flag, number, text, time
from billing.exports.scope import Row, Scope
from billing.rating.money import CURRENCY

COLUMNS = (
    *text("document", "kind"),
    *time("issued_at"),
    *text("tenant", "buyer_name", "buyer_country", "buyer_tax_id", "tax_name"),
    *number("tax_percent"),
    *flag("is_reverse_charge"),
    *number("net", "tax"),
    *text("currency"),
)
SUMMARY_COLUMNS = (
    *text("buyer_country", "tax_name"),
    *number("tax_percent"),
    *flag("is_reverse_charge"),
    *number("documents", "net", "tax"),
    *text("currency"),
)
_LINE = ("tax_percent", "amount", "tax")


def rows(scope: Scope) -> Iterator[Row]:
    """A row for each document and rate on its lines: invoices, then credit notes below 0."""
    issued = lines.with_lines(
        invoices.chosen(scope), ("finalized_at", "tenant__slug", "buyer", "tax"), _LINE
    )
    for (name, _, *about), found in issued:
        yield from _rates(name, "invoice", about, found, sign=1)
    credited = credit_notes.with_lines(
        credit_notes.chosen(scope),
        ("issued_at", "invoice__tenant__slug", "invoice__buyer", "invoice__tax"),
        _LINE,
    )
    for (name, _, *about), found in credited:
        yield from _rates(name, "credit_note", about, found, sign=-1)


def _rates(name: str, kind: str, about: list[Any], found: list[Row], *, sign: int) -> Iterator[Row]:
    at, slug, buyer, tax = about
    net: Counter[Decimal] = Counter()
    due: Counter[Decimal] = Counter()
    for percent, amount, part in found:
        net[percent] += amount * sign
        due[percent] += part * sign
    who = (buyer.get("name", ""), buyer.get("country", ""), buyer.get("tax_id", ""))
    for percent in sorted(net):
        yield (
            *(name, kind, at, slug, *who, tax.get("name", ""), percent),
            *(bool(tax.get("reverse_charge")), net[percent], due[percent], CURRENCY),
        )


def summary_rows(scope: Scope) -> Iterator[Row]:
    """The sums by country, tax and rate: as many as there are of these."""
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows(scope):
        total = sums.setdefault((row[5], *row[7:10]), [0, Decimal("0.00"), Decimal("0.00")])
        total[0] += 1
        total[1] += row[10]
        total[2] += row[11]
    for place in sorted(sums):
        yield (*place, *sums[place], CURRENCY)
