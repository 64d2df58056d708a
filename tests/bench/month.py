"""A month of many tenants for benchmarks: plans, keys, hourly usage in ledger and rollups.

Usage is skewed as it is in life: one tenant has `biggest` rows, the others follow a power law. Rows
are written to the tables in the order of time, as batches would have posted them, because that
decides how far apart the rows of one tenant are. MariaDB only: rows come by `LOAD DATA`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

MONTH = datetime(2026, 10, 1, tzinfo=UTC)
NEXT_MONTH = datetime(2026, 11, 1, tzinfo=UTC)
HOURS = 744
#: Entries of one batch, about.
BATCH = 1_000
PLANS = ("free", "starter", "growth", "business", "books-10", "books-50", "books-100")
CHANGED = datetime(2026, 10, 15, 13, 20, 5, tzinfo=UTC)
BEGAN = datetime(2026, 10, 20, 7, 0, 1, tzinfo=UTC)
#: What a key uses, the most usual first: metric, channel and why it is free.
KINDS = (
    ("messages", "bbo", ""),
    ("bytes", "bbo", ""),
    ("messages", "l2Book", ""),
    ("bytes", "l2Book", ""),
    ("requests", "info", ""),
    ("messages", "trades", ""),
    ("bytes", "trades", ""),
    ("messages", "bbo", "resync"),
    ("bytes", "bbo", "resync"),
    ("messages", "l4Book", ""),
    ("bytes", "l4Book", ""),
    ("requests", "exchange", ""),
)


class Series(NamedTuple):
    """One key's use of one kind: a row in each of `HOURS` hours, or in `per_mille` of them."""

    tenant: int
    key: int
    kind: int
    per_mille: int


def sizes(tenants: int, rows: int, biggest: int) -> list[int]:
    """How many rows each tenant is to have."""
    weights = [1 / (place + 50) ** 0.7 for place in range(1, tenants)]
    unit = (rows - biggest) / (sum(weights) or 1)
    return [biggest, *(max(1, round(weight * unit)) for weight in weights)]


def make_tenants(tenants: int) -> list[int]:
    """Customers on the seed's monthly plans; a tenth changes plan within the month, a twentieth
    begins in it, two in five choose overage, one in twenty has prepaid. Their ids."""
    from billing.catalogue import wallet
    from billing.models import AddOn, AddOnSubscription, BillingChoice, WalletEntry
    from tenants.models import BillingProfile, Plan, PlanSubscription, Tenant

    Tenant.objects.bulk_create(
        (Tenant(name=f"Tenant {n}", slug=f"tenant-{n}", created_at=MONTH) for n in range(tenants)),
        batch_size=2_000,
    )
    ids = list(Tenant.objects.order_by("pk").values_list("pk", flat=True))
    plans = [Plan.objects.get(code=code) for code in PLANS]
    spans = []
    for n, tenant in enumerate(ids):
        started = BEGAN if n % 20 == 7 else MONTH
        plan, ended = plans[n % len(plans)], CHANGED if n % 10 == 3 else None
        current = None if ended else True
        spans.append((tenant, plan, started, ended, current))
        if ended:
            spans.append((tenant, plans[(n + 1) % len(plans)], ended, None, True))
    PlanSubscription.objects.bulk_create(
        (
            PlanSubscription(
                tenant_id=tenant,
                plan=plan,
                version=1,
                started_at=started,
                ended_at=ended,
                is_current=current,
            )
            for tenant, plan, started, ended, current in spans
        ),
        batch_size=2_000,
    )
    BillingProfile.objects.bulk_create(
        (
            BillingProfile(
                tenant_id=tenant,
                legal_name=f"Tenant {tenant} Ltd",
                address_line1="1 High Street",
                city="London",
                country="GB",
                tax_name="VAT" if n % 2 else "",
                tax_percent=Decimal(20) if n % 2 else Decimal(0),
            )
            for n, tenant in enumerate(ids)
        ),
        batch_size=2_000,
    )
    BillingChoice.objects.bulk_create(
        (BillingChoice(tenant_id=t, since=MONTH, overage=True) for t in ids if t % 5 < 2),
        batch_size=2_000,
    )
    grpc = AddOn.objects.get(code="grpc")
    AddOnSubscription.objects.bulk_create(
        (
            AddOnSubscription(tenant_id=t, add_on=grpc, version=1, started_at=MONTH)
            for t in ids[::9]
        ),
        batch_size=2_000,
    )
    for owner in Tenant.objects.filter(pk__in=ids[::20]):
        wallet.enter(owner, amount=Decimal(100), kind=WalletEntry.Kind.TOP_UP)
    return ids


def make_series(ids: list[int], wanted: list[int]) -> list[Series]:
    """Who uses what with which key, in the order in which a batch tells it."""
    from tenants.models import APIKey

    count = [max(1, -(-rows // HOURS)) for rows in wanted]
    keys = [-(-number // len(KINDS)) for number in count]
    APIKey.objects.bulk_create(
        (
            APIKey(
                tenant_id=tenant, name="bot", prefix="hlr_live_abc", digest=f"{tenant:032x}{n:032x}"
            )
            for tenant, number in zip(ids, keys, strict=True)
            for n in range(number)
        ),
        batch_size=2_000,
    )
    keys_of: dict[int, list[int]] = {}
    for key, tenant in APIKey.objects.order_by("pk").values_list("pk", "tenant_id"):
        keys_of.setdefault(tenant, []).append(key)
    return [
        Series(
            tenant,
            keys_of[tenant][n // len(KINDS)],
            n % len(KINDS),
            rows * 1_000 // HOURS // number,
        )
        for tenant, rows, number in zip(ids, wanted, count, strict=True)
        for n in range(number)
    ]


class Day(NamedTuple):
    """Entries and batches of a day as tab-separated lines, and how many entries there are."""

    entries: str
    batches: str
    count: int


def days(series: list[Series], positions: dict[int, int]) -> Iterator[Day]:
    """The ledger, day by day. `positions` are the last of each account, and move on."""
    kinds = ["\t".join(kind) for kind in KINDS]
    metrics = [kind[0] for kind in KINDS]
    batch = 0
    for day in range(0, HOURS, 24):
        entries: list[str] = []
        batches: list[str] = []
        for hour in range(day, day + 24):
            text = f"{MONTH + timedelta(hours=hour):%Y-%m-%d %H:%M:%S}"
            batch += 1
            told, totals = 0, {"messages": 0, "bytes": 0, "requests": 0}
            for n, (tenant, key, kind, per_mille) in enumerate(series):
                if per_mille < 1_000 and (hour * 7_919 + n * 104_729) % 1_000 >= per_mille:
                    continue
                if told == BATCH:
                    batches.append(_batch(batch, text, told, totals))
                    batch += 1
                    told, totals = 0, {"messages": 0, "bytes": 0, "requests": 0}
                units = 1 + (n * 31 + hour * 17) % 5_000
                if metrics[kind] == "bytes":
                    units *= 180
                position = positions[tenant] = positions[tenant] + 1
                entries.append(
                    f"{tenant}\t{position}\t{batch}\t{text}\t{key}\t{kinds[kind]}\t{units}\n"
                )
                told += 1
                totals[metrics[kind]] += units
            batches.append(_batch(batch, text, told, totals))
        yield Day("".join(entries), "".join(batches), len(entries))


def _batch(number: int, hour: str, told: int, totals: dict[str, int]) -> str:
    units = "\t".join(str(totals[name]) for name in ("messages", "bytes", "requests"))
    return f"{number}\t{'b' * 32}\t{number}\t{hour}\t\t{hour}\t{told}\t{told}\t{units}\n"


_ENTRIES = (
    "INTO TABLE billing_ledgerentry "
    "(account_id, position, batch_id, hour, key_id, metric, channel, zero_rated, units)"
)
_ROLLUPS = (
    "INTO TABLE billing_usagerollup "
    "(tenant_id, @position, @batch, hour, key_id, metric, channel, zero_rated, units)"
)
_BATCHES = (
    "INTO TABLE billing_usagebatch (id, worker, flush_seq, hour, region, received_at, line_count, "
    "entry_count, message_total, byte_total, request_total)"
)
#: By the day: the groups of a month do not fit into MariaDB's memory for a sort.
_DAY_SUMS = (
    "INSERT INTO billing_dailyrollup (tenant_id, day, key_id, metric, channel, zero_rated, units) "
    "SELECT MAX(tenant_id), '{day}', key_id, metric, channel, zero_rated, SUM(units) "
    "FROM billing_usagerollup WHERE hour >= '{day}' AND hour < '{day}' + INTERVAL 1 DAY "
    "GROUP BY key_id, metric, channel, zero_rated"
)
_COINS = (
    "INSERT INTO billing_coinrollup (tenant_id, key_id, day, channel, coin, zero_rated, messages, "
    "bytes) SELECT MAX(tenant_id), key_id, '{day}', channel, 'BTC', zero_rated, "
    "SUM(IF(metric = 'messages', units, 0)), SUM(IF(metric = 'bytes', units, 0)) "
    "FROM billing_dailyrollup WHERE day = '{day}' AND metric <> 'requests' "
    "GROUP BY key_id, channel, zero_rated"
)
_MONTH_SUMS = (
    "INSERT INTO billing_monthlyrollup (tenant_id, month, key_id, metric, channel, zero_rated, "
    "units) SELECT MAX(tenant_id), '{day}', key_id, metric, channel, zero_rated, SUM(units) "
    "FROM billing_dailyrollup GROUP BY key_id, metric, channel, zero_rated"
)


def sum_up() -> None:
    """The sums by day, month and coin of the hours that are there."""
    for day in range(HOURS // 24):
        date = f"{MONTH + timedelta(days=day):%Y-%m-%d}"
        _execute(_DAY_SUMS.format(day=date))
        _execute(_COINS.format(day=date))
    _execute(_MONTH_SUMS.format(day=f"{MONTH:%Y-%m-%d}"))
    _execute("ANALYZE TABLE billing_usagerollup, billing_ledgerentry, billing_dailyrollup")


def load_month(tenants: int, rows: int, biggest: int, folder: Path) -> int:
    """Fill a migrated, empty MariaDB on this host. Answers how many rows there are."""
    from django.core.management import call_command

    from billing.models import Account

    began_s = time.monotonic()

    def tell(what: str) -> None:
        print(f"  {time.monotonic() - began_s:5.0f} s  {what}", flush=True)

    call_command("load_plans", verbosity=0, stdout=(folder / "plans.txt").open("w"))
    ids = make_tenants(tenants)
    series = make_series(ids, sizes(tenants, rows, biggest))
    Account.objects.bulk_create((Account(number=t, tenant_id=t) for t in ids), batch_size=2_000)
    tell(f"{tenants:,} tenants, {len(series):,} series")
    positions = dict.fromkeys(ids, 0)
    count = 0
    for number, day in enumerate(days(series, positions), start=1):
        entries, batches = folder / "entries.tsv", folder / "batches.tsv"
        entries.write_text(day.entries, encoding="ascii")
        batches.write_text(day.batches, encoding="ascii")
        _both([(batches, _BATCHES), (entries, _ENTRIES)], [(entries, _ROLLUPS)])
        count += day.count
        if number % 5 == 0:
            tell(f"{number} days, {count:,} rows")
    entries.unlink()
    _write_positions(positions)
    tell(f"{count:,} rows")
    sum_up()
    tell("their sums by day, month and coin")
    return count


def _both(*works: list[tuple[Path, str]]) -> None:
    """Load files into tables, each list on a connection of its own."""
    errors: list[BaseException] = []

    def run(work: list[tuple[Path, str]]) -> None:
        from django.db import connection

        try:
            for path, into in work:
                _execute(f"LOAD DATA INFILE '{path}' {into}")
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _execute(sql: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET unique_checks = 0, foreign_key_checks = 0")
        cursor.execute(sql)
        cursor.execute("SET unique_checks = 1, foreign_key_checks = 1")


def _write_positions(positions: dict[int, int]) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO billing_account (number, tenant_id, last_position, sealed_position) "
            "VALUES (%s, %s, %s, 0) ON DUPLICATE KEY UPDATE last_position = VALUES(last_position)",
            [(tenant, tenant, last) for tenant, last in positions.items()],
        )
