"""What an invoice says, as texts in their places: the one view that a page, HTML and PDF draw. In
the language that is active: of a page its reader's, of documents English (`documents.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from billing.invoicing.brand import logo_of
from billing.models import Invoice, InvoiceLine
from billing.rating.invoice import LineKind

#: Of a metric: many of them, and one.
_UNITS = {
    "messages": (gettext_noop("messages"), gettext_noop("message")),
    "bytes": (gettext_noop("bytes"), gettext_noop("byte")),
    "requests": (gettext_noop("requests"), gettext_noop("request")),
    "coin_minutes": (gettext_noop("coin-minutes"), gettext_noop("coin-minute")),
    "archive_bytes": (gettext_noop("bytes"), gettext_noop("byte")),
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
    buyer_heading: str
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
    reference = _("Please quote %(number)s with your payment.") % {"number": invoice.number}
    pays = invoice.payable > 0
    return Sheet(
        title=_("Invoice") if invoice.is_finalized else _("Draft invoice"),
        number=invoice.number or _("not numbered yet"),
        is_draft=not invoice.is_finalized,
        seller_name=seller.get("name", ""),
        seller=seller_lines(seller),
        buyer=buyer_lines(buyer),
        facts=tuple(_facts(invoice, is_regular)),
        segments=tuple(map(_segment, invoice.segments)) if len(invoice.segments) > 1 else (),
        rows=tuple(map(row_of, lines)),
        totals=tuple(_totals(invoice, tax, lines)),
        due=(
            _("Amount due") if invoice.payable >= 0 else _("In your favour"),
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
        buyer_heading=_("Invoice to"),
        remarks=tuple(_remarks(invoice)),
    )


def _remarks(invoice: Invoice) -> Iterator[str]:
    if invoice.payable < 0:
        yield _("Nothing is to be paid. What is in your favour settles your next invoices.")
    elif invoice.payable == 0:
        yield _("Nothing is to be paid.")


def seller_lines(seller: dict[str, Any]) -> tuple[str, ...]:
    """A copy of the seller below its name."""
    told = (
        *seller.get("address", "").splitlines(),
        _("Tax id %(id)s") % {"id": seller["tax_id"]} if seller.get("tax_id") else "",
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
        _("Tax id %(id)s") % {"id": buyer["tax_id"]} if buyer.get("tax_id") else "",
    )
    return tuple(filter(None, told))


def money(amount: Decimal) -> str:
    """`1,234.50`, a minus in front of what is below 0."""
    return f"{amount:,.2f}".replace("-", "−")


def number(value: Decimal | str) -> str:
    """`1,234,567` or `0.5`: without needless zeros."""
    whole, _point, rest = f"{Decimal(value):,f}".partition(".")
    return f"{whole}.{rest}".rstrip("0").rstrip(".") if rest else whole


def day(at: datetime | None) -> str:
    """`3 November 2026`."""
    return "" if at is None else at.strftime(_("%-d %B %Y"))


def _moment(text: str) -> str:
    at = datetime.fromisoformat(text)
    return at.strftime(_("%-d %b %Y")) + (
        "" if (at.hour, at.minute, at.second) == (0, 0, 0) else f" {at:%X}"
    )


def span(start: datetime, end: datetime) -> str:
    """A half-open stretch as people say it: of whole days, with the last of them."""
    last = end - timedelta(days=1) if end.astimezone(UTC).time() == time() else end
    if last < start:  # within a day
        last = end
    return _window(start.isoformat(), last.isoformat())


def _window(start: str, end: str) -> str:
    return _("%(start)s to %(end)s") % {"start": _moment(start), "end": _moment(end)}


def _facts(invoice: Invoice, is_regular: bool) -> Iterator[tuple[str, str]]:
    drafted = _("%(day)s (draft)") % {"day": day(invoice.drafted_at)}
    yield _("Number"), invoice.number or _("not numbered yet")
    yield _("Date"), day(invoice.finalized_at) or drafted
    if invoice.due_at is not None and invoice.payable > 0:
        yield _("Due"), day(invoice.due_at)
    if is_regular:
        yield _("Period (UTC)"), span(invoice.period_start, invoice.period_end)


def _segment(segment: dict[str, Any]) -> str:
    terms = _("%(plan)s at %(fee)s a period") % {
        "plan": segment["name"],
        "fee": money(Decimal(segment["fee"])),
    }
    trial = [_("trial")] if segment["is_trial"] else []
    add_ons = [f"{one['quantity']} × {one['name']}" for one in segment["add_ons"]]
    window = _window(segment["start"], segment["end"])
    return _("%(what)s: %(how)s") % {"what": window, "how": listed(terms, *trial, *add_ons)}


def listed(*texts: str) -> str:
    """Several, with commas as the language has them."""
    return _(", ").join(texts)


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
            name = _("%(tax)s %(percent)s %% on %(base)s") % {
                "tax": tax.get("name") or _("Tax"),
                "percent": number(percent),
                "base": money(base),
            }
            yield name, money(due)


GROUPS = {
    LineKind.PLAN_FEE: gettext_lazy("Plan"),
    LineKind.ADD_ON_FEE: gettext_lazy("Add-ons"),
    LineKind.USAGE: gettext_lazy("Usage"),
    LineKind.ZERO_RATED: gettext_lazy("Free of charge"),
    LineKind.DISCOUNT: gettext_lazy("Discounts"),
    LineKind.ADJUSTMENT: gettext_lazy("Adjustments"),
}


def row_of(line: InvoiceLine) -> Row:
    """A line as it is shown; it need not be saved."""
    kind = LineKind(line.kind)
    unit = units(line.unit)
    quantity = number(line.quantity)
    shown = ""
    if kind in {LineKind.USAGE, LineKind.ZERO_RATED}:
        shown = f"{quantity} {unit}"
    elif kind is LineKind.ADD_ON_FEE:
        shown = quantity
    return Row(
        group=str(GROUPS[kind]),
        name=_with_reason(line.name, line.reason),
        quantity=shown,
        amount=money(line.amount),
        tax=f"{number(line.tax_percent)} %" if line.tax_percent else "",
        details=tuple(_details(line)),
    )


def _with_reason(name: str, reason: str) -> str:
    return _("%(what)s: %(how)s") % {"what": name, "how": reason} if reason else name


def units(metric: str) -> str:
    """Many of a metric, in words."""
    return _(_UNITS[metric][0]) if metric in _UNITS else metric


def _unit(metric: str) -> str:
    return _(_UNITS[metric][1]) if metric in _UNITS else metric.removesuffix("s")


def _details(line: InvoiceLine) -> Iterator[Detail]:
    parts = line.parts
    if line.kind == LineKind.ADJUSTMENT:
        for source in line.sources:
            of = _("%(quantity)s %(units)s of %(channel)s") % {
                "quantity": number(source["units"]),
                "units": units(source["metric"]),
                "channel": source["channel"],
            }
            yield Detail(of + (f" ({source['reason']})" if source["reason"] else ""))
        if line.original_start is not None and line.original_end is not None and not line.sources:
            period = span(line.original_start, line.original_end)
            yield Detail(_("for the period %(period)s") % {"period": period})
        return
    for part in parts:
        match part["part"]:
            case "fee":
                is_whole = len(parts) == 1 and part["seconds"] == part["full_s"]
                if not is_whole or part["is_trial"]:
                    yield _fee(part)
            case "tier":
                yield _tier(part, line.unit)
            case "cap":
                yield _cap(part)
            case "discount":
                yield _discount(part)


def _fee(part: dict[str, Any]) -> Detail:
    window = _window(part["start"], part["end"])
    if part["is_trial"]:
        return Detail(_("%(window)s: trial, free of charge") % {"window": window})
    times = f"{part['quantity']} × " if part["quantity"] != 1 else ""
    said = _("%(window)s: %(share)s of %(price)s") % {
        "window": window,
        "share": _share(part["seconds"], part["full_s"]),
        "price": times + money(Decimal(part["price"])),
    }
    return Detail(said, money(Decimal(part["amount"])))


def _share(seconds: int, full_s: int) -> str:
    """`20.5 of 31 days`; in seconds where days would not be exact."""
    hundredth = 864  # seconds of a day
    if seconds % hundredth or full_s % hundredth:
        return _("%(some)s of %(all)s s") % {"some": f"{seconds:,}", "all": f"{full_s:,}"}
    days, full = (number(Decimal(s) / 86_400) for s in (seconds, full_s))
    return _("%(some)s of %(all)s days") % {"some": days, "all": full}


def _tier(part: dict[str, Any], metric: str) -> Detail:
    quantity = number(part["quantity"])
    match part["share"]:
        case "included":
            included = {"quantity": quantity, "included": number(part["up_to"])}
            return Detail(_("%(quantity)s of %(included)s included") % included)
        case "refused":
            text = _("%(quantity)s beyond what the plan admits, free of charge")
            return Detail(text % {"quantity": quantity})
        case "cap":  # of invoices from before caps had a part of their own
            most = _("no more than %(most)s a period") % {"most": money(Decimal(part["price"]))}
            return Detail(_("%(what)s: %(how)s") % {"what": most, "how": _exact(part)})
    price = f"{number(part['price'])} USD"
    if part["packages"] is not None:
        said = _("%(packages)s × %(per)s %(units)s at %(price)s") % {
            "packages": number(part["packages"]),
            "per": number(part["per"]),
            "units": units(metric),
            "price": price,
        }
        return Detail(said, _exact(part))
    if part["above"] or part["up_to"] is not None:
        above = {"above": number(part["above"])}
        if part["up_to"] is None:
            tier = _("from %(above)s on") % above
        else:
            tier = _("from %(above)s to %(up_to)s") % {**above, "up_to": number(part["up_to"])}
        quantity = _("%(what)s: %(how)s") % {"what": tier, "how": quantity}
    per = _unit(metric) if part["per"] == 1 else f"{number(part['per'])} {units(metric)}"
    said = _("%(quantity)s at %(price)s per %(per)s")
    return Detail(said % {"quantity": quantity, "price": price, "per": per}, _exact(part))


def _cap(part: dict[str, Any]) -> Detail:
    most = _("no more than %(most)s a period") % {"most": money(Decimal(part["price"]))}
    if Decimal(part["most"]) != Decimal(part["price"]):
        left = {"cap": most, "left": money(Decimal(part["most"]))}
        most = _("%(cap)s, of which other prices have left %(left)s") % left
    return Detail(_("%(what)s: %(how)s") % {"what": most, "how": _exact(part)})


def _exact(part: dict[str, Any]) -> str:
    amount = Decimal(part["amount"])
    return money(amount) if amount == round(amount, 2) else number(amount).replace("-", "−")


def _discount(part: dict[str, Any]) -> Detail:
    base = money(Decimal(part["base"]))
    if part["percent"] is not None:
        said = _("%(percent)s %% of %(base)s") % {"percent": number(part["percent"]), "base": base}
    else:
        said = _("%(price)s off %(base)s") % {"price": money(Decimal(part["price"])), "base": base}
    if part["seconds"] != part["full_s"]:
        share = _share(part["seconds"], part["full_s"])
        said = listed(said, _("for %(share)s") % {"share": share})
    return Detail(said)


def _totals(
    invoice: Invoice, tax: dict[str, str], lines: list[InvoiceLine]
) -> Iterator[tuple[str, str]]:
    yield _("Subtotal"), money(invoice.subtotal)
    yield from taxes(tax, ((line.tax_percent, line.amount, line.tax) for line in lines))
    yield _("Total"), money(invoice.total)
    if invoice.prepaid:
        yield _("Paid from prepaid credit"), money(-invoice.prepaid)
    if invoice.carried:
        is_settled = invoice.carried > 0
        text = _("Settled by earlier credit") if is_settled else _("Used for earlier invoices")
        yield text, money(-invoice.carried)
