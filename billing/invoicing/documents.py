"""The documents of a finalized invoice or an issued credit note: drawn once, and from then on the
same bytes."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal

from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.utils import translation

from billing.invoicing.credit_sheet import credit_sheet_of
from billing.invoicing.errors import InvoicingError
from billing.invoicing.sheet import Sheet, sheet_of
from billing.models import CreditNote, Invoice, InvoiceDocument

Format = Literal["pdf", "html"]
#: Of documents, whoever asks for one first: what is kept is the same for everybody.
LANGUAGE = "en"


def render_html(what: Invoice | CreditNote) -> str:
    """An invoice or credit note, or a draft of one, as a page that stands by itself."""
    with translation.override(LANGUAGE):
        return render_to_string("billing/invoice.html", {"sheet": _sheet(what)})


def render_pdf(what: Invoice | CreditNote) -> bytes:
    """The same as PDF. The bytes depend on what is drawn alone, and on the library and its
    fonts."""
    # fpdf2 and its fonts take 0.5 s to import: only where something is drawn.
    from billing.invoicing.pdf import draw

    with translation.override(LANGUAGE):
        return draw(_sheet(what), dated=_dated(what))


def _sheet(what: Invoice | CreditNote) -> Sheet:
    return sheet_of(what) if isinstance(what, Invoice) else credit_sheet_of(what)


def _dated(what: Invoice | CreditNote) -> datetime:
    if isinstance(what, Invoice):
        return what.finalized_at or what.drafted_at
    return what.issued_at or what.requested_at


def document(what: Invoice | CreditNote, format: Format) -> InvoiceDocument:
    """The document of what is final: drawn at the first call, and kept with its hash. Raises
    InvoicingError for a draft, and for a credit note that was rejected."""
    if what.number is None:
        raise InvoicingError(f"{what} is a draft: only what is final is kept")
    owner: dict[str, Any] = (
        {"invoice": what} if isinstance(what, Invoice) else {"credit_note": what}
    )
    kept = InvoiceDocument.objects.filter(**owner, format=format).first()
    if kept is not None:
        return kept
    body = render_pdf(what) if format == "pdf" else render_html(what).encode()
    try:
        with transaction.atomic():
            return InvoiceDocument.objects.create(
                **owner, format=format, body=body, sha256=hashlib.sha256(body).hexdigest()
            )
    except IntegrityError:  # somebody else drew it meanwhile
        return InvoiceDocument.objects.get(**owner, format=format)
