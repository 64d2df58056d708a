"""The usage an invoice is made of: of its period from the rollups, and what came late from the
ledger.

**Each unit on one invoice.** Positions of a tenant's account follow the order of commits. Whoever
finalizes holds the account: what is posted by then is up to position L, and what comes later is
beyond it. The invoice bills the hours of its period up to L. What the next one finds beyond L of
hours before its own is late, and nothing else is. So the cursor (hours before `usage_until`,
positions up to `position`) says what is billed, with no list of it. Of all this only what was used
as a customer (`kinds.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from django.db.models import QuerySet, Sum

from billing.invoicing.kinds import ALWAYS, Custom
from billing.metering.rollup import Span, cut
from billing.models import Invoice, LedgerEntry
from billing.rating.invoice import Usage
from billing.rating.periods import Period
from billing.rating.prices import Interval, Unit
from billing.rating.segments import Segment, hours_paid

#: Metric, channel and reason.
Place = tuple[str, str, str]
#: Half-open, by time, and none overlaps another.
Ranges = Sequence[tuple[datetime, datetime]]


class Late(NamedTuple):
    """Units that were posted after the invoice of their hour."""

    hour: datetime
    metric: str
    channel: str
    reason: str
    units: int


def hours_of(invoice: Invoice) -> tuple[datetime, datetime]:
    """The half-open range of hours that a regular invoice is for."""
    if invoice.usage_from is None or invoice.usage_until is None:
        raise ValueError(f"{invoice} is for no hours")
    return invoice.usage_from, invoice.usage_until


def period_of(invoice: Invoice) -> Period:
    """The period as rating knows it."""
    interval = Interval(Unit(invoice.interval_unit or Unit.MONTH), invoice.interval_every)
    return Period(
        invoice.period_start,
        invoice.period_end,
        invoice.full_end,
        interval,
        is_first=invoice.is_first_period,
    )


def stretches(
    invoice: Invoice, period: Period, segments: Sequence[Segment]
) -> list[tuple[datetime, datetime]]:
    """Half-open ranges that cover the hours of an invoice, none of which two segments share."""
    first, end = hours_of(invoice)
    edges = {first, end}
    for start, until in hours_paid(period, segments):
        edges |= {at for at in (start, until) if first < at < end}
    instants = sorted(edges)
    return list(pairwise(instants))


def usage_of(tenant_id: int, ranges: Ranges, custom: Custom = ALWAYS) -> list[Usage]:
    """What a tenant used in ranges of hours as a customer, each summed: rating needs no finer
    cut."""
    if not custom.changes:
        return usage_of_many({tenant_id: ranges})[tenant_id] if custom.was_one else []
    sums: Counter[tuple[datetime, str, str, str]] = Counter()
    for start, end in ranges:
        for within in custom.whole(start, end):
            for row in usage_of(tenant_id, [within]):
                sums[start, row.metric, row.channel, row.reason] += row.units
        for hour, after, upto in custom.split(start, end):
            entries = LedgerEntry.objects.filter(account=tenant_id, hour=hour, position__gt=after)
            if upto is not None:
                entries = entries.filter(position__lte=upto)
            for metric, channel, reason, units in _summed(entries):
                sums[start, metric, channel, reason] += units
    return [Usage(*place, units) for place, units in sorted(sums.items())]


def usage_as_of(
    tenant_id: int, ranges: Ranges, position: int, custom: Custom = ALWAYS
) -> list[Usage]:
    """The same as it was when the tenant's account stood at `position`. From the ledger, whose
    entries are read one by one: for what is made again, seldom."""
    held = LedgerEntry.objects.filter(custom.entries(), account=tenant_id, position__lte=position)
    return [
        Usage(start, metric, channel, reason, units)
        for start, end in ranges
        for metric, channel, reason, units in _summed(held.filter(hour__gte=start, hour__lt=end))
    ]


def _summed(entries: QuerySet[LedgerEntry]) -> Iterator[tuple[str, str, str, int]]:
    rows = entries.order_by().values_list("metric", "channel", "zero_rated")
    for metric, channel, reason, units in rows.annotate(total=Sum("units")):
        yield metric, channel, reason, int(units)


def usage_of_many(ranges_of: Mapping[int, Ranges]) -> dict[int, list[Usage]]:
    """The same of many tenants, in as many statements as there are different cuts of time: those
    billed by calendar months are one. Whole days and months are read as such."""
    wanted: dict[tuple[datetime, Span], list[int]] = defaultdict(list)
    for tenant_id, ranges in ranges_of.items():
        for start, end in ranges:
            for span in cut(start, end):
                wanted[start, span].append(tenant_id)
    sums: dict[int, Counter[tuple[datetime, str, str, str]]] = {
        tenant_id: Counter() for tenant_id in ranges_of
    }
    for (start, span), tenants in wanted.items():
        rows = (
            span.rollups.filter(tenant__in=tenants)
            .order_by()
            .values_list("tenant_id", "metric", "channel", "zero_rated")
            .annotate(total=Sum("units"))
        )
        for tenant_id, metric, channel, reason, units in rows:
            sums[tenant_id][start, metric, channel, reason] += int(units)
    return {
        tenant_id: [Usage(*place, units) for place, units in sorted(found.items())]
        for tenant_id, found in sums.items()
    }


def late_usage(
    tenant_id: int, *, after: int, upto: int, before: datetime, custom: Custom = ALWAYS
) -> list[Late]:
    """Entries at positions `(after, upto]` of hours before `before`, used as a customer, summed by
    hour."""
    rows = (
        LedgerEntry.objects.filter(
            custom.entries(),
            account=tenant_id,
            position__gt=after,
            position__lte=upto,
            hour__lt=before,
        )
        .order_by()
        .values_list("hour", "metric", "channel", "zero_rated")
        .annotate(total=Sum("units"))
    )
    return sorted(
        Late(hour, metric, channel, reason, int(units))
        for hour, metric, channel, reason, units in rows
    )


def less(
    usage: Iterable[Usage], late: Iterable[Late], ranges: Sequence[tuple[datetime, datetime]]
) -> list[Usage]:
    """`usage`, which is summed by `ranges`, without what came late."""
    off: Counter[tuple[datetime, str, str, str]] = Counter()
    for row in late:
        start = next(start for start, end in ranges if start <= row.hour < end)
        off[start, row.metric, row.channel, row.reason] += row.units
    return [row._replace(units=row.units - off[row[:4]]) for row in usage]


def by_place(late: Iterable[Late]) -> list[dict[str, str | int]]:
    """Late units by what they were, as the sources of a line."""
    sums: dict[Place, int] = defaultdict(int)
    for row in late:
        sums[row.metric, row.channel, row.reason] += row.units
    return [
        {"metric": metric, "channel": channel, "reason": reason, "units": units, "weight": "1"}
        for (metric, channel, reason), units in sorted(sums.items())
    ]
