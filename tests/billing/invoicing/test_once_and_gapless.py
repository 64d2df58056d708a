"""Concurrent issuers, rollbacks, kills and second beats: gapless numbers, each invoice once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import Error, connection, transaction

from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.finalize import finalize
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import (
    Account,
    Invoice,
    InvoiceCursor,
    InvoiceEvent,
    InvoiceLine,
    InvoiceStanding,
    LedgerEntry,
    NumberSeries,
)
from tenants import services
from tenants.models import APIKey
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, PlainBook, use
from tests.tenants.cast import Cast

GRACE = timedelta(hours=72)
THREADS, TENANTS = 8, 24


class Rollback(Exception):
    """A transaction that fails after it took a number."""


def in_threads(work: Callable[[int], None], number: int = THREADS) -> None:
    """Run `work` in threads, each with its own connection; their errors are the test's."""
    errors: list[BaseException] = []

    def run(n: int) -> None:
        try:
            work(n)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads)


def test_numbers_are_gapless_whatever_fails(committed_cast: Cast, book: PlainBook) -> None:
    """Eight issuers; a third of their transactions roll back, some lose their connection, as those
    of a killed process do."""
    for n in range(TENANTS - 2):
        services.create_tenant(name=f"Tenant {n}", plan=committed_cast.small)
    assert close_due_periods(NOVEMBER) == (TENANTS, 0)

    def issue(n: int) -> None:
        chance = random.Random(n)
        while left := list(Invoice.objects.filter(state="draft").select_related("tenant")):
            draft = chance.choice(left)
            try:
                with transaction.atomic():
                    finalize(draft, now=NOVEMBER + GRACE)
                    fate = chance.random()
                    if fate < 0.3:
                        raise Rollback
                    if fate < 0.4:
                        connection.connection.close()
            except (Rollback, Error):
                connection.close()  # also what a deadlock or a lock that was waited for too long is

    in_threads(issue)
    numbers = [
        int(number[-6:]) for number in Invoice.objects.values_list("number", flat=True) if number
    ]
    assert sorted(numbers) == list(range(1, TENANTS + 1))
    assert NumberSeries.objects.get().last == TENANTS
    assert InvoiceEvent.objects.count() == InvoiceStanding.objects.count() == TENANTS
    assert list(reconcile_invoices()) == []


def test_four_beats_at_once_are_one(committed_cast: Cast, book: PlainBook) -> None:
    key = services.issue_key(tenant=committed_cast.acme, name="bot").key
    use(key, NOVEMBER - timedelta(hours=1), 250)

    def beat(n: int) -> None:
        for _ in range(3):
            # A turn that meets a deadlock fails for that tenant, and the next one goes on.
            close_due_periods(DECEMBER)
            finalize_due(DECEMBER + GRACE)

    in_threads(beat, 4)
    finalize_due(DECEMBER + GRACE)
    assert Invoice.objects.count() == Invoice.objects.finalized().count() == 4
    assert NumberSeries.objects.get().last == 4
    assert list(reconcile_invoices()) == []


def test_usage_posted_while_invoices_are_finalized_is_billed_once(
    committed_cast: Cast, book: PlainBook
) -> None:
    """Batches of October and November arrive while both are finalized."""
    keys = [
        services.issue_key(tenant=tenant, name="bot").key
        for tenant in (committed_cast.acme, committed_cast.other)
    ]
    close_due_periods(DECEMBER)

    def work(n: int) -> None:
        chance = random.Random(n)
        if n == 0:
            while Invoice.objects.filter(state="draft").exists():
                finalize_due(DECEMBER + GRACE)
            return
        for _ in range(10):
            moment = NOVEMBER + timedelta(hours=chance.randrange(-200, 200))
            use_until_counted(chance.choice(keys), moment, chance.randrange(1, 50))

    in_threads(work, 4)
    close_due_periods(DECEMBER + timedelta(days=31))
    finalize_due(DECEMBER + timedelta(days=31) + GRACE)
    assert list(reconcile_invoices()) == []
    posted = dict(Account.objects.values_list("pk", "last_position"))
    cursors = dict(InvoiceCursor.objects.values_list("pk", "position"))
    assert posted == cursors
    for tenant in (committed_cast.acme, committed_cast.other):
        assert billed(tenant.pk) == used(tenant.pk)


def use_until_counted(key: APIKey, hour: Any, messages: int) -> None:
    """As the spool does: again until the database has it."""
    while True:
        try:
            return use(key, hour, messages)
        except Error:
            connection.close()


def billed(tenant_id: int) -> int:
    lines = InvoiceLine.objects.filter(invoice__tenant=tenant_id)
    return sum(source["units"] for line in lines for source in line.sources)


def used(tenant_id: int) -> int:
    return sum(LedgerEntry.objects.for_tenant(tenant_id).values_list("units", flat=True))


# --- killed between any two statements --------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_after(statements: int) -> Iterator[list[int]]:
    """Die at the statement with this number; the list holds how many there were."""
    seen = [0]

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        # Savepoints stand for transactions here, and theirs end with the connection.
        if not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
            if seen[0] == statements:
                raise Killed
            seen[0] += 1
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        yield seen


def work() -> None:
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)


def state() -> list[Any]:
    lines = InvoiceLine.objects.order_by("invoice__tenant", "invoice__period_start", "place")
    return [
        list(lines.values_list("invoice__tenant", "invoice__period_start", "code", "amount")),
        list(InvoiceCursor.objects.values_list("tenant", "finalized_until", "position")),
        sorted(Invoice.objects.values_list("number", flat=True)),
        sorted(InvoiceEvent.objects.values_list("kind", "invoice__tenant")),
        InvoiceStanding.objects.count(),
    ]


@pytest.mark.django_db
def test_killed_between_any_two_statements(cast: Cast, key: APIKey, book: PlainBook) -> None:
    use(key, NOVEMBER - timedelta(hours=1), 250)
    with transaction.atomic():
        with killed_after(-1) as seen:
            work()
        wanted, statements = state(), seen[0]
        transaction.set_rollback(True)
    assert statements > 50
    for at in range(0, statements, 3):
        with transaction.atomic():
            with pytest.raises(Killed), killed_after(at):
                work()
            work()
            assert state() == wanted, at
            work()
            assert state() == wanted, at
            transaction.set_rollback(True)
