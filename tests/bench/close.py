"""The figures of money: `python -m tests.bench.close [--only draft|close|reconcile|keys|pages]...`

Starts a private MariaDB, loads a month of tenants (`month.py`) and times, each in a process of its
own, whose memory is told: drafting and finalizing all invoices as the Celery tasks do, the draft of
one tenant, `manage.py reconcile`; the look-up of a key; and what the server needs for the pages
that many rows could make slow, the operators' and all of the biggest customer's dashboard. Prints
a table beside what is asked, and writes `var/bench.jsonl`. `--folder` keeps the database, to begin
from it another time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support import environment  # first: it chooses folder and database

# isort: split
from tests.bench import machine
from tests.bench.month import MONTH, NEXT_MONTH, load_month
from tests.bench.report import Measurement, Report
from tests.support.services import Service, start_mariadb, start_redis

RESULTS = machine.ROOT / "var" / "bench.jsonl"
PARTS = ("draft", "close", "reconcile", "keys", "pages")
HANDED_ON = ("DATABASE_URL", "REDIS_CACHE_URL")
#: Files of all rows, which take as long as they are.
NOT_PAGES = ("usage-csv", "take_out", "invoices_export", "receipts-script")
#: Durable while it is measured: each commit is on the disk.
SERVER = ("--innodb-buffer-pool-size={pool}M", "--innodb-log-file-size=512M")
DURABLE = "SET GLOBAL innodb_flush_log_at_trx_commit = {}"
#: By what is asked: the metric, its unit and the most it may be.
ASKED = {
    "close_and_finalize_s": ("s", 600),
    "peak_memory_mb": ("MB", 500),
    "draft_p50_ms": ("ms", 200),
    "draft_p99_ms": ("ms", 200),
    "draft_biggest_ms": ("ms", 200),
    "key_from_process_us": ("µs", 5),
    "key_hashed_from_process_us": ("µs", 5),
    "key_from_redis_p50_us": ("µs", 1_000),
    "key_from_redis_p99_us": ("µs", 1_000),
    "admin_landing_ms": ("ms", 300),
    "dashboard_slowest_ms": ("ms", 150),
}


def setup() -> None:
    """Django on the database that the environment names."""
    import logging

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_site.settings")
    django.setup()
    logging.disable(logging.INFO)


# --- what runs in a process of its own ------------------------------------------------------------


def close() -> dict[str, float]:
    """All turns of both tasks."""
    from billing.invoicing import closing
    from billing.models import Invoice
    from billing.tasks import LIMIT_S

    found: dict[str, float] = {}
    cpu_s = time.process_time()
    after_grace = NEXT_MONTH + timedelta(days=4)
    for name, work, now in (
        ("close_s", closing.close_due_periods, NEXT_MONTH + timedelta(hours=1)),
        ("finalize_s", closing.finalize_due, after_grace),
    ):
        began_s = time.perf_counter()
        turns = done = failed = 0
        while True:
            turn_s = time.perf_counter()
            turn = work(now, limit_s=LIMIT_S)
            turns, done, failed = turns + 1, done + turn.done, failed + turn.failed
            if time.perf_counter() - turn_s < LIMIT_S:
                break
        found[name] = time.perf_counter() - began_s
        print(f"  {name}: {done:,} done, {failed} failed, {turns} turns", flush=True)
    found["close_and_finalize_s"] = found["close_s"] + found["finalize_s"]
    # Of this process alone: on a machine that others use too it says more than the clock.
    found["close_and_finalize_cpu_s"] = time.process_time() - cpu_s
    found["invoices"] = Invoice.objects.finalized().count()
    found["peak_memory_mb"] = peak_mb()
    return found


def draft() -> dict[str, float]:
    """One tenant's draft, with the reading of its terms: of 300 by chance twice, and of the
    biggest."""
    from billing.catalogue.terms import period_of
    from billing.invoicing.draft import draft_invoice
    from tenants.models import Tenant

    chance = random.Random(7)
    ids = list(Tenant.objects.order_by("pk").values_list("pk", flat=True))
    biggest, *others = ids

    def draft_ms(tenant: Tenant) -> float:
        began_s = time.perf_counter()
        draft_invoice(tenant, period_of(tenant, MONTH + timedelta(days=25)))
        return 1_000 * (time.perf_counter() - began_s)

    chosen = list(Tenant.objects.filter(pk__in=chance.sample(others, min(300, len(others)))))
    draft_ms(chosen[0])  # connects, and reads the price book
    all_ms = sorted(draft_ms(tenant) for _ in range(2) for tenant in chosen)
    of_biggest = [draft_ms(Tenant.objects.get(pk=biggest)) for _ in range(20)]
    return {
        "draft_p50_ms": statistics.median(all_ms),
        "draft_p99_ms": all_ms[int(0.99 * len(all_ms))],
        "draft_biggest_ms": statistics.median(of_biggest),
        "draft_biggest_max_ms": max(of_biggest),
    }


def reconcile() -> dict[str, float]:
    """Seal the ledger, then `manage.py reconcile`, which must find nothing."""
    from django.core.management import call_command

    from billing.metering import chain

    began_s = time.perf_counter()
    seals = chain.seal_ledger(NEXT_MONTH)
    seal_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    call_command("reconcile")
    took_s = time.perf_counter() - began_s
    return {
        "seals": seals,
        "seal_s": seal_s,
        "reconcile_s": took_s,
        "reconcile_memory_mb": peak_mb(),
    }


def keys() -> dict[str, float]:
    """From the cache of a process, and from Redis with an empty cache."""
    from tenants.admission.control import AdmissionControl
    from tenants.admission.directory import Directory
    from tenants.admission.keys import Environment, digest, generate
    from tenants.admission.principal import Limits, Principal
    from tenants.admission.quotas import Occupancy
    from tenants.admission.store import Entry, RedisStore

    raw = [generate(Environment.LIVE) for _ in range(10_000)]
    principals = {
        digest(key): Principal(
            tenant_id=n,
            tenant_slug=f"tenant-{n}",
            key_id=n,
            key_prefix=key[:12],
            environment=Environment.LIVE,
            plan_code="growth",
            scopes=frozenset({"ws", "info"}),
            limits=Limits(max_connections=10, max_subscriptions=100),
            expires_at=None,
            digest=digest(key),
        )
        for n, key in enumerate(raw)
    }

    def load(digests: Any) -> Any:
        raise AssertionError("the database is not asked")

    async def run() -> dict[str, float]:
        store = RedisStore(os.environ["REDIS_CACHE_URL"])
        directory = Directory(load=load, store=store)
        control = AdmissionControl(directory, Occupancy(), store=store)
        now_ms = (await store.get(())).now_ms
        await store.put({name: Entry(found, now_ms) for name, found in principals.items()})
        from_redis = []
        for name in principals:
            began_ns = time.perf_counter_ns()
            assert await directory.find(name) is not None
            from_redis.append((time.perf_counter_ns() - began_ns) / 1_000)
        digests = list(principals)
        began_ns = time.perf_counter_ns()
        for name in digests:
            directory.cached(name)
        cached_us = (time.perf_counter_ns() - began_ns) / 1_000 / len(digests)
        began_ns = time.perf_counter_ns()
        for key in raw:
            control.known(key)
        known_us = (time.perf_counter_ns() - began_ns) / 1_000 / len(raw)
        assert all(control.known(key) for key in raw)
        await directory.aclose()
        await store.aclose()
        from_redis.sort()
        return {
            "key_from_process_us": cached_us,
            "key_hashed_from_process_us": known_us,
            "key_from_redis_p50_us": statistics.median(from_redis),
            "key_from_redis_p99_us": from_redis[int(0.99 * len(from_redis))],
        }

    return asyncio.run(run())


def pages() -> dict[str, float]:
    """The median of what the server needs for each page, after the first, with nothing kept of the
    turn before; of the dashboard's only what takes longest, and its mean."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.cache import cache
    from django.test import Client
    from django.urls import reverse

    from gateway.dashboard.urls import TENANT_PAGES
    from tenants.models import Tenant

    settings.ALLOWED_HOSTS = ["*"]
    biggest = Tenant.objects.order_by("pk")[0]
    operator, _ = User.objects.get_or_create(
        username="bench", defaults={"is_staff": True, "is_superuser": True}
    )

    def browser_of(user: User) -> Client:
        browser = Client()
        browser.force_login(user, settings.AUTHENTICATION_BACKENDS[-1])
        return browser

    def page_ms(browser: Client, path: str) -> float:
        began_s = time.perf_counter()
        answer = browser.get(path)
        body = answer.getvalue() if answer.streaming else answer.content
        took_ms = 1_000 * (time.perf_counter() - began_s)
        if answer.status_code != 200:
            raise RuntimeError(f"{path} answered {answer.status_code}: {body[:200]!r}")
        return took_ms

    def median_ms(browser: Client, path: str) -> float:
        took = []
        for _ in range(6):
            cache.clear()
            browser.get("/")  # the session that was kept goes with the rest
            took.append(page_ms(browser, path))
        return statistics.median(took[1:])

    found = {}
    by_operator = browser_of(operator)
    for name, path in (
        ("landing", reverse("admin:index")),
        ("tenants", reverse("admin:tenants_tenant_changelist")),
        ("tenant_biggest", reverse("admin:tenants_tenant_change", args=[biggest.pk])),
        ("keys", reverse("admin:tenants_apikey_changelist")),
        ("invoices", reverse("admin:billing_invoice_changelist")),
        ("usage_hours", reverse("admin:billing_usagerollup_changelist")),
        ("ledger", reverse("admin:billing_ledgerentry_changelist")),
    ):
        found[f"admin_{name}_ms"] = median_ms(by_operator, path)
    by_customer = browser_of(_owner_of(biggest))
    took: dict[str, float] = {}
    for route in TENANT_PAGES:
        name = str(route.name)
        if route.pattern.converters or name in NOT_PAGES:
            continue
        path = reverse(f"dashboard:{name}", kwargs={"slug": biggest.slug})
        if by_customer.get(path).status_code in (
            302,
            405,
        ):  # asks who it is again; takes forms only
            continue
        took[name] = median_ms(by_customer, path)
    for name, value in sorted(took.items(), key=lambda item: -item[1])[:12]:
        print(f"  dashboard:{name:20} {value:8.1f} ms", flush=True)
    found["dashboard_pages"] = len(took)
    found["dashboard_mean_ms"] = statistics.mean(took.values())
    found["dashboard_slowest_ms"] = max(took.values())
    return found


def _owner_of(tenant: Any) -> Any:
    """Who may open all of a tenant's pages."""
    from allauth.account.models import EmailAddress
    from django.contrib.auth.models import User

    from tenants.models import Membership
    from tenants.people.services import make_first_owner

    member = Membership.objects.filter(tenant=tenant, role="owner").first()
    if member is not None:
        return member.user
    user, _ = User.objects.get_or_create(username="bench-owner", email="bench@relay.invalid")
    EmailAddress.objects.get_or_create(
        user=user, email=user.email, defaults={"verified": True, "primary": True}
    )
    return make_first_owner(tenant=tenant, user=user).user


def peak_mb() -> float:
    """The most memory that this process has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_024
    raise RuntimeError("no VmHWM in /proc/self/status")


CHILDREN: dict[str, Callable[[], dict[str, float]]] = {
    "close": close,
    "draft": draft,
    "reconcile": reconcile,
    "keys": keys,
    "pages": pages,
}


# --- the run --------------------------------------------------------------------------------------


@contextlib.contextmanager
def database(options: argparse.Namespace) -> Iterator[Service]:
    """A MariaDB with the month in it."""
    folder: Path = (options.folder or environment.VAR).resolve()
    loaded = folder / "loaded"
    server = start_mariadb(
        folder / "mariadb", options=[text.format(pool=options.pool_mb) for text in SERVER]
    )
    os.environ["DATABASE_URL"] = server.url
    try:
        setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        if not loaded.exists():
            load_month(options.tenants, options.rows, options.biggest, folder)
            loaded.touch()
        with connection.cursor() as cursor:
            cursor.execute(DURABLE.format(1))
        connection.close()
        yield server
    finally:
        server.stop()


def child(part: str) -> dict[str, float]:
    """The figures of a part, from a process of its own."""
    command = [sys.executable, "-m", "tests.bench.close", "--child", part]
    # `environment` cleans away the names that the settings read.
    given = {f"BENCH_{name}": os.environ[name] for name in HANDED_ON if name in os.environ}
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=machine.ROOT,
        env=os.environ | given,
    )
    *lines, last = done.stdout.splitlines()
    print("\n".join(lines), flush=True)
    figures: dict[str, float] = json.loads(last)
    return figures


def main() -> int:
    """1 where a figure misses what is asked."""
    options = _options()
    if options.child:
        for name in HANDED_ON:
            if value := os.environ.get(f"BENCH_{name}"):
                os.environ[name] = value
        setup()
        print(json.dumps(CHILDREN[options.child]()))
        return 0
    report = Report(path=RESULTS, commit=machine.commit())
    print(f"load average {os.getloadavg()[0]:.1f} of other work", flush=True)
    missed = 0
    with contextlib.ExitStack() as stack:
        if set(options.only) - {"keys"}:
            stack.enter_context(database(options))
        redis = start_redis(environment.VAR / "redis")
        stack.callback(redis.stop)
        os.environ["REDIS_CACHE_URL"] = redis.url
        for part in options.only:
            for metric, value in child(part).items():
                unit, most = ASKED.get(metric, (metric.rpartition("_")[2], None))
                told = "" if most is None else f"asked: {most:,} at most"
                missed += most is not None and value > most
                print(f"  {metric:28} {value:12,.2f} {unit:6} {told}", flush=True)
                report.add(Measurement("close", part, metric, value, unit, None, options.tenants))
            print(f"  load average {os.getloadavg()[0]:.1f}", flush=True)
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.close", description=__doc__)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=14_000_000)
    parser.add_argument("--biggest", type=int, default=1_000_000, help="rows of one tenant")
    parser.add_argument("--pool-mb", type=int, default=1_024, help="MariaDB's buffer pool")
    parser.add_argument("--only", action="append", choices=PARTS, default=[])
    parser.add_argument("--folder", type=Path, help="where the database is kept")
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.only = options.only or list(PARTS)
    return options


if __name__ == "__main__":
    sys.exit(main())
