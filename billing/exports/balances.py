"""What was open at a date, from invoices and allocations alone, and how old it was."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Q

from billing.exports.csv import number, text
from billing.exports.scope import Row, Scope, pages
from billing.models import Invoice, PaymentAllocation

ZERO = Decimal("0.00")
_DAY = timedelta(days=1)
_PAGE = 500
#: The last day overdue of each bucket but the last.
BUCKETS = (0, 30, 60, 90)
COLUMNS = (
    *text("tenant"),
    *number("current", "days_1_30", "days_31_60", "days_61_90", "days_over_90"),
    *number("in_favour", "total"),
)


class Open(NamedTuple):
    """An invoice that was not settled: `balance` is what was to pay, below 0 to give back."""

    invoice: str
    tenant: str
    due_at: datetime
    balance: Decimal


def open_at(at: datetime, tenant: int | None = None) -> Iterator[Open]:
    """The invoices that were issued before `at` and not settled by what was booked before it, by
    number. A credit note settles when it is issued; what was booked of an invoice that is dated
    after `at` is in the customer's favour until then."""
    mine = {} if tenant is None else {"tenant": tenant}
    found = Invoice.objects.filter(number__isnull=False, **mine)
    read = ("pk", "tenant__slug", "finalized_at", "due_at", "due")
    for page in pages(found, ("number",), read, size=_PAGE):
        settled: dict[int, Decimal] = defaultdict(lambda: ZERO)
        allocations = PaymentAllocation.objects.filter(invoice__in=[row[1] for row in page]).filter(
            Q(credit_note__issued_at__lt=at, kind=PaymentAllocation.Kind.CREDIT)
            | Q(at__lt=at) & ~Q(kind=PaymentAllocation.Kind.CREDIT)
        )
        for invoice, amount in allocations.order_by().values_list("invoice", "amount"):
            settled[invoice] += amount
        for name, pk, slug, issued_at, due_at, due in page:
            if balance := (due if issued_at < at else ZERO) - settled[pk]:
                yield Open(name, slug, due_at, balance)


def age(due_at: datetime, at: datetime) -> int:
    """The bucket of something due at `due_at`, by the days that have begun since: 0 is not due yet,
    then 1-30, 31-60, 61-90 and more."""
    days = -((due_at - at) // _DAY)
    return sum(1 for last in BUCKETS if days > last)


def rows(scope: Scope) -> Iterator[Row]:
    """Of each tenant, what was open at the end of the period by age. What is in its favour is not
    counted against what it owes."""
    sums: dict[str, list[Decimal]] = defaultdict(lambda: [ZERO] * 7)
    for row in open_at(scope.end, scope.tenant):
        place = age(row.due_at, scope.end) if row.balance > 0 else 5
        sums[row.tenant][place] += row.balance
        sums[row.tenant][6] += row.balance
    for slug in sorted(sums):
        yield (slug, *sums[slug])
