"""`/v1/connections`, `/v1/requests`, `/v1/status`, `/v1/gaps`, `/v1/account`, `/v1/members`: what
goes on, and whose it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from gateway.account import connections, profile, requests, status
from gateway.api.endpoint import Endpoint, PageQuery, Strict, page_of, paged
from tenants.people.roles import Role


class ConnectionRow(serializers.Serializer[Any]):
    """An open socket or stream."""

    id = serializers.CharField()
    door = serializers.CharField(help_text="ws, grpc or evm.")
    dialect = serializers.CharField()
    key_id = serializers.IntegerField()
    key_prefix = serializers.CharField()
    address = serializers.CharField(allow_blank=True)
    opened_at = serializers.SerializerMethodField()
    age_s = serializers.FloatField()
    subscriptions = serializers.ListField(child=serializers.CharField(), help_text="100 at most.")
    subscription_count = serializers.IntegerField()
    queued_frames = serializers.IntegerField(help_text="Wait for you now.")
    queued_bytes = serializers.IntegerField()
    sent = serializers.IntegerField()
    conflated = serializers.IntegerField(help_text="Replaced by something newer.")
    dropped = serializers.IntegerField()
    last_cursor = serializers.CharField(allow_blank=True)

    def get_opened_at(self, connection: connections.Connection) -> datetime:
        """Of its milliseconds."""
        return datetime.fromtimestamp(connection.opened_ms / 1_000, UTC)


class ConnectionList(serializers.Serializer[Any]):
    """Those shown, of how many."""

    rows = ConnectionRow(many=True)
    count = serializers.IntegerField()


class ConnectionQuery(Strict):
    """Which connections."""

    key = serializers.IntegerField(
        required=False, default=None, min_value=1, max_value=2**63 - 1, help_text="Of one key."
    )
    limit = serializers.IntegerField(required=False, default=500, min_value=1, max_value=5_000)


class Connections(Endpoint):
    """What is open."""

    queries = {"GET": ConnectionQuery}

    @extend_schema(operation_id="list_connections", responses=ConnectionList)
    def get(self, request: Any) -> Response:
        """Open sockets and streams, the oldest first; told every 5 s."""
        found = connections.connections(self.tenant, key_id=self.asked["key"])
        shown = found[: self.asked["limit"]]
        return Response(ConnectionList({"rows": shown, "count": len(found)}).data)


class Connection(Endpoint):
    """One of them."""

    @extend_schema(operation_id="get_connection", responses=ConnectionRow)
    def get(self, request: Any, connection_id: str) -> Response:
        """One."""
        found = connections.connection(self.tenant, connection_id)
        return Response(ConnectionRow(found).data)

    @extend_schema(operation_id="disconnect", responses={204: None})
    def delete(self, request: Any, connection_id: str) -> Response:
        """Close it, within a second (1001). A client that reconnects comes back: revoke its key to
        keep it out."""
        connections.disconnect(self.tenant, connection_id, by=self.actor)
        return Response(status=204)


class RequestRow(serializers.Serializer[Any]):
    """A request that was refused or failed."""

    at = serializers.DateTimeField()
    request_id = serializers.CharField()
    key_prefix = serializers.CharField(allow_blank=True)
    door = serializers.CharField()
    method = serializers.CharField()
    kind = serializers.CharField(allow_blank=True)
    status = serializers.IntegerField()
    code = serializers.CharField(allow_blank=True)
    upstream_ms = serializers.FloatField(allow_null=True)
    total_ms = serializers.FloatField()


class FacetQuery(Strict):
    """Of which."""

    since = serializers.DateTimeField(
        required=False, default=None, help_text="By default a day ago."
    )
    door = serializers.CharField(required=False, max_length=12)
    kind = serializers.CharField(required=False, max_length=48)
    status = serializers.IntegerField(required=False, min_value=100, max_value=599)
    code = serializers.CharField(required=False, max_length=48)
    key_prefix = serializers.CharField(required=False, max_length=16)


class RequestQuery(FacetQuery, PageQuery):
    """A page of them."""


class Value(serializers.Serializer[Any]):
    """A value, and how many have it."""

    value = serializers.CharField(allow_blank=True)
    count = serializers.IntegerField()


class Facets(serializers.Serializer[Any]):
    """By column, the most frequent values first."""

    door = Value(many=True)
    kind = Value(many=True)
    status = Value(many=True)
    code = Value(many=True)
    key_prefix = Value(many=True)


class Requests(Endpoint):
    """The error log."""

    queries = {"GET": RequestQuery}

    @extend_schema(operation_id="list_requests", responses=page_of(RequestRow))
    def get(self, request: Any) -> Response:
        """Requests that were refused or failed, the newest first; kept 7 days."""
        return paged(requests.request_page(self.tenant, **self.asked), RequestRow)


class RequestFacets(Endpoint):
    """What there is of each kind."""

    queries = {"GET": FacetQuery}

    @extend_schema(operation_id="get_request_facets", responses=Facets)
    def get(self, request: Any) -> Response:
        """How many of them there are by door, kind, status, code and key."""
        found = requests.facets(self.tenant, **self.asked)
        rows = {
            name: [{"value": str(value), "count": count} for value, count in values]
            for name, values in found.items()
        }
        return Response(Facets(rows).data)


class Request(Endpoint):
    """One of them."""

    @extend_schema(operation_id="get_request", responses=RequestRow)
    def get(self, request: Any, request_id: str) -> Response:
        """By the `X-Request-Id` of its answer."""
        return Response(RequestRow(requests.request(self.tenant, request_id)).data)


class Upstream(serializers.Serializer[Any]):
    """Where data comes from."""

    name = serializers.CharField()
    kind = serializers.CharField(allow_blank=True)
    state = serializers.CharField()
    height = serializers.IntegerField(allow_null=True)
    lag = serializers.IntegerField(allow_null=True, help_text="Blocks behind the best.")
    silent_s = serializers.FloatField(allow_null=True)
    block_age_s = serializers.FloatField(allow_null=True)


class Status(serializers.Serializer[Any]):
    """The relay now."""

    is_fresh = serializers.BooleanField()
    is_known = serializers.BooleanField()
    stale = serializers.CharField(allow_blank=True, help_text="Why it is not fresh.")
    height = serializers.IntegerField(allow_null=True)
    upstreams = Upstream(many=True)
    gaps_of_a_day = serializers.IntegerField()


class RelayStatus(Endpoint):
    """Freshness."""

    @extend_schema(operation_id="get_status", responses=Status)
    def get(self, request: Any) -> Response:
        """How fresh what the relay serves is, by upstream."""
        return Response(Status(status.status()).data)


class GapRow(serializers.Serializer[Any]):
    """Something of a feed that nobody got: everything after `from`, up to and with `to`."""

    channel = serializers.CharField(source="kind")
    coin = serializers.CharField(allow_blank=True)
    from_height = serializers.IntegerField()
    to_height = serializers.IntegerField()
    reason = serializers.CharField()
    detected_at = serializers.DateTimeField()
    filled_at = serializers.DateTimeField(allow_null=True)


class GapQuery(PageQuery):
    """Which gaps."""

    since = serializers.DateTimeField(required=False, default=None, help_text="31 days at most.")
    channel = serializers.CharField(required=False, default="", max_length=40)
    coin = serializers.CharField(required=False, default="", max_length=48)


class Gaps(Endpoint):
    """The gap ledger."""

    queries = {"GET": GapQuery}

    @extend_schema(operation_id="list_gaps", responses=page_of(GapRow))
    def get(self, request: Any) -> Response:
        """Gaps in market data, the newest first."""
        return paged(status.gap_page(**self.asked), GapRow)


class Billing(serializers.Serializer[Any]):
    """Whom an invoice would name now."""

    legal_name = serializers.CharField()
    address = serializers.ListField(child=serializers.CharField())
    country = serializers.CharField(allow_blank=True)
    tax_id = serializers.CharField(allow_blank=True)
    invoice_emails = serializers.ListField(child=serializers.CharField())
    currency = serializers.CharField()


class Account(serializers.Serializer[Any]):
    """A tenant."""

    name = serializers.CharField(source="tenant.name")
    slug = serializers.CharField(source="tenant.slug")
    created_at = serializers.DateTimeField(source="tenant.created_at")
    suspend_at = serializers.DateTimeField(
        source="tenant.suspend_at", allow_null=True, help_text="When it will be suspended."
    )
    suspend_reason = serializers.CharField(source="tenant.suspend_reason", allow_blank=True)
    billing = Billing()
    has_billing_profile = serializers.BooleanField()


class AccountProfile(Endpoint):
    """Who you are here."""

    @extend_schema(operation_id="get_account", responses=Account)
    def get(self, request: Any) -> Response:
        """Your account, and whom its invoices name."""
        return Response(Account(profile.profile(self.tenant)).data)


class MemberRow(serializers.Serializer[Any]):
    """Somebody."""

    email = serializers.CharField(source="user.email", allow_blank=True)
    role = serializers.ChoiceField(choices=[str(role) for role in Role])
    since = serializers.DateTimeField(source="created_at")
    is_active = serializers.BooleanField(source="user.is_active")


class MemberList(serializers.Serializer[Any]):
    """All of them."""

    rows = MemberRow(many=True)


class Members(Endpoint):
    """Who belongs to it."""

    @extend_schema(operation_id="list_members", responses=MemberList)
    def get(self, request: Any) -> Response:
        """The people of your account. Who joins and leaves is decided in the dashboard."""
        return Response(MemberList({"rows": profile.members(self.tenant)}).data)
