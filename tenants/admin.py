"""The operators' pages for tenants, keys and plans. Writes go through services, so that every
process hears of them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from tenants import services
from tenants.admission.principal import Scope
from tenants.models import APIKey, Plan, PlanSubscription, Quota, Tenant


class QuotaInline(StackedInline):
    """The limits of a plan, on the plan's page."""

    model = Quota
    can_delete = False
    min_num = 1
    extra = 0


@admin.register(Plan)
class PlanAdmin(ModelAdmin):
    """Plans and their limits."""

    list_display = ("code", "name", "limits", "tenants_now", "is_active")
    list_filter = ("is_active",)
    search_fields = ("code", "name")
    inlines = (QuotaInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        now = Count("plan_subscriptions", filter=Q(plan_subscriptions__is_current=True))
        return super().get_queryset(request).select_related("quota").annotate(tenants_now=now)

    @display(description="limits")
    def limits(self, plan: Plan) -> str:
        return str(plan.quota) if hasattr(plan, "quota") else "none: nothing can be opened"

    @display(description="tenants", ordering="tenants_now")
    def tenants_now(self, plan: Any) -> int:
        return int(plan.tenants_now)

    def save_related(
        self, request: HttpRequest, form: forms.ModelForm, formsets: Any, change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        services.announce_plan(form.instance)


class TenantForm(forms.ModelForm):
    """A tenant together with the plan it is on."""

    plan = forms.ModelChoiceField(
        queryset=Plan.objects.all(),
        help_text="What is open stays open, also above a smaller plan's limits.",
    )

    class Meta:
        model = Tenant
        fields = ("name", "slug", "kind")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            current = PlanSubscription.objects.for_tenant(self.instance).current().first()
            self.fields["plan"].initial = current.plan_id if current else None


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
class TenantAdmin(ModelAdmin):
    """Customers: their plan, their keys, and whether they are suspended."""

    form = TenantForm
    list_display = ("name", "slug", "kind", "plan_now", "state", "keys_now", "usage")
    list_filter = ("kind", ("suspended_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = ("created_at", "suspended_at", "suspension_reason", "usage")
    inlines = (APIKeyInline, PlanSubscriptionInline)
    actions = ("suspend", "resume")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        usable = Count("api_keys", filter=Q(api_keys__revoked_at=None), distinct=True)
        return (
            super()
            .get_queryset(request)
            .annotate(keys_now=usable)
            .prefetch_related("plan_subscriptions__plan")
        )

    @display(description="plan")
    def plan_now(self, tenant: Tenant) -> str:
        current = [row.plan.name for row in tenant.plan_subscriptions.all() if row.is_current]
        return current[0] if current else "none"

    @display(description="state", label={"active": "success", "suspended": "danger"})
    def state(self, tenant: Tenant) -> str:
        return "suspended" if tenant.is_suspended else "active"

    @display(description="keys", ordering="keys_now")
    def keys_now(self, tenant: Any) -> int:
        return int(tenant.keys_now)

    @display(description="usage")
    def usage(self, tenant: Tenant) -> SafeString | str:
        try:
            url = reverse("admin:billing_usagerollup_changelist")
        except NoReverseMatch:
            return ""
        return format_html(
            '<a href="{}?tenant__id__exact={}" class="text-primary-600">usage</a>', url, tenant.pk
        )

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        plan = form.cleaned_data["plan"]
        if change:
            services.update_tenant(obj)
            services.change_plan(obj, plan=plan)
        else:
            created = services.create_tenant(name=obj.name, slug=obj.slug, kind=obj.kind, plan=plan)
            obj.pk, obj._state.adding = created.pk, False

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

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        for tenant in queryset:
            services.resume_tenant(tenant)
        self.message_user(request, f"{len(queryset)} resumed.")


class APIKeyForm(forms.ModelForm):
    """Scopes as boxes instead of JSON."""

    scopes = forms.MultipleChoiceField(
        choices=[(str(scope), str(scope)) for scope in Scope],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = APIKey
        fields = ("tenant", "name", "environment", "scopes", "expires_at")


@admin.register(APIKey)
class APIKeyAdmin(ModelAdmin):
    """Keys. The raw key appears once, on the page that answers "add", and is stored nowhere."""

    form = APIKeyForm
    list_display = (
        "prefix",
        "name",
        "tenant",
        "environment",
        "state",
        "last_used_at",
        "expires_at",
    )
    list_filter = ("environment", ("revoked_at", admin.EmptyFieldListFilter), "tenant")
    list_select_related = ("tenant",)
    search_fields = ("prefix", "name", "tenant__name", "tenant__slug")
    autocomplete_fields = ("tenant",)
    readonly_fields = ("prefix", "created_at", "revoked_at", "last_used_at")
    date_hierarchy = "created_at"
    actions = ("revoke",)

    def get_readonly_fields(
        self, request: HttpRequest, obj: APIKey | None = None
    ) -> tuple[str, ...]:
        # A key stays with its tenant and environment: both are part of what was promised when it
        # was shown.
        return (*self.readonly_fields, "tenant", "environment") if obj else ()

    def get_exclude(self, request: HttpRequest, obj: APIKey | None = None) -> tuple[str, ...]:
        # What only an issued key has.
        return () if obj else self.readonly_fields

    @display(
        description="state",
        label={"active": "success", "revoked": "danger", "tenant suspended": "warning"},
    )
    def state(self, key: APIKey) -> str:
        if key.revoked_at is not None:
            return "revoked"
        return "tenant suspended" if key.tenant.is_suspended else "active"

    def save_model(self, request: HttpRequest, obj: APIKey, form: Any, change: bool) -> None:
        if change:
            services.update_key(obj)
            return
        issued = services.issue_key(
            tenant=obj.tenant,
            name=obj.name,
            environment=obj.environment,
            scopes=form.cleaned_data["scopes"],
            expires_at=obj.expires_at,
        )
        # The admin goes on with this object (its log entry, its inlines), so it becomes the row
        # that was written.
        obj.__dict__.update(issued.key.__dict__)
        request._issued_key = issued  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: APIKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        issued = request._issued_key  # type: ignore[attr-defined]
        # A page, not a message: Django keeps messages in a cookie or the session until they are
        # shown.
        context = {
            **self.admin_site.each_context(request),
            "title": "API key issued",
            "raw_key": issued.raw,
            "key": issued.key,
            "opts": self.opts,
        }
        response = TemplateResponse(request, "admin/tenants/apikey/issued.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def has_delete_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        return False

    @admin.action(
        description="Revoke: refuse at once, close open connections", permissions=["change"]
    )
    def revoke(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> None:
        for key in queryset:
            services.revoke_key(key)
        self.message_user(
            request,
            f"{len(queryset)} revoked; open connections close within 5 s.",
            level=messages.SUCCESS,
        )
