"""Invoices and credit notes by mail. A mail may go out twice when the relay dies in the moment
after it, never not at all; two beats send one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from billing.invoicing.documents import document
from billing.invoicing.errors import InvoicingError
from billing.invoicing.standing import lock_standing
from billing.models import (
    CreditNote,
    CreditNoteMailing,
    Invoice,
    InvoiceEvent,
    InvoiceStanding,
)
from billing.rating.money import render_amount
from tenants.notices.services import notify
from tenants.people.selectors import billing_identity

log = structlog.get_logger(__name__)

#: After which a mail that was begun and not noted as sent is begun again.
CLAIM = timedelta(minutes=10)


def send(
    what: Invoice | CreditNote, *, by: str = "", again: bool = False, now: datetime | None = None
) -> bool:
    """Mail an invoice or credit note with its PDF to the address it names. False when it was sent,
    or is being sent, and not `again`. Raises InvoicingError for what is not final or has no
    address, OSError (also of SMTP) when the mail is not taken."""
    at = now or timezone.now()
    if what.number is None:
        raise InvoicingError(f"{what} is a draft: only what is final is sent")
    invoice = what if isinstance(what, Invoice) else what.invoice
    addresses = addresses_of(invoice)
    if not addresses:
        raise InvoicingError(f"{invoice.tenant} has no invoice e-mail in its billing profile")
    with transaction.atomic():
        state = _lock_state(what)
        if not again and state.sent_at is not None:
            return False
        if state.sending_since is not None and state.sending_since > at - CLAIM:
            return False
        is_first = state.sent_at is None
        state.sending_since = at
        state.save(update_fields=["sending_since"])
    try:
        _mail_of(what, addresses).send()
    except OSError:
        type(state).objects.filter(pk=state.pk).update(sending_since=None)
        raise
    with transaction.atomic():
        state = _lock_state(what)
        state.sent_at, state.sending_since = state.sent_at or at, None
        state.save(update_fields=["sent_at", "sending_since"])
        _note(what, is_first=is_first, at=at, by=by)
    return True


def _lock_state(what: Invoice | CreditNote) -> Any:
    """Where it is written whether it was sent, locked."""
    if isinstance(what, Invoice):
        return lock_standing(what)
    # One that was issued before credit notes were mailed has none, and is not mailed by itself.
    CreditNoteMailing.objects.get_or_create(credit_note=what)
    return CreditNoteMailing.objects.select_for_update().get(credit_note=what)


def _note(what: Invoice | CreditNote, *, is_first: bool, at: datetime, by: str) -> None:
    kind = InvoiceEvent.Kind
    if isinstance(what, Invoice):
        done = kind.SENT if is_first else kind.RESENT
        InvoiceEvent.objects.create(invoice=what, kind=done, at=at, actor=by)
        tell(what, "invoice.sent")
        return
    InvoiceEvent.objects.create(
        invoice=what.invoice, kind=kind.CREDIT_SENT, at=at, actor=by, reason=str(what)
    )
    notify(
        tenant=what.invoice.tenant,
        kind="credit_note.sent",
        payload={
            "number": what.number,
            "invoice": what.invoice.number,
            "total": render_amount(what.total),
            "currency": what.invoice.currency,
        },
        dedupe=f"credit_note.sent:{what.number}",
        to=(),
    )


def tell(invoice: Invoice, kind: str, *, again: int = 0) -> None:
    """Tell the tenant's webhooks, once, and once more for each `again`; mail of invoices
    has them attached, and is ours."""
    due = invoice.due_at
    notify(
        tenant=invoice.tenant,
        kind=kind,
        payload={
            "number": invoice.number,
            "total": render_amount(invoice.total),
            "due": render_amount(invoice.payable),
            "currency": invoice.currency,
            "due_on": f"{due:%Y-%m-%d}" if due is not None else "",
        },
        dedupe=f"{kind}:{invoice.number}" + (f":{again}" if again else ""),
        to=(),
    )


def addresses_of(invoice: Invoice) -> list[str]:
    """Where it goes: what the tenant's profile says now, else what it said then."""
    now = list(billing_identity(invoice.tenant).invoice_emails)
    return now or [each for each in invoice.buyer.get("email", "").split(", ") if each]


def send_due(now: datetime | None = None) -> int:
    """Send all invoices and credit notes that were not. Answers how many; those that fail are in
    the log, and tried again."""
    at = now or timezone.now()
    sent = sum(_try_to_send(invoice, at) for invoice in _unsent_invoices(at))
    return sent + sum(_try_to_send(note, at) for note in _unsent_credits(at))


def _unsent_invoices(at: datetime) -> Iterator[Invoice]:
    waiting = InvoiceStanding.objects.filter(sent_at=None).exclude(
        state=InvoiceStanding.State.VOIDED
    )
    rows = waiting.exclude(sending_since__gt=at - CLAIM).select_related("invoice__tenant")
    return (standing.invoice for standing in rows.order_by("pk").iterator())


def _unsent_credits(at: datetime) -> Iterator[CreditNote]:
    waiting = CreditNoteMailing.objects.filter(sent_at=None)
    rows = waiting.exclude(sending_since__gt=at - CLAIM)
    found = rows.select_related("credit_note__invoice__tenant", "credit_note__invoice__standing")
    return (row.credit_note for row in found.order_by("pk").iterator())


def _try_to_send(what: Invoice | CreditNote, at: datetime) -> bool:
    if not addresses_of(what if isinstance(what, Invoice) else what.invoice):
        return False  # its page says so; the address may come later
    try:
        return send(what, now=at)
    except Exception as error:
        log.warning("document_not_sent", number=what.number, why=type(error).__name__)
        return False


def _message(invoice: Invoice, addresses: list[str]) -> EmailMessage:
    seller = invoice.seller.get("name", "")
    due = f", due on {invoice.due_at:%Y-%m-%d}" if invoice.payable > 0 else ""
    message = EmailMessage(
        subject=f"Invoice {invoice.number} from {seller}".replace("\n", " "),
        body=f"{invoice.buyer.get('name', '')},\n\nattached is invoice {invoice.number} over "
        f"{render_amount(invoice.payable)} {invoice.currency}{due}.\n\n{seller}\n",
        to=addresses,
        reply_to=[email] if (email := invoice.seller.get("email")) else None,
    )
    pdf = bytes(document(invoice, "pdf").body)
    message.attach(f"{invoice.number}.pdf", pdf, "application/pdf")
    return message


def _mail_of(what: Invoice | CreditNote, addresses: list[str]) -> EmailMessage:
    if isinstance(what, Invoice):
        return _message(what, addresses)
    return _credit_message(what, addresses)


def _credit_message(note: CreditNote, addresses: list[str]) -> EmailMessage:
    invoice = note.invoice
    seller = (note.seller or invoice.seller).get("name", "")
    message = EmailMessage(
        subject=f"Credit note {note.number} from {seller}".replace("\n", " "),
        body=f"{(note.buyer or invoice.buyer).get('name', '')},\n\nattached is credit note "
        f"{note.number} over {render_amount(note.total)} {invoice.currency}, for invoice "
        f"{invoice.number}: {note.reason}\n\n{seller}\n",
        to=addresses,
        reply_to=[email] if (email := (note.seller or invoice.seller).get("email")) else None,
    )
    attached: list[Invoice | CreditNote] = [note]
    if invoice.standing.sent_at is None:
        attached.append(invoice)  # void before it was sent, or not yet: nobody would know it
    for what in attached:
        pdf = bytes(document(what, "pdf").body)
        message.attach(f"{what.number}.pdf", pdf, "application/pdf")
    return message


def remind_on_commit(invoice: Invoice, balance: Decimal) -> None:
    """Mail a reminder once the transaction has noted it."""

    def mail() -> None:
        addresses = addresses_of(invoice)
        if not addresses:
            log.warning("reminder_without_address", invoice=invoice.pk)
            return
        message = _message(invoice, addresses)
        message.subject = f"Reminder: invoice {invoice.number} is overdue"
        message.body = (
            f"{invoice.buyer.get('name', '')},\n\nof invoice {invoice.number}, due on "
            f"{invoice.due_at:%Y-%m-%d}, {render_amount(balance)} {invoice.currency} is still "
            f"open. It is attached once more.\n\n{invoice.seller.get('name', '')}\n"
        )
        try:
            message.send()
        except OSError as error:
            log.warning("reminder_not_sent", invoice=invoice.pk, why=type(error).__name__)

    transaction.on_commit(mail)
