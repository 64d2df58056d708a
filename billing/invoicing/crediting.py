"""Credit notes: how a finalized invoice is taken back, in part or whole.

**What of it.** Parts of what was paid for a line: its net, after discounts, and the tax on that in
proportion (`creditable`). All parts together are the invoice, to the cent.

**What a credit does.** It settles what is open first. What is beyond was paid already: so much of
the payments is released, to be sent back (`refund`) or used for another invoice. What was prepaid
goes back to the wallet.

**Below 0.** An invoice that credits more than it charges may be credited line by line: what it
charges was set off, so the customer has paid it. It is not void by a credit note, which would take
money: that is a charge, on an invoice of its own.

**Void.** An invoice on which nothing was paid is void by a credit note over all of it: its number
stays, and the books show both. One that was paid cannot be as if it had never been: it is credited.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from billing.invoicing import conceding, frozen, parties
from billing.invoicing.carrying import carry_over
from billing.invoicing.creditable import Left, Sums, can_follow, less, summed, within
from billing.invoicing.errors import ApprovalError, InvoicingError
from billing.invoicing.locks import refuse_locked
from billing.invoicing.numbering import CREDIT_NOTES, take_number
from billing.invoicing.payments import release_beyond, take_back_loss
from billing.invoicing.retrying import retried
from billing.invoicing.standing import ZERO, added_up, lock_standing, restand, settled
from billing.invoicing.terms_port import book
from billing.models import (
    Concession,
    CreditNote,
    CreditNoteLine,
    CreditNoteMailing,
    Invoice,
    InvoiceEvent,
    InvoiceLine,
    InvoiceStanding,
    PaymentAllocation,
)
from billing.rating.money import render_amount

_LIVE = [CreditNote.State.DRAFT, CreditNote.State.ISSUED]


@retried
@transaction.atomic
def credit(
    invoice: Invoice,
    amounts: Mapping[int, Decimal] | None = None,
    *,
    reason: str,
    by: str,
    voids: bool = False,
    now: datetime | None = None,
) -> CreditNote:
    """Credit `amounts` (of what was paid for lines: after discounts, without tax) by the lines'
    ids; without any, all that is left.

    It waits for `approve_credit` where its operator would give away too much alone
    (`conceding.py`). Raises InvoicingError for more than is left, and for a draft.
    """
    if not invoice.is_finalized:
        raise InvoicingError(f"{invoice} is no invoice yet: change what it is made of")
    if not reason.strip():
        raise InvoicingError("a credit note needs a reason: it is printed on it")
    standing = lock_standing(invoice)
    if standing.state == InvoiceStanding.State.VOIDED and standing.balance <= 0:
        raise InvoicingError(f"{invoice} is void already")
    parts = _parts(invoice, amounts)
    sums = summed((amount, tax) for _, amount, tax in parts)
    note = CreditNote.objects.create(
        invoice=invoice,
        reason=reason.strip()[:300],
        voids=voids,
        subtotal=sums.net,
        tax_total=sums.tax,
        total=sums.total,
        requested_by=by,
    )
    CreditNoteLine.objects.bulk_create(
        CreditNoteLine(
            credit_note=note,
            line=line,
            name=line.name,
            amount=amount,
            tax_percent=line.tax_percent,
            tax=tax,
        )
        for line, amount, tax in parts
    )
    if conceding.judge(invoice.tenant_id, note.total, by=by, now=now).needs_second:
        return note
    return _issue(note, standing, by=by, now=now)


def waits_for(note: CreditNote) -> str:
    """Why a credit note waits, and for whom: one line."""
    verdict = conceding.weighed(note.invoice.tenant_id, note.total, by=note.requested_by)
    return verdict.told(note.requested_by, conceding.place_of(Concession.Kind.CREDIT))


def _parts(
    invoice: Invoice, amounts: Mapping[int, Decimal] | None
) -> list[tuple[InvoiceLine, Decimal, Decimal]]:
    """Line, net and tax of what is credited. Raises InvoicingError for what is not left."""
    lines = {line.pk: line for line in invoice.lines.order_by("place") if line.net or line.tax}
    whole, left = _left(invoice, lines)
    if amounts is None:
        parts = [
            (lines[pk], one.net_left, one.tax_left)
            for pk, one in left.items()
            if one.net_left or one.tax_left
        ]
    else:
        parts = [_part(invoice, lines, left, *asked) for asked in amounts.items()]
    sums = summed((amount, tax) for _, amount, tax in parts)
    if invoice.total <= 0 and amounts is not None and sums.total > 0:
        # Its charges were set off against what it credits, so they are paid: each as far as its
        # line goes. What it credits stands for itself.
        return parts
    if sums.total > whole.total or sums.total <= 0:
        raise InvoicingError(
            f"{render_amount(max(whole.total, ZERO))} of {invoice} can be credited with tax, "
            f"not {render_amount(sums.total)}"
        )
    taken = {line.pk: (amount, tax) for line, amount, tax in parts}
    is_last = all(
        (one.net_left, one.tax_left) == taken.get(pk, (ZERO, ZERO)) for pk, one in left.items()
    )
    rest = whole - sums
    if not is_last and not can_follow(rest, whole):
        raise InvoicingError(
            f"{render_amount(rest.net)} and tax of {render_amount(rest.tax)} would be left of "
            f"{invoice}, which has credits on it: credit less of the line, or all that is left"
        )
    return parts


def _part(
    invoice: Invoice,
    lines: Mapping[int, InvoiceLine],
    left: Mapping[int, Left],
    pk: int,
    amount: Decimal,
) -> tuple[InvoiceLine, Decimal, Decimal]:
    if pk not in lines:
        line = invoice.lines.filter(pk=pk).first()
        if line is None:
            raise InvoicingError(f"{invoice} has no line {pk}")
        raise InvoicingError(f"{line.name}: 0.00 can be credited, nothing was paid for it")
    line, rest = lines[pk], left[pk]
    if (
        not amount.is_finite()
        or amount <= 0
        or amount != round(amount, 2)
        or amount > rest.net_left
    ):
        raise InvoicingError(
            f"{line.name}: {render_amount(max(rest.net_left, ZERO))} can be credited, after "
            f"discounts and without tax, not {amount}"
        )
    return line, amount, rest.tax_with(amount)


def _left(invoice: Invoice, lines: Mapping[int, InvoiceLine]) -> tuple[Sums, dict[int, Left]]:
    """What is not credited yet: of the whole, and of each line."""
    given: dict[int, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    rows = CreditNoteLine.objects.filter(line__in=lines, credit_note__state__in=_LIVE)
    for pk, amount, tax in rows.values_list("line", "amount", "tax"):
        given[pk].append((amount, tax))
    notes = CreditNote.objects.filter(invoice=invoice, state__in=_LIVE)
    whole = Sums(invoice.subtotal, invoice.tax_total) - summed(
        notes.order_by().values_list("subtotal", "tax_total")
    )
    left = [less(line.net, line.tax, given[pk]) for pk, line in lines.items()]
    return whole, dict(zip(lines, within(left, whole), strict=True))


@retried
@transaction.atomic
def approve_credit(note: CreditNote, *, by: str, now: datetime | None = None) -> CreditNote:
    """Issue a credit note that waits. Raises ApprovalError for whoever asked for it."""
    standing = lock_standing(note.invoice)
    locked = CreditNote.objects.select_for_update().get(pk=note.pk)
    if locked.state == CreditNote.State.ISSUED:
        return locked
    if locked.state != CreditNote.State.DRAFT:
        raise InvoicingError("the credit note was rejected: ask for another")
    if not by or by == locked.requested_by:
        raise ApprovalError(waits_for(locked))
    locked.approved_by = by
    return _issue(locked, standing, by=by, now=now)


@retried
@transaction.atomic
def reject_credit(note: CreditNote, *, by: str) -> CreditNote:
    """Let a credit note that waits be none. Raises InvoicingError when it is issued."""
    lock_standing(note.invoice)
    locked = CreditNote.objects.select_for_update().get(pk=note.pk)
    if locked.state == CreditNote.State.ISSUED:
        raise InvoicingError(f"{locked} is issued")
    if locked.state == CreditNote.State.DRAFT:
        locked.state, locked.approved_by = CreditNote.State.REJECTED, by
        locked.save()
    return locked


@retried
def void(invoice: Invoice, *, reason: str, by: str, now: datetime | None = None) -> CreditNote:
    """Make an invoice void by a credit note over all of it. Raises InvoicingError where something
    was paid: release and refund, or credit it; and while another credit of it waits."""
    with transaction.atomic():
        if not invoice.is_finalized:
            raise InvoicingError(f"{invoice} is a draft: discard it, or change what it is made of")
        lock_standing(invoice)
        if invoice.total < 0:
            raise InvoicingError(
                f"{invoice} is {render_amount(-invoice.total)} in the customer's favour, and a "
                "credit note only gives: charge it back by an adjustment, which the next invoice "
                "settles with it; or credit a charge on it"
            )
        _refuse_paid(invoice)
        _refuse_waiting(invoice)
        return credit(invoice, reason=reason, by=by, voids=True, now=now)


def _refuse_paid(invoice: Invoice) -> None:
    kinds = PaymentAllocation.Kind
    paid = settled(invoice, kinds.PAYMENT, kinds.RELEASE)
    if paid:
        raise InvoicingError(
            f"{render_amount(paid)} of {invoice} is paid: release it first, or credit the invoice"
        )


def _refuse_waiting(invoice: Invoice) -> None:
    # A void of the rest would be judged by the rest alone, and leave open what is rejected.
    waiting = CreditNote.objects.filter(invoice=invoice, state=CreditNote.State.DRAFT)
    note = waiting.order_by("pk").first()
    if note is not None:
        asked = f" asked for by {note.requested_by}" if note.requested_by else ""
        raise InvoicingError(
            f"a credit of {render_amount(note.total)} on {invoice}{asked} waits: "
            "approve or reject it first"
        )


def _refuse_rest(note: CreditNote, invoice: Invoice) -> None:
    issued = CreditNote.objects.filter(invoice=invoice, state=CreditNote.State.ISSUED)
    rest = invoice.total - note.total - added_up(issued, "total")
    if rest:
        raise InvoicingError(
            f"{render_amount(rest)} of {invoice} would be left, so it would not be void: "
            "reject the credit, and make it void again when no other waits"
        )


def _prepaid(invoice: Invoice) -> Decimal:
    """What of an invoice the wallet paid and did not get back."""
    return invoice.prepaid + settled(invoice, PaymentAllocation.Kind.WALLET)


def _refill(note: CreditNote, invoice: Invoice, amount: Decimal, *, by: str) -> None:
    if amount <= 0:
        return
    book().refill_wallet(invoice.tenant, amount, f"credit note #{note.pk}")
    PaymentAllocation.objects.create(
        kind=PaymentAllocation.Kind.WALLET,
        invoice=invoice,
        credit_note=note,
        amount=-amount,
        actor=by,
        reason=note.reason,
    )


def _issue(
    note: CreditNote, standing: InvoiceStanding, *, by: str, now: datetime | None
) -> CreditNote:
    at = now or timezone.now()
    refuse_locked(at, "a credit note")
    invoice = standing.invoice
    if note.voids:
        _refuse_paid(invoice)  # also where it was paid while the note waited
        _refuse_rest(note, invoice)
    PaymentAllocation.objects.create(
        kind=PaymentAllocation.Kind.CREDIT,
        invoice=invoice,
        credit_note=note,
        amount=note.total,
        actor=by,
        reason=note.reason,
    )
    kind = InvoiceEvent.Kind.VOIDED if note.voids else InvoiceEvent.Kind.CREDITED
    beyond = settled(invoice) - invoice.due
    if beyond > 0:
        beyond -= take_back_loss(standing, beyond, by=by, reason=note.reason)
    if beyond > 0:
        beyond -= release_beyond(standing, beyond, by=by, reason=note.reason)
        _refill(note, invoice, min(beyond, _prepaid(invoice)), by=by)
    note.issued_at = at.replace(microsecond=0)
    # The seller as of today, who it is from; and whom the invoice named, who it is for.
    note.seller = parties.seller_copy(parties.seller())
    note.buyer, note.tax = invoice.buyer, invoice.tax
    note.number = take_number(CREDIT_NOTES, at)
    note.content_sha256 = frozen.credit_hash(note)
    note.state = CreditNote.State.ISSUED
    note.save()
    CreditNoteMailing.objects.create(credit_note=note)
    conceding.note_given(
        invoice.tenant_id,
        Concession.Kind.CREDIT,
        note.total,
        by=note.requested_by,
        approved_by=note.approved_by,
        subject=note.number,
        reason=note.reason,
        invoice=invoice,
        now=at,
    )
    InvoiceEvent.objects.create(
        invoice=invoice, kind=kind, at=at, actor=by, reason=f"{note.number}: {note.reason}"[:300]
    )
    restand(standing, by=by, reason=str(note.number), now=at)
    carry_over(invoice.tenant_id, by=by)
    return note


def adds_up(note: CreditNote) -> bool:
    """Whether an issued credit note's totals are the sums of its lines, and its hash is that of
    its content."""
    sums = summed(note.lines.order_by().values_list("amount", "tax"))
    told = (note.subtotal, note.tax_total, note.total)
    return told == (sums.net, sums.tax, sums.total) and frozen.is_credit_hash_of(note)
