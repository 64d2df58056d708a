"""`manage.py export_journal`: the double-entry journal of a month or a year, as CSV."""

from __future__ import annotations

from billing.management.commands import export_invoices


class Command(export_invoices.Command):
    """The journal alone, with the same checks."""

    help = "Export a period's double-entry journal as CSV. Ends with 1 if it does not tie."
    what = ("journal",)
    only = "journal"
