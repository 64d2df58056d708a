"""What tenants are billed by: periods, segments, discounts and entitlements, read from the rows.

For one tenant the functions here; for many `TermsBook.load`, which asks the database as often for
ten thousand as for one, but that it takes tenants 500 at a time.

A plan without published prices (`PlanVersion`) bills nothing: there are no segments of it, no
periods before the first plan with prices, and its `Quota` stands. Before `effective_from` of its
version a plan costs nothing either, so a first publication never reaches into the past.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.conf import settings
from django.db.models import Count, Max, Q, QuerySet

from billing.catalogue.timeline import (
    Choice,
    NoTerms,
    Stretches,
    Timeline,
    carried_trial,
    span_of,
)
from billing.models import (
    AddOnSubscription,
    AddOnVersion,
    BillingAnchor,
    BillingChoice,
    DiscountGrant,
    OwnTerms,
    PlannedChange,
    PlanVersion,
)
from billing.rating.document import Catalogue
from billing.rating.periods import Anchor, Period
from billing.rating.prices import (
    AddOnPrices,
    Discount,
    Entitlements,
    Interval,
    PlanPrices,
    Unit,
)
from billing.rating.segments import AddOnSpan, PlanSpan, Segment
from tenants.models import PlanSubscription, Tenant
from tenants.selectors import chunks

__all__ = [
    "NoTerms",
    "TermsBook",
    "anchors_of",
    "carried_trial",
    "catalogue",
    "discounts_of",
    "entitlements_of",
    "period_of",
    "periods_between",
    "segments_of",
    "timeline_of",
]


@dataclass(frozen=True, slots=True)
class Prices:
    """All published versions, by the id of what they are of and their number."""

    plans: Mapping[tuple[int, int], PlanPrices]
    add_ons: Mapping[tuple[int, int], AddOnPrices]

    @property
    def catalogue(self) -> Catalogue:
        """As a document."""
        return Catalogue(tuple(self.plans.values()), tuple(self.add_ons.values()))


def prices() -> Prices:
    """All published versions. Two short queries; the documents are read when one is new."""
    newest = [
        tuple(
            model._default_manager.aggregate(Max("pk"), Max("published_at"), Count("pk")).values()
        )
        for model in (PlanVersion, AddOnVersion)
    ]
    return _prices(tuple(newest))


def catalogue() -> Catalogue:
    """All published versions of plans and add-ons."""
    return prices().catalogue


def timeline_of(tenant: Tenant | int) -> Timeline:
    """All terms of one tenant."""
    return TermsBook.load([tenant]).timeline(tenant)


def anchors_of(tenant: Tenant | int) -> tuple[Anchor, ...]:
    """What the tenant's billing periods are counted from; none without a plan with prices."""
    return timeline_of(tenant).anchors()


def period_of(tenant: Tenant | int, at: datetime) -> Period:
    """The billing period that `at` lies in. Raises NoTerms."""
    return timeline_of(tenant).period_of(at)


def periods_between(tenant: Tenant | int, start: datetime, end: datetime) -> tuple[Period, ...]:
    """The billing periods that end within `(start, end]`, in order."""
    return timeline_of(tenant).periods_between(start, end)


def segments_of(tenant: Tenant | int, period: Period) -> tuple[Segment, ...]:
    """The segments of a billing period, as `rating.rate` wants them."""
    return timeline_of(tenant).segments(period)


def discounts_of(tenant: Tenant | int, period: Period) -> tuple[Discount, ...]:
    """The discounts in force in a billing period, in the order they were granted."""
    return timeline_of(tenant).discounts_in(period)


def entitlements_of(tenant: Tenant | int, at: datetime) -> Entitlements | None:
    """What plan, own terms and add-ons allow together at `at`; None without a plan with prices."""
    return timeline_of(tenant).entitlements_at(at)


class TermsBook:
    """The terms of many tenants, read at once. Its methods are the functions of this module."""

    def __init__(self, timelines: Mapping[int, Timeline]) -> None:
        self._timelines = timelines

    @classmethod
    def load(
        cls,
        tenants: Iterable[Tenant | int],
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        is_planned: bool = True,
    ) -> TermsBook:
        """The terms that hold within `[start, end)`, by default at any time. What is asked of it
        must lie within. `is_planned` takes in changes of plan that are still to come."""
        ids = sorted({_id(tenant) for tenant in tenants})
        published = prices()
        timelines: dict[int, Timeline] = {}
        for chunk in chunks(ids):
            timelines.update(_load(chunk, published, start, end, is_planned))
        return cls(timelines)

    def timeline(self, tenant: Tenant | int) -> Timeline:
        """All that was read of one tenant. Raises KeyError for one that was not asked for."""
        return self._timelines[_id(tenant)]

    def anchors_of(self, tenant: Tenant | int) -> tuple[Anchor, ...]:
        return self.timeline(tenant).anchors()

    def period_of(self, tenant: Tenant | int, at: datetime) -> Period:
        return self.timeline(tenant).period_of(at)

    def periods_between(
        self, tenant: Tenant | int, start: datetime, end: datetime
    ) -> tuple[Period, ...]:
        return self.timeline(tenant).periods_between(start, end)

    def segments_of(
        self, tenant: Tenant | int, period: Period, within: Stretches | None = None
    ) -> tuple[Segment, ...]:
        return self.timeline(tenant).segments(period, within)

    def discounts_of(self, tenant: Tenant | int, period: Period) -> tuple[Discount, ...]:
        return self.timeline(tenant).discounts_in(period)

    def usage_hours_of(
        self, tenant: Tenant | int, period: Period, within: Stretches | None = None
    ) -> tuple[datetime, datetime]:
        return self.timeline(tenant).usage_hours(period, within)

    def entitlements_of(self, tenant: Tenant | int, at: datetime) -> Entitlements | None:
        return self.timeline(tenant).entitlements_at(at)


# The key has the time and the number too: ids alone come again after a rollback on SQLite.
@lru_cache(4)
def _prices(newest: tuple[object, ...]) -> Prices:
    return Prices(
        plans={(row.plan_id, row.version): row.prices for row in PlanVersion.objects.all()},
        add_ons={(row.add_on_id, row.version): row.prices for row in AddOnVersion.objects.all()},
    )


def _load(
    ids: Collection[int],
    published: Prices,
    start: datetime | None,
    end: datetime | None,
    is_planned: bool,
) -> dict[int, Timeline]:
    held = _within("starts_at", "ends_at", start, end)
    added = _within("started_at", "ended_at", start, end)
    # All of plans, anchors and choices, whenever they were: the first of them say where periods
    # begin.
    subscriptions = _by_tenant(PlanSubscription.objects.order_by("started_at", "id"), ids)
    planned = _by_tenant(PlannedChange.objects.filter(is_pending=True), ids)
    anchors = _by_tenant(BillingAnchor.objects.order_by("id"), ids)
    choices = _by_tenant(BillingChoice.objects.order_by("id"), ids)
    add_ons = _by_tenant(AddOnSubscription.objects.filter(added).order_by("id"), ids)
    own_terms = _by_tenant(OwnTerms.objects.filter(held).order_by("starts_at"), ids)
    discounts = _by_tenant(DiscountGrant.objects.filter(held).order_by("id"), ids)
    by_calendar = settings.RELAY_BILLING_PERIODS == "calendar"
    timelines = {}
    for tenant_id in ids:
        timeline = Timeline(
            plans=_spans(subscriptions[tenant_id], published),
            add_ons=tuple(_add_on_span(row, published) for row in add_ons[tenant_id]),
            own_terms=tuple(row.override for row in own_terms[tenant_id] if _lasts(row)),
            choices=tuple(
                Choice(row.since, row.overage, row.spend_cap) for row in choices[tenant_id]
            ),
            recorded=tuple(
                Anchor(row.at, Interval(Unit(row.unit), row.every)) for row in anchors[tenant_id]
            ),
            discounts=tuple(row.discount for row in discounts[tenant_id]),
            by_calendar=by_calendar,
        )
        for change in planned[tenant_id] if is_planned else ():
            plan = published.plans.get((change.plan_id, change.version))
            timeline = timeline.changed(plan, change.at)
        timelines[tenant_id] = timeline
    return timelines


def _spans(rows: Iterable[PlanSubscription], published: Prices) -> tuple[PlanSpan, ...]:
    found = []
    for row in rows:
        plan = published.plans.get((row.plan_id, row.version))
        if plan is not None:
            found.append(span_of(plan, row.started_at, row.ended_at, row.trial_ends_at))
    return tuple(span for span in found if span is not None)


def _add_on_span(row: AddOnSubscription, published: Prices) -> AddOnSpan:
    prices = published.add_ons[row.add_on_id, row.version]
    return AddOnSpan(prices, row.started_at, row.ended_at, row.quantity)


def _by_tenant(rows: QuerySet, ids: Collection[int]) -> dict[int, list]:
    found: dict[int, list] = defaultdict(list)
    for row in rows.filter(tenant__in=ids):
        found[row.tenant_id].append(row)
    return found


def _within(first: str, last: str, start: datetime | None, end: datetime | None) -> Q:
    """What holds for some of `[start, end)`, by the names of its two columns."""
    within = Q() if end is None else Q(**{f"{first}__lt": end})
    if start is not None:
        within &= Q(**{last: None}) | Q(**{f"{last}__gt": start})
    return within


def _lasts(row: OwnTerms) -> bool:
    return row.ends_at is None or row.ends_at > row.starts_at


def _id(tenant: Tenant | int) -> int:
    return tenant if isinstance(tenant, int) else tenant.pk
