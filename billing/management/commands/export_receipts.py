"""`manage.py export_receipts`: a month's usage of a tenant, for `docs/verify_receipts.py`."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.metering.receipts import parse_month, receipt_lines
from tenants.models import Tenant


class Command(BaseCommand):
    """Writes JSON lines; the file is there once it is whole."""

    help = "Export the receipts of a tenant's usage in a month, as JSON lines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Whose receipts, of when, and where to."""
        parser.add_argument("--tenant", required=True, metavar="SLUG")
        parser.add_argument("--month", required=True, type=_month, metavar="YYYY-MM")
        parser.add_argument("--out", required=True, type=Path, metavar="FILE")

    def handle(self, *, tenant: str, month: date, out: Path, **options: Any) -> None:
        """Raises CommandError for a tenant that does not exist and a file that cannot be
        written."""
        found = Tenant.objects.filter(slug=tenant).first()
        if found is None:
            raise CommandError(f"no tenant has the slug {tenant!r}")
        building = out.with_name(f"{out.name}.new")
        try:
            with building.open("w", encoding="ascii", newline="\n") as file:
                count = 0
                for line in receipt_lines(tenant_id=found.pk, month=month):
                    file.write(f"{line}\n")
                    count += 1
                file.flush()
                os.fsync(file.fileno())
            building.replace(out)
        except OSError as error:
            building.unlink(missing_ok=True)
            raise CommandError(f"{out}: {error.strerror}") from error
        self.stdout.write(f"{out}: {count:,} lines")


def _month(text: str) -> date:
    try:
        return parse_month(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a month like 2026-11") from None
