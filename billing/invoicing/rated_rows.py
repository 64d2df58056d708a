"""What is rated but not invoiced, as rows of an invoice: a preview says it in the same words."""

from __future__ import annotations

from django.utils.translation import gettext as _

from billing.invoicing.frozen import parts_of
from billing.invoicing.sheet import Row, listed, money, row_of, span
from billing.models import InvoiceLine
from billing.rating.invoice import Rated
from billing.rating.segments import Segment


def rows_of(rated: Rated) -> tuple[Row, ...]:
    """A row a line, with how its amount came about."""
    return tuple(
        row_of(
            InvoiceLine(
                kind=line.kind.value,
                code=line.code,
                name=line.name,
                reason=line.reason,
                quantity=line.quantity,
                unit=line.unit,
                amount=line.amount,
                tax_percent=line.tax_percent,
                parts=parts_of(line),
            )
        )
        for line in rated.lines
    )


def segment_line(segment: Segment) -> tuple[str, str]:
    """A segment as its stretch and its terms."""
    fee = _("%(fee)s USD a period") % {"fee": money(segment.plan.fee)}
    trial = [_("trial")] if segment.is_trial else []
    add_ons = [f"{quantity} × {add_on.name}" for add_on, quantity in segment.add_ons]
    terms = listed(segment.plan.name, fee, *trial, *add_ons)
    return span(segment.start, segment.end), terms
