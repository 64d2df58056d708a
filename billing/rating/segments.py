"""The parts of a period in which one set of terms held: between changes of plan, add-ons, own
terms, and the end of a trial."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

from billing.rating.periods import (
    HOUR,
    SECOND,
    Period,
    full_hour,
    in_utc,
    paid_at,
    seconds_between,
)
from billing.rating.prices import AddOnPrices, Entitlements, Override, PlanPrices

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PlanSpan:
    """A tenant on `plan` in `[start, end)` (None: until further notice), until `trial_end` for
    nothing."""

    plan: PlanPrices
    start: datetime
    end: datetime | None = None
    trial_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class AddOnSpan:
    """`quantity` of an add-on in `[start, end)` (None: until further notice)."""

    add_on: AddOnPrices
    start: datetime
    end: datetime | None = None
    quantity: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The terms of `[start, end)`: the plan with the tenant's own terms in it, and its add-ons with
    how many of each. `follows` says that earlier terms pay for the hour in which these begin."""

    start: datetime
    end: datetime
    plan: PlanPrices
    add_ons: tuple[tuple[AddOnPrices, int], ...] = ()
    is_trial: bool = False
    follows: bool = False

    @property
    def seconds(self) -> int:
        """Its length."""
        return seconds_between(self.start, self.end)

    def included(self, code: str) -> int:
        """Units that a full period on these terms includes in meter `code`."""
        own = sum(meter.included for meter in self.plan.meters if meter.code == code)
        return own + sum(n * add_on.included.get(code, 0) for add_on, n in self.add_ons)


def begin_trial(plan: PlanPrices, start: datetime) -> PlanSpan:
    """A tenant's span on `plan` from `start`, with the plan's trial if it has one.

    A trial that does not convert ends the span.
    """
    if plan.trial is None:
        return PlanSpan(plan, start)
    trial_end = start + timedelta(days=plan.trial.days)
    return PlanSpan(plan, start, None if plan.trial.converts else trial_end, trial_end)


def clipped(
    plans: Iterable[PlanSpan], within: Iterable[tuple[datetime, datetime | None]]
) -> tuple[PlanSpan, ...]:
    """The parts of `plans` that lie in the half-open stretches `within` (None: without end)."""
    found = []
    for span in plans:
        for start, end in within:
            first = max(span.start, start)
            last = min((at for at in (span.end, end) if at is not None), default=None)
            if last is None or first < last:
                found.append(replace(span, start=first, end=last))
    return tuple(found)


def segments(
    period: Period,
    plans: Sequence[PlanSpan],
    add_ons: Sequence[AddOnSpan] = (),
    overrides: Sequence[Override] = (),
) -> tuple[Segment, ...]:
    """The segments of `period`, in order. Time without a plan has none, and its add-ons rest.

    Instants count to the second. Raises ValueError when two plans, or two own terms of one plan,
    hold at the same time.
    """
    edges = {period.start, period.end}
    edges |= _edges(period, ((span.start, span.end) for span in plans))
    edges |= _edges(period, ((span.trial_end or span.start, None) for span in plans))
    edges |= _edges(period, ((span.start, span.end) for span in add_ons))
    edges |= _edges(period, ((own.starts_at, own.ends_at) for own in overrides))
    found: list[Segment] = []
    instants = sorted(edges)
    for start, end in pairwise(instants):
        span = _only([span for span in plans if _holds(span.start, span.end, start)], start)
        if span is None:
            continue
        own = _only(
            [
                own
                for own in overrides
                if own.plan == span.plan.code and _holds(own.starts_at, own.ends_at, start)
            ],
            start,
        )
        segment = Segment(
            start=start,
            end=end,
            plan=overridden(span.plan, own) if own else span.plan,
            add_ons=tuple(
                (held.add_on, held.quantity)
                for held in add_ons
                if _holds(held.start, held.end, start)
            ),
            is_trial=span.trial_end is not None and start < in_utc(span.trial_end),
            follows=_pays_since(period, plans, start) < start,
        )
        if found and found[-1].end == start:
            longer = replace(found[-1], end=end)
            if replace(longer, start=start, follows=segment.follows) == segment:
                found.pop()
                segment = longer
        found.append(segment)
    return tuple(found)


def hours_paid(period: Period, found: Sequence[Segment]) -> tuple[tuple[datetime, datetime], ...]:
    """For each segment the half-open range of hours whose usage it pays for, perhaps empty.

    Usage is summed by the hour, so it cannot be cut finer: an hour is paid for by the segment in
    force at its beginning, or, without one, by the first that begins within it. Terms that change
    on full hours, as price versions do, are met exactly; another change counts from the next one,
    so that nobody reprices what was used before. The ranges do not overlap.
    """
    ranges = []
    begun = full_hour(period.start)
    for segment in found:
        hour = full_hour(segment.start)
        first = max(begun, hour + HOUR if segment.follows else hour)
        begun = max(first, full_hour(segment.end + HOUR - SECOND))
        ranges.append((first, begun))
    return tuple(ranges)


def overridden(plan: PlanPrices, own: Override) -> PlanPrices:
    """`plan` with a tenant's own terms in place of its own.

    The tenant's meters come first, so they win where both name a channel. One that names none is
    for what no meter names, if it replaces such a one of the plan; else it is for the whole metric,
    and the plan's meters of that, which would count nothing, are left out.
    """
    rest = {(meter.code, meter.metric) for meter in plan.meters if not meter.channels}
    swept = {
        meter.metric
        for meter in own.meters
        if not meter.channels and (meter.code, meter.metric) not in rest
    }
    own_codes = {meter.code for meter in own.meters}
    return replace(
        plan,
        fee=plan.fee if own.fee is None else own.fee,
        entitlements=own.entitlements or plan.entitlements,
        meters=own.meters
        + tuple(m for m in plan.meters if m.code not in own_codes and m.metric not in swept),
    )


def entitled(segment: Segment) -> Entitlements:
    """What the plan and the add-ons of a segment allow together."""
    total = segment.plan.entitlements
    for add_on, quantity in segment.add_ons:
        more = add_on.entitlements
        total = Entitlements(
            products=_union(total.products, more.products) or (),
            channels=_union(total.channels, more.channels),
            regions=_union(total.regions, more.regions),
            connections=_sum(total.connections, more.connections, quantity),
            subscriptions=_sum(total.subscriptions, more.subscriptions, quantity),
            coins=_sum(total.coins, more.coins, quantity),
            users=_sum(total.users, more.users, quantity),
            requests_per_s=_sum(total.requests_per_s, more.requests_per_s, quantity),
            burst=_sum(total.burst, more.burst, quantity),
            retention_hours=_most(total.retention_hours, more.retention_hours),
        )
    return total


def _pays_since(period: Period, plans: Sequence[PlanSpan], start: datetime) -> datetime:
    """Since when the terms hold that pay for the hour of `start`; nothing is before the first
    period."""
    at = paid_at(full_hour(start), plans)
    return max(at, period.start) if period.is_first else at


def _edges(period: Period, spans: Iterable[tuple[datetime, datetime | None]]) -> set[datetime]:
    instants = (in_utc(at) for span in spans for at in span if at is not None)
    return {at for at in instants if at in period}


def _holds(start: datetime, end: datetime | None, at: datetime) -> bool:
    return in_utc(start) <= at and (end is None or at < in_utc(end))


def _only(found: list[_T], at: datetime) -> _T | None:
    if len(found) > 1:
        raise ValueError(f"{len(found)} terms hold at {at}, where one may")
    return found[0] if found else None


def _union(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if one is None or other is None else tuple(dict.fromkeys(one + other))


def _sum(one: int | None, more: int | None, quantity: int) -> int | None:
    return None if one is None or more is None else one + more * quantity


def _most(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)
