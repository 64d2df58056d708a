"""`/v1/plan`, `/v1/plans`, `/v1/spending`: what a tenant is on, has left of it, and chose."""

from __future__ import annotations

import json
from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.catalogue.choices import MAX_SPEND_CAP
from billing.rating.document import write
from billing.rating.prices import PlanPrices
from gateway.account import plans, spending
from gateway.account.errors import NotFound
from gateway.api.endpoint import Endpoint, Money, Strict
from tenants.models import MAX_ALERT_ADDRESSES, MAX_THRESHOLD, MAX_THRESHOLDS, MIN_THRESHOLD
from tenants.notices.kinds import MAILED_TO_MEMBERS
from tenants.people.roles import Role

#: What a choice says of being told.
ALERTS = ("thresholds", "mail_kinds", "mail_roles", "mail_addresses")


class Limits(serializers.Serializer[Any]):
    """What may be held open and asked for at one time; null is no limit, and of a list all."""

    max_connections = serializers.IntegerField()
    max_subscriptions = serializers.IntegerField()
    max_coins = serializers.IntegerField(allow_null=True)
    max_users = serializers.IntegerField(allow_null=True)
    requests_per_s = serializers.IntegerField(allow_null=True)
    burst = serializers.IntegerField(allow_null=True)
    retention_hours = serializers.IntegerField(allow_null=True)
    products = serializers.ListField(child=serializers.CharField(), allow_null=True)
    channels = serializers.ListField(child=serializers.CharField(), allow_null=True)
    regions = serializers.ListField(child=serializers.CharField(), allow_null=True)


class AddOn(serializers.Serializer[Any]):
    """Something bought beside the plan."""

    code = serializers.CharField()
    name = serializers.CharField()
    quantity = serializers.IntegerField()
    fee = Money()


class PlannedChange(serializers.Serializer[Any]):
    """A change that is to come; without a plan it ends."""

    plan = serializers.CharField(allow_null=True)
    at = serializers.DateTimeField()


class CurrentPlan(serializers.Serializer[Any]):
    """What a tenant is on."""

    code = serializers.CharField(allow_null=True)
    name = serializers.CharField(allow_null=True)
    version = serializers.IntegerField(allow_null=True)
    since = serializers.DateTimeField(allow_null=True)
    trial_ends_at = serializers.DateTimeField(allow_null=True)
    period_start = serializers.DateTimeField(allow_null=True)
    period_end = serializers.DateTimeField(allow_null=True)
    prices = serializers.JSONField(
        allow_null=True, help_text="As docs/prices.md says; null where nothing is billed."
    )
    add_ons = AddOn(many=True)
    limits = Limits(allow_null=True)
    planned = PlannedChange(allow_null=True)
    overage = serializers.BooleanField()
    spend_cap = Money(allow_null=True)


class Allowance(serializers.Serializer[Any]):
    """How much of an allowance is used."""

    code = serializers.CharField()
    metric = serializers.CharField()
    channels = serializers.ListField(child=serializers.CharField())
    used = serializers.IntegerField()
    units = serializers.IntegerField()
    percent = serializers.FloatField()
    is_hard = serializers.BooleanField(help_text="Beyond it is refused; else charged.")
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()


class Allowances(serializers.Serializer[Any]):
    """All of them."""

    rows = Allowance(many=True)


class Charge(serializers.Serializer[Any]):
    """A line of an invoice to come."""

    kind = serializers.CharField()
    code = serializers.CharField()
    name = serializers.CharField()
    quantity = serializers.CharField()
    unit = serializers.CharField(allow_blank=True)
    amount = Money()


class Bill(serializers.Serializer[Any]):
    """An invoice to come, before tax, wallet and adjustments."""

    period_start = serializers.DateTimeField(source="period.start")
    period_end = serializers.DateTimeField(source="period.end")
    total = Money()
    lines = Charge(many=True)


class Running(serializers.Serializer[Any]):
    """The running period."""

    so_far = Bill()
    projected = Bill(allow_null=True, help_text="If it goes on like this; null: too early to say.")
    is_invoiced = serializers.BooleanField(
        help_text="Without it you are metered and owe nothing of what you use now."
    )


class PlanForm(Strict):
    """A plan, and when."""

    plan = serializers.CharField(max_length=40)
    at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class Preview(serializers.Serializer[Any]):
    """What a change would do; `begun` is the period that it begins itself, if it does."""

    plan = serializers.CharField(source="plan.code")
    version = serializers.IntegerField(source="plan.version")
    at = serializers.DateTimeField()
    before = Bill(allow_null=True)
    after = Bill()
    begun = Bill(allow_null=True)
    difference = Money()
    next_fee = Money(help_text="Of the first whole period.")
    is_invoiced = serializers.BooleanField(
        help_text="Without it you are metered and owe nothing of it."
    )


class Plan(Endpoint):
    """The current plan."""

    @extend_schema(operation_id="get_plan", responses=CurrentPlan)
    def get(self, request: Any) -> Response:
        """Your plan, its limits and prices, and what is planned."""
        return Response(CurrentPlan(_current(plans.current(self.tenant))).data)


class PlanAllowances(Endpoint):
    """Allowances."""

    @extend_schema(operation_id="get_allowances", responses=Allowances)
    def get(self, request: Any) -> Response:
        """How much of each allowance is used in its period."""
        return Response(Allowances({"rows": plans.allowances(self.tenant)}).data)


class PlanRunning(Endpoint):
    """The running period's cost."""

    @extend_schema(operation_id="get_running_period", responses=Running)
    def get(self, request: Any) -> Response:
        """What the running period costs so far, and what it will."""
        running = plans.running(self.tenant)
        if running is None:
            raise NotFound("Your plan has no prices: nothing is billed.")
        return Response(Running(running).data)


class PlanPreview(Endpoint):
    """A change of plan, as it would be."""

    is_reading = True

    @extend_schema(operation_id="preview_plan", request=PlanForm, responses=Preview)
    def post(self, request: Any) -> Response:
        """What a change of plan would do to your invoice, to the second. Changes nothing."""
        asked = self.body(PlanForm)
        found = plans.preview(self.tenant, asked["plan"], at=asked["at"])
        return Response(Preview(found).data)


class Offers(serializers.Serializer[Any]):
    """What can be bought."""

    rows = serializers.ListField(child=serializers.JSONField())


class Plans(Endpoint):
    """All plans that are offered."""

    @extend_schema(operation_id="list_plans", responses=Offers)
    def get(self, request: Any) -> Response:
        """Published plans in force, as docs/prices.md says, the cheapest fee first."""
        return Response({"rows": [_document(plan) for plan in plans.offered()]})


class Warned(serializers.Serializer[Any]):
    """That you were told of an allowance."""

    code = serializers.CharField()
    threshold = serializers.IntegerField(help_text="Percent.")
    used = serializers.IntegerField()
    limit = serializers.IntegerField()
    at = serializers.DateTimeField()
    resets_at = serializers.DateTimeField()


class Spending(serializers.Serializer[Any]):
    """What you chose, and how you are told."""

    overage = serializers.BooleanField(
        help_text="Whether more than the included is admitted, and charged."
    )
    spend_cap = Money(allow_null=True, help_text="The most that may cost in a period.")
    thresholds = serializers.ListField(
        child=serializers.IntegerField(), help_text="Percent of an allowance used."
    )
    mail_kinds = serializers.ListField(
        child=serializers.CharField(), help_text="What is mailed; webhooks choose for themselves."
    )
    mail_roles = serializers.ListField(child=serializers.CharField())
    mail_addresses = serializers.ListField(child=serializers.CharField())
    mailed_to = serializers.ListField(child=serializers.CharField())
    warnings = Warned(many=True)


class SpendingForm(Strict):
    """What to change."""

    overage = serializers.BooleanField(required=False)
    spend_cap = Money(
        required=False, allow_null=True, min_value=0, max_value=int(MAX_SPEND_CAP), max_digits=12
    )
    thresholds = serializers.ListField(
        child=serializers.IntegerField(min_value=MIN_THRESHOLD, max_value=MAX_THRESHOLD),
        required=False,
        max_length=MAX_THRESHOLDS,
        help_text="Percent of an allowance used; 100 is told in any case.",
    )
    mail_kinds = serializers.ListField(
        child=serializers.ChoiceField(MAILED_TO_MEMBERS), required=False
    )
    mail_roles = serializers.ListField(
        child=serializers.ChoiceField([str(role) for role in Role]),
        required=False,
        help_text="Without roles and addresses: the members whose business it is.",
    )
    mail_addresses = serializers.ListField(
        child=serializers.CharField(max_length=254),
        required=False,
        max_length=MAX_ALERT_ADDRESSES,
        help_text="Of members.",
    )


class SpendingChoice(Endpoint):
    """Overage, spend cap, alerts."""

    @extend_schema(operation_id="get_spending", responses=Spending)
    def get(self, request: Any) -> Response:
        """Overage and spend cap, at which percentages you are told, who is mailed, and what was
        told. Webhooks hear of it as `quota.warning` and `quota.reached`."""
        return Response(Spending(spending.spending(self.tenant)).data)

    @extend_schema(operation_id="set_spending", request=SpendingForm, responses=Spending)
    def patch(self, request: Any) -> Response:
        """Choose. Overage on counts from the beginning of this hour, off from the next; thresholds
        are heard of within seconds."""
        chosen = self.body(SpendingForm, is_partial=True)
        told = {name: chosen.pop(name) for name in ALERTS if name in chosen}
        with transaction.atomic():
            spending.choose(self.tenant, **chosen, is_cap_given="spend_cap" in chosen)
            if told:
                spending.choose_alerts(self.tenant, **told)
        return Response(Spending(spending.spending(self.tenant)).data)


def _document(plan: PlanPrices) -> Any:
    return json.loads(write(plan))


def _current(current: plans.Current) -> dict[str, Any]:
    subscription, planned = current.subscription, current.planned
    return {
        "code": subscription and subscription.plan.code,
        "name": subscription and subscription.plan.name,
        "version": subscription and subscription.version,
        "since": subscription and subscription.started_at,
        "trial_ends_at": subscription and subscription.trial_ends_at,
        "period_start": current.period and current.period.start,
        "period_end": current.period and current.period.end,
        "prices": None if current.prices is None else _document(current.prices),
        "add_ons": [
            {"code": one.code, "name": one.name, "fee": one.fee, "quantity": quantity}
            for one, quantity in current.add_ons
        ],
        "limits": current.limits,
        "planned": planned
        and {"plan": planned.plan.code if planned.plan else None, "at": planned.at},
        "overage": current.is_overage_on,
        "spend_cap": current.spend_cap,
    }
