"""Invoices and credit notes by mail, in the language of who reads it. A mail may go out twice when
the relay dies in the moment after it, never not at all; two beats send one.

What goes in several mails was sent when one of them was taken: all of them tried again, it would
come to its reader every few minutes for as long as one address is dead. The rest is tried again by
itself, later each time, and given up after some hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
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
from tenants import letters
from tenants.notices.services import notify
from tenants.people.languages import of_address
from tenants.people.selectors import billing_identity

log = structlog.get_logger(__name__)

#: After which a mail that was begun and not noted as sent is begun again.
CLAIM = timedelta(minutes=10)
#: After which what some readers' servers did not take is tried again; twice as long each time.
REST_AFTER = timedelta(minutes=10)
REST_TRIES = 5


def send(
    what: Invoice | CreditNote, *, by: str = "", again: bool = False, now: datetime | None = None
) -> bool:
    """Mail an invoice or credit note with its PDF to the addresses it names. False when it was
    sent, or is being sent, and not `again`. Raises InvoicingError for what is not final or has no
    address, OSError (also of SMTP) when no mail of it is taken."""
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
        rest = _send_all(_messages(what, addresses), what.number)
    except OSError:
        type(state).objects.filter(pk=state.pk).update(sending_since=None)
        raise
    with transaction.atomic():
        state = _lock_state(what)
        state.sent_at, state.sending_since = state.sent_at or at, None
        _leave(state, rest, tries=0, at=at)
        state.save(update_fields=["sent_at", "sending_since", *_REST])
        _note(what, is_first=is_first, at=at, by=by)
    return True


_REST = ("rest_languages", "rest_tries", "rest_at")


def _leave(
    state: InvoiceStanding | CreditNoteMailing, rest: list[str], *, tries: int, at: datetime
) -> None:
    """Note what was not taken in, and when that is tried again."""
    is_left = bool(rest) and tries < REST_TRIES
    state.rest_languages, state.rest_tries = rest, tries
    state.rest_at = at + REST_AFTER * 2**tries if is_left else None
    if rest and not is_left:
        log.warning("document_given_up", document=state.pk, languages=rest)


def _send_rest(what: Invoice | CreditNote, at: datetime) -> bool:
    """Mail it once more to those who read what was not taken."""
    with transaction.atomic():
        state = _lock_state(what)
        if state.rest_at is None or state.rest_at > at:
            return False
        languages, tries = list(state.rest_languages), state.rest_tries + 1
        # Should we die now, it is tried again, but for its last time.
        _leave(state, languages, tries=tries, at=at)
        state.save(update_fields=_REST)
    addresses = addresses_of(what if isinstance(what, Invoice) else what.invoice)
    messages = [one for one in _messages(what, addresses) if one[0] in languages]
    try:
        rest = _send_all(messages, what.number)
    except OSError:
        return False
    with transaction.atomic():
        state = _lock_state(what)
        _leave(state, rest, tries=tries, at=at)
        state.save(update_fields=_REST)
    return not rest


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
    first, rest = partial(send, now=at), partial(_send_rest, at=at)
    sent = sum(_tried(first, invoice) for invoice in _unsent_invoices(at))
    sent += sum(_tried(first, note) for note in _unsent_credits(at))
    for what in _rests(at):
        _tried(rest, what)
    return sent


def _rests(at: datetime) -> Iterator[Invoice | CreditNote]:
    invoices = InvoiceStanding.objects.filter(rest_at__lte=at).exclude(
        state=InvoiceStanding.State.VOIDED
    )
    for standing in invoices.select_related("invoice__tenant").order_by("pk").iterator():
        yield standing.invoice
    notes = CreditNoteMailing.objects.filter(rest_at__lte=at)
    related = ("credit_note__invoice__tenant", "credit_note__invoice__standing")
    for mailing in notes.select_related(*related).order_by("pk").iterator():
        yield mailing.credit_note


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


def _tried(work: Callable[[Invoice | CreditNote], bool], what: Invoice | CreditNote) -> bool:
    if not addresses_of(what if isinstance(what, Invoice) else what.invoice):
        return False  # its page says so; the address may come later
    try:
        return work(what)
    except Exception as error:
        log.warning("document_not_sent", number=what.number, why=type(error).__name__)
        return False


def _messages(
    what: Invoice | CreditNote, addresses: list[str], *, owed: Decimal | None = None
) -> list[tuple[str, EmailMessage]]:
    """Languages, and one mail to all who read it, with the documents, which are in English whatever
    the mail is in. With what is still `owed` it is a reminder."""
    attached: list[Invoice | CreditNote] = [what]
    if isinstance(what, Invoice):
        name, says = _of_invoice(what, owed)
        invoice, seller = what, what.seller
    else:
        name, says = _of_credit(what)
        invoice, seller = what.invoice, what.seller or what.invoice.seller
        attached = _attached(what)
    readers: dict[str, list[str]] = {}
    for address in addresses:
        readers.setdefault(of_address(address, invoice.tenant), []).append(address)
    documents = [(f"{each.number}.pdf", bytes(document(each, "pdf").body)) for each in attached]
    messages = []
    for language, to in readers.items():
        letter = letters.write(name, language=language, seller=seller.get("name", ""), **says)
        message = EmailMessage(
            subject=letter.subject,
            body=letter.text,
            to=to,
            reply_to=[email] if (email := seller.get("email")) else None,
        )
        for file_name, pdf in documents:
            message.attach(file_name, pdf, "application/pdf")
        messages.append((language, message))
    return messages


def _of_invoice(invoice: Invoice, owed: Decimal | None) -> tuple[str, dict[str, object]]:
    """The name of its letter, and what that says."""
    is_due = invoice.due_at is not None and (owed is not None or invoice.payable > 0)
    return "document.invoice" if owed is None else "document.reminder", {
        "number": invoice.number,
        "buyer": invoice.buyer.get("name", ""),
        "amount": render_amount(invoice.payable if owed is None else owed),
        "currency": invoice.currency,
        "due_on": f"{invoice.due_at:%Y-%m-%d}" if is_due else "",
    }


def _of_credit(note: CreditNote) -> tuple[str, dict[str, object]]:
    return "document.credit_note", {
        "number": note.number,
        "buyer": (note.buyer or note.invoice.buyer).get("name", ""),
        "amount": render_amount(note.total),
        "currency": note.invoice.currency,
        "invoice": note.invoice.number,
        "reason": note.reason,
    }


def _attached(note: CreditNote) -> list[Invoice | CreditNote]:
    if note.invoice.standing.sent_at is not None:
        return [note]
    return [note, note.invoice]  # void before it was sent, or not yet: nobody would know it


def remind_on_commit(invoice: Invoice, balance: Decimal) -> None:
    """Mail a reminder once the transaction has noted it."""

    def mail() -> None:
        addresses = addresses_of(invoice)
        if not addresses:
            log.warning("reminder_without_address", invoice=invoice.pk)
            return
        try:
            _send_all(_messages(invoice, addresses, owed=balance), invoice.number)
        except OSError as error:
            log.warning("reminder_not_sent", invoice=invoice.pk, why=type(error).__name__)

    transaction.on_commit(mail)


def _send_all(messages: list[tuple[str, EmailMessage]], number: str | None) -> list[str]:
    """Each on its own: one language's mail that is not taken keeps none from the others. Answers
    the languages that are left. Raises the first one's OSError when none is taken."""
    rest, errors = [], []
    for language, message in messages:
        try:
            message.send()
        except OSError as error:
            rest.append(language)
            errors.append(error)
            # An address is of a person; its domain is enough to find it in the profile.
            domains = sorted({address.rpartition("@")[2] for address in message.to})
            why = type(error).__name__
            log.warning("document_not_taken", number=number, domains=domains, why=why)
    if errors and len(errors) == len(messages):
        raise errors[0]
    return rest
