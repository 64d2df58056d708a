"""What an invoice says, as texts in their places: the one view that HTML and PDF draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.models import Invoice, InvoiceLine
from billing.rating.invoice import LineKind

_UNITS = {
    "messages": "messages",
    "bytes": "bytes",
    "requests": "requests",
    "coin_minutes": "coin-minutes",
    "archive_bytes": "bytes",
}


@dataclass(frozen=True, slots=True)
class Detail:
    """A line below a line: how its amount came about."""

    text: str
    amount: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `group` is the heading it stands under."""

    group: str
    name: str
    quantity: str
    amount: str
    tax: str
    details: tuple[Detail, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page to be drawn. `totals` and `facts` are pairs of a name and a text."""

    title: str
    number: str
    is_draft: bool
    seller_name: str
    seller: tuple[str, ...]
    buyer: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    segments: tuple[str, ...]
    rows: tuple[Row, ...]
    totals: tuple[tuple[str, str], ...]
    due: tuple[str, str]
    has_tax: bool
    notes: tuple[str, ...]
    payment: tuple[str, ...]
    footer: str
    color: str
    logo: str


def sheet_of(invoice: Invoice) -> Sheet:
    """The view of an invoice or a draft: its own copies alone, never what is true by now."""
    lines = list(invoice.lines.order_by("place"))
    seller, buyer, tax = invoice.seller, invoice.buyer, invoice.tax
    has_tax = any(line.tax_percent for line in lines)
    is_regular = invoice.kind == Invoice.Kind.REGULAR
    reference = f"Please quote {invoice.number} with your payment." if invoice.number else ""
    pays = invoice.payable > 0
    return Sheet(
        title="Invoice" if invoice.is_finalized else "Draft invoice",
        number=invoice.number or "not numbered yet",
        is_draft=not invoice.is_finalized,
        seller_name=seller.get("name", ""),
        seller=tuple(
            filter(
                None,
                [
                    *seller.get("address", "").splitlines(),
                    f"Tax id {seller['tax_id']}" if seller.get("tax_id") else "",
                    seller.get("email", ""),
                    seller.get("website", ""),
                ],
            )
        ),
        buyer=tuple(
            filter(
                None,
                [
                    buyer.get("name", ""),
                    *buyer.get("address", "").splitlines(),
                    buyer.get("country", ""),
                    f"Tax id {buyer['tax_id']}" if buyer.get("tax_id") else "",
                ],
            )
        ),
        facts=tuple(_facts(invoice, is_regular)),
        segments=tuple(map(_segment, invoice.segments)) if len(invoice.segments) > 1 else (),
        rows=tuple(map(_row, lines)),
        totals=tuple(_totals(invoice, tax, lines)),
        due=(
            "Amount due" if invoice.payable >= 0 else "In your favour, settles the next invoice",
            f"{money(abs(invoice.payable))} {invoice.currency}",
        ),
        has_tax=has_tax,
        notes=tuple(filter(None, [tax.get("reverse_charge", "")])),
        payment=tuple(
            [*seller.get("payment_instructions", "").strip().splitlines(), reference]
            if pays and invoice.number
            else ()
        ),
        footer=seller.get("footer", ""),
        color=seller.get("color") or "#1f3a5f",
        logo=seller.get("logo", ""),
    )


def money(amount: Decimal) -> str:
    """`1,234.50`, a minus in front of what is below 0."""
    return f"{amount:,.2f}".replace("-", "−")


def number(value: Decimal | str) -> str:
    """`1,234,567` or `0.5`: without needless zeros."""
    whole, _, rest = f"{Decimal(value):,f}".partition(".")
    return f"{whole}.{rest}".rstrip("0").rstrip(".") if rest else whole


def _day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%-d %B %Y}"


def _moment(text: str) -> str:
    at = datetime.fromisoformat(text)
    return f"{at:%-d %b %Y}" + ("" if (at.hour, at.minute, at.second) == (0, 0, 0) else f" {at:%X}")


def _facts(invoice: Invoice, is_regular: bool) -> Iterator[tuple[str, str]]:
    yield "Number", invoice.number or "not numbered yet"
    yield "Date", _day(invoice.finalized_at) or f"{_day(invoice.drafted_at)} (draft)"
    if invoice.due_at is not None and invoice.payable > 0:
        yield "Due", _day(invoice.due_at)
    if is_regular:
        start, end = invoice.period_start.isoformat(), invoice.period_end.isoformat()
        yield "Period (UTC)", f"{_moment(start)} to {_moment(end)}, end not included"


def _segment(segment: dict[str, Any]) -> str:
    add_ons = "".join(f", {one['quantity']} × {one['name']}" for one in segment["add_ons"])
    trial = ", trial" if segment["is_trial"] else ""
    return (
        f"{_moment(segment['start'])} to {_moment(segment['end'])}: {segment['name']} "
        f"at {money(Decimal(segment['fee']))} a period{trial}{add_ons}"
    )


_GROUPS = {
    LineKind.PLAN_FEE: "Plan",
    LineKind.ADD_ON_FEE: "Add-ons",
    LineKind.USAGE: "Usage",
    LineKind.ZERO_RATED: "Free of charge",
    LineKind.DISCOUNT: "Discounts",
    LineKind.ADJUSTMENT: "Adjustments",
}


def _row(line: InvoiceLine) -> Row:
    kind = LineKind(line.kind)
    unit = _UNITS.get(line.unit, line.unit)
    quantity = number(line.quantity)
    shown = ""
    if kind in {LineKind.USAGE, LineKind.ZERO_RATED}:
        shown = f"{quantity} {unit}"
    elif kind is LineKind.ADD_ON_FEE:
        shown = quantity
    return Row(
        group=_GROUPS[kind],
        name=f"{line.name}: {line.reason}" if line.reason else line.name,
        quantity=shown,
        amount=money(line.amount),
        tax=f"{number(line.tax_percent)} %" if line.tax_percent else "",
        details=tuple(_details(line, unit)),
    )


def _details(line: InvoiceLine, unit: str) -> Iterator[Detail]:
    parts = line.parts
    if line.kind == LineKind.ADJUSTMENT:
        for source in line.sources:
            yield Detail(
                f"{number(source['units'])} {_UNITS.get(source['metric'], source['metric'])} "
                f"of {source['channel']}" + (f" ({source['reason']})" if source["reason"] else "")
            )
        if line.original_start is not None and line.original_end is not None and not line.sources:
            start, end = line.original_start.isoformat(), line.original_end.isoformat()
            yield Detail(f"for the period {_moment(start)} to {_moment(end)}")
        return
    for part in parts:
        match part["part"]:
            case "fee":
                is_whole = len(parts) == 1 and part["seconds"] == part["full_s"]
                if not is_whole or part["is_trial"]:
                    yield _fee(part)
            case "tier":
                yield _tier(part, unit)
            case "discount":
                yield _discount(part)


def _fee(part: dict[str, Any]) -> Detail:
    window = f"{_moment(part['start'])} to {_moment(part['end'])}"
    if part["is_trial"]:
        return Detail(f"{window}: trial", "0.00")
    times = f"{part['quantity']} × " if part["quantity"] != 1 else ""
    return Detail(
        f"{window}: {part['seconds']:,} of {part['full_s']:,} s of "
        f"{times}{money(Decimal(part['price']))}",
        money(Decimal(part["amount"])),
    )


def _tier(part: dict[str, Any], unit: str) -> Detail:
    quantity = number(part["quantity"])
    match part["share"]:
        case "included":
            return Detail(f"{quantity} of {number(part['up_to'])} included", "0.00")
        case "refused":
            return Detail(f"{quantity} beyond what the plan admits", "0.00")
        case "cap":
            return Detail(f"no more than {money(Decimal(part['price']))} a period", _exact(part))
    price = f"{number(part['price'])} USD"
    if part["packages"] is not None:
        return Detail(
            f"{number(part['packages'])} × {number(part['per'])} {unit} at {price}", _exact(part)
        )
    if part["above"] or part["up_to"] is not None:
        up_to = f"to {number(part['up_to'])}" if part["up_to"] is not None else "on"
        quantity = f"from {number(part['above'])} {up_to}: {quantity}"
    per = unit.removesuffix("s") if part["per"] == 1 else f"{number(part['per'])} {unit}"
    return Detail(f"{quantity} at {price} per {per}", _exact(part))


def _exact(part: dict[str, Any]) -> str:
    amount = Decimal(part["amount"])
    return money(amount) if amount == round(amount, 2) else number(amount).replace("-", "−")


def _discount(part: dict[str, Any]) -> Detail:
    base = money(Decimal(part["base"]))
    if part["percent"] is not None:
        said = f"{number(part['percent'])} % of {base}"
    else:
        said = f"{money(Decimal(part['price']))} off {base}"
    if part["seconds"] != part["full_s"]:
        said += f", for {part['seconds']:,} of {part['full_s']:,} s"
    return Detail(said)


def _totals(
    invoice: Invoice, tax: dict[str, str], lines: list[InvoiceLine]
) -> Iterator[tuple[str, str]]:
    yield "Subtotal", money(invoice.subtotal)
    rates = sorted({line.tax_percent for line in lines if line.tax_percent})
    for rate in rates:
        of_rate = [line for line in lines if line.tax_percent == rate]
        base = sum((line.amount for line in of_rate), start=Decimal(0))
        sum_ = sum((line.tax for line in of_rate), start=Decimal(0))
        yield f"{tax.get('name') or 'Tax'} {number(rate)} % on {money(base)}", money(sum_)
    yield "Total", money(invoice.total)
    if invoice.prepaid:
        yield "Paid from prepaid credit", money(-invoice.prepaid)
    if invoice.carried:
        text = "Settled by earlier credit" if invoice.carried > 0 else "Used for earlier invoices"
        yield text, money(-invoice.carried)
