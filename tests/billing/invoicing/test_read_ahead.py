"""What is read for many tenants at once is as exact as what each would read for itself."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.invoicing import closing
from billing.invoicing.ahead import read_ahead
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import Invoice
from tenants import services
from tenants.models import APIKey
from tests.billing.invoicing.books import NOVEMBER, PlainBook, units_billed, use
from tests.tenants.cast import Cast

GRACE, HOUR = timedelta(hours=72), timedelta(hours=1)


def test_usage_posted_after_the_reading_is_billed_all_the_same(
    cast: Cast, key: APIKey, book: PlainBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(key, NOVEMBER - HOUR, 150)
    close_due_periods(NOVEMBER)

    def read_and_post(*arguments: Any) -> Any:
        ahead = read_ahead(*arguments)
        use(key, NOVEMBER - 2 * HOUR, 70)
        return ahead

    monkeypatch.setattr(closing, "read_ahead", read_and_post)
    finalize_due(NOVEMBER + GRACE)
    assert units_billed(cast.acme) == 220
    assert list(reconcile_invoices()) == []


def test_what_one_invoice_owes_the_next_of_the_same_run_takes(
    cast: Cast, key: APIKey, book: PlainBook
) -> None:
    book.wallets[cast.acme.pk] = Decimal(60)
    december = NOVEMBER + timedelta(days=30)
    close_due_periods(december)
    finalize_due(december + GRACE)
    rows = Invoice.objects.filter(tenant=cast.acme).order_by("period_start")
    assert [row.prepaid for row in rows] == [49, 11]


def test_a_tenant_more_costs_a_fixed_number_of_queries(cast: Cast, book: PlainBook) -> None:
    def queries(tenants: int) -> tuple[int, int]:
        for n in range(tenants):
            tenant = services.create_tenant(name=f"{tenants} {n}", plan=cast.small)
            use(services.issue_key(tenant=tenant, name="bot").key, NOVEMBER - HOUR, 150)
        with CaptureQueriesContext(connection) as close:
            close_due_periods(NOVEMBER)
        with CaptureQueriesContext(connection) as finalize:
            finalize_due(NOVEMBER + GRACE)
        return len(close), len(finalize)

    queries(1)
    few, many = queries(2), queries(12)
    # With two savepoint statements, which are transactions outside of tests.
    assert (many[0] - few[0]) / 10 <= 10
    assert (many[1] - few[1]) / 10 <= 18
