"""`/v1/webhooks`, `/v1/deliveries`: where a tenant is told, and what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from gateway.account import webhooks
from gateway.api.describing import IDEMPOTENT
from gateway.api.endpoint import Endpoint, PageQuery, Strict, page_of, paged
from gateway.api.once import once
from tenants.models import Delivery as DeliveryModel
from tenants.notices.kinds import KINDS, SUBSCRIBABLE
from tenants.notices.services import DEFAULT_OVERLAP, MAX_OVERLAP
from tenants.wire.targets import MAX_URL_CHARS


class WebhookRow(serializers.Serializer[Any]):
    """An endpoint, without its secret."""

    id = serializers.UUIDField(source="uid")
    url = serializers.CharField()
    kinds = serializers.ListField(child=serializers.CharField(), help_text="None: everything.")
    is_enabled = serializers.BooleanField()
    disabled_reason = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    failures = serializers.IntegerField(help_text="Since the last success.")
    failing_since = serializers.DateTimeField(allow_null=True)
    previous_secret_until = serializers.DateTimeField(source="previous_until", allow_null=True)


class Webhooks(serializers.Serializer[Any]):
    """All of them."""

    rows = WebhookRow(many=True)


class NewWebhook(serializers.Serializer[Any]):
    """An endpoint and, this once, its secret."""

    secret = serializers.CharField(
        allow_null=True, help_text="Shown once; null when the same request is sent again."
    )
    about = WebhookRow()


class WebhookForm(Strict):
    """Where, and what of."""

    url = serializers.CharField(max_length=MAX_URL_CHARS)
    kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=SUBSCRIBABLE),
        required=False,
        max_length=len(SUBSCRIBABLE),
    )


class WebhookChange(WebhookForm):
    """What to change."""

    is_enabled = serializers.BooleanField(required=False)


class SecretForm(Strict):
    """How long both secrets sign."""

    overlap_s = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=int(MAX_OVERLAP.total_seconds()),
        default=int(DEFAULT_OVERLAP.total_seconds()),
    )


class DeliveryRow(serializers.Serializer[Any]):
    """A notice on its way to an endpoint."""

    id = serializers.UUIDField(source="uid")
    webhook = serializers.UUIDField(source="endpoint.uid")
    kind = serializers.ChoiceField(source="notice.kind", choices=list(KINDS))
    state = serializers.ChoiceField(choices=DeliveryModel.State.choices)
    attempts = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    delivered_at = serializers.DateTimeField(allow_null=True)
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    last_attempt_at = serializers.DateTimeField(allow_null=True)
    last_status = serializers.IntegerField(allow_null=True)
    last_error = serializers.CharField(allow_blank=True)
    last_latency_ms = serializers.IntegerField(allow_null=True)


class Attempt(serializers.Serializer[Any]):
    """One try."""

    number = serializers.IntegerField()
    ended_at = serializers.DateTimeField()
    is_success = serializers.BooleanField()
    http_status = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(allow_blank=True)
    excerpt = serializers.CharField(allow_blank=True)
    latency_ms = serializers.IntegerField(allow_null=True)


class DeliveryDetail(DeliveryRow):
    """One, with what is told and each try."""

    payload = serializers.JSONField(source="notice.payload")
    log = Attempt(many=True)


class DeliveryQuery(PageQuery):
    """Which deliveries."""

    webhook = serializers.UUIDField(required=False, default=None)
    state = serializers.ChoiceField(choices=DeliveryModel.State.values, required=False, default="")


class WebhookList(Endpoint):
    """All webhooks."""

    @extend_schema(operation_id="list_webhooks", responses=Webhooks)
    def get(self, request: Any) -> Response:
        """All endpoints, the newest first; those that are disabled too."""
        return Response(Webhooks({"rows": webhooks.endpoints(self.tenant)}).data)

    @extend_schema(
        operation_id="create_webhook",
        request=WebhookForm,
        responses={201: NewWebhook},
        parameters=[IDEMPOTENT],
    )
    @once(shown_once="secret")
    def post(self, request: Any) -> Response:
        """Add one. The secret it is signed with is shown this once."""
        return _shown(webhooks.add(self.tenant, **self.body(WebhookForm)), status=201)


class Webhook(Endpoint):
    """One webhook."""

    @extend_schema(operation_id="get_webhook", responses=WebhookRow)
    def get(self, request: Any, uid: Any) -> Response:
        """One."""
        return Response(WebhookRow(webhooks.endpoint(self.tenant, uid)).data)

    @extend_schema(operation_id="update_webhook", request=WebhookChange, responses=WebhookRow)
    def patch(self, request: Any, uid: Any) -> Response:
        """Another URL, other kinds, on or off."""
        changed = self.body(WebhookChange, is_partial=True)
        return Response(WebhookRow(webhooks.update(self.tenant, uid, **changed)).data)

    @extend_schema(operation_id="delete_webhook", responses={204: None})
    def delete(self, request: Any, uid: Any) -> Response:
        """Tell it nothing more. It stays in the list, disabled, for its log."""
        webhooks.update(self.tenant, uid, is_enabled=False)
        return Response(status=204)


class RotateSecret(Endpoint):
    """A webhook's secret."""

    @extend_schema(
        operation_id="rotate_webhook_secret",
        request=SecretForm,
        responses=NewWebhook,
        parameters=[IDEMPOTENT],
    )
    @once(shown_once="secret")
    def post(self, request: Any, uid: Any) -> Response:
        """A new secret, shown this once; for `overlap_s` both sign."""
        overlap = timedelta(seconds=self.body(SecretForm)["overlap_s"])
        return _shown(webhooks.rotate_secret(self.tenant, uid, overlap=overlap), status=200)


class Ping(Endpoint):
    """A try."""

    @extend_schema(operation_id="ping_webhook", request=None, responses={202: DeliveryRow})
    def post(self, request: Any, uid: Any) -> Response:
        """Send a notice that says nothing."""
        return Response(DeliveryRow(webhooks.ping(self.tenant, uid)).data, status=202)


class Deliveries(Endpoint):
    """The log."""

    queries = {"GET": DeliveryQuery}

    @extend_schema(operation_id="list_deliveries", responses=page_of(DeliveryRow))
    def get(self, request: Any) -> Response:
        """What was told to endpoints, the newest first."""
        endpoint = self.asked.pop("webhook")
        found = webhooks.delivery_page(self.tenant, endpoint_uid=endpoint, **self.asked)
        return paged(found, DeliveryRow)


class Delivery(Endpoint):
    """One of the log."""

    @extend_schema(operation_id="get_delivery", responses=DeliveryDetail)
    def get(self, request: Any, uid: Any) -> Response:
        """One, with each attempt."""
        return Response(DeliveryDetail(webhooks.delivery(self.tenant, uid)).data)


class Replay(Endpoint):
    """Again."""

    @extend_schema(operation_id="replay_delivery", request=None, responses={202: DeliveryDetail})
    def post(self, request: Any, uid: Any) -> Response:
        """Deliver again, under the same id."""
        return Response(DeliveryDetail(webhooks.replay(self.tenant, uid)).data, status=202)


def _shown(made: Any, *, status: int) -> Response:
    body = {"secret": made.secret, "about": WebhookRow(made.endpoint).data}
    response = Response(body, status=status)
    response["Cache-Control"] = "no-store"
    return response
