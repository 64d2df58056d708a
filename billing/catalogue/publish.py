"""New versions of plans and add-ons. A version is published once and never changed; who is on an
earlier one stays there until moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from billing.catalogue.sellable import mistakes_of
from billing.models import AddOn, AddOnVersion, PlanVersion
from billing.rating.document import read_add_on, read_plan, write
from billing.rating.fields import MalformedDocument, Mistake
from billing.rating.prices import AddOnPrices, PlanPrices
from tenants.models import Plan, PlanSubscription, Quota

_T = TypeVar("_T")
_Version = TypeVar("_Version", PlanVersion, AddOnVersion)


@transaction.atomic
def publish_plan_version(
    document: str | bytes | PlanPrices, *, by: str = "", note: str = "", now: datetime | None = None
) -> PlanVersion:
    """Publish a version of a plan, and make the plan, with its limits, if it is the first.

    Raises ValidationError with a line for each mistake. `effective_from` may be in the past only
    for the first version of a plan that nobody is on: prices never reach back.
    """
    prices = checked(read_plan, document)
    plan, _ = Plan.objects.select_for_update().get_or_create(
        code=prices.code, defaults={"name": prices.name}
    )
    Quota.objects.get_or_create(
        plan=plan,
        defaults={
            "max_connections": max(1, prices.entitlements.connections or 1),
            "max_subscriptions": max(1, prices.entitlements.subscriptions or 1),
        },
    )
    mistakes = mistakes_of(prices)
    newest = PlanVersion.objects.filter(plan=plan).order_by("-version").first()
    is_taken = PlanSubscription.objects.filter(plan=plan).exists()
    mistakes += _mistakes(prices, newest, is_taken=is_taken, now=now or timezone.now())
    refuse(mistakes)
    if plan.name != prices.name:
        plan.name = prices.name
        plan.save(update_fields=["name"])
    return PlanVersion.objects.create(
        plan=plan,
        version=prices.version,
        effective_from=prices.effective_from,
        document=write(prices),
        published_by=by[:150],
        note=note[:200],
    )


@transaction.atomic
def publish_add_on_version(
    document: str | bytes | AddOnPrices,
    *,
    by: str = "",
    note: str = "",
    now: datetime | None = None,
) -> AddOnVersion:
    """Publish a version of an add-on, as `publish_plan_version` does."""
    prices = checked(read_add_on, document)
    add_on, _ = AddOn.objects.select_for_update().get_or_create(
        code=prices.code, defaults={"name": prices.name}
    )
    newest = AddOnVersion.objects.filter(add_on=add_on).order_by("-version").first()
    mistakes = mistakes_of(prices)
    mistakes += _mistakes(prices, newest, is_taken=False, now=now or timezone.now())
    refuse(mistakes)
    if add_on.name != prices.name:
        add_on.name = prices.name
        add_on.save(update_fields=["name"])
    return AddOnVersion.objects.create(
        add_on=add_on,
        version=prices.version,
        effective_from=prices.effective_from,
        document=write(prices),
        published_by=by[:150],
        note=note[:200],
    )


def checked(read: Callable[[str | bytes], _T], document: str | bytes | _T) -> _T:
    """A document as values, whichever of the two it is. Raises ValidationError, a line for each
    mistake."""
    text = document if isinstance(document, str | bytes) else write(document)  # type: ignore[arg-type]
    try:
        return read(text)
    except MalformedDocument as error:
        raise ValidationError([str(mistake) for mistake in error.mistakes]) from None


def refuse(mistakes: Iterable[Mistake]) -> None:
    """Raises ValidationError when there are any."""
    if lines := [str(mistake) for mistake in mistakes]:
        raise ValidationError(lines)


def _mistakes(
    prices: PlanPrices | AddOnPrices,
    newest: PlanVersion | AddOnVersion | None,
    *,
    is_taken: bool,
    now: datetime,
) -> list[Mistake]:
    found = []
    following = newest.version + 1 if newest is not None else 1
    if newest is not None and prices.version < following:
        text = f"{prices.version} is published; the next is {following}."
        found.append(Mistake("version", text))
    if newest is not None and prices.effective_from < newest.effective_from:
        text = f"is before that of version {newest.version}, {newest.effective_from:%Y-%m-%d %H}:00"
        found.append(Mistake("effective_from", f"{text}; write that or later."))
    if prices.effective_from < now and (newest is not None or is_taken):
        why = "somebody is on this plan" if newest is None else "only a first version may be"
        text = f"is in the past, and {why}; write a full hour after {now:%Y-%m-%dT%H:%M}Z."
        found.append(Mistake("effective_from", text))
    return found
