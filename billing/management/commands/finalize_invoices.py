"""`manage.py finalize_invoices`: number and freeze the drafts whose grace is over."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.invoicing.closing import finalize_due


class Command(BaseCommand):
    """Can be stopped and run again at any time."""

    help = "Finalize the drafts whose grace is over. Ends with 1 if any could not be."

    def handle(self, **options: Any) -> None:
        """Raises CommandError with code 1 when a draft could not be finalized; the log says why."""
        done, failed = finalize_due()
        self.stdout.write(f"{done:,} drafts finalized")
        if failed:
            raise CommandError(f"{failed:,} drafts failed: the log says why", returncode=1)
