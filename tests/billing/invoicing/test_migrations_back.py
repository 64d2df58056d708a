"""Back and forth an invoice says the same; a step that would lose something is refused."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.executor import MigrationExecutor

from billing.invoicing import adjusting, conceding, crediting, payments, terms_port
from billing.invoicing.again import draft_again
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import CreditNote, Invoice
from tenants import services
from tests.billing.invoicing.books import DECEMBER, JANUARY, NOVEMBER, OCTOBER, PlainBook
from tests.billing.invoicing.test_payments import PAID_AT
from tests.tenants.cast import Cast

STEPS = {
    "0012": "0012_kinds_and_replacements",
    "0013": "0013_concessions_and_rounds",
    "0014": "0014_what_was_paid_and_what_is_printed",
}
GRACE, HOUR = timedelta(hours=72), timedelta(hours=1)


def close(*ends: Any) -> None:
    for end in ends:
        close_due_periods(end)
        finalize_due(end + GRACE)


def go(step: str) -> None:
    MigrationExecutor(connection).migrate([("billing", step)])


def back(step: str) -> None:
    """What going back begins with."""
    module = import_module(f"billing.migrations.{STEPS[step]}")
    module.Migration.operations[-1].reverse_code(apps, None)


def test_a_credit_note_is_not_lost(committed_cast: Cast) -> None:
    with terms_port.use(PlainBook()):
        close(NOVEMBER)
        invoice = Invoice.objects.get(tenant=committed_cast.acme)
        line = invoice.lines.get()
        crediting.credit(invoice, {line.pk: Decimal(9)}, reason="outage", by="ada")
    line = (
        r"billing\.0014 cannot be reversed: 1 rows of billing_creditnote \(issued with parties of "
        r"their own\) would be lost\. Restore a backup of before it instead"
    )
    try:
        with pytest.raises(IrreversibleError, match=line):
            go(STEPS["0013"])
    finally:
        MigrationExecutor(connection).migrate(
            MigrationExecutor(connection).loader.graph.leaf_nodes()  # type: ignore[arg-type]
        )
    assert CreditNote.objects.get().buyer
    assert list(reconcile_invoices()) == []


def test_what_each_step_would_lose(cast: Cast, book: PlainBook) -> None:
    close(NOVEMBER)
    for step in STEPS:
        back(step)

    first = Invoice.objects.get(tenant=cast.acme)
    conceding.write_off(first, Decimal(1), by="ada", reason="small")
    with pytest.raises(IrreversibleError, match="1 rows of billing_concession"):
        back("0013")
    payments.record_payment(
        cast.acme,
        Decimal(1),
        method="bank_transfer",
        reference="rent",
        external_id="b-1",
        received_at=PAID_AT,
    )
    back("0012")
    crediting.void(first, reason="wrong buyer", by="ada")
    draft_again(first)
    with pytest.raises(IrreversibleError, match="1 rows of billing_invoicereplacement"):
        back("0012")
    with pytest.raises(IrreversibleError, match="1 rows of billing_creditnote "):
        back("0014")

    sorry = adjusting.propose(cast.acme, Decimal(-80), code="x", name="Sorry", by="ada")
    adjusting.decide(sorry, approve=True, by="ben")
    close(DECEMBER, JANUARY)
    with pytest.raises(IrreversibleError, match=r"1 rows of billing_invoice \(with some"):
        back("0013")

    cast.acme.kind = "internal"
    services.update_tenant(cast.acme)
    with pytest.raises(IrreversibleError, match="1 rows of billing_kindchange"):
        back("0012")


def test_service_credits_keep_their_times(cast: Cast, book: PlainBook) -> None:
    window = (OCTOBER + 24 * HOUR, OCTOBER + 25 * HOUR)
    adjusting.propose_sla_credit(cast.acme, [window], reason="gap", origin="gap:1")
    with pytest.raises(IrreversibleError, match="1 rows of billing_adjustment"):
        back("0014")
