"""What holds for one tenant, and when, as values: billing periods, segments, entitlements.

Pure. `terms.py` makes a `Timeline` of the rows of a tenant; a preview makes one with another plan.

**Periods.** A plan of one month is billed by calendar months (first of the month 00:00 UTC), and a
tenant that begins on the 20th pays its first month from then on; any other interval, and months
too where the setting says so, is counted from the moment it began (anniversaries). A change of
interval begins anew: the running period is cut short at that moment, and a month within calendar
months then ends with that calendar month.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise, takewhile
from typing import NamedTuple

from billing.rating.periods import (
    Anchor,
    Period,
    boundary,
    in_utc,
    period_at,
    periods,
    usage_hours,
)
from billing.rating.prices import Discount, Entitlements, Interval, Override, PlanPrices, Unit
from billing.rating.segments import AddOnSpan, PlanSpan, Segment, clipped, entitled, segments

CALENDAR_MONTH = Interval(Unit.MONTH, 1)
#: Half-open and by time; None is without end.
Stretches = Sequence[tuple[datetime, datetime | None]]


class NoTerms(LookupError):
    """The tenant has, or had by then, no plan with published prices."""


class Choice(NamedTuple):
    """From `since` on: whether more than the included is admitted, and what it may cost."""

    since: datetime
    overage: bool = False
    spend_cap: Decimal | None = None


NO_CHOICE = Choice(datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All terms of one tenant. `recorded` are anchors in the order they were written, `choices` in
    the order they were made; `is_planned` when a change still to come is among the plans."""

    plans: tuple[PlanSpan, ...] = ()
    add_ons: tuple[AddOnSpan, ...] = ()
    own_terms: tuple[Override, ...] = ()
    choices: tuple[Choice, ...] = ()
    recorded: tuple[Anchor, ...] = ()
    discounts: tuple[Discount, ...] = ()
    by_calendar: bool = True
    is_planned: bool = False

    def anchors(self) -> tuple[Anchor, ...]:
        """What its billing periods are counted from: those recorded, and those that its plans ask
        for beyond them."""
        found = self.recorded_anchors()
        before: PlanSpan | None = None
        for span in _real(self.plans):
            found = _followed(found, self._new_anchors(found, before, span))
            before = span
        return tuple(found)

    def recorded_anchors(self) -> list[Anchor]:
        """Those of `recorded` that no later one took the place of."""
        found: list[Anchor] = []
        for anchor in self.recorded:
            found = _followed(found, [anchor])
        return found

    def period_of(self, at: datetime) -> Period:
        """The billing period that `at` lies in. Raises NoTerms."""
        try:
            return period_at(self.anchors(), at)
        except ValueError:
            raise NoTerms(f"no plan with prices at {at:%Y-%m-%d %H:%M}") from None

    def periods_between(self, start: datetime, end: datetime) -> tuple[Period, ...]:
        """The periods that end within `(start, end]`, in order: what a month close of that time
        has to bill. Periods from before the first plan have no segments."""
        anchors = self.anchors()
        if not anchors:
            return ()
        begun = [n for n, anchor in enumerate(anchors) if in_utc(anchor.at) <= start]
        first = begun[-1] if begun else 0
        found = periods(anchors[first:], has_earlier=first > 0)
        until = takewhile(lambda period: period.end <= end, found)
        return tuple(period for period in until if period.end > start)

    def segments(self, period: Period, within: Stretches | None = None) -> tuple[Segment, ...]:
        """The segments of `period`, with overage only where it was chosen; of the time `within`,
        without one of all."""
        plans = self.plans if within is None else clipped(self.plans, within)
        found = segments(period, plans, self.add_ons, self.own_terms)
        return _with_choices(found, self.choices)

    def usage_hours(
        self, period: Period, within: Stretches | None = None
    ) -> tuple[datetime, datetime]:
        """The half-open range of hours whose usage is of `period`."""
        plans = self.plans if within is None else clipped(self.plans, within)
        return usage_hours(period, plans)

    def segment_at(self, at: datetime) -> Segment | None:
        """The terms at one instant."""
        try:
            period = self.period_of(at)
        except NoTerms:
            return None
        at = in_utc(at)
        return next((s for s in self.segments(period) if s.start <= at < s.end), None)

    def entitlements_at(self, at: datetime) -> Entitlements | None:
        """What the tenant may use at one instant; None without a plan."""
        segment = self.segment_at(at)
        return None if segment is None else entitled(segment)

    def discounts_in(self, period: Period) -> tuple[Discount, ...]:
        """The discounts in force for some of `period`."""
        return tuple(
            discount
            for discount in self.discounts
            if in_utc(discount.starts_at) < period.end
            and (discount.ends_at is None or in_utc(discount.ends_at) > period.start)
        )

    def choice_at(self, at: datetime) -> Choice:
        """What was chosen last of what holds at `at`."""
        return choice_at(self.choices, at)

    def next_change_after(self, at: datetime) -> datetime | None:
        """The first instant after `at` at which any terms change by themselves."""
        spans = [(span.start, span.end, span.trial_end) for span in self.plans]
        edges: list[datetime | None] = [at for span in spans for at in span]
        edges += [at for span in self.add_ons for at in (span.start, span.end)]
        edges += [at for own in self.own_terms for at in (own.starts_at, own.ends_at)]
        edges += [choice.since for choice in self.choices]
        return min((edge for edge in edges if edge is not None and edge > at), default=None)

    def changed(self, plan: PlanPrices | None, at: datetime) -> Timeline:
        """As it would be with another plan, or none, from `at` on, and nothing planned after. What
        is left of a trial is taken over by a plan that has one."""
        spans = [span for span in self.plans if span.start < at]
        held = [span for span in spans if span.end is None or span.end > at]
        cut = [replace(span, end=at) if span in held else span for span in spans]
        if plan is not None:
            trial_end = carried_trial(held[-1].trial_end if held else None, at, plan)
            more = span_of(plan, at, None, trial_end)
            cut += [more] if more is not None else []
        return replace(self, plans=tuple(cut), is_planned=True)

    def _new_anchors(
        self, found: Sequence[Anchor], before: PlanSpan | None, span: PlanSpan
    ) -> list[Anchor]:
        """What `span` asks for where what is in force does not fit it; else nothing."""
        start, interval = in_utc(span.start), span.plan.interval
        in_force = [anchor for anchor in found if in_utc(anchor.at) <= start]
        is_paused = before is not None and before.end is not None and before.end < span.start
        if in_force and in_force[-1].interval == interval:
            anchor = in_force[-1]
            begun_before = before is None or in_utc(anchor.at) < in_utc(before.end or start)
            if not (is_paused and begun_before and not _is_calendar(anchor)):
                return []
        return begin_periods(start, interval, by_calendar=self.by_calendar, is_first=not in_force)


def begin_periods(
    start: datetime, interval: Interval, *, by_calendar: bool, is_first: bool
) -> list[Anchor]:
    """The anchors of a tenant whose plan is billed by `interval` from `start` on.

    The very first period of calendar months begins before the tenant did: it is whole, and its
    segments are not. A later one may not reach back into what another interval billed.
    """
    start = in_utc(start)
    if not by_calendar or interval != CALENDAR_MONTH:
        return [Anchor(start, interval)]
    first = Anchor(_month_of(start), interval)
    if is_first or first.at == start:
        return [first]
    return [Anchor(start, interval), Anchor(boundary(first, 1), interval)]


def span_of(
    plan: PlanPrices, start: datetime, end: datetime | None, trial_end: datetime | None
) -> PlanSpan | None:
    """The time that a subscription is billed by `plan`: from when its prices begin, until a trial
    that does not convert ends. None when nothing of it is left."""
    if trial_end is not None and plan.trial is not None and not plan.trial.converts:
        end = trial_end if end is None else min(end, trial_end)
    start = max(start, plan.effective_from)
    return None if end is not None and end < start else PlanSpan(plan, start, end, trial_end)


def carried_trial(trial_end: datetime | None, at: datetime, plan: PlanPrices) -> datetime | None:
    """When a trial that was running at `at` ends on another plan: as before, if that has one."""
    is_running = trial_end is not None and trial_end > at
    return trial_end if is_running and plan.trial is not None else None


def choice_at(choices: Iterable[Choice], at: datetime) -> Choice:
    """The choice in force at `at`: of those with `since` by then the latest, of two at one time the
    later made."""
    found = NO_CHOICE
    for choice in choices:
        if choice.since <= at and (found is NO_CHOICE or choice.since >= found.since):
            found = choice
    return found


def _followed(found: list[Anchor], more: Sequence[Anchor]) -> list[Anchor]:
    """A new beginning takes the place of all at its time and later."""
    if not more:
        return found
    return [anchor for anchor in found if in_utc(anchor.at) < in_utc(more[0].at)] + list(more)


def _is_calendar(anchor: Anchor) -> bool:
    return anchor.interval == CALENDAR_MONTH and anchor.at == _month_of(anchor.at)


def _month_of(at: datetime) -> datetime:
    return in_utc(at).replace(day=1, hour=0, minute=0, second=0)


def _real(spans: Iterable[PlanSpan]) -> list[PlanSpan]:
    """The spans that last a second at least, in order."""
    lasting = [s for s in spans if s.end is None or in_utc(s.end) > in_utc(s.start)]
    return sorted(lasting, key=lambda span: span.start)


def _with_choices(found: Sequence[Segment], choices: Sequence[Choice]) -> tuple[Segment, ...]:
    """Segments cut where the choice of overage changes, and without overage where it is off."""
    parts: list[Segment] = []
    for segment in found:
        inside = {c.since for c in choices if segment.start < c.since < segment.end}
        for start, end in pairwise(sorted({segment.start, segment.end, *inside})):
            # What begins at a choice, which is on a full hour, pays for its first hour whole.
            follows = segment.follows and start == segment.start
            part = replace(segment, start=start, end=end, follows=follows)
            if not choice_at(choices, start).overage:
                part = replace(part, plan=_without_overage(part.plan))
            if parts and parts[-1].end == start:
                longer = replace(parts[-1], end=end)
                if replace(longer, start=start, follows=follows) == part:
                    parts.pop()
                    part = longer
            parts.append(part)
    return tuple(parts)


def _without_overage(plan: PlanPrices) -> PlanPrices:
    if not any(meter.overage for meter in plan.meters):
        return plan
    return replace(plan, meters=tuple(replace(meter, overage=False) for meter in plan.meters))
