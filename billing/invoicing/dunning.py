"""What happens to an invoice that is not paid: overdue, then the steps of `RELAY_DUNNING`.

A step is taken once a round; a round begins when what was settled is open again, and its days are
counted from then. Who is asked owes on balance: what is in a customer's favour, and payments that
are for nothing yet, count for what was due first. After a pause of the relay steps keep their
distance: nobody is suspended in the hour of the first reminder.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.invoicing.carrying import carry_over, net_of
from billing.invoicing.locks import lock_cursor
from billing.invoicing.retrying import retried
from billing.invoicing.schedule import REMIND, Step, read_schedule
from billing.invoicing.sending import remind_on_commit, tell
from billing.invoicing.standing import ZERO, lock_standing
from billing.models import InvoiceEvent, InvoiceStanding
from tenants import services

log = structlog.get_logger(__name__)


def mark_overdue(now: datetime | None = None) -> int:
    """Note which invoices were not paid in time. Answers how many are so newly."""
    at = now or timezone.now()
    marked = 0
    rows = InvoiceStanding.objects.filter(balance__gt=0, is_overdue=False, due_at__lt=at)
    for standing in rows.order_by("pk").iterator():
        try:
            marked += _mark(standing, at)
        except Exception:
            log.exception("overdue_not_marked", invoice=standing.pk)
    return marked


@retried
@transaction.atomic
def _mark(standing: InvoiceStanding, at: datetime) -> bool:
    locked, owed = _owed(standing)
    if locked.is_overdue or owed <= 0:
        return False
    locked.is_overdue = True
    locked.save(update_fields=["is_overdue"])
    InvoiceEvent.objects.get_or_create(
        invoice=locked.invoice,
        once=_once("overdue", locked),
        defaults={"kind": InvoiceEvent.Kind.OVERDUE, "at": at},
    )
    tell(locked.invoice, "invoice.overdue", again=locked.dunning_round)
    return True


def _owed(standing: InvoiceStanding) -> tuple[InvoiceStanding, Decimal]:
    """The standing, locked, and what the tenant owes on it: 0 where it is paid or closed, or where
    something else is in the tenant's favour."""
    lock_cursor(standing.invoice.tenant_id)
    carry_over(standing.invoice.tenant_id)
    locked = lock_standing(standing.invoice)
    if locked.balance <= 0 or _is_closed(locked):
        return locked, ZERO
    return locked, net_of(locked.invoice.tenant_id).get(locked.pk, ZERO)


def _once(what: str, standing: InvoiceStanding) -> str:
    """What makes an event one of its round."""
    again = standing.dunning_round
    return f"{what}/{again}" if again else what


def dun(now: datetime | None = None) -> int:
    """Take the next step with each overdue invoice whose time has come. Answers how many. Whoever
    was never sent the invoice is not dunned for it."""
    at = now or timezone.now()
    steps = read_schedule(settings.RELAY_DUNNING)
    taken = 0
    rows = InvoiceStanding.objects.filter(
        is_overdue=True, balance__gt=0, dunning_step__lt=len(steps), sent_at__isnull=False
    )
    for standing in rows.order_by("pk").iterator():
        try:
            taken += _take(standing, steps, at)
        except Exception:
            log.exception("dunning_failed", invoice=standing.pk)
    return taken


@retried
@transaction.atomic
def _take(standing: InvoiceStanding, steps: list[Step], at: datetime) -> bool:
    locked, owed = _owed(standing)
    number = locked.dunning_step
    if number >= len(steps) or owed <= 0 or not locked.is_overdue:
        return False
    step, invoice = steps[number], locked.invoice
    begun = max(locked.due_at, locked.reopened_at or locked.due_at)
    due = begun + timedelta(days=step.days)
    last = invoice.events.filter(once=_once(f"dunning-{number}", locked)).first()
    if last is not None:
        due = max(due, last.at + timedelta(days=step.days - steps[number - 1].days))
    if due > at:
        return False
    locked.dunning_step = number + 1
    locked.save(update_fields=["dunning_step"])
    kind = InvoiceEvent.Kind
    InvoiceEvent.objects.create(
        invoice=invoice,
        kind=kind.REMINDED if step.action == REMIND else kind.SUSPENDED,
        at=at,
        reason=f"{step.days} days after "
        + ("it was open again" if begun > locked.due_at else "the due date"),
        once=_once(f"dunning-{number + 1}", locked),
    )
    if step.action == REMIND:
        remind_on_commit(invoice, owed)
    elif not invoice.tenant.is_suspended:
        services.suspend_tenant(
            invoice.tenant,
            reason=f"invoice {invoice.number} was due on {locked.due_at:%Y-%m-%d}",
            now=at,
        )
    return True


def _is_closed(standing: InvoiceStanding) -> bool:
    return standing.state in {
        InvoiceStanding.State.VOIDED,
        InvoiceStanding.State.WRITTEN_OFF,
    }
