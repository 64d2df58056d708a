"""The operators' pages for the payment provider: attempts, what went back, webhooks, customers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from billing.invoicing.asking import ask
from billing.invoicing.errors import InvoicingError
from billing.invoicing.forms import ConfirmForm, RefundForm
from billing.invoicing.sheet import money
from billing.models import (
    ChargeAttempt,
    ProviderCustomer,
    ProviderEvent,
    ProviderReturn,
)
from billing.payments import attempts, customers, events, returns
from billing.payments.chosen import provider
from billing.payments.provider import OutcomeUnknownError, RefusedError
from billing.read_only import ReadOnlyAdmin


@admin.register(ChargeAttempt)
class ChargeAttemptAdmin(ReadOnlyAdmin):
    """What was charged, or not, and why."""

    list_display = (
        *("invoice", "tenant_shown", "number", "amount_shown", "state", "failure_shown"),
        *("next_at", "reference", "attempts"),
    )
    list_filter = ("state", "provider", "created_at")
    list_select_related = ("invoice__tenant",)
    search_fields = (
        *("invoice__number", "invoice__tenant__name", "invoice__tenant__slug"),
        *("reference", "idempotency_key", "customer"),
    )
    date_hierarchy = "created_at"
    show_full_result_count = False
    actions = ("try_now", "refund", "set_aside")

    @display(description="tenant")
    def tenant_shown(self, attempt: ChargeAttempt) -> str:
        return str(attempt.invoice.tenant)

    @display(description="amount, USD", ordering="amount")
    def amount_shown(self, attempt: ChargeAttempt) -> str:
        return money(attempt.amount)

    @display(description="why")
    def failure_shown(self, attempt: ChargeAttempt) -> str:
        return ": ".join(filter(None, (attempt.failure_code, attempt.failure)))

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change payments may have them made."""
        return bool(request.user.has_perm("billing.change_payment"))

    @admin.action(description="Try again now", permissions=["book"])
    def try_now(
        self, request: HttpRequest, queryset: QuerySet[ChargeAttempt]
    ) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "try again now",
            ConfirmForm,
            lambda row, _: attempts.try_now(row, by=by),
        )

    @admin.action(description="Send money back", permissions=["book"])
    def refund(
        self, request: HttpRequest, queryset: QuerySet[ChargeAttempt]
    ) -> HttpResponse | None:
        by = request.user.get_username()

        def refund(row: ChargeAttempt, said: dict[str, Any]) -> str | None:
            if row.payment is None:
                raise InvoicingError("it took nothing")
            sent = returns.send_back(provider(), row.payment, said["amount"], by=by)
            return None if sent.booked_at else f"{sent}: {sent.get_state_display()}"

        return ask(self, request, queryset, "send back", RefundForm, refund, most=1)

    @admin.action(description="Set aside: settled by hand", permissions=["book"])
    def set_aside(
        self, request: HttpRequest, queryset: QuerySet[ChargeAttempt]
    ) -> HttpResponse | None:
        by = request.user.get_username()
        return ask(
            self,
            request,
            queryset,
            "set aside",
            ConfirmForm,
            lambda row, _: attempts.set_aside(row, by=by),
        )


@admin.register(ProviderReturn)
class ProviderReturnAdmin(ReadOnlyAdmin):
    """Refunds and disputes, and which of them wait to be booked."""

    list_display = (
        *("reference", "kind", "attempt", "amount", "state", "booked_at", "undone_at", "error"),
    )
    list_filter = ("kind", "state", ("booked_at", admin.EmptyFieldListFilter))
    list_select_related = ("attempt__invoice",)
    search_fields = ("reference", "idempotency_key", "attempt__invoice__number")
    show_full_result_count = False


@admin.register(ProviderEvent)
class ProviderEventAdmin(ReadOnlyAdmin):
    """Webhooks. Those with an error are for an operator to look at."""

    list_display = ("received_at", "kind", "reference", "processed_at", "error", "event_id")
    list_filter = (("error", admin.EmptyFieldListFilter), "provider", "kind")
    search_fields = ("event_id", "reference")
    date_hierarchy = "received_at"
    show_full_result_count = False
    actions = ("process_again",)

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change payments may have them read again."""
        return bool(request.user.has_perm("billing.change_payment"))

    @admin.action(description="Process again", permissions=["book"])
    def process_again(
        self, request: HttpRequest, queryset: QuerySet[ProviderEvent]
    ) -> HttpResponse | None:
        return ask(
            self,
            request,
            queryset,
            "process again",
            ConfirmForm,
            lambda row, _: events.process_again(row),
        )


@admin.register(ProviderCustomer)
class ProviderCustomerAdmin(ReadOnlyAdmin):
    """Tenants as the provider knows them."""

    list_display = ("tenant", "provider", "reference", "method", "method_since")
    list_filter = ("provider", ("method_since", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "tenant__slug", "reference")
    show_full_result_count = False
    actions = ("refresh_method", "charge_open")

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change payments may charge."""
        return bool(request.user.has_perm("billing.change_payment"))

    @admin.action(description="Ask the provider what it pays with", permissions=["book"])
    def refresh_method(self, request: HttpRequest, queryset: QuerySet[ProviderCustomer]) -> None:
        for row in queryset[:50]:
            try:
                customers.refresh_method(provider(), row)
            except (OutcomeUnknownError, RefusedError) as error:
                self.message_user(request, f"{row}: {error}.", level=messages.ERROR)

    @admin.action(description="Charge all open invoices now", permissions=["book"])
    def charge_open(
        self, request: HttpRequest, queryset: QuerySet[ProviderCustomer]
    ) -> HttpResponse | None:
        by = request.user.get_username()

        def charge(row: ProviderCustomer, _: dict[str, Any]) -> str:
            return f"{row}: {attempts.begin_open(row, by=by)} begun"

        return ask(self, request, queryset, "charge all open invoices", ConfirmForm, charge)
