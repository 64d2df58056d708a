"""The operators' pages for the data plane: upstreams with their live state, gaps, open sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from streaming.core.envelope import LAST_INDEX, Position
from streaming.core.without_secrets import entries_without_secrets, without_secrets
from streaming.nodes import live, probe, selectors, services, shown
from streaming.nodes.models import GapRecord, OpenSession, UpstreamNode
from streaming.nodes.selectors import LiveSource

#: What is new from the exchange.
NEWS_SHOWN = 20
WORST = ("not connected", "disagreeing", "stalled")
#: Rows of open sessions on one page; the filters find the others.
SESSIONS_SHOWN = 500


@admin.register(UpstreamNode)
class UpstreamNodeAdmin(ModelAdmin):
    """Upstreams, and how each does as the workers see it."""

    list_display = (
        "address_shown", "kind_shown", "chain", "region", "weight", "state", "height", "lag",
        "heard", "throughput", "errors",
    )  # fmt: skip
    list_filter = ("kind", "is_enabled", "is_draining", "chain")
    search_fields = ("address", "region")
    actions = ("test_connection",)
    actions_detail = ("test_this_connection",)
    list_before_template = "admin/nodes/upstreamnode/live.html"
    readonly_fields = ("live_state",)
    fieldsets = (
        (None, {"fields": ("kind", "address", "info_url", "evm_url", "exchange_url", "chain")}),
        ("TLS of a gateway", {"fields": ("tls_ca", "tls_cert", "tls_key")}),
        ("Use", {"fields": ("is_enabled", "is_draining", "weight", "region")}),
        ("Now, as the workers see it", {"fields": ("live_state",)}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return not selectors.are_upstreams_fixed() and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return not selectors.are_upstreams_fixed() and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return not selectors.are_upstreams_fixed() and super().has_delete_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[UpstreamNode]:
        queryset = super().get_queryset(request)
        # Read once for the page, not once for each of its cells.
        self._live = _live_by_address()
        return queryset

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {
            "fixed": entries_without_secrets(settings.RELAY_UPSTREAMS)
            if selectors.are_upstreams_fixed()
            else ""
        }
        try:
            context["sources"] = [shown.source(source) for source in selectors.live_sources()]
            alerts = selectors.schema_alerts()
            context["news"] = [shown.alert(alert) for alert in alerts[:NEWS_SHOWN]]
            context["more_news"] = max(0, len(alerts) - NEWS_SHOWN)
        except live.Unreachable as error:
            context["unreachable"] = str(error)
        return super().changelist_view(request, {**(extra_context or {}), **context})

    @display(description="kind", ordering="kind")
    def kind_shown(self, node: UpstreamNode) -> str:
        return node.kind

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Who may only look does not see what may be a key in an address."""
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        shown = {
            "address": "address_shown",
            "info_url": "info_url_shown",
            "evm_url": "evm_url_shown",
            "exchange_url": "exchange_url_shown",
        }
        return tuple(
            (title, {"fields": tuple(shown.get(name, name) for name in options["fields"])})
            for title, options in self.fieldsets
        )

    @display(description="address", ordering="address")
    def address_shown(self, node: UpstreamNode) -> str:
        return node.shown_address

    @display(description="info URL")
    def info_url_shown(self, node: UpstreamNode) -> str:
        return without_secrets(node.info_url)

    @display(description="EVM URL")
    def evm_url_shown(self, node: UpstreamNode) -> str:
        return without_secrets(node.evm_url)

    @display(description="exchange URL")
    def exchange_url_shown(self, node: UpstreamNode) -> str:
        return without_secrets(node.exchange_url)

    # --- live cells ---

    @display(
        description="state",
        label={
            "up": "success", "lagging": "warning", "draining": "warning", "no books yet": "warning",
            "stalled": "danger", "disagreeing": "danger", "not connected": "danger",
            "still read": "warning", "no names yet": "warning",
        },
    )  # fmt: skip
    def state(self, node: UpstreamNode) -> str:
        sources = self._sources(node)
        if not node.is_enabled or node.is_draining:
            # For the seconds that a worker needs to see the row, or for as long as it cannot.
            given_up = "draining" if node.is_enabled else "disabled"
            return "still read" if sources else given_up
        if not sources:
            return "not read"
        return _worst([source.state for source in sources])

    @display(description="height")
    def height(self, node: UpstreamNode) -> str:
        return shown.number(max((s.height or 0 for s in self._sources(node)), default=0) or None)

    @display(description="lag, blocks")
    def lag(self, node: UpstreamNode) -> str:
        lags = [s.lag for s in self._sources(node) if s.lag is not None]
        return shown.number(max(lags)) if lags else shown.NOTHING

    @display(description="last message")
    def heard(self, node: UpstreamNode) -> str:
        ages = [s.silent_s for s in self._sources(node) if s.silent_s is not None]
        return shown.age(min(ages)) if ages else shown.NOTHING

    @display(description="bytes/s")
    def throughput(self, node: UpstreamNode) -> str:
        rates = [s.bytes_per_s for s in self._sources(node) if s.bytes_per_s is not None]
        return shown.size(max(rates)) if rates else shown.NOTHING

    @display(description="errors")
    def errors(self, node: UpstreamNode) -> str:
        sources = self._sources(node)
        return shown.number(max(s.error_total for s in sources)) if sources else shown.NOTHING

    @display(description="")
    def live_state(self, node: UpstreamNode) -> SafeString | str:
        sources = self._sources(node)
        if not sources:
            return "No worker reads it now."
        rows = [
            (
                s.worker, s.name, ", ".join(s.marks) or s.state, shown.facts(s),
                shown.faults(s.errors), _lines([*([s.error] if s.error else []), *s.notes]),
            )
            for s in sources
        ]  # fmt: skip
        return format_html_join(
            "", '<div class="mb-2"><b>worker {}, {}: {}</b><br>{}<br>{}{}</div>', rows
        )

    def _sources(self, node: UpstreamNode) -> list[LiveSource]:
        return self._live.get(node.shown_address, []) if hasattr(self, "_live") else []

    # --- test connection ---

    @admin.action(description="Test the connection (3 s at most each)", permissions=["change"])
    def test_connection(self, request: HttpRequest, queryset: QuerySet[UpstreamNode]) -> None:
        for node in queryset:
            self._test(request, node)

    @action(description="Test the connection", url_path="test", permissions=["change"])
    def test_this_connection(self, request: HttpRequest, object_id: int) -> HttpResponse:
        node = self.get_object(request, str(object_id))
        if isinstance(node, UpstreamNode):
            self._test(request, node)
        return HttpResponseRedirect(reverse("admin:nodes_upstreamnode_change", args=[object_id]))

    def _test(self, request: HttpRequest, node: UpstreamNode) -> None:
        finding = probe.probe(node)
        level = messages.SUCCESS if finding.is_good else messages.ERROR
        self.message_user(request, f"{node.shown_address}: {finding.text}", level=level)


def _worst(states: list[str]) -> str:
    """What one worker lacks is shown though another is well; one that is in use is not idle."""
    bad = [state for state in states if state not in ("up", "idle")]
    worst = next((state for state in WORST if state in bad), "")
    return worst or next(iter(bad), "up" if "up" in states else "idle")


def _lines(texts: list[str]) -> SafeString:
    return format_html_join("", "<br>{}", ((text,) for text in texts))


def _live_by_address() -> dict[str, list[LiveSource]]:
    found: dict[str, list[LiveSource]] = {}
    try:
        for source in selectors.live_sources():
            found.setdefault(source.address, []).append(source)
    except live.Unreachable:
        pass  # the panel above the list says so
    return found


class EdgeFilter(admin.SimpleListFilter):
    """Who lacked it."""

    title = "seen by"
    parameter_name = "seen_by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return (("edge", "an edge: its customers"), ("worker", "a worker: everybody"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[GapRecord]) -> Any:
        match self.value():
            case "worker":
                return queryset.filter(edge="")
            case "edge":
                return queryset.exclude(edge="")
        return queryset


@admin.register(GapRecord)
class GapRecordAdmin(ModelAdmin):
    """What customers did not get: to be read, never written."""

    list_display = (
        "detected", "kind", "coin", "missing", "extent", "reason", "source", "seen_by", "state",
    )  # fmt: skip
    fields = (
        "topic", "missing", "extent", "reason", "source", "seen_by", "detected", "filled_at",
    )  # fmt: skip
    readonly_fields = fields
    list_filter = ("kind", EdgeFilter, ("filled_at", admin.EmptyFieldListFilter), "source")
    search_fields = ("topic", "coin", "reason", "edge")
    date_hierarchy = "detected_at"
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @display(description="detected (UTC)", ordering="detected_at")
    def detected(self, gap: GapRecord) -> str:
        return f"{gap.detected_at:%Y-%m-%d %H:%M:%S}"

    @display(description="missing (block, event)")
    def missing(self, gap: GapRecord) -> SafeString:
        return format_html(
            '<span style="white-space: nowrap">after {}<br>up to {}</span>',
            _place(gap.begin),
            _place(gap.end),
        )

    @display(description="blocks")
    def extent(self, gap: GapRecord) -> str:
        if gap.source != "node":
            return shown.NOTHING
        # A gap from the end of one block on begins with the next.
        first = gap.from_height + (gap.from_index >= LAST_INDEX)
        return shown.number(gap.to_height - first + 1)

    @display(description="seen by edge")
    def seen_by(self, gap: GapRecord) -> str:
        return gap.edge or "worker"

    @display(description="state", label={"open": "danger", "filled": "success"})
    def state(self, gap: GapRecord) -> str:
        return "open" if gap.filled_at is None else "filled"


def _place(position: Position) -> str:
    if position.index >= LAST_INDEX:
        return f"{position.height:,}, its end"
    return f"{position.height:,}, {position.index}"


@admin.register(OpenSession)
class OpenSessionAdmin(ModelAdmin):
    """Every open session of every process, with a button that ends one."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("", view(never_cache(self.list_view)), name="nodes_opensession_changelist"),
            path("disconnect/", view(self.disconnect_view), name="nodes_opensession_disconnect"),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        """The sessions, oldest first, filtered by tenant, key prefix, address or topic."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        tenant, query = request.GET.get("tenant", ""), request.GET.get("q", "").strip()
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": "Open sessions",
            "opts": self.opts,
            "tenant": tenant,
            "query": query,
            "may_disconnect": self.has_change_permission(request),
        }
        try:
            rows = selectors.open_sessions()
        except live.Unreachable as error:
            context |= {"unreachable": str(error), "rows": []}
        else:
            wanted = [r for r in rows if tenant in ("", r.tenant) and shown.matches(r, query)]
            context |= {
                "tenants": sorted({row.tenant for row in rows}),
                "total": len(rows),
                "found": len(wanted),
                "rows": [shown.session(row) for row in wanted[:SESSIONS_SHOWN]],
            }
        return TemplateResponse(request, "admin/nodes/opensession/list.html", context)

    def disconnect_view(self, request: HttpRequest) -> HttpResponse:
        """End one session."""
        return require_POST(self._disconnect)(request)

    def _disconnect(self, request: HttpRequest) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        session_id = request.POST.get("session", "")
        try:
            services.disconnect(session_id, by=str(request.user))
        except services.SessionGone:
            self.message_user(request, "That session has ended already.", messages.WARNING)
        except live.Unreachable as error:
            self.message_user(request, f"Not disconnected: {error}.", messages.ERROR)
        else:
            self.message_user(request, f"Session {session_id}: its edge ends it within a second.")
        return HttpResponseRedirect(reverse("admin:nodes_opensession_changelist"))
