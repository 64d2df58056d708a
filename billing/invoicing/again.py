"""Another invoice in place of a void one: of the same period, under the next `sequence`.

It bills the same usage, that of the same hours up to the same position of the ledger, at what holds
now: terms that were put right, another tax, another buyer. So each unit is billed again once, and
the cursor, which says what is billed, stays where it is. What is posted since is late on other
invoices, as it is for the void one.
"""

from __future__ import annotations

from django.db import transaction

from billing.invoicing import draft
from billing.invoicing.adjusting import approve_again
from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import lock_cursor
from billing.invoicing.retrying import retried
from billing.invoicing.terms_port import book
from billing.invoicing.waiting_again import wait_again
from billing.models import Invoice, InvoiceEvent, InvoiceReplacement, InvoiceStanding

_VOID = InvoiceStanding.State.VOIDED
#: What it has from the void one.
_SAME = (
    *("tenant", "kind", "period_start", "period_end", "full_end", "interval_unit"),
    *("interval_every", "is_first_period", "usage_from", "usage_until"),
    *("ledger_position", "previous_position"),
)


@retried
@transaction.atomic
def draft_again(invoice: Invoice, *, by: str = "") -> Invoice:
    """The draft in place of a void invoice, as it would be now; that of before is made again. What
    the void one billed of adjustments is approved by `by`, which is an event of the void one.

    Raises InvoicingError for an invoice that is not void, and where another is in its place.
    """
    cursor = lock_cursor(invoice.tenant_id)
    standing = InvoiceStanding.objects.filter(invoice=invoice, state=_VOID).first()
    if standing is None:
        raise InvoicingError(f"{invoice} is not void: there is nothing to be in its place")
    if standing.balance > 0:
        raise InvoicingError(f"{standing.balance} of {invoice} is open still: credit it first")
    wait_again(invoice)
    known = InvoiceReplacement.objects.filter(replaces=invoice).select_related("invoice").first()
    if known is not None and known.invoice.is_finalized:
        raise InvoicingError(f"{known.invoice} is in place of {invoice} already")
    approve_again(invoice, by=by)
    found = known.invoice if known else _begin(invoice)
    InvoiceEvent.objects.create(
        invoice=invoice,
        kind=InvoiceEvent.Kind.DRAFTED_AGAIN,
        actor=by,
        reason=f"sequence {found.sequence}",
    )
    prices = book()
    return draft.redraft(found, cursor, prices.load([found.tenant]), prices)


def _begin(invoice: Invoice) -> Invoice:
    rows = Invoice.objects.filter(tenant=invoice.tenant_id, kind=invoice.kind)
    if invoice.kind == Invoice.Kind.REGULAR:
        rows = rows.filter(period_start=invoice.period_start)
    same = {name: getattr(invoice, name) for name in _SAME}
    made = Invoice.objects.create(sequence=draft.next_sequence(rows), **same)
    InvoiceReplacement.objects.create(invoice=made, replaces=invoice)
    return made
