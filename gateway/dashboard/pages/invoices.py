"""Invoices, credit notes and payments: lists, one of them, and files of all of it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext_lazy

from billing.exports.catalogue import EXPORTS, UnknownExport, export_for_tenant, file_name
from billing.invoicing.sheet import sheet_of
from billing.models import InvoiceStanding, PaymentAllocation
from gateway.account import invoices as account
from gateway.account import money
from gateway.account.errors import AccountError, BadCursor, BadValue, NotFound
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.downloads import download
from tenants.people.roles import May

ROWS = 25
#: Filters of the list: the state asked for, and its name.
STATES = {
    "": gettext_lazy("All"),
    "open": gettext_lazy("Open"),
    "overdue": gettext_lazy("Overdue"),
    "partially_paid": gettext_lazy("Partially paid"),
    "paid": gettext_lazy("Paid"),
    "in_favour": gettext_lazy("In your favour"),
    "voided": gettext_lazy("Void"),
    "written_off": gettext_lazy("Written off"),
}
#: Months that the form of the exports offers, beside their years.
MONTHS = 13


@page(may=May.SEE_INVOICES)
def invoices(request: PageRequest) -> HttpResponse:
    """The list, by state (`?state=`), and where the account stands."""
    state = request.GET.get("state", "")
    if state not in STATES:
        raise Http404
    try:
        found = account.invoice_page(
            request.tenant, state=state, cursor=request.GET.get("after", ""), limit=ROWS
        )
    except (BadCursor, BadValue):
        return redirect("dashboard:invoices", slug=request.tenant.slug)
    context = {
        "rows": found.rows,
        "older": _next(request, found.next_cursor, state=state),
        "first": _first(request),
        "state": state,
        "states": STATES.items(),
        "balance": money.balance(request.tenant),
        "exports": [(n, one.title) for n, one in EXPORTS.items() if one.is_for_tenants],
        "periods": _periods(timezone.now().date()),
        "tab": "invoices",
    }
    return render(request, "dashboard/money/invoices.html", context)


@page(may=May.SEE_INVOICES)
def invoice(request: PageRequest, number: str) -> HttpResponse:
    """One invoice as it was sent, what happened to it since, and what settled it."""
    try:
        found = account.invoice(request.tenant, number)
    except NotFound:
        raise Http404 from None
    allocations = list(
        PaymentAllocation.objects.filter(invoice=found)
        .select_related("payment", "credit_note")
        .order_by("at", "pk")
    )
    standing = found.standing
    context = {
        "invoice": found,
        "standing": standing,
        "is_open": standing.balance > 0 and standing.state not in _CLOSED,
        "sheet": sheet_of(found),
        "allocations": allocations,
        "settled": sum((one.amount for one in allocations), start=Decimal("0.00")),
        "method": money.payment_method(request.tenant),
    }
    return render(request, "dashboard/money/invoice.html", context)


@page(may=May.SEE_INVOICES)
def credit_notes(request: PageRequest) -> HttpResponse:
    """The list of credit notes."""
    try:
        found = account.credit_note_page(
            request.tenant, cursor=request.GET.get("after", ""), limit=ROWS
        )
    except (BadCursor, BadValue):
        return redirect("dashboard:credit_notes", slug=request.tenant.slug)
    context = {
        "rows": found.rows,
        "older": _next(request, found.next_cursor),
        "first": _first(request),
        "formats": ("pdf", "csv", "html"),
        "tab": "credit_notes",
    }
    return render(request, "dashboard/money/credit_notes.html", context)


@page(may=May.SEE_INVOICES)
def payments(request: PageRequest) -> HttpResponse:
    """What was received, and what it was used for."""
    try:
        found = money.payment_page(request.tenant, cursor=request.GET.get("after", ""), limit=ROWS)
    except (BadCursor, BadValue):
        return redirect("dashboard:payments", slug=request.tenant.slug)
    context = {
        "rows": found.rows,
        "older": _next(request, found.next_cursor),
        "first": _first(request),
        "tab": "payments",
    }
    return render(request, "dashboard/money/payments.html", context)


@page(may=May.SEE_INVOICES)
def invoice_file(request: PageRequest, number: str, format: str) -> HttpResponse:
    """An invoice's document (`html`, `pdf`) or its lines (`csv`)."""
    return _file(request, account.invoice_document, number, format)


@page(may=May.SEE_INVOICES)
def credit_note_file(request: PageRequest, number: str, format: str) -> HttpResponse:
    """The same of a credit note."""
    return _file(request, account.credit_note_document, number, format)


@page(may=May.SEE_INVOICES)
def export(request: PageRequest) -> HttpResponse:
    """A period's file (`?what=invoices&period=2026-11`) as CSV."""
    what, period = request.GET.get("what", ""), request.GET.get("period", "")
    try:
        blocks = export_for_tenant(request.tenant, what, period)
    except (UnknownExport, ValueError) as error:
        messages.error(request, str(error))
        return redirect("dashboard:invoices", slug=request.tenant.slug)
    return download(request, blocks, file_name(what, period), "text/csv; charset=utf-8")


_CLOSED = (InvoiceStanding.State.VOIDED, InvoiceStanding.State.WRITTEN_OFF)


def _file(request: HttpRequest, of: Any, number: str, format: str) -> HttpResponse:
    try:
        found = of(request.tenant, number, format)  # type: ignore[attr-defined]
    except AccountError:
        raise Http404 from None
    answer = download(
        request, found.blocks, found.name, found.content_type, is_inline=format == "html"
    )
    answer["Content-Security-Policy"] = account.DOCUMENT_CSP
    return answer


def _first(request: HttpRequest) -> str:
    """The way back to a list's begin, from a later page."""
    return request.path if request.GET.get("after") else ""


def _next(request: HttpRequest, cursor: str, **filters: str) -> str:
    if not cursor:
        return ""
    kept = {name: value for name, value in filters.items() if value}
    return f"{request.path}?{urlencode(kept | {'after': cursor})}"


def _periods(today: date) -> list[str]:
    """The running month and those before it, then their years."""
    months = []
    year, month = today.year, today.month
    for _n in range(MONTHS):
        months.append(f"{year:04}-{month:02}")
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return [*months, *dict.fromkeys(one[:4] for one in months)]
