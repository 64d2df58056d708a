"""The operators' pages for tenants, keys and plans. Writes go through services, so that every
process hears of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import structlog
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
)

from tenants import selectors, services
from tenants.admission.principal import Scope
from tenants.models import (
    KEY_RIGHTS,
    APIKey,
    APIKeyQuerySet,
    Plan,
    PlanSubscription,
    Quota,
    Tenant,
    default_scopes,
)
from tenants.people import admin as people

log = structlog.get_logger(__name__)

#: Keys that one press of a button ends: more is a slip, or work for a script.
MAX_AT_ONCE = 100


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
    """A tenant, and the plan it begins on. A page that is open for a while would put it back on
    the plan it had, so later changes are not made here."""

    plan = forms.ModelChoiceField(
        queryset=Plan.objects.all(),
        help_text="What is open stays open, also above a smaller plan's limits.",
    )

    class Meta:
        model = Tenant
        fields = ("name", "slug", "kind", "support_name", "support_email", "support_phone")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            del self.fields["plan"]


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
        "usage",
    )
    inlines = (APIKeyInline, PlanSubscriptionInline)
    actions = ("suspend", "suspend_later", "resume")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        usable = Count("api_keys", filter=Q(api_keys__revoked_at=None), distinct=True)
        return (
            super()
            .get_queryset(request)
            .annotate(keys_now=usable)
            .prefetch_related("plan_subscriptions__plan")
        )

    def get_fields(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        found = super().get_fields(request, obj)
        return found if obj is None else [name for name in found if name != "plan"]

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

    @display(description="keys", ordering="keys_now")
    def keys_now(self, tenant: Any) -> SafeString:
        url = reverse("admin:tenants_apikey_changelist")
        return format_html('<a href="{}?q={}">{}</a>', url, tenant.slug, tenant.keys_now)

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
        if change:
            services.update_tenant(obj)
        else:
            plan = form.cleaned_data["plan"]
            created = services.create_tenant(name=obj.name, slug=obj.slug, kind=obj.kind, plan=plan)
            obj.pk, obj._state.adding = created.pk, False
            services.update_tenant(obj)  # its support contact

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
        for tenant in queryset:
            services.resume_tenant(tenant)
        self.message_user(request, f"{len(queryset)} resumed.")


class GraceForm(forms.Form):
    """When a suspension that is announced takes effect, and what the customer is told."""

    grace_days = forms.IntegerField(
        initial=7,
        min_value=1,
        max_value=services.MAX_GRACE.days,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    reason = forms.CharField(max_length=200, widget=UnfoldAdminTextareaWidget({"rows": 2}))


class LinesField(forms.CharField):
    """A list of texts, each on a line of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, widget=UnfoldAdminTextareaWidget({"rows": 3}), **options)

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (value or "").splitlines() if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class APIKeyForm(forms.ModelForm):
    """Scopes as boxes and lists as lines instead of JSON."""

    scopes = forms.MultipleChoiceField(
        choices=[(str(scope), str(scope)) for scope in Scope],
        initial=default_scopes,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    allowed_networks = LinesField(
        label="Allowed addresses",
        help_text="Addresses and networks, one a line: 192.0.2.0/24. None: from everywhere.",
    )
    allowed_origins = LinesField(
        help_text="Web pages, one a line: https://desk.example. None: from everywhere. "
        "Programs send no origin: with a list here they are refused.",
    )

    opened_as = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = APIKey
        fields = ("tenant", "environment", *KEY_RIGHTS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["opened_as"].initial = self.instance.opened_as

    def clean(self) -> dict[str, Any]:
        """What the model cannot say here: a constraint on a field that is not on the page."""
        cleaned: dict[str, Any] = super().clean() or {}
        expires_at = cleaned.get("expires_at")
        if expires_at is not None and expires_at < self.instance.created_at:
            self.add_error("expires_at", "A key cannot expire before it was issued.")
        opened_as = cleaned.get("opened_as")
        # The instance is still what this request read; later changes are found by the service.
        if opened_as and services.is_changed_since(opened_as, self.instance):
            self.add_error(None, services.CHANGED)
        return cleaned


class RotateForm(forms.Form):
    """How long the old key goes on beside the new one."""

    UNITS = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}

    amount = forms.IntegerField(
        initial=1, min_value=0, max_value=604_800, widget=UnfoldAdminIntegerFieldWidget
    )
    unit = forms.ChoiceField(
        initial="days", choices=[(name, name) for name in UNITS], widget=UnfoldAdminSelectWidget
    )

    @property
    def overlap(self) -> timedelta:
        """What was chosen."""
        return timedelta(
            seconds=self.cleaned_data["amount"] * self.UNITS[self.cleaned_data["unit"]]
        )

    def clean(self) -> dict[str, Any]:
        """Never longer than any old key may go on."""
        if not self.errors and self.overlap > services.MAX_OVERLAP:
            raise forms.ValidationError("The overlap must be within 0 seconds and 7 days.")
        return self.cleaned_data


class KeyStateFilter(admin.SimpleListFilter):
    """What a key opens now, and why not."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("usable", "usable"),
            ("ending", "ends within 7 days"),
            ("rotated", "has a successor"),
            ("expired", "expired"),
            ("revoked", "revoked"),
            ("suspended", "tenant suspended"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> QuerySet[APIKey]:
        now = timezone.now()
        match self.value():
            case "usable":
                return cast(APIKeyQuerySet, queryset).usable(now)
            case "ending":
                soon = (now, now + timedelta(days=7))
                return queryset.filter(revoked_at=None, expires_at__range=soon)
            case "rotated":
                return queryset.exclude(rotated_at=None)
            case "expired":
                return queryset.filter(revoked_at=None, expires_at__lte=now)
            case "revoked":
                return queryset.exclude(revoked_at=None)
            case "suspended":
                return queryset.exclude(tenant__suspended_at=None)
        return queryset


class LastUseFilter(admin.SimpleListFilter):
    """Keys that nobody would miss."""

    title, parameter_name = "last used", "used"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "within a day"), ("30", "not for 30 days"), ("never", "never")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> QuerySet[APIKey]:
        now = timezone.now()
        match self.value():
            case "1":
                return queryset.filter(last_used_at__gte=now - timedelta(days=1))
            case "30":
                return queryset.filter(last_used_at__lt=now - timedelta(days=30))
            case "never":
                return queryset.filter(last_used_at=None)
        return queryset


@admin.register(APIKey)
class APIKeyAdmin(ModelAdmin):
    """Keys. A raw key appears once, on the page that answers "add" or "rotate", and is stored
    nowhere."""

    form = APIKeyForm
    list_display = (
        "prefix",
        "name",
        "tenant",
        "scopes_shown",
        "limits",
        "state",
        "last_used_at",
        "expires_at",
    )
    # Not by tenant: its sidebar would name all 10,000. The search finds them.
    list_filter = (KeyStateFilter, LastUseFilter, "environment")
    list_select_related = ("tenant",)
    search_fields = ("prefix", "name", "owner", "tenant__name", "tenant__slug")
    autocomplete_fields = ("tenant",)
    readonly_fields = ("prefix", "created_at", "rotated_at", "revoked_at", "last_used_at", "family")
    date_hierarchy = "created_at"
    actions = ("rotate", "revoke")
    actions_detail = ("rotate_this", "revoke_this")
    fieldsets = (
        (None, {"fields": ("tenant", "name", "environment", "owner", "note")}),
        ("Where it opens", {"fields": ("scopes", "allowed_networks", "allowed_origins")}),
        (
            "How much",
            {"fields": (("rate_per_minute", "rate_burst"), ("daily_quota", "monthly_quota"))},
        ),
        ("How long", {"fields": ("expires_at",)}),
    )
    #: What only an issued key has.
    issued_fieldset = ("So far", {"fields": (*readonly_fields, "opened_as")})

    def get_fieldsets(self, request: HttpRequest, obj: APIKey | None = None) -> Any:
        return (*self.fieldsets, self.issued_fieldset) if obj else self.fieldsets

    def get_readonly_fields(
        self, request: HttpRequest, obj: APIKey | None = None
    ) -> tuple[str, ...]:
        if obj is None:
            return self.readonly_fields
        # A key stays with its tenant and environment: both are part of what was promised when it
        # was shown. One that has ended, or is about to, is not given more time.
        ends = obj.rotated_at or obj.revoked_at
        return (
            *self.readonly_fields,
            "tenant",
            "environment",
            *(("expires_at",) if ends else ()),
        )

    @display(description="scopes")
    def scopes_shown(self, key: APIKey) -> str:
        return ", ".join(key.scopes)

    @display(description="limits")
    def limits(self, key: APIKey) -> str:
        said = [
            _counted(len(key.allowed_networks), "network"),
            _counted(len(key.allowed_origins), "origin"),
            f"{key.rate_per_minute:,}/min" if key.rate_per_minute else "",
            f"{key.daily_quota:,}/day" if key.daily_quota else "",
            f"{key.monthly_quota:,}/month" if key.monthly_quota else "",
        ]
        return ", ".join(filter(None, said)) or "the plan's"

    @display(
        description="state",
        label={
            "active": "success",
            "test": "info",
            "rotated": "warning",
            "expired": "danger",
            "revoked": "danger",
            "tenant suspended": "warning",
        },
    )
    def state(self, key: APIKey) -> str:
        if key.revoked_at is not None:
            return "revoked"
        if key.expires_at is not None and key.expires_at <= timezone.now():
            return "expired"
        if key.tenant.is_suspended:
            return "tenant suspended"
        if key.rotated_at is not None:
            return "rotated"
        return "test" if key.environment == APIKey.Environment.TEST else "active"

    @display(description="rotations")
    def family(self, key: APIKey) -> SafeString | str:
        others = selectors.family_of(key).exclude(pk=key.pk)
        links = [
            (
                reverse("admin:tenants_apikey_change", args=[other.pk]),
                other.prefix,
                f"{other.created_at:%Y-%m-%d %H:%M}",
            )
            for other in others
        ]
        link = '<a href="{}" class="text-primary-600">{}… of {}</a>'
        return format_html_join(", ", link, links) or "none"

    def changeform_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> Any:
        try:
            return super().changeform_view(request, *arguments, **options)
        except ValidationError as error:
            # Somebody else saved between the check of the form and the write.
            for line in error.messages:
                self.message_user(request, line, level=messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: APIKey, form: Any, change: bool) -> None:
        if change:
            services.update_key(obj)
            return
        issued = services.issue_key(
            tenant=obj.tenant,
            environment=obj.environment,
            **{right: getattr(obj, right) for right in KEY_RIGHTS},
        )
        # The admin goes on with this object (its log entry, its inlines), so it becomes the row
        # that was written.
        obj.__dict__.update(issued.key.__dict__)
        request._issued_key = issued  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: APIKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._show_once(request, [request._issued_key])  # type: ignore[attr-defined]

    def _show_once(
        self, request: HttpRequest, issued: list[services.IssuedKey], **context: Any
    ) -> HttpResponse:
        # A page, not a message: Django keeps messages in a cookie or the session until they are
        # shown.
        title = "API keys issued" if issued else "No API key issued"
        return self._page(request, "issued", title=title, issued=issued, **context)

    def _page(self, request: HttpRequest, name: str, **context: Any) -> HttpResponse:
        response = TemplateResponse(
            request,
            f"admin/tenants/apikey/{name}.html",
            {**self.admin_site.each_context(request), "opts": self.opts, **context},
        )
        response["Cache-Control"] = "no-store"
        return response

    def has_delete_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        return False

    # --- rotate and revoke: asked for on the list or on a key's page, done when confirmed ---

    def has_rotate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """To rotate is to end one key and to issue another."""
        return self.has_change_permission(request) and self.has_add_permission(request)

    @admin.action(
        description="Rotate: a successor, and an end for the old key", permissions=["rotate"]
    )
    def rotate(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> HttpResponse | None:
        if self._are_too_many(request, queryset):
            return None
        is_confirmed = "confirmed" in request.POST
        form = RotateForm(request.POST if is_confirmed else None)
        if not form.is_valid():
            return self._confirm(request, queryset, "rotate", form=form)
        # Each rotation is committed by itself, so whatever becomes of the others, what was issued
        # is shown: nobody can show it again.
        issued: list[services.IssuedKey] = []
        refused: list[str] = []
        for key in list(queryset):
            try:
                issued.append(services.rotate_key(key, overlap=form.overlap))
            except ValidationError as error:
                refused += error.messages
            except Exception as error:
                log.exception("key_not_rotated", key=key.prefix, error=type(error).__name__)
                refused.append(f"{key.prefix}… could not be rotated just now: try again.")
        return self._show_once(request, issued, refused=refused, overlap=form.overlap)

    @admin.action(
        description="Revoke: refuse at once, close open connections", permissions=["change"]
    )
    def revoke(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> HttpResponse | None:
        if self._are_too_many(request, queryset):
            return None
        if "confirmed" not in request.POST:
            return self._confirm(request, queryset, "revoke")
        for key in queryset:
            services.revoke_key(key)
        self.message_user(
            request,
            f"{len(queryset)} revoked; open connections close within 5 s.",
            level=messages.SUCCESS,
        )
        return None

    @action(description="Rotate", url_path="rotate", permissions=["rotate"])
    def rotate_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._confirm(request, self._one(request, object_id), "rotate", form=RotateForm())

    @action(description="Revoke", url_path="revoke", permissions=["change"])
    def revoke_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._confirm(request, self._one(request, object_id), "revoke")

    def _one(self, request: HttpRequest, object_id: str) -> QuerySet[APIKey]:
        key = self.get_object(request, object_id)
        if key is None:
            raise Http404
        return self.get_queryset(request).filter(pk=key.pk)

    def _confirm(
        self, request: HttpRequest, queryset: QuerySet[APIKey], action: str, **context: Any
    ) -> HttpResponse:
        keys = list(queryset.select_related("tenant"))
        title = f"{action.capitalize()} {_counted(len(keys), 'API key')}?"
        return self._page(request, "confirm", title=title, action=action, keys=keys, **context)

    def _are_too_many(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> bool:
        if (chosen := queryset.count()) <= MAX_AT_ONCE:
            return False
        text = f"{chosen:,} keys chosen; at most {MAX_AT_ONCE} at once."
        self.message_user(request, text, level=messages.ERROR)
        return True


def _counted(number: int, noun: str) -> str:
    """`2 networks`; nothing of none."""
    return f"{number} {noun}{'s' if number > 1 else ''}" if number else ""


# The rooms' own pages: Django finds this module alone.
from tenants.notices import admin as _notices  # noqa: E402, F401
