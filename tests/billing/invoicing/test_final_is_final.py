"""What is finalized never changes: the model, querysets and the database refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, models, transaction
from django.db.models import ProtectedError

from billing.append_only import AppendOnlyError
from billing.invoicing import crediting, payments
from billing.invoicing.adjusting import decide, propose
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.documents import document
from billing.invoicing.locks import lock_period
from billing.models import (
    Adjustment,
    CreditNote,
    CreditNoteLine,
    FrozenError,
    Invoice,
    InvoiceDocument,
    InvoiceEvent,
    InvoiceLine,
    Payment,
    PaymentAllocation,
    PeriodLock,
)
from tests.billing.invoicing.books import NOVEMBER, PlainBook
from tests.tenants.cast import Cast

FREEZING = [Invoice, InvoiceLine, CreditNote, CreditNoteLine]
APPEND_ONLY = [InvoiceEvent, InvoiceDocument, Payment, PaymentAllocation, PeriodLock]


@pytest.fixture
def invoice(cast: Cast, book: PlainBook) -> Invoice:
    """Finalized, with one row or more of everything around it."""
    decide(propose(cast.acme, Decimal(5), code="setup", name="Setup"), approve=True, by="ben")
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    invoice = Invoice.objects.get(tenant=cast.acme)
    at = datetime(2026, 11, 10, tzinfo=UTC)
    payments.record_payment(
        cast.acme, Decimal(1), method="usdc", reference="0x1", received_at=at, invoice=invoice
    )
    crediting.credit(invoice, reason="outage", by="ada")
    document(invoice, "pdf")
    lock_period(at, by="ada", reason="books")
    return invoice


@pytest.mark.parametrize("model", FREEZING)
def test_models_and_querysets_refuse(invoice: Invoice, model: type[models.Model]) -> None:
    rows: Any = model._default_manager.all()
    row = rows[0]
    # Also one whose state in hand says otherwise.
    edited = rows[0]
    edited.state = "draft"
    for act in (
        row.save,
        row.delete,
        edited.save,
        edited.delete,
        rows.delete,
        lambda: rows.update(pk=1),
        lambda: rows.bulk_update([row], [rows.model._meta.fields[2].name]),
    ):
        with pytest.raises(FrozenError, match="is final"):
            act()


@pytest.mark.parametrize("model", APPEND_ONLY)
def test_append_only_models_refuse(invoice: Invoice, model: type[models.Model]) -> None:
    rows: Any = model._default_manager.all()
    for act in (rows[0].save, rows[0].delete, rows.delete, lambda: rows.update(pk=1)):
        with pytest.raises(AppendOnlyError):
            act()


@pytest.mark.parametrize("model", [*FREEZING, *APPEND_ONLY, Adjustment])
def test_the_database_refuses(invoice: Invoice, model: type[models.Model]) -> None:
    for statement in ("UPDATE {} SET id = id", "DELETE FROM {}"):
        with (
            pytest.raises(DatabaseError, match=r"final|append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement.format(model._meta.db_table))
    assert model._default_manager.exists()


def test_no_line_is_added_and_none_moved_in(invoice: Invoice, cast: Cast) -> None:
    values = {"kind": "usage", "code": "x", "name": "x", "quantity": 1}
    with pytest.raises(DatabaseError, match="final"), transaction.atomic():
        InvoiceLine.objects.create(invoice=invoice, place=99, **values)
    draft = Invoice.objects.create(
        tenant=cast.acme, period_start=NOVEMBER, period_end=NOVEMBER, full_end=NOVEMBER
    )
    line = InvoiceLine.objects.create(invoice=draft, place=99, **values)
    line.invoice = invoice
    with pytest.raises(DatabaseError, match="final"), transaction.atomic():
        line.save()


def test_no_invoice_is_born_final(invoice: Invoice, cast: Cast) -> None:
    values = {
        field.attname: getattr(invoice, field.attname)
        for field in Invoice._meta.concrete_fields
        if field.attname not in {"id", "number", "period_start"}
    }
    with pytest.raises(DatabaseError, match="not a draft"), transaction.atomic():
        Invoice.objects.create(**values, number="INV-2026-999999", period_start=NOVEMBER)


def test_a_tenant_with_an_invoice_cannot_be_deleted(invoice: Invoice) -> None:
    with pytest.raises((ProtectedError, FrozenError)):
        invoice.tenant.delete()


def test_the_document_is_drawn_once(invoice: Invoice) -> None:
    kept = document(invoice, "pdf")
    assert bytes(kept.body).startswith(b"%PDF")
    assert document(invoice, "pdf").pk == kept.pk
