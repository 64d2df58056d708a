"""Payments that were received in a period, and what was booked of payments and invoices in it."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from billing.exports.csv import number, text, time
from billing.exports.scope import Row, Scope, paged
from billing.models import Payment, PaymentAllocation
from billing.rating.money import CURRENCY

COLUMNS = (
    *number("payment"),
    *time("received_at", "recorded_at"),
    *text("tenant", "method", "reference"),
    *number("amount"),
    *text("currency"),
    *text("recorded_by", "note", is_internal=True),
)
_READ = ("received_at", "recorded_at", "tenant__slug", "method", "reference", "amount")
ALLOCATION_COLUMNS = (
    *number("allocation"),
    *time("at"),
    *text("tenant", "kind"),
    *number("payment"),
    *text("invoice", "credit_note"),
    *number("amount"),
    *text("currency"),
    *text("actor", "reason", is_internal=True),
)
_READ_ALLOCATION = ("slug", "kind", "payment", "invoice__number", "credit_note__number", "amount")


def chosen(scope: Scope) -> QuerySet[Payment]:
    """Received in the period."""
    return Payment.objects.filter(**scope.within("received_at"), **scope.of())


def allocated(scope: Scope) -> QuerySet[PaymentAllocation]:
    """Booked in the period."""
    rows = PaymentAllocation.objects.filter(**scope.within("at"))
    if scope.tenant is not None:
        rows = rows.filter(Q(invoice__tenant=scope.tenant) | Q(payment__tenant=scope.tenant))
    return rows


def rows(scope: Scope) -> Iterator[Row]:
    """Those of the period, in the order in which they were recorded."""
    return rows_of(chosen(scope))


def rows_of(payments: QuerySet[Payment]) -> Iterator[Row]:
    """Some payments."""
    for *row, by, note in paged(payments, ("pk",), (*_READ, "recorded_by", "note")):
        yield (*row, CURRENCY, by, note)


def allocation_rows(scope: Scope) -> Iterator[Row]:
    """What was booked, in that order."""
    named = allocated(scope).annotate(
        slug=Coalesce("invoice__tenant__slug", "payment__tenant__slug")
    )
    for *row, by, why in paged(named, ("pk",), ("at", *_READ_ALLOCATION, "actor", "reason")):
        yield (*row, CURRENCY, by, why)
