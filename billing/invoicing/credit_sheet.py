"""What a credit note says, as texts in their places: drawn as an invoice is."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from billing.invoicing.brand import logo_of
from billing.invoicing.sheet import (
    GROUPS,
    Detail,
    Row,
    Sheet,
    buyer_lines,
    day,
    money,
    number,
    seller_lines,
    taxes,
)
from billing.models import CreditNote, CreditNoteLine
from billing.rating.invoice import LineKind

_VOID = "Invoice {} is void: nothing of it is to be paid."
_CREDIT = (
    "It is set off against what is open of invoice {}. What was paid beyond that is yours: it is "
    "sent back, or used for another invoice, as you ask us to; what was prepaid is prepaid again."
)


def credit_sheet_of(note: CreditNote) -> Sheet:
    """The view of a credit note: its own copies, and those of its invoice where it was issued
    before it had any."""
    invoice = note.invoice
    # By its lines' places on the invoice, under the same headings.
    lines = list(note.lines.select_related("line").order_by("line__place", "pk"))
    seller, buyer = note.seller or invoice.seller, note.buyer or invoice.buyer
    tax = note.tax or invoice.tax
    is_issued = note.state == CreditNote.State.ISSUED
    told = (_VOID if note.voids else _CREDIT).format(invoice.number)
    return Sheet(
        title="Credit note" if is_issued else "Draft credit note",
        number=note.number or "not numbered yet",
        is_draft=not is_issued,
        seller_name=seller.get("name", ""),
        seller=seller_lines(seller),
        buyer=buyer_lines(buyer),
        facts=tuple(_facts(note)),
        segments=(),
        rows=tuple(map(_row, lines)),
        totals=tuple(_totals(note, tax, lines)),
        due=("Credited to you", f"{money(note.total)} {invoice.currency}"),
        has_tax=any(line.tax_percent for line in lines),
        notes=tuple(filter(None, [tax.get("reverse_charge", "")])),
        remarks=(told,),
        payment=(),
        footer=seller.get("footer", ""),
        color=seller.get("color") or "#1f3a5f",
        logo=logo_of(seller),
        buyer_heading="Credit to",
    )


def _facts(note: CreditNote) -> Iterator[tuple[str, str]]:
    yield "Number", note.number or "not numbered yet"
    yield "Date", day(note.issued_at) or f"{day(note.requested_at)} (draft)"
    yield "For invoice", f"{note.invoice.number} of {day(note.invoice.finalized_at)}"
    yield "Reason", note.reason


def _row(line: CreditNoteLine) -> Row:
    return Row(
        group=str(GROUPS[LineKind(line.line.kind)]),
        name=line.name,
        quantity="",
        amount=money(line.amount),
        tax=f"{number(line.tax_percent)} %" if line.tax_percent else "",
        details=tuple(_details(line)),
    )


def _details(line: CreditNoteLine) -> Iterator[Detail]:
    invoiced = line.line
    if line.amount != invoiced.net:
        yield Detail(f"of {money(invoiced.net)} invoiced")
    elif invoiced.net != invoiced.amount:
        yield Detail(f"{money(invoiced.amount)} less discounts")


def _totals(
    note: CreditNote, tax: dict[str, str], lines: list[CreditNoteLine]
) -> Iterator[tuple[str, str]]:
    yield "Subtotal", money(note.subtotal)
    rows: list[tuple[Decimal, Decimal, Decimal]] = [
        (line.tax_percent, line.amount, line.tax) for line in lines
    ]
    yield from taxes(tax, rows)
    yield "Total", money(note.total)
