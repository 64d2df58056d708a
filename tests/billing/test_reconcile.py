"""`manage.py reconcile` finds whatever was changed behind the software's back, and says where."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.models import Model

from billing.metering import chain
from billing.metering.batch import MinutesLine, UsageLine
from billing.metering.ingest import ingest
from billing.metering.reconcile import Difference, reconcile
from billing.metering.rollup import rebuild_rollups
from billing.models import (
    Account,
    DailyRollup,
    LedgerEntry,
    LedgerSeal,
    MonthlyRollup,
    UsageBatch,
    UsageRollup,
)
from tenants import services
from tests.billing.usage import HOUR, make_batch, use
from tests.support.guards import lifted
from tests.tenants.cast import Cast

OTHER = "f" * 64


@pytest.fixture
def used(committed_cast: Cast) -> Cast:
    """Three batches of two tenants and an unknown key; the last is not sealed yet."""
    ada = services.issue_key(tenant=committed_cast.acme, name="bot").key.pk
    cleo = services.issue_key(tenant=committed_cast.other, name="bot").key.pk
    ingest(make_batch(UsageLine(ada, "bbo", 5, 50, 1), UsageLine(cleo, "bbo", 7, 70, 0)))
    chain.seal_ledger(HOUR)
    use(ada, 3, seq=2, hours=1)
    chain.seal_ledger(HOUR + timedelta(hours=1))
    use(ada, 2, seq=3, hours=12)
    use(424_242, 9, seq=4)
    assert list(reconcile()) == []
    return committed_cast


@contextmanager
def tampering() -> Iterator[None]:
    """Whoever may do anything to the database, also to its guards and constraints."""
    with lifted(), connection.cursor() as cursor:
        mysql = connection.vendor == "mysql"
        off, on = ("SET foreign_key_checks=0", "SET foreign_key_checks=1")
        if mysql:
            cursor.execute("SET check_constraint_checks=0")
        else:
            off, on = ("PRAGMA foreign_keys=OFF", "PRAGMA foreign_keys=ON")
            cursor.execute("PRAGMA ignore_check_constraints=ON")
        cursor.execute(off)
        yield
        cursor.execute(on)
        cursor.execute(
            "SET check_constraint_checks=1" if mysql else "PRAGMA ignore_check_constraints=OFF"
        )


LATER = "2026-11-23 17:00:00"
ENTRY = {
    "position": 77,
    "batch_id": 4,
    "hour": LATER,
    "key_id": 99,
    "metric": "seconds",
    "channel": "trades",
    "zero_rated": "replay",
    "units": 6,
}
SEAL = {
    "number": 9,
    "hour": "2020-01-01 00:00:00",
    "first_position": 2,
    "last_position": 1,
    "first_hour": LATER,
    "last_hour": LATER,
    "entries_sha256": OTHER,
    "previous_sha256": OTHER,
    "sha256": OTHER,
}
SUM = {
    "tenant_id": None,
    "key_id": 99,
    "metric": "seconds",
    "channel": "trades",
    "zero_rated": "replay",
    "units": 6,
}
CHANGES = [
    *((LedgerEntry, column, value) for column, value in ENTRY.items()),
    *((LedgerSeal, column, value) for column, value in SEAL.items()),
    *((UsageRollup, column, value) for column, value in {**SUM, "hour": LATER}.items()),
    *((DailyRollup, column, value) for column, value in {**SUM, "day": "2026-11-29"}.items()),
    *((MonthlyRollup, column, value) for column, value in {**SUM, "month": "2026-10-01"}.items()),
    *((UsageBatch, column, 77) for column in ("message_total", "byte_total", "request_total")),
    (UsageBatch, "entry_count", 77),
    (UsageBatch, "entry_count", None),
    (UsageBatch, "hour", LATER),
    (UsageBatch, "worker", "e" * 32),
    (UsageBatch, "flush_seq", 77),
    (Account, "last_position", 77),
    (Account, "last_position", 1),
    (Account, "sealed_position", 2),
]


@pytest.mark.parametrize(
    ("model", "column", "value"), CHANGES, ids=lambda part: getattr(part, "__name__", str(part))
)
def test_any_changed_field_is_found(
    used: Cast, model: type[Model], column: str, value: object
) -> None:
    rows = model._default_manager.order_by("pk").values_list("pk", flat=True)
    if model in {LedgerEntry, LedgerSeal, Account}:
        rows = rows.filter(**{"pk" if model is Account else "account_id": used.acme.pk})
    # The first is sealed, the last one is not.
    for pk in {rows[0], rows[len(rows) - 1]} if model is LedgerEntry else {rows[0]}:
        with connection.cursor() as cursor:
            table, name = model._meta.db_table, model._meta.pk.column
            cursor.execute(f"SELECT {column} FROM {table} WHERE {name} = %s", [pk])  # noqa: S608
            (before,) = cursor.fetchone()
            change = f"UPDATE {table} SET {column} = %s WHERE {name} = %s"  # noqa: S608
            with tampering():
                cursor.execute(change, [value, pk])
            assert list(reconcile()) != []
            with tampering():
                cursor.execute(change, [before, pk])
    assert list(reconcile()) == []


@pytest.mark.parametrize(
    "model", [LedgerEntry, LedgerSeal, UsageRollup, DailyRollup, MonthlyRollup]
)
def test_any_missing_row_is_found(used: Cast, model: type[Model]) -> None:
    pks = list(model._default_manager.values_list("pk", flat=True))
    with connection.cursor() as cursor, tampering():
        cursor.execute(f"DELETE FROM {model._meta.db_table} WHERE id = %s", [pks[-1]])  # noqa: S608
    assert list(reconcile()) != []


def test_an_entry_moved_to_another_tenant_is_found(used: Cast) -> None:
    with connection.cursor() as cursor, tampering():
        cursor.execute(
            "UPDATE billing_ledgerentry SET account_id = %s, position = 3 WHERE position = 1 AND "
            "account_id = %s",
            [used.other.pk, used.acme.pk],
        )
    assert {difference.check for difference in reconcile()} == {
        "chain",
        *("rollup hour", "rollup day", "rollup month"),
    }


def test_rebuilding_puts_rollups_right_and_changes_nothing_else(used: Cast) -> None:
    def rows() -> list[list[tuple[object, ...]]]:
        return [
            sorted(model._default_manager.values_list("key_id", "metric", "channel", "units", name))
            for model, name in (
                (UsageRollup, "hour"),
                (DailyRollup, "day"),
                (MonthlyRollup, "month"),
            )
        ]

    before = rows()
    assert rebuild_rollups() == sum(map(len, before))
    assert rows() == before
    UsageRollup.objects.update(units=1)
    DailyRollup.objects.all().delete()
    MonthlyRollup.objects.filter(key_id=424_242).delete()
    MonthlyRollup.objects.update(month=date(2026, 10, 1))
    assert list(reconcile()) != []
    out = StringIO()
    for _ in range(3):
        call_command("rebuild_rollups", stdout=out)
        assert rows() == before
    assert list(reconcile()) == []
    assert UsageRollup.objects.filter(tenant=None).count() == 2


def test_only_the_days_asked_for(used: Cast) -> None:
    UsageRollup.objects.filter(hour__lt=HOUR + timedelta(hours=6)).update(units=1)
    first, second = date(2026, 11, 23), date(2026, 11, 24)
    assert list(reconcile(second)) == []
    assert {difference.check for difference in reconcile(first, second)} == {"rollup hour"}
    rebuild_rollups(second)
    assert list(reconcile()) != []
    rebuild_rollups(first, second)
    assert list(reconcile()) == []


def test_the_command_prints_what_differs_and_where_and_fails(used: Cast, tmp_path: Path) -> None:
    out = StringIO()
    call_command("reconcile", stdout=out)
    assert out.getvalue() == "no differences\n"

    DailyRollup.objects.filter(key_id=424_242, metric="messages").update(units=10)
    out = StringIO()
    with pytest.raises(CommandError, match=r"^2 differences$") as failure:
        call_command("reconcile", "--from", "2026-11-23", "--to", "2026-11-24", stdout=out)
    assert failure.value.returncode == 1
    assert "2026-11-23 tenant None key 424242 bbo messages" in out.getvalue()
    assert "ledger 9, rollup 10" in out.getvalue()
    assert "rollup day 10, over all coins 9" in out.getvalue()

    for text, reason in (("[{}]", "missing required field"), ("nonsense", "malformed")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(CommandError, match=reason) as failure:
            call_command("reconcile", "--probe", str(tmp_path / "bad.json"), stdout=out)
        assert failure.value.returncode == 2


def test_a_probe_s_counts_are_compared(used: Cast, tmp_path: Path) -> None:
    key = LedgerEntry.objects.for_tenant(used.acme)[0].key_id
    counts = [
        {"key": key, "channel": "bbo", "metric": "messages", "units": 6},
        {"key": key, "channel": "bbo", "metric": "messages", "units": 4},
    ]
    probe = tmp_path / "probe.json"
    probe.write_text(json.dumps(counts))
    call_command("reconcile", "--probe", str(probe), stdout=StringIO())

    counts.append({"key": key, "channel": "trades", "metric": "messages", "units": 1})
    counts[0]["units"] = 7
    probe.write_text(json.dumps(counts))
    out = StringIO()
    with pytest.raises(CommandError, match="2 differences"):
        call_command("reconcile", "--probe", str(probe), stdout=out)
    assert "probe 11, ledger 10" in out.getvalue()
    assert "trades" in out.getvalue()


def test_a_system_that_goes_on_has_no_differences(used: Cast) -> None:
    """Between any two statements a batch comes, with coins and minutes, and is sealed."""
    key = LedgerEntry.objects.for_tenant(used.acme)[0].key_id
    hour = int(HOUR.timestamp()) // 3600
    state = {"seq": 0, "is_busy": False}

    def go_on(execute: Callable[..., object], *arguments: object) -> object:
        if not state["is_busy"]:
            state["is_busy"] = True
            state["seq"] += 1
            seq = state["seq"]
            batch = make_batch(UsageLine(key, "bbo", seq, 10, 1, "BTC"), seq=seq, worker="b" * 32)
            minute = MinutesLine(key, "BTC", hour, 1 << seq % 60)
            ingest(msgspec.structs.replace(batch, minutes=[minute]))
            chain.seal_ledger(HOUR + timedelta(hours=seq))
            state["is_busy"] = False
        return execute(*arguments)

    with connection.execute_wrapper(go_on):
        assert list(reconcile()) == []
    assert state["seq"] > 10
    assert list(reconcile()) == []


def test_a_batch_without_its_entries_is_found(used: Cast) -> None:
    UsageBatch.objects.create(
        worker="d" * 32, flush_seq=1, hour=HOUR, line_count=1, message_total=5, entry_count=1
    )
    assert list(reconcile()) == [
        Difference(
            "batch",
            f"{'d' * 32} #1",
            "entries_told 1, in the ledger 0; message_total 5, in the ledger 0",
        )
    ]


def test_rebuilding_twice_at_once_while_usage_arrives(used: Cast) -> None:
    key = LedgerEntry.objects.for_tenant(used.acme)[0].key_id
    failures: list[BaseException] = []
    start = threading.Barrier(3)

    def run(act: Callable[[int], object]) -> None:
        start.wait()
        try:
            for turn in range(8):
                act(turn)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    def post(turn: int) -> None:
        use(key, 1, seq=5 + turn, hours=turn % 3)

    def rebuild(turn: int) -> None:
        rebuild_rollups()

    threads = [threading.Thread(target=run, args=(act,)) for act in (post, rebuild, rebuild)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert list(reconcile()) == []
