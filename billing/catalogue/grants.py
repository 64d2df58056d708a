"""What one tenant has beside its plan: add-ons, terms of its own, discounts."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from billing.catalogue import terms
from billing.catalogue.begun import begun, in_running_period, next_hour, no_version, not_past
from billing.catalogue.publish import checked, refuse
from billing.catalogue.sellable import mistakes_of
from billing.catalogue.written import write_down
from billing.models import AddOn, AddOnSubscription, DiscountGrant, OwnTerms
from billing.rating.document import read_discount, read_override, write
from billing.rating.periods import full_hour
from billing.rating.prices import Discount, Override
from tenants.models import Plan, Tenant

MAX_QUANTITY = 10_000


@transaction.atomic
def add_add_on(
    tenant: Tenant,
    *,
    add_on: AddOn,
    quantity: int = 1,
    version: int | None = None,
    at: datetime | None = None,
    now: datetime | None = None,
) -> AddOnSubscription:
    """Add `quantity` of an add-on, from now on or from another time not before the running
    period."""
    now, locked = begun(tenant, now)
    if not 1 <= quantity <= MAX_QUANTITY:
        raise ValidationError(
            _("A quantity is 1 to %(most)s, not %(quantity)s.")
            % {"most": MAX_QUANTITY, "quantity": quantity}
        )
    when = in_running_period(locked, at, now)
    offered = [
        prices
        for prices in terms.catalogue().add_ons
        if prices.code == add_on.code
        and prices.effective_from <= max(when, now)
        and version in {None, prices.version}
    ]
    if not offered:
        raise ValidationError(no_version(add_on.code, version, when))
    row = AddOnSubscription.objects.create(
        tenant=locked,
        add_on=add_on,
        version=max(offered, key=lambda found: (found.effective_from, found.version)).version,
        quantity=quantity,
        started_at=when,
    )
    write_down(locked, now)
    return row


@transaction.atomic
def end_add_on(
    row: AddOnSubscription, *, at: datetime | None = None, now: datetime | None = None
) -> AddOnSubscription:
    """End an add-on now or at a later time."""
    now, locked = begun(row.tenant, now)
    held = AddOnSubscription.objects.select_for_update().get(pk=row.pk)
    if held.ended_at is not None and held.ended_at <= now:
        raise ValidationError(
            _("It ended at %(at)s already.") % {"at": f"{held.ended_at:%Y-%m-%d %H:%M}"}
        )
    held.ended_at = max(not_past(at, now), held.started_at)
    held.save(update_fields=["ended_at"])
    write_down(locked, now)
    return held


@transaction.atomic
def set_own_terms(
    tenant: Tenant,
    document: str | bytes | Override,
    *,
    note: str = "",
    now: datetime | None = None,
) -> OwnTerms:
    """Give a tenant terms of its own on a plan; none may hold at the same time as others of the
    same plan."""
    own = checked(read_override, document)
    refuse(mistakes_of(own))
    now, locked = begun(tenant, now)
    plan = Plan.objects.filter(code=own.plan).first()
    if plan is None:
        raise ValidationError(f'plan: there is no plan "{own.plan}"; write the code of one.')
    in_running_period(locked, own.starts_at, now)
    for other in OwnTerms.objects.filter(tenant=locked, plan=plan):
        if _overlap((own.starts_at, own.ends_at), (other.starts_at, other.ends_at)):
            raise ValidationError(
                f"starts_at: other terms of its own hold from {other.starts_at:%Y-%m-%d %H:%M} to "
                f"{_until(other.ends_at)}; end them first."
            )
    row = OwnTerms(
        tenant=locked,
        plan=plan,
        document=write(own),
        starts_at=own.starts_at,
        ends_at=own.ends_at,
        note=note,
    )
    row.full_clean()
    row.save()
    write_down(locked, now)
    return row


@transaction.atomic
def end_own_terms(
    row: OwnTerms, *, at: datetime | None = None, now: datetime | None = None
) -> OwnTerms:
    """End a tenant's own terms at a full hour, by default the next one."""
    now, locked = begun(row.tenant, now)
    held = OwnTerms.objects.select_for_update().get(pk=row.pk)
    if held.ends_at is not None and held.ends_at <= now:
        raise ValidationError(f"They ended at {held.ends_at:%Y-%m-%d %H:%M} already.")
    when = next_hour(now) if at is None else not_past(at, now)
    if when != full_hour(when):
        raise ValidationError(f"Prices change on full hours, not at {when:%H:%M:%S}.")
    held.ends_at = max(when, held.starts_at)
    held.save(update_fields=["ends_at"])
    write_down(locked, now)
    return held


@transaction.atomic
def grant_discount(
    tenant: Tenant, document: str | bytes | Discount, *, note: str = "", now: datetime | None = None
) -> DiscountGrant:
    """Give a tenant a discount. Those granted earlier are taken off first."""
    found = checked(read_discount, document)
    now, locked = begun(tenant, now)
    in_running_period(locked, found.starts_at, now)
    row = DiscountGrant(
        tenant=locked,
        document=write(found),
        starts_at=found.starts_at,
        ends_at=found.ends_at,
        note=note,
    )
    row.full_clean()
    row.save()
    return row


@transaction.atomic
def end_discount(
    row: DiscountGrant, *, at: datetime | None = None, now: datetime | None = None
) -> DiscountGrant:
    """End a discount now or at a later time."""
    now = begun(row.tenant, now)[0]
    held = DiscountGrant.objects.select_for_update().get(pk=row.pk)
    if held.ends_at is not None and held.ends_at <= now:
        raise ValidationError(f"It ended at {held.ends_at:%Y-%m-%d %H:%M} already.")
    held.ends_at = max(not_past(at, now), held.starts_at)
    held.save(update_fields=["ends_at"])
    return held


def _overlap(
    one: tuple[datetime, datetime | None], other: tuple[datetime, datetime | None]
) -> bool:
    is_before = one[1] is not None and one[1] <= other[0]
    is_after = other[1] is not None and other[1] <= one[0]
    return not is_before and not is_after


def _until(at: datetime | None) -> str:
    return "further notice" if at is None else f"{at:%Y-%m-%d %H:%M}"
