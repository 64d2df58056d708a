"""The first page: what this is, how fresh it is now, what it costs and how to begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from billing.models import PlanVersion
from billing.rating.prices import Metric, PerUnit, PlanPrices, Unit
from gateway.docsite.views import base_url
from gateway.kept import Kept
from gateway.operations import shown, status

#: A price that is published now is seen within this.
KEEP_S = 60.0
MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan as the page shows it; texts are "" where there is nothing to say."""

    name: str
    fee: str
    interval: str
    included: str
    beyond: str
    connections: str
    coins: str
    has_all_channels: bool
    has_grpc: bool
    trial_days: int


@require_safe
async def page(request: HttpRequest) -> HttpResponse:
    """`/`. What the serving process itself sees is asked in its loop, the rest in a thread."""
    return await sync_to_async(_page)(request, status.edge_state())


def _page(request: HttpRequest, edge_state: str) -> HttpResponse:
    found = status.current()
    # Before anything was measured the process knows for itself whether what it has is fresh.
    state = edge_state if found.state == status.UNKNOWN else found.state
    feeds = [shown.row(each, is_late=found.is_late) for each in found.feeds]
    base = base_url(request)
    context: dict[str, Any] = {
        "site_name": settings.RELAY_SITE_NAME,
        "is_signup_open": settings.RELAY_SIGNUP,
        "base_url": base,
        "ws_url": base.replace("http", "ws", 1),
        "grpc_url": f"{request.get_host().partition(':')[0]}:{settings.RELAY_GRPC_PORT}",
        "offers": [_offer(plan) for plan in plans.get()],
        "feeds": feeds,
        "state": state,
        "headline": shown.STATES[state],
        "measured_at": found.measured_at,
        "is_late": found.is_late,
    }
    return render(request, "landing.html", context)


def offered(now: datetime) -> list[PlanPrices]:
    """The newest version in force of each plan that is offered, the cheapest month first."""
    rows = PlanVersion.objects.filter(plan__is_active=True, effective_from__lte=now)
    newest = {row.plan_id: row.prices for row in rows.order_by("plan", "version")}
    return sorted(newest.values(), key=lambda plan: (_monthly(plan), plan.code))


def _plans() -> list[PlanPrices]:
    try:
        return offered(timezone.now())
    except DatabaseError:
        return []


#: The plans and not their texts, which depend on who reads them.
plans = Kept(_plans, keep_s=KEEP_S)


def _monthly(plan: PlanPrices) -> Decimal:
    months = {Unit.MONTH: Decimal(1), Unit.YEAR: Decimal(12), Unit.DAY: Decimal(12) / 365}
    return plan.fee / (months[plan.interval.unit] * plan.interval.every)


def _offer(plan: PlanPrices) -> Offer:
    meter = next((m for m in plan.meters if m.metric == Metric.MESSAGES and not m.channels), None)
    beyond = ""
    if meter is not None and meter.overage and isinstance(meter.pricing, PerUnit):
        price = meter.pricing.price * MILLION / meter.pricing.per
        beyond = _("$%(price)s a million") % {"price": _plain(price)}
    limits = plan.entitlements
    return Offer(
        name=plan.name,
        fee=_("free") if not plan.fee else f"${_plain(plan.fee)}",
        interval=_interval(plan) if plan.fee else "",
        included=_count(meter.included) if meter is not None else "",
        beyond=beyond,
        connections=_limit(limits.connections),
        coins=_limit(limits.coins),
        has_all_channels=limits.channels is None,
        has_grpc="grpc" in limits.products,
        trial_days=plan.trial.days if plan.trial else 0,
    )


def _interval(plan: PlanPrices) -> str:
    names = {Unit.MONTH: _("month"), Unit.YEAR: _("year"), Unit.DAY: _("day")}
    name = names[plan.interval.unit]
    return name if plan.interval.every == 1 else f"{plan.interval.every} × {name}"


def _limit(value: int | None) -> str:
    return _("no limit") if value is None else f"{value:,}"


def _count(units: int) -> str:
    for size, name in ((10**9, _("billion")), (10**6, _("million"))):
        if units >= size:
            return f"{units / size:g} {name}"
    return f"{units:,}"


def _plain(amount: Decimal) -> str:
    """Without zeros that say nothing: 49, 2.50, 0.1."""
    text = f"{amount:,.2f}"
    return text.removesuffix(".00")
