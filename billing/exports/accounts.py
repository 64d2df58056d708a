"""The accounts of the journal, and what an entry is: pure.

Assets and losses grow by debits, debts and revenue by credits. Amounts here are signed: above 0 a
debit, below 0 a credit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal("0.00")


class Account(StrEnum):
    """An account, by the name that stands in the journal. Cash is one for each method."""

    RECEIVABLES = "receivables"
    CASH = "cash"
    #: Money that came in and is for no invoice yet.
    UNAPPLIED = "unapplied_payments"
    WALLETS = "wallet_liability"
    TAX = "tax_payable"
    DEFERRED = "deferred_revenue"
    SUBSCRIPTIONS = "revenue_subscriptions"
    USAGE = "revenue_usage"
    ONE_OFF = "revenue_one_off"
    EXPIRED = "revenue_expired_credit"
    #: What discounts take off and what credit notes take back, both below revenue.
    DISCOUNTS = "discounts"
    RETURNS = "sales_returns"
    BAD_DEBT = "bad_debt"
    #: Credit that was given or corrected by hand.
    GOODWILL = "wallet_adjustments"
    #: Between a wallet and the invoice it paid; between two invoices. Each is empty after both ends
    #: of a movement are booked.
    WALLET_TRANSFERS = "wallet_transfers"
    INVOICE_TRANSFERS = "invoice_transfers"


def cash(method: str) -> str:
    """The cash account of a method of payment."""
    return f"{Account.CASH}_{method}"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened, once: `id` names the row it is derived from. The `postings` of an
    entry are accounts and signed amounts."""

    id: str
    at: datetime
    journal: str
    tenant: str
    document: str
    text: str
    postings: tuple[tuple[str, Decimal], ...]

    @property
    def is_balanced(self) -> bool:
        """Whether debits are credits."""
        return sum(amount for _, amount in self.postings) == 0


def postings(*pairs: tuple[str, Decimal]) -> tuple[tuple[str, Decimal], ...]:
    """One sum for each account, in order, without those that come to nothing."""
    sums: dict[str, Decimal] = {}
    for account, amount in pairs:
        sums[str(account)] = sums.get(str(account), ZERO) + amount
    return tuple((account, amount) for account, amount in sums.items() if amount)


def movements(entries: Iterable[Entry]) -> dict[str, Decimal]:
    """What entries add to each account."""
    sums: dict[str, Decimal] = {}
    for entry in entries:
        for account, amount in entry.postings:
            sums[account] = sums.get(account, ZERO) + amount
    return sums


def revenue_account(kind: str, code: str) -> Account:
    """Where a line of an invoice belongs, by its kind and code."""
    match kind:
        case "plan_fee" | "add_on_fee":
            return Account.SUBSCRIPTIONS
        case "usage" | "zero_rated":
            return Account.USAGE
        case "discount":
            return Account.DISCOUNTS
    return Account.USAGE if code == "late-usage" else Account.ONE_OFF
