"""What a change of plan would do to a tenant's invoice, before anybody makes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.utils import timezone

from billing.catalogue import terms
from billing.catalogue.timeline import Timeline
from billing.invoicing.kinds import Custom, customs_of
from billing.invoicing.usage import usage_of
from billing.rating.invoice import Rated
from billing.rating.money import ZERO
from billing.rating.periods import Period, in_utc
from billing.rating.prices import PlanPrices
from billing.rating.rate import rate
from billing.rating.segments import hours_paid
from tenants.models import Plan, Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChangePreview:
    """The running period's invoice without the change (`before`) and with it (`after`), each at the
    usage so far; the segments and their proration are in them (`Rated.segments`, the parts of fee
    lines). Before adjustments, tax and wallet. Like invoices, of the time as a customer only: who
    is none now (`is_invoiced`) owes nothing from now on, so `next_fee` is 0.

    `begun` is the invoice of the period that the change itself begins, when the new plan is billed
    by another interval: its fee is for all of it. `next_fee` is what a whole period of the new
    plan costs without usage, add-ons and discounts among it.
    """

    plan: PlanPrices
    at: datetime
    before: Rated | None
    after: Rated
    begun: Rated | None
    next_fee: Decimal
    is_invoiced: bool

    @property
    def difference(self) -> Decimal:
        """How much more (below 0: less) is invoiced because of the change."""
        more = self.after.total + (self.begun.total if self.begun is not None else ZERO)
        return more - (self.before.total if self.before is not None else ZERO)


def preview_plan_change(
    tenant: Tenant,
    plan: Plan,
    at: datetime | None = None,
    *,
    version: int | None = None,
    now: datetime | None = None,
) -> PlanChangePreview:
    """What changing to `plan` at `at` (by default now) would do. Writes nothing.

    Raises LookupError when no such version is in force then.
    """
    now = in_utc(now or timezone.now())
    when = now if at is None else in_utc(at)
    if version is None:
        prices = terms.catalogue().plan(plan.code, when)
    else:
        prices = terms.prices().plans[plan.pk, version]
    without = terms.TermsBook.load([tenant], is_planned=False).timeline(tenant)
    changed = without.changed(prices, when)
    custom = customs_of([tenant])[tenant.pk]

    before = None
    try:
        period = without.period_of(when)
    except terms.NoTerms:
        period = changed.period_of(when)
    else:
        before = _rated(tenant, custom, without, period)
    # Shorter than without the change, if that begins a period of another interval.
    running = changed.period_of(period.start)
    begun = changed.period_of(when) if when not in running else None
    return PlanChangePreview(
        plan=prices,
        at=when,
        before=before,
        after=_rated(tenant, custom, changed, running),
        begun=_rated(tenant, custom, changed, begun) if begun is not None else None,
        next_fee=_rated(tenant, custom, changed, _next_whole(changed, when), is_used=False).total,
        is_invoiced=custom.is_one,
    )


def _rated(
    tenant: Tenant, custom: Custom, timeline: Timeline, period: Period, *, is_used: bool = True
) -> Rated:
    segments = timeline.segments(period, custom.stretches)
    usage = usage_of(tenant.pk, hours_paid(period, segments), custom) if is_used else ()
    return rate(period, segments, usage, discounts=timeline.discounts_in(period))


def _next_whole(timeline: Timeline, at: datetime) -> Period:
    """The first period after the running one that is not cut short."""
    period = timeline.period_of(timeline.period_of(at).end)
    while period.end != period.full_end:
        period = timeline.period_of(period.end)
    return period
