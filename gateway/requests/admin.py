"""The operators' list of failed requests: to be read, never written."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from redis.exceptions import RedisError
from unfold.decorators import display

from gateway.requests import dropped
from gateway.requests.models import RequestRecord
from tenants.long_lists import LongListAdmin, since

#: Of the newest rows: a facet over a week of a flood would be most of the page's time.
FACETED = 10_000
MAX_VALUES = 30


class FacetFilter(admin.SimpleListFilter):
    """Values of one column with their counts, of the newest rows, whatever else is chosen."""

    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = RequestRecord.objects.order_by("-at").values_list(self.column, flat=True)
        counts: dict[Any, int] = {}
        for value in newest[:FACETED]:
            counts[value] = counts.get(value, 0) + 1
        often = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[:MAX_VALUES]
        return [(str(value), f"{value or '(none)'} ({count:,})") for value, count in often]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value is None:
            return queryset
        if self.column == "status" and not value.isdigit():
            return queryset.none()
        return queryset.filter(**{self.column: value})


def facet(of: str) -> type[FacetFilter]:
    """The filter of one column."""
    return type("FacetFilter", (FacetFilter,), {"column": of, "title": of, "parameter_name": of})


@admin.register(RequestRecord)
class RequestRecordAdmin(LongListAdmin):
    """Newest first; searched by tenant, request id or key prefix."""

    list_display = (
        "moment", "tenant", "key_prefix", "door", "kind", "status_shown", "code", "upstream",
        "total", "request_id",
    )  # fmt: skip
    list_select_related = ("tenant",)
    list_filter = (since("at"), facet("door"), facet("status"), facet("code"), facet("kind"))
    search_fields = ("=request_id", "=key_prefix")
    tenant_path = "tenant"
    list_before_template = "admin/requests/requestrecord/dropped.html"
    show_facets = admin.ShowFacets.NEVER  # Django's own count the whole table, once for each value

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With a line on what is not in the list."""
        context = dict(extra_context or {})
        with suppress(RedisError, OSError):  # the list is worth more than the line
            if counts := dropped.lately():
                context["dropped"] = {
                    "total": f"{counts.total():,}",
                    "flood": f"{counts['flood']:,}",
                    "full": f"{counts['full']:,}",
                    "days": dropped.DAYS,
                }
        return super().changelist_view(request, context)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @display(description="at (UTC)", ordering="at")
    def moment(self, record: RequestRecord) -> str:
        return f"{record.at:%Y-%m-%d %H:%M:%S}.{record.at.microsecond // 1000:03d}"

    @display(
        description="status",
        ordering="status",
        label={"ok": "success", "refused": "warning", "failed": "danger"},
    )
    def status_shown(self, record: RequestRecord) -> tuple[str, str]:
        kind = "failed" if record.status >= 500 else "refused" if record.status >= 400 else "ok"
        return kind, str(record.status)

    @display(description="upstream, ms", ordering="upstream_ms")
    def upstream(self, record: RequestRecord) -> str:
        return "–" if record.upstream_ms is None else f"{record.upstream_ms:,.1f}"

    @display(description="total, ms", ordering="total_ms")
    def total(self, record: RequestRecord) -> str:
        return f"{record.total_ms:,.1f}"
