"""Where an invoice stands: what of it is settled, from its allocations and events alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.utils import timezone

from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import lock_cursor
from billing.invoicing.waiting_again import wait_again
from billing.models import Invoice, InvoiceEvent, InvoiceStanding, PaymentAllocation

ZERO = Decimal("0.00")
State = InvoiceStanding.State


class Stand(NamedTuple):
    """The state and balance that allocations and events add up to."""

    state: str
    balance: Decimal


def added_up(rows: QuerySet[Any], name: str = "amount") -> Decimal:
    """The sum of a column of amounts. Not by the database, because SQLite adds up floats."""
    return sum(rows.order_by().values_list(name, flat=True), start=ZERO)


def settled(invoice: Invoice, *kinds: str) -> Decimal:
    """What allocations (of some kinds) have settled of an invoice."""
    rows = PaymentAllocation.objects.filter(invoice=invoice)
    if kinds:
        rows = rows.filter(kind__in=kinds)
    return added_up(rows)


def stand_of(invoice: Invoice) -> Stand:
    """Where an invoice stands by the rows."""
    rows = PaymentAllocation.objects.filter(invoice=invoice).order_by()
    is_void = invoice.events.filter(kind=InvoiceEvent.Kind.VOIDED).exists()
    return stand_by(invoice.due, rows.values_list("kind", "amount"), is_void=is_void)


def stand_by(due: Decimal, booked: Iterable[tuple[str, Decimal]], *, is_void: bool) -> Stand:
    """Where an invoice of `due` stands by the kinds and amounts of its allocations."""
    rows = list(booked)
    balance = due - sum((amount for _, amount in rows), start=ZERO)
    if is_void:
        return Stand(State.VOIDED, balance)
    lost = PaymentAllocation.Kind.WRITE_OFF
    if balance == 0 and sum((amount for kind, amount in rows if kind == lost), start=ZERO):
        return Stand(State.WRITTEN_OFF, balance)
    return _stand(balance, due)


def _stand(balance: Decimal, due: Decimal) -> Stand:
    if balance < 0:
        return Stand(State.IN_FAVOUR, balance)
    if balance == 0:
        return Stand(State.PAID, balance)
    return Stand(State.PARTIALLY_PAID if balance < due else State.OPEN, balance)


def lock_standing(invoice: Invoice) -> InvoiceStanding:
    """The standing, locked, and the tenant's cursor before it: whoever moves money of a tenant
    waits for the others, so no two of them wait for each other. Raises InvoicingError for a
    draft."""
    lock_cursor(invoice.tenant_id)
    standing = InvoiceStanding.objects.select_for_update().filter(invoice=invoice.pk).first()
    if standing is None:
        raise InvoicingError(f"{invoice} is not finalized: nothing is owed on it yet")
    return standing


def begin_standing(invoice: Invoice, due_at: datetime) -> InvoiceStanding:
    """The standing of an invoice that was finalized this moment, so that nothing settles it yet."""
    state, balance = _stand(invoice.due, invoice.due)
    return InvoiceStanding.objects.create(
        invoice=invoice, state=state, balance=balance, due_at=due_at
    )


_TOLD = {
    State.PAID: InvoiceEvent.Kind.PAID,
    State.PARTIALLY_PAID: InvoiceEvent.Kind.PARTIALLY_PAID,
    State.OPEN: InvoiceEvent.Kind.REOPENED,
    State.WRITTEN_OFF: InvoiceEvent.Kind.WRITTEN_OFF,
}


_MOVED = ("state", "balance", "is_overdue", "dunning_round", "dunning_step", "reopened_at")


def restand(
    standing: InvoiceStanding, *, by: str, reason: str, now: datetime | None = None
) -> InvoiceStanding:
    """Add up an invoice's allocations again, and note what it has become. Its standing is
    locked. What a void one had from adjustments is proposed again."""
    before, was_settled = standing.state, standing.balance <= 0
    standing.state, standing.balance = stand_of(standing.invoice)
    standing.is_overdue = standing.is_overdue and standing.balance > 0
    if was_settled and standing.balance > 0:
        # What was settled is to be paid anew: its dunning begins anew, whatever was told before.
        standing.dunning_round += 1
        standing.dunning_step, standing.reopened_at = 0, now or timezone.now()
    standing.save(update_fields=_MOVED)
    if standing.state != before and standing.state in _TOLD:
        InvoiceEvent.objects.create(
            invoice=standing.invoice,
            kind=_TOLD[State(standing.state)],
            at=now or timezone.now(),
            actor=by,
            reason=reason[:300],
        )
    if standing.state != before and standing.state == State.VOIDED:
        wait_again(standing.invoice)
    return standing
