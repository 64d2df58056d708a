"""All writes to tenants, plans and keys. Each announces itself once it is committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.text import slugify

from tenants import selectors
from tenants.admission import changes, keys
from tenants.admission.principal import DEFAULT_SCOPES
from tenants.models import Allowance, APIKey, Plan, PlanSubscription, QuotaOverride, Tenant

#: `last_used_at` is written at most this often per key.
USE_RESOLUTION = timedelta(minutes=1)
#: How long an old key may work beside its successor.
MAX_OVERLAP = timedelta(days=7)
#: What a customer may change of a key, and what its successor takes over.
KEY_RIGHTS = (
    "name",
    "scopes",
    "allowed_networks",
    "allowed_origins",
    "rate_per_minute",
    "rate_burst",
    "daily_quota",
    "monthly_quota",
    "owner",
    "note",
    "expires_at",
)
_OF_ALLOWANCE = ("metric", "channels", "weights", "ends_at", "units", "is_hard")


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and, this once, the key itself. `raw` stays out of `repr` so that no log can hold
    it."""

    key: APIKey
    raw: str = field(repr=False)


@transaction.atomic
def create_tenant(
    *, name: str, plan: Plan | None, slug: str = "", kind: str = Tenant.Kind.EXTERNAL
) -> Tenant:
    """A new tenant on `plan`, or on none yet. Raises ValidationError for a slug that is taken or
    cannot be made from the name."""
    tenant = Tenant(name=name, slug=slug or slugify(name)[:60], kind=kind)
    tenant.full_clean()
    tenant.save()
    if plan is not None:
        PlanSubscription.objects.create(tenant=tenant, plan=plan)
    return tenant


@transaction.atomic
def issue_key(
    *,
    tenant: Tenant,
    name: str,
    environment: str = APIKey.Environment.LIVE,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    first_key: APIKey | None = None,
    **rights: Any,
) -> IssuedKey:
    """A new key of `tenant`; `rights` are more of `KEY_RIGHTS`. Its raw form is in the answer and
    nowhere else.

    Raises ValidationError for what no key can have, by field.
    """
    if unknown := rights.keys() - set(KEY_RIGHTS):
        raise TypeError(f"not rights of a key: {', '.join(sorted(unknown))}")
    raw = keys.generate(keys.Environment(environment))
    key = APIKey(
        tenant=tenant,
        name=name,
        environment=environment,
        prefix=keys.shown(raw),
        digest=keys.digest(raw, getattr(settings, "RELAY_KEY_PEPPER", "")),
        scopes=[str(scope) for scope in scopes],
        first_key=first_key,
        **rights,
    )
    key.full_clean()
    key.save()
    changes.announce_on_commit([key.digest])
    return IssuedKey(key=key, raw=raw)


@transaction.atomic
def revoke_key(key: APIKey, *, now: datetime | None = None) -> APIKey:
    """End a key for good: new requests are refused, open sockets close. Revoking again keeps the
    first time."""
    locked = APIKey.objects.select_for_update().get(pk=key.pk)
    if locked.revoked_at is None:
        locked.revoked_at = now or timezone.now()
        locked.save(update_fields=["revoked_at"])
    # Announced also the second time: the first announcement may have met a Redis that was down.
    changes.announce_on_commit([locked.digest])
    key.revoked_at = locked.revoked_at
    return locked


@transaction.atomic
def rotate_key(key: APIKey, *, overlap: timedelta, now: datetime | None = None) -> IssuedKey:
    """A successor with the same rights; the old key works for `overlap` more, never longer than it
    would have.

    Raises ValidationError for an overlap that is not within 0 s and 7 d, and for a key that is
    revoked, expired, or rotated before: that has a successor, and its own time is running out.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise ValidationError("The overlap must be within 0 seconds and 7 days.")
    at = now or timezone.now()
    locked = APIKey.objects.select_for_update().select_related("tenant").get(pk=key.pk)
    if (why := _why_not_rotated(locked, at)) is not None:
        raise ValidationError(f"{locked.prefix}… {why}.")
    issued = issue_key(
        tenant=locked.tenant,
        environment=locked.environment,
        first_key=locked.first_key or locked,
        **{right: getattr(locked, right) for right in KEY_RIGHTS},
    )
    # Another host's clock may have been ahead when it issued the key.
    ends_at = max(at + overlap, locked.created_at)
    locked.rotated_at = at
    if locked.expires_at is None or locked.expires_at > ends_at:
        locked.expires_at = ends_at
    locked.save(update_fields=["rotated_at", "expires_at"])
    key.rotated_at, key.expires_at = locked.rotated_at, locked.expires_at
    changes.announce_on_commit([locked.digest])
    return issued


def _why_not_rotated(key: APIKey, at: datetime) -> str | None:
    if key.revoked_at is not None:
        return "is revoked: issue a new key"
    if key.rotated_at is not None:
        return "has a successor: rotate that, or revoke this one"
    if key.expires_at is not None and key.expires_at <= at:
        return "has expired: issue a new key"
    return None


@transaction.atomic
def update_key(key: APIKey) -> APIKey:
    """Save a key's `KEY_RIGHTS`. Raises ValidationError.

    A rotated key keeps its end: whoever opened its page before the rotation must not undo it.
    """
    locked = APIKey.objects.select_for_update().get(pk=key.pk)
    if locked.rotated_at is not None:
        key.rotated_at, key.expires_at = locked.rotated_at, locked.expires_at
    key.full_clean()
    key.save(update_fields=KEY_RIGHTS)
    changes.announce_on_commit([key.digest])
    return key


@transaction.atomic
def update_tenant(tenant: Tenant) -> Tenant:
    """Save a tenant's name, slug or kind. Raises ValidationError."""
    tenant.full_clean()
    tenant.save(update_fields=["name", "slug", "kind"])
    _announce_tenant(tenant)
    return tenant


@transaction.atomic
def suspend_tenant(tenant: Tenant, *, reason: str, now: datetime | None = None) -> Tenant:
    """Refuse all keys of a tenant and close what they hold open, until `resume_tenant`."""
    if tenant.suspended_at is None:
        tenant.suspended_at = now or timezone.now()
    tenant.suspension_reason = reason[:200]
    tenant.save(update_fields=["suspended_at", "suspension_reason"])
    _announce_tenant(tenant)
    return tenant


@transaction.atomic
def resume_tenant(tenant: Tenant) -> Tenant:
    """Let a suspended tenant's keys work again."""
    tenant.suspended_at, tenant.suspension_reason = None, ""
    tenant.save(update_fields=["suspended_at", "suspension_reason"])
    _announce_tenant(tenant)
    return tenant


@transaction.atomic
def change_plan(
    tenant: Tenant,
    *,
    plan: Plan,
    version: int | None = None,
    trial_ends_at: datetime | None = None,
    now: datetime | None = None,
) -> PlanSubscription:
    """Put a tenant on another plan, or another version of it, from now on; what it holds open stays
    open, also above the new limits."""
    at = now or timezone.now()
    # The tenant row is the lock: two staff changing the plan at once leave one current plan, not an
    # error page.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    current = selectors.current_plan_subscription(tenant)
    if (
        current is not None
        and current.plan_id == plan.pk
        and version in {None, current.version}
        and trial_ends_at in {None, current.trial_ends_at}
    ):
        return current
    if current is not None:
        _end_subscription(current, at)
    subscription = PlanSubscription.objects.create(
        tenant=tenant,
        plan=plan,
        version=version or 1,
        started_at=at,
        trial_ends_at=trial_ends_at,
    )
    _announce_tenant(tenant)
    return subscription


@transaction.atomic
def end_plan(tenant: Tenant, *, now: datetime | None = None) -> PlanSubscription | None:
    """Leave a tenant without a plan from now on. Answers what it was on, if anything."""
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    current = selectors.current_plan_subscription(tenant)
    if current is not None:
        _end_subscription(current, now or timezone.now())
        _announce_tenant(tenant)
    return current


def _end_subscription(current: PlanSubscription, at: datetime) -> None:
    current.is_current, current.ended_at = None, max(at, current.started_at)
    current.save(update_fields=["is_current", "ended_at"])


@transaction.atomic
def set_limits(tenant: Tenant, limits: Mapping[str, Any] | None) -> bool:
    """Give a tenant limits of its own (the fields of `QuotaOverride`) in place of its plan's; None
    takes them away. Answers whether that changed anything. Raises ValidationError."""
    before = QuotaOverride.objects.select_for_update().filter(tenant=tenant).first()
    if limits is None:
        if before is not None:
            before.delete()
    else:
        own = before or QuotaOverride(tenant=tenant)
        if before is not None and all(getattr(own, name) == limits[name] for name in limits):
            return False
        for name, value in limits.items():
            setattr(own, name, value)
        own.full_clean()
        own.save()
    if before is None and limits is None:
        return False
    _announce_tenant(tenant)
    return True


@transaction.atomic
def set_allowances(tenant: Tenant, wanted: Iterable[Allowance], *, since: datetime) -> bool:
    """Make `wanted` (rows that are not saved) all that a tenant may use from `since` on: what began
    before then ends there, what began later and is not wanted goes. Answers whether that changed
    anything."""
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    rows = {
        (row.code, row.starts_at): row
        for row in Allowance.objects.filter(tenant=tenant, ends_at__gt=since)
    }
    has_changed = False
    for allowance in wanted:
        before = rows.pop((allowance.code, allowance.starts_at), None)
        if before is not None:
            if all(getattr(before, name) == getattr(allowance, name) for name in _OF_ALLOWANCE):
                continue
            allowance.pk, allowance._state.adding = before.pk, False
        allowance.tenant = tenant
        allowance.save()
        has_changed = True
    for row in rows.values():
        if row.starts_at < since:
            row.ends_at = since
            row.save(update_fields=["ends_at", "updated_at"])
        else:
            row.delete()
        has_changed = True
    if has_changed:
        _announce_tenant(tenant)
    return has_changed


def announce_plan(plan: Plan) -> None:
    """Tell every process that the limits of `plan` changed, once the current transaction
    commits."""
    changes.announce_on_commit(selectors.digests_on_plan(plan.pk))


def note_use(key_ids: Iterable[int], *, at: datetime) -> int:
    """Remember when keys were last used; writes a key at most once a minute. Answers how many were
    written."""
    stale = Q(last_used_at=None) | Q(last_used_at__lt=at - USE_RESOLUTION)
    return sum(
        APIKey.objects.filter(stale, pk__in=chunk).update(last_used_at=at)
        for chunk in selectors.chunks(sorted(set(key_ids)))
    )


def _announce_tenant(tenant: Tenant) -> None:
    changes.announce_on_commit(selectors.digests_of_tenant(tenant.pk))
