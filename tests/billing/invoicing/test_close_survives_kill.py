"""The month close in a process that is killed again and again: the same invoices as without."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from billing.catalogue import services, wallet
from billing.invoicing import closing
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import (
    Invoice,
    InvoiceCursor,
    InvoiceEvent,
    InvoiceLine,
    InvoiceStanding,
    NumberSeries,
    WalletEntry,
)
from tenants import services as tenant_services
from tests.billing.catalogue.books import make_tenant, publish_book
from tests.billing.invoicing.books import DECEMBER, JANUARY, NOVEMBER, use
from tests.billing.processes import fork, has_ended, kill

GRACE, TENANTS = timedelta(hours=72), 10


def work() -> None:
    """Both tasks, as a beat asks for them."""
    closing.close_due_periods(JANUARY)
    closing.finalize_due(JANUARY + GRACE)


def make_books() -> None:
    """Customers on two plans; some change within the month, prepay, or used nothing."""
    book = publish_book()
    for n in range(TENANTS):
        tenant = make_tenant(f"customer-{n}")
        services.subscribe(tenant, plan=book["small"], now=NOVEMBER)
        if n % 3 == 0:
            services.change_plan(tenant, plan=book["large"], now=NOVEMBER + timedelta(days=9.4))
        if n % 4 == 0:
            wallet.enter(tenant, amount=Decimal(50), kind=WalletEntry.Kind.TOP_UP)
        if n % 5:
            key = tenant_services.issue_key(tenant=tenant, name="bot").key
            use(key, DECEMBER - timedelta(hours=1 + 40 * n), 40_000 * n)
            use(key, DECEMBER + timedelta(hours=n), 7_000)


def state() -> list[Any]:
    """All that a close makes, without ids and the clock."""
    lines = InvoiceLine.objects.order_by("invoice__tenant", "invoice__period_start", "place")
    invoices = Invoice.objects.order_by("tenant", "period_start")
    return [
        list(invoices.values_list("tenant", "period_start", "number", "state", "total", "due")),
        list(lines.values_list("invoice__number", "place", "code", "amount", "tax", "quantity")),
        list(
            InvoiceCursor.objects.order_by("tenant").values_list(
                "tenant", "closed_until", "finalized_until", "usage_until", "position"
            )
        ),
        sorted(InvoiceEvent.objects.values_list("invoice__number", "kind")),
        sorted(InvoiceStanding.objects.values_list("invoice__number", "state", "balance")),
        sorted(WalletEntry.objects.values_list("tenant", "kind", "amount")),
        list(NumberSeries.objects.values_list("prefix", "year", "last")),
    ]


def committed() -> int:
    """Drafts and invoices that are there for good."""
    return Invoice.objects.count() + Invoice.objects.finalized().count()


def test_a_close_that_is_killed_again_and_again_makes_the_same(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one to five more commits of each process, and up to 20 ms."""
    monkeypatch.setattr(closing, "CHUNK", 5)
    make_books()
    with transaction.atomic():
        work()
        wanted = state()
        transaction.set_rollback(True)
    assert committed() == 0
    assert len(wanted[0]) == 2 * TENANTS

    chance = random.Random(24)
    kills = 0
    while True:
        goal = committed() + chance.randint(1, 5)
        pid = fork(work)
        while not (is_over := has_ended(pid)) and committed() < goal:
            time.sleep(0.002)
        if is_over:
            break
        time.sleep(chance.uniform(0, 0.02))
        kill(pid)
        kills += 1
    assert kills >= 5
    assert state() == wanted
    work()
    assert state() == wanted
    assert list(reconcile_invoices()) == []
