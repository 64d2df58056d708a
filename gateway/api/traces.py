"""`/v1/traces`: orders on their way, and how long each step took."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from gateway.account import traces
from gateway.api.endpoint import Endpoint, PageQuery, page_of, paged
from gateway.exchange.trace_selectors import moment


class TraceRow(serializers.Serializer[Any]):
    """One order, cancel or other action. Times are when it came, left, was answered, was in a
    block, was filled; null is not known, and `missing` says why."""

    id = serializers.CharField(source="trace.id")
    request_id = serializers.CharField(source="trace.request_id")
    key_id = serializers.IntegerField(source="trace.key_id")
    key_prefix = serializers.CharField(source="trace.key_prefix")
    kind = serializers.CharField(source="trace.kind")
    coin = serializers.CharField(source="trace.coin", allow_blank=True)
    oid = serializers.IntegerField(source="trace.oid", allow_null=True)
    cloid = serializers.CharField(source="trace.cloid", allow_blank=True)
    outcome = serializers.ChoiceField(
        source="trace.outcome", choices=["answered", "refused", "not_sent", "unknown"]
    )
    status = serializers.CharField(source="trace.status", allow_blank=True)
    text = serializers.CharField(source="trace.text", allow_blank=True)
    last_status = serializers.CharField(source="trace.last_status", allow_blank=True)
    received_at = serializers.SerializerMethodField()
    sent_at = serializers.SerializerMethodField()
    acked_at = serializers.SerializerMethodField()
    block_at = serializers.SerializerMethodField()
    fill_at = serializers.SerializerMethodField()
    height = serializers.IntegerField(source="trace.height", allow_null=True)
    fill_height = serializers.IntegerField(source="trace.fill_height", allow_null=True)
    fills = serializers.IntegerField(source="trace.fills")
    warnings = serializers.ListField(source="trace.warnings", child=serializers.CharField())
    missing = serializers.CharField(allow_blank=True)

    def get_received_at(self, shown: Any) -> datetime | None:
        """By the relay's clock."""
        return moment(shown.trace.received_ms)

    def get_sent_at(self, shown: Any) -> datetime | None:
        """By the relay's clock."""
        return moment(shown.trace.sent_ms)

    def get_acked_at(self, shown: Any) -> datetime | None:
        """By the relay's clock."""
        return moment(shown.trace.acked_ms)

    def get_block_at(self, shown: Any) -> datetime | None:
        """By the exchange's clock."""
        return moment(shown.trace.block_ms)

    def get_fill_at(self, shown: Any) -> datetime | None:
        """By the exchange's clock."""
        return moment(shown.trace.fill_ms)


class Step(serializers.Serializer[Any]):
    """How long it took, to a tenth too much; null where it never was."""

    step = serializers.ChoiceField(choices=["sent", "acked", "block", "fill"])
    counted = serializers.IntegerField()
    p50_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)


class Warned(serializers.Serializer[Any]):
    """How often answers to a key carried a warning."""

    key_id = serializers.IntegerField()
    code = serializers.CharField()
    count = serializers.IntegerField()


class Latency(serializers.Serializer[Any]):
    """Of the last 24 hours."""

    steps = Step(many=True)
    warnings = Warned(many=True)


class TraceQuery(PageQuery):
    """Which orders."""

    since = serializers.DateTimeField(
        required=False, default=None, help_text="By default 24 hours ago, which is all there is."
    )
    key = serializers.IntegerField(required=False, default=None, min_value=1, max_value=2**63 - 1)
    coin = serializers.CharField(required=False, default="", max_length=48)
    oid = serializers.IntegerField(required=False, default=None, min_value=0, max_value=2**63 - 1)


class Traces(Endpoint):
    """Traces."""

    queries = {"GET": TraceQuery}

    @extend_schema(operation_id="list_traces", responses=page_of(TraceRow))
    def get(self, request: Any) -> Response:
        """Orders of the last 24 hours, the newest first. A page may be short and still have a next
        one."""
        key_id = self.asked.pop("key")
        return paged(traces.trace_page(self.tenant, key_id=key_id, **self.asked), TraceRow)


class TraceLatency(Endpoint):
    """How long steps took."""

    @extend_schema(operation_id="get_trace_latency", responses=Latency)
    def get(self, request: Any) -> Response:
        """p50 and p99 of each step within 24 hours, and what was warned of."""
        found = traces.latency(self.tenant)
        steps = [{"step": name, **step._asdict()} for name, step in found.steps.items()]
        warnings = [
            {"key_id": key_id, "code": code, "count": count}
            for key_id, codes in found.warnings.items()
            for code, count in codes.items()
        ]
        return Response(Latency({"steps": steps, "warnings": warnings}).data)
