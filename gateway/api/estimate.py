"""`POST /v1/estimate`: what subscriptions would cost, from what was measured."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from gateway.account.estimate import MAX_CONNECTIONS, MAX_SUBSCRIPTIONS, Asked, estimate
from gateway.api.endpoint import Endpoint, Money, Strict
from streaming.core.topic import Kind

#: Field of the form → field of a subscription of the relay dialect.
_FIELDS = {
    "market_types": "marketTypes",
    "n_levels": "nLevels",
    "n_sig_figs": "nSigFigs",
    "mantissa": "mantissa",
    "interval": "interval",
    "dex": "dex",
    "stream": "stream",
}
MAX_NAMES = 1_000


class Subscription(Strict):
    """What to follow: a channel with its coins or users, as when you subscribe."""

    channel = serializers.ChoiceField(choices=[str(kind) for kind in Kind])
    coins = serializers.ListField(
        child=serializers.CharField(max_length=48), required=False, max_length=MAX_NAMES
    )
    users = serializers.ListField(
        child=serializers.CharField(max_length=42), required=False, max_length=MAX_NAMES
    )
    market_types = serializers.ListField(
        child=serializers.ChoiceField(choices=["perp", "hip3", "spot", "outcome"]),
        required=False,
        max_length=4,
        help_text="All coins of these.",
    )
    n_levels = serializers.IntegerField(required=False, min_value=1, max_value=100)
    n_sig_figs = serializers.IntegerField(required=False, min_value=2, max_value=5)
    mantissa = serializers.IntegerField(required=False, min_value=1, max_value=5)
    interval = serializers.CharField(required=False, max_length=8)
    dex = serializers.CharField(required=False, max_length=48)
    stream = serializers.CharField(required=False, max_length=48)
    hours_per_day = serializers.DecimalField(
        required=False,
        default=Decimal(24),
        max_digits=4,
        decimal_places=2,
        min_value=0,
        max_value=24,
    )
    connections = serializers.IntegerField(
        required=False, default=1, min_value=1, max_value=MAX_CONNECTIONS
    )


class EstimateForm(Strict):
    """All of it."""

    subscriptions = serializers.ListField(
        child=Subscription(), min_length=1, max_length=MAX_SUBSCRIPTIONS
    )


class Line(serializers.Serializer[Any]):
    """What one subscription brings."""

    channel = serializers.CharField()
    topics = serializers.IntegerField()
    connections = serializers.IntegerField()
    hours_per_day = serializers.DecimalField(max_digits=4, decimal_places=2)
    messages_per_s = serializers.FloatField(help_text="While it is followed.")
    messages_per_month = serializers.IntegerField()
    bytes_per_month = serializers.IntegerField()
    basis = serializers.ChoiceField(choices=["measured", "similar", "average", "unmeasured"])
    measured_hours = serializers.FloatField()


class CostLine(serializers.Serializer[Any]):
    """A line of the invoice of a whole period."""

    kind = serializers.CharField()
    name = serializers.CharField()
    quantity = serializers.CharField()
    unit = serializers.CharField(allow_blank=True)
    amount = Money()


class Cost(serializers.Serializer[Any]):
    """What it costs under one plan."""

    plan = serializers.CharField(source="code")
    name = serializers.CharField()
    per_month = Money()
    fee = Money()
    serves_all = serializers.BooleanField()
    refused = serializers.ListField(
        child=serializers.CharField(), help_text="Meters whose allowance is too small."
    )
    missing = serializers.ListField(
        child=serializers.CharField(), help_text="Channels that the plan has not."
    )
    too_small = serializers.ListField(
        child=serializers.CharField(), help_text="Limits that are exceeded."
    )
    lines = serializers.SerializerMethodField()

    def get_lines(self, cost: Any) -> list[dict[str, Any]]:
        """As they would stand on an invoice."""
        names = ("kind", "name", "quantity", "unit", "amount")
        return [CostLine(dict(zip(names, line, strict=True))).data for line in cost.lines]


class Estimated(serializers.Serializer[Any]):
    """The answer."""

    lines = Line(many=True)
    messages_per_s = serializers.FloatField()
    messages_per_month = serializers.IntegerField()
    bytes_per_month = serializers.IntegerField()
    coin_minutes_per_month = serializers.IntegerField()
    measured_hours = serializers.FloatField(help_text="Of the least known topic; 24 at most.")
    is_whole_day = serializers.BooleanField(help_text="24 hours were measured of every topic.")
    plan = Cost(allow_null=True, help_text="Under your own terms; null without any.")
    offers = Cost(many=True)
    cheapest = serializers.CharField(allow_null=True, help_text="Of those that serve all of it.")
    assumptions = serializers.ListField(child=serializers.CharField())


class Estimate(Endpoint):
    """An estimate."""

    is_reading = True

    @extend_schema(operation_id="estimate", request=EstimateForm, responses=Estimated)
    def post(self, request: Any) -> Response:
        """What a list of subscriptions brings and costs, from what this relay measured in the last
        24 hours. Changes nothing."""
        asked = [_asked(one) for one in self.body(EstimateForm)["subscriptions"]]
        return Response(Estimated(estimate(self.tenant, asked)).data)


def _asked(form: dict[str, Any]) -> Asked:
    subscription: dict[str, Any] = {"type": form["channel"]}
    for many, one in (("coins", "coin"), ("users", "user")):
        names = form.get(many) or []
        if len(names) == 1:
            subscription[one] = names[0]
        elif names:
            subscription[many] = names
    for field, name in _FIELDS.items():
        if field in form:
            subscription[name] = form[field]
    return Asked(
        subscription=subscription,
        hours_per_day=form["hours_per_day"],
        connections=form["connections"],
    )
