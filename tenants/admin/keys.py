"""Keys: issued, changed, rotated and revoked, and shown once."""

from __future__ import annotations

from typing import Any

import structlog
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from tenants import guarding, selectors, services
from tenants.admin.key_filters import KeyStateFilter, LastUseFilter
from tenants.admin.key_forms import APIKeyForm, RotateForm
from tenants.models import KEY_RIGHTS, APIKey

log = structlog.get_logger(__name__)

#: Keys that one press of a button ends: more is a slip, or work for a script.
MAX_AT_ONCE = 100


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
    actions = ("rotate", "revoke", "kill", "release")
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

    def has_kill_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may set guard rails may set this one."""
        return request.user.has_perm("tenants.change_exchangerails")

    @admin.action(description="Kill switch: stop all trading now", permissions=["kill"])
    def kill(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> None:
        """At once and without a question: to ask costs what it is there to save."""
        for key in queryset:
            guarding.kill(key)
        self.message_user(
            request,
            "Killed: nothing of these keys and their rotations is sent to the exchange any more,"
            " within a second. What rests there stays: cancel it with another key.",
            level=messages.WARNING,
        )

    @admin.action(description="Kill switch: release, trading goes on", permissions=["kill"])
    def release(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> None:
        """The kill switch off. A key without guard rails has none to release."""
        killed = [key for key in queryset if guarding.is_killed(key)]
        for key in killed:
            guarding.revive(key)
        text = f"{_counted(len(killed), 'key')} released." if killed else "None of these is killed."
        self.message_user(request, text, level=messages.SUCCESS)

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
