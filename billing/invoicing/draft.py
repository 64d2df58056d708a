"""Drafts: what an invoice would say if it were finalized now. One a tenant and period, also for two
beats, and made again as often as wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from billing.invoicing import frozen, parties
from billing.invoicing.adjusting import approved_of
from billing.invoicing.ahead import NOTHING, Ahead
from billing.invoicing.errors import InvoicingError, NotYetError
from billing.invoicing.kinds import ALWAYS, Custom, custom_of
from billing.invoicing.late import LateLine, billed_by, late_lines
from billing.invoicing.locks import lock_cursor
from billing.invoicing.retrying import retried
from billing.invoicing.terms_port import Book, Terms, book
from billing.invoicing.usage import late_usage, period_of, stretches, usage_as_of
from billing.models import (
    Account,
    Adjustment,
    Invoice,
    InvoiceCursor,
    InvoiceLine,
    InvoiceReplacement,
)
from billing.rating import invoice as rating
from billing.rating.invoice import FeePart, Rated
from billing.rating.money import CURRENCY, ZERO
from billing.rating.periods import Period
from billing.rating.rate import rate
from billing.rating.segments import Segment
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Content:
    """What an invoice is about to say. Its adjustments' lines are the last: first `late`, then
    `adjustments`."""

    rated: Rated
    late: tuple[LateLine, ...]
    adjustments: tuple[Adjustment, ...]
    #: Late usage of hours that no invoice is of.
    unbilled: list[dict[str, Any]]
    position: int
    previous_position: int
    buyer: dict[str, Any]

    @property
    def is_empty(self) -> bool:
        """Nothing was bought, used or corrected."""
        return not self.rated.lines


def set_hours(
    invoice: Invoice, cursor: InvoiceCursor, terms: Terms, custom: Custom = ALWAYS
) -> None:
    """Say which hours' usage a regular invoice is for: on those before it they follow without a
    hole, whatever became of the terms since."""
    first, until = terms.usage_hours_of(invoice.tenant, period_of(invoice), custom.stretches)
    if cursor.usage_until is not None and cursor.finalized_until == invoice.period_start:
        first = cursor.usage_until
    invoice.usage_from, invoice.usage_until = first, max(first, until)


def replaced_by(invoice: Invoice) -> Invoice | None:
    """The void invoice that this one says again; None for all others."""
    if invoice.pk is None or invoice.sequence == 1:
        return None
    found = InvoiceReplacement.objects.filter(pk=invoice.pk).select_related("replaces").first()
    return found.replaces if found else None


def gather(
    invoice: Invoice,
    cursor: InvoiceCursor,
    *,
    position: int,
    terms: Terms,
    prices: Book,
    ahead: Ahead = NOTHING,
) -> Content:
    """Rate an invoice on what the ledger holds up to `position`, at which the account stands or
    stood a moment ago."""
    tenant, period = invoice.tenant, period_of(invoice)
    custom = custom_of(tenant, cursor)
    is_regular = invoice.kind == Invoice.Kind.REGULAR
    is_again = replaced_by(invoice) is not None
    after = cursor.position
    if is_again:
        # The same usage: what was posted since is, or will be, late on other invoices.
        position, after = invoice.ledger_position, invoice.previous_position
    elif is_regular:
        set_hours(invoice, cursor, terms, custom)
    begins = invoice.usage_from if is_regular else cursor.usage_until
    late: list[LateLine] = []
    unbilled: list[dict[str, Any]] = []
    if begins is not None and position > after:
        found = late_usage(tenant.pk, after=after, upto=position, before=begins, custom=custom)
        billed = billed_by(tenant, after, found)
        upto = position if is_again else None
        late, unbilled = late_lines(tenant, found, billed, terms, custom, upto)
        if is_again and not is_regular:
            unbilled = []  # of periods that were invoiced since
    segments: Sequence[Segment] = ()
    usage = []
    if is_regular:
        segments = terms.segments_of(tenant, period, custom.stretches)
        cut = stretches(invoice, period, segments)
        usage = (
            usage_as_of(tenant.pk, cut, position, custom)
            if is_again
            else ahead.usage_at(tenant.pk, position, cut, custom)
        )
    identity = ahead.identity_of(tenant)
    rows = tuple(approved_of(tenant, cursor) if ahead.may_be_adjusted(tenant.pk) else ())
    rated = rate(
        period,
        segments,
        usage,
        discounts=terms.discounts_of(tenant, period) if is_regular else (),
        adjustments=[*(line.adjustment for line in late), *map(_adjustment, rows)],
        tax=parties.tax_of(identity),
        wallet=prices.wallet_balance(tenant) if ahead.may_have_prepaid(tenant.pk) else ZERO,
    )
    return Content(
        rated,
        tuple(late),
        rows,
        unbilled,
        position,
        after,
        parties.buyer_copy(identity),
    )


def _adjustment(row: Adjustment) -> rating.Adjustment:
    original = None
    if row.original_start is not None and row.original_end is not None:
        original = (row.original_start, row.original_end)
    return rating.Adjustment(
        code=row.code,
        name=row.name,
        amount=row.amount,
        original=original,
        is_taxable=row.is_taxable,
    )


def fill(invoice: Invoice, content: Content, ahead: Ahead = NOTHING) -> None:
    """Put content into a draft's own row, which the caller saves."""
    rated = content.rated
    invoice.currency = CURRENCY
    invoice.seller = parties.seller_copy(ahead.seller())
    invoice.buyer = content.buyer
    invoice.tax = parties.tax_copy(rated.tax)
    invoice.segments = [frozen.segment_of(segment) for segment in rated.segments]
    invoice.unmetered = [
        *frozen.sources_of(rated.unmetered),
        *({**source, "is_late": True} for source in content.unbilled),
    ]
    for name in ("subtotal", "tax_total", "total", "prepaid", "due"):
        setattr(invoice, name, getattr(rated, name))
    invoice.ledger_position = content.position
    invoice.previous_position = content.previous_position


def write_lines(invoice: Invoice, content: Content, *, is_new: bool = False) -> list[InvoiceLine]:
    """The lines of a saved draft, in place of those it had. Inside a transaction that has locked
    the draft."""
    lines = list(_lines(invoice, content))
    if not is_new:
        # Past the queryset's look at what is frozen: the lock's holder knows, a trigger too.
        rows = InvoiceLine.objects.filter(invoice=invoice)
        rows._raw_delete(rows.db)
    InvoiceLine.objects.bulk_create(lines)
    return lines


def _lines(invoice: Invoice, content: Content) -> Iterable[InvoiceLine]:
    lines = content.rated.lines
    first = len(lines) - len(content.late) - len(content.adjustments)
    late = dict(enumerate(content.late, start=first))
    for place, line in enumerate(lines):
        fees = [part for part in line.parts if isinstance(part, FeePart)]
        yield InvoiceLine(
            invoice=invoice,
            place=place + 1,
            kind=line.kind.value,
            code=line.code,
            name=line.name[:200],
            reason=line.reason,
            quantity=line.quantity,
            unit=str(line.unit),
            amount=line.amount,
            net=line.net,
            tax_percent=line.tax_percent,
            tax=line.tax,
            parts=frozen.parts_of(line),
            sources=late[place].sources if place in late else frozen.sources_of(line.sources),
            window_start=fees[0].start if fees else None,
            window_end=fees[-1].end if fees else None,
            original_start=line.original[0] if line.original else None,
            original_end=line.original[1] if line.original else None,
        )


def account_position(tenant_id: int) -> int:
    """How many entries were posted to a tenant's account so far."""
    found = Account.objects.filter(pk=tenant_id).values_list("last_position", flat=True).first()
    return found or 0


def refuse_never(tenant: Tenant, cursor: InvoiceCursor) -> None:
    """Raises InvoicingError for our own and demo tenants that never were customers."""
    if custom_of(tenant, cursor).is_never:
        raise InvoicingError(f"{tenant} is {tenant.get_kind_display()}: metered, never invoiced")


@transaction.atomic
def draft_invoice(
    tenant: Tenant,
    period: Period,
    *,
    terms: Terms | None = None,
    ahead: Ahead = NOTHING,
    cursor: InvoiceCursor | None = None,
) -> Invoice:
    """The draft of a tenant's period, as it would be now; that of before is made again. A finalized
    invoice is answered as it is (`again.py` makes one in place of a void one). `cursor` is the
    tenant's, where the caller has locked it.

    Raises InvoicingError for who never was a customer.
    """
    prices = book()
    cursor = cursor or lock_cursor(tenant.pk)
    refuse_never(tenant, cursor)
    # Whoever makes an invoice of this tenant holds the cursor, so there is no other between these.
    found = Invoice.objects.select_for_update().filter(
        tenant=tenant,
        period_start=period.start,
        kind=Invoice.Kind.REGULAR,
    )
    invoice = found.order_by("-sequence").first() or new_draft(tenant, period)
    return redraft(invoice, cursor, terms or prices.load([tenant]), prices, ahead)


def new_draft(tenant: Tenant, period: Period) -> Invoice:
    """A draft of a period, empty and not saved."""
    return Invoice(
        tenant=tenant,
        period_start=period.start,
        period_end=period.end,
        full_end=period.full_end,
        is_first_period=period.is_first,
        interval_unit=period.interval.unit.value,
        interval_every=period.interval.every,
    )


@retried
@transaction.atomic
def draft_one_off(tenant: Tenant, *, now: datetime | None = None) -> Invoice:
    """A draft of what waits for the next invoice (approved adjustments, late usage), for when there
    is no next one, or it should not wait.

    Raises NotYetError where nothing waits, InvoicingError for who never was a customer.
    """
    prices = book()
    cursor = lock_cursor(tenant.pk)
    refuse_never(tenant, cursor)
    rows = Invoice.objects.filter(tenant=tenant, kind=Invoice.Kind.ONE_OFF)
    invoice = rows.filter(state=Invoice.State.DRAFT, replacement_of=None).first()
    if invoice is None:
        invoice = Invoice(tenant=tenant, kind=Invoice.Kind.ONE_OFF, sequence=next_sequence(rows))
    invoice = redraft(invoice, cursor, prices.load([tenant]), prices, now=now)
    if not invoice.lines.exists():
        raise NotYetError(f"nothing waits to be invoiced to {tenant}")
    return invoice


def next_sequence(rows: QuerySet[Invoice]) -> int:
    """The number of another invoice beside `rows`."""
    return (rows.aggregate(last=Max("sequence"))["last"] or 0) + 1


def date_one_off(invoice: Invoice, at: datetime) -> None:
    """A one-off is of the moment in which it is made: what it corrects was invoiced before."""
    if invoice.kind == Invoice.Kind.ONE_OFF:
        at = at.replace(microsecond=0)
        invoice.period_start = invoice.period_end = invoice.full_end = at


@retried
@transaction.atomic
def refresh(invoice: Invoice) -> Invoice:
    """Make a draft again. Raises InvoicingError when it is no draft any more."""
    prices = book()
    cursor = lock_cursor(invoice.tenant_id)
    locked = Invoice.objects.select_for_update().get(pk=invoice.pk)
    if locked.is_finalized:
        raise InvoicingError(f"{locked} is finalized: credit it")
    return redraft(locked, cursor, prices.load([locked.tenant]), prices)


def redraft(
    invoice: Invoice,
    cursor: InvoiceCursor,
    terms: Terms,
    prices: Book,
    ahead: Ahead = NOTHING,
    now: datetime | None = None,
) -> Invoice:
    """Make a draft again, in a transaction that holds the cursor."""
    if invoice.is_finalized:
        return invoice
    date_one_off(invoice, now or timezone.now())
    tenant_id = invoice.tenant_id
    is_read = tenant_id in ahead.tenants
    content = gather(
        invoice,
        cursor,
        position=ahead.positions.get(tenant_id, 0) if is_read else account_position(tenant_id),
        terms=terms,
        prices=prices,
        ahead=ahead,
    )
    fill(invoice, content, ahead)
    invoice.drafted_at = timezone.now()
    is_new = invoice.pk is None
    invoice.save_locked()
    write_lines(invoice, content, is_new=is_new)
    return invoice
