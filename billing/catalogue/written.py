"""What terms come to, written down where the doors look: the limits of a tenant (`QuotaOverride`)
and its allowances (`Allowance`).

After each change, and by a beat after what changes by time: a planned change of plan, the end of a
trial, own terms, add-ons, a new billing period. `AppliedTerms` says when that is next. The terms
themselves are right at every instant (`terms.py`); only what is written down follows within a
minute. A second beat changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone

from billing.catalogue import terms
from billing.catalogue.allowed import Allowed, allowed_at, hours_of, not_yet, paying
from billing.catalogue.timeline import Timeline
from billing.free import ALWAYS_FREE
from billing.invoicing.kinds import Custom, customs_of
from billing.invoicing.usage import usage_of
from billing.models import AppliedTerms, BillingAnchor, PlannedChange
from billing.rating.fields import MAX_UNITS
from billing.rating.invoice import Usage
from billing.rating.money import ZERO
from billing.rating.periods import HOUR, Period, full_hour, in_utc, usage_hours
from billing.rating.prices import Entitlements, Meter, PlanPrices
from billing.rating.segments import hours_paid
from tenants import services as tenants
from tenants.models import Allowance, PlanSubscription, Quota, Tenant
from tenants.selectors import current_plan_subscription

log = structlog.get_logger(__name__)

#: The allowances of a new period are there this long before it begins.
AHEAD = HOUR
#: Tenants that one beat brings up to date, so that it is done before the next. All of them are due
#: an hour before a month begins, and that hour has room for 30,000.
MAX_A_TURN = 500
#: What stands for no limit where a column needs a number.
MAX_CONNECTIONS, MAX_SUBSCRIPTIONS, MAX_BURST = 1_000_000, 10_000_000, 10_000_000


@transaction.atomic
def write_down(tenant: Tenant | int, now: datetime | None = None) -> None:
    """Bring limits, allowances and recorded anchors of one tenant up to date."""
    now = in_utc(now or timezone.now())
    locked = locked_tenant(tenant)
    timeline = terms.timeline_of(locked)
    record_anchors(locked, timeline)
    _apply_entitlements(locked, timeline, now)
    _write_allowances(locked, timeline, now)
    current = current_plan_subscription(locked)
    AppliedTerms.objects.update_or_create(
        tenant=locked,
        defaults={
            "subscription": current,
            "applied_at": now,
            "next_change_at": _next_change(timeline, now),
        },
    )


def apply_entitlements(tenant: Tenant | int, now: datetime | None = None) -> bool:
    """Make a tenant's limits what its terms say now. Answers whether they changed."""
    with transaction.atomic():
        locked = locked_tenant(tenant)
        timeline = terms.timeline_of(locked)
        return _apply_entitlements(locked, timeline, in_utc(now or timezone.now()))


def write_allowances(tenant: Tenant | int, now: datetime | None = None) -> bool:
    """Make a tenant's allowances what its terms, and under a spend cap its usage, say now. Answers
    whether they changed."""
    with transaction.atomic():
        locked = locked_tenant(tenant)
        timeline = terms.timeline_of(locked)
        return _write_allowances(locked, timeline, in_utc(now or timezone.now()))


def record_anchors(tenant: Tenant, timeline: Timeline) -> None:
    """Keep what the tenant's periods are counted from, so that a later change of the setting does
    not move them. What is only planned is not kept yet."""
    if timeline.is_planned:
        timeline = terms.TermsBook.load([tenant], is_planned=False).timeline(tenant)
    kept = timeline.recorded_anchors()
    for anchor in timeline.anchors():
        if anchor not in kept:
            BillingAnchor.objects.create(
                tenant=tenant,
                at=anchor.at,
                unit=str(anchor.interval.unit),
                every=anchor.interval.every,
            )


def catch_up(now: datetime, *, most: int = MAX_A_TURN) -> int:
    """Write down what changed by time, or was changed past billing. Answers for how many
    tenants."""
    done = 0
    for tenant_id in list(dict.fromkeys(_due(now, most)))[:most]:
        try:
            with transaction.atomic():
                _catch_up(tenant_id, in_utc(now))
        except Exception as error:  # one tenant's trouble is not the others'
            log.exception("terms_not_applied", tenant=tenant_id, error=type(error).__name__)
        else:
            done += 1
    return done


def _due(now: datetime, most: int) -> Iterator[int]:
    due = AppliedTerms.objects.filter(next_change_at__lte=now).order_by("next_change_at")
    yield from due.values_list("tenant_id", flat=True)[:most]
    # Put on a plan by tenants' own services, which know of no prices.
    applied = AppliedTerms.objects.filter(tenant=OuterRef("tenant")).values("subscription")
    unseen = (
        PlanSubscription.objects.current()
        .annotate(seen=Subquery(applied[:1]))
        .filter(Q(seen=None) | ~Q(seen=F("pk")))
    )
    yield from unseen.order_by("pk").values_list("tenant_id", flat=True)[:most]


def _catch_up(tenant_id: int, now: datetime) -> None:
    tenant = locked_tenant(tenant_id)
    settle(tenant, now)
    write_down(tenant, now)


def settle(tenant: Tenant, now: datetime) -> None:
    """Make the rows of a locked tenant what its terms say by `now`: planned changes that are due
    are carried out, and a trial that does not convert ends."""
    before = current_plan_subscription(tenant)
    _adopt(tenant)
    for change in PlannedChange.objects.filter(tenant=tenant, is_pending=True, at__lte=now):
        carry_out(tenant, change)
    current = current_plan_subscription(tenant)
    if current is not None and current.trial_ends_at is not None and current.trial_ends_at <= now:
        plan = terms.prices().plans.get((current.plan_id, current.version))
        if plan is not None and plan.trial is not None and not plan.trial.converts:
            tenants.end_plan(tenant, now=current.trial_ends_at)
    if current_plan_subscription(tenant) != before:
        write_down(tenant, now)


def carry_out(tenant: Tenant, change: PlannedChange) -> None:
    """Do what was planned, as of when it was planned for."""
    if change.plan is None or change.version is None:
        tenants.end_plan(tenant, now=change.at)
    else:
        before = current_plan_subscription(tenant)
        prices = terms.prices().plans[change.plan.pk, change.version]
        tenants.change_plan(
            tenant,
            plan=change.plan,
            version=change.version,
            trial_ends_at=terms.carried_trial(
                before.trial_ends_at if before else None, change.at, prices
            ),
            now=change.at,
        )
    change.is_pending, change.done_at = None, timezone.now()
    change.save(update_fields=["is_pending", "done_at"])


def _adopt(tenant: Tenant) -> None:
    """A plan that was given by tenants' own services is of the version in force when it began."""
    current = current_plan_subscription(tenant)
    applied = AppliedTerms.objects.filter(tenant=tenant).first()
    if current is None or (applied is not None and applied.subscription_id == current.pk):
        return
    try:
        plan = terms.catalogue().plan(current.plan.code, current.started_at)
    except LookupError:
        return
    if current.version != plan.version:
        current.version = plan.version
        current.save(update_fields=["version"])


def _next_change(timeline: Timeline, now: datetime) -> datetime | None:
    """When the rows are not right any more, or those of an hour later are not there yet."""
    edges = [timeline.next_change_after(now), timeline.next_change_after(now + AHEAD)]
    found = [edge for edge in edges[:1] if edge is not None]
    found += [edge - AHEAD for edge in edges[1:] if edge is not None]
    if _ends_with_the_hour(timeline, now):
        found.append(full_hour(now) + HOUR)
    try:
        found.append(timeline.period_of(now + AHEAD).end - AHEAD)
    except terms.NoTerms:
        pass
    return min(found, default=None)


def _ends_with_the_hour(timeline: Timeline, now: datetime) -> bool:
    """Whether this hour is paid by other terms than the next."""
    try:
        period = timeline.period_of(now)
    except terms.NoTerms:
        return False
    segments = timeline.segments(period)
    found = paying(period, segments, now)
    return found is not None and not found.start <= now < found.end


# --- limits -------------------------------------------------------------------------------------


def _apply_entitlements(tenant: Tenant, timeline: Timeline, now: datetime) -> bool:
    current = current_plan_subscription(tenant)
    allowed_now = timeline.entitlements_at(now)
    if allowed_now is None and current is not None and not _is_priced(current, now):
        # The plan's own limits stand, or those that an operator gave; only ours go.
        had = AppliedTerms.objects.filter(tenant=tenant, has_limits=True).update(has_limits=False)
        return tenants.set_limits(tenant, None) if had else False
    AppliedTerms.objects.update_or_create(
        tenant=tenant,
        defaults={"has_limits": True},
        create_defaults={"has_limits": True, "applied_at": now},
    )
    quota = Quota.objects.filter(plan=current.plan).first() if current else None
    return tenants.set_limits(tenant, _limits(allowed_now or Entitlements(), quota))


def _is_priced(current: PlanSubscription, now: datetime) -> bool:
    plan = terms.prices().plans.get((current.plan_id, current.version))
    return plan is not None and plan.effective_from <= now


def _limits(found: Entitlements, quota: Quota | None) -> dict[str, Any]:
    rate = found.requests_per_s
    limits = {
        "max_connections": MAX_CONNECTIONS if found.connections is None else found.connections,
        "max_subscriptions": (
            MAX_SUBSCRIPTIONS if found.subscriptions is None else found.subscriptions
        ),
        "max_coins": found.coins,
        "max_users": found.users,
        # A rate of none at all cannot be written; the products say which doors are closed.
        "requests_per_s": None if rate is None else max(1, rate),
        "burst": None if rate is None else max(1, rate, found.burst or 0),
        "retention_hours": found.retention_hours,
        "products": list(found.products),
        "channels": None if found.channels is None else list(found.channels),
        "regions": None if found.regions is None else list(found.regions),
    }
    if rate is not None and found.burst is None:
        limits["burst"] = MAX_BURST
    if quota is not None:
        limits["max_lag_s"] = quota.max_lag_s
    return limits


# --- allowances ---------------------------------------------------------------------------------


def _write_allowances(tenant: Tenant, timeline: Timeline, now: datetime) -> bool:
    custom = customs_of([tenant])[tenant.pk]
    wanted, since = wanted_allowances(tenant, timeline, now, custom)
    return tenants.set_allowances(tenant, wanted, since=since)


def wanted_allowances(
    tenant: Tenant, timeline: Timeline, now: datetime, custom: Custom
) -> tuple[list[Allowance], datetime]:
    """The rows (not saved) that a tenant's terms come to at `now`, an hour later and in the period
    after that, and since when there are to be no others.

    With a whole period ahead, a beat may stand still for as long. After that the last rows go on
    (`tenants.admission.continued`): only those of the last period say so, and without any, none.

    Money bounds customers: who is none now (`custom`) has no spend cap, and all that a plan
    includes. Who became one within the period has what its time as one includes, as its invoice
    will say.
    """
    wanted: dict[tuple[str, datetime], Allowance] = {}
    used: dict[Period, tuple[Usage, ...]] = {}
    foreign = _Foreign(tenant.pk, custom, full_hour(now) + HOUR)
    last: list[Allowance] = []
    since = None
    moments = [now, now + AHEAD]
    try:
        moments.append(timeline.period_of(now + AHEAD).end)
    except terms.NoTerms:
        pass
    for at in moments:
        try:
            period = timeline.period_of(at)
        except terms.NoTerms:
            continue
        since = since or usage_hours(period, timeline.plans)[0]
        last = list(_allowances(tenant, timeline, period, at, used, foreign))
        for row in last:
            wanted.setdefault((row.code, row.starts_at), row)
    for row in last:
        # Not what is refused for an hour alone.
        wanted[row.code, row.starts_at].goes_on = row.ends_at - row.starts_at > HOUR
    return list(wanted.values()), since or now


def _allowances(
    tenant: Tenant,
    timeline: Timeline,
    period: Period,
    at: datetime,
    used: dict[Period, tuple[Usage, ...]],
    foreign: _Foreign,
) -> Iterator[Allowance]:
    """`used` is filled with what was used in a period so far, once it is needed."""
    custom = foreign.custom
    segments = timeline.segments(period, custom.stretches if custom.is_one else None)
    pays = paying(period, segments, at)
    hours = None if pays is None else hours_of(period, segments, pays)
    if hours is None:
        return  # no terms, or all of its usage counts as another's
    spend_cap = timeline.choice_at(at).spend_cap if custom.is_one else None
    if spend_cap is not None and period not in used:
        # Up to now: what is to come has no sums, and reading it costs a statement a cut.
        end = foreign.until
        so_far = [(a, min(b, end)) for a, b in hours_paid(period, segments) if a < end]
        used[period] = tuple(usage_of(tenant.pk, so_far, custom))
    found = used.get(period, ())
    for one in allowed_at(period, segments, at, found, spend_cap=spend_cap):
        # Doors count all that was used in these hours.
        more = foreign.units(one.meter, pays.plan, hours) if pays is not None else 0
        yield _row(tenant, replace(one, units=min(one.units + more, MAX_UNITS)), hours)
    hour = full_hour(at)
    for meter in not_yet(period, segments, at):
        nothing = Allowed(meter.code, meter, meter.channels, 0, is_hard=True)
        yield _row(tenant, nothing, (hour, hour + HOUR))


@dataclass(frozen=True, slots=True)
class _Foreign:
    """What a customer used by `until` while it was none, which counts against nothing."""

    tenant_id: int
    custom: Custom
    until: datetime
    _read: dict[tuple[datetime, datetime], list[Usage]] = field(default_factory=dict)

    def units(self, meter: Meter, plan: PlanPrices, hours: tuple[datetime, datetime]) -> int:
        """Weighted units of what `meter` of `plan` counts in these hours, rounded up."""
        if not self.custom.changes or not self.custom.is_one:
            return 0
        total = ZERO
        for row in self._of(hours):
            counts = plan.meter_of(row.metric, row.channel)
            if counts is not None and counts.code == meter.code:
                total += row.units * meter.weight(row.channel)
        return math.ceil(total)

    def _of(self, hours: tuple[datetime, datetime]) -> list[Usage]:
        if hours not in self._read:
            ranges = [(hours[0], min(hours[1], self.until))] if hours[0] < self.until else []
            mine = {row[:4]: row.units for row in usage_of(self.tenant_id, ranges, self.custom)}
            self._read[hours] = [
                row._replace(units=row.units - mine.get(row[:4], 0))
                for row in usage_of(self.tenant_id, ranges)
                if row.reason not in ALWAYS_FREE
            ]
        return self._read[hours]


def _row(tenant: Tenant, one: Allowed, hours: tuple[datetime, datetime]) -> Allowance:
    return Allowance(
        tenant=tenant,
        code=one.code,
        metric=str(one.meter.metric),
        channels=list(one.channels),
        weights=one.weights,
        starts_at=hours[0],
        ends_at=hours[1],
        units=one.units,
        is_hard=one.is_hard,
    )


def locked_tenant(tenant: Tenant | int) -> Tenant:
    """The row of a tenant, locked: whoever changes its terms waits for the others."""
    pk = tenant if isinstance(tenant, int) else tenant.pk
    return Tenant.objects.select_for_update().get(pk=pk)
