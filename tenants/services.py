"""All writes to tenants, plans and keys. Each announces itself once it is committed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.text import slugify

from tenants import selectors
from tenants.admission import changes, keys
from tenants.admission.principal import DEFAULT_SCOPES
from tenants.models import APIKey, Plan, PlanSubscription, Tenant

#: `last_used_at` is written at most this often per key.
USE_RESOLUTION = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and, this once, the key itself. `raw` stays out of `repr` so that no log can hold
    it."""

    key: APIKey
    raw: str = field(repr=False)


@transaction.atomic
def create_tenant(
    *, name: str, plan: Plan, slug: str = "", kind: str = Tenant.Kind.EXTERNAL
) -> Tenant:
    """A new tenant on `plan`. Raises ValidationError for a slug that is taken or cannot be made
    from the name."""
    tenant = Tenant(name=name, slug=slug or slugify(name)[:60], kind=kind)
    tenant.full_clean()
    tenant.save()
    PlanSubscription.objects.create(tenant=tenant, plan=plan)
    return tenant


@transaction.atomic
def issue_key(
    *,
    tenant: Tenant,
    name: str,
    environment: str = APIKey.Environment.LIVE,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    expires_at: datetime | None = None,
) -> IssuedKey:
    """A new key of `tenant`. Its raw form is in the answer and nowhere else.

    Raises ValidationError for unknown scopes or an empty name.
    """
    raw = keys.generate(keys.Environment(environment))
    key = APIKey(
        tenant=tenant,
        name=name,
        environment=environment,
        prefix=keys.shown(raw),
        digest=keys.digest(raw, getattr(settings, "RELAY_KEY_PEPPER", "")),
        scopes=[str(scope) for scope in scopes],
        expires_at=expires_at,
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
    would have."""
    at = now or timezone.now()
    locked = APIKey.objects.select_for_update().select_related("tenant").get(pk=key.pk)
    issued = issue_key(
        tenant=locked.tenant,
        name=locked.name,
        environment=locked.environment,
        scopes=locked.scopes,
        expires_at=locked.expires_at,
    )
    ends_at = at + overlap
    if locked.expires_at is None or locked.expires_at > ends_at:
        locked.expires_at = ends_at
        locked.save(update_fields=["expires_at"])
    changes.announce_on_commit([locked.digest])
    return issued


@transaction.atomic
def update_key(key: APIKey) -> APIKey:
    """Save a key's name, scopes or expiry. Raises ValidationError."""
    key.full_clean()
    key.save(update_fields=["name", "scopes", "expires_at"])
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
def change_plan(tenant: Tenant, *, plan: Plan, now: datetime | None = None) -> PlanSubscription:
    """Put a tenant on another plan from now on; what it holds open stays open, also above the new
    limits."""
    at = now or timezone.now()
    # The tenant row is the lock: two staff changing the plan at once leave one current plan, not an
    # error page.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    current = selectors.current_plan_subscription(tenant)
    if current is not None and current.plan_id == plan.pk:
        return current
    if current is not None:
        current.is_current, current.ended_at = None, max(at, current.started_at)
        current.save(update_fields=["is_current", "ended_at"])
    subscription = PlanSubscription.objects.create(tenant=tenant, plan=plan, started_at=at)
    _announce_tenant(tenant)
    return subscription


def announce_plan(plan: Plan) -> None:
    """Tell every process that the limits of `plan` changed, once the current transaction
    commits."""
    changes.announce_on_commit(selectors.digests_on_plan(plan.pk))


def note_use(key_ids: Iterable[int], *, at: datetime) -> int:
    """Remember when keys were last used; writes a key at most once a minute. Answers how many were
    written."""
    stale = Q(last_used_at=None) | Q(last_used_at__lt=at - USE_RESOLUTION)
    return APIKey.objects.filter(stale, pk__in=sorted(set(key_ids))).update(last_used_at=at)


def _announce_tenant(tenant: Tenant) -> None:
    changes.announce_on_commit(selectors.digests_of_tenant(tenant.pk))
