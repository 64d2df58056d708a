"""A price book for tests, and times to use it in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from auditlog.context import disable_auditlog

from billing.catalogue import services
from billing.models import DailyRollup, MonthlyRollup, UsageRollup
from billing.rating.prices import (
    AddOnPrices,
    Entitlements,
    Interval,
    Meter,
    Metric,
    PerUnit,
    PlanPrices,
    Trial,
    Unit,
)
from tenants import services as tenants
from tenants.models import Plan, Tenant

START = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGES = Meter(
    code="messages",
    name="Messages",
    metric=Metric.MESSAGES,
    pricing=PerUnit(Decimal(5), 1_000),
    included=30_000,
    overage=True,
    zero_rated=("resync",),
)
REQUESTS = Meter(
    code="requests",
    name="Requests",
    metric=Metric.REQUESTS,
    pricing=PerUnit(Decimal(1), 1_000),
    included=1_000,
    overage=True,
)
MAY = Entitlements(
    products=("ws",),
    channels=None,
    regions=None,
    connections=3,
    subscriptions=10,
    coins=5,
    users=5,
    requests_per_s=10,
    burst=20,
    retention_hours=24,
)


def make_prices(code: str, fee: int, version: int = 1, **fields: Any) -> PlanPrices:
    """A plan of two meters."""
    plan = PlanPrices(
        code=code,
        name=code.title(),
        version=version,
        effective_from=START,
        fee=Decimal(fee),
        entitlements=MAY,
        meters=(MESSAGES, REQUESTS),
    )
    return replace(plan, **fields)


def publish(prices: PlanPrices, now: datetime = START) -> Plan:
    """Publish a version; answers the plan."""
    return services.publish_plan_version(prices, now=now).plan


# Here and below: what is only there for others has no entries in the audit log, half of its work.
@disable_auditlog()
def publish_book() -> dict[str, Plan]:
    """Small and large by the month, a year, and one with a trial that does not convert."""
    return {
        "small": publish(make_prices("small", 30)),
        "large": publish(make_prices("large", 300, entitlements=replace(MAY, connections=50))),
        "year": publish(make_prices("year", 3_650, interval=Interval(Unit.YEAR))),
        "trial": publish(make_prices("trial", 60, trial=Trial(14, converts=False))),
        "convert": publish(make_prices("convert", 60, trial=Trial(14))),
    }


def make_add_on(**fields: Any) -> AddOnPrices:
    """More messages and a connection."""
    add_on = AddOnPrices(
        code="more",
        name="More",
        version=1,
        effective_from=START,
        fee=Decimal(10),
        included={"messages": 1_000},
        entitlements=Entitlements(connections=1),
    )
    return replace(add_on, **fields)


@disable_auditlog()
def make_tenant(name: str = "Ada") -> Tenant:
    """One without a plan."""
    return tenants.create_tenant(name=name, plan=None)


def note_usage(
    tenant: Tenant, hour: datetime, units: int, *, metric: str = "messages", zero_rated: str = ""
) -> None:
    """What a key used on `bbo` in an hour, in the sums by hour, day and month, as the ledger's
    entries make them."""
    place = {
        "tenant": tenant,
        "key_id": 1,
        "channel": "bbo",
        "metric": metric,
        "zero_rated": zero_rated,
    }
    times = (
        (UsageRollup, "hour", hour),
        (DailyRollup, "day", hour.date()),
        (MonthlyRollup, "month", hour.date().replace(day=1)),
    )
    for model, column, at in times:
        model.objects.create(**place, **{column: at}, units=units)
