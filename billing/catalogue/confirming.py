"""A change of plan that is confirmed as it was shown.

What is signed is the instant of the preview and all that its figures came from but usage. Confirmed
while nothing of that moved, a change holds from the previewed instant on, so its fees are to the
cent those that were shown; else nothing is changed, and the preview is to be made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core import signing
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing.catalogue import terms
from billing.catalogue.preview import PlanChangePreview, preview_plan_change
from billing.catalogue.services import change_plan
from billing.catalogue.written import locked_tenant
from billing.models import (
    AddOnSubscription,
    BillingChoice,
    DiscountGrant,
    KindChange,
    OwnTerms,
    PlannedChange,
)
from billing.rating.periods import full_hour, in_utc
from tenants.models import Plan, PlanSubscription, Tenant
from tenants.selectors import current_plan_subscription

#: How long a preview can be confirmed, and never over a full hour, at which usage changes hands.
LIFE = timedelta(minutes=15)
_SALT = "billing.change-of-plan"


class MovedError(ValidationError):
    """What was shown is not what would happen any more."""

    def __init__(self) -> None:
        super().__init__(
            _("Something changed since these figures were shown: look at them again."),
            code="moved",
        )


class DoneError(ValidationError):
    """What was shown has been confirmed already, by the same form sent again."""

    def __init__(self) -> None:
        super().__init__(
            _("The plan was changed already, as it was shown. Nothing was changed again."),
            code="done",
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """A preview, and what confirms exactly it."""

    preview: PlanChangePreview
    token: str


def show(
    tenant: Tenant, plan: Plan, *, at_period_end: bool = False, now: datetime | None = None
) -> Shown:
    """What changing to `plan` would do, now or at the end of the running period. Writes nothing.
    Raises LookupError where no version is in force then."""
    began = in_utc(now or timezone.now())
    state = state_of(tenant)
    preview = preview_plan_change(tenant, plan, _when(tenant, began, at_period_end), now=began)
    signed = {
        "tenant": tenant.pk,
        "plan": plan.pk,
        "version": preview.plan.version,
        "shown": began.isoformat(),
        "at": preview.at.isoformat(),
        "is_later": at_period_end,
        "state": state,
    }
    return Shown(preview, signing.dumps(signed, salt=_SALT))


@transaction.atomic
def confirm(
    tenant: Tenant, token: str, *, now: datetime | None = None
) -> PlanSubscription | PlannedChange:
    """Change the plan as it was shown. Raises MovedError where something moved, the preview is too
    old or the token another's, DoneError where this very change was made already, ValidationError
    where it cannot be made."""
    began = in_utc(now or timezone.now())
    try:
        signed = signing.loads(token, salt=_SALT)
        shown, at = (datetime.fromisoformat(signed[name]) for name in ("shown", "at"))
    except (signing.BadSignature, KeyError, ValueError, TypeError):
        raise MovedError from None
    locked = locked_tenant(tenant)
    is_same = signed["state"] == state_of(locked)
    if not is_same and signed["tenant"] == locked.pk and _is_done(locked, signed, shown, at):
        raise DoneError
    plan = Plan.objects.filter(pk=signed["plan"], is_active=True).first()
    is_fresh = shown <= began <= shown + LIFE and full_hour(shown) == full_hour(began)
    due = PlannedChange.objects.filter(tenant=locked, is_pending=True, at__lte=began)
    if signed["tenant"] != locked.pk or plan is None or not is_fresh or not is_same or due.exists():
        raise MovedError
    if signed["is_later"]:
        if at <= began:
            raise MovedError
        return change_plan(locked, plan=plan, version=signed["version"], at=at, now=began)
    return change_plan(locked, plan=plan, version=signed["version"], now=shown)


def _is_done(tenant: Tenant, signed: Mapping[str, Any], shown: datetime, at: datetime) -> bool:
    """Whether the tenant's plan, or its planned one, is what a confirmation of this has made: to
    the instant, so that it is not another's that came to the same."""
    change = {"plan": signed["plan"], "version": signed["version"]}
    if not signed["is_later"]:
        current = PlanSubscription.objects.for_tenant(tenant).current()
        return current.filter(started_at=shown, **change).exists()
    return PlannedChange.objects.filter(tenant=tenant, is_pending=True, at=at, **change).exists()


def state_of(tenant: Tenant) -> str:
    """A digest of what a tenant is billed by, beside its usage."""
    current = current_plan_subscription(tenant)
    of_tenant = Q(tenant=tenant)
    rows: list[object] = [
        None
        if current is None
        else (current.pk, current.plan_id, current.version, str(current.trial_ends_at))
    ]
    for model, columns in (
        (PlannedChange, ("pk", "plan_id", "version", "at", "is_pending")),
        (AddOnSubscription, ("pk", "version", "quantity", "started_at", "ended_at")),
        (OwnTerms, ("pk", "starts_at", "ends_at")),
        (DiscountGrant, ("pk", "starts_at", "ends_at")),
        (BillingChoice, ("pk",)),
        (KindChange, ("pk",)),
    ):
        found = model._default_manager.filter(of_tenant).order_by("pk").values_list(*columns)
        rows.append([tuple(map(str, row)) for row in found])
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _when(tenant: Tenant, now: datetime, at_period_end: bool) -> datetime:
    if not at_period_end:
        return now
    try:
        return terms.period_of(tenant, now).end
    except terms.NoTerms:
        return now
