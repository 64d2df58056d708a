"""What came late of earlier periods, as lines of the next invoice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from billing.invoicing.kinds import Custom
from billing.invoicing.terms_port import Terms
from billing.invoicing.usage import (
    Late,
    by_place,
    hours_of,
    less,
    period_of,
    stretches,
    usage_as_of,
    usage_of,
)
from billing.models import Invoice, InvoiceStanding
from billing.rating import invoice as rating
from billing.rating.money import ZERO
from billing.rating.periods import Period
from billing.rating.rate import rate
from tenants.models import Tenant

LATE_USAGE = "late-usage"


@dataclass(frozen=True, slots=True)
class LateLine:
    """Late usage of an earlier period: what it adds to that period's price."""

    adjustment: rating.Adjustment
    sources: list[dict[str, Any]]


def billed_by(tenant: Tenant, after: int, found: Sequence[Late]) -> list[Invoice]:
    """The invoices by time that late usage may be of: of those made when the account stood at
    `after` at most, the last of each period. One that is void is the last where no other is in its
    place."""
    if not found:
        return []
    rows = Invoice.objects.finalized().filter(
        tenant=tenant,
        kind=Invoice.Kind.REGULAR,
        usage_until__gt=found[0].hour,
        ledger_position__lte=after,
    )
    last = {invoice.period_start: invoice for invoice in rows.order_by("period_start", "sequence")}
    return list(last.values())


def late_lines(
    tenant: Tenant,
    found: Sequence[Late],
    billed: Sequence[Invoice],
    terms: Terms,
    custom: Custom,
    upto: int | None,
) -> tuple[list[LateLine], list[dict[str, Any]]]:
    """A line for each earlier period: the difference between its price now, or when the account
    stood at `upto`, and its price without what came late, both on the same terms."""
    by_invoice: dict[Invoice, list[Late]] = defaultdict(list)
    unbilled: list[Late] = []
    ranges = [(hours_of(invoice), invoice) for invoice in billed]
    for row in found:
        owners = (invoice for (start, end), invoice in ranges if start <= row.hour < end)
        owner = next(owners, None)
        (unbilled if owner is None else by_invoice[owner]).append(row)
    lines = []
    void = _void_among(by_invoice)
    for invoice, rows in by_invoice.items():
        period = period_of(invoice)
        if invoice.pk in void:
            lines.append(_of_nothing(invoice, period, rows))
            continue
        segments = terms.segments_of(tenant, period, custom.stretches)
        discounts = terms.discounts_of(tenant, period)
        cut = stretches(invoice, period, segments)
        after = (
            usage_of(tenant.pk, cut, custom)
            if upto is None
            else usage_as_of(tenant.pk, cut, upto, custom)
        )
        before = less(after, rows, cut)
        prices = [
            rate(period, segments, usage, discounts=discounts).subtotal for usage in (after, before)
        ]
        adjustment = rating.Adjustment(
            code=LATE_USAGE,
            name=f"{_named(period)} (invoice {invoice.number})",
            amount=prices[0] - prices[1],
            original=(period.start, period.end),
        )
        lines.append(LateLine(adjustment, by_place(rows)))
    return lines, by_place(unbilled)


def _void_among(invoices: Iterable[Invoice]) -> set[int]:
    rows = InvoiceStanding.objects.filter(
        invoice__in=[invoice.pk for invoice in invoices], state=InvoiceStanding.State.VOIDED
    )
    return set(rows.order_by().values_list("pk", flat=True))


def _of_nothing(invoice: Invoice, period: Period, rows: list[Late]) -> LateLine:
    """Of a period that costs nothing: its invoice is void, and none is in its place. Without that
    one's usage there is no price to add to."""
    adjustment = rating.Adjustment(
        code=LATE_USAGE,
        name=f"{_named(period)} (invoice {invoice.number} is void: not charged)",
        amount=ZERO,
        original=(period.start, period.end),
    )
    return LateLine(adjustment, by_place(rows))


def _named(period: Period) -> str:
    return f"Late usage of {period.start:%Y-%m-%d} to {period.end:%Y-%m-%d}"
