"""The first page of the admin: how the company does at this moment, from sums that are there.

Every figure is a range of an index or a handful of rows; nothing reads the ledger or the hourly
rollups. They are kept for `KEEP_S` in the shared cache, and read without it when Redis is away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.cache import cache
from django.db.models import F, QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone
from redis.exceptions import RedisError

from billing.models import (
    AppliedTerms,
    CreditNote,
    DailyRollup,
    Invoice,
    InvoiceStanding,
    Metric,
    QuarantinedBatch,
    UsageBatch,
)
from gateway.backoffice import charts
from gateway.backoffice.fees import monthly_fees
from streaming.nodes import live, selectors, shown
from tenants.models import Delivery, Tenant

KEEP_S = 10
CHART_HOURS = 48
CHART_MONTHS = 12
TOP = 5
#: "Failed" is what failed within these days; what is older was seen.
FAILED_DAYS = 7
#: A beat that stood still for so long is not only busy.
LATE = timedelta(minutes=15)
#: Beyond it a figure says "or more".
COUNTED = 1_000
#: Sessions read to tell whose they are; beyond it only their number is told.
SESSIONS_READ = 5_000
ZERO = Decimal(0)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The landing page's context: the parts of it that this operator may see."""
    parts = {
        "revenue": ("billing.view_invoice", revenue),
        "usage": ("billing.view_usagebatch", usage),
        "top": ("billing.view_dailyrollup", top_tenants),
        "connected": ("nodes.view_opensession", connected),
        "upstreams": ("nodes.view_upstreamnode", upstreams),
        "overdue": ("billing.view_invoice", overdue),
        "failed": ("tenants.view_delivery", failed_deliveries),
        "quarantined": ("billing.view_quarantinedbatch", quarantined),
        "behind": ("billing.view_tenantterms", behind),
    }
    now = timezone.now()
    has_perm = request.user.has_perm
    seen = {name: figure for name, (permission, figure) in parts.items() if has_perm(permission)}
    return {**context, "now": now, **kept(seen, now)}


def kept(figures: Mapping[str, Callable[[datetime], Any]], now: datetime) -> dict[str, Any]:
    """Each figure, from the cache where it is not older than `KEEP_S`."""
    names = {f"backoffice:landing:1:{name}": name for name in figures}
    try:
        found = {names[key]: value for key, value in cache.get_many(names).items()}
    except (RedisError, OSError):
        return {name: figure(now) for name, figure in figures.items()}
    made = {name: figure(now) for name, figure in figures.items() if name not in found}
    try:
        cache.set_many({f"backoffice:landing:1:{name}": made[name] for name in made}, KEEP_S)
    except (RedisError, OSError):
        pass  # the next one makes them again
    return found | made


# --- money ----------------------------------------------------------------------------------------


def revenue(now: datetime) -> dict[str, Any]:
    """Before tax and less what was credited, by the month of the service; and what the plans that
    tenants are on now cost a month, which is what a month brings at least."""
    months = charts.months(now, CHART_MONTHS)
    amounts = [_earned(start, end) for start, end in months]
    return {
        "month": f"{now:%B}",
        "finalized": f"{amounts[-1]:,.2f}",
        "before": f"{amounts[-2]:,.2f}",
        "before_month": f"{months[-2][0]:%B}",
        "fees": f"{monthly_fees().total:,.0f}",
        "has_any": any(amounts),
        "chart": charts.bars(
            [f"{start:%b %Y}" for start, _ in months], "USD", [float(each) for each in amounts]
        ),
    }


def _earned(start: datetime, end: datetime) -> Decimal:
    """Of the invoices whose period ends in `(start, end]`. The database adds up, which SQLite does
    with floats: a figure to look at, not one to book by."""
    ended = Invoice.objects.finalized().filter(period_end__gt=start, period_end__lte=end)
    notes = CreditNote.objects.filter(
        state=CreditNote.State.ISSUED,
        invoice__state=Invoice.State.FINALIZED,
        invoice__period_end__gt=start,
        invoice__period_end__lte=end,
    )
    return _sum(ended, "subtotal") - _sum(notes, "subtotal")


def _sum(rows: QuerySet[Any], column: str) -> Decimal:
    return Decimal(rows.order_by().aggregate(sum=Sum(column))["sum"] or 0)


def overdue(now: datetime) -> dict[str, Any]:
    """Invoices that are not paid and should be, the oldest first."""
    late = (
        InvoiceStanding.objects.filter(
            state__in=[InvoiceStanding.State.OPEN, InvoiceStanding.State.PARTIALLY_PAID],
            due_at__lt=now,
        )
        .select_related("invoice__tenant")
        .order_by("due_at")
    )
    return {
        "count": at_most(late),
        "amount": f"{_sum(late, 'balance'):,.2f}",
        "rows": [
            {
                "pk": row.invoice_id,
                "number": str(row.invoice),
                "tenant": row.invoice.tenant.name,
                "balance": f"{row.balance:,.2f}",
                "days": (now - row.due_at).days,
            }
            for row in late[:TOP]
        ],
    }


# --- traffic --------------------------------------------------------------------------------------


def usage(now: datetime) -> dict[str, Any]:
    """Messages delivered, from the control totals of batches: by the hour, and in the last whole
    minute. What an edge has not sealed yet is not in it."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    hours = [hour - timedelta(hours=back) for back in reversed(range(CHART_HOURS))]
    rows = (
        UsageBatch.objects.filter(received_at__gte=hours[0], hour__gte=hours[0])
        .order_by()
        .values_list("hour")
        .annotate(total=Sum("message_total"))
    )
    found = {at: int(total) for at, total in rows}
    totals = [found.get(at, 0) for at in hours]
    minute = UsageBatch.objects.filter(received_at__gte=now - timedelta(seconds=60))
    return {
        "delivered_per_s": f"{float(_sum(minute, 'message_total')) / 60:,.0f}",
        "published_per_s": _published_per_s(),
        "has_any": any(totals),
        "chart": charts.bars([f"{at:%d %b %H:00}" for at in hours], "messages", totals),
    }


def _published_per_s() -> str:
    """What the workers published in their last minute; empty when nothing is known."""
    try:
        minutes = selectors.minute_rates(minutes=1)
    except live.Unreachable:
        return ""
    messages = sum(messages for _, kinds in minutes for messages, _ in kinds.values())
    return f"{messages / 60:,.0f}" if minutes else ""


def top_tenants(now: datetime) -> list[dict[str, Any]]:
    """Who got most messages since yesterday 00:00 UTC: days are the finest sums of all tenants."""
    # Both days by name, and no word of the tenant: else SQLite walks an index of all days.
    days = [now.date() - timedelta(days=1), now.date()]
    rows = (
        DailyRollup.objects.filter(day__in=days, metric=Metric.MESSAGES)
        .order_by()
        .values_list("tenant")
        .annotate(total=Sum("units"))
        .order_by(F("total").desc(), "tenant")[: TOP + 1]
    )
    of_tenants = [(tenant, total) for tenant, total in rows if tenant is not None]
    totals = {int(tenant): int(total) for tenant, total in of_tenants[:TOP]}
    names = Tenant.objects.in_bulk(list(totals))
    most = max(totals.values(), default=1) or 1
    return [
        {
            "pk": pk,
            "name": names[pk].name,
            "messages": f"{total:,}",
            "share": round(100 * total / most),
        }
        for pk, total in totals.items()
        if pk in names
    ]


def connected(now: datetime) -> dict[str, Any]:
    """How many sessions are open, and of how many customers."""
    try:
        sessions = selectors.count_sessions()
        tenants = (
            {row.tenant_id for row in selectors.open_sessions()}
            if sessions <= SESSIONS_READ
            else None
        )
    except live.Unreachable as error:
        return {"unreachable": str(error)}
    return {
        "sessions": f"{sessions:,}",
        "tenants": f"{len(tenants):,}" if tenants is not None else "",
    }


def upstreams(now: datetime) -> dict[str, Any]:
    """Every upstream as the workers see it."""
    try:
        return {"rows": [shown.source(source) for source in selectors.live_sources()]}
    except live.Unreachable as error:
        return {"unreachable": str(error)}


# --- what waits for somebody ----------------------------------------------------------------------


def failed_deliveries(now: datetime) -> str:
    """Notices that nobody could be told, of the last days."""
    since = now - timedelta(days=FAILED_DAYS)
    return at_most(Delivery.objects.filter(state=Delivery.State.FAILED, last_attempt_at__gte=since))


def quarantined(now: datetime) -> str:
    """Batches that could not be read: usage that is on nobody's bill."""
    return at_most(QuarantinedBatch.objects.all())


def behind(now: datetime) -> str:
    """Tenants whose limits and allowances should have been written anew: the jobs stand still. When
    that takes longer than a billing period, doors go by the amounts of the last one."""
    return at_most(AppliedTerms.objects.filter(next_change_at__lt=now - LATE))


def at_most(rows: QuerySet[Any]) -> str:
    """How many there are; beyond `COUNTED` nobody waits for the exact number."""
    count = rows.order_by()[: COUNTED + 1].count()
    return f"{count:,}" if count <= COUNTED else f"{COUNTED:,} or more"
