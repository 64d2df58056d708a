"""What happens to an invoice that is not paid: overdue, then the steps of `RELAY_DUNNING`.

A step is taken once. After a pause of the relay they keep their distance: nobody is suspended in
the hour of the first reminder.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.invoicing.schedule import REMIND, Step, read_schedule
from billing.invoicing.sending import remind_on_commit, tell
from billing.invoicing.standing import lock_standing
from billing.models import InvoiceEvent, InvoiceStanding
from tenants import services

log = structlog.get_logger(__name__)


def mark_overdue(now: datetime | None = None) -> int:
    """Note which invoices were not paid in time. Answers how many are so newly."""
    at = now or timezone.now()
    marked = 0
    rows = InvoiceStanding.objects.filter(balance__gt=0, is_overdue=False, due_at__lt=at)
    for standing in rows.order_by("pk").iterator():
        with transaction.atomic():
            locked = lock_standing(standing.invoice)
            if locked.is_overdue or locked.balance <= 0 or _is_closed(locked):
                continue
            locked.is_overdue = True
            locked.save(update_fields=["is_overdue"])
            InvoiceEvent.objects.get_or_create(
                invoice=locked.invoice,
                once="overdue",
                defaults={"kind": InvoiceEvent.Kind.OVERDUE, "at": at},
            )
            tell(locked.invoice, "invoice.overdue")
            marked += 1
    return marked


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


@transaction.atomic
def _take(standing: InvoiceStanding, steps: list[Step], at: datetime) -> bool:
    locked = lock_standing(standing.invoice)
    number = locked.dunning_step
    if number >= len(steps) or locked.balance <= 0 or _is_closed(locked):
        return False
    step, invoice = steps[number], locked.invoice
    due = locked.due_at + timedelta(days=step.days)
    last = invoice.events.filter(once=f"dunning-{number}").first()
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
        reason=f"{step.days} days after the due date",
        once=f"dunning-{number + 1}",
    )
    if step.action == REMIND:
        remind_on_commit(invoice, locked.balance)
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
