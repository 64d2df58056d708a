"""What a tenant chose: whether it may use more than is included, and what that may cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from billing.catalogue import terms
from billing.catalogue.begun import begun, next_hour
from billing.catalogue.timeline import Choice
from billing.catalogue.written import write_down
from billing.models import BillingChoice
from billing.rating.periods import full_hour
from tenants.models import Tenant

MAX_SPEND_CAP = Decimal(1_000_000_000)


@transaction.atomic
def choose_overage(tenant: Tenant, *, is_on: bool, now: datetime | None = None) -> None:
    """Let a tenant use more than is included, from the beginning of this hour; or no more, from the
    next hour on, so that what it used in this one is still paid."""
    now, locked = begun(tenant, now)
    since = _this_hour(locked, now) if is_on else next_hour(now)
    _choose(locked, since, lambda choice: choice._replace(overage=is_on))
    write_down(locked, now)


@transaction.atomic
def set_spend_cap(tenant: Tenant, cap: Decimal | None, *, now: datetime | None = None) -> None:
    """Bound what usage beyond the included may cost in a period, before discounts and tax; None is
    no bound."""
    if cap is not None and not (
        cap.is_finite() and 0 <= cap <= MAX_SPEND_CAP and cap == round(cap, 2)
    ):
        raise ValidationError(
            _(
                "A spend cap is an amount of 0 to %(most)s USD with at most two decimals, not "
                "%(cap)s."
            )
            % {"most": f"{MAX_SPEND_CAP:,}", "cap": cap}
        )
    now, locked = begun(tenant, now)
    _choose(locked, _this_hour(locked, now), lambda choice: choice._replace(spend_cap=cap))
    write_down(locked, now)


def _this_hour(tenant: Tenant, now: datetime) -> datetime:
    """The beginning of this hour, or of a billing period that began within it: what the one before
    was billed by stays."""
    try:
        return max(full_hour(now), terms.period_of(tenant, now).start)
    except terms.NoTerms:
        return full_hour(now)


def _choose(tenant: Tenant, since: datetime, change: Callable[[Choice], Choice]) -> None:
    """Change what was chosen from `since` on, also where another choice follows later."""
    timeline = terms.timeline_of(tenant)
    for at in sorted({since, *(c.since for c in timeline.choices if c.since > since)}):
        before = timeline.choice_at(at)
        after = change(before)
        if after != before:
            BillingChoice.objects.create(
                tenant=tenant, since=at, overage=after.overage, spend_cap=after.spend_cap
            )
