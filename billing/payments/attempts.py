"""Attempts to charge an invoice, as rows: begun, claimed, and what became of them.

No call to a provider in here, so that no lock is held while one answers. Locks are taken in one
order: the tenant's cursor, the invoice's standing, the attempt, the payment.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone

from billing.invoicing import payments
from billing.invoicing.carrying import net_of
from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import locked_until
from billing.invoicing.retrying import retried
from billing.invoicing.standing import ZERO, lock_standing, settled
from billing.models import (
    ChargeAttempt,
    Invoice,
    InvoiceStanding,
    Payment,
    PaymentAllocation,
    ProviderCustomer,
)
from billing.payments import doorbell
from billing.payments.provider import Charge, Outcome
from tenants.notices.services import notify

log = structlog.get_logger(__name__)
State = ChargeAttempt.State

#: After a failure, when the next attempt is made. Dunning goes on beside it, and after the last.
RETRIES = (timedelta(hours=1), timedelta(days=1), timedelta(days=3), timedelta(days=5))
#: How long a worker has for one attempt before another may take it.
CLAIM = timedelta(minutes=5)
#: When a charge that is under way is asked about, if no webhook comes.
ASK_AGAIN = timedelta(hours=6)
#: The failure code of an attempt that waits for an operator.
HELD = "held"
_CLOSED = frozenset({InvoiceStanding.State.VOIDED, InvoiceStanding.State.WRITTEN_OFF})


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt that is ours until `CLAIM` is over, and what is still owed on balance."""

    attempt: ChargeAttempt
    balance: Decimal


def begin_due(provider: str) -> int:
    """Begin the first attempt for each invoice that was finalized since its tenant left a way to
    pay, whatever the tenant is by now. Answers how many."""
    waiting = Invoice.objects.finalized().filter(
        standing__balance__gt=0,
        standing__state__in=[InvoiceStanding.State.OPEN, InvoiceStanding.State.PARTIALLY_PAID],
        tenant__provider_customers__provider=provider,
        finalized_at__gte=F("tenant__provider_customers__method_since"),
        charge_attempts=None,
    )
    return sum(begin(invoice, provider) is not None for invoice in waiting.order_by("pk")[:1_000])


def begin_open(customer: ProviderCustomer, *, by: str) -> int:
    """An operator has all that is open of a tenant charged, also what was finalized before it left
    a way to pay, or came back. Answers how many attempts were begun."""
    open_ones = Invoice.objects.finalized().filter(
        tenant=customer.tenant_id, standing__balance__gt=0
    )
    begun = (begin(invoice, customer.provider, by=by) for invoice in open_ones.order_by("pk"))
    return sum(attempt is not None for attempt in begun)


@retried
@transaction.atomic
def begin(
    invoice: Invoice, provider: str, *, at: datetime | None = None, by: str = ""
) -> ChargeAttempt | None:
    """The next attempt to charge what is owed on an invoice on balance, to be made at `at`. None
    where nothing is to pay, nothing to pay with, or one is under way.

    An invoice that a charge has paid once is charged again by an operator (`by`) only: what is open
    of it then was sent back or disputed.
    """
    standing = lock_standing(invoice)
    customer = ProviderCustomer.objects.filter(tenant=invoice.tenant_id, provider=provider).first()
    earlier = ChargeAttempt.objects.filter(invoice=invoice)
    amount = _to_charge(standing)
    if (
        amount <= 0
        or invoice.currency != "USD"
        or customer is None
        or not customer.method
        or earlier.filter(is_open=True).exists()
        or (not by and earlier.filter(state=State.SUCCEEDED).exists())
    ):
        return None
    last = earlier.aggregate(last=Max("number"))["last"] or 0
    attempt = ChargeAttempt.objects.create(
        invoice=invoice,
        number=last + 1,
        provider=provider,
        amount=amount,
        currency=invoice.currency,
        customer=customer.reference,
        method=customer.method,
        # Random too: a restored database must not meet its former self's keys.
        idempotency_key=f"charge-{invoice.pk}-{last + 1}-{uuid.uuid4().hex[:12]}",
        next_at=at or timezone.now(),
        requested_by=by,
    )
    if at is None:
        doorbell.charge_on_commit()
    return attempt


@retried
@transaction.atomic
def claim(number: int, now: datetime) -> Claimed | None:
    """Take an attempt that is due; None: it is not, or somebody else's.

    What is to be paid with and how much is settled by the first claim, because the key stands for
    it. From here on its outcome is unknown until somebody hears of it, also when we die.
    """
    attempt = ChargeAttempt.objects.get(pk=number)
    standing = lock_standing(attempt.invoice)
    attempt = _lock(number)
    if not attempt.is_open or attempt.next_at is None or attempt.next_at > now:
        return None
    amount = _to_charge(standing)
    if not attempt.attempts:
        customer = ProviderCustomer.objects.get(
            tenant=attempt.invoice.tenant_id, provider=attempt.provider
        )
        if amount <= 0 or not customer.method:
            _close(attempt, State.CANCELLED)
            return None
        attempt.amount, attempt.first_at = amount, now
        attempt.customer, attempt.method = customer.reference, customer.method
        attempt.state = State.UNKNOWN
    attempt.attempts += 1
    attempt.next_at = now + CLAIM
    attempt.save()
    return Claimed(attempt, amount)


def _to_charge(standing: InvoiceStanding) -> Decimal:
    """What is owed on an invoice when all that is in its tenant's favour is used for what was due
    first. Money that is for nothing yet stays so: an operator says what for. Under the cursor."""
    if standing.state in _CLOSED or standing.balance <= 0:
        return ZERO
    return min(standing.balance, net_of(standing.invoice.tenant_id).get(standing.pk, ZERO))


@retried
@transaction.atomic
def ask_later(number: int, at: datetime, why: str) -> None:
    """Its outcome is not known: ask at `at`."""
    attempt = _lock(number)
    if attempt.is_open and attempt.state != State.HELD:
        attempt.next_at, attempt.failure = at, why[:200]
        attempt.save(update_fields=["next_at", "failure"])


@retried
@transaction.atomic
def give_up(number: int) -> None:
    """Nothing was charged, and nothing is to be any more."""
    attempt = _lock(number)
    if attempt.is_open:
        _close(attempt, State.CANCELLED)


@retried
@transaction.atomic
def learn(number: int, charge: Charge, *, now: datetime | None = None) -> ChargeAttempt:
    """Write down what a provider says of an attempt. The answer to our request, a webhook and a
    later question may bring it in any order, and each more than once.

    A success is final, and is recorded as a payment once. A failure counts once: it tells the
    tenant and schedules the next attempt.
    """
    at = now or timezone.now()
    attempt = ChargeAttempt.objects.select_related("invoice__tenant").get(pk=number)
    standing = lock_standing(attempt.invoice)
    attempt = _lock(number)
    if attempt.state == State.SUCCEEDED:
        return attempt
    if attempt.state == State.CANCELLED and attempt.failure_code == HELD:
        return attempt  # an operator has settled it by hand
    if attempt.reference is None and charge.reference:
        attempt.reference = charge.reference
        attempt.save(update_fields=["reference"])
    match charge.outcome:
        case Outcome.SUCCEEDED:
            _succeed(attempt, standing, charge, at)
        case Outcome.PENDING:
            if attempt.is_open and attempt.state != State.HELD:
                attempt.state, attempt.next_at = State.PENDING, at + ASK_AGAIN
                attempt.failure = ""
                attempt.save()
        case Outcome.FAILED | Outcome.REQUIRES_ACTION:
            if attempt.is_open and attempt.state != State.HELD:
                _fail(attempt, standing, charge, at)
    return attempt


def _succeed(
    attempt: ChargeAttempt, standing: InvoiceStanding, charge: Charge, at: datetime
) -> None:
    invoice = attempt.invoice
    took = (charge.amount, charge.currency, charge.reference)
    if took != (attempt.amount, attempt.currency, attempt.reference):
        _hold(attempt, f"the provider took {charge.amount} {charge.currency} by {charge.reference}")
        return
    card = Payment.Method.CARD
    before = Payment.objects.filter(method=card, identity=charge.reference).first()
    until, note = locked_until(), ""
    received = min(charge.at or at, timezone.now())
    if until is not None and received < until:
        received, note = timezone.now(), f"taken on {received:%Y-%m-%d}"
    if before is not None:
        received = before.received_at  # by hand, on whatever day: a charge has one id
    try:
        with transaction.atomic():
            payment = payments.record_payment(
                invoice.tenant,
                charge.amount,
                method=card,
                reference=charge.reference,
                received_at=received,
                note=note,
            )
            if before is None and standing.state != InvoiceStanding.State.VOIDED:
                lost = settled(invoice, PaymentAllocation.Kind.WRITE_OFF)
                part = min(charge.amount, standing.balance + lost)
                if part > 0:
                    payments.allocate(payment, invoice, part)
    except InvoicingError as error:
        _hold(attempt, str(error))
        return
    attempt.payment, attempt.failure_code, attempt.failure = payment, "", ""
    _close(attempt, State.SUCCEEDED)
    log.info("charge_succeeded", tenant=invoice.tenant_id, attempt=attempt.pk)


def _hold(attempt: ChargeAttempt, why: str) -> None:
    """Money was taken that the books do not expect. While an attempt is held no other is begun."""
    attempt.failure_code, attempt.failure = HELD, why[:200]
    others = ChargeAttempt.objects.filter(invoice=attempt.invoice_id, is_open=True).exclude(
        pk=attempt.pk
    )
    others.filter(attempts=0).update(state=State.CANCELLED, is_open=None, next_at=None)
    if not others.exists():
        attempt.state, attempt.is_open, attempt.next_at = State.HELD, True, None
    attempt.save()
    log.error("charge_held", tenant=attempt.invoice.tenant_id, attempt=attempt.pk, why=why)


def _fail(attempt: ChargeAttempt, standing: InvoiceStanding, charge: Charge, at: datetime) -> None:
    attempt.failure_code, attempt.failure = charge.code[:60], charge.reason[:200]
    needs_action = charge.outcome is Outcome.REQUIRES_ACTION
    _close(attempt, State.REQUIRES_ACTION if needs_action else State.FAILED)
    invoice = attempt.invoice
    following = None
    if attempt.number <= len(RETRIES):
        following = begin(invoice, attempt.provider, at=at + RETRIES[attempt.number - 1])
    log.info("charge_failed", tenant=invoice.tenant_id, attempt=attempt.pk, code=charge.code)
    if standing.balance <= 0:
        return
    reason = charge.reason or charge.code.replace("_", " ") or "the bank refused it"
    if needs_action:
        reason = "the bank asks you to confirm it"
    notify(
        tenant=invoice.tenant,
        kind="payment.failed",
        payload={
            "number": invoice.number,
            "amount": f"{attempt.amount:.2f}",
            "currency": attempt.currency,
            "reason": reason.rstrip("."),
            "next_attempt_at": f"{following.next_at:%Y-%m-%dT%H:%MZ}" if following else "",
        },
        dedupe=f"payment.failed:{attempt.idempotency_key}",
        now=at,
    )


def _close(attempt: ChargeAttempt, state: State) -> None:
    attempt.state, attempt.is_open, attempt.next_at = state, None, None
    attempt.save()


def _lock(number: int) -> ChargeAttempt:
    return ChargeAttempt.objects.select_for_update().get(pk=number)


@retried
@transaction.atomic
def try_now(attempt: ChargeAttempt, *, by: str) -> str:
    """An operator has it made, or asked about, now: the attempt itself while it is open, else the
    next of its invoice. Answers what was done. Raises InvoicingError where nothing is to be done.
    """
    lock_standing(attempt.invoice)
    latest = attempt.invoice.charge_attempts.order_by("-number").select_for_update().first()
    if latest is not None and latest.is_open:
        if latest.state == State.HELD:
            raise InvoicingError(f"it is held: {latest.failure}. Settle it, then set it aside")
        latest.next_at = timezone.now()
        latest.save(update_fields=["next_at"])
        doorbell.charge_on_commit()
        return f"{latest} is asked about now"
    following = begin(attempt.invoice, attempt.provider, by=by)
    if following is None:
        raise InvoicingError("nothing is to pay, or the tenant left nothing to pay with")
    return f"{following} is made now"


@retried
@transaction.atomic
def set_aside(attempt: ChargeAttempt, *, by: str) -> None:
    """An operator has settled by hand what an attempt was held for. Raises InvoicingError for
    another."""
    locked = _lock(attempt.pk)
    if locked.state != State.HELD:
        raise InvoicingError("it is not held")
    locked.requested_by = locked.requested_by or by
    _close(locked, State.CANCELLED)
