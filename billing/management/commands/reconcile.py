"""`manage.py reconcile`: batches, ledger, chain, rollups and invoices tell the same, or it ends
with 1."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.invoicing.reconcile import reconcile_invoices
from billing.metering.reconcile import Difference, read_probe, reconcile

#: A table of more rows than anybody reads. All are counted.
SHOWN = 1_000


class Command(BaseCommand):
    """Prints a table of what differs, and where."""

    help = "Compare batches, ledger, hash chain, rollups and invoices. Ends with 1 if any differ."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """UTC days, half-open, and what somebody else counted in them."""
        parser.add_argument("--from", dest="start", type=date.fromisoformat, default=date.min)
        parser.add_argument("--to", dest="end", type=date.fromisoformat, default=date.max)
        parser.add_argument(
            "--probe",
            type=Path,
            metavar="FILE",
            help='JSON: [{"key": 7, "channel": "bbo", "metric": "messages", "units": 12}, …]',
        )

    def handle(self, *, start: date, end: date, probe: Path | None, **options: Any) -> None:
        """Raises CommandError with code 1 for differences, 2 for a probe file that cannot be
        read."""
        try:
            counts = read_probe(probe.read_bytes()) if probe else []
        except (OSError, ValueError) as error:
            raise CommandError(f"{probe}: {error}", returncode=2) from error
        differences = chain(reconcile(start, end, probe=counts), reconcile_invoices(start, end))
        count = 0
        for count, difference in enumerate(differences, start=1):
            if count == 1:
                self._row(Difference("CHECK", "WHERE", "WHAT"))
            if count <= SHOWN:
                self._row(difference)
        if count:
            raise CommandError(f"{count:,} differences", returncode=1)
        self.stdout.write("no differences")

    def _row(self, difference: Difference) -> None:
        check, where, what = difference
        self.stdout.write(f"{check:<13}  {where:<60}  {what}")
