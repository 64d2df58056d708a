"""All changes of what a tenant is billed by. Each is written down as limits and allowances in the
same transaction, under the lock of the tenant's row.

Instants are cut to the second, as rating does. Nothing reaches back beyond the running billing
period, and a change of plan not beyond now. What cannot be done raises ValidationError.
"""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from billing.catalogue import terms
from billing.catalogue.begun import begun, no_version, not_past
from billing.catalogue.choices import choose_overage, set_spend_cap
from billing.catalogue.grants import (
    add_add_on,
    end_add_on,
    end_discount,
    end_own_terms,
    grant_discount,
    set_own_terms,
)
from billing.catalogue.publish import publish_add_on_version, publish_plan_version
from billing.catalogue.written import apply_entitlements, write_allowances, write_down
from billing.models import PlannedChange
from billing.rating.periods import in_utc
from billing.rating.prices import PlanPrices
from billing.rating.segments import begin_trial
from tenants import services as tenants
from tenants.models import Plan, PlanSubscription, Tenant
from tenants.selectors import current_plan_subscription

__all__ = [
    "add_add_on",
    "apply_entitlements",
    "cancel",
    "change_plan",
    "choose_overage",
    "end_add_on",
    "end_discount",
    "end_own_terms",
    "grant_discount",
    "join",
    "keep_plan",
    "move_subscribers",
    "publish_add_on_version",
    "publish_plan_version",
    "set_own_terms",
    "set_spend_cap",
    "subscribe",
    "write_allowances",
]


@transaction.atomic
def subscribe(
    tenant: Tenant,
    *,
    plan: Plan,
    version: int | None = None,
    with_trial: bool = True,
    now: datetime | None = None,
) -> PlanSubscription:
    """Put a tenant without a plan on one, by default the version in force, with its trial unless it
    had one before."""
    now, locked = begun(tenant, now)
    if (current := current_plan_subscription(locked)) is not None:
        raise ValidationError(
            _("%(tenant)s is on %(plan)s already: change the plan.")
            % {"tenant": tenant, "plan": current.plan}
        )
    prices = _version(plan, version, now)
    had_trial = PlanSubscription.objects.for_tenant(tenant).exclude(trial_ends_at=None).exists()
    trial_ends_at = begin_trial(prices, now).trial_end if with_trial and not had_trial else None
    subscription = tenants.change_plan(
        locked, plan=plan, version=prices.version, trial_ends_at=trial_ends_at, now=now
    )
    _forget_planned(locked)
    write_down(locked, now)
    return subscription


@transaction.atomic
def join(tenant: Tenant, plan: Plan) -> None:
    """Put a new tenant on a plan as it is sold now: its version in force with trial, limits and
    allowances; one without prices on the plan's own limits."""
    try:
        terms.catalogue().plan(plan.code, timezone.now())
    except LookupError:
        tenants.change_plan(tenant, plan=plan)
        return
    subscribe(tenant, plan=plan)


@transaction.atomic
def change_plan(
    tenant: Tenant,
    *,
    plan: Plan,
    version: int | None = None,
    at: datetime | None = None,
    now: datetime | None = None,
) -> PlanSubscription | PlannedChange:
    """Put a tenant on another plan, or another version of its own, now or `at` a later time
    (`terms.period_of(tenant, now).end` for the end of its period). It takes the place of a change
    that was planned. What is left of a trial is kept when the new plan has one too."""
    now, locked = begun(tenant, now)
    when = not_past(at, now)
    prices = _version(plan, version, when)
    _forget_planned(locked)
    changed: PlanSubscription | PlannedChange
    if when > now:
        changed = PlannedChange.objects.create(
            tenant=locked, plan=plan, version=prices.version, at=when
        )
    else:
        changed = _change_now(locked, plan, prices, now)
    write_down(locked, now)
    return changed


@transaction.atomic
def cancel(tenant: Tenant, *, at: datetime | None = None, now: datetime | None = None) -> None:
    """End a tenant's plan, now or `at` a later time. Its add-ons rest until it has a plan again."""
    now, locked = begun(tenant, now)
    when = not_past(at, now)
    if current_plan_subscription(locked) is None:
        raise ValidationError(_("%(tenant)s is on no plan.") % {"tenant": tenant})
    _forget_planned(locked)
    if when > now:
        PlannedChange.objects.create(tenant=locked, at=when)
    else:
        tenants.end_plan(locked, now=now)
    write_down(locked, now)


@transaction.atomic
def keep_plan(tenant: Tenant, *, now: datetime | None = None) -> None:
    """Forget a planned change or end."""
    now, locked = begun(tenant, now)
    _forget_planned(locked)
    write_down(locked, now)


def move_subscribers(
    plan: Plan, *, to_version: int, at: datetime | None = None, now: datetime | None = None
) -> tuple[int, list[Tenant]]:
    """Put all who are on another version of `plan` on this one, now or `at` a later time. Answers
    how many, and whom not, because something else is planned for them."""
    now = in_utc(now or timezone.now())
    when = not_past(at, now)
    prices = _version(plan, to_version, when)
    others = PlanSubscription.objects.current().filter(plan=plan).exclude(version=to_version)
    moved, left = 0, []
    for row in others.select_related("tenant").order_by("pk"):
        with transaction.atomic():
            locked = begun(row.tenant, now)[1]
            current = current_plan_subscription(locked)
            if current is None or current.plan_id != plan.pk or current.version == to_version:
                continue
            if PlannedChange.objects.filter(tenant=locked, is_pending=True).exists():
                left.append(row.tenant)
                continue
            if when > now:
                PlannedChange.objects.create(tenant=locked, plan=plan, version=to_version, at=when)
            else:
                _change_now(locked, plan, prices, now)
            write_down(locked, now)
            moved += 1
    return moved, left


def _change_now(tenant: Tenant, plan: Plan, prices: PlanPrices, now: datetime) -> PlanSubscription:
    current = current_plan_subscription(tenant)
    trial_ends_at = terms.carried_trial(current.trial_ends_at if current else None, now, prices)
    return tenants.change_plan(
        tenant, plan=plan, version=prices.version, trial_ends_at=trial_ends_at, now=now
    )


def _forget_planned(tenant: Tenant) -> None:
    PlannedChange.objects.filter(tenant=tenant, is_pending=True).delete()


def _version(plan: Plan, version: int | None, at: datetime) -> PlanPrices:
    try:
        if version is None:
            return terms.catalogue().plan(plan.code, at)
        prices = terms.prices().plans[plan.pk, version]
    except LookupError:
        raise ValidationError(no_version(plan.code, version, at)) from None
    if prices.effective_from > at:
        raise ValidationError(no_version(plan.code, version, at))
    return prices
