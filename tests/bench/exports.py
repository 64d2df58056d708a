"""How long finance waits for a month of many lines: `python -m tests.bench.exports`.

A private SQLite, or MariaDB with `RELAY_TEST_DATABASE=mariadb`, with `--invoices` of `--lines`
each, all issued in one month. The lines are exported by `manage.py export_invoices` in a process of
its own, whose memory is what is told; the other files and the checks, without the usage ledger, are
timed too. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support import environment  # first: it chooses folder and database

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
ISSUED_AT = END + timedelta(days=3)
TENANTS = 1_000


def prepare(invoices: int, lines: int) -> None:
    """A migrated database with as many."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_site.settings")
    django.setup()
    import logging

    from django.core.management import call_command

    logging.disable()
    call_command("migrate", verbosity=0)
    from billing.models import Invoice, InvoiceLine, InvoiceStanding
    from tenants.models import Tenant

    Tenant.objects.bulk_create(
        Tenant(name=f"Tenant {n}", slug=f"tenant-{n}") for n in range(TENANTS)
    )
    owners = list(Tenant.objects.order_by("pk").values_list("pk", flat=True))
    amount = Decimal("12.34")
    for first in range(0, invoices, 500):
        numbers = range(first, min(first + 500, invoices))
        Invoice.objects.bulk_create(
            Invoice(
                tenant_id=owners[n % TENANTS],
                sequence=n + 1,
                period_start=START,
                period_end=END,
                full_end=END,
                buyer={"name": f"Müller & Söhne {n}", "country": "DE", "tax_id": f"DE{n}"},
                tax={"name": "VAT", "percent": "0", "reverse_charge": ""},
                subtotal=amount * lines,
                total=amount * lines,
                due=amount * lines,
            )
            for n in numbers
        )
        made = list(Invoice.objects.filter(number=None).order_by("sequence"))
        for invoice in made:
            InvoiceLine.objects.bulk_create(
                InvoiceLine(
                    **{"invoice": invoice, "place": place, "kind": "usage", "code": "messages"},
                    **{"name": f"Messages, part {place}", "quantity": Decimal("1234567.5000")},
                    **{"unit": "messages", "amount": amount},
                    sources=[{"metric": "messages", "channel": "bbo", "units": 1234567}],
                )
                for place in range(1, lines + 1)
            )
            invoice.number = f"INV-2026-{invoice.sequence:06}"
            invoice.state, invoice.content_sha256 = "finalized", "0" * 64
            invoice.finalized_at = invoice.due_at = ISSUED_AT
        Invoice.objects.bulk_update(
            made, ["number", "state", "content_sha256", "finalized_at", "due_at"]
        )
        InvoiceStanding.objects.bulk_create(
            InvoiceStanding(invoice=invoice, balance=invoice.due, due_at=ISSUED_AT)
            for invoice in made
        )


def measure(out: str, what: tuple[str, ...], told: Any) -> None:
    """What one command does, in a fresh process: seconds and its greatest memory."""
    import resource

    import django

    django.setup()
    from billing.exports import catalogue, summary
    from billing.exports.files import write_whole
    from billing.exports.scope import parse_period

    period = parse_period("2026-11")
    began_s = time.perf_counter()
    size = 0
    for name in what:
        if name == "summary":
            assert all(check.is_equal for check in summary.checks(period, with_ledger=False))
        else:
            size += write_whole(Path(out) / name, catalogue.export(name, period))
    took_s = time.perf_counter() - began_s
    told.put((took_s, size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    """Fill, export, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.exports", description=__doc__)
    parser.add_argument("--invoices", type=int, default=50_000)
    parser.add_argument("--lines", type=int, default=20, help="of each invoice")
    options = parser.parse_args()
    prepare(options.invoices, options.lines)

    from django.db import connection, connections

    figures: dict[str, Any] = {
        "case": "exports",
        "database": connection.vendor,
        "invoices": options.invoices,
        "lines": options.invoices * options.lines,
    }
    connections.close_all()
    context = get_context("spawn")
    with TemporaryDirectory() as out:
        for name in ("lines", "invoices", "taxes", "journal", "ageing", "summary"):
            told = context.Queue()
            worker = context.Process(target=measure, args=(out, (name,), told))
            worker.start()
            worker.join()
            assert worker.exitcode == 0, name
            took_s, size, memory_mb = told.get()
            figures[f"{name}_s"] = round(took_s, 1)
            figures[f"{name}_memory_mb"] = round(memory_mb)
            figures[f"{name}_mb"] = round(size / 1e6, 1)
    figures["load_average"] = os.getloadavg()[0]
    print(json.dumps(figures))


if __name__ == "__main__":
    assert environment.VAR.is_dir()
    main()
