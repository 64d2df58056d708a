"""`manage.py rebuild_rollups`: the sums by hour, day and month, again from the ledger."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand

from billing.metering.rollup import rebuild_rollups


class Command(BaseCommand):
    """Can be run at any time, also while usage arrives."""

    help = "Make the usage rollups again from the ledger."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """UTC days, half-open; the months they are in are made anew whole."""
        parser.add_argument("--from", dest="start", type=date.fromisoformat, default=date.min)
        parser.add_argument("--to", dest="end", type=date.fromisoformat, default=date.max)

    def handle(self, *, start: date, end: date, **options: Any) -> None:
        """Rebuild, and say how many rows there are."""
        self.stdout.write(f"{rebuild_rollups(start, end):,} rollups")
