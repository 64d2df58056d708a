"""`/v1/usage`, `/v1/receipts`, `/v1/exports`: what was used, and proof of it."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.exports.catalogue import EXPORTS, UnknownExport, export_for_tenant, file_name
from gateway.account import receipts, usage
from gateway.account.errors import BadValue, NotFound
from gateway.account.usage import METRICS, PRODUCTS, UsageQuery
from gateway.api.endpoint import Endpoint, PageQuery, Strict, file, page_of, paged

CSV = "text/csv; charset=utf-8"
MAX_KEYS = 100


class UsageRow(serializers.Serializer[Any]):
    """Units of one metric."""

    at = serializers.DateTimeField(help_text="When its hour or day begins.")
    key_id = serializers.IntegerField()
    key_prefix = serializers.CharField(allow_blank=True)
    key_name = serializers.CharField(allow_blank=True)
    product = serializers.CharField()
    channel = serializers.CharField()
    coin = serializers.CharField(allow_blank=True)
    zero_rated = serializers.CharField(allow_blank=True, help_text="Why it is free of charge.")
    metric = serializers.CharField()
    units = serializers.IntegerField()


class RangeQuery(Strict):
    """Of when, and what of it."""

    start = serializers.DateTimeField(
        required=False, help_text="By default 30 days before `end` (2 by the hour)."
    )
    end = serializers.DateTimeField(required=False, help_text="By default now.")
    step = serializers.ChoiceField(choices=["hour", "day"], required=False, default="day")
    by_coin = serializers.BooleanField(
        required=False, default=False, help_text="Messages and bytes of a day, by coin."
    )
    key = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        default=list,
        max_length=MAX_KEYS,
    )
    channel = serializers.ListField(
        child=serializers.CharField(max_length=32), required=False, default=list, max_length=50
    )
    product = serializers.ChoiceField(choices=PRODUCTS, required=False, default="")
    metric = serializers.ChoiceField(choices=METRICS, required=False, default="")
    coin = serializers.CharField(required=False, default="", max_length=16)
    free = serializers.BooleanField(
        required=False, allow_null=True, default=None, help_text="Only what is free, or is not."
    )


class UsagePageQuery(RangeQuery, PageQuery):
    """A page of that."""


class Total(serializers.Serializer[Any]):
    """A sum."""

    metric = serializers.CharField()
    zero_rated = serializers.CharField(allow_blank=True)
    units = serializers.IntegerField()


class Totals(serializers.Serializer[Any]):
    """Sums of a range, and what reasons mean."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    rows = Total(many=True)
    reasons = serializers.DictField(child=serializers.CharField())


class Usage(Endpoint):
    """Usage in rows."""

    queries = {"GET": UsagePageQuery}

    @extend_schema(operation_id="list_usage", responses=page_of(UsageRow))
    def get(self, request: Any) -> Response:
        """By key, product, channel (coin) and hour or day, the newest first; what was free with its
        reason."""
        place = {name: self.asked[name] for name in ("cursor", "limit")}
        return paged(usage.usage_page(self.tenant, _query(self.asked), **place), UsageRow)


class UsageTotals(Endpoint):
    """Usage in sums."""

    queries = {"GET": RangeQuery}

    @extend_schema(operation_id="get_usage_totals", responses=Totals)
    def get(self, request: Any) -> Response:
        """Sums of a range, by metric and reason."""
        query = _query(self.asked).checked()
        rows = usage.usage_totals(self.tenant, query)
        reasons = {
            row.zero_rated: usage.REASONS.get(row.zero_rated, "") for row in rows if row.zero_rated
        }
        found = {"start": query.start, "end": query.end, "rows": rows, "reasons": reasons}
        return Response(Totals(found).data)


class UsageCsv(Endpoint):
    """Usage as a file."""

    queries = {"GET": RangeQuery}

    @extend_schema(
        operation_id="download_usage", responses={(200, "text/csv"): OpenApiTypes.BINARY}
    )
    def get(self, request: Any) -> Any:
        """The same rows as CSV, the oldest first."""
        query = _query(self.asked).checked()
        name = f"usage-{query.start:%Y%m%d}-{query.end:%Y%m%d}.csv"
        return file(request, usage.usage_csv(self.tenant, query), name=name, content_type=CSV)


class Head(serializers.Serializer[Any]):
    """The end of your chain of receipts."""

    number = serializers.IntegerField(help_text="0 before the first seal.")
    sealed_until = serializers.DateTimeField(allow_null=True)
    sha256 = serializers.CharField(allow_blank=True)
    months = serializers.ListField(child=serializers.CharField())


class Receipts(Endpoint):
    """Where the chain ends."""

    @extend_schema(operation_id="get_receipts", responses=Head)
    def get(self, request: Any) -> Response:
        """The newest seal of your chain, and of which months there are receipts."""
        head = receipts.chain_head(self.tenant)
        none: dict[str, Any] = {"number": 0, "sealed_until": None, "sha256": "", "months": []}
        return Response(Head(head or none).data)


class ReceiptFile(Endpoint):
    """Receipts of a month."""

    @extend_schema(
        operation_id="download_receipts",
        parameters=[
            OpenApiParameter(
                "month", str, OpenApiParameter.PATH, pattern="^2[0-9]{3}-(0[1-9]|1[0-2])$"
            )
        ],
        responses={(200, "application/x-ndjson"): OpenApiTypes.BINARY},
    )
    def get(self, request: Any, month: str) -> Any:
        """What you used in a month, a JSON line for each entry and seal: docs/receipts.md says how
        to check it without us."""
        lines = receipts.receipt_file(self.tenant, month)
        kind = "application/x-ndjson"
        return file(request, lines, name=f"receipts-{month}.jsonl", content_type=kind)


class ExportQuery(Strict):
    """Of when."""

    period = serializers.RegexField(
        r"^[0-9]{4}(-[0-9]{2})?$", required=False, help_text="2026-11, or 2026; by default now."
    )


#: What a customer may have.
EXPORT_NAMES = tuple(name for name, one in EXPORTS.items() if one.is_for_tenants)


class Export(Endpoint):
    """A table as a file."""

    queries = {"GET": ExportQuery}

    @extend_schema(
        operation_id="download_export",
        responses={(200, "text/csv"): OpenApiTypes.BINARY},
        parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH, enum=EXPORT_NAMES)],
    )
    def get(self, request: Any, name: str) -> Any:
        """Your rows of a month or year: invoices, lines, credit_notes, credit_note_lines, payments,
        allocations, usage, taxes, tax_summary."""
        period = self.asked.get("period") or f"{timezone.now():%Y-%m}"
        try:
            blocks = export_for_tenant(self.tenant, name, period)
        except UnknownExport as unknown:
            raise NotFound(f"{unknown}.") from None
        except ValueError as error:
            raise BadValue(f"period: {error}.") from None
        return file(request, blocks, name=file_name(name, period), content_type=CSV)


def _query(asked: dict[str, Any]) -> UsageQuery:
    end = asked.get("end") or timezone.now()
    days = 2 if asked["step"] == "hour" else 30
    return UsageQuery(
        start=asked.get("start") or usage.before(end, days=days),
        end=end,
        step=asked["step"],
        by_coin=asked["by_coin"],
        key_ids=tuple(asked["key"]),
        channels=tuple(asked["channel"]),
        product=asked["product"],
        metric=asked["metric"],
        coin=asked["coin"],
        is_free=asked["free"],
    )
