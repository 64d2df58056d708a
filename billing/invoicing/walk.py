"""A tenant's ledger beside its invoices, each entry read once, in the order in which it was billed.

An invoice is of the positions after the one before it. Of these, hours of an earlier invoice are
late, and the others wait until the invoice of their hour comes, which mostly is this one. So a
ledger of any length is walked in one go, and only sums by the hour of what waits are held.

Of invoices that nobody asks about (`skip`) no entry is read. What of the ledger before the next one
matters to it is what waits for it: entries of hours that none of them was of, which are read by
these hours. So one month costs the entries of one month, however long the ledger is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Sum

from billing.invoicing.kinds import Custom
from billing.invoicing.usage import Place, hours_of
from billing.models import Invoice, LedgerEntry


class Found(NamedTuple):
    """What the ledger says of an invoice: units of its own period, and of earlier ones by their
    beginning."""

    own: Counter[Place]
    late: dict[datetime, Counter[Place]]


class Walk:
    """Ask for, or skip, all invoices of a tenant in the order of `ORDER`."""

    ORDER = ("ledger_position", "previous_position", "period_start", "sequence", "pk")

    def __init__(self, tenant_id: int, custom: Custom) -> None:
        self._tenant, self._custom = tenant_id, custom
        self._upto = 0
        self._has_skipped = False
        self._waiting: dict[datetime, Counter[Place]] = defaultdict(Counter)
        #: The hours of regular invoices, and where their periods begin.
        self._periods: list[tuple[datetime, datetime, datetime]] = []

    def next(self, invoice: Invoice, *, is_again: bool = False) -> Found:
        """What is posted for an invoice; `is_again` for one that stands in place of another, of the
        same positions."""
        is_regular = invoice.kind == Invoice.Kind.REGULAR
        if is_again:
            return self._again(invoice, is_regular=is_regular)
        if self._has_skipped:
            self._wait_again()
        if self._upto < invoice.previous_position:
            # An account that no invoice looked at: what is of hours to come is billed with them.
            billed = self._periods[-1][1] if self._periods else invoice.usage_from
            of = {} if billed is None else {"hour__gte": billed}
            self._read(self._upto, invoice.previous_position, of)
        late = self._read(invoice.previous_position, invoice.ledger_position, {})
        self._upto = max(self._upto, invoice.ledger_position)
        own: Counter[Place] = Counter()
        if is_regular:
            first, end = hours_of(invoice)
            for hour in [hour for hour in self._waiting if hour < end]:
                units = self._waiting.pop(hour)
                if hour >= first:
                    own.update(units)
            self._periods.append((first, end, invoice.period_start))
        return Found(own, late)

    def skip(self, invoice: Invoice, *, is_again: bool = False) -> None:
        """Pass an invoice that nobody asks about."""
        if is_again:
            return
        if invoice.kind == Invoice.Kind.REGULAR:
            self._periods.append((*hours_of(invoice), invoice.period_start))
        self._upto = max(self._upto, invoice.ledger_position)
        self._has_skipped = True

    def _wait_again(self) -> None:
        """After some were skipped: what waits of the positions until now, read by its hours."""
        self._has_skipped = False
        self._waiting.clear()
        of = {"hour__gte": self._periods[-1][1]} if self._periods else {}
        self._read(0, self._upto, of)

    def _read(self, after: int, upto: int, of: dict[str, Any]) -> dict[datetime, Counter[Place]]:
        """Let what is of hours to come wait, and answer the rest by period."""
        late: dict[datetime, Counter[Place]] = defaultdict(Counter)
        for hour, *place, units in self._sums(position__gt=after, position__lte=upto, **of):
            period = self._period_of(hour)
            sums = self._waiting[hour] if period is None else late[period]
            sums[place[0], place[1], place[2]] += units
        return late

    def _again(self, invoice: Invoice, *, is_regular: bool) -> Found:
        own: Counter[Place] = Counter()
        late: dict[datetime, Counter[Place]] = defaultdict(Counter)
        upto = {"position__lte": invoice.ledger_position}
        of: dict[str, Any] = {}
        if is_regular:
            first, end = hours_of(invoice)
            of["hour__lt"] = first
            for _, *place, units in self._sums(hour__gte=first, hour__lt=end, **upto):
                own[place[0], place[1], place[2]] += units
        for hour, *place, units in self._sums(position__gt=invoice.previous_position, **upto, **of):
            period = self._period_of(hour)
            if period is not None:
                late[period][place[0], place[1], place[2]] += units
        return Found(own, late)

    def _period_of(self, hour: datetime) -> datetime | None:
        """Where the period begins whose invoice was of this hour."""
        at = bisect_right(self._periods, hour, key=_first) - 1
        if at < 0:
            return None
        _, end, start = self._periods[at]
        return start if hour < end else None

    def _sums(self, **of: Any) -> Iterator[tuple[Any, ...]]:
        """Hour, metric, channel, reason and units."""
        rows = LedgerEntry.objects.filter(self._custom.entries(), account=self._tenant, **of)
        summed = rows.order_by().values_list("hour", "metric", "channel", "zero_rated")
        for *place, units in summed.annotate(total=Sum("units")):
            yield *place, int(units)


def _first(period: tuple[datetime, datetime, datetime]) -> datetime:
    return period[0]
