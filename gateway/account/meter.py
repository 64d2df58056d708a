"""What the running period comes to, for pages that look again every few seconds.

From the sums of months and days, and kept for a moment: many open pages of a tenant are one read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.core.cache import cache
from django.utils import timezone
from redis.exceptions import RedisError

from billing.catalogue import terms
from billing.catalogue.timeline import Timeline
from billing.invoicing.usage import usage_of
from billing.rating.invoice import Line, LineKind
from billing.rating.periods import full_hour
from gateway.account import periods, plans
from gateway.account.plans import Running
from tenants.models import QuotaWarning, Tenant

#: For how long a reading is good.
KEPT_S = 4
_KEY = "account.meter.{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Messages and requests since `starts_at`, free ones too; `so_far` and `projected` in dollars
    before tax, None without a plan that has prices (or too early to say)."""

    starts_at: datetime
    ends_at: datetime
    read_at: datetime
    messages: int
    requests: int
    so_far: Decimal | None
    projected: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The running period line by line, what usage may cost beyond the fees (`spend_cap`), and the
    last warning of it that was given."""

    running: Running | None
    lines: tuple[tuple[Line, Decimal | None], ...]
    spend_cap: Decimal | None
    overage: bool
    warning: QuotaWarning | None

    @property
    def used_of_cap(self) -> Decimal:
        """What usage costs so far, which is what a spend cap bounds."""
        return sum((line.amount for line, _ in self.lines if line.kind == LineKind.USAGE), _ZERO)


def read(tenant: Tenant, *, now: datetime | None = None) -> Meter:
    """As of the last few seconds."""
    if now is None and (kept := _kept(tenant)) is not None:
        return kept
    at = now or timezone.now()
    running = plans.running(tenant, now=at)
    if running is None:
        start, end = periods.this_and_last(tenant, now=at)[0]
    else:
        start, end = running.period.start, running.period.end
    sums: Counter[str] = Counter()
    for row in usage_of(tenant.pk, [(full_hour(start), end)]):
        sums[row.metric] += row.units
    found = Meter(
        starts_at=start,
        ends_at=end,
        read_at=at,
        messages=sums["messages"],
        requests=sums["requests"],
        so_far=running.so_far.subtotal if running else None,
        projected=running.projected.subtotal if running and running.projected else None,
    )
    if now is None:
        # A cache that is away costs time and nothing else.
        with suppress(RedisError):
            cache.set(_KEY.format(tenant.pk), found, KEPT_S)
    return found


def cost_of(
    tenant: Tenant, *, now: datetime | None = None, timeline: Timeline | None = None
) -> Cost:
    """The running period, with the projection of each line; `timeline` are the tenant's terms,
    where they have been read."""
    at = now or timezone.now()
    timeline = timeline or terms.timeline_of(tenant)
    running = plans.running(tenant, now=at, timeline=timeline)
    choice = timeline.choice_at(at)
    warned = QuotaWarning.objects.for_tenant(tenant).filter(resets_at__gt=at)
    lines: tuple[tuple[Line, Decimal | None], ...] = ()
    if running is not None:
        later = _by_place(running.projected.lines) if running.projected else {}
        lines = tuple((line, later.get(_place(line))) for line in running.so_far.lines)
    return Cost(
        running=running,
        lines=lines,
        spend_cap=choice.spend_cap,
        overage=choice.overage,
        warning=warned.order_by("-threshold", "-pk").first(),
    )


def _kept(tenant: Tenant) -> Meter | None:
    with suppress(RedisError):
        kept = cache.get(_KEY.format(tenant.pk))
        return kept if isinstance(kept, Meter) else None
    return None


def _place(line: Line) -> tuple[str, str, str]:
    return str(line.kind), line.code, line.reason


def _by_place(lines: Iterable[Line]) -> dict[tuple[str, str, str], Decimal]:
    sums: dict[tuple[str, str, str], Decimal] = {}
    for line in lines:
        sums[_place(line)] = sums.get(_place(line), _ZERO) + line.amount
    return sums


_ZERO = Decimal(0)
