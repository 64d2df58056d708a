"""A credit note is a document as an invoice is: frozen, drawn once, mailed at least once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.db import DatabaseError, connection, transaction
from django.test import Client

from billing.exports.catalogue import export_for_tenant
from billing.invoicing import crediting
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.credit_sheet import credit_sheet_of
from billing.invoicing.documents import document, render_html, render_pdf
from billing.invoicing.errors import InvoicingError
from billing.invoicing.frozen import is_credit_hash_of
from billing.invoicing.reconcile import reconcile_invoices
from billing.invoicing.sending import CLAIM, send, send_due
from billing.models import (
    CreditNote,
    CreditNoteMailing,
    FrozenError,
    Invoice,
    InvoiceDocument,
    Seller,
)
from tenants.models import BillingProfile, Notice
from tests.billing.invoicing.books import NOVEMBER, PlainBook
from tests.billing.invoicing.test_credit_laws import discount
from tests.tenants.cast import Cast

BASE = "/admin/billing/creditnote/"


@pytest.fixture
def invoice(cast: Cast, book: PlainBook) -> Invoice:
    """Acme's of October, half of it given away."""
    book.discounts = [discount("plan_fee", 50, None)]
    Seller.objects.create(name="Relay Works", address="Old Street 1")
    profile(cast, "Acme Ltd")
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    return Invoice.objects.get(tenant=cast.acme)


def profile(cast: Cast, name: str) -> None:
    BillingProfile.objects.update_or_create(
        tenant=cast.acme,
        defaults={"legal_name": name, "country": "GB", "invoice_email": "ap@acme.example"},
    )


def credit(invoice: Invoice, amount: str | None = None) -> CreditNote:
    line = invoice.lines.get(code="growth")
    amounts = {line.pk: Decimal(amount)} if amount else None
    return crediting.credit(invoice, amounts, reason="An <b>outage</b>", by="ada")


def test_what_it_says_is_what_was_true(invoice: Invoice, cast: Cast) -> None:
    Seller.objects.update(address="New Street 2")
    profile(cast, "Acme Holding plc")
    note = credit(invoice, "10")
    Seller.objects.update(address="Newest Street 3")
    sheet = credit_sheet_of(CreditNote.objects.get(pk=note.pk))
    assert (sheet.title, sheet.number) == ("Credit note", note.number)
    assert sheet.seller[0] == "New Street 2"  # who issues it, on its day
    assert sheet.buyer[0] == "Acme Ltd"  # whom the invoice named
    assert ("For invoice", f"{invoice.number} of 4 November 2026") in sheet.facts
    assert ("Reason", "An <b>outage</b>") in sheet.facts
    assert [(row.name, row.amount) for row in sheet.rows] == [("Growth", "10.00")]
    assert sheet.rows[0].details[0].text == "of 24.50 invoiced"
    assert sheet.due == ("Credited to you", "10.00 USD")
    assert sheet.payment == ()
    html = render_html(note)
    assert "An &lt;b&gt;outage&lt;/b&gt;" in html
    assert "<b>" not in html


def test_it_is_drawn_once_and_frozen(invoice: Invoice) -> None:
    note = credit(invoice)
    kept = document(note, "pdf")
    assert bytes(kept.body).startswith(b"%PDF")
    assert (document(note, "pdf").pk, kept.invoice) == (kept.pk, None)
    assert render_pdf(note) == render_pdf(CreditNote.objects.get(pk=note.pk))
    assert document(note, "html").pk != kept.pk
    note.seller = {"name": "Somebody else"}
    assert not is_credit_hash_of(note)
    with pytest.raises(FrozenError):
        note.save()
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE billing_creditnote SET buyer = '{}'")
    assert list(reconcile_invoices()) == []
    with pytest.raises(DatabaseError), transaction.atomic():
        InvoiceDocument.objects.create(format="pdf", sha256="0" * 64, body=b"of nothing")


def test_one_that_waits_is_no_document(invoice: Invoice, settings: Any) -> None:
    settings.RELAY_CREDIT_LIMIT = 1
    note = credit(invoice)
    assert "Draft credit note" in render_html(note)
    for act in (lambda: document(note, "pdf"), lambda: send(note)):
        with pytest.raises(InvoicingError, match="only what is final"):
            act()
    assert send_due() == 1  # the invoice
    crediting.approve_credit(note, by="ben")
    assert send_due() == 1


def test_it_is_mailed_once_after_its_invoice(invoice: Invoice, cast: Cast) -> None:
    note = credit(invoice, "10")
    assert (send_due(), send_due()) == (2, 0)
    told = mail.outbox[1]
    assert told.subject == f"Credit note {note.number} from Relay Works"
    assert [name for name, *_ in told.attachments] == [f"{note.number}.pdf"]
    assert f"for invoice {invoice.number}" in told.body
    assert send(note, again=True, by="ada")
    kinds = list(invoice.events.values_list("kind", flat=True))
    assert kinds[-3:] == ["sent", "credit_sent", "credit_sent"]
    assert Notice.objects.get(kind="credit_note.sent").payload["total"] == "10.00"


def test_a_mail_that_was_begun_is_begun_again(invoice: Invoice) -> None:
    note = credit(invoice, "10")
    send(invoice)
    at = NOVEMBER
    CreditNoteMailing.objects.update(sending_since=at)
    assert not send(note, now=at + CLAIM / 2)
    assert send(note, now=at + 2 * CLAIM)


def test_one_of_an_invoice_nobody_got_brings_it_along(invoice: Invoice) -> None:
    note = crediting.void(invoice, reason="wrong customer", by="ada")
    assert send_due() == 1
    names = [name for name, *_ in mail.outbox[0].attachments]
    assert names == [f"{note.number}.pdf", f"{invoice.number}.pdf"]


def test_one_of_before_is_drawn_and_not_mailed_by_itself(invoice: Invoice) -> None:
    note = credit(invoice, "10")
    CreditNoteMailing.objects.all().delete()
    note.seller, note.buyer, note.tax = {}, {}, {}
    sheet = credit_sheet_of(note)
    assert (sheet.seller_name, sheet.buyer[0]) == ("Relay Works", "Acme Ltd")
    send(invoice)
    assert send_due() == 0
    assert send(note)


def test_pages_and_files(operator: Client, invoice: Invoice, cast: Cast) -> None:
    note = credit(invoice, "10")
    page = operator.get(f"{BASE}{note.pk}/change/").content.decode()
    assert f"{BASE}{note.pk}/document/pdf/" in page
    assert "not sent" in page
    first = operator.get(f"{BASE}{note.pk}/document/pdf/")
    assert first.content == bytes(document(note, "pdf").body)
    assert str(note.number) in operator.get(f"{BASE}{note.pk}/document/html/").content.decode()
    assert operator.get(f"{BASE}{note.pk}/document/exe/").status_code == 404
    assert Client().get(f"{BASE}{note.pk}/document/pdf/").status_code == 302
    row = {"action": "send", "_selected_action": [note.pk], "confirmed": "yes"}
    operator.post(BASE, row)
    assert len(mail.outbox) == 1
    assert operator.get(BASE).status_code == 200
    at = note.issued_at
    assert at is not None
    lines = b"".join(export_for_tenant(cast.acme, "credit_note_lines", f"{at:%Y-%m}"))
    assert b",10.00," in lines
