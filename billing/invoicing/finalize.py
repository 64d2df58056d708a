"""A draft becomes an invoice: rated once more, numbered, frozen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.invoicing import draft, frozen
from billing.invoicing.ahead import NOTHING, Ahead
from billing.invoicing.carrying import carry_over, to_carry
from billing.invoicing.errors import InvoicingError, NotYetError
from billing.invoicing.kinds import custom_of
from billing.invoicing.locks import lock_account, lock_cursor, refuse_locked
from billing.invoicing.numbering import take_number
from billing.invoicing.retrying import retried
from billing.invoicing.standing import begin_standing
from billing.invoicing.terms_port import Terms, book
from billing.invoicing.waiting_again import propose_again
from billing.models import Adjustment, Invoice, InvoiceCursor, InvoiceEvent, InvoiceLine
from billing.payments.doorbell import charge_on_commit

log = structlog.get_logger(__name__)


@retried
@transaction.atomic
def finalize(
    invoice: Invoice,
    *,
    by: str = "",
    now: datetime | None = None,
    terms: Terms | None = None,
    ahead: Ahead = NOTHING,
) -> Invoice | None:
    """Finalize a draft; a finalized invoice is answered as it is. None where there was nothing to
    invoice at all: the draft is gone, and the period counts as done.

    The tenant's usage account is held meanwhile, so that what the invoice says is exactly what was
    posted up to `ledger_position`. Raises NotYetError while the period runs or an earlier one is a
    draft, LockedError, InvoicingError for who never was a customer.
    """
    at = now or timezone.now()
    cursor = lock_cursor(invoice.tenant_id)
    rows = Invoice.objects.select_for_update().order_by()
    locked = next(iter(rows.filter(pk=invoice.pk)), None)
    if locked is None:
        return None  # somebody else found nothing to invoice
    if locked.is_finalized:
        return locked
    if invoice.tenant_id in ahead.tenants:
        locked.tenant = invoice.tenant  # read with its billing profile a moment ago
    is_again = draft.replaced_by(locked) is not None
    _refuse(locked, cursor, at, is_again=is_again)
    draft.date_one_off(locked, at)
    prices = book()
    account = lock_account(locked.tenant_id)
    content = draft.gather(
        locked,
        cursor,
        position=account.last_position,
        terms=terms or prices.load([locked.tenant]),
        prices=prices,
        ahead=ahead,
    )
    if content.is_empty:
        locked.delete()
        if not is_again:
            _advance(cursor, locked, account.last_position)
        return None
    draft.fill(locked, content, ahead)
    lines = draft.write_lines(locked, content)
    if content.adjustments:
        waiting = Adjustment.objects.filter(
            pk__in=[row.pk for row in content.adjustments], state=Adjustment.State.APPROVED
        )
        if waiting.update(state=Adjustment.State.BILLED, billed_on=locked) != len(
            content.adjustments
        ):
            raise NotYetError("an adjustment was decided otherwise meanwhile: try again")
    if locked.prepaid:
        prices.spend_wallet(locked.tenant, locked.prepaid, f"invoice #{locked.pk}")
    if not is_again:
        _advance(cursor, locked, account.last_position)
    # Cut as all databases keep it, so that the hash is of what is read back.
    locked.finalized_at = at.replace(microsecond=0)
    locked.due_at = locked.finalized_at + timedelta(days=ahead.seller().net_days)
    locked.carried = to_carry(locked, by=by)
    # Last, because the series is one for all tenants and held until the end.
    locked.number = take_number(settings.RELAY_INVOICE_PREFIX, at)
    locked.content_sha256 = frozen.content_hash(locked, lines)
    locked.state = Invoice.State.FINALIZED
    locked.save_locked()
    InvoiceEvent.objects.create(
        invoice=locked, kind=InvoiceEvent.Kind.FINALIZED, at=at, actor=by, once="finalized"
    )
    begin_standing(locked, locked.due_at)
    if locked.carried:
        carry_over(locked.tenant_id, by=by)
    if locked.payable > 0 and locked.tenant.provider_customers.exclude(method="").exists():
        charge_on_commit()
    log.info("invoice_finalized", tenant=locked.tenant_id, number=locked.number)
    return locked


def _refuse(invoice: Invoice, cursor: InvoiceCursor, at: datetime, *, is_again: bool) -> None:
    draft.refuse_never(invoice.tenant, cursor)
    refuse_locked(at, "an invoice")
    if invoice.kind != Invoice.Kind.REGULAR or is_again:
        return
    if invoice.period_end > at:
        raise NotYetError(f"the period runs until {invoice.period_end:%Y-%m-%d %H:%M} UTC")
    if _is_passed(invoice, cursor):
        raise InvoicingError(
            f"the period begins before {cursor.finalized_until:%Y-%m-%d %H:%M}, until when "
            f"{invoice.tenant} is invoiced: discard the draft"
        )
    # In order: what an invoice finds late is what the ones before it did not bill.
    drafts = Invoice.objects.filter(
        tenant=invoice.tenant,
        kind=Invoice.Kind.REGULAR,
        state=Invoice.State.DRAFT,
        sequence=1,
        period_start__lt=invoice.period_start,
    )
    for earlier in drafts.order_by("period_start"):
        if not _is_passed(earlier, cursor):
            raise NotYetError(f"finalize the draft of {earlier.period_start:%Y-%m-%d} first")


def _is_passed(invoice: Invoice, cursor: InvoiceCursor) -> bool:
    """Whether a draft can never be finalized any more, and so stands in nobody's way."""
    return cursor.finalized_until is not None and invoice.period_start < cursor.finalized_until


def _advance(cursor: InvoiceCursor, invoice: Invoice, position: int) -> None:
    cursor.position = position
    if invoice.kind == Invoice.Kind.REGULAR:
        cursor.finalized_until, cursor.usage_until = invoice.period_end, invoice.usage_until
        cursor.closed_until = max(cursor.closed_until or invoice.period_end, invoice.period_end)
    cursor.save()


@retried
@transaction.atomic
def discard(invoice: Invoice, *, by: str = "", reason: str = "") -> None:
    """Delete a draft that need not be: a one-off, what it would have billed waits on; one in place
    of a void invoice, whose adjustments are undecided again; one that can never be finalized.
    Raises InvoicingError for another."""
    cursor = lock_cursor(invoice.tenant_id)
    locked = Invoice.objects.select_for_update().get(pk=invoice.pk)
    if locked.is_finalized:
        raise InvoicingError(f"{locked} is finalized: credit it, or make it void")
    replaced = draft.replaced_by(locked)
    is_needed = (
        locked.kind == Invoice.Kind.REGULAR
        and replaced is None
        and not _is_passed(locked, cursor)
        and not custom_of(locked.tenant, cursor).is_never
    )
    if is_needed:
        raise InvoicingError(f"{locked} is the draft of a period: it cannot be discarded")
    period = locked.period_start.isoformat()
    log.info("draft_discarded", tenant=locked.tenant_id, period=period, by=by, reason=reason)
    if replaced is not None:
        propose_again(replaced)
    locked.delete()


def adds_up(invoice: Invoice, lines: Sequence[InvoiceLine]) -> bool:
    """Whether totals are the sums of the lines, in order, and the hash that of the content."""
    amounts, taxes = sum(line.amount for line in lines), sum(line.tax for line in lines)
    return (
        (amounts, taxes) == (invoice.subtotal, invoice.tax_total)
        and amounts + taxes == invoice.total == invoice.due + invoice.prepaid
        and frozen.is_hash_of(invoice, lines)
    )
