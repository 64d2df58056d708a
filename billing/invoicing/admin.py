"""The operators' pages for invoices: looked at here, changed by actions that ask first."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.admin import TabularInline
from unfold.decorators import display

from billing.exports import invoices as invoice_export
from billing.exports.pages import ExportingAdmin, FinancePages
from billing.invoicing import conceding, crediting, draft, finalize, payments, sending
from billing.invoicing.again import draft_again
from billing.invoicing.asking import ask
from billing.invoicing.document_pages import DocumentPages
from billing.invoicing.errors import InvoicingError
from billing.invoicing.forms import ConfirmForm, CreditForm, PaymentForm, ReasonForm
from billing.invoicing.sheet import money, span
from billing.models import (
    CreditNote,
    Invoice,
    InvoiceEvent,
    InvoiceLine,
    InvoiceStanding,
    Payment,
    PaymentAllocation,
)
from billing.read_only import ReadOnlyAdmin
from tenants.long_lists import LongListAdmin, since


class ReadOnlyInline(TabularInline):
    """Rows to be looked at."""

    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class LineInline(ReadOnlyInline):
    """What is charged."""

    model = InvoiceLine
    fields = readonly_fields = ("place", "kind", "name", "quantity", "unit", "amount", "tax")


class EventInline(ReadOnlyInline):
    """What happened."""

    model = InvoiceEvent
    fields = readonly_fields = ("at", "kind", "actor", "reason")


class AllocationInline(ReadOnlyInline):
    """What settled it."""

    model = PaymentAllocation
    fields = readonly_fields = ("at", "kind", "payment", "credit_note", "amount", "actor", "reason")


class CreditNoteInline(ReadOnlyInline):
    """What was taken back."""

    model = CreditNote
    fields = readonly_fields = ("number", "state", "total", "reason", "requested_by", "approved_by")
    show_change_link = True


class StandingFilter(admin.SimpleListFilter):
    """Invoices by what is to be done with them."""

    title, parameter_name = "standing", "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        more = [("draft", "draft"), ("overdue", "overdue"), ("unsent", "finalized, not sent")]
        return [*more, *InvoiceStanding.State.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> QuerySet[Invoice]:
        match self.value():
            case None:
                return queryset
            case "draft":
                return queryset.filter(state=Invoice.State.DRAFT)
            case "overdue":
                return queryset.filter(
                    standing__balance__gt=0, standing__due_at__lt=timezone.now()
                ).exclude(standing__state=InvoiceStanding.State.VOIDED)
            case "unsent":
                return queryset.filter(state=Invoice.State.FINALIZED, standing__sent_at=None)
        return queryset.filter(standing__state=self.value())


_AMOUNTS = ("subtotal", "tax_total", "total", "prepaid", "due", "carried", "payable")


@admin.register(Invoice)
class InvoiceAdmin(DocumentPages, ExportingAdmin, FinancePages, ReadOnlyAdmin, LongListAdmin):
    """Drafts and invoices. Who may "change" them may finalize, send, credit and record payments;
    their content nobody changes."""

    list_display = (
        *("number_shown", "tenant", "kind", "period"),
        *("total_shown", "balance", "standing_shown", "due"),
    )
    # Not by tenant: its sidebar would name all 10,000. The search finds them.
    list_filter = (StandingFilter, "kind", since("period_end"), "due_at")
    list_select_related = ("tenant", "standing")
    search_fields = ("=number", "tenant__name", "tenant__slug")
    tenant_path = "tenant"
    ordering = ("-pk",)
    inlines = (LineInline, EventInline, AllocationInline, CreditNoteInline)
    actions = (
        *("refresh", "finalize", "send", "record_payment"),
        *("credit", "void", "again", "write_off", "discard", "export"),
    )
    export_name, export_columns = "invoices", invoice_export.COLUMNS
    export_rows = staticmethod(invoice_export.rows_of)
    readonly_fields = ("documents_shown", "payable")
    deferred = ("seller", "buyer", "tax", "segments", "unmetered")
    fieldsets = (
        (None, {"fields": ("number", "tenant", "kind", "state", "documents_shown")}),
        ("When", {"fields": ("period_start", "period_end", "finalized_at", "due_at")}),
        ("How much", {"fields": _AMOUNTS}),
        ("Parties", {"fields": ("buyer", "tax", "segments", "unmetered")}),
        ("Proof", {"fields": ("ledger_position", "previous_position", "content_sha256")}),
    )

    # --- what is shown ------------------------------------------------------------------------

    @display(description="number", ordering="number")
    def number_shown(self, invoice: Invoice) -> str:
        return str(invoice)

    @display(description="period (UTC)", ordering="period_start")
    def period(self, invoice: Invoice) -> str:
        start, end = invoice.period_start, invoice.period_end
        if invoice.kind == Invoice.Kind.ONE_OFF:
            return f"{start:%-d %b %Y}"
        next_month = (start + timedelta(days=32)).replace(day=1)
        if start.day == 1 and start.time() == time() and end == next_month:
            return f"{start:%B %Y}"
        return span(start, end)

    @display(description="due", ordering="due_at")
    def due(self, invoice: Invoice) -> str:
        return f"{invoice.due_at:%-d %b %Y}" if invoice.due_at else ""

    @display(description="total, USD", ordering="total")
    def total_shown(self, invoice: Invoice) -> str:
        return money(invoice.total)

    @display(description="open, USD", ordering="standing__balance")
    def balance(self, invoice: Invoice) -> str:
        return money(invoice.standing.balance) if invoice.is_finalized else ""

    @display(
        description="standing",
        ordering="standing__state",
        label={
            "draft": "info",
            "open": "info",
            "paid": "success",
            "overdue": "danger",
            "void": "warning",
            "written off": "warning",
        },
    )
    def standing_shown(self, invoice: Invoice) -> str:
        if not invoice.is_finalized:
            return "draft"
        standing = invoice.standing
        is_late = standing.balance > 0 and standing.due_at < timezone.now()
        is_closed = standing.state == InvoiceStanding.State.VOIDED
        return "overdue" if is_late and not is_closed else standing.get_state_display()

    # --- what is done: asked for on the list, done when confirmed ---------------------------------

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change invoices may book; ReadOnlyAdmin's own answer is for the content."""
        return bool(request.user.has_perm("billing.change_invoice"))

    @admin.action(description="Make drafts again", permissions=["book"])
    def refresh(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> HttpResponse | None:
        return ask(
            self, request, queryset, "refresh", ConfirmForm, lambda one, _: draft.refresh(one)
        )

    @admin.action(description="Finalize: number and freeze", permissions=["book"])
    def finalize(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> HttpResponse | None:
        by = request.user.get_username()
        ordered = queryset.order_by("period_start", "pk")
        return ask(
            self,
            request,
            ordered,
            "finalize",
            ConfirmForm,
            lambda one, _: finalize.finalize(one, by=by),
        )

    @admin.action(description="Send, or send again", permissions=["book"])
    def send(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "send",
            ConfirmForm,
            lambda one, _: sending.send(one, by=by, again=True),
        )

    @admin.action(description="Void: nobody paid, as if never issued", permissions=["book"])
    def void(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "void",
            ReasonForm,
            lambda one, said: _told(crediting.void(one, reason=said["reason"], by=by)),
        )

    @admin.action(description="Draft again what is void", permissions=["book"])
    def again(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "draft again",
            ConfirmForm,
            lambda one, _: draft_again(one, by=by),
        )

    @admin.action(description="Credit", permissions=["book"])
    def credit(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> HttpResponse | None:
        by = request.user.get_username()

        def credit(invoice: Invoice, said: dict[str, Any]) -> str | None:
            amounts = None
            if said["line"] is not None:
                line = invoice.lines.filter(place=said["line"]).first()
                if line is None:
                    raise InvoicingError(f"{invoice} has no line {said['line']}")
                amounts = {line.pk: said["amount"]}
            return _told(crediting.credit(invoice, amounts, reason=said["reason"], by=by))

        return ask(self, request, queryset, "credit", CreditForm, credit, most=1)

    @admin.action(description="Record a payment", permissions=["book"])
    def record_payment(
        self, request: HttpRequest, queryset: QuerySet[Invoice]
    ) -> HttpResponse | None:
        by = request.user.get_username()

        def pay(invoice: Invoice, said: dict[str, Any]) -> Any:
            if not invoice.is_finalized:
                raise InvoicingError(f"{invoice} is a draft: finalize it first")
            payment = payments.record_payment(invoice.tenant, invoice=invoice, by=by, **said)
            return _repeated(payment) if payment.was_known else None

        return ask(self, request, queryset, "record payment", PaymentForm, pay, most=1)

    @admin.action(description="Write off what is open", permissions=["book"])
    def write_off(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "write off",
            ReasonForm,
            lambda one, said: conceding.told(
                conceding.write_off(one, by=by, reason=said["reason"])
            ),
        )

    @admin.action(description="Discard drafts that need not be", permissions=["book"])
    def discard(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "discard",
            ReasonForm,
            lambda one, said: finalize.discard(one, by=by, reason=said["reason"]),
        )


def _repeated(payment: Payment) -> str:
    who = f" by {payment.recorded_by}" if payment.recorded_by else ""
    return (
        f"{payment} was recorded{who} on {payment.recorded_at:%Y-%m-%d %H:%M}, the very same: "
        f"nothing was booked now. {money(payments.remainder(payment))} USD of it are for nothing "
        "yet: use them under payments. Another transfer with this reference needs an external id."
    )


def _told(note: CreditNote) -> str | None:
    if note.state == CreditNote.State.ISSUED:
        return None
    return f"The credit on {note.invoice} waits. {crediting.waits_for(note)}."
