"""The operators' pages for usage. Everything here is to be looked at; nothing can be changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from billing.catalogue import admin as catalogue_admin
from billing.invoicing import admin as invoice_admin
from billing.invoicing import money_admin
from billing.models import (
    CoinHour,
    CoinRollup,
    DailyRollup,
    LedgerEntry,
    LedgerSeal,
    MonthlyRollup,
    QuarantinedBatch,
    Rollup,
    UsageBatch,
    UsageRollup,
)
from billing.payments import admin as payments_admin
from billing.read_only import ReadOnlyAdmin
from tenants.models import APIKey

__all__ = ["ReadOnlyAdmin", "catalogue_admin", "invoice_admin", "money_admin", "payments_admin"]


class OfKeyAdmin(ReadOnlyAdmin):
    """Rows of a key that may be in no table: usage is kept all the same."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("key")

    @display(description="key", ordering="key_id")
    def key_shown(self, row: Rollup | LedgerEntry | CoinRollup | CoinHour) -> str:
        try:
            return f"{row.key.prefix}…"
        except APIKey.DoesNotExist:
            return f"unknown ({row.key_id})"

    @display(description="units", ordering="units")
    def units_shown(self, row: Rollup | LedgerEntry) -> str:
        return f"{row.units:,}"


class RollupAdmin(OfKeyAdmin):
    """Usage by period, with the totals of what the filters let through."""

    list_filter = ("metric", "channel", "tenant")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "tenant__slug")
    list_before_template = "admin/billing/usagerollup/totals.html"

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        columns = ("tenant", "key_shown", "metric", "channel", "zero_rated", "units_shown")
        return (str(self.date_hierarchy), *columns)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        changelist = getattr(response, "context_data", {}).get("cl")
        if changelist is not None:
            sums = changelist.queryset.order_by().values_list("metric").annotate(total=Sum("units"))
            totals = [(metric, f"{total:,}") for metric, total in sorted(sums)]
            response.context_data["totals"] = totals
        return response


@admin.register(UsageRollup)
class UsageRollupAdmin(RollupAdmin):
    date_hierarchy = "hour"


@admin.register(DailyRollup)
class DailyRollupAdmin(RollupAdmin):
    date_hierarchy = "day"


@admin.register(MonthlyRollup)
class MonthlyRollupAdmin(RollupAdmin):
    date_hierarchy = "month"


@admin.register(CoinRollup)
class CoinRollupAdmin(OfKeyAdmin):
    """Messages and bytes by coin and day."""

    list_display = (
        *("day", "tenant", "key_shown", "channel", "coin_shown", "zero_rated"),
        *("messages", "bytes"),
    )
    list_filter = ("channel", "zero_rated", "tenant")
    list_select_related = ("tenant",)
    date_hierarchy = "day"
    search_fields = ("coin",)
    show_full_result_count = False

    @display(description="coin", ordering="coin")
    def coin_shown(self, row: CoinRollup) -> str:
        return row.coin or "(of no one coin)"


@admin.register(CoinHour)
class CoinHourAdmin(OfKeyAdmin):
    """In how many minutes of an hour a coin was followed."""

    list_display = ("hour", "key_shown", "coin", "count")
    date_hierarchy = "hour"
    search_fields = ("coin",)
    show_full_result_count = False


@admin.register(LedgerEntry)
class LedgerEntryAdmin(OfKeyAdmin):
    """What each batch was posted as."""

    list_display = (
        *("account", "position", "hour", "key_shown", "metric", "channel"),
        *("zero_rated", "units_shown", "batch"),
    )
    list_filter = ("metric", ("account", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("account", "batch")
    date_hierarchy = "hour"
    show_full_result_count = False


@admin.register(LedgerSeal)
class LedgerSealAdmin(ReadOnlyAdmin):
    """The hash chain of each account."""

    list_display = ("account", "number", "hour", "first_position", "last_position", "sha256")
    list_filter = (("account", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("account",)
    date_hierarchy = "hour"
    search_fields = ("sha256",)
    show_full_result_count = False


@admin.register(UsageBatch)
class UsageBatchAdmin(ReadOnlyAdmin):
    """The batches the sums were made of."""

    list_display = (
        *("worker", "flush_seq", "region", "hour", "received_at"),
        *("line_count", "message_total"),
    )
    list_filter = ("region",)
    date_hierarchy = "received_at"
    search_fields = ("worker",)
    show_full_result_count = False


@admin.register(QuarantinedBatch)
class QuarantinedBatchAdmin(ReadOnlyAdmin):
    """What could not be read. A row here means usage that is on nobody's bill yet."""

    list_display = ("received_at", "worker", "flush_seq", "reason")
    date_hierarchy = "received_at"
