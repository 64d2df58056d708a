"""Payments, and what they are for. By hand now, from a provider later: both call these.

Each holds the tenant's cursor, then standings by number, then the payment (`locks.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.invoicing.carrying import carry_over, under_way
from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import lock_cursor, refuse_locked
from billing.invoicing.retrying import retried
from billing.invoicing.standing import ZERO, added_up, lock_standing, restand, settled
from billing.models import Invoice, InvoiceStanding, Payment, PaymentAllocation, ProviderReturn
from billing.rating.money import render_amount
from tenants.models import Tenant

Kind = PaymentAllocation.Kind


def remainder(payment: Payment) -> Decimal:
    """What of a payment is for nothing yet: neither allocated nor sent back."""
    return payment.amount - added_up(PaymentAllocation.objects.filter(payment=payment))


@retried
@transaction.atomic
def record_payment(
    tenant: Tenant,
    amount: Decimal,
    *,
    method: str,
    reference: str,
    received_at: datetime,
    external_id: str = "",
    by: str = "",
    note: str = "",
    invoice: Invoice | None = None,
) -> Payment:
    """Money that came in; for `invoice`, as far as it is open, or for nothing yet.

    It is known by `external_id`, what the bank calls this transfer and no other, or else by its
    reference. The very same again, of the same day, answers the first (`was_known`) and books
    nothing. Raises InvoicingError for anything else under it, LockedError for a date before the
    lock.
    """
    _whole_cents(amount)
    refuse_locked(received_at, "a payment")
    if received_at > timezone.now():
        raise InvoicingError(f"{received_at:%Y-%m-%d %H:%M} is in the future")
    if not reference.strip():
        raise InvoicingError("a payment needs a reference: what the bank or the chain calls it")
    if invoice is not None and invoice.tenant_id != tenant.pk:
        raise InvoicingError(f"{invoice} is not an invoice of {tenant}")
    made = Payment(
        tenant=tenant,
        amount=amount,
        method=Payment.Method(method),
        reference=reference.strip(),
        external_id=external_id.strip() or None,
        received_at=received_at,
        recorded_by=by,
        note=note,
    )
    lock_cursor(tenant.pk)
    known = _known(made)
    if known is None:
        try:
            with transaction.atomic():
                made.save()
        except IntegrityError:  # of another tenant, at the same moment
            known = _known(made)
            if known is None:
                raise
    if known is not None:
        _refuse_other(made, known)
        known.was_known = True
        return known
    if invoice is not None:
        open_amount = min(amount, lock_standing(invoice).balance)
        if open_amount > 0:
            allocate(made, invoice, open_amount, by=by)
    return made


def _known(made: Payment) -> Payment | None:
    """The payment that is recorded under what this one is known by."""
    identity = made.external_id or made.reference
    return Payment.objects.filter(method=made.method, identity=identity).first()


def _refuse_other(made: Payment, known: Payment) -> None:
    """Raises InvoicingError where they are two."""

    def said(payment: Payment) -> tuple[object, ...]:
        names = (payment.tenant_id, payment.amount, payment.reference, payment.external_id)
        return (*names, payment.received_at.astimezone(UTC).date())

    if said(made) != said(known):
        raise InvoicingError(
            f"{known.method} {known.external_id or known.reference} is recorded already, as "
            f"{render_amount(known.amount)} of {known.tenant} received on "
            f"{known.received_at:%Y-%m-%d}: if this is another transfer with the same reference, "
            "give the bank's id of it as its external id"
        )


@retried
@transaction.atomic
def allocate(
    payment: Payment, invoice: Invoice, amount: Decimal | None = None, *, by: str = ""
) -> PaymentAllocation:
    """Use `amount` of a payment for an invoice; without one, as much as both allow. What was
    written off and is paid after all is open again first.

    Raises InvoicingError for more than is left of the payment or open of the invoice, for another
    tenant's, and for one that is void.
    """
    standing, held = lock_standing(invoice), _lock_payment(payment)
    if standing.invoice.tenant_id != held.tenant_id:
        raise InvoicingError(f"{invoice} is not an invoice of {held.tenant}")
    if standing.state == InvoiceStanding.State.VOIDED:
        raise InvoicingError(f"{invoice} is void: nothing is to pay")
    left, written_off = remainder(held), settled(standing.invoice, Kind.WRITE_OFF)
    payable = standing.balance + written_off
    if amount is None:
        amount = min(left, payable)
    _whole_cents(amount)
    if amount > left:
        raise InvoicingError(f"{render_amount(left)} of the payment is left, not {amount}")
    if amount > payable:
        raise InvoicingError(f"{render_amount(payable)} of {invoice} is open, not {amount}")
    if amount > standing.balance:
        _book(Kind.WRITE_OFF, standing.balance - amount, invoice=invoice, by=by, reason="paid")
    row = _book(Kind.PAYMENT, amount, payment=held, invoice=invoice, by=by)
    restand(standing, by=by, reason=str(held))
    return row


@retried
@transaction.atomic
def release(
    payment: Payment, invoice: Invoice, amount: Decimal, *, by: str = "", reason: str = ""
) -> PaymentAllocation:
    """Take `amount` of a payment back from an invoice, which is open again by so much. Raises
    InvoicingError for more than it got."""
    standing, held = lock_standing(invoice), _lock_payment(payment)
    row = _release(held, standing, amount, by=by, reason=reason)
    restand(standing, by=by, reason=reason)
    carry_over(held.tenant_id, by=by)
    return row


def release_beyond(standing: InvoiceStanding, beyond: Decimal, *, by: str, reason: str) -> Decimal:
    """Take up to `beyond` back from an invoice that is settled by more than it is for, the newest
    payment first. Answers how much. Its standing is locked, and is the caller's to add up."""
    taken = ZERO
    rows = (
        PaymentAllocation.objects.filter(invoice=standing.invoice, payment__isnull=False)
        .order_by("-payment")
        .values_list("payment", flat=True)
    )
    for number in dict.fromkeys(rows):
        held = _lock_payment(Payment.objects.get(pk=number))
        part = min(beyond - taken, _allocated(held, standing.invoice))
        if part > 0:
            _release(held, standing, part, by=by, reason=reason)
            taken += part
    return taken


def take_back_loss(standing: InvoiceStanding, beyond: Decimal, *, by: str, reason: str) -> Decimal:
    """The same of what was written off: what is credited was never owed, and so is no loss."""
    part = min(beyond, settled(standing.invoice, Kind.WRITE_OFF))
    if part > 0:
        _book(Kind.WRITE_OFF, -part, invoice=standing.invoice, by=by, reason=reason)
    return max(part, ZERO)


@retried
@transaction.atomic
def refund(
    payment: Payment, amount: Decimal, *, by: str = "", reason: str = ""
) -> PaymentAllocation:
    """Note that `amount` of a payment was sent back. Raises InvoicingError for more than is left of
    it: release or credit what it is allocated to first."""
    lock_cursor(payment.tenant_id)
    held = _lock_payment(payment)
    _whole_cents(amount)
    if amount > (left := remainder(held)):
        raise InvoicingError(
            f"{render_amount(left)} of the payment is left, not {amount}: credit the invoice first"
        )
    return _book(Kind.REFUND, amount, payment=held, by=by, reason=reason)


@retried
@transaction.atomic
def charge_back(
    payment: Payment, amount: Decimal | None = None, *, by: str = "", reason: str = ""
) -> PaymentAllocation | None:
    """The bank or the card took `amount` of a payment back, by default all that is here of it:
    first what is for nothing yet, then from what it paid, the newest invoice first, which is open
    again by so much. What a provider is sending back goes last.

    None where nothing of it is left to take. Raises InvoicingError for more than is.
    """
    held, standings = _locked_with_invoices(payment)
    here = held.amount - added_up(held.allocations.filter(kind__in=[Kind.REFUND, Kind.CHARGEBACK]))
    if amount is None and here <= 0:
        return None
    amount = here if amount is None else amount
    _whole_cents(amount)
    if amount > here:
        raise InvoicingError(f"{render_amount(here)} of the payment is here, not {amount}")
    returning = added_up(under_way(held.tenant_id).filter(attempt__payment=held))
    missing = amount - max(remainder(held) - returning, ZERO)
    for standing in reversed(standings):
        part = min(missing, _allocated(held, standing.invoice))
        if part > 0:
            _release(held, standing, part, by=by, reason=reason)
            restand(standing, by=by, reason=reason or "charged back")
            missing -= part
    gone = _book(Kind.CHARGEBACK, amount, payment=held, by=by, reason=reason)
    carry_over(held.tenant_id, by=by)
    return gone


@retried
@transaction.atomic
def give_back(
    payment: Payment, amount: Decimal | None = None, *, by: str = "", reason: str = ""
) -> PaymentAllocation:
    """The bank gave back `amount` of what it had taken of a payment, by default all: it pays again
    what it was released from, the oldest first, as far as that is open; the rest is for nothing
    yet. Raises InvoicingError for more than it took."""
    held, standings = _locked_with_invoices(payment)
    taken = added_up(held.allocations.filter(kind=Kind.CHARGEBACK)) - _paid_anew(held)
    if taken <= 0:
        raise InvoicingError("nothing of the payment was taken that was not given back")
    amount = taken if amount is None else amount
    _whole_cents(amount)
    if amount > taken:
        raise InvoicingError(f"{render_amount(taken)} of the payment was taken, not {amount}")
    row = _book(Kind.CHARGEBACK, -amount, payment=held, by=by, reason=reason)
    left = amount
    for standing in standings:
        part = min(left, standing.balance, _released(held, standing.invoice))
        if part > 0 and standing.state != InvoiceStanding.State.VOIDED:
            _book(Kind.PAYMENT, part, payment=held, invoice=standing.invoice, by=by, reason=reason)
            restand(standing, by=by, reason=reason or "given back by the bank")
            left -= part
    return row


def _paid_anew(payment: Payment) -> Decimal:
    """What the bank gave back of a payment by disputes that were won before `give_back` was: each
    was booked as a payment of its own, by this name, and its chargeback stayed."""
    won = ProviderReturn.objects.filter(
        kind=ProviderReturn.Kind.DISPUTE, attempt__payment=payment, undone_at__isnull=False
    )
    names = [f"{reference} undone" for reference in won.values_list("reference", flat=True)]
    cards = Payment.objects.filter(tenant=payment.tenant_id, method=Payment.Method.CARD)
    return added_up(cards.filter(reference__in=names))


def _locked_with_invoices(payment: Payment) -> tuple[Payment, list[InvoiceStanding]]:
    """A payment and the standings of all that it ever paid, by number, locked in the order of
    `locks.py`."""
    lock_cursor(payment.tenant_id)
    numbers = payment.allocations.filter(invoice__isnull=False).values_list("invoice", flat=True)
    standings = InvoiceStanding.objects.select_for_update().filter(invoice__in=sorted(set(numbers)))
    found = list(standings.order_by("pk"))
    return _lock_payment(payment), found


@retried
@transaction.atomic
def write_off(
    invoice: Invoice, amount: Decimal | None = None, *, by: str, reason: str
) -> PaymentAllocation:
    """Give up `amount` of what is open, by default all. It stays on the invoice, as a loss. Raises
    InvoicingError for more, and for a draft."""
    standing = lock_standing(invoice)
    amount = standing.balance if amount is None else amount
    _whole_cents(amount)
    if amount > standing.balance:
        raise InvoicingError(
            f"{render_amount(standing.balance)} of {invoice} is open, not {amount}"
        )
    row = _book(Kind.WRITE_OFF, amount, invoice=invoice, by=by, reason=reason)
    restand(standing, by=by, reason=reason)
    return row


def _allocated(payment: Payment, invoice: Invoice) -> Decimal:
    return added_up(PaymentAllocation.objects.filter(payment=payment, invoice=invoice))


def _released(payment: Payment, invoice: Invoice) -> Decimal:
    """What was taken back from an invoice, and not paid to it of the same payment again."""
    rows = payment.allocations.filter(invoice=invoice)
    first = rows.filter(kind=Kind.RELEASE).order_by("pk").first()
    return ZERO if first is None else max(ZERO, -added_up(rows.filter(pk__gte=first.pk)))


def _release(
    payment: Payment, standing: InvoiceStanding, amount: Decimal, *, by: str, reason: str
) -> PaymentAllocation:
    _whole_cents(amount)
    if amount > (got := _allocated(payment, standing.invoice)):
        raise InvoicingError(f"{standing.invoice} got {render_amount(got)} of it, not {amount}")
    return _book(
        Kind.RELEASE, -amount, payment=payment, invoice=standing.invoice, by=by, reason=reason
    )


def _lock_payment(payment: Payment) -> Payment:
    return Payment.objects.select_for_update().get(pk=payment.pk)


def _whole_cents(amount: Decimal) -> None:
    if not amount.is_finite() or amount <= 0 or amount != round(amount, 2):
        raise InvoicingError(f"{amount} is no amount: above 0, in whole cents")


def _book(
    kind: str,
    amount: Decimal,
    *,
    payment: Payment | None = None,
    invoice: Invoice | None = None,
    by: str = "",
    reason: str = "",
) -> PaymentAllocation:
    refuse_locked(timezone.now(), "an entry")
    return PaymentAllocation.objects.create(
        kind=kind,
        amount=amount,
        payment=payment,
        invoice=invoice,
        actor=by,
        reason=reason[:300],
    )
