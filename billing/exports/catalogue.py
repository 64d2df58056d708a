"""All exports by name, for whoever takes one out: a command, the admin, the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.utils.translation import gettext as _

from billing.exports import (
    balances,
    credit_notes,
    csv,
    deferred,
    invoices,
    journal,
    lines,
    payments,
    summary,
    taxes,
    usage,
    wallets,
)
from billing.exports.csv import Column
from billing.exports.scope import Row, Scope, parse_period
from tenants.models import Tenant


class UnknownExport(ValueError):
    """No export has this name, or none that this caller may have."""


@dataclass(frozen=True, slots=True)
class Export:
    """A table. An operator needs `permissions`; a tenant may have its own rows where it
    `is_for_tenants`."""

    title: str
    columns: tuple[Column, ...]
    rows: Callable[[Scope], Iterator[Row]]
    permissions: tuple[str, ...]
    is_for_tenants: bool = False


_INVOICE, _CREDIT, _PAYMENT, _WALLET, _USAGE = (
    f"billing.view_{name}"
    for name in ("invoice", "creditnote", "payment", "walletentry", "monthlyrollup")
)
_ALL = (_INVOICE, _CREDIT, _PAYMENT, _WALLET)

EXPORTS: dict[str, Export] = {
    "invoices": Export("Invoices", invoices.COLUMNS, invoices.rows, (_INVOICE,), True),
    "lines": Export("Lines", lines.COLUMNS, lines.rows, (_INVOICE,), True),
    "credit_notes": Export(
        "Credit notes", credit_notes.COLUMNS, credit_notes.rows, (_CREDIT,), True
    ),
    "credit_note_lines": Export(
        "Lines of credit notes",
        credit_notes.LINE_COLUMNS,
        credit_notes.line_rows,
        (_CREDIT,),
        True,
    ),
    "payments": Export("Payments", payments.COLUMNS, payments.rows, (_PAYMENT,), True),
    "allocations": Export(
        "What was settled",
        payments.ALLOCATION_COLUMNS,
        payments.allocation_rows,
        (_PAYMENT, _INVOICE),
        True,
    ),
    "usage": Export("Usage", usage.COLUMNS, usage.rows, (_USAGE,), True),
    "taxes": Export("Taxes by document", taxes.COLUMNS, taxes.rows, (_INVOICE, _CREDIT), True),
    "tax_summary": Export(
        "Taxes", taxes.SUMMARY_COLUMNS, taxes.summary_rows, (_INVOICE, _CREDIT), True
    ),
    "journal": Export("Journal", journal.COLUMNS, journal.rows, _ALL),
    "ageing": Export("Receivables ageing", balances.COLUMNS, balances.rows, (_INVOICE,)),
    "wallets": Export("Wallet liability", wallets.COLUMNS, wallets.rows, (_WALLET,)),
    "deferred": Export("Deferred revenue", deferred.COLUMNS, deferred.rows, (_INVOICE,)),
    "summary": Export("Summary", summary.COLUMNS, summary.rows, _ALL),
}


def find(name: str) -> Export:
    """The export of a name. Raises UnknownExport, which names them all."""
    try:
        return EXPORTS[name]
    except KeyError:
        known = ", ".join(EXPORTS)
        raise UnknownExport(_no_export(name, known)) from None


def _no_export(name: str, known: str) -> str:
    return _("%(name)r is no export: there are %(known)s") % {"name": name[:40], "known": known}


def file_name(name: str, period: str) -> str:
    """Of an export's file: `invoices-2026-11.csv`."""
    return f"{name}-{period}.csv"


def export(name: str, scope: Scope) -> Iterator[bytes]:
    """An export as CSV, in blocks. Raises UnknownExport."""
    found = find(name)
    return csv.encode(found.columns, found.rows(scope))


def export_for_tenant(tenant: Tenant, name: str, period: str) -> Iterator[bytes]:
    """A tenant's own rows of a period (`2026-11`, `2026`), without what is internal.

    Whether the caller belongs to the tenant and may see its invoices is the caller's to ask. Raises
    UnknownExport for what customers do not get, ValueError for a period that is none.
    """
    found = EXPORTS.get(name)
    if found is None or not found.is_for_tenants:
        known = ", ".join(name for name, one in EXPORTS.items() if one.is_for_tenants)
        raise UnknownExport(_no_export(name, known))
    scope = parse_period(period, tenant=tenant.pk)
    return csv.encode(found.columns, found.rows(scope), with_internal=False)
