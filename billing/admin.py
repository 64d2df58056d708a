"""The operators' pages for usage. Everything here is to be looked at; nothing can be changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from billing.catalogue import admin as catalogue_admin
from billing.invoicing import admin as invoice_admin
from billing.invoicing import money_admin
from billing.metering.rollup import month_of
from billing.models import (
    Account,
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
from tenants.long_lists import COUNTED, LongListAdmin, since
from tenants.models import APIKey

__all__ = ["ReadOnlyAdmin", "catalogue_admin", "invoice_admin", "money_admin", "payments_admin"]


def owner_of(account: Account) -> str:
    """Whose account it is."""
    return account.tenant.name if account.tenant else "nobody: unknown keys"


class ChannelFilter(admin.SimpleListFilter):
    """On what. By the sums of this month and the last, which name every channel that is used."""

    title, parameter_name = "channel", "channel"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        month = month_of(month_of(timezone.now().date()) - timedelta(days=1))
        used = MonthlyRollup.objects.filter(month__gte=month).order_by().values("channel")
        names = sorted(row["channel"] for row in used.distinct())
        return [(name, name or "(none)") for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(channel=self.value())


class OfKeyAdmin(ReadOnlyAdmin, LongListAdmin):
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

    list_select_related = ("tenant",)
    search_fields = ("tenant__name",)
    tenant_path = "tenant"
    list_filter_submit = True
    #: The column of the period.
    column = ""
    list_before_template = "admin/billing/usagerollup/totals.html"

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        columns = ("tenant", "key_shown", "metric", "channel", "zero_rated", "units_shown")
        return (self.column, *columns)

    def get_list_filter(self, request: HttpRequest) -> Any:
        return (since(self.column), "metric", ChannelFilter, ("tenant", AutocompleteSelectFilter))

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        # The unique index, backwards and whole: with a direction of its own for each column, or one
        # of them left out, all rows would be sorted for each page.
        names = (self.column, "key_id", "account", "metric", "channel", "zero_rated")
        return tuple(f"-{name}" for name in names)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        changelist = getattr(response, "context_data", {}).get("cl")
        if changelist is None:
            return response
        response.context_data["is_narrow"] = is_narrow = changelist.result_count < COUNTED
        if is_narrow:
            sums = changelist.queryset.order_by().values_list("metric").annotate(total=Sum("units"))
            totals = [(metric, f"{total:,}") for metric, total in sorted(sums)]
            response.context_data["totals"] = totals
        return response


@admin.register(UsageRollup)
class UsageRollupAdmin(RollupAdmin):
    column = "hour"


@admin.register(DailyRollup)
class DailyRollupAdmin(RollupAdmin):
    column = "day"


@admin.register(MonthlyRollup)
class MonthlyRollupAdmin(RollupAdmin):
    column = "month"


@admin.register(CoinRollup)
class CoinRollupAdmin(OfKeyAdmin):
    """Messages and bytes by coin and day."""

    list_display = (
        *("day", "tenant", "key_shown", "channel", "coin_shown", "zero_rated"),
        *("messages", "bytes"),
    )
    list_filter = (since("day"), ChannelFilter, ("tenant", AutocompleteSelectFilter))
    list_filter_submit = True
    list_select_related = ("tenant",)
    search_fields = ("=coin", "tenant__name")
    tenant_path = "tenant"
    ordering = ("-pk",)

    @display(description="coin", ordering="coin")
    def coin_shown(self, row: CoinRollup) -> str:
        return row.coin or "(of no one coin)"


@admin.register(CoinHour)
class CoinHourAdmin(OfKeyAdmin):
    """In how many minutes of an hour a coin was followed."""

    list_display = ("hour", "key_shown", "coin", "count")
    list_filter = (since("hour"),)
    search_fields = ("=coin",)
    ordering = ("-pk",)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(OfKeyAdmin):
    """What each batch was posted as."""

    list_display = (
        *("tenant", "account", "position", "hour", "key_shown", "metric", "channel"),
        *("zero_rated", "units_shown", "batch"),
    )
    list_filter = (since("hour"), "metric", ("account__tenant", AutocompleteSelectFilter))
    list_filter_submit = True
    # Not by a join: MariaDB begins with the accounts, and sorts 14 million entries for 100 of them.
    list_select_related = ()
    search_fields = ("account__tenant__name",)
    tenant_path = "account__tenant"
    ordering = ("-pk",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        entries: QuerySet[LedgerEntry] = super().get_queryset(request)
        return entries.prefetch_related("account__tenant", "batch")

    @display(description="tenant")
    def tenant(self, row: LedgerEntry) -> str:
        return owner_of(row.account)


@admin.register(LedgerSeal)
class LedgerSealAdmin(ReadOnlyAdmin, LongListAdmin):
    """The hash chain of each account."""

    list_display = (
        "tenant",
        "account",
        "number",
        "hour",
        "first_position",
        "last_position",
        "sha256",
    )
    list_filter = (since("hour"), ("account__tenant", AutocompleteSelectFilter))
    list_filter_submit = True
    list_select_related = ("account__tenant",)
    search_fields = ("=sha256", "account__tenant__name")
    tenant_path = "account__tenant"
    ordering = ("-pk",)

    @display(description="tenant")
    def tenant(self, row: LedgerSeal) -> str:
        return owner_of(row.account)


@admin.register(UsageBatch)
class UsageBatchAdmin(ReadOnlyAdmin, LongListAdmin):
    """The batches the sums were made of."""

    list_display = (
        *("worker", "flush_seq", "region", "hour", "received_at"),
        *("line_count", "message_total"),
    )
    list_filter = (since("received_at"),)
    search_fields = ("=worker",)
    ordering = ("-received_at", "-pk")


@admin.register(QuarantinedBatch)
class QuarantinedBatchAdmin(ReadOnlyAdmin, LongListAdmin):
    """What could not be read. A row here means usage that is on nobody's bill yet."""

    list_display = ("received_at", "worker", "flush_seq", "reason")
    list_filter = (since("received_at"),)
    search_fields = ("=worker",)
    ordering = ("-pk",)
