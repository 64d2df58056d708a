"""The one place where giving money away is asked for: a credit note, an adjustment below 0, a
write-off, prepaid credit by hand, a refund beyond what was overpaid.

Beneath the limit it is booked at once. Above it waits for a second person: credit notes and
adjustments as such, everything else as a `Concession`, which `approving.py` books.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.catalogue import wallet
from billing.invoicing import payments
from billing.invoicing.approval import Gift, Verdict, weigh
from billing.invoicing.carrying import in_favour_of, under_way
from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import lock_cursor
from billing.invoicing.retrying import retried
from billing.invoicing.standing import ZERO, added_up, lock_standing
from billing.models import Concession, Invoice, Payment, PaymentAllocation
from tenants.models import Tenant

Kind, State = Concession.Kind, Concession.State
_GONE = [PaymentAllocation.Kind.REFUND, PaymentAllocation.Kind.CHARGEBACK]
_PLACES = {Kind.CREDIT: "credit notes", Kind.ADJUSTMENT: "adjustments"}


def place_of(kind: str) -> str:
    """The admin's rows among which something waits: who may change these approves it."""
    return _PLACES.get(Kind(kind), "concessions")


def judge(tenant_id: int, amount: Decimal, *, by: str, now: datetime | None = None) -> Verdict:
    """Whether an operator may give a tenant `amount` alone. Holds the tenant's cursor from here on,
    so that two parts at once are a sum."""
    lock_cursor(tenant_id)
    return weighed(tenant_id, amount, by=by, now=now)


def weighed(tenant_id: int, amount: Decimal, *, by: str, now: datetime | None = None) -> Verdict:
    """The same as it is at this moment, to be told."""
    at, days = now or timezone.now(), settings.RELAY_CREDIT_WINDOW_DAYS
    alone = Concession.objects.filter(
        tenant=tenant_id,
        requested_by=by,
        state=State.GIVEN,
        decided_by="",
        decided_at__gt=at - timedelta(days=days),
    )
    gifts = [Gift(row.decided_at, row.amount) for row in alone.order_by() if row.decided_at]
    return weigh(amount, gifts, now=at, limit=Decimal(settings.RELAY_CREDIT_LIMIT), days=days)


def note_given(
    tenant_id: int,
    kind: str,
    amount: Decimal,
    *,
    by: str,
    approved_by: str = "",
    subject: str = "",
    reason: str = "",
    invoice: Invoice | None = None,
    now: datetime | None = None,
) -> Concession:
    """Write down what waited as a row of its own, and is given."""
    return Concession.objects.create(
        tenant_id=tenant_id,
        kind=Kind(kind),
        amount=amount,
        whole=amount,
        invoice=invoice,
        subject=subject[:80],
        reason=reason[:300],
        state=State.GIVEN,
        requested_by=by,
        decided_by=approved_by,
        decided_at=now or timezone.now(),
    )


def given_by(kind: str, subject: str) -> Decimal | None:
    """What was noted as given; None: nothing was."""
    rows = Concession.objects.filter(kind=Kind(kind), subject=subject, state=State.GIVEN)
    return rows.order_by("pk").values_list("whole", flat=True).first()


def give_otherwise(kind: str, subject: str, amount: Decimal) -> bool:
    """What was noted is of another amount by now. Whether anything was noted."""
    rows = Concession.objects.filter(kind=Kind(kind), subject=subject, state=State.GIVEN)
    return bool(rows.update(amount=amount, whole=amount))


def take_back(kind: str, subject: str) -> None:
    """What was noted is given no more: it was decided otherwise."""
    rows = Concession.objects.filter(kind=Kind(kind), subject=subject, state=State.GIVEN)
    rows.update(state=State.REJECTED)


@retried
@transaction.atomic
def write_off(
    invoice: Invoice, amount: Decimal | None = None, *, by: str, reason: str
) -> Concession:
    """Give up what is open of an invoice, or ask to. Raises InvoicingError for more than is."""
    standing = lock_standing(invoice)
    amount = standing.balance if amount is None else amount
    if not 0 < amount <= standing.balance:
        raise InvoicingError(f"{standing.balance:.2f} of {invoice} is open, not {amount}")
    row = Concession(
        tenant_id=invoice.tenant_id,
        kind=Kind.WRITE_OFF,
        amount=amount,
        whole=amount,
        invoice=invoice,
        reason=reason[:300],
        requested_by=by,
    )
    if _waits(row):
        return row
    payments.write_off(invoice, amount, by=by, reason=reason)
    return row


@retried
@transaction.atomic
def refund(payment: Payment, amount: Decimal, *, by: str, reason: str = "") -> Concession | None:
    """Note that what is left of a payment was sent back, or ask to: what the tenant overpaid on
    balance is its own, and needs nobody (None). Raises InvoicingError for more than is left."""
    row = refund_beyond(payment, amount, Kind.REFUND, by=by, reason=reason)
    if row is not None and row.state == State.WAITING:
        return row
    payments.refund(payment, amount, by=by, reason=reason)
    return row


def refund_beyond(
    payment: Payment, amount: Decimal, kind: str, *, by: str, reason: str = ""
) -> Concession | None:
    """The same without the booking, inside the caller's transaction."""
    lock_cursor(payment.tenant_id)
    refuse_beyond_left(payment, amount)
    # Looked for first: what waits makes what is owed less, so its amount would be another.
    waiting = Concession.objects.filter(
        state=State.WAITING,
        kind=Kind(kind),
        payment=payment,
        whole=amount,
        reason=reason[:300],
        requested_by=by,
    ).first()
    if waiting is not None:
        return waiting
    beyond = amount - _owed_but_for(payment, by)
    if beyond <= 0:
        return None
    row = Concession(
        tenant_id=payment.tenant_id,
        kind=Kind(kind),
        amount=beyond,
        whole=amount,
        payment=payment,
        reason=reason[:300],
        requested_by=by,
    )
    _waits(row)
    return row


def _owed_but_for(payment: Payment, by: str) -> Decimal:
    """What we owe a tenant on balance without what `by` alone says was received lately: nothing of
    it for a refund of such a payment, and for another, which it may have set free, not counting
    what of them is still here. 0 or more."""
    since = timezone.now() - timedelta(days=settings.RELAY_CREDIT_WINDOW_DAYS)
    own = Payment.objects.filter(tenant=payment.tenant_id, recorded_by=by, recorded_at__gt=since)
    if not by:
        own = own.none()
    if own.filter(pk=payment.pk).exists():
        return ZERO
    gone = PaymentAllocation.objects.filter(payment__in=own, kind__in=_GONE)
    said = added_up(own) - added_up(gone)
    return max(in_favour_of(payment.tenant_id) - said, ZERO)


def refuse_beyond_left(payment: Payment, amount: Decimal) -> None:
    """Raises InvoicingError for more than is left of a payment, and on no way back."""
    returning = added_up(under_way(payment.tenant_id).filter(attempt__payment=payment))
    left = max(payments.remainder(payment) - returning, ZERO)
    if amount > left:
        raise InvoicingError(
            f"{left:.2f} of the payment is left, not {amount}: credit the invoice first"
        )


@retried
@transaction.atomic
def enter_wallet(
    tenant: Tenant, *, amount: Decimal, kind: str, reference: str = "", by: str
) -> Concession | None:
    """Enter prepaid money by hand, or ask to: whatever its kind, nothing here proves that an amount
    above 0 was received. Raises ValidationError as `wallet.enter` does."""
    row = None
    if amount > 0:
        row = Concession(
            tenant=tenant,
            kind=Kind.WALLET,
            amount=amount,
            whole=amount,
            subject=kind,
            reason=reference[:100],
            requested_by=by,
        )
        if _waits(row):
            return row
    else:
        lock_cursor(tenant.pk)
    wallet.enter(tenant, amount=amount, kind=kind, reference=reference, by=by)
    return row


def told(row: Concession) -> str | None:
    """What an operator is told of what waits; None: it is given."""
    if row.state != State.WAITING:
        return None
    verdict = weighed(row.tenant_id, row.amount, by=row.requested_by)
    return verdict.told(row.requested_by, place_of(row.kind))


def _waits(row: Concession) -> bool:
    """Save what is given, or waits. The same request again is the one that waits already."""
    if judge(row.tenant_id, row.amount, by=row.requested_by).needs_second:
        names = ("tenant_id", "kind", "amount", "whole", "invoice_id", "payment_id", "subject")
        same = {name: getattr(row, name) for name in (*names, "reason", "requested_by")}
        waiting = Concession.objects.filter(state=State.WAITING, **same).first()
        if waiting is None:
            row.save()
        else:
            row.pk, row._state.adding = waiting.pk, False
        return True
    row.state, row.decided_at = State.GIVEN, timezone.now()
    row.save()
    return False
