"""What an invoice owes its customer settles that customer's open ones, the oldest due first: so
nobody is asked for money while we owe them as much."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from django.db.models import QuerySet

from billing.invoicing.netting import set_off, still_owed
from billing.invoicing.standing import ZERO, added_up, restand
from billing.models import (
    Concession,
    Invoice,
    InvoiceStanding,
    Payment,
    PaymentAllocation,
    ProviderReturn,
)

State = InvoiceStanding.State
_UNDER_WAY = [
    ProviderReturn.State.ASKED,
    ProviderReturn.State.PENDING,
    ProviderReturn.State.RETURNED,
]
_REFUNDS = [Concession.Kind.REFUND, Concession.Kind.PROVIDER_REFUND]


def carry_over(tenant_id: int, *, by: str = "") -> dict[int, Decimal]:
    """Settle what is open of a tenant with what is in its favour. Answers how much of which invoice
    (its id); below 0 where it was taken from.

    Inside a transaction that holds the tenant's cursor.
    """
    rows = _standings(tenant_id)
    if not any(row.balance < 0 for row in rows):
        return {}
    by_id = {row.pk: row for row in rows}
    owed, in_favour = _open(rows), [(row.pk, -row.balance) for row in rows if row.balance < 0]
    moved: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for part in set_off(owed, in_favour):
        source, target = by_id[part.source].invoice, by_id[part.target].invoice
        for invoice, amount in ((source, -part.amount), (target, part.amount)):
            PaymentAllocation.objects.create(
                kind=PaymentAllocation.Kind.CARRY,
                invoice=invoice,
                amount=amount,
                actor=by,
                reason=f"{source} → {target}",
            )
            moved[invoice.pk] += amount
    for number in sorted(moved):
        restand(by_id[number], by=by, reason="settled by what was in the customer's favour")
    return dict(moved)


def to_carry(invoice: Invoice, *, by: str = "") -> Decimal:
    """What of an invoice about to be finalized the others of its tenant settle; below 0: what it
    settles of them. Those settle each other first, as they were due before. Under the cursor."""

    def others() -> list[Decimal]:
        rows = _standings(invoice.tenant_id)
        balances = [row.balance for row in rows if not _is_void_debt(row)]
        return [balance for balance in balances if balance * invoice.due < 0]

    if not others():
        return ZERO
    carry_over(invoice.tenant_id, by=by)
    rest = sum(others(), start=ZERO)
    return min(invoice.due, -rest) if invoice.due > 0 else max(invoice.due, -rest)


def net_of(tenant_id: int) -> dict[int, Decimal]:
    """What a tenant owes on each open invoice (its id) when all that is in its favour is used for
    what was due first: also payments that are for nothing yet. What is prepaid for later is not,
    nor what a provider is sending back.
    """
    rows = _standings(tenant_id)
    owing = sum((-row.balance for row in rows if row.balance < 0), start=ZERO)
    return still_owed(_open(rows), max(_for_nothing(tenant_id) + owing, ZERO))


def in_favour_of(tenant_id: int) -> Decimal:
    """What we owe a tenant on balance; below 0: what it owes us. What a provider is sending back,
    and refunds that wait for approval, are owed no more."""
    balances = (row.balance for row in _standings(tenant_id) if not _is_void_debt(row))
    waiting = Concession.objects.filter(
        tenant=tenant_id, kind__in=_REFUNDS, state=Concession.State.WAITING
    )
    rest = _for_nothing(tenant_id) - sum(balances, start=ZERO)
    return rest - added_up(waiting, "whole")


def under_way(tenant_id: int) -> QuerySet[ProviderReturn]:
    """Refunds that a provider was asked for or made, and that are not booked. Disputes are booked
    at once, or by hand."""
    return ProviderReturn.objects.filter(
        kind=ProviderReturn.Kind.REFUND,
        attempt__payment__tenant=tenant_id,
        state__in=_UNDER_WAY,
        booked_at=None,
    )


def _for_nothing(tenant_id: int) -> Decimal:
    """What of a tenant's payments is for nothing yet, and on no way back."""
    received = added_up(Payment.objects.filter(tenant=tenant_id))
    used = added_up(PaymentAllocation.objects.filter(payment__tenant=tenant_id))
    return received - used - added_up(under_way(tenant_id))


def _standings(tenant_id: int) -> list[InvoiceStanding]:
    """Those with a balance. The cursor is held, so nobody else moves them; not locked here, because
    a tenant's invoices would be joined, and locked too."""
    rows = InvoiceStanding.objects.filter(invoice__tenant=tenant_id).exclude(balance=0)
    return list(rows.select_related("invoice").order_by("pk"))


def _is_void_debt(row: InvoiceStanding) -> bool:
    return row.state == State.VOIDED and row.balance > 0


def _open(rows: list[InvoiceStanding]) -> list[tuple[int, Decimal]]:
    owed = [row for row in rows if row.balance > 0 and not _is_void_debt(row)]
    return [(row.pk, row.balance) for row in sorted(owed, key=lambda row: (row.due_at, row.pk))]
