"""The double-entry journal of a period, derived from what is booked.

**Derived, not stored.** Every entry is a function of one row that never changes (a finalized
invoice, an issued credit note, a payment, an allocation, an entry of a wallet), so a second copy
could only differ from it. Once a period is locked, its entries are the same for good.

The entries come as sub-journals, each in its own order, so that nothing has to be held to be
sorted: sales, credits, receipts, settlements, wallets, recognition.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain

from django.db.models.functions import Coalesce

from billing.exports import credit_notes, deferred, invoices, lines, payments
from billing.exports.accounts import Account, Entry, cash, postings, revenue_account
from billing.exports.csv import number, text, time
from billing.exports.recognition import months
from billing.exports.scope import Row, Scope, paged
from billing.models import PaymentAllocation, WalletEntry
from billing.rating.money import CURRENCY

COLUMNS = (
    *text("entry"),
    *time("at"),
    *text("journal", "tenant", "document", "text", "account"),
    *number("debit", "credit"),
    *text("currency"),
)
_SECOND = timedelta(seconds=1)
_Kind = PaymentAllocation.Kind
_Wallet = WalletEntry.Kind
#: What an allocation debits, and what it credits; cash is by the payment's method.
_SETTLED = {
    _Kind.PAYMENT: (Account.UNAPPLIED, Account.RECEIVABLES),
    _Kind.RELEASE: (Account.UNAPPLIED, Account.RECEIVABLES),
    _Kind.REFUND: (Account.UNAPPLIED, Account.CASH),
    _Kind.CHARGEBACK: (Account.UNAPPLIED, Account.CASH),
    _Kind.WALLET: (Account.WALLET_TRANSFERS, Account.RECEIVABLES),
    _Kind.CARRY: (Account.INVOICE_TRANSFERS, Account.RECEIVABLES),
    _Kind.WRITE_OFF: (Account.BAD_DEBT, Account.RECEIVABLES),
}


def entries(scope: Scope) -> Iterator[Entry]:
    """All of the period. One without postings (an invoice of nothing) is left out."""
    found = chain(
        sales(scope),
        credits(scope),
        receipts(scope),
        settlements(scope),
        wallets(scope),
        recognition(scope),
    )
    return (entry for entry in found if entry.postings)


def rows(scope: Scope) -> Iterator[Row]:
    """A row for each posting."""
    for entry in entries(scope):
        about = (entry.id, entry.at, entry.journal, entry.tenant, entry.document, entry.text)
        for account, amount in entry.postings:
            sides = (amount, None) if amount > 0 else (None, -amount)
            yield (*about, account, *sides, CURRENCY)


def sales(scope: Scope) -> Iterator[Entry]:
    """Invoices: what is due and what the wallet paid, against revenue, what is not earned yet, and
    tax. Its two sides come from the invoice and from its lines."""
    read = ("finalized_at", "tenant__slug", "due", "prepaid", "tax_total", "period_end")
    of_line = ("kind", "code", "amount")
    for (name, pk, at, slug, due, prepaid, tax, end), found in lines.with_lines(
        invoices.chosen(scope), read, of_line
    ):
        later = sum((row.fee.deferred for row in _deferred(pk, at, end)), start=Decimal("0.00"))
        yield Entry(
            *(f"invoice:{name}", at, "sales", slug, name, "invoice"),
            postings(
                (Account.RECEIVABLES, due),
                (Account.WALLET_TRANSFERS, prepaid),
                *((revenue_account(kind, code), -amount) for kind, code, amount in found),
                (Account.SUBSCRIPTIONS, later),
                (Account.DEFERRED, -later),
                (Account.TAX, -tax),
            ),
        )


def credits(scope: Scope) -> Iterator[Entry]:
    """Credit notes: from what is not earned yet, else from sales, and from tax."""
    read = (
        *("issued_at", "invoice__tenant__slug", "total", "tax_total", "invoice", "reason"),
        *("invoice__finalized_at", "invoice__period_end"),
    )
    for (name, pk, at, slug, total, tax, invoice, reason, *times), found in credit_notes.with_lines(
        credit_notes.chosen(scope), read, ("amount",)
    ):
        taken = sum(
            (
                row.fee.taken(row.notes.index(pk))
                for row in _deferred(invoice, *times)
                if pk in row.notes
            ),
            start=Decimal("0.00"),
        )
        yield Entry(
            *(f"credit_note:{name}", at, "credits", slug, name, reason),
            postings(
                *((Account.RETURNS, amount) for (amount,) in found),
                (Account.RETURNS, -taken),
                (Account.DEFERRED, taken),
                (Account.TAX, tax),
                (Account.RECEIVABLES, -total),
            ),
        )


def _deferred(
    invoice: int, finalized_at: datetime, period_end: datetime
) -> list[deferred.Deferred]:
    return deferred.of_invoices([invoice]) if period_end > finalized_at else []


def receipts(scope: Scope) -> Iterator[Entry]:
    """Payments, when they came in: for nothing yet."""
    read = ("received_at", "tenant__slug", "method", "reference", "amount")
    for pk, at, slug, method, reference, amount in paged(payments.chosen(scope), ("pk",), read):
        yield Entry(
            *(f"payment:{pk}", at, "receipts", slug, reference, "payment"),
            postings((cash(method), amount), (Account.UNAPPLIED, -amount)),
        )


def settlements(scope: Scope) -> Iterator[Entry]:
    """What payments were used for and how they went back, write-offs, what moved between invoices.
    Credit notes are among the credits."""
    found = payments.allocated(scope).exclude(kind=_Kind.CREDIT)
    named = found.annotate(slug=Coalesce("invoice__tenant__slug", "payment__tenant__slug"))
    read = ("at", "kind", "slug", "invoice__number", "payment__reference", "payment__method")
    for pk, at, kind, slug, invoice, reference, method, amount in paged(
        named, ("pk",), (*read, "amount")
    ):
        debited, credited = _SETTLED[_Kind(kind)]
        to = cash(method) if credited is Account.CASH else credited
        yield Entry(
            *(f"allocation:{pk}", at, "settlements", slug, invoice or reference, kind),
            postings((debited, amount), (to, -amount)),
        )


def wallets(scope: Scope) -> Iterator[Entry]:
    """Entries of wallets. What an invoice spent, or a credit note gave back, goes through the
    account that the invoice's own entry is booked on."""
    found = WalletEntry.objects.filter(**scope.within("created_at"), **scope.of())
    read = ("created_at", "tenant__slug", "kind", "amount", "reference")
    for pk, at, slug, kind, amount, reference in paged(found, ("pk",), read):
        yield Entry(
            *(f"wallet:{pk}", at, "wallets", slug, reference, kind),
            postings((_wallet_side(kind, amount, reference), amount), (Account.WALLETS, -amount)),
        )


def _wallet_side(kind: str, amount: Decimal, reference: str) -> str:
    match kind:
        case _Wallet.TOP_UP:
            return cash("wallet_top_up")
        case _Wallet.SPEND:
            is_of_invoice = reference.startswith("invoice #")
            return Account.WALLET_TRANSFERS if is_of_invoice else Account.ONE_OFF
        case _Wallet.EXPIRY:
            return Account.EXPIRED
        case _Wallet.REFUND if reference.startswith("credit note #"):
            return Account.WALLET_TRANSFERS
        case _Wallet.REFUND if amount < 0:
            return cash("wallet_top_up")
    return Account.GOODWILL


def recognition(scope: Scope) -> Iterator[Entry]:
    """What of the deferred fees was earned, month by month, at the end of each."""
    for row in deferred.within(scope):
        for start, end in months(scope.start, scope.end):
            earned = row.fee.earned(start, end)
            at = min(end, max(row.fee.end, start + _SECOND)) - _SECOND
            yield Entry(
                f"recognition:{row.invoice}/{row.place}:{start:%Y-%m}",
                *(at, "recognition", row.tenant, row.invoice, f"earned in {start:%Y-%m}"),
                postings((Account.DEFERRED, earned), (Account.SUBSCRIPTIONS, -earned)),
            )
