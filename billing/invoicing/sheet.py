"""What an invoice says, as texts in their places: the one view that HTML and PDF draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from billing.invoicing.brand import logo_of
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

    @property
    def line(self) -> str:
        """Both: in the text, because a column of such amounts reads like one of lines."""
        return f"{self.text} = {self.amount}" if self.amount else self.text


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
    """A page to be drawn. `totals` and `facts` are pairs of a name and a text; `notes` are what has
    to be read, `remarks` what helps."""

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
    buyer_heading: str = "Invoice to"
    remarks: tuple[str, ...] = ()

    @property
    def has_quantity(self) -> bool:
        """Whether a row has one."""
        return any(row.quantity for row in self.rows)


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
        seller=seller_lines(seller),
        buyer=buyer_lines(buyer),
        facts=tuple(_facts(invoice, is_regular)),
        segments=tuple(map(_segment, invoice.segments)) if len(invoice.segments) > 1 else (),
        rows=tuple(map(row_of, lines)),
        totals=tuple(_totals(invoice, tax, lines)),
        due=(
            "Amount due" if invoice.payable >= 0 else "In your favour",
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
        logo=logo_of(seller),
        remarks=tuple(_remarks(invoice)),
    )


def _remarks(invoice: Invoice) -> Iterator[str]:
    if invoice.payable < 0:
        yield "Nothing is to be paid. What is in your favour settles your next invoices."
    elif invoice.payable == 0:
        yield "Nothing is to be paid."


def seller_lines(seller: dict[str, Any]) -> tuple[str, ...]:
    """A copy of the seller below its name."""
    told = (
        *seller.get("address", "").splitlines(),
        f"Tax id {seller['tax_id']}" if seller.get("tax_id") else "",
        seller.get("email", ""),
        seller.get("website", ""),
    )
    return tuple(filter(None, told))


def buyer_lines(buyer: dict[str, Any]) -> tuple[str, ...]:
    """A copy of a buyer: its name, and what is below it."""
    told = (
        buyer.get("name", ""),
        *buyer.get("address", "").splitlines(),
        buyer.get("country", ""),
        f"Tax id {buyer['tax_id']}" if buyer.get("tax_id") else "",
    )
    return tuple(filter(None, told))


def money(amount: Decimal) -> str:
    """`1,234.50`, a minus in front of what is below 0."""
    return f"{amount:,.2f}".replace("-", "−")


def number(value: Decimal | str) -> str:
    """`1,234,567` or `0.5`: without needless zeros."""
    whole, _, rest = f"{Decimal(value):,f}".partition(".")
    return f"{whole}.{rest}".rstrip("0").rstrip(".") if rest else whole


def day(at: datetime | None) -> str:
    """`3 November 2026`."""
    return "" if at is None else f"{at:%-d %B %Y}"


def _moment(text: str) -> str:
    at = datetime.fromisoformat(text)
    return f"{at:%-d %b %Y}" + ("" if (at.hour, at.minute, at.second) == (0, 0, 0) else f" {at:%X}")


def span(start: datetime, end: datetime) -> str:
    """A half-open stretch as people say it: of whole days, with the last of them."""
    last = end - timedelta(days=1) if end.astimezone(UTC).time() == time() else end
    if last < start:  # within a day
        last = end
    return f"{_moment(start.isoformat())} to {_moment(last.isoformat())}"


def _facts(invoice: Invoice, is_regular: bool) -> Iterator[tuple[str, str]]:
    yield "Number", invoice.number or "not numbered yet"
    yield "Date", day(invoice.finalized_at) or f"{day(invoice.drafted_at)} (draft)"
    if invoice.due_at is not None and invoice.payable > 0:
        yield "Due", day(invoice.due_at)
    if is_regular:
        yield "Period (UTC)", span(invoice.period_start, invoice.period_end)


def _segment(segment: dict[str, Any]) -> str:
    add_ons = "".join(f", {one['quantity']} × {one['name']}" for one in segment["add_ons"])
    trial = ", trial" if segment["is_trial"] else ""
    return (
        f"{_moment(segment['start'])} to {_moment(segment['end'])}: {segment['name']} "
        f"at {money(Decimal(segment['fee']))} a period{trial}{add_ons}"
    )


def taxes(
    tax: dict[str, str], rows: Iterable[tuple[Decimal, Decimal, Decimal]]
) -> Iterator[tuple[str, str]]:
    """Of each rate what it is on, and its sum; `rows` are percent, amount and tax of lines."""
    sums: dict[Decimal, list[Decimal]] = {}
    for percent, amount, part in rows:
        of_rate = sums.setdefault(percent, [Decimal(0), Decimal(0)])
        of_rate[0] += amount
        of_rate[1] += part
    for percent in sorted(sums):
        if percent:
            base, due = sums[percent]
            yield f"{tax.get('name') or 'Tax'} {number(percent)} % on {money(base)}", money(due)


GROUPS = {
    LineKind.PLAN_FEE: "Plan",
    LineKind.ADD_ON_FEE: "Add-ons",
    LineKind.USAGE: "Usage",
    LineKind.ZERO_RATED: "Free of charge",
    LineKind.DISCOUNT: "Discounts",
    LineKind.ADJUSTMENT: "Adjustments",
}


def row_of(line: InvoiceLine) -> Row:
    """A line as it is shown; it need not be saved."""
    kind = LineKind(line.kind)
    unit = _UNITS.get(line.unit, line.unit)
    quantity = number(line.quantity)
    shown = ""
    if kind in {LineKind.USAGE, LineKind.ZERO_RATED}:
        shown = f"{quantity} {unit}"
    elif kind is LineKind.ADD_ON_FEE:
        shown = quantity
    return Row(
        group=GROUPS[kind],
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
            yield Detail(f"for the period {span(line.original_start, line.original_end)}")
        return
    for part in parts:
        match part["part"]:
            case "fee":
                is_whole = len(parts) == 1 and part["seconds"] == part["full_s"]
                if not is_whole or part["is_trial"]:
                    yield _fee(part)
            case "tier":
                yield _tier(part, unit)
            case "cap":
                yield _cap(part)
            case "discount":
                yield _discount(part)


def _fee(part: dict[str, Any]) -> Detail:
    window = f"{_moment(part['start'])} to {_moment(part['end'])}"
    if part["is_trial"]:
        return Detail(f"{window}: trial, free of charge")
    times = f"{part['quantity']} × " if part["quantity"] != 1 else ""
    return Detail(
        f"{window}: {_share(part['seconds'], part['full_s'])} of "
        f"{times}{money(Decimal(part['price']))}",
        money(Decimal(part["amount"])),
    )


def _share(seconds: int, full_s: int) -> str:
    """`20.5 of 31 days`; in seconds where days would not be exact."""
    hundredth = 864  # seconds of a day
    if seconds % hundredth or full_s % hundredth:
        return f"{seconds:,} of {full_s:,} s"
    days, full = (number(Decimal(s) / 86_400) for s in (seconds, full_s))
    return f"{days} of {full} days"


def _tier(part: dict[str, Any], unit: str) -> Detail:
    quantity = number(part["quantity"])
    match part["share"]:
        case "included":
            return Detail(f"{quantity} of {number(part['up_to'])} included")
        case "refused":
            return Detail(f"{quantity} beyond what the plan admits, free of charge")
        case "cap":  # of invoices from before caps went by the second
            most = money(Decimal(part["price"]))
            return Detail(f"no more than {most} a period: {_exact(part)}")
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


def _cap(part: dict[str, Any]) -> Detail:
    most = f"no more than {money(Decimal(part['price']))} a period"
    if part["seconds"] != part["full_s"]:
        share = _share(part["seconds"], part["full_s"])
        most += f", {money(Decimal(part['most']))} for {share}"
    return Detail(f"{most}: {_exact(part)}")


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
        said += f", for {_share(part['seconds'], part['full_s'])}"
    return Detail(said)


def _totals(
    invoice: Invoice, tax: dict[str, str], lines: list[InvoiceLine]
) -> Iterator[tuple[str, str]]:
    yield "Subtotal", money(invoice.subtotal)
    yield from taxes(tax, ((line.tax_percent, line.amount, line.tax) for line in lines))
    yield "Total", money(invoice.total)
    if invoice.prepaid:
        yield "Paid from prepaid credit", money(-invoice.prepaid)
    if invoice.carried:
        text = "Settled by earlier credit" if invoice.carried > 0 else "Used for earlier invoices"
        yield text, money(-invoice.carried)
