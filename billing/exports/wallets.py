"""What tenants have prepaid: the roll-forward of a period."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from django.db.models import Max

from billing.exports.csv import number, text
from billing.exports.scope import Row, Scope, paged
from billing.models import WalletEntry

ZERO = Decimal("0.00")
KINDS = tuple(kind.value for kind in WalletEntry.Kind)
COLUMNS = (
    *text("tenant"),
    *number("opening", "top_ups", "spent", "refunds", "expired", "adjustments", "closing"),
)


def balances_at(at: datetime, tenant: int | None = None) -> dict[str, Decimal]:
    """What each wallet held: the balance its last entry before `at` tells."""
    mine = {} if tenant is None else {"tenant": tenant}
    found = WalletEntry.objects.filter(created_at__lt=at, **mine).order_by()
    last = [pk for _, pk in found.values_list("tenant").annotate(last=Max("pk"))]
    held: dict[str, Decimal] = {}
    for n in range(0, len(last), 500):
        rows = WalletEntry.objects.filter(pk__in=last[n : n + 500]).order_by()
        held.update(rows.values_list("tenant__slug", "balance"))
    return held


def rows(scope: Scope) -> Iterator[Row]:
    """Of each tenant: opening + top-ups + spent + refunds + expired + adjustments = closing. What
    left a wallet is below 0. Opening and closing are told by the entries' own balances."""
    opening, closing = (balances_at(at, scope.tenant) for at in (scope.start, scope.end))
    moved: dict[str, dict[str, Decimal]] = {}
    found = WalletEntry.objects.filter(**scope.within("created_at"), **scope.of())
    for _, slug, kind, amount in paged(found, ("pk",), ("tenant__slug", "kind", "amount")):
        sums = moved.setdefault(slug, dict.fromkeys(KINDS, ZERO))
        sums[kind] += amount
    for slug in sorted(closing.keys() | opening.keys()):
        sums = moved.get(slug, dict.fromkeys(KINDS, ZERO))
        amounts = (sums[kind] for kind in KINDS)
        row = (slug, opening.get(slug, ZERO), *amounts, closing.get(slug, ZERO))
        if any(row[1:]):
            yield row
