"""Invoices and credit notes as they were sent."""

from __future__ import annotations

from typing import TypeVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.append_only import AppendOnlyModel, AppendOnlyQuerySet
from billing.models.corrections import CreditNote
from billing.models.invoices import Invoice
from billing.models.mailed import PartlyMailed

_Row = TypeVar("_Row", bound=models.Model)


class KeptRows(AppendOnlyQuerySet[_Row]):
    """Rows that are written once."""


class InvoiceDocument(AppendOnlyModel):
    """A finalized invoice or an issued credit note as it was sent: the bytes and their SHA-256.
    Kept, because another version of the library or a font would draw it otherwise."""

    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, null=True, blank=True, related_name="documents"
    )
    credit_note = models.ForeignKey(
        CreditNote, on_delete=models.PROTECT, null=True, blank=True, related_name="documents"
    )
    format = models.CharField(max_length=4, choices=[("pdf", "PDF"), ("html", "HTML")])
    sha256 = models.CharField(max_length=64)
    body = models.BinaryField()
    made_at = models.DateTimeField(default=timezone.now)

    objects = KeptRows["InvoiceDocument"].as_manager()

    class Meta:
        ordering = ["invoice", "format"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "format"], name="invoice_document_once"),
            models.UniqueConstraint(
                fields=["credit_note", "format"], name="credit_note_document_once"
            ),
            models.CheckConstraint(
                condition=Q(invoice__isnull=False, credit_note__isnull=True)
                | Q(invoice__isnull=True, credit_note__isnull=False),
                name="document_of_one_thing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.format} {self.sha256[:12]}"


class CreditNoteMailing(PartlyMailed):
    """Whether an issued credit note was mailed: beside it, because it itself cannot change."""

    credit_note = models.OneToOneField(
        CreditNote, on_delete=models.PROTECT, primary_key=True, related_name="mailing"
    )
    sent_at = models.DateTimeField(null=True, blank=True, db_index=True)
    sending_since = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-credit_note"]

    def __str__(self) -> str:
        return f"sent {self.sent_at:%Y-%m-%d %H:%M}" if self.sent_at else "not sent"
