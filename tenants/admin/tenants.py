"""Customers: who they are, and whether they are let in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget

from tenants import services
from tenants.admin.looking import LookingAdmin
from tenants.models import APIKey, Plan, PlanSubscription, Tenant
from tenants.people import admin as people
from tenants.people.closing import reopen_tenant


class GraceForm(forms.Form):
    """When a suspension that is announced takes effect, and what the customer is told."""

    grace_days = forms.IntegerField(
        initial=7,
        min_value=1,
        max_value=services.MAX_GRACE.days,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    reason = forms.CharField(max_length=200, widget=UnfoldAdminTextareaWidget({"rows": 2}))


class TenantForm(forms.ModelForm):
    """A tenant. Its plan is changed where the effect on its invoice is shown first."""

    opened_as = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Tenant
        fields = ("name", "slug", "kind", "support_name", "support_email", "support_phone")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["opened_as"].initial = self.instance.opened_kind

    def clean(self) -> dict[str, Any]:
        """Whether its kind is what it was when the page was opened."""
        cleaned: dict[str, Any] = super().clean() or {}
        opened_as = cleaned.get("opened_as")
        # The instance is still what this request read; later changes are found by the service.
        if opened_as and opened_as != self.instance.opened_kind:
            self.add_error(None, services.CHANGED)
        return cleaned


class NewTenantForm(TenantForm):
    """A tenant together with the plan it begins on."""

    plan = forms.ModelChoiceField(queryset=Plan.objects.all())


class APIKeyInline(TabularInline):
    """The tenant's keys, to look at; each has its own page."""

    model = APIKey
    extra = 0
    fields = ("prefix", "name", "environment", "expires_at", "revoked_at", "last_used_at")
    readonly_fields = fields
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False


class PlanSubscriptionInline(TabularInline):
    """Which plans the tenant was on, and when."""

    model = PlanSubscription
    extra = 0
    fields = ("plan", "started_at", "ended_at")
    readonly_fields = fields
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False


@admin.register(Tenant)
class TenantAdmin(LookingAdmin):
    """Customers: their plan, their keys, and whether they are suspended."""

    form = TenantForm
    list_display = ("name", "slug", "kind", "plan_now", "state", "keys_now", "usage")
    list_filter = (
        "kind",
        ("suspended_at", admin.EmptyFieldListFilter),
        ("suspend_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = (
        "created_at",
        "suspended_at",
        "suspension_reason",
        "suspend_at",
        "suspend_reason",
        "closed_at",
        "requires_second_factor",
        "plan_now",
        "usage",
    )
    show_full_result_count = False
    inlines = (APIKeyInline, PlanSubscriptionInline)
    actions = ("suspend", "suspend_later", "resume", "reopen")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        # Of the tenants that are shown: counting in the query would count for all of them.
        usable = APIKey.objects.filter(revoked_at=None).only("tenant_id", "revoked_at")
        return (
            super()
            .get_queryset(request)
            .prefetch_related(
                Prefetch("api_keys", usable, to_attr="usable_keys"), "plan_subscriptions__plan"
            )
        )

    def get_form(
        self, request: HttpRequest, obj: Tenant | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        return super().get_form(
            request, obj, change, **{"form": TenantForm if obj else NewTenantForm, **kwargs}
        )

    def get_inlines(self, request: HttpRequest, obj: Tenant | None) -> Any:
        # A tenant exists before anybody is invited to it.
        return (*self.inlines, *people.INLINES) if obj else self.inlines

    @display(description="plan")
    def plan_now(self, tenant: Tenant) -> str:
        current = [row.plan.name for row in tenant.plan_subscriptions.all() if row.is_current]
        return current[0] if current else "none"

    @display(
        description="state",
        label={"active": "success", "suspended": "danger", "suspension announced": "warning"},
    )
    def state(self, tenant: Tenant) -> str:
        if tenant.is_suspended:
            return "suspended"
        return "suspension announced" if tenant.suspend_at else "active"

    @display(description="keys")
    def keys_now(self, tenant: Any) -> SafeString:
        url = reverse("admin:tenants_apikey_changelist")
        count = len(tenant.usable_keys)
        return format_html('<a href="{}?q={}">{}</a>', url, tenant.slug, count)

    @display(description="usage")
    def usage(self, tenant: Tenant) -> SafeString | str:
        try:
            url = reverse("admin:billing_usagerollup_changelist")
        except NoReverseMatch:
            return ""
        return format_html(
            '<a href="{}?tenant__id__exact={}" class="text-primary-600">usage</a>', url, tenant.pk
        )

    def changeform_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> Any:
        try:
            return super().changeform_view(request, *arguments, **options)
        except ValidationError as error:
            # Somebody else saved between the check of the form and the write.
            for line in error.messages:
                self.message_user(request, line, level=messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        if not change:
            plan = form.cleaned_data["plan"]
            created = self.create(name=obj.name, slug=obj.slug, kind=obj.kind, plan=plan)
            obj.pk, obj._state.adding = created.pk, False
        services.update_tenant(obj)

    def create(self, **values: Any) -> Tenant:
        """A tenant on a plan; who knows of prices does more."""
        return services.create_tenant(**values)

    def save_formset(
        self, request: HttpRequest, form: forms.ModelForm, formset: Any, change: bool
    ) -> None:
        if not people.save_formset(request, formset):
            super().save_formset(request, form, formset, change)

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        # Usage and invoices name their tenant for years: suspend it instead.
        return False

    @admin.action(
        description="Suspend: refuse all keys, close all connections", permissions=["change"]
    )
    def suspend(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        for tenant in queryset:
            services.suspend_tenant(tenant, reason=f"suspended in the admin by {request.user}")
        self.message_user(request, f"{len(queryset)} suspended; open connections close within 5 s.")

    @admin.action(
        description="Suspend after a grace: tell the customer now", permissions=["change"]
    )
    def suspend_later(
        self, request: HttpRequest, queryset: QuerySet[Tenant]
    ) -> HttpResponse | None:
        form = GraceForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            context = {"title": "Suspend after a grace?", "tenants": queryset, "form": form}
            return TemplateResponse(
                request,
                "admin/tenants/tenant/suspend.html",
                {**self.admin_site.each_context(request), "opts": self.opts, **context},
            )
        at = timezone.now() + timedelta(days=form.cleaned_data["grace_days"])
        for tenant in queryset:
            try:
                services.schedule_suspension(tenant, at=at, reason=form.cleaned_data["reason"])
            except ValidationError as error:
                self.message_user(request, error.messages[0], level=messages.ERROR)
            else:
                self.message_user(request, f"{tenant} will be suspended at {at:%Y-%m-%d %H:%M}.")
        return None

    @admin.action(description="Resume, or call off", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        resumed = 0
        for tenant in queryset:
            try:
                services.resume_tenant(tenant)
            except ValidationError as error:
                self.message_user(request, error.messages[0], level=messages.ERROR)
            else:
                resumed += 1
        self.message_user(request, f"{resumed} resumed.")

    @admin.action(description="Reopen what its owner closed", permissions=["change"])
    def reopen(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        for tenant in queryset:
            try:
                reopen_tenant(tenant)
            except ValidationError as error:
                self.message_user(request, error.messages[0], level=messages.ERROR)
            else:
                self.message_user(request, f"{tenant} is open again, without a plan and keys.")
