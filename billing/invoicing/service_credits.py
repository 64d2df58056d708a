"""Service credits of one period, priced together: each is what it adds to those before it.

First those on invoices, then those approved, then those proposed. So all that is not rejected
comes, in any order, to what all of its windows are worth together (`sla.worth`), which is at most
what discounts leave of the fee. Only time as a customer counts.

**Approved is an amount.** When an approved credit comes to be worth more, because another one that
covered a part of it is rejected or other terms hold, it stays what was approved, and the rest is
proposed beside it (origin `more:ID:…`), for a person to judge. When it is worth less, it is less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.conf import settings
from django.db.models import QuerySet

from billing.invoicing.kinds import custom_of
from billing.invoicing.sla import ZERO, Window, union, within, worth
from billing.invoicing.terms_port import Terms
from billing.models import Adjustment, InvoiceCursor, InvoiceStanding
from billing.rating.invoice import LineKind
from billing.rating.periods import Period
from billing.rating.rate import rate
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


class Fees(NamedTuple):
    """What a tenant pays for a period whatever it uses: the terms of its time as a customer, and
    what discounts leave of the fees of its plans (`net`)."""

    period: Period
    segments: Sequence[Segment]
    net: Decimal


def fees_of(tenant: Tenant, period: Period, terms: Terms, cursor: InvoiceCursor) -> Fees:
    """The fees of a period, as its invoice has them."""
    segments = terms.segments_of(tenant, period, custom_of(tenant, cursor).stretches)
    # Without usage, of which discounts on all of an invoice take a part: that is not known before
    # the period is over, and a credit should not grow by it.
    rated = rate(period, segments, [], discounts=terms.discounts_of(tenant, period))
    nets = (line.net for line in rated.lines if line.kind is LineKind.PLAN_FEE)
    return Fees(period, segments, sum(nets, start=ZERO))


def value(windows: Iterable[Window], fees: Fees) -> Decimal:
    """What windows of a period are worth: what was paid for it at most."""
    factor = settings.RELAY_SLA_FACTOR
    return min(fees.net, worth(windows, fees.period, fees.segments, factor=factor))


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


def price(
    credits: Iterable[Adjustment], fees: Fees, *, anew: Adjustment | None = None
) -> list[tuple[Adjustment, Decimal]]:
    """Set the amounts of credits of one period, and leave saving them to the caller. Those on
    invoices that hold, and those of before windows were kept, count as what they are; those that
    are approved, but for the one that is decided `anew`, as what was approved at most.

    Answers the approved ones that are worth more, and by how much, where no rest of them waits.
    """
    most = value([(fees.period.start, fees.period.end)], fees)
    covered: list[Window] = []
    given = ZERO
    beyond: dict[int, Decimal] = {}
    rows = sorted(credits, key=_place)
    for row in rows:
        before, covered = value(covered, fees), union([*covered, *windows_of(row)])
        added = value(covered, fees) - before + beyond.pop(_whole_of(row), ZERO)
        room = max(ZERO, min(added, most - given))
        if row.state != State.BILLED and row.windows:
            is_bounded = row.state == State.APPROVED and row is not anew
            row.amount = -(min(room, -row.amount) if is_bounded else room)
        if row.pk is not None and row.state in (State.APPROVED, State.BILLED):
            beyond[row.pk] = max(ZERO, room + row.amount)
        given -= row.amount
    rests = [
        (row, min(rest, most - given))
        for row in rows
        if row.state == State.APPROVED and (rest := beyond.get(row.pk, ZERO))
    ]
    return [(row, rest) for row, rest in rests if rest > 0]


_MORE = "more:"


def origin_of_rest(row: Adjustment, rest: Decimal) -> str:
    """What tells the rest of a credit: judged once, unless all of it comes to something else."""
    return f"{_MORE}{row.pk}:{rest - row.amount}"


def rests_of(row: Adjustment) -> QuerySet[Adjustment]:
    """What was proposed beside a credit because it was worth more than what was approved."""
    return Adjustment.objects.filter(
        tenant=row.tenant_id, origin__startswith=f"{_MORE}{row.pk}:"
    ).order_by("pk")


def _whole_of(row: Adjustment) -> int:
    """The credit of which `row` is a rest; 0: none."""
    origin = row.origin or ""
    return int(origin.split(":")[1]) if origin.startswith(_MORE) else 0


def _place(row: Adjustment) -> tuple[int, float, int]:
    # As they were decided, so that none that is approved shrinks by another's approval.
    decided = row.decided_at.timestamp() if row.decided_at is not None else 0.0
    return _ORDER[State(row.state)], decided, row.pk
