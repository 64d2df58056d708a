"""How an account does at a glance: what it gets now, what is used of its month, what that will
cost, and whether what is served is fresh.

Each part stands alone, so that one whose source is away leaves the others as they are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.core.cache import cache
from django.utils import timezone
from redis.exceptions import RedisError

from gateway.account import plans
from gateway.account.connections import connections
from gateway.account.plans import AllowanceUsed
from gateway.requests.models import RequestRecord
from tenants.admission.keys import Environment
from tenants.models import Tenant

#: A rate is told of the frames between two looks that lie so far apart.
MIN_SPAN_S = 4.0
MAX_SPAN_S = 120.0
ERRORS_OF = timedelta(hours=1)
_DASHBOARD = f"hlr_{Environment.WEB}_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the tenant's own programs have open now, and get a second; None where that is not known
    yet. Its dashboards are not in it."""

    connections: int
    subscriptions: int
    per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """The running period: `[start, end)`, what it costs so far and will when it goes on like that
    (None too early to say), USD before tax; the allowances with what is used and will be."""

    start: datetime
    end: datetime
    so_far: Decimal
    projected: Decimal | None


@dataclass(frozen=True, slots=True)
class Projected:
    """An allowance and what will be used of it at its end, by the pace so far; None too early to
    say."""

    allowance: AllowanceUsed
    at_end: int | None

    @property
    def percent_at_end(self) -> int | None:
        """Of the allowance; may be above 100."""
        if self.at_end is None or not self.allowance.units:
            return None
        return round(100 * self.at_end / self.allowance.units)


def traffic(tenant: Tenant, *, now_s: float | None = None) -> Traffic:
    """Connections, and frames a second since the last look by anybody. Raises Unavailable."""
    rows = [row for row in connections(tenant) if not row.key_prefix.startswith(_DASHBOARD)]
    return Traffic(
        connections=len(rows),
        subscriptions=sum(row.subscription_count for row in rows),
        per_s=_per_s(tenant, {row.id: row.sent for row in rows}, now_s or time.time()),
    )


def _per_s(tenant: Tenant, sent: dict[str, int], now_s: float) -> float | None:
    """Edges tell what they have sent every five seconds, so looks closer than that say nothing new:
    the rate that was told last is told again."""
    if not sent:
        return 0.0
    key = f"overview:sent:{tenant.pk}"
    try:
        before = cache.get(key)
        if before is None:
            cache.set(key, (now_s, sent, None), MAX_SPAN_S)
            return None
        then_s, sent_then, told = before
        if now_s - then_s < MIN_SPAN_S and told is not None:
            return float(told)
        frames = sum(max(0, count - sent_then.get(name, 0)) for name, count in sent.items())
        if frames == 0 and now_s - then_s < 3 * MIN_SPAN_S:
            return told
        per_s = frames / max(now_s - then_s, MIN_SPAN_S)
        cache.set(key, (now_s, sent, per_s), MAX_SPAN_S)
    except (RedisError, OSError):
        return None
    return per_s


def money(tenant: Tenant, *, now: datetime | None = None) -> Money | None:
    """None for a tenant without prices."""
    running = plans.running(tenant, now=now)
    if running is None:
        return None
    return Money(
        start=running.period.start,
        end=running.period.end,
        so_far=running.so_far.total,
        projected=None if running.projected is None else running.projected.total,
    )


def allowances(tenant: Tenant, *, now: datetime | None = None) -> list[Projected]:
    """Those in force, the most used first."""
    at = now or timezone.now()
    rows = plans.allowances(tenant, now=at)
    # Of nothing nothing was used: the plan has not that at all.
    found = [Projected(one, _at_end(one, at)) for one in rows if one.units or one.used]
    return sorted(found, key=lambda one: -one.allowance.percent)


def _at_end(one: AllowanceUsed, now: datetime) -> int | None:
    elapsed, whole = now - one.starts_at, one.ends_at - one.starts_at
    if elapsed < plans.MIN_ELAPSED:
        return None
    return int(one.used * (whole / elapsed))


def errors(tenant: Tenant, *, now: datetime | None = None) -> int:
    """Refused and failed requests of the last hour."""
    since = (now or timezone.now()) - ERRORS_OF
    return RequestRecord.objects.for_tenant(tenant).filter(at__gte=since).count()
