"""The documents of a finalized invoice: drawn once, and from then on the same bytes."""

from __future__ import annotations

import hashlib
from typing import Literal

from django.db import IntegrityError, transaction
from django.template.loader import render_to_string

from billing.invoicing.errors import InvoicingError
from billing.invoicing.sheet import sheet_of
from billing.models import Invoice, InvoiceDocument

Format = Literal["pdf", "html"]


def render_html(invoice: Invoice) -> str:
    """An invoice or draft as a page that stands by itself."""
    return render_to_string("billing/invoice.html", {"sheet": sheet_of(invoice)})


def render_pdf(invoice: Invoice) -> bytes:
    """The same as PDF. The bytes depend on the invoice alone, and on the library and its fonts."""
    # fpdf2 and its fonts take 0.5 s to import: only where something is drawn.
    from billing.invoicing.pdf import draw

    return draw(sheet_of(invoice), dated=invoice.finalized_at or invoice.drafted_at)


def document(invoice: Invoice, format: Format) -> InvoiceDocument:
    """A finalized invoice's document: drawn at the first call, and kept with its hash. Raises
    InvoicingError for a draft."""
    if not invoice.is_finalized:
        raise InvoicingError(f"{invoice} is a draft: only what is final is kept")
    kept = InvoiceDocument.objects.filter(invoice=invoice, format=format).first()
    if kept is not None:
        return kept
    body = render_pdf(invoice) if format == "pdf" else render_html(invoice).encode()
    try:
        with transaction.atomic():
            return InvoiceDocument.objects.create(
                invoice=invoice,
                format=format,
                body=body,
                sha256=hashlib.sha256(body).hexdigest(),
            )
    except IntegrityError:  # somebody else drew it meanwhile
        return InvoiceDocument.objects.get(invoice=invoice, format=format)
