"""What the plans that tenants are on now cost a month: one short query, however many they are."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Count

from billing.catalogue import terms
from billing.rating.prices import Interval, Unit
from tenants.models import PlanSubscription, Tenant

_MONTHS = {Unit.YEAR: Decimal(12), Unit.MONTH: Decimal(1)}
_DAYS_A_MONTH = Decimal("30.4375")


class MonthlyFees(NamedTuple):
    """USD a month at list prices: of each (plan id, version), and of all customers together.
    Without add-ons, own terms, discounts and trials."""

    of_version: Mapping[tuple[int, int], Decimal]
    total: Decimal


def monthly_fees() -> MonthlyFees:
    """What customers' plans cost a month; our own tenants and suspended ones pay nothing."""
    of_version = {
        key: a_month(plan.fee, plan.interval) for key, plan in terms.prices().plans.items()
    }
    paying = PlanSubscription.objects.current().filter(
        tenant__kind=Tenant.Kind.EXTERNAL, tenant__suspended_at=None
    )
    counts = paying.order_by().values_list("plan", "version").annotate(count=Count("pk"))
    total = sum(
        (of_version.get((plan, version), Decimal(0)) * count for plan, version, count in counts),
        Decimal(0),
    )
    return MonthlyFees(of_version, total)


def a_month(fee: Decimal, interval: Interval) -> Decimal:
    """A fee of any interval as a fee of a month."""
    if interval.unit is Unit.DAY:
        return fee * _DAYS_A_MONTH / interval.every
    return fee / (_MONTHS[interval.unit] * interval.every)
