"""The operators' pages for what is sold and to whom. Every write goes through the services."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from billing.catalogue import services
from billing.catalogue.terms_admin import TenantTermsAdmin
from billing.invoicing import conceding
from billing.invoicing.retrying import retried
from billing.models import (
    AddOn,
    AddOnSubscription,
    AddOnVersion,
    BillingAnchor,
    BillingChoice,
    DiscountGrant,
    OwnTerms,
    PlannedChange,
    PlanVersion,
    WalletEntry,
)
from billing.rating.fields import MAX_TEXT_CHARS
from billing.rating.money import render
from billing.rating.periods import HOUR, full_hour
from billing.read_only import ReadOnlyAdmin

__all__ = ["TenantTermsAdmin"]


class DocumentField(forms.CharField):
    """A document of docs/prices.md."""

    def __init__(self) -> None:
        super().__init__(
            max_length=MAX_TEXT_CHARS,
            strip=False,
            widget=UnfoldAdminTextareaWidget({"rows": 30, "class": "font-mono"}),
            help_text="JSON, as docs/prices.md describes it. Every mistake is told with its place.",
        )


class WritingForm(forms.ModelForm):
    """A form whose last check is the service itself: the row is written when it is valid, so two
    operators who press the button at once get one row and one line."""

    def write(self, cleaned: dict[str, Any]) -> models.Model:
        """Call the service. Raises ValidationError."""
        raise NotImplementedError

    #: Where mistakes are shown that name no field of the form.
    field_of_mistakes = "document"
    operator = ""

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                self.instance = self.write(cleaned)
            except ValidationError as error:
                self.add_error(self.field_of_mistakes, list(error.messages))
        return cleaned

    def _post_clean(self) -> None:
        """Not the model's own checks: the service made them, and the row is there."""

    def save(self, commit: bool = True) -> Any:
        return self.instance

    def save_m2m(self) -> None:
        """It has none."""


class WritingAdmin(ReadOnlyAdmin):
    """Rows that are added through a form of a service and are then only to be looked at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.operator = request.user.get_username()
        return form

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """It is written."""


# --- versions -------------------------------------------------------------------------------------


class PlanVersionForm(WritingForm):
    document = DocumentField()

    class Meta:
        model = PlanVersion
        fields = ("document", "note")

    def write(self, cleaned: dict[str, Any]) -> models.Model:
        return services.publish_plan_version(
            cleaned["document"], by=self.operator, note=cleaned["note"]
        )


class AddOnVersionForm(WritingForm):
    document = DocumentField()

    class Meta:
        model = AddOnVersion
        fields = ("document", "note")

    def write(self, cleaned: dict[str, Any]) -> models.Model:
        return services.publish_add_on_version(
            cleaned["document"], by=self.operator, note=cleaned["note"]
        )


class VersionAdmin(WritingAdmin):
    """Published prices. A new version begins as a copy of the one it is opened from
    (`add/?from=ID`)."""

    search_fields: tuple[str, ...] = ()
    date_hierarchy = "effective_from"

    @display(description="fee")
    def fee(self, row: Any) -> str:
        return f"{render(row.prices.fee)} USD"

    @display(description="next version")
    def copy(self, row: Any) -> SafeString:
        return format_html(
            '<a class="text-primary-600" href="add/?from={}">publish one</a>', row.pk
        )

    @display(description="document")
    def document_shown(self, row: Any) -> SafeString:
        return format_html('<pre class="overflow-x-auto text-xs">{}</pre>', row.document)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        source = request.GET.get("from", "")
        row = self.model.objects.filter(pk=source).first() if source.isdecimal() else None
        if row is None or len(source) > 18:
            return {}
        newest = self._versions_like(row).order_by("-version")[0]
        document = json.loads(row.document)
        begins = max(full_hour(timezone.now()) + HOUR, newest.effective_from)
        document["version"] = newest.version + 1
        document["effective_from"] = f"{begins:%Y-%m-%dT%H:%M:%SZ}"
        return {"document": json.dumps(document, indent=2, ensure_ascii=False)}

    def _versions_like(self, row: Any) -> Any:
        raise NotImplementedError

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("document", "note")
        return (*self.list_display[:3], "published_at", "published_by", "note", "document_shown")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else self.get_fields(request, obj)


@admin.register(PlanVersion)
class PlanVersionAdmin(VersionAdmin):
    form = PlanVersionForm
    list_display = ("plan", "version", "effective_from", "fee", "published_by", "note", "copy")
    list_filter = ("plan",)
    list_select_related = ("plan",)
    search_fields = ("plan__code", "plan__name", "note")

    def _versions_like(self, row: Any) -> Any:
        return PlanVersion.objects.filter(plan=row.plan_id)


@admin.register(AddOnVersion)
class AddOnVersionAdmin(VersionAdmin):
    form = AddOnVersionForm
    list_display = ("add_on", "version", "effective_from", "fee", "published_by", "note", "copy")
    list_filter = ("add_on",)
    list_select_related = ("add_on",)
    search_fields = ("add_on__code", "add_on__name", "note")

    def _versions_like(self, row: Any) -> Any:
        return AddOnVersion.objects.filter(add_on=row.add_on_id)


@admin.register(AddOn)
class AddOnAdmin(ReadOnlyAdmin):
    """What can be added to a plan. Its prices are its versions."""

    list_display = ("code", "name", "is_active")
    search_fields = ("code", "name")


# --- of one tenant --------------------------------------------------------------------------------


class OwnTermsForm(WritingForm):
    document = DocumentField()

    class Meta:
        model = OwnTerms
        fields = ("tenant", "document", "note")

    def write(self, cleaned: dict[str, Any]) -> models.Model:
        return services.set_own_terms(cleaned["tenant"], cleaned["document"], note=cleaned["note"])


class DiscountForm(WritingForm):
    document = DocumentField()

    class Meta:
        model = DiscountGrant
        fields = ("tenant", "document", "note")

    def write(self, cleaned: dict[str, Any]) -> models.Model:
        return services.grant_discount(cleaned["tenant"], cleaned["document"], note=cleaned["note"])


class AddOnSubscriptionForm(WritingForm):
    field_of_mistakes = "add_on"

    class Meta:
        model = AddOnSubscription
        fields = ("tenant", "add_on", "quantity")

    def write(self, cleaned: dict[str, Any]) -> models.Model:
        return services.add_add_on(
            cleaned["tenant"], add_on=cleaned["add_on"], quantity=cleaned["quantity"]
        )


class WalletEntryForm(WritingForm):
    field_of_mistakes = "amount"

    class Meta:
        model = WalletEntry
        fields = ("tenant", "kind", "amount", "reference")

    def write(self, cleaned: dict[str, Any]) -> models.Model:
        tenant = cleaned["tenant"]
        row = conceding.enter_wallet(
            tenant,
            amount=cleaned["amount"],
            kind=cleaned["kind"],
            reference=cleaned["reference"],
            by=self.operator,
        )
        if row is not None and (waits := conceding.told(row)):
            raise ValidationError(f"amount: it waits. {waits}.")
        return WalletEntry.objects.filter(tenant=tenant).latest("pk")


class OfTenantAdmin(WritingAdmin):
    """Rows of a tenant that may be ended, never changed."""

    autocomplete_fields = ("tenant",)
    list_select_related: tuple[str, ...] = ("tenant",)
    search_fields: tuple[str, ...] = ("tenant__name", "tenant__slug")
    show_full_result_count = False

    def has_end_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request)

    def end_all(self, request: HttpRequest, rows: Any, end: Callable[[Any], Any]) -> None:
        """End each; tell of those that cannot be."""
        ended = 0
        for row in rows:
            try:
                end(row)
            except ValidationError as error:
                for line in error.messages:
                    self.message_user(request, f"{row}: {line}", level=messages.ERROR)
            else:
                ended += 1
                self.log_change(request, row, "Ended.")
        self.message_user(request, f"{ended} ended.")


@admin.register(OwnTerms)
class OwnTermsAdmin(OfTenantAdmin):
    form = OwnTermsForm
    list_display = ("tenant", "plan", "starts_at", "ends_at", "note")
    list_select_related = ("tenant", "plan")
    list_filter = ("plan",)
    date_hierarchy = "starts_at"
    actions = ("end",)

    @admin.action(description="End at the next full hour", permissions=["end"])
    def end(self, request: HttpRequest, queryset: Any) -> None:
        self.end_all(request, queryset, services.end_own_terms)


@admin.register(DiscountGrant)
class DiscountGrantAdmin(OfTenantAdmin):
    form = DiscountForm
    list_display = ("tenant", "what", "starts_at", "ends_at", "note")
    date_hierarchy = "starts_at"
    actions = ("end",)

    @display(description="discount")
    def what(self, row: DiscountGrant) -> str:
        found = row.discount
        off = f"{found.percent} %" if found.percent is not None else f"{found.amount} USD"
        return f"{found.name}: {off} of {found.applies_to}"

    @admin.action(description="End now", permissions=["end"])
    def end(self, request: HttpRequest, queryset: Any) -> None:
        self.end_all(request, queryset, services.end_discount)


@admin.register(AddOnSubscription)
class AddOnSubscriptionAdmin(OfTenantAdmin):
    form = AddOnSubscriptionForm
    list_display = ("tenant", "add_on", "version", "quantity", "started_at", "ended_at")
    list_select_related = ("tenant", "add_on")
    list_filter = ("add_on", ("ended_at", admin.EmptyFieldListFilter))
    actions = ("end",)

    @admin.action(description="End now", permissions=["end"])
    def end(self, request: HttpRequest, queryset: Any) -> None:
        self.end_all(request, queryset, services.end_add_on)


@admin.register(WalletEntry)
class WalletEntryAdmin(OfTenantAdmin):
    """Prepaid money: each movement for good."""

    form = WalletEntryForm
    list_display = ("created_at", "tenant", "kind", "amount", "balance", "reference", "created_by")
    list_filter = ("kind",)
    search_fields = ("tenant__name", "tenant__slug", "reference")
    date_hierarchy = "created_at"

    def changeform_view(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        """Again as a whole where others move the same tenant's money: the page is a transaction."""
        return retried(super().changeform_view)(request, *args, **options)


@admin.register(BillingChoice)
class BillingChoiceAdmin(ReadOnlyAdmin):
    """What tenants chose, and when."""

    list_display = ("tenant", "since", "overage", "spend_cap", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "tenant__slug")


@admin.register(BillingAnchor)
class BillingAnchorAdmin(ReadOnlyAdmin):
    """What billing periods are counted from."""

    list_display = ("tenant", "at", "unit", "every", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "tenant__slug")


@admin.register(PlannedChange)
class PlannedChangeAdmin(ReadOnlyAdmin):
    """Changes of plan that are to come, and those that came."""

    list_display = ("tenant", "plan", "version", "at", "is_pending", "done_at")
    list_select_related = ("tenant", "plan")
    list_filter = ("is_pending",)
    search_fields = ("tenant__name", "tenant__slug")
    date_hierarchy = "at"
