"""The operators' pages beside the invoices: payments, credits, adjustments, the seller, locks."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.decorators import display

from billing.exports import credit_notes as credit_export
from billing.exports import payments as payment_export
from billing.exports.pages import ExportingAdmin
from billing.invoicing import (
    adjusting,
    approving,
    conceding,
    crediting,
    draft,
    locks,
    payments,
    sending,
)
from billing.invoicing.admin import AllocationInline, ReadOnlyInline
from billing.invoicing.asking import ask
from billing.invoicing.document_pages import DocumentPages
from billing.invoicing.errors import InvoicingError
from billing.invoicing.forms import (
    AllocateForm,
    ChargeBackForm,
    ConfirmForm,
    RefundForm,
    SellerForm,
)
from billing.invoicing.sheet import money
from billing.models import (
    Adjustment,
    Concession,
    CreditNote,
    CreditNoteLine,
    CreditNoteMailing,
    Invoice,
    NumberSeries,
    Payment,
    PeriodLock,
    Seller,
)
from billing.read_only import ReadOnlyAdmin


class CreditNoteLineInline(ReadOnlyInline):
    """What is taken back of each line."""

    model = CreditNoteLine
    fields = readonly_fields = ("name", "amount", "tax_percent", "tax")


@admin.register(CreditNote)
class CreditNoteAdmin(DocumentPages, ExportingAdmin, ReadOnlyAdmin):
    """Credit notes; those that wait are approved here, by somebody else than who asked."""

    list_display = ("number", "invoice", "state", "total", "reason", "requested_by", "approved_by")
    list_filter = ("state", "voids")
    list_select_related = ("invoice",)
    search_fields = ("number", "invoice__number", "invoice__tenant__name")
    inlines = (CreditNoteLineInline,)
    actions = ("approve", "reject", "send", "export")
    readonly_fields = ("documents_shown", "mailed")
    deferred = ("seller", "buyer", "tax")
    export_name, export_columns = "credit_notes", credit_export.COLUMNS
    export_rows = staticmethod(credit_export.rows_of)

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change credit notes may approve them."""
        return bool(request.user.has_perm("billing.change_creditnote"))

    @display(description="mailed")
    def mailed(self, note: CreditNote) -> str:
        mailing = CreditNoteMailing.objects.filter(credit_note=note).first()
        return "not sent" if mailing is None else str(mailing)

    @admin.action(description="Send, or send again", permissions=["book"])
    def send(self, request: HttpRequest, queryset: QuerySet[CreditNote]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "send",
            ConfirmForm,
            lambda row, _: sending.send(row, by=by, again=True),
        )

    @admin.action(description="Approve", permissions=["book"])
    def approve(self, request: HttpRequest, queryset: QuerySet[CreditNote]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "approve",
            ConfirmForm,
            lambda row, _: crediting.approve_credit(row, by=by),
        )

    @admin.action(description="Reject", permissions=["book"])
    def reject(self, request: HttpRequest, queryset: QuerySet[CreditNote]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "reject",
            ConfirmForm,
            lambda row, _: crediting.reject_credit(row, by=by),
        )


@admin.register(Payment)
class PaymentAdmin(ExportingAdmin, ReadOnlyAdmin):
    """Payments and what they were for. They are recorded on the page of an invoice."""

    list_display = ("received_at", "tenant", "amount", "method", "reference", "left", "recorded_by")
    list_filter = ("method",)
    list_select_related = ("tenant",)
    search_fields = ("reference", "external_id", "tenant__name", "tenant__slug")
    date_hierarchy = "received_at"
    inlines = (AllocationInline,)
    actions = ("allocate", "refund", "charge_back", "give_back", "export")
    export_name, export_columns = "payments", payment_export.COLUMNS
    export_rows = staticmethod(payment_export.rows_of)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Payment]:
        return super().get_queryset(request).prefetch_related("allocations")

    @display(description="for nothing yet")
    def left(self, payment: Payment) -> str:
        return money(payment.amount - sum(row.amount for row in payment.allocations.all()))

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change payments may book."""
        return bool(request.user.has_perm("billing.change_payment"))

    @admin.action(description="Use for an invoice", permissions=["book"])
    def allocate(self, request: HttpRequest, queryset: QuerySet[Payment]) -> HttpResponse | None:
        by = request.user.get_username()

        def allocate(payment: Payment, said: dict[str, Any]) -> object:
            invoice = Invoice.objects.finalized().filter(number=said["invoice"]).first()
            if invoice is None:
                raise InvoicingError(f"there is no invoice {said['invoice']}")
            return payments.allocate(payment, invoice, said["amount"], by=by)

        return ask(self, request, queryset, "use", AllocateForm, allocate, most=1)

    @admin.action(description="Refunded: what is left was sent back", permissions=["book"])
    def refund(self, request: HttpRequest, queryset: QuerySet[Payment]) -> HttpResponse | None:
        by = request.user.get_username()

        def refund(payment: Payment, said: dict[str, Any]) -> object:
            row = conceding.refund(payment, said["amount"], by=by, reason=said["reason"])
            return conceding.told(row) if row is not None else None

        return ask(self, request, queryset, "refund", RefundForm, refund, most=1)

    @admin.action(description="Charged back: the bank took some or all of it", permissions=["book"])
    def charge_back(self, request: HttpRequest, queryset: QuerySet[Payment]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "charge back",
            ChargeBackForm,
            lambda row, said: payments.charge_back(
                row, said["amount"], by=by, reason=said["reason"]
            ),
            most=1,
        )

    @admin.action(description="Charge-back won: the bank gave it back", permissions=["book"])
    def give_back(self, request: HttpRequest, queryset: QuerySet[Payment]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "give back",
            ChargeBackForm,
            lambda row, said: payments.give_back(row, said["amount"], by=by, reason=said["reason"]),
            most=1,
        )


@admin.register(Concession)
class ConcessionAdmin(ReadOnlyAdmin):
    """What was given away, by whom; what waits is approved here, by another than who asked."""

    list_display = (
        *("requested_at", "tenant", "kind", "amount", "state", "requested_by", "decided_by"),
        *("subject", "reason"),
    )
    list_filter = ("state", "kind")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "tenant__slug", "requested_by", "decided_by", "subject")
    date_hierarchy = "requested_at"
    show_full_result_count = False
    actions = ("approve", "reject")

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change concessions may approve them."""
        return bool(request.user.has_perm("billing.change_concession"))

    @admin.action(description="Approve", permissions=["book"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Concession]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "approve",
            ConfirmForm,
            lambda row, _: approving.approve(row, by=by),
        )

    @admin.action(description="Reject", permissions=["book"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Concession]) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "reject",
            ConfirmForm,
            lambda row, _: approving.reject(row, by=by),
        )


class AdjustmentForm(forms.ModelForm):
    """A charge or credit by hand. The row is written by the service."""

    class Meta:
        model = Adjustment
        fields = ("tenant", "source", "code", "name", "amount", "is_taxable", "reason")

    def clean_amount(self) -> Any:
        """Not nothing."""
        amount = self.cleaned_data["amount"]
        if not amount:
            raise forms.ValidationError("An amount above 0 is a charge, below 0 a credit.")
        return amount


@admin.register(Adjustment)
class AdjustmentAdmin(ModelAdmin):
    """What goes on next invoices: proposed by hand or from the gap ledger, approved here."""

    form = AdjustmentForm
    list_display = ("name", "tenant", "amount", "source", "state", "billed_on", "proposed_by")
    list_filter = ("state", "source")
    list_select_related = ("tenant", "billed_on")
    search_fields = ("name", "code", "origin", "tenant__name", "tenant__slug")
    autocomplete_fields = ("tenant",)
    actions = ("approve", "reject", "bill_now")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change adjustments may decide on them."""
        return bool(request.user.has_perm("billing.change_adjustment"))

    def save_model(self, request: HttpRequest, obj: Adjustment, form: Any, change: bool) -> None:
        made = adjusting.propose(
            obj.tenant,
            obj.amount,
            code=obj.code,
            name=obj.name,
            source=obj.source,
            reason=obj.reason,
            is_taxable=obj.is_taxable,
            by=request.user.get_username(),
        )
        obj.pk, obj._state.adding = made.pk, False

    @admin.action(description="Approve", permissions=["book"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Adjustment]) -> HttpResponse | None:
        return self._decide(request, queryset, approve=True)

    @admin.action(description="Reject", permissions=["book"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Adjustment]) -> HttpResponse | None:
        return self._decide(request, queryset, approve=False)

    @admin.action(description="Draft a one-off invoice of what waits", permissions=["book"])
    def bill_now(self, request: HttpRequest, queryset: QuerySet[Adjustment]) -> HttpResponse | None:
        return ask(
            self,
            request,
            queryset.select_related("tenant"),
            "draft",
            ConfirmForm,
            lambda row, _: draft.draft_one_off(row.tenant),
            most=1,
        )

    def _decide(
        self, request: HttpRequest, queryset: QuerySet[Adjustment], *, approve: bool
    ) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "approve" if approve else "reject",
            ConfirmForm,
            lambda row, _: adjusting.decide(row, approve=approve, by=by),
        )


@admin.register(Seller)
class SellerAdmin(ModelAdmin):
    """Who issues the invoices: one row. Finalized invoices keep what they copied."""

    form = SellerForm
    list_display = ("name", "email", "tax_id", "net_days", "updated_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and not Seller.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class PeriodLockForm(forms.ModelForm):
    """Until when, and why."""

    class Meta:
        model = PeriodLock
        fields = ("until", "reason")

    def clean_until(self) -> Any:
        """As the service sees it."""
        try:
            locks.refuse_lock(self.cleaned_data["until"])
        except InvoicingError as error:
            raise forms.ValidationError(f"{error}.") from None
        return self.cleaned_data["until"]


@admin.register(PeriodLock)
class PeriodLockAdmin(ReadOnlyAdmin):
    """Until when the books are closed."""

    form = PeriodLockForm
    list_display = ("until", "at", "actor", "reason")
    fields = ("until", "reason")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("billing.add_periodlock"))

    def save_model(self, request: HttpRequest, obj: PeriodLock, form: Any, change: bool) -> None:
        made = locks.lock_period(obj.until, by=request.user.get_username(), reason=obj.reason)
        obj.pk, obj._state.adding = made.pk, False


@admin.register(NumberSeries)
class NumberSeriesAdmin(ReadOnlyAdmin):
    """The last number of each series."""

    list_display = ("prefix", "year", "last")
