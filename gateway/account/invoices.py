"""A tenant's invoices and credit notes: those with a number, as they were sent, and where they
stand. Drafts are the operator's until they are final; `plans.running` tells what a period costs so
far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from django.db.models import Prefetch, QuerySet
from django.utils.translation import gettext as _

from billing.exports import credit_notes as credit_note_export
from billing.exports import lines as line_export
from billing.exports.csv import encode
from billing.invoicing.documents import document as kept_document
from billing.models import CreditNote, CreditNoteLine, Invoice, InvoiceEvent, InvoiceLine
from gateway.account.errors import BadValue, NotFound
from gateway.account.paging import DEFAULT_LIMIT, Page, page
from tenants.models import Tenant

Format = Literal["html", "pdf", "csv"]
CONTENT_TYPES: dict[str, str] = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
}
#: What customers are not told of an invoice: what was done with it inside.
INTERNAL_EVENTS = frozenset({InvoiceEvent.Kind.DRAFTED_AGAIN})
#: Of a document shown in a browser: names and addresses are escaped, and nothing may run all the
#: same.
DOCUMENT_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
)


@dataclass(frozen=True, slots=True)
class Document:
    """A file: its name, type and bytes in blocks."""

    name: str
    content_type: str
    blocks: Iterator[bytes] = field(repr=False)


def invoice_page(
    tenant: Tenant, *, state: str = "", cursor: str = "", limit: int = DEFAULT_LIMIT
) -> Page[Invoice]:
    """Finalized invoices with their `standing`, the newest first; those that stand in one `state`
    of `InvoiceStanding.State`, or are `overdue`. One statement. Raises BadValue and BadCursor."""
    rows = _invoices(tenant)
    if state == "overdue":
        rows = rows.filter(standing__is_overdue=True)
    elif state:
        rows = rows.filter(standing__state=state)
    order = ("-finalized_at", "-pk")
    return page(rows, order, of="invoices", tenant_id=tenant.pk, cursor=cursor, limit=limit)


def invoice(tenant: Tenant, number: str) -> Invoice:
    """One, with `standing`, `lines`, `events` and issued `credit_notes` read. Raises NotFound."""
    rows = _invoices(tenant).prefetch_related(
        Prefetch("lines", InvoiceLine.objects.order_by("place")),
        Prefetch("events", InvoiceEvent.objects.exclude(kind__in=INTERNAL_EVENTS).order_by("pk")),
        Prefetch("credit_notes", CreditNote.objects.filter(number__isnull=False).order_by("pk")),
    )
    found = rows.filter(number=number).first()
    if found is None:
        raise NotFound(_("There is no invoice %(number)r.") % {"number": number[:32]})
    return found


def credit_note_page(
    tenant: Tenant, *, cursor: str = "", limit: int = DEFAULT_LIMIT
) -> Page[CreditNote]:
    """Issued credit notes with their `invoice`, the newest first. Raises BadValue and BadCursor."""
    rows = _credit_notes(tenant)
    order = ("-issued_at", "-pk")
    return page(rows, order, of="credit-notes", tenant_id=tenant.pk, cursor=cursor, limit=limit)


def credit_note(tenant: Tenant, number: str) -> CreditNote:
    """One, with its `invoice` and `lines` read. Raises NotFound."""
    lines = CreditNoteLine.objects.order_by("line__place", "pk")
    rows = _credit_notes(tenant).prefetch_related(Prefetch("lines", lines))
    found = rows.filter(number=number).first()
    if found is None:
        raise NotFound(_("There is no credit note %(number)r.") % {"number": number[:32]})
    return found


def invoice_document(tenant: Tenant, number: str, format: str) -> Document:
    """An invoice as it was sent (`html`, `pdf`), or its lines (`csv`). Raises NotFound and
    BadValue."""
    rows = _invoices(tenant).filter(number=number)
    return _document(rows.first(), number, format)


def credit_note_document(tenant: Tenant, number: str, format: str) -> Document:
    """The same of a credit note."""
    rows = _credit_notes(tenant).filter(number=number)
    return _document(rows.first(), number, format)


def _document(what: Invoice | CreditNote | None, number: str, format: str) -> Document:
    if format not in CONTENT_TYPES:
        raise BadValue(
            _("format: %(format)r is none of %(known)s.")
            % {"format": format[:12], "known": ", ".join(CONTENT_TYPES)}
        )
    if what is None:
        raise NotFound(_("There is no document %(number)r.") % {"number": number[:32]})
    if format == "csv":
        blocks = _lines(what)
    else:
        blocks = iter([bytes(kept_document(what, "pdf" if format == "pdf" else "html").body)])
    return Document(f"{what.number}.{format}", CONTENT_TYPES[format], blocks)


def _lines(what: Invoice | CreditNote) -> Iterator[bytes]:
    if isinstance(what, Invoice):
        rows = line_export.rows_of(Invoice.objects.filter(pk=what.pk))
        return encode(line_export.COLUMNS, rows, with_internal=False)
    found = credit_note_export.lines_of(CreditNote.objects.filter(pk=what.pk))
    return encode(credit_note_export.LINE_COLUMNS, found, with_internal=False)


def _invoices(tenant: Tenant) -> QuerySet[Invoice]:
    return Invoice.objects.for_tenant(tenant).finalized().select_related("standing")


def _credit_notes(tenant: Tenant) -> QuerySet[CreditNote]:
    rows = CreditNote.objects.filter(invoice__tenant=tenant, number__isnull=False)
    return rows.select_related("invoice")
