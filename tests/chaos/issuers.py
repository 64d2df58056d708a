"""`python -m tests.chaos.issuers --runs 200`: processes that issue invoices at the same time, some
of whose transactions roll back and some of which are killed, and MariaDB too.

Each run: new customers with a draft each, `--issuers` processes that finalize drafts by chance,
three in ten of their transactions rolled back after they took a number; every few hundredths of a
second one of them gets SIGKILL and another takes its place; in one run of ten MariaDB gets SIGKILL
and is started again. Then all that is left is finalized, and the numbers of the series must be 1 to
N, each on one invoice, each draft an invoice once. By the rule of three, n runs without a failure
bound its rate below 3/n, at 95 %.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import time
from datetime import UTC, datetime, timedelta

from tests.support import environment  # first: it chooses folder and database

# isort: split
from tests.support.services import Service, start_mariadb

BEGAN, MONTH = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
AT = MONTH + timedelta(days=4)
MARIADB_EACH = 10
DURABLE = "--innodb-flush-log-at-trx-commit=1"


class Rollback(Exception):
    """A transaction that fails after it took a number."""


def issue(seed: int) -> None:
    """Finalize drafts by chance until there is none."""
    from django.db import Error, connection, transaction

    from billing.invoicing.finalize import finalize
    from billing.models import Invoice

    chance = random.Random(seed)
    while True:
        try:
            drafts = list(Invoice.objects.filter(state="draft").select_related("tenant"))
            if not drafts:
                return
            with transaction.atomic():
                finalize(chance.choice(drafts), now=AT)
                if chance.random() < 0.3:
                    raise Rollback
        except (Rollback, Error):
            # A deadlock, a lock that was waited for too long, a database that is gone.
            connection.close()
            time.sleep(0.01)


def make_customers(run: int, number: int) -> None:
    """As many as that, with a draft of October each."""
    from billing.invoicing.closing import close_due_periods
    from tenants.models import Plan, PlanSubscription, Tenant

    slugs = [f"run-{run}-{n}" for n in range(number)]
    Tenant.objects.bulk_create(Tenant(name=slug, slug=slug, created_at=BEGAN) for slug in slugs)
    ids = list(Tenant.objects.filter(slug__in=slugs).values_list("pk", flat=True))
    plan = Plan.objects.get(code="starter")
    PlanSubscription.objects.bulk_create(
        PlanSubscription(tenant_id=pk, plan=plan, version=1, started_at=BEGAN, is_current=True)
        for pk in ids
    )
    assert close_due_periods(MONTH, tenants=ids) == (number, 0)


def strike(server: Service, run: int, seed: int, issuers: int, customers: int) -> dict[str, int]:
    """One run. Raises AssertionError when a number is missing, twice, or a draft left."""
    from billing.models import Invoice, InvoiceEvent, InvoiceStanding, NumberSeries
    from tests.billing.processes import fork, has_ended, kill

    make_customers(run, customers)
    chance = random.Random(seed)
    kills = restarts = 0
    at_work = [fork(lambda n=n: issue(seed * 1_000 + n)) for n in range(issuers)]
    end_s = time.monotonic() + 60
    while at_work:
        time.sleep(chance.uniform(0, 0.08))
        at_work = [pid for pid in at_work if not has_ended(pid)]
        if at_work and kills < 3 * issuers:
            kill(at_work.pop(chance.randrange(len(at_work))))
            kills += 1
            at_work.append(fork(lambda n=kills: issue(seed * 1_000 + 100 + n)))
        if run % MARIADB_EACH == 0 and kills == issuers and not restarts:
            server.kill()
            server.process = start_mariadb(
                server.folder,
                port=int(server.url.rsplit(":", 1)[1].split("/")[0]),
                options=[DURABLE],
            ).process
            restarts += 1
        assert time.monotonic() < end_s, f"run {run}: {len(at_work)} issuers hang"
    count = Invoice.objects.count()
    numbers = sorted(
        int(number.rpartition("-")[2])
        for number in Invoice.objects.exclude(number=None).values_list("number", flat=True)
    )
    assert numbers == list(range(1, count + 1)), f"run {run}: numbers"
    assert NumberSeries.objects.get().last == count, f"run {run}: series"
    assert InvoiceEvent.objects.count() == InvoiceStanding.objects.count() == count, f"run {run}"
    return {"kills": kills, "restarts": restarts, "invoices": customers}


def main() -> int:
    """Run, tell the bound; 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.issuers", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--issuers", type=int, default=6)
    parser.add_argument("--customers", type=int, default=16, help="of each run")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    server = start_mariadb(environment.VAR / "mariadb", options=[DURABLE])
    os.environ["DATABASE_URL"] = server.url
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_site.settings")
    try:
        return _run_all(server, options)
    finally:
        server.stop()


def _run_all(server: Service, options: argparse.Namespace) -> int:
    import logging

    import django

    django.setup()
    logging.disable(logging.ERROR)
    from django.core.management import call_command

    from billing.invoicing.reconcile import reconcile_invoices

    call_command("migrate", verbosity=0)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        call_command("load_plans")
    totals = {"kills": 0, "restarts": 0, "invoices": 0}
    failed = done = 0
    for run in range(1, options.runs + 1):
        try:
            for name, number in strike(
                server, run, options.seed + run, options.issuers, options.customers
            ).items():
                totals[name] += number
        except AssertionError as error:
            failed += 1
            print(f"FAILED {error}, seed {options.seed + run}", flush=True)
        done += 1
        if run % 20 == 0:
            print(f"  {run} runs, {failed} failed, {json.dumps(totals)}", flush=True)
    differences = list(reconcile_invoices())
    print(f"{done} runs with {options.issuers} issuers, seed {options.seed}: {json.dumps(totals)}")
    print(f"{failed} failed; reconcile of invoices: {len(differences)} differences")
    if not failed:
        print(f"so fewer than {100 * 3 / done:.1f} % of runs fail, at 95 %")
    return 1 if failed or differences else 0


if __name__ == "__main__":
    sys.exit(main())
