"""Money that goes back: refunds that we ask for, those made on the provider's own pages, disputes.

A refund is booked from what is left of the payment. One of money that an invoice still has waits,
with a line that says so, until the invoice is credited: booked otherwise, the customer would be
dunned for what they were given back.
"""

from __future__ import annotations

import uuid
from decimal import Decimal

import structlog
from django.db import transaction
from django.utils import timezone

from billing.invoicing import conceding, payments
from billing.invoicing.carrying import under_way
from billing.invoicing.errors import ApprovalError, InvoicingError
from billing.invoicing.retrying import retried
from billing.invoicing.standing import added_up, lock_standing
from billing.models import ChargeAttempt, Concession, Payment, ProviderReturn
from billing.payments.provider import (
    OutcomeUnknownError,
    PaymentProvider,
    RefusedError,
    Return,
    Returned,
)

log = structlog.get_logger(__name__)
State = ProviderReturn.State
_STATES = {
    Return.PENDING: State.PENDING,
    Return.RETURNED: State.RETURNED,
    Return.UNDONE: State.UNDONE,
}


def send_back(
    provider: PaymentProvider, payment: Payment, amount: Decimal, *, by: str
) -> ProviderReturn:
    """Refund `amount` of a payment that a provider took, from what is left of it. Raises
    InvoicingError for more, and where the provider refuses; with no answer it is asked again by
    its key, and never sent twice. Raises ApprovalError where somebody else has to approve it: it
    waits, and is sent when that is done."""
    row = _ask_for(provider, payment, amount, by=by)
    if isinstance(row, Concession):
        raise ApprovalError(f"it waits. {conceding.told(row)}")
    return _send(provider, row)


def send_again(provider: PaymentProvider, limit: int = 100) -> None:
    """Ask again for refunds nobody answered for, and book what the books refused before."""
    rows = ProviderReturn.objects.filter(provider=provider.name)
    for row in rows.filter(state=State.ASKED).order_by("pk")[:limit]:
        try:
            _send(provider, row)
        except InvoicingError as error:
            log.warning("refund_refused", refund=row.pk, why=str(error))
    waiting = rows.filter(state=State.RETURNED, booked_at=None)
    for number in list(waiting.order_by("pk").values_list("pk", flat=True)[:limit]):
        retried(transaction.atomic(_book))(number)


@retried
@transaction.atomic
def learn(attempt: ChargeAttempt, returned: Returned) -> ProviderReturn:
    """Write down what a provider says went back of a charge, and book it: once, in any order."""
    lock_standing(attempt.invoice)
    held = ChargeAttempt.objects.select_for_update().get(pk=attempt.pk)
    rows = ProviderReturn.objects.filter(provider=held.provider)
    row = rows.filter(reference=returned.reference).first()
    if row is None and returned.key:
        row = rows.filter(idempotency_key=returned.key, attempt=held).first()
    if row is None:
        kind = ProviderReturn.Kind.DISPUTE if returned.is_dispute else ProviderReturn.Kind.REFUND
        row = ProviderReturn(attempt=held, provider=held.provider, kind=kind)
    row.reference = returned.reference
    if row.booked_at is None:
        row.amount = returned.amount
    if row.state != State.UNDONE:  # which is the end of it
        row.state = _STATES[returned.state]
    row.save()
    _went(row, is_gone=row.state != State.UNDONE)
    _book(row.pk, returned.amount)
    row.refresh_from_db()
    return row


@retried
@transaction.atomic
def _ask_for(
    provider: PaymentProvider, payment: Payment, amount: Decimal, *, by: str
) -> ProviderReturn | Concession:
    if not ChargeAttempt.objects.filter(payment=payment, provider=provider.name).exists():
        raise InvoicingError(f"{provider.name} did not take {payment}: send it back by hand")
    given = conceding.refund_beyond(payment, amount, Concession.Kind.PROVIDER_REFUND, by=by)
    if given is not None and given.state == Concession.State.WAITING:
        return given
    return begin(payment, amount, by=by, given=given)


@transaction.atomic
def begin(
    payment: Payment, amount: Decimal, *, by: str, given: Concession | None = None
) -> ProviderReturn:
    """Have a provider send back `amount` of what it took: the next turn of the task does. What is
    `given` with it is so only while it goes. Raises InvoicingError for more than is left."""
    attempt = ChargeAttempt.objects.select_related("invoice").get(payment=payment)
    lock_standing(attempt.invoice)
    attempt = ChargeAttempt.objects.select_for_update().get(pk=attempt.pk)
    returning = under_way(payment.tenant_id).filter(attempt=attempt)
    left = payments.remainder(payment) - added_up(returning)
    if not 0 < amount <= left or amount != round(amount, 2):
        raise InvoicingError(f"{left} of the payment is left, not {amount}: credit the invoice")
    row = ProviderReturn.objects.create(
        attempt=attempt,
        provider=attempt.provider,
        kind=ProviderReturn.Kind.REFUND,
        idempotency_key=f"refund-{payment.pk}-{uuid.uuid4().hex[:16]}",
        amount=amount,
        state=State.ASKED,
        requested_by=by,
    )
    if given is not None:
        given.subject = row.idempotency_key or ""
        given.save(update_fields=["subject"])
    return row


def _went(row: ProviderReturn, *, is_gone: bool) -> None:
    """What was given with a refund is given while the money is gone, or on its way."""
    given = Concession.objects.filter(kind=Concession.Kind.PROVIDER_REFUND)
    was, now = Concession.State.GIVEN, Concession.State.REJECTED
    if is_gone:
        was, now = now, was
    if row.idempotency_key:
        given.filter(subject=row.idempotency_key, state=was).update(state=now)


@retried
@transaction.atomic
def _refused(row: ProviderReturn, why: str) -> None:
    rows = ProviderReturn.objects.filter(pk=row.pk, state=State.ASKED)
    if rows.update(state=State.REFUSED, error=why[:200]):
        _went(row, is_gone=False)


def _send(provider: PaymentProvider, row: ProviderReturn) -> ProviderReturn:
    """Not in a transaction. Looks for the key first: it may have been sent, and its key forgotten
    there."""
    key, payment = row.idempotency_key or "", row.attempt.payment
    if payment is None:
        return row
    try:
        known = {found.key: found for found in provider.returns(payment.reference)}
        returned = known.get(key) or provider.refund(payment, row.amount, key)
    except OutcomeUnknownError as error:
        ProviderReturn.objects.filter(pk=row.pk, state=State.ASKED).update(error=str(error)[:200])
        row.refresh_from_db()
        return row
    except RefusedError as error:
        _refused(row, str(error))
        raise InvoicingError(f"{provider.name} refused: {error}") from None
    return learn(row.attempt, returned)


def _book(number: int, amount: Decimal | None = None) -> None:
    """Bring the books to what a return is now, `amount` what it comes to now, where that is known.
    Inside a transaction."""
    attempt = ProviderReturn.objects.get(pk=number).attempt
    lock_standing(attempt.invoice)
    row = ProviderReturn.objects.select_for_update().get(pk=number)
    payment = attempt.payment
    try:
        with transaction.atomic():
            if row.state == State.RETURNED and row.booked_at is None:
                if payment is None:
                    raise InvoicingError("the charge it is of is not recorded")
                _take(row, payment)
                row.booked_at = timezone.now()
            elif row.state == State.RETURNED and payment is not None:
                _take_otherwise(row, payment, amount)
            elif row.state == State.UNDONE and row.booked_at is not None and not row.undone_at:
                _give_back(row, attempt)
                row.undone_at = timezone.now()
            row.error = ""
    except InvoicingError as error:
        row.error = str(error)[:200]
        log.warning("return_not_booked", row=row.pk, why=row.error)
    row.save()


def _take(row: ProviderReturn, payment: Payment) -> None:
    by, reason = row.requested_by, f"{row.kind} {row.reference}"
    if row.kind == ProviderReturn.Kind.REFUND:
        payments.refund(payment, row.amount, by=by, reason=reason)
        return
    payments.charge_back(payment, row.amount, by=by, reason=reason)


def _take_otherwise(row: ProviderReturn, payment: Payment, amount: Decimal | None) -> None:
    """A bank may change what is disputed while it is. What is booked of a dispute is its `amount`:
    that is what comes back when it is won."""
    if row.kind != ProviderReturn.Kind.DISPUTE or not amount or amount == row.amount:
        return
    reason = f"{row.kind} {row.reference} changed"
    if amount > row.amount:
        payments.charge_back(payment, amount - row.amount, reason=reason)
    else:
        payments.give_back(payment, row.amount - amount, reason=reason)
    row.amount = amount


def _give_back(row: ProviderReturn, attempt: ChargeAttempt) -> None:
    """What was booked as gone is here again. Of a dispute it pays what it paid before; a refund
    that failed is a payment of its own, because what it was for is credited."""
    if row.kind == ProviderReturn.Kind.DISPUTE and attempt.payment is not None:
        payments.give_back(attempt.payment, row.amount, reason=f"dispute {row.reference} won")
        return
    payments.record_payment(
        attempt.invoice.tenant,
        row.amount,
        method=Payment.Method.CARD,
        reference=f"{row.reference} undone",
        received_at=timezone.now(),
        note=f"{row.kind} of {attempt.reference}",
    )
