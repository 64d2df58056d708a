"""The operators' pages for what tenants may use: to be looked at. Billing writes these rows from
plans, add-ons and own terms, and would write over what is changed here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from tenants.admission.principal import THRESHOLDS
from tenants.long_lists import LongListAdmin, since
from tenants.models import Allowance, QuotaOverride, QuotaWarning
from tenants.notices.admin import ReadOnly

_BANDS = tuple(zip((1, *THRESHOLDS), (*THRESHOLDS, None), strict=True))


class InForceFilter(admin.SimpleListFilter):
    """Whether it counts now."""

    title, parameter_name = "in force", "in_force"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "now"), ("past", "over"), ("later", "to come")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        match self.value():
            case "now":
                return queryset.filter(starts_at__lte=now, ends_at__gt=now)
            case "past":
                return queryset.filter(ends_at__lte=now)
            case "later":
                return queryset.filter(starts_at__gt=now)
        return queryset


class MetricFilter(admin.SimpleListFilter):
    """Of what. Not by what the table holds: that would be read whole for each page."""

    title, parameter_name = "metric", "metric"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in ("messages", "bytes", "requests")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(metric=self.value()) if self.value() else queryset


class ThresholdFilter(admin.SimpleListFilter):
    """How far it had come, from one of the usual percentages to the next: tenants choose any."""

    title, parameter_name = "percent", "percent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            (str(low), f"{low} % and more" if high is None else f"{low} to {high - 1} %")
            for low, high in _BANDS
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        for low, high in _BANDS:
            if self.value() == str(low):
                chosen = queryset.filter(threshold__gte=low)
                return chosen if high is None else chosen.filter(threshold__lt=high)
        return queryset


@admin.register(QuotaOverride)
class QuotaOverrideAdmin(ReadOnly, LongListAdmin):
    """Limits that a tenant has in place of its plan's."""

    list_display = (
        *("tenant", "max_connections", "max_subscriptions", "max_coins", "max_users"),
        *("rate", "retention_hours", "updated_at"),
    )
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "tenant__slug")
    tenant_path = "tenant"

    @display(description="weight a second")
    def rate(self, row: QuotaOverride) -> str:
        return f"{row.requests_per_s:,}, burst {row.burst:,}" if row.requests_per_s else "no limit"


@admin.register(Allowance)
class AllowanceAdmin(ReadOnly, LongListAdmin):
    """How much a tenant may use of something in a time; a tenant's own page shows how much of it is
    used."""

    list_display = (
        *("tenant", "code", "metric", "units_shown", "kind", "starts_at", "ends_at"),
        "channels_shown",
    )
    list_filter = (InForceFilter, "is_hard", MetricFilter)
    list_select_related = ("tenant",)
    search_fields = ("=code", "tenant__name")
    tenant_path = "tenant"
    ordering = ("-pk",)

    @display(description="units", ordering="units")
    def units_shown(self, row: Allowance) -> str:
        return f"{row.units:,}"

    @display(description="beyond it", label={"refused": "danger", "told": "info"})
    def kind(self, row: Allowance) -> str:
        return "refused" if row.is_hard else "told"

    @display(description="of channels")
    def channels_shown(self, row: Allowance) -> str:
        return ", ".join(row.channels) or "all others"


@admin.register(QuotaWarning)
class QuotaWarningAdmin(ReadOnly, LongListAdmin):
    """Whom we told that an allowance goes to its end, and when."""

    list_display = ("at", "tenant", "code", "percent", "used_shown", "limit_shown", "resets_at")
    list_filter = (since("at"), ThresholdFilter)
    list_select_related = ("tenant",)
    search_fields = ("=code", "tenant__name")
    tenant_path = "tenant"
    ordering = ("-pk",)

    @display(description="percent", ordering="threshold")
    def percent(self, row: QuotaWarning) -> str:
        return f"{row.threshold} %"

    @display(description="used")
    def used_shown(self, row: QuotaWarning) -> str:
        return f"{row.used:,}"

    @display(description="limit")
    def limit_shown(self, row: QuotaWarning) -> str:
        return f"{row.limit:,}"
