"""Do finalized invoices say what the ledger says? The invoices' part of `manage.py reconcile`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.db import transaction
from django.db.models import Count, QuerySet

from billing.invoicing import crediting
from billing.invoicing.finalize import adds_up
from billing.invoicing.kinds import custom_from
from billing.invoicing.late import LATE_USAGE
from billing.invoicing.standing import ZERO, stand_by, stand_of
from billing.invoicing.usage import Place
from billing.invoicing.walk import Found, Walk
from billing.metering.reconcile import Difference
from billing.models import (
    CreditNote,
    CreditNoteLine,
    Invoice,
    InvoiceCursor,
    InvoiceEvent,
    InvoiceLine,
    InvoiceReplacement,
    InvoiceStanding,
    KindChange,
    NumberSeries,
    PaymentAllocation,
)

#: Invoices looked at together, but that those of a tenant stay together.
_PAGE = 300


def reconcile_invoices(start: date = date.min, end: date = date.max) -> Iterator[Difference]:
    """All differences of invoices whose period ends within the UTC days `[start, end)`: their usage
    and the ledger, their sums and hashes, where they stand, and holes in the numbers."""
    rows = Invoice.objects.finalized()
    if start > date.min:
        rows = rows.filter(period_end__gte=datetime(start.year, start.month, start.day, tzinfo=UTC))
    if end < date.max:
        rows = rows.filter(period_end__lt=datetime(end.year, end.month, end.day, tzinfo=UTC))
    yield from reconcile_these(rows)
    yield from _numbers()


def reconcile_these(chosen: QuerySet[Invoice]) -> Iterator[Difference]:
    """The differences of chosen invoices, all finalized: sums and hash, usage, where they stand;
    and whether those of their tenants follow on each other. The invoices before them say which
    hours are billed, so they are read too, but not their entries; some hundreds at once."""
    for tenants in _pages(chosen):
        page = _Page(tenants)
        reached: dict[int, int] = {}
        wanted = set(chosen.filter(tenant__in=tenants).order_by().values_list("pk", flat=True))
        for tenant, invoices in groupby(page.invoices, key=lambda invoice: invoice.tenant_id):
            walk = Walk(tenant, page.customs[tenant])
            upto = None
            for invoice in invoices:
                lines, is_again = page.lines[invoice.pk], invoice.pk in page.again
                if invoice.pk not in wanted:
                    walk.skip(invoice, is_again=is_again)
                else:
                    found = walk.next(invoice, is_again=is_again)
                    yield from _sums(invoice, lines, page.notes[invoice.pk])
                    yield from _credited(invoice, lines, page.credits_of(invoice))
                    yield from page.carried_of(invoice)
                    yield from _usage(invoice, lines, found)
                    yield from page.standing_of(invoice)
                if is_again:
                    continue
                previous, position = invoice.previous_position, invoice.ledger_position
                # A period without an invoice moves the cursor too, so there may be a step, never
                # back.
                if previous > position or (upto is not None and previous < upto):
                    where = f"{invoice} tenant {tenant}"
                    yield Difference("positions", where, f"begins at {previous}, not {upto}")
                upto = position
            reached[tenant] = upto or 0
        yield from _cursors(reached)


def _pages(chosen: QuerySet[Invoice]) -> Iterator[list[int]]:
    """Tenants of chosen invoices, as many as have a page of them."""
    rows = Invoice.objects.finalized().filter(tenant__in=chosen.order_by().values("tenant"))
    page: list[int] = []
    held = 0
    counts = rows.order_by("tenant").values_list("tenant").annotate(number=Count("pk"))
    for tenant, number in list(counts):
        if page and held + number > _PAGE:
            yield page
            page, held = [], 0
        page.append(tenant)
        held += number
    if page:
        yield page


class _Page:
    """All finalized invoices of some tenants, with what is beside them, in a few statements."""

    def __init__(self, tenants: list[int]) -> None:
        rows = Invoice.objects.finalized().filter(tenant__in=tenants)
        self.invoices = list(rows.order_by("tenant", *Walk.ORDER))
        ids = [invoice.pk for invoice in self.invoices]
        self.lines: dict[int, list[InvoiceLine]] = defaultdict(list)
        for line in InvoiceLine.objects.filter(invoice__in=ids).order_by("invoice", "place"):
            self.lines[line.invoice_id].append(line)
        self.notes: dict[int, list[CreditNote]] = defaultdict(list)
        for note in CreditNote.objects.filter(invoice__in=ids, number__isnull=False).order_by("pk"):
            self.notes[note.invoice_id].append(note)
        numbers = [note.pk for notes in self.notes.values() for note in notes if note.seller]
        self._credits: dict[int, list[tuple[int, Decimal]]] = defaultdict(list)
        credits = CreditNoteLine.objects.filter(credit_note__in=numbers).order_by()
        for pk, of, amount in credits.values_list("credit_note__invoice", "line", "amount"):
            self._credits[pk].append((of, amount))
        again = InvoiceReplacement.objects.filter(pk__in=ids).order_by()
        self.again = set(again.values_list("pk", flat=True))
        changes: dict[int, list[KindChange]] = defaultdict(list)
        for change in KindChange.objects.filter(tenant__in=tenants).order_by("tenant", "number"):
            changes[change.tenant_id].append(change)
        self.customs = {tenant: custom_from(changes[tenant]) for tenant in tenants}
        self._stands = {
            pk: (state, balance)
            for pk, state, balance in InvoiceStanding.objects.filter(pk__in=ids)
            .order_by()
            .values_list("pk", "state", "balance")
        }
        self._booked: dict[int, list[tuple[str, Decimal]]] = defaultdict(list)
        booked = PaymentAllocation.objects.filter(invoice__in=ids).order_by("pk")
        for pk, kind, amount in booked.values_list("invoice", "kind", "amount"):
            if pk is not None:
                self._booked[pk].append((kind, amount))
        voided = InvoiceEvent.objects.filter(invoice__in=ids, kind=InvoiceEvent.Kind.VOIDED)
        self._void = set(voided.order_by().values_list("invoice", flat=True))

    def standing_of(self, invoice: Invoice) -> Iterator[Difference]:
        """Whether its standing is what its rows add up to, and nothing is open of a void one."""
        booked, is_void = self._booked[invoice.pk], invoice.pk in self._void
        found = stand_by(invoice.due, booked, is_void=is_void)
        is_open = is_void and found.balance > 0
        if is_open or self._stands.get(invoice.pk) != found:
            yield from _standing(invoice)

    def carried_of(self, invoice: Invoice) -> Iterator[Difference]:
        """Whether what was carried as it was finalized is booked, before anything else is."""
        found = carried_first(invoice.carried, self._booked[invoice.pk])
        if found != invoice.carried:
            where = f"says {invoice.carried}, bookings {found}"
            yield Difference("carried", str(invoice), where)

    def credits_of(self, invoice: Invoice) -> list[tuple[int, Decimal]]:
        """What its credit notes took of which line; none where some were issued before it was said
        what was paid for each line: those took of `amount`."""
        if all(note.seller for note in self.notes[invoice.pk]):
            return self._credits[invoice.pk]
        return []


def carried_first(carried: Decimal, booked: Iterable[tuple[str, Decimal]]) -> Decimal:
    """What the first bookings of an invoice carry to or from others: as many as add up to `carried`
    where some do. Later ones carry what came about since."""
    found = ZERO
    for kind, amount in booked:
        if kind != PaymentAllocation.Kind.CARRY or found == carried:
            break
        found += amount
    return found


def _credited(
    invoice: Invoice, lines: list[InvoiceLine], credits: list[tuple[int, Decimal]]
) -> Iterator[Difference]:
    """Of each line at most its net is credited, and nothing is taken from what was given."""
    sums: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for pk, amount in credits:
        sums[pk] += amount
    nets = {line.pk: line.net for line in lines}
    for pk, amount in sorted(sums.items()):
        net = nets.get(pk, ZERO)
        if not min(net, ZERO) <= amount <= max(net, ZERO):
            yield Difference("credit note", str(invoice), f"{amount} of a line of {net}")


def _sums(
    invoice: Invoice, lines: list[InvoiceLine], notes: list[CreditNote]
) -> Iterator[Difference]:
    if not adds_up(invoice, lines):
        yield Difference("invoice", str(invoice), "sums or hash are not those of its lines")
    if (net := sum((line.net for line in lines), start=ZERO)) != invoice.subtotal:
        yield Difference("invoice", str(invoice), f"lines net {net}, subtotal {invoice.subtotal}")
    for note in notes:
        if not crediting.adds_up(note):
            yield Difference("credit note", str(note), "sums or hash are not those of its lines")


def _told(lines: list[dict[str, Any]]) -> Counter[Place]:
    found: Counter[Place] = Counter()
    for source in lines:
        found[source["metric"], source["channel"], source["reason"]] += source["units"]
    return found


def _compare(
    check: str, invoice: Invoice, told: Counter[Place], posted: Counter[Place]
) -> Iterator[Difference]:
    for place in sorted(told.keys() | posted.keys()):
        if told[place] != posted[place]:
            where = f"{invoice} tenant {invoice.tenant_id} {' '.join(place)}".rstrip()
            yield Difference(check, where, f"invoice {told[place]}, ledger {posted[place]}")


def _usage(invoice: Invoice, lines: list[InvoiceLine], found: Found) -> Iterator[Difference]:
    """The usage of its period up to its position, and what of it nothing charges for; and what came
    late of each earlier period since the invoice before, line by line."""
    if invoice.kind == Invoice.Kind.REGULAR:
        sources = [source for line in lines if line.code != LATE_USAGE for source in line.sources]
        own = [row for row in invoice.unmetered if not row.get("is_late")]
        yield from _compare("invoice usage", invoice, _told([*sources, *own]), found.own)
    told = {line.original_start: line.sources for line in lines if line.code == LATE_USAGE}
    for period, posted in sorted(found.late.items()):
        yield from _compare("late usage", invoice, _told(told.pop(period, [])), posted)
    for period_start in told:
        yield Difference("late usage", str(invoice), f"of {period_start}: nothing came late of it")


def _cursors(reached: dict[int, int]) -> Iterator[Difference]:
    """Cursors are at the last invoice or beyond it: so nothing was posted between two invoices that
    neither has looked at."""
    # Read after the invoices, because a cursor only moves on meanwhile.
    rows = InvoiceCursor.objects.filter(tenant__in=reached).order_by()
    cursors = dict(rows.values_list("tenant", "position"))
    for tenant, upto in reached.items():
        if cursors.get(tenant, 0) < upto:
            what = f"cursor {cursors.get(tenant)}, invoices {upto}"
            yield Difference("positions", f"tenant {tenant}", what)


def _standing(invoice: Invoice) -> Iterator[Difference]:
    """What its standing says, and what its rows add up to, with the lock of whoever settles: a
    payment may have come between two reads."""
    with transaction.atomic():
        standing = InvoiceStanding.objects.select_for_update().filter(invoice=invoice).first()
        told = None if standing is None else (standing.state, standing.balance)
        found = stand_of(invoice)
    if told != found:
        yield Difference("standing", str(invoice), f"says {told}, its rows {tuple(found)}")
    if found.state == InvoiceStanding.State.VOIDED and found.balance > 0:
        yield Difference("standing", str(invoice), f"void, and {found.balance} is open: credit it")


def _numbers() -> Iterator[Difference]:
    """All numbers of a series are on documents, from 1 on."""
    # Documents get numbers meanwhile: at least those given before, at most those given after.
    before = _series()
    given: dict[str, set[int]] = {}
    for model in (Invoice, CreditNote):
        numbers = model._default_manager.exclude(number=None).values_list("number", flat=True)
        for number in numbers.iterator():
            series, _, n = str(number).rpartition("-")
            given.setdefault(series, set()).add(int(n))
    after = _series()
    for series, last in after.items():
        found = given.pop(series, set())
        missing = set(range(1, before.get(series, 0) + 1)) - found
        wrong = sorted(missing | {n for n in found if not 1 <= n <= last})
        if wrong:
            yield Difference("numbers", series, f"{wrong[:5]} of {last}")
    for series in given:
        yield Difference("numbers", series, "no such series")


def _series() -> dict[str, int]:
    return {f"{row.prefix}-{row.year}": row.last for row in NumberSeries.objects.all()}
