"""How many usage batch lines a second the database takes: `python -m tests.bench.ingest`.

A private SQLite, or MariaDB with `RELAY_TEST_DATABASE=mariadb`, as two Celery workers would fill
it: batches of as many lines as keys are active, each line with messages and bytes of a coin, so two
ledger entries, six rollup sums and one by coin; in one batch of twelve, which is once a minute,
also the minute of each. Prints one JSON object; afterwards the books are reconciled.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
import uuid
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.support import environment  # first: it chooses folder and database

HOUR = datetime(2026, 11, 23, 12, tzinfo=UTC)


def prepare(tenants: int, keys: int) -> list[int]:
    """A migrated database with as many keys; their ids."""
    import django
    from django.conf import settings

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_site.settings")
    django.setup()
    import logging

    from django.core.management import call_command

    logging.disable()
    settings.CELERY_BROKER_URL = "memory://"
    call_command("migrate", verbosity=0)
    from tenants.models import APIKey, Plan, Tenant

    Plan.objects.get_or_create(code="bench", name="Bench")
    owners = Tenant.objects.bulk_create(
        Tenant(name=f"Tenant {n}", slug=f"tenant-{n}") for n in range(tenants)
    )
    owners = list(Tenant.objects.filter(slug__in=[owner.slug for owner in owners]))
    APIKey.objects.bulk_create(
        APIKey(tenant=owners[n % tenants], name="bot", prefix=f"p{n}", digest=f"{n:064x}")
        for n in range(keys)
    )
    return list(APIKey.objects.values_list("pk", flat=True))


def minutes(keys: list[int], seq: int) -> list[Any]:
    """What is told once a minute: that each key follows its coin."""
    from billing.metering.batch import MinutesLine

    if seq % 12:
        return []
    hour = int(HOUR.timestamp()) // 3600
    return [MinutesLine(key, f"C{key % 40}", hour, 1 << seq // 12 % 60) for key in keys]


def ingest_batches(keys: list[int], batches: int) -> None:
    """What one worker does."""
    from django.db import connections

    from billing.metering.batch import Batch, UsageLine, encode
    from billing.metering.ingest import receive

    connections.close_all()
    worker = uuid.uuid4().hex
    for seq in range(1, batches + 1):
        lines = [
            UsageLine(key, ("bbo", "l2Book")[key % 2], seq, 100 * seq, 0, f"C{key % 40}")
            for key in keys
        ]
        # A worker's batches come every few seconds; an hour passes now and then.
        hour = HOUR + timedelta(hours=seq // 20)
        batch = Batch(
            v=2, worker=worker, seq=seq, hour=hour, lines=lines, minutes=minutes(keys, seq)
        )
        assert receive(batch.id, encode(batch).decode())


def database_cpu_s() -> float:
    """What the database server has used so far; SQLite is part of the workers."""
    pid_file = environment.VAR / "mariadb" / "pid"
    if not pid_file.exists():
        return 0.0
    fields = (
        Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text().rsplit(")", 1)[1].split()
    )
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Fill, time, print, check."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ingest", description=__doc__)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--keys", type=int, default=300, help="lines in each batch")
    parser.add_argument("--batches", type=int, default=40, help="of each worker")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    keys = prepare(options.tenants, options.keys)

    from django.db import connection, connections

    connections.close_all()
    context = get_context("fork")
    work = (keys, options.batches)
    workers = [context.Process(target=ingest_batches, args=work) for _ in range(options.workers)]
    started_cpu_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    server_began_s = database_cpu_s()
    began_s = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took_s = time.perf_counter() - began_s
    cpu_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - started_cpu_s
    server_cpu_s = database_cpu_s() - server_began_s
    assert [worker.exitcode for worker in workers] == [0] * options.workers

    from billing.metering.chain import seal_ledger
    from billing.metering.reconcile import reconcile
    from billing.models import LedgerEntry

    began_s = time.perf_counter()
    seals = seal_ledger(HOUR)
    seal_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    assert list(reconcile()) == []
    reconcile_s = time.perf_counter() - began_s
    entries = LedgerEntry.objects.count()
    lines = options.workers * options.batches * options.keys
    figures = {
        "case": "usage-ingest",
        "database": connection.vendor,
        "workers": options.workers,
        "lines_per_batch": options.keys,
        "lines_per_s": round(lines / took_s),
        "lines_per_cpu_s": round(lines / (cpu_s + server_cpu_s)),
        "database_cpu_share": round(server_cpu_s / (cpu_s + server_cpu_s), 2),
        "entries_per_s": round(entries / took_s),
        "entries_sealed_per_s": round(entries / seal_s),
        "seals": seals,
        "entries_reconciled_per_s": round(entries / reconcile_s),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    assert environment.VAR.is_dir()
    main()
