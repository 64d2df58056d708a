"""A price book of plans and add-ons, published as far as it is not yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from billing.catalogue.publish import publish_add_on_version, publish_plan_version
from billing.models import AddOnVersion, PlanVersion
from billing.rating.document import Catalogue, write
from billing.rating.prices import AddOnPrices, PlanPrices
from tenants.models import Plan


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version of the book: whether it is `new`, published before (`same`), or `refused` and
    why."""

    kind: str
    prices: PlanPrices | AddOnPrices
    state: str
    mistakes: tuple[str, ...] = ()


def load(
    book: Catalogue, *, by: str = "", is_dry: bool = False, now: datetime | None = None
) -> list[Loaded]:
    """Publish what is new in `book`: all of it, or, when any of it is refused or `is_dry`,
    nothing."""
    with transaction.atomic():
        found = [*_plans(book, by, now), *_add_ons(book, by, now)]
        if is_dry or any(row.state == "refused" for row in found):
            transaction.set_rollback(True)
    return found


def load_first(book: Catalogue, *, by: str, now: datetime | None = None) -> list[Loaded]:
    """`load` where nothing has ever been for sale, also not by hand under a code of the book; else
    nothing is published, and the list is empty."""
    is_begun = (
        PlanVersion.objects.exists()
        or AddOnVersion.objects.exists()
        or Plan.objects.filter(code__in={plan.code for plan in book.plans}).exists()
    )
    return [] if is_begun else load(book, by=by, now=now)


def _plans(book: Catalogue, by: str, now: datetime | None) -> Iterator[Loaded]:
    for plan in sorted(book.plans, key=lambda plan: plan.version):
        before = PlanVersion.objects.filter(plan__code=plan.code, version=plan.version).first()

        def publish(plan: PlanPrices = plan) -> None:
            publish_plan_version(plan, by=by, note="loaded from a file", now=now)

        yield _loaded("plan", plan, before, publish)


def _add_ons(book: Catalogue, by: str, now: datetime | None) -> Iterator[Loaded]:
    for add_on in sorted(book.add_ons, key=lambda add_on: add_on.version):
        before = AddOnVersion.objects.filter(
            add_on__code=add_on.code, version=add_on.version
        ).first()

        def publish(add_on: AddOnPrices = add_on) -> None:
            publish_add_on_version(add_on, by=by, note="loaded from a file", now=now)

        yield _loaded("add-on", add_on, before, publish)


def _loaded(
    kind: str,
    prices: PlanPrices | AddOnPrices,
    before: PlanVersion | AddOnVersion | None,
    publish: Callable[[], None],
) -> Loaded:
    if before is not None:
        if before.document == write(prices):
            return Loaded(kind, prices, "same")
        text = f"version {prices.version} is published with other prices; write them as a new one."
        return Loaded(kind, prices, "refused", (text,))
    try:
        with transaction.atomic():
            publish()
    except ValidationError as error:
        return Loaded(kind, prices, "refused", tuple(error.messages))
    return Loaded(kind, prices, "new")
