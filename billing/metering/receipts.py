"""Receipts: a tenant's entries of a month as lines a customer can check without us.

The lines are those of `chain.py`, which are the bytes that were hashed: of each seal first its
entries, then the seal. From the first seal that holds entries of the month the chain is followed to
its present end; seals without any of the month come without theirs. So the last line, a summary,
names the hash that the relay shows as its head, and the month's totals.

    {"head_sha256", "month", "tenant", "totals": [[metric, channel, zero_rated, units], …], "v"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from django.db.models import Max, Min

from billing.metering.chain import (
    VERSION,
    entries_between,
    entry_line,
    json_line,
    seal_line,
    version_of,
)
from billing.metering.rollup import midnight, month_of
from billing.models import NO_SEAL, LedgerSeal


def receipt_lines(*, tenant_id: int, month: date) -> Iterator[str]:
    """The receipts of what a tenant used in the UTC month of a day, as far as it is sealed.

    Lines without newline, one at a time: a month may have millions.
    """
    start = midnight(month_of(month))
    end = midnight(month_of(start.date() + timedelta(days=31)))
    seals = LedgerSeal.objects.for_tenant(tenant_id)
    held = seals.filter(first_hour__lt=end, last_hour__gte=start)
    last = seals.aggregate(number=Max("number"))["number"]
    first = held.aggregate(number=Min("number"))["number"] or last
    totals: Counter[tuple[str, str, str]] = Counter()
    head = NO_SEAL
    if last is not None:
        run = seals.filter(number__range=(first, last))
        for seal in run.order_by("number").iterator():
            version = version_of(seal) or 0
            if seal.first_hour < end and seal.last_hour >= start:
                for entry in entries_between(tenant_id, seal.first_position, seal.last_position):
                    if start <= entry.hour < end:
                        totals[entry.metric, entry.channel, entry.zero_rated] += entry.units
                    yield entry_line(entry, version)
            yield seal_line(seal, version)
            head = seal.sha256
    summed = [[*place, units] for place, units in sorted(totals.items())]
    yield json_line(
        {
            "head_sha256": head,
            "month": f"{start:%Y-%m}",
            "tenant": tenant_id,
            "totals": summed,
            "v": VERSION,
        }
    )


def parse_month(text: str) -> date:
    """The first day of `2026-11`. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
