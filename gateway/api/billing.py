"""`/v1/invoices`, `/v1/credit-notes`: documents of what was billed."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.models import InvoiceStanding
from gateway.account import invoices
from gateway.api.endpoint import Endpoint, Money, PageQuery, file, page_of, paged

OVERDUE = "overdue"


class InvoiceRow(serializers.Serializer[Any]):
    """A finalized invoice and where it stands."""

    number = serializers.CharField()
    kind = serializers.CharField()
    state = serializers.CharField(source="standing.state")
    is_overdue = serializers.BooleanField(source="standing.is_overdue")
    balance = Money(source="standing.balance", help_text="Still to pay; below 0: in your favour.")
    currency = serializers.CharField()
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    issued_at = serializers.DateTimeField(source="finalized_at")
    due_at = serializers.DateTimeField()
    subtotal = Money()
    tax_total = Money()
    total = Money()
    prepaid = Money()
    due = Money()
    content_sha256 = serializers.CharField()


class InvoiceLine(serializers.Serializer[Any]):
    """A line."""

    place = serializers.IntegerField()
    kind = serializers.CharField()
    code = serializers.CharField()
    name = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)
    quantity = serializers.CharField()
    unit = serializers.CharField(allow_blank=True)
    amount = Money()
    net = Money()
    tax_percent = serializers.CharField()
    tax = Money()
    window_start = serializers.DateTimeField(allow_null=True)
    window_end = serializers.DateTimeField(allow_null=True)


class InvoiceEvent(serializers.Serializer[Any]):
    """Something that happened to it."""

    kind = serializers.CharField()
    at = serializers.DateTimeField()


class CreditNoteRow(serializers.Serializer[Any]):
    """An issued credit note."""

    number = serializers.CharField()
    invoice = serializers.CharField(source="invoice.number")
    currency = serializers.CharField(source="invoice.currency")
    reason = serializers.CharField()
    is_void = serializers.BooleanField(source="voids")
    issued_at = serializers.DateTimeField()
    subtotal = Money()
    tax_total = Money()
    total = Money()
    content_sha256 = serializers.CharField()


class Party(serializers.Serializer[Any]):
    """Whom a document names: a copy of when it was made."""

    name = serializers.CharField(default="", allow_blank=True)
    address = serializers.ListField(child=serializers.CharField(), default=list)
    country = serializers.CharField(default="", allow_blank=True)
    tax_id = serializers.CharField(default="", allow_blank=True)


class InvoiceDetail(InvoiceRow):
    """One, with its lines and what happened to it."""

    seller = Party()
    buyer = Party()
    lines = InvoiceLine(many=True)
    events = InvoiceEvent(many=True)
    credit_notes = serializers.SerializerMethodField(help_text="Their numbers.")

    def get_credit_notes(self, invoice: Any) -> list[str]:
        """Of those that were issued."""
        return [note.number for note in invoice.credit_notes.all()]


class CreditNoteLine(serializers.Serializer[Any]):
    """What is taken back of a line."""

    name = serializers.CharField()
    amount = Money()
    tax_percent = serializers.CharField()
    tax = Money()


class CreditNoteDetail(CreditNoteRow):
    """One, with its lines."""

    lines = CreditNoteLine(many=True)


class InvoiceQuery(PageQuery):
    """Which invoices."""

    state = serializers.ChoiceField(
        choices=[*InvoiceStanding.State.values, OVERDUE], required=False, default=""
    )


class Invoices(Endpoint):
    """Invoices in rows."""

    queries = {"GET": InvoiceQuery}

    @extend_schema(operation_id="list_invoices", responses=page_of(InvoiceRow))
    def get(self, request: Any) -> Response:
        """Finalized invoices, the newest first."""
        return paged(invoices.invoice_page(self.tenant, **self.asked), InvoiceRow)


class Invoice(Endpoint):
    """One invoice."""

    @extend_schema(operation_id="get_invoice", responses=InvoiceDetail)
    def get(self, request: Any, number: str) -> Response:
        """One, with its lines."""
        return Response(InvoiceDetail(invoices.invoice(self.tenant, number)).data)


_FILES = {
    (200, "text/html"): OpenApiTypes.BINARY,
    (200, "application/pdf"): OpenApiTypes.BINARY,
    (200, "text/csv"): OpenApiTypes.BINARY,
}

_FORMAT = OpenApiParameter(
    "file_format", str, OpenApiParameter.PATH, enum=list(invoices.CONTENT_TYPES)
)


class InvoiceFile(Endpoint):
    """An invoice as a file."""

    @extend_schema(operation_id="download_invoice", responses=_FILES, parameters=[_FORMAT])
    def get(self, request: Any, number: str, file_format: str) -> Any:
        """As it was sent (`html`, `pdf`: the same bytes each time), or its lines (`csv`)."""
        return _sent(request, invoices.invoice_document(self.tenant, number, file_format))


class CreditNotes(Endpoint):
    """Credit notes in rows."""

    queries = {"GET": PageQuery}

    @extend_schema(operation_id="list_credit_notes", responses=page_of(CreditNoteRow))
    def get(self, request: Any) -> Response:
        """Issued credit notes, the newest first."""
        return paged(invoices.credit_note_page(self.tenant, **self.asked), CreditNoteRow)


class CreditNote(Endpoint):
    """One credit note."""

    @extend_schema(operation_id="get_credit_note", responses=CreditNoteDetail)
    def get(self, request: Any, number: str) -> Response:
        """One, with its lines."""
        return Response(CreditNoteDetail(invoices.credit_note(self.tenant, number)).data)


class CreditNoteFile(Endpoint):
    """A credit note as a file."""

    @extend_schema(operation_id="download_credit_note", responses=_FILES, parameters=[_FORMAT])
    def get(self, request: Any, number: str, file_format: str) -> Any:
        """As it was sent (`html`, `pdf`), or its lines (`csv`)."""
        return _sent(request, invoices.credit_note_document(self.tenant, number, file_format))


def _sent(request: Any, document: invoices.Document) -> Any:
    return file(
        request,
        document.blocks,
        name=document.name,
        content_type=document.content_type,
        csp=invoices.DOCUMENT_CSP,
    )
