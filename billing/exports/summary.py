"""Does everything of a period tie together? The rows of the summary, and the check of the books."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from billing.exports import balances, credit_notes, deferred, invoices, journal, lines, wallets
from billing.exports.accounts import Account, Entry
from billing.exports.csv import flag, number, text
from billing.exports.scope import PAGE_DOCUMENTS, Row, Scope, pages
from billing.invoicing.reconcile import carried_first, reconcile_these
from billing.metering.reconcile import reconcile
from billing.models import PaymentAllocation

ZERO = Decimal("0.00")
COLUMNS = (
    *text("period", "check", "one", "other"),
    *number("one_amount", "other_amount", "difference"),
    *flag("is_equal"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """Two figures that are the same if the books are right, and what each of them is."""

    name: str
    one: str
    other: str
    one_amount: Decimal | int
    other_amount: Decimal | int

    @property
    def is_equal(self) -> bool:
        """Whether they are."""
        return self.one_amount == self.other_amount


@dataclass(slots=True)
class _Journal:
    """What of a journal is compared: it is read once and not kept."""

    unbalanced: int = 0
    debits: Decimal = ZERO
    credits: Decimal = ZERO
    moved: dict[str, Decimal] = field(default_factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.unbalanced += not entry.is_balanced
            for account, amount in entry.postings:
                self.moved[account] = self.moved.get(account, ZERO) + amount
                if amount > 0:
                    self.debits += amount
                else:
                    self.credits -= amount


def checks(scope: Scope, *, with_ledger: bool = True) -> Iterator[Check]:
    """All checks of a period. `with_ledger` also compares each invoice with the usage ledger, and
    the ledger with its batches, as `manage.py reconcile` does."""
    yield from _sums(scope)
    read = _Journal()
    read.add(journal.entries(scope))
    yield Check("entries", "entries that do not balance", "none", read.unbalanced, 0)
    yield Check("journal", "debits", "credits", read.debits, read.credits)
    yield from _rolled(scope, read.moved)
    if with_ledger:
        yield Check("ledger", "differences between usage and invoices", "none", _usage(scope), 0)


def rows(scope: Scope) -> Iterator[Row]:
    """The same as rows, without the ledger: somebody waits for them."""
    for check in checks(scope, with_ledger=False):
        yield row_of(scope, check)


def row_of(scope: Scope, check: Check) -> Row:
    """A check as it stands in the summary."""
    amounts = (check.one_amount, check.other_amount, check.one_amount - check.other_amount)
    return (str(scope), check.name, check.one, check.other, *amounts, check.is_equal)


def _sums(scope: Scope) -> Iterator[Check]:
    """Lines and what they are of."""
    names = ("subtotal", "tax_total", "total", "due", "prepaid")
    invoiced = [ZERO] * 5
    of_lines = [ZERO] * 3
    for (_, _, *amounts), found in lines.with_lines(
        invoices.chosen(scope), names, ("amount", "tax", "net")
    ):
        invoiced = [a + b for a, b in zip(invoiced, amounts, strict=True)]
        for line in found:
            of_lines = [a + b for a, b in zip(of_lines, line, strict=True)]
    subtotal, tax, total, due, prepaid = invoiced
    yield Check("invoices", "lines, amount", "invoices, subtotal", of_lines[0], subtotal)
    yield Check("invoices", "lines, net", "invoices, subtotal", of_lines[2], subtotal)
    yield Check("invoices", "lines, tax", "invoices, tax_total", of_lines[1], tax)
    yield Check("invoices", "subtotal and tax_total", "total", subtotal + tax, total)
    yield Check("invoices", "due and prepaid", "total", due + prepaid, total)
    yield _carried(scope)
    credited = [ZERO] * 2
    of_lines = [ZERO] * 2
    for (_, _, *amounts), found in credit_notes.with_lines(
        credit_notes.chosen(scope), ("subtotal", "tax_total"), ("amount", "tax")
    ):
        credited = [a + b for a, b in zip(credited, amounts, strict=True)]
        for amount, tax in found:
            of_lines = [of_lines[0] + amount, of_lines[1] + tax]
    yield Check("credit notes", "lines, amount", "notes, subtotal", of_lines[0], credited[0])
    yield Check("credit notes", "lines, tax", "notes, tax_total", of_lines[1], credited[1])


def _carried(scope: Scope) -> Check:
    """What invoices say was carried, and what is booked of it as they were finalized."""
    said = booked = ZERO
    chosen = invoices.chosen(scope).exclude(carried=0).order_by()
    for page in pages(chosen, ("number",), ("pk", "carried"), size=PAGE_DOCUMENTS):
        rows: dict[int, list[tuple[str, Decimal]]] = defaultdict(list)
        found = PaymentAllocation.objects.filter(invoice__in=[pk for _, pk, _ in page])
        for pk, kind, amount in found.order_by("pk").values_list("invoice", "kind", "amount"):
            rows[pk or 0].append((kind, amount))
        for _, pk, carried in page:
            said, booked = said + carried, booked + carried_first(carried, rows[pk])
    return Check("invoices", "carried", "booked as they were finalized", said, booked)


def _rolled(scope: Scope, moved: dict[str, Decimal]) -> Iterator[Check]:
    """What the journal moved, and what the balances of before and after say."""
    before, after = (
        sum((row.balance for row in balances.open_at(at, scope.tenant)), start=ZERO)
        for at in (scope.start, scope.end)
    )
    receivables = moved.get(Account.RECEIVABLES, ZERO)
    other = "open invoices at the end"
    yield Check("receivables", "open before and the journal", other, before + receivables, after)
    opening = closing = parts = ZERO
    for _, first, *between, last in wallets.rows(scope):
        opening, closing = opening + first, closing + last
        parts += sum(between, start=ZERO)
    told = "opening and movements"
    yield Check("wallets", told, "balances at the end", opening + parts, closing)
    held = opening - moved.get(Account.WALLETS, ZERO)
    yield Check("wallets", "opening and the journal", "balances at the end", held, closing)
    opening = closing = ZERO
    for _, first, *_, last in deferred.rows(scope):
        opening, closing = opening + first, closing + last
    held = opening - moved.get(Account.DEFERRED, ZERO)
    yield Check("deferred", "opening and the journal", "not earned at the end", held, closing)


def _usage(scope: Scope) -> int:
    """How many differences there are between batches, ledger and rollups, and between the ledger
    and the invoices of the period."""
    found = sum(1 for _ in reconcile(*scope.months)) if scope.tenant is None else 0
    return found + sum(1 for _ in reconcile_these(invoices.chosen(scope)))
