"""Drafts: what an invoice would say if it were finalized now. One a tenant and period, also for two
beats, and made again as often as wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from billing.invoicing import frozen, parties
from billing.invoicing.ahead import NOTHING, Ahead
from billing.invoicing.errors import InvoicingError, NotYetError
from billing.invoicing.locks import is_invoiced, lock_cursor
from billing.invoicing.retrying import retried
from billing.invoicing.terms_port import Book, Terms, book
from billing.invoicing.usage import (
    Late,
    by_place,
    hours_of,
    late_usage,
    less,
    stretches,
    usage_of,
)
from billing.models import Account, Adjustment, Invoice, InvoiceCursor, InvoiceLine
from billing.rating import invoice as rating
from billing.rating.invoice import FeePart, Rated
from billing.rating.money import CURRENCY, ZERO
from billing.rating.periods import Period
from billing.rating.prices import Interval, Unit
from billing.rating.rate import rate
from tenants.models import Tenant

LATE_USAGE = "late-usage"


@dataclass(frozen=True, slots=True)
class LateLine:
    """Late usage of an earlier period: what it adds to that period's price."""

    adjustment: rating.Adjustment
    sources: list[dict[str, Any]]


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


def period_of(invoice: Invoice) -> Period:
    """The period as rating knows it."""
    interval = Interval(Unit(invoice.interval_unit or Unit.MONTH), invoice.interval_every)
    return Period(
        invoice.period_start,
        invoice.period_end,
        invoice.full_end,
        interval,
        is_first=invoice.is_first_period,
    )


def set_hours(invoice: Invoice, cursor: InvoiceCursor, terms: Terms) -> None:
    """Say which hours' usage a regular invoice is for: on those before it they follow without a
    hole, whatever became of the terms since."""
    first, until = terms.usage_hours_of(invoice.tenant, period_of(invoice))
    if cursor.usage_until is not None and cursor.finalized_until == invoice.period_start:
        first = cursor.usage_until
    invoice.usage_from, invoice.usage_until = first, max(first, until)


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
    is_regular = invoice.kind == Invoice.Kind.REGULAR
    if is_regular:
        set_hours(invoice, cursor, terms)
    begins = invoice.usage_from if is_regular else cursor.usage_until
    late: list[LateLine] = []
    unbilled: list[dict[str, Any]] = []
    if begins is not None and position > cursor.position:
        found = late_usage(tenant.pk, after=cursor.position, upto=position, before=begins)
        late, unbilled = _late_lines(tenant, found, terms)
    segments = terms.segments_of(tenant, period) if is_regular else ()
    usage = []
    if is_regular:
        usage = ahead.usage_at(tenant.pk, position, stretches(invoice, period, segments))
    identity = ahead.identity_of(tenant)
    waiting = Adjustment.objects.filter(tenant=tenant, state=Adjustment.State.APPROVED)
    rows = tuple(waiting.order_by("pk") if ahead.may_be_adjusted(tenant.pk) else ())
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
        cursor.position,
        parties.buyer_copy(identity),
    )


def _late_lines(
    tenant: Tenant, found: Sequence[Late], terms: Terms
) -> tuple[list[LateLine], list[dict[str, Any]]]:
    """A line for each earlier period: the difference between its price now and its price without
    what came late, both on the same terms."""
    by_invoice: dict[Invoice, list[Late]] = defaultdict(list)
    unbilled: list[Late] = []
    billed = list(
        Invoice.objects.finalized()
        .filter(tenant=tenant, kind=Invoice.Kind.REGULAR, usage_until__gt=found[0].hour)
        .order_by("period_start")
        if found
        else ()
    )
    ranges = [(hours_of(invoice), invoice) for invoice in billed]
    for row in found:
        owners = (invoice for (start, end), invoice in ranges if start <= row.hour < end)
        owner = next(owners, None)
        (unbilled if owner is None else by_invoice[owner]).append(row)
    lines = []
    for invoice, rows in by_invoice.items():
        period = period_of(invoice)
        segments = terms.segments_of(tenant, period)
        discounts = terms.discounts_of(tenant, period)
        cut = stretches(invoice, period, segments)
        after = usage_of(tenant.pk, cut)
        before = less(after, rows, cut)
        prices = [
            rate(period, segments, usage, discounts=discounts).subtotal for usage in (after, before)
        ]
        adjustment = rating.Adjustment(
            code=LATE_USAGE,
            name=f"Late usage of {period.start:%Y-%m-%d} to {period.end:%Y-%m-%d} "
            f"(invoice {invoice.number})",
            amount=prices[0] - prices[1],
            original=(period.start, period.end),
        )
        lines.append(LateLine(adjustment, by_place(rows)))
    return lines, by_place(unbilled)


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
    invoice is answered as it is. `cursor` is the tenant's, where the caller has locked it.

    Raises InvoicingError for our own and demo tenants.
    """
    if not is_invoiced(tenant):
        raise InvoicingError(f"{tenant} is {tenant.get_kind_display()}: metered, never invoiced")
    prices = book()
    cursor = cursor or lock_cursor(tenant.pk)
    # Whoever makes an invoice of this tenant holds the cursor, so there is no other between these.
    found = Invoice.objects.select_for_update().filter(
        tenant=tenant,
        period_start=period.start,
        kind=Invoice.Kind.REGULAR,
        sequence=1,
    )
    invoice = next(iter(found.order_by()), None) or new_draft(tenant, period)
    return _redraft(invoice, cursor, terms or prices.load([tenant]), prices, ahead)


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

    Raises NotYetError where nothing waits, InvoicingError for our own and demo tenants.
    """
    if not is_invoiced(tenant):
        raise InvoicingError(f"{tenant} is {tenant.get_kind_display()}: metered, never invoiced")
    prices = book()
    cursor = lock_cursor(tenant.pk)
    at = (now or timezone.now()).replace(microsecond=0)
    rows = Invoice.objects.filter(tenant=tenant, kind=Invoice.Kind.ONE_OFF)
    invoice = rows.filter(state=Invoice.State.DRAFT).first()
    if invoice is None:
        invoice = Invoice.objects.create(
            tenant=tenant,
            kind=Invoice.Kind.ONE_OFF,
            sequence=rows.count() + 1,
            period_start=at,
            period_end=at,
            full_end=at,
        )
    invoice = _redraft(invoice, cursor, prices.load([tenant]), prices)
    if not invoice.lines.exists():
        raise NotYetError(f"nothing waits to be invoiced to {tenant}")
    return invoice


@retried
@transaction.atomic
def refresh(invoice: Invoice) -> Invoice:
    """Make a draft again. Raises InvoicingError when it is no draft any more."""
    prices = book()
    cursor = lock_cursor(invoice.tenant_id)
    locked = Invoice.objects.select_for_update().get(pk=invoice.pk)
    if locked.is_finalized:
        raise InvoicingError(f"{locked} is finalized: credit it")
    return _redraft(locked, cursor, prices.load([locked.tenant]), prices)


def _redraft(
    invoice: Invoice,
    cursor: InvoiceCursor,
    terms: Terms,
    prices: Book,
    ahead: Ahead = NOTHING,
) -> Invoice:
    if invoice.is_finalized:
        return invoice
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
