"""How long finance waits for a month of many lines: `python -m tests.bench.exports`.

A private SQLite, or MariaDB with `RELAY_TEST_DATABASE=mariadb`, with `--invoices` of `--lines`
each, all issued in one month. Each figure is of `manage.py export_invoices` with one file and all
checks but those of the usage ledger: seconds (by the clock, and of CPU), the process's greatest
memory, and the file's size. `summary` is the checks alone. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
    from django.db import connection
    from django.db.models import CharField, F, Value
    from django.db.models.functions import Cast, Concat, LPad

    from billing.models import Invoice, InvoiceLine
    from tenants.models import Tenant

    Tenant.objects.bulk_create(
        Tenant(name=f"Tenant {n}", slug=f"tenant-{n}") for n in range(TENANTS)
    )
    owners = list(Tenant.objects.order_by("pk").values_list("pk", flat=True))
    amount = Decimal("12.34")
    drafts = (
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
        for n in range(invoices)
    )
    Invoice.objects.bulk_create(drafts, batch_size=500)
    first = Invoice.objects.get(sequence=1)
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            **{"invoice": first, "place": place, "kind": "usage", "code": "messages"},
            **{"name": f"Messages, part {place}", "quantity": Decimal("1234567.5000")},
            **{"unit": "messages", "amount": amount, "net": amount},
            sources=[{"metric": "messages", "channel": "bbo", "units": 1234567}],
        )
        for place in range(1, lines + 1)
    )
    fields = InvoiceLine._meta.concrete_fields
    names = [f.column for f in fields if f.column not in {"id", "invoice_id"}]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO billing_invoiceline (invoice_id, {', '.join(names)}) "  # noqa: S608
            f"SELECT i.id, {', '.join(f'l.{name}' for name in names)} FROM billing_invoice i "
            "JOIN billing_invoiceline l ON l.invoice_id = %s WHERE i.id <> %s",
            [first.pk, first.pk],
        )
    digits = LPad(Cast(F("sequence"), CharField(max_length=8)), 6, Value("0"))
    Invoice.objects.update(
        number=Concat(Value("INV-2026-"), digits),
        state="finalized",
        content_sha256="0" * 64,
        finalized_at=ISSUED_AT,
        due_at=ISSUED_AT,
    )


#: Runs a command and writes down the most memory it had. Not `wait4`, whose figure begins with that
#: of the process that started it.
CHILD = """
import re, sys
from pathlib import Path
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", *sys.argv[2:]])
most = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
Path(sys.argv[1]).write_text(most[1])
"""


def command(name: str, out: str) -> dict[str, float]:
    """What a command needs, checks and all."""
    file, memory = Path(out) / f"{name}.csv", Path(out) / "memory"
    arguments = ["--period", "2026-11", "--what", name, "--skip-ledger", "--out", str(file)]
    began_s, began_cpu_s = time.perf_counter(), _cpu_s()
    started = [sys.executable, "-c", CHILD, str(memory), "export_invoices", *arguments]
    subprocess.run(started, check=True)
    return {
        "s": round(time.perf_counter() - began_s, 1),
        "cpu_s": round(_cpu_s() - began_cpu_s, 1),
        "memory_mb": round(int(memory.read_text()) / 1024),
        "file_mb": round(file.stat().st_size / 1e6, 1),
    }


def _cpu_s() -> float:
    """Of the commands so far. SQLite is part of them, MariaDB's server is not."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


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
    with TemporaryDirectory() as out:
        for name in ("summary", "lines", "journal"):
            figures[name] = command(name, out)
    figures["load_average"] = os.getloadavg()[0]
    print(json.dumps(figures))


if __name__ == "__main__":
    assert environment.VAR.is_dir()
    main()
