"""Service credits of one period, priced together: each is what it adds to those before it.

First those on invoices, then those approved, then those proposed. So what is approved comes, in any
order and whatever is rejected, to what all of its windows are worth together (`sla.worth`), which
is at most the fee. What a person approves is the time: until it is on an invoice, its amount grows
when another one that covered a part of it is rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from django.conf import settings

from billing.invoicing.sla import ZERO, Window, union, within, worth
from billing.invoicing.terms_port import Terms
from billing.models import Adjustment, InvoiceStanding
from billing.rating.periods import Period
from billing.rating.segments import Segment
from tenants.models import Tenant

State = Adjustment.State
_ORDER = {State.BILLED: 0, State.APPROVED: 1, State.PROPOSED: 2}


def windows_of(credit: Adjustment) -> list[Window]:
    """The times it is for; none for one of before they were kept."""
    return [(datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in credit.windows]


def kept(windows: Iterable[Window]) -> list[list[str]]:
    """Windows as they are kept."""
    return [[start.isoformat(), end.isoformat()] for start, end in windows]


def value(windows: Iterable[Window], period: Period, segments: Sequence[Segment]) -> Decimal:
    """What windows of a period are worth."""
    return worth(windows, period, segments, factor=settings.RELAY_SLA_FACTOR)


def by_period(
    tenant: Tenant, windows: Iterable[Window], terms: Terms
) -> list[tuple[Period, list[Window]]]:
    """Windows by the tenant's periods that they lie in, what has none left out."""
    found: dict[datetime, tuple[Period, list[Window]]] = {}
    for start, end in union(windows):
        while start < end and (period := terms.period_of(tenant, start)) is not None:
            _, parts = found.setdefault(period.start, (period, []))
            parts += within([(start, end)], period.start, period.end)
            start = period.end
    return list(found.values())


def lock_credits(tenant_id: int, period_start: datetime) -> list[Adjustment]:
    """All of a tenant and period but the rejected, and those that void invoices billed, for which
    copies stand; locked. Its cursor is locked before."""
    rows = Adjustment.objects.select_for_update().filter(
        tenant=tenant_id, source=Adjustment.Source.SLA_GAP, original_start=period_start
    )
    # Not by a join, which would lock invoices too.
    void = InvoiceStanding.objects.filter(
        invoice__tenant=tenant_id, state=InvoiceStanding.State.VOIDED
    )
    held = rows.exclude(state=State.REJECTED).exclude(billed_on__in=void.order_by().values("pk"))
    return list(held.order_by("pk"))


def price(credits: Iterable[Adjustment], period: Period, segments: Sequence[Segment]) -> None:
    """Set the amounts of credits of one period, and leave saving them to the caller. Those on
    invoices that hold, and those of before windows were kept, count as what they are."""
    most = value([(period.start, period.end)], period, segments)
    covered: list[Window] = []
    given = ZERO
    for row in sorted(credits, key=_place):
        before, covered = value(covered, period, segments), union([*covered, *windows_of(row)])
        if row.state != State.BILLED and row.windows:
            added = value(covered, period, segments) - before
            row.amount = -max(ZERO, min(added, most - given))
        given -= row.amount


def _place(row: Adjustment) -> tuple[int, float, int]:
    # As they were decided, so that none that is approved shrinks by another's approval.
    decided = row.decided_at.timestamp() if row.decided_at is not None else 0.0
    return _ORDER[State(row.state)], decided, row.pk
