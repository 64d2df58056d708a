"""Rated values → what is kept of them: plain JSON, and the hash of a finalized invoice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from billing.invoicing.brand import inlined
from billing.models import CreditNote, Invoice, InvoiceLine
from billing.rating.invoice import Line, UsageSource
from billing.rating.money import render, render_amount
from billing.rating.segments import Segment
from billing.rating.tiers import TierPart

#: Decimals of an exact amount that are kept: those beyond only rounding has seen.
SHOWN_PLACES = 10

_INVOICE = (
    *("kind", "sequence", "number", "currency", "seller", "buyer", "tax", "segments"),
    *("unmetered", "subtotal", "tax_total", "total", "prepaid", "due", "interval_unit"),
    *("interval_every", "ledger_position", "previous_position", "finalized_at", "due_at"),
    *("period_start", "period_end", "full_end", "is_first_period", "usage_from", "usage_until"),
    "tenant_id",
)
_LINE = (
    *("place", "kind", "code", "name", "reason", "quantity", "unit", "amount", "tax_percent"),
    *("tax", "parts", "sources", "window_start", "window_end", "original_start"),
    *("original_end", "net"),
)
_LINE_V1 = tuple(name for name in _LINE if name != "net")


def plain(value: Any) -> Any:
    """A dataclass, a number or a time as JSON holds it."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Decimal):
        places = -int(value.as_tuple().exponent)
        return render(round(value, SHOWN_PLACES) if places > SHOWN_PLACES else value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Enum):
        return value.value
    return value


def parts_of(line: Line) -> list[dict[str, Any]]:
    """How a line's amount came about."""
    return [
        {"part": "tier" if isinstance(part, TierPart) else type(part).__name__[:-4].lower()}
        | plain(part)
        for part in line.parts
    ]


def sources_of(sources: Iterable[UsageSource]) -> list[dict[str, Any]]:
    """The usage a line was made of."""
    return [{name: plain(value) for name, value in row._asdict().items()} for row in sources]


def segment_of(segment: Segment) -> dict[str, Any]:
    """A segment, as an invoice shows it."""
    return {
        "start": plain(segment.start),
        "end": plain(segment.end),
        "plan": segment.plan.code,
        "name": segment.plan.name,
        "version": segment.plan.version,
        "fee": render_amount(segment.plan.fee),
        "is_trial": segment.is_trial,
        "add_ons": [
            {"code": add_on.code, "name": add_on.name, "quantity": quantity}
            for add_on, quantity in segment.add_ons
        ],
    }


def content_hash(invoice: Invoice, lines: Iterable[InvoiceLine]) -> str:
    """SHA-256, in hex, of all that a finalized invoice says."""
    return _content_hash(invoice, lines, _LINE)


def is_hash_of(invoice: Invoice, lines: Sequence[InvoiceLine]) -> bool:
    """Whether an invoice's hash is that of its content: as it is made now, or as it was made (v1)
    while the logo was in the copy of the seller and `net` in no line."""
    if content_hash(invoice, lines) == invoice.content_sha256:
        return True
    seller = {"seller": inlined(invoice.seller)}
    return _content_hash(invoice, lines, _LINE_V1, seller) == invoice.content_sha256


def _content_hash(
    invoice: Invoice, lines: Iterable[InvoiceLine], of_line: Sequence[str], instead: Any = None
) -> str:
    # Not where it is 0: invoices from before there was such a thing keep their hash.
    carried = {"carried": plain(invoice.carried)} if invoice.carried else {}
    return _digest(
        {name: plain(getattr(invoice, name)) for name in _INVOICE}
        | carried
        | (instead or {})
        | {"lines": [{name: plain(getattr(line, name)) for name in of_line} for line in lines]}
    )


def credit_hash(note: CreditNote) -> str:
    """The same of a credit note."""
    return _credit_hash(
        note, (*_NOTE_V1, "seller", "buyer", "tax"), (*_NOTE_LINE_V1, "tax_percent")
    )


def is_credit_hash_of(note: CreditNote) -> bool:
    """Whether a credit note's hash is that of its content: as it is made now, or as it was (v1)
    while credit notes had no parties."""
    return note.content_sha256 in {credit_hash(note), _credit_hash(note, _NOTE_V1, _NOTE_LINE_V1)}


_NOTE_V1 = (
    *("number", "invoice_id", "reason", "voids", "subtotal", "tax_total", "total"),
    "issued_at",
)
_NOTE_LINE_V1 = ("line_id", "name", "amount", "tax")


def _credit_hash(note: CreditNote, names: Sequence[str], of_line: Sequence[str]) -> str:
    lines = note.lines.order_by("pk").values_list(*of_line)
    return _digest(
        {name: plain(getattr(note, name)) for name in names}
        | {"lines": [[plain(value) for value in line] for line in lines]}
    )


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
