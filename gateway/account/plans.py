"""The plan a tenant is on, what is left of it, what the running period costs so far, and what
another plan would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from billing.catalogue import services, terms
from billing.catalogue.preview import PlanChangePreview, preview_plan_change
from billing.catalogue.timeline import NoTerms, Timeline
from billing.invoicing.kinds import customs_of
from billing.invoicing.usage import usage_of
from billing.metering.used import read_used
from billing.models import PlannedChange
from billing.rating.invoice import Rated
from billing.rating.periods import Period, in_utc
from billing.rating.prices import AddOnPrices, PlanPrices
from billing.rating.rate import rate
from billing.rating.segments import Segment, hours_paid
from gateway.account.errors import Conflict, NotFound
from tenants.admission.account import Used, micros_of
from tenants.admission.caps import Cap, caps_of_allowances, standing
from tenants.models import Plan, PlanSubscription, Quota, QuotaFields, QuotaOverride, Tenant
from tenants.selectors import allowances_of, current_plan_subscription

#: A projection from less of a period than this is a guess.
MIN_ELAPSED = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """What a tenant is on: `prices` is the published version with the tenant's own terms in it,
    None where the plan bills nothing; `limits` what it may hold open; `planned` a change to come.
    """

    subscription: PlanSubscription | None
    prices: PlanPrices | None
    add_ons: tuple[tuple[AddOnPrices, int], ...]
    limits: QuotaFields | None
    period: Period | None
    planned: PlannedChange | None
    is_overage_on: bool
    spend_cap: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowanceUsed:
    """How much of one allowance is used in `[starts_at, ends_at)`, as the database has it: up to a
    minute behind the doors. `channels` () are all that no other names; without `is_hard` more is
    charged and not refused."""

    code: str
    metric: str
    channels: tuple[str, ...]
    used: int
    units: int
    is_hard: bool
    starts_at: datetime
    ends_at: datetime

    @property
    def percent(self) -> float:
        """How much of it is used, which may be above 100."""
        return round(100 * self.used / self.units, 2) if self.units else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The running period: what it costs so far, and what it will if the rest of it is used as the
    time until now was; before tax, wallet and adjustments. `projected` is None too early to say.
    Of the time as a customer only: without `is_invoiced` nothing more of it is ever owed."""

    period: Period
    now: datetime
    so_far: Rated
    projected: Rated | None
    is_invoiced: bool


def current(
    tenant: Tenant, *, now: datetime | None = None, timeline: Timeline | None = None
) -> Current:
    """What a tenant is on now; `timeline` are its terms, where they have been read."""
    at = in_utc(now or timezone.now())
    subscription = current_plan_subscription(tenant)
    timeline = timeline or terms.timeline_of(tenant)
    segment = timeline.segment_at(at)
    choice = timeline.choice_at(at)
    planned = PlannedChange.objects.filter(tenant=tenant, is_pending=True)
    return Current(
        subscription=subscription,
        prices=segment.plan if segment is not None else None,
        add_ons=segment.add_ons if segment is not None else (),
        limits=limits_of(tenant, subscription),
        period=_period(timeline, at),
        planned=planned.select_related("plan").order_by("at").first(),
        is_overage_on=choice.overage,
        spend_cap=choice.spend_cap,
    )


def limits_of(tenant: Tenant, subscription: PlanSubscription | None) -> QuotaFields | None:
    """The limits in force: the tenant's own, else its plan's."""
    own = QuotaOverride.objects.filter(tenant=tenant).first()
    if own is not None or subscription is None:
        return own
    return Quota.objects.filter(plan=subscription.plan_id).first()


def allowances(tenant: Tenant, *, now: datetime | None = None) -> list[AllowanceUsed]:
    """All that count now, with what is used of each. Two statements for each period there is."""
    at = now or timezone.now()
    caps = caps_of_allowances(tenant.pk, allowances_of(tenant.pk, at), at)
    used = {
        span: read_used(tenant.pk, *span) for span in {(cap.starts_at, cap.ends_at) for cap in caps}
    }
    return [_used(cap, used[cap.starts_at, cap.ends_at]) for cap in caps]


def running(
    tenant: Tenant, *, now: datetime | None = None, timeline: Timeline | None = None
) -> Running | None:
    """What the running period costs; None without a plan that has prices. `timeline` as in
    `current`."""
    at = in_utc(now or timezone.now())
    timeline = timeline or terms.timeline_of(tenant)
    period = _period(timeline, at)
    if period is None:
        return None
    custom = customs_of([tenant])[tenant.pk]
    segments = timeline.segments(period, custom.stretches)
    discounts = timeline.discounts_in(period)
    usage = usage_of(tenant.pk, hours_paid(period, segments), custom)
    so_far = rate(period, segments, usage, discounts=discounts)
    # In whole microseconds, because a timedelta times some million units is beyond its range.
    elapsed, whole = (_in_force(segments, until) for until in (at, period.end))
    projected = None
    if not custom.is_one:
        projected = so_far
    elif elapsed >= MIN_ELAPSED // _MICROSECOND:
        scaled = [use._replace(units=-(-use.units * whole // elapsed)) for use in usage]
        projected = rate(period, segments, scaled, discounts=discounts)
    return Running(
        period=period, now=at, so_far=so_far, projected=projected, is_invoiced=custom.is_one
    )


def offered(*, now: datetime | None = None) -> list[PlanPrices]:
    """What can be bought now, by its fee: of each plan that is offered the version in force."""
    at = in_utc(now or timezone.now())
    catalogue = terms.catalogue()
    found = []
    for code in Plan.objects.filter(is_active=True).values_list("code", flat=True):
        try:
            found.append(catalogue.plan(code, at))
        except LookupError:
            continue  # without prices, or not yet
    return sorted(found, key=lambda plan: (plan.fee, plan.code))


def preview(
    tenant: Tenant, code: str, *, at: datetime | None = None, now: datetime | None = None
) -> PlanChangePreview:
    """What changing to a plan at `at` (by default now) would do to the invoice; writes nothing.
    Raises NotFound and Conflict."""
    plan = _plan(code)
    began = in_utc(now or timezone.now())
    if at is not None and at < began - timedelta(seconds=60):
        raise Conflict(_("at: a change of plan cannot be in the past."))
    try:
        when = None if at is None else max(in_utc(at), began)
        return preview_plan_change(tenant, plan, when, now=began)
    except LookupError:
        raise Conflict(
            _("plan: %(code)r has no prices at that time.") % {"code": code[:40]}
        ) from None


def change(
    tenant: Tenant, code: str, *, at_period_end: bool = False, now: datetime | None = None
) -> PlanSubscription | PlannedChange:
    """Change to an offered plan, now or at the end of the running period. Raises NotFound and
    Conflict."""
    plan = _plan(code)
    began = in_utc(now or timezone.now())
    at = None
    if at_period_end and (period := _period(terms.timeline_of(tenant), began)) is not None:
        at = period.end
    try:
        return services.change_plan(tenant, plan=plan, at=at, now=began)
    except ValidationError as error:
        raise Conflict(" ".join(error.messages)) from None


def _plan(code: str) -> Plan:
    plan = Plan.objects.filter(code=code, is_active=True).first()
    if plan is None:
        raise NotFound(_("There is no plan %(code)r.") % {"code": code[:40]})
    return plan


def _period(timeline: Timeline, at: datetime) -> Period | None:
    try:
        return timeline.period_of(at)
    except NoTerms:
        return None


def _in_force(segments: Sequence[Segment], until: datetime) -> int:
    """Microseconds before `until` in which anything was."""
    lasted = ((min(one.end, until) - one.start) // _MICROSECOND for one in segments)
    return sum(max(0, part) for part in lasted)


def _used(cap: Cap, rows: list[Used]) -> AllowanceUsed:
    micros = sum(micros_of(cap, row) for row in rows)
    return AllowanceUsed(
        code=cap.code,
        metric=cap.metrics[0],
        channels=tuple(sorted(cap.channels)),
        used=standing(cap, micros).used,
        units=cap.units,
        is_hard=cap.is_hard,
        starts_at=cap.starts_at,
        ends_at=cap.ends_at,
    )
