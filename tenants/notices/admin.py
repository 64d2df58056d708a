"""The operators' pages for notices: endpoints, what became of each delivery, ping and replay. A
secret is shown on the page that answers "add" or "rotate", and never again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminIntegerFieldWidget

from tenants.long_lists import LongListAdmin, since
from tenants.models import Delivery, DeliveryAttempt, Notice, WebhookEndpoint
from tenants.notices import services
from tenants.notices.kinds import KINDS, SUBSCRIBABLE

#: Of one press of a button: more is a slip, or work for a script.
MAX_AT_ONCE = 100


class EndpointForm(forms.ModelForm):
    """Kinds as boxes instead of JSON."""

    kinds = forms.MultipleChoiceField(
        choices=[(kind, kind) for kind in SUBSCRIBABLE],
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What it is told; none: everything.",
    )

    class Meta:
        model = WebhookEndpoint
        fields = ("tenant", "url", "kinds")

    def clean_url(self) -> str:
        """What a tenant may name; what its name resolves to is judged at each delivery."""
        url: str = self.cleaned_data["url"]
        services.check_url(url)
        return url


class RotateSecretForm(forms.Form):
    """How long the old secret signs beside the new one."""

    hours = forms.IntegerField(
        label="Overlap in hours",
        initial=24,
        min_value=0,
        max_value=168,
        widget=UnfoldAdminIntegerFieldWidget,
    )


class EndpointStateFilter(admin.SimpleListFilter):
    """Whether it hears anything."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in ("enabled", "failing", "disabled")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]
    ) -> QuerySet[WebhookEndpoint]:
        match self.value():
            case "enabled":
                return queryset.filter(disabled_at=None)
            case "failing":
                return queryset.filter(disabled_at=None, failures__gt=0)
            case "disabled":
                return queryset.exclude(disabled_at=None)
        return queryset


class ConfirmingAdmin(ModelAdmin):
    """Actions that say first what they will do, from the list and from a row's page."""

    def _confirm(
        self, request: HttpRequest, queryset: QuerySet[Any], action: str, says: str, **context: Any
    ) -> HttpResponse:
        rows = list(queryset[: MAX_AT_ONCE + 1])
        if len(rows) > MAX_AT_ONCE:
            text = f"Too many chosen; at most {MAX_AT_ONCE} at once."
            self.message_user(request, text, level=messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        title = action.replace("_", " ").capitalize()
        context |= {"title": title, "action": action, "says": says, "rows": rows}
        return self._page(request, "confirm", **context)

    def _page(self, request: HttpRequest, name: str, **context: Any) -> HttpResponse:
        response = TemplateResponse(
            request,
            f"admin/tenants/webhookendpoint/{name}.html",
            {**self.admin_site.each_context(request), "opts": self.opts, **context},
        )
        response["Cache-Control"] = "no-store"
        return response

    def _one(self, request: HttpRequest, object_id: str) -> QuerySet[Any]:
        if (found := self.get_object(request, object_id)) is None:
            raise Http404
        return self.get_queryset(request).filter(pk=found.pk)

    def _do(self, request: HttpRequest, queryset: QuerySet[Any], act: Any, done: str) -> None:
        """Do it to each; what cannot be done is said, and holds up no other."""
        count = 0
        for row in queryset[:MAX_AT_ONCE]:
            try:
                act(row)
                count += 1
            except ValidationError as error:
                text = f"{row}: {' '.join(error.messages)}"
                self.message_user(request, text, level=messages.ERROR)
        if count:
            self.message_user(request, f"{count} {done}.", level=messages.SUCCESS)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ConfirmingAdmin):
    """Where tenants are told."""

    form = EndpointForm
    list_display = ("url", "tenant", "kinds_shown", "state", "failing_since", "created_at")
    list_filter = (EndpointStateFilter,)
    list_select_related = ("tenant",)
    search_fields = ("url", "uid", "tenant__name", "tenant__slug")
    autocomplete_fields = ("tenant",)
    readonly_fields = (
        *("uid", "fingerprint", "created_at", "previous_until"),
        *("failures", "failing_since", "retry_at", "disabled_at", "disabled_reason", "log"),
    )
    actions = ("ping", "enable", "disable", "rotate_secret")
    actions_detail = ("ping_this", "rotate_this")
    show_full_result_count = False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        asked = (None, {"fields": ("tenant", "url", "kinds")})
        return (asked, ("So far", {"fields": self.readonly_fields})) if obj else (asked,)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "tenant") if obj else self.readonly_fields

    @display(description="told")
    def kinds_shown(self, endpoint: WebhookEndpoint) -> str:
        return ", ".join(endpoint.kinds) or "everything"

    @display(
        description="state",
        label={"enabled": "success", "failing": "warning", "disabled": "danger"},
    )
    def state(self, endpoint: WebhookEndpoint) -> str:
        if not endpoint.is_enabled:
            return "disabled"
        return "failing" if endpoint.failures else "enabled"

    @display(description="deliveries")
    def log(self, endpoint: WebhookEndpoint) -> SafeString:
        url = reverse("admin:tenants_delivery_changelist")
        return format_html(
            '<a href="{}?endpoint__id__exact={}" class="text-primary-600">all of them</a>',
            url,
            endpoint.pk,
        )

    def changeform_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> Any:
        try:
            return super().changeform_view(request, *arguments, **options)
        except ValidationError as error:  # what only the service sees, such as the limit
            self.message_user(request, " ".join(error.messages), level=messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            services.update_endpoint(obj, url=obj.url, kinds=obj.kinds)
            return
        shown = services.add_endpoint(tenant=obj.tenant, url=obj.url, kinds=obj.kinds)
        # The admin goes on with this object, so it becomes the row that was written.
        obj.__dict__.update(shown.endpoint.__dict__)
        request._shown_secret = shown  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> Any:
        return self._show_once(request, [request._shown_secret])  # type: ignore[attr-defined]

    def _show_once(self, request: HttpRequest, shown: list[services.ShownSecret]) -> HttpResponse:
        # A page, not a message: Django keeps messages in a cookie or the session until shown.
        return self._page(request, "secret", title="Webhook secrets", shown=shown)

    @admin.action(description="Ping: send a test", permissions=["change"])
    def ping(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        self._do(request, queryset, services.ping, "pinged; see the deliveries")

    @admin.action(description="Enable: tell it again from now on", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        self._do(request, queryset, services.enable_endpoint, "enabled")

    @admin.action(description="Disable: abandon what waits", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        self._do(request, queryset, services.disable_endpoint, "disabled")

    @admin.action(description="Rotate the secret", permissions=["change"])
    def rotate_secret(
        self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]
    ) -> HttpResponse:
        form = RotateSecretForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            says = "Each gets a new secret, shown once, on the next page. For the overlap, requests"
            says += " carry a signature by each of the two."
            return self._confirm(request, queryset, "rotate_secret", says, form=form)
        overlap = timedelta(hours=form.cleaned_data["hours"])
        chosen = queryset[:MAX_AT_ONCE]
        return self._show_once(
            request, [services.rotate_secret(endpoint, overlap=overlap) for endpoint in chosen]
        )

    @action(description="Ping", url_path="ping", permissions=["change"])
    def ping_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        says = "It is sent a test, signed as everything is, once."
        return self._confirm(request, self._one(request, object_id), "ping", says)

    @action(description="Rotate the secret", url_path="rotate", permissions=["change"])
    def rotate_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.rotate_secret(request, self._one(request, object_id))


class ReadOnly:
    """Rows that only the software writes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class KindFilter(admin.SimpleListFilter):
    """Of what. Not by what the table holds: that would be read whole for each page."""

    title, parameter_name = "kind", "kind"
    #: From the rows of the list to the kind.
    path = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind) for kind in KINDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.path: self.value()}) if self.value() else queryset


class DeliveryKindFilter(KindFilter):
    """The same, of deliveries."""

    path = "notice__kind"


class WayFilter(admin.SimpleListFilter):
    """How it goes."""

    title, parameter_name = "way", "way"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("webhook", "webhook"), ("mail", "mail")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() in ("webhook", "mail"):
            return queryset.filter(endpoint__isnull=self.value() == "mail")
        return queryset


class AttemptInline(ReadOnly, TabularInline):
    """The log of a delivery."""

    model = DeliveryAttempt
    extra = 0
    fields = ("number", "ended_at", "is_success", "http_status", "error", "excerpt", "latency_ms")
    readonly_fields = fields


@admin.register(Delivery)
class DeliveryAdmin(ReadOnly, LongListAdmin, ConfirmingAdmin):
    """What became of each notice, at each endpoint and mailbox."""

    list_display = (
        *("created_at", "tenant", "kind", "target", "state_shown"),
        *("attempts", "last", "next_attempt_at"),
    )
    list_filter = ("state", since("created_at"), DeliveryKindFilter, WayFilter)
    list_select_related = ("tenant", "notice", "endpoint")
    search_fields = ("=uid", "=address", "endpoint__url", "tenant__name")
    tenant_path = "tenant"
    ordering = ("-pk",)
    fields = (
        *("uid", "tenant", "notice", "target", "state_shown", "created_at", "delivered_at"),
        *("attempts", "last_attempt_at", "last", "next_attempt_at"),
    )
    readonly_fields = fields
    inlines = (AttemptInline,)
    actions = ("replay",)
    actions_detail = ("replay_this",)

    @display(description="kind")
    def kind(self, delivery: Delivery) -> str:
        return delivery.notice.kind

    @display(
        description="state",
        label={
            "delivered": "success",
            "pending": "info",
            "failed": "danger",
            "abandoned": "warning",
        },
    )
    def state_shown(self, delivery: Delivery) -> str:
        return delivery.state

    @display(description="last outcome")
    def last(self, delivery: Delivery) -> str:
        told = delivery.last_error or str(delivery.last_status or "")
        took = "" if delivery.last_latency_ms is None else f"in {delivery.last_latency_ms:,} ms"
        return f"{told} {took}".strip() or "-"

    def has_replay_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A delivery's row is changed by nobody; to send it again is to change what is told."""
        return bool(request.user.has_perm("tenants.change_delivery"))

    @admin.action(description="Replay: send again, with the same id", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        self._do(request, queryset, services.replay, "will be sent again now")

    @action(description="Replay", url_path="replay", permissions=["replay"])
    def replay_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        says = "It is sent again, with the same id: a receiver that keeps ids drops what it has."
        return self._confirm(request, self._one(request, object_id), "replay", says)


@admin.register(Notice)
class NoticeAdmin(ReadOnly, LongListAdmin):
    """What tenants were told."""

    list_display = ("created_at", "tenant", "kind", "dedupe")
    list_filter = (since("created_at"), KindFilter)
    list_select_related = ("tenant",)
    search_fields = ("=uid", "=dedupe", "tenant__name")
    tenant_path = "tenant"
    ordering = ("-pk",)
