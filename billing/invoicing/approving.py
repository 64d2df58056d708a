"""A second person decides on what was asked to be given away: what is approved is booked."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from billing.catalogue import wallet
from billing.invoicing import payments
from billing.invoicing.conceding import refuse_beyond_left, told
from billing.invoicing.errors import ApprovalError, InvoicingError
from billing.invoicing.locks import lock_cursor
from billing.invoicing.retrying import retried
from billing.models import Concession
from billing.payments import returns

Kind, State = Concession.Kind, Concession.State


@retried
@transaction.atomic
def approve(concession: Concession, *, by: str) -> Concession:
    """Book what waits. Raises ApprovalError for whoever asked for it, InvoicingError where it is
    rejected, or the books do not allow it any more."""
    row = _locked(concession)
    if row.state == State.GIVEN:
        return row
    if row.state == State.REJECTED:
        raise InvoicingError("it was rejected: ask for another")
    if not by or by == row.requested_by:
        raise ApprovalError(told(row) or "")
    row.state, row.decided_by, row.decided_at = State.GIVEN, by, timezone.now()
    row.save()
    _book(row)
    return row


def _book(row: Concession) -> None:
    asked, reason = row.requested_by, row.reason
    if row.kind == Kind.WRITE_OFF and row.invoice is not None:
        payments.write_off(row.invoice, row.whole, by=asked, reason=reason)
    elif row.kind == Kind.WALLET:
        wallet.enter(row.tenant, amount=row.whole, kind=row.subject, reference=reason, by=asked)
    elif row.kind == Kind.REFUND and row.payment is not None:
        refuse_beyond_left(row.payment, row.whole)
        payments.refund(row.payment, row.whole, by=asked, reason=reason)
    elif row.kind == Kind.PROVIDER_REFUND and row.payment is not None:
        returns.begin(row.payment, row.whole, by=asked, given=row)


@retried
@transaction.atomic
def reject(concession: Concession, *, by: str) -> Concession:
    """Let what waits be nothing; also whoever asked may. Raises InvoicingError when it is given."""
    row = _locked(concession)
    if row.state == State.GIVEN:
        raise InvoicingError(f"{row}: it cannot be taken back here")
    if row.state == State.WAITING:
        row.state, row.decided_by, row.decided_at = State.REJECTED, by, timezone.now()
        row.save()
    return row


def _locked(concession: Concession) -> Concession:
    lock_cursor(concession.tenant_id)
    return Concession.objects.select_for_update().get(pk=concession.pk)
