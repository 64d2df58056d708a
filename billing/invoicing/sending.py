"""Invoices by mail. A mail may go out twice when the relay dies in the moment after it, never not
at all; two beats send one."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from billing.invoicing.documents import document
from billing.invoicing.errors import InvoicingError
from billing.invoicing.standing import lock_standing
from billing.models import Invoice, InvoiceEvent, InvoiceStanding
from billing.rating.money import render_amount
from tenants.notices.services import notify
from tenants.people.selectors import billing_identity

log = structlog.get_logger(__name__)

#: After which a mail that was begun and not noted as sent is begun again.
CLAIM = timedelta(minutes=10)


def send(
    invoice: Invoice, *, by: str = "", again: bool = False, now: datetime | None = None
) -> bool:
    """Mail an invoice with its PDF to the address it names. False when it was sent, or is being
    sent, and not `again`. Raises InvoicingError for a draft or without an address, OSError (also
    of SMTP) when the mail is not taken."""
    at = now or timezone.now()
    if not invoice.is_finalized:
        raise InvoicingError(f"{invoice} is a draft: finalize it first")
    addresses = addresses_of(invoice)
    if not addresses:
        raise InvoicingError(f"{invoice.tenant} has no invoice e-mail in its billing profile")
    with transaction.atomic():
        standing = lock_standing(invoice)
        if not again and standing.sent_at is not None:
            return False
        if standing.sending_since is not None and standing.sending_since > at - CLAIM:
            return False
        is_first = standing.sent_at is None
        standing.sending_since = at
        standing.save(update_fields=["sending_since"])
    try:
        _message(invoice, addresses).send()
    except OSError:
        InvoiceStanding.objects.filter(pk=standing.pk).update(sending_since=None)
        raise
    with transaction.atomic():
        standing = lock_standing(invoice)
        standing.sent_at, standing.sending_since = standing.sent_at or at, None
        standing.save(update_fields=["sent_at", "sending_since"])
        kind = InvoiceEvent.Kind
        InvoiceEvent.objects.create(
            invoice=invoice, kind=kind.SENT if is_first else kind.RESENT, at=at, actor=by
        )
        tell(invoice, "invoice.sent")
    return True


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
            "due": render_amount(invoice.due),
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
    """Send all invoices that were not. Answers how many; those that fail are in the log, and tried
    again."""
    at = now or timezone.now()
    sent = 0
    waiting = InvoiceStanding.objects.filter(sent_at=None).exclude(
        state=InvoiceStanding.State.VOIDED
    )
    rows = waiting.exclude(sending_since__gt=at - CLAIM).select_related("invoice__tenant")
    for standing in rows.order_by("pk").iterator():
        if not addresses_of(standing.invoice):
            continue  # its page says so; the address may come later
        try:
            sent += send(standing.invoice, now=at)
        except Exception as error:
            log.warning("invoice_not_sent", invoice=standing.pk, why=type(error).__name__)
    return sent


def _message(invoice: Invoice, addresses: list[str]) -> EmailMessage:
    seller = invoice.seller.get("name", "")
    due = f", due on {invoice.due_at:%Y-%m-%d}" if invoice.due > 0 else ""
    message = EmailMessage(
        subject=f"Invoice {invoice.number} from {seller}".replace("\n", " "),
        body=f"{invoice.buyer.get('name', '')},\n\nattached is invoice {invoice.number} over "
        f"{render_amount(invoice.due)} {invoice.currency}{due}.\n\n{seller}\n",
        to=addresses,
        reply_to=[email] if (email := invoice.seller.get("email")) else None,
    )
    pdf = bytes(document(invoice, "pdf").body)
    message.attach(f"{invoice.number}.pdf", pdf, "application/pdf")
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
