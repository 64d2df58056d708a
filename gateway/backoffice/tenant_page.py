"""What a tenant's page shows beside its form; each part only to whom may see it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from billing.metering.used import read_used
from billing.models import DailyRollup, InvoiceStanding, Metric, PlannedChange
from billing.rating.periods import full_hour
from gateway.backoffice import charts
from streaming.nodes import live, shown
from streaming.nodes.selectors import open_sessions
from tenants.admission.allowances import Used
from tenants.admission.caps import MICRO, Cap, caps_of_allowances, standing
from tenants.models import APIKey, Tenant
from tenants.selectors import allowances_of, current_plan_subscription

DAYS = 30
#: Channels with a colour of their own; the rest are "other".
CHANNELS = 6
SESSIONS_SHOWN = 10
KEYS_SHOWN = 8


class TenantPage:
    """One tenant, as one operator may see it."""

    def __init__(self, tenant: Tenant, user: Any, *, now: datetime | None = None) -> None:
        self.tenant, self.user, self.now = tenant, user, now or timezone.now()

    def context(self) -> dict[str, Any]:
        """What `admin/backoffice/tenant.html` needs."""
        parts: dict[str, tuple[str, Callable[[], Any]]] = {
            "usage": ("billing.view_dailyrollup", self.usage),
            "plan": ("billing.view_tenantterms", self.plan),
            "allowances": ("tenants.view_allowance", self.allowances),
            "sessions": ("nodes.view_opensession", self.sessions),
            "keys": ("tenants.view_apikey", self.keys),
            "balance": ("billing.view_invoice", self.balance),
        }
        has_perm = self.user.has_perm
        return {
            "tenant": self.tenant,
            "may_change": has_perm("tenants.change_tenant"),
            "may_change_plan": has_perm("billing.change_tenantterms"),
            "may_kick": has_perm("nodes.change_opensession"),
            "may_rotate": has_perm("tenants.change_apikey") and has_perm("tenants.add_apikey"),
            **{name: part() for name, (needed, part) in parts.items() if has_perm(needed)},
        }

    def usage(self) -> dict[str, Any]:
        """Messages of the last days by channel."""
        today = self.now.date()
        days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
        rows = (
            DailyRollup.objects.for_tenant(self.tenant)
            .filter(day__gte=days[0], metric=Metric.MESSAGES)
            .order_by()
            .values_list("day", "channel")
            .annotate(total=Sum("units"))
        )
        by_channel: dict[str, dict[Any, int]] = defaultdict(lambda: defaultdict(int))
        for day, channel, total in rows:
            by_channel[channel][day] += int(total)
        ranked = sorted(by_channel, key=lambda name: (-sum(by_channel[name].values()), name))
        series: dict[str, list[float]] = {
            name: [by_channel[name].get(day, 0) for day in days] for name in ranked[:CHANNELS]
        }
        if rest := ranked[CHANNELS:]:
            series["other"] = [sum(by_channel[name].get(day, 0) for name in rest) for day in days]
        colors = [charts.COLORS[place % len(charts.COLORS)] for place in range(len(series))]
        return {
            "total": f"{sum(map(sum, series.values())):,}",
            "legend": list(zip(series, colors, strict=True)),
            "chart": charts.stacked([f"{day:%d %b}" for day in days], series) if series else "",
        }

    def plan(self) -> dict[str, Any]:
        """Its plan and version, and what is to come."""
        current = current_plan_subscription(self.tenant)
        planned = PlannedChange.objects.for_tenant(self.tenant).filter(is_pending=True)
        change = planned.select_related("plan").first()
        return {
            "name": f"{current.plan} version {current.version}" if current else "none",
            "since": current.started_at if current else None,
            "trial_ends_at": current.trial_ends_at if current else None,
            "planned": str(change) if change else "",
        }

    def allowances(self) -> list[dict[str, Any]]:
        """Those in force, with what is used of them by what was counted so far."""
        caps = caps_of_allowances(self.tenant.pk, allowances_of(self.tenant.pk, self.now), self.now)
        used: dict[tuple[datetime, datetime], list[Used]] = {}
        for cap in caps:
            span = (cap.starts_at, cap.ends_at)
            if span not in used:
                used[span] = read_used(self.tenant.pk, full_hour(cap.starts_at), cap.ends_at)
        return [self._stands(cap, used[cap.starts_at, cap.ends_at]) for cap in caps]

    def _stands(self, cap: Cap, used: list[Used]) -> dict[str, Any]:
        weights = dict(cap.weights)
        micros = sum(
            row.units * weights.get(row.channel, MICRO)
            for row in used
            if row.metric in cap.metrics and cap.covers(row.channel)
        )
        found = standing(cap, micros)
        return {
            "code": cap.code,
            "metric": cap.metrics[0].replace("_", "-"),
            "used": f"{found.used:,}",
            "limit": f"{cap.units:,}",
            "percent": round(100 * found.used / cap.units) if cap.units else 100,
            "width": min(100, round(100 * found.used / cap.units) if cap.units else 100),
            "is_hard": cap.is_hard,
            "ends_at": cap.ends_at,
        }

    def sessions(self) -> dict[str, Any]:
        """Its open connections, the oldest first."""
        try:
            rows = open_sessions(self.tenant.pk)
        except live.Unreachable as error:
            return {"unreachable": str(error)}
        return {
            "count": len(rows),
            "rows": [shown.session(row) for row in rows[:SESSIONS_SHOWN]],
        }

    def keys(self) -> list[APIKey]:
        """Those that open something, the newest first."""
        usable = APIKey.objects.for_tenant(self.tenant).usable(self.now)
        return list(usable.filter(rotated_at=None).order_by("-created_at")[:KEYS_SHOWN])

    def balance(self) -> dict[str, Any]:
        """What it owes."""
        owed = InvoiceStanding.objects.filter(
            invoice__tenant=self.tenant,
            state__in=[InvoiceStanding.State.OPEN, InvoiceStanding.State.PARTIALLY_PAID],
        )
        rows = list(owed.values_list("balance", "due_at"))
        return {
            "open": f"{sum(balance for balance, _ in rows):,.2f}",
            "late": sum(1 for _, due_at in rows if due_at < self.now),
        }
