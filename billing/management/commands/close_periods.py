"""`manage.py close_periods`: draft the invoices of all periods that have ended."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.invoicing.closing import close_due_periods


class Command(BaseCommand):
    """Can be stopped and run again at any time."""

    help = "Draft invoices of the periods that have ended. Ends with 1 if any could not be."

    def handle(self, **options: Any) -> None:
        """Raises CommandError with code 1 when a period could not be closed; the log says why."""
        done, failed = close_due_periods()
        self.stdout.write(f"{done:,} periods closed")
        if failed:
            raise CommandError(f"{failed:,} tenants failed: the log says why", returncode=1)
