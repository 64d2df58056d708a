"""All writes to tenants, plans and keys. Each announces itself once it is committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants import key_cap, kinds, selectors
from tenants.admission import changes, keys
from tenants.admission.principal import DEFAULT_SCOPES
from tenants.models import (
    KEY_RIGHTS,
    Allowance,
    APIKey,
    Plan,
    PlanSubscription,
    QuotaOverride,
    Tenant,
)

#: `last_used_at` is written at most this often per key.
USE_RESOLUTION = timedelta(minutes=1)
CHANGED = gettext_lazy(
    "It was changed since you opened it: open it again, and change what is left to change."
)
#: How long an old key may work beside its successor.
MAX_OVERLAP = timedelta(days=7)
#: Of the rotations of one key and its successors: a stolen key that rotates itself in a loop sends
#: its owner no thousand mails. Webhooks are told of each.
MAILED_AN_HOUR = 5
#: How far ahead a suspension can be announced.
MAX_GRACE = timedelta(days=90)
_OF_ALLOWANCE = ("metric", "channels", "weights", "ends_at", "units", "is_hard", "goes_on")


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
    """A new tenant on `plan`; without one its keys open nothing. Raises ValidationError for a slug
    that is taken or cannot be made from the name."""
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

    Raises ValidationError for what no key can have, by field, and where the tenant has as many keys
    as it may have.
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
    key_cap.lock(tenant.pk)
    if first_key is None:
        key_cap.refuse_one_more(tenant.pk, now=timezone.now())
    key.save()
    key._opened_as = key.rights_now()
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
        raise ValidationError(_("The overlap must be within 0 seconds and 7 days."))
    at = now or timezone.now()
    key_cap.lock(key.tenant_id)
    locked = APIKey.objects.select_for_update().select_related("tenant").get(pk=key.pk)
    if (why := _why_not_rotated(locked, at)) is not None:
        raise ValidationError(why % {"prefix": locked.prefix})
    if overlap:
        key_cap.refuse_one_more(key.tenant_id, now=timezone.now(), is_successor=True)
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
    _tell_rotation(locked)
    return issued


def _tell_rotation(key: APIKey) -> None:
    """The old key is named by its prefix, the new one not at all: who rotated it has it."""
    from tenants.notices.services import notify  # notices know people, and those are written here

    assert key.expires_at is not None  # noqa: S101
    assert key.rotated_at is not None  # noqa: S101
    family = APIKey.objects.filter(Q(pk=key.family_id) | Q(first_key=key.family_id))
    lately = family.filter(rotated_at__gt=key.rotated_at - timedelta(hours=1)).count()
    notify(
        tenant=key.tenant,
        kind="key.rotated",
        payload={"prefix": key.prefix, "ends_at": key.expires_at.isoformat()},
        dedupe=f"key.rotated:{key.pk}",
        to=() if lately > MAILED_AN_HOUR else None,
    )


def _why_not_rotated(key: APIKey, at: datetime) -> str | None:
    if key.revoked_at is not None:
        return _("%(prefix)s… is revoked: issue a new key.")
    if key.rotated_at is not None:
        return _("%(prefix)s… has a successor: rotate that, or revoke this one.")
    if key.expires_at is not None and key.expires_at <= at:
        return _("%(prefix)s… has expired: issue a new key.")
    return None


@transaction.atomic
def update_key(key: APIKey) -> APIKey:
    """Save a key's `KEY_RIGHTS`. Raises ValidationError, also when they are not any more what `key`
    was read with: saving an older copy would undo what somebody else restricted meanwhile.

    A rotated key keeps its end: whoever opened its page before the rotation must not undo it. One
    that had expired counts again as one that works.
    """
    key_cap.lock(key.tenant_id)
    locked = APIKey.objects.select_for_update().get(pk=key.pk)
    if key.opened_as and is_changed_since(key.opened_as, locked):
        raise ValidationError(CHANGED)
    if locked.rotated_at is not None:
        key.rotated_at, key.expires_at = locked.rotated_at, locked.expires_at
    key.full_clean()
    if locked.revoked_at is None and locked.rotated_at is None:
        _refuse_revival(locked, key.expires_at)
    key.save(update_fields=KEY_RIGHTS)
    key._opened_as = key.rights_now()
    changes.announce_on_commit([key.digest])
    return key


def _refuse_revival(locked: APIKey, expires_at: datetime | None) -> None:
    now = timezone.now()
    is_over = locked.expires_at is not None and locked.expires_at <= now
    if is_over and (expires_at is None or expires_at > now):
        key_cap.refuse_one_more(locked.tenant_id, now=now)


def is_changed_since(opened_as: str, key: APIKey) -> bool:
    """Whether the rights of `key` are not those of `APIKey.opened_as`; the end of a rotated key
    aside, which nobody can change."""
    was, now = opened_as.partition(" "), key.rights_now().partition(" ")
    return was[0] != now[0] or (key.rotated_at is None and was[2] != now[2])


@transaction.atomic
def update_tenant(tenant: Tenant, *, now: datetime | None = None) -> Tenant:
    """Save a tenant's name, slug, kind or support contact. Of another kind it is from `now` on.
    Raises ValidationError, also when it is not any more of the kind that `tenant` was read with:
    saving an older copy would make it again what it was."""
    tenant.full_clean()
    fields = ["name", "slug", "support_name", "support_email", "support_phone"]
    is_now = Tenant.objects.values_list("kind", flat=True).get(pk=tenant.pk)
    if is_now != (tenant.opened_kind or is_now):
        raise ValidationError(CHANGED)
    # Saved only where it changes, so that whoever changes something else changes it never.
    if tenant.kind != is_now:
        kinds.tell(tenant.pk, tenant.kind, now)
        # Only now, because locks of its usage come before that of its row.
        locked = Tenant.objects.select_for_update().order_by().get(pk=tenant.pk)
        if locked.kind != is_now:
            raise ValidationError(CHANGED)
        fields.append("kind")
    tenant.save(update_fields=fields)
    tenant._opened_kind = tenant.kind
    announce_tenant(tenant)
    return tenant


@transaction.atomic
def suspend_tenant(tenant: Tenant, *, reason: str, now: datetime | None = None) -> Tenant:
    """Refuse all keys of a tenant and close what they hold open, until `resume_tenant`. Ends any
    grace; suspending again keeps the first time."""
    locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
    at = locked.suspended_at or now or timezone.now()
    _save_suspension(tenant, locked, suspended_at=at, suspension_reason=reason[:200])
    announce_tenant(locked)
    return tenant


@transaction.atomic
def schedule_suspension(
    tenant: Tenant, *, at: datetime, reason: str, now: datetime | None = None
) -> Tenant:
    """Announce to a tenant's people that it will be suspended at `at`; until then nothing changes.
    Scheduling again replaces time and reason.

    Raises ValidationError for a time that is past or more than 90 days ahead, no reason, and a
    tenant that is suspended already.
    """
    began = now or timezone.now()
    reason = reason.strip()
    if not began < at <= began + MAX_GRACE:
        raise ValidationError(
            f"The grace must end within {MAX_GRACE.days} days from now, not at {at:%Y-%m-%d %H:%M}."
        )
    if not 0 < len(reason) <= 200:
        raise ValidationError("Say why, in at most 200 characters: the customer reads it.")
    locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if locked.is_suspended:
        raise ValidationError(f"{locked} is suspended already: resume it first.")
    _save_suspension(tenant, locked, suspend_at=at, suspend_reason=reason)
    from tenants.tasks import announce_suspension

    transaction.on_commit(partial(announce_suspension.delay, locked.pk))
    return tenant


def suspend_due(*, now: datetime) -> int:
    """Suspend each tenant whose grace has ended by `now`, in a transaction of its own; how many
    that were. Another turn, or a second one at the same time, finds none left."""
    due = Tenant.objects.due_for_suspension(now).values_list("pk", flat=True)
    return sum(_suspend_if_due(tenant_id, now) for tenant_id in list(due))


@transaction.atomic
def _suspend_if_due(tenant_id: int, now: datetime) -> bool:
    tenant = Tenant.objects.due_for_suspension(now).select_for_update().filter(pk=tenant_id).first()
    if tenant is None:  # resumed, put off or suspended since it was listed
        return False
    suspend_tenant(tenant, reason=tenant.suspend_reason, now=now)
    return True


@transaction.atomic
def resume_tenant(tenant: Tenant) -> Tenant:
    """Let a suspended tenant's keys work again, and call off a suspension that is announced.
    Raises ValidationError for one that its owner has closed."""
    locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if locked.closed_at is not None:
        raise ValidationError(f"{locked} was closed by its owner: reopen it.")
    _save_suspension(tenant, locked)
    announce_tenant(locked)
    return tenant


def _save_suspension(
    given: Tenant,
    locked: Tenant,
    *,
    suspended_at: datetime | None = None,
    suspension_reason: str = "",
    suspend_at: datetime | None = None,
    suspend_reason: str = "",
) -> None:
    """All four fields at once, into the row and into the object that the caller goes on with."""
    for row in (locked, given):
        row.suspended_at, row.suspension_reason = suspended_at, suspension_reason
        row.suspend_at, row.suspend_reason = suspend_at, suspend_reason
    locked.save(update_fields=["suspended_at", "suspension_reason", "suspend_at", "suspend_reason"])


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
    announce_tenant(tenant)
    return subscription


@transaction.atomic
def end_plan(tenant: Tenant, *, now: datetime | None = None) -> PlanSubscription | None:
    """Leave a tenant without a plan from now on. Answers what it was on, if anything."""
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    current = selectors.current_plan_subscription(tenant)
    if current is not None:
        _end_subscription(current, now or timezone.now())
        announce_tenant(tenant)
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
    announce_tenant(tenant)
    return True


@transaction.atomic
def set_allowances(tenant: Tenant, wanted: Iterable[Allowance], *, since: datetime) -> bool:
    """Make `wanted` (rows that are not saved) all that a tenant may use from `since` on: what began
    before then ends there, what began later and is not wanted goes. What is not wanted goes on no
    more. Answers whether that changed anything."""
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    concerned = Q(ends_at__gt=since) | Q(goes_on=True)
    rows = {
        (row.code, row.starts_at): row for row in Allowance.objects.filter(concerned, tenant=tenant)
    }
    has_changed = False
    for allowance in wanted:
        before = rows.pop((allowance.code, allowance.starts_at), None)
        if before is not None:
            if _is_same(before, allowance):
                continue
            allowance.pk, allowance._state.adding = before.pk, False
        allowance.tenant = tenant
        allowance.save()
        has_changed = True
    for row in rows.values():
        if row.starts_at < since:
            row.ends_at, row.goes_on = min(row.ends_at, since), False
            row.save(update_fields=["ends_at", "goes_on", "updated_at"])
        else:
            row.delete()
        has_changed = True
    if has_changed:
        announce_tenant(tenant)
    return has_changed


def is_allowed_already(
    rows: Iterable[Allowance], wanted: Iterable[Allowance], *, since: datetime
) -> bool:
    """Whether `set_allowances` would change nothing where a tenant has these rows."""
    before = {(row.code, row.starts_at): row for row in rows if row.ends_at > since}
    for allowance in wanted:
        row = before.pop((allowance.code, allowance.starts_at), None)
        if row is None or not _is_same(row, allowance):
            return False
    return not before


def _is_same(row: Allowance, other: Allowance) -> bool:
    return all(getattr(row, name) == getattr(other, name) for name in _OF_ALLOWANCE)


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


def announce_tenant(tenant: Tenant) -> None:
    """Tell every process that the limits or allowances of `tenant` changed, once the current
    transaction commits."""
    changes.announce_on_commit(selectors.digests_of_tenant(tenant.pk))
