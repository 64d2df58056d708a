"""What invoicing asks of the catalogue: the periods of a tenant, and the terms that held in them.

One door, so that invoices can be tested on any terms: `use(…)` puts another book in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from billing.catalogue import wallet
from billing.catalogue.terms import TermsBook
from billing.catalogue.timeline import NoTerms, Stretches
from billing.models import WalletEntry
from billing.rating.periods import Period
from billing.rating.prices import Discount
from billing.rating.segments import Segment
from tenants.models import Tenant


class Terms(Protocol):
    """The terms of some tenants."""

    def periods_between(self, tenant: Tenant, start: datetime, end: datetime) -> Sequence[Period]:
        """The periods that end within `(start, end]`, in order."""
        ...

    def period_of(self, tenant: Tenant, at: datetime) -> Period | None:
        """The period that `at` lies in; None without terms."""
        ...

    def segments_of(
        self, tenant: Tenant, period: Period, within: Stretches | None = None
    ) -> Sequence[Segment]:
        """The terms that held in it, by time; of the time `within`, without one of all."""
        ...

    def discounts_of(self, tenant: Tenant, period: Period) -> Sequence[Discount]:
        """In the order in which they are taken off."""
        ...

    def usage_hours_of(
        self, tenant: Tenant, period: Period, within: Stretches | None = None
    ) -> tuple[datetime, datetime]:
        """The half-open range of hours whose usage is of the period."""
        ...


class Book(Protocol):
    """Where terms come from, and the prepaid credit beside them."""

    def load(
        self,
        tenants: Iterable[Tenant],
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Terms:
        """The terms of these tenants in `[start, end)`, by default of all time, in a number of
        queries that does not grow with theirs."""
        ...

    def wallet_balance(self, tenant: Tenant) -> Decimal:
        """In whole cents, 0 or more."""
        ...

    def prepaid_among(self, tenants: Iterable[int]) -> set[int]:
        """Those of these tenants, by id, with something in their wallet."""
        ...

    def spend_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        """Take `amount` from the wallet, in the caller's transaction. Raises ValidationError when
        it was spent meanwhile."""
        ...

    def refill_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        """Give `amount` back to the wallet, in the caller's transaction."""
        ...


class Catalogue:
    """The terms that `billing.catalogue` keeps, and the wallets."""

    def load(
        self,
        tenants: Iterable[Tenant],
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Terms:
        return _Catalogued(TermsBook.load(tenants, start, end))

    def wallet_balance(self, tenant: Tenant) -> Decimal:
        return wallet.wallet_balance(tenant)

    def prepaid_among(self, tenants: Iterable[int]) -> set[int]:
        return wallet.prepaid_among(tenants)

    def spend_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        wallet.enter(tenant, amount=-amount, kind=WalletEntry.Kind.SPEND, reference=reference)

    def refill_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        wallet.enter(tenant, amount=amount, kind=WalletEntry.Kind.REFUND, reference=reference)


class _Catalogued:
    def __init__(self, terms: TermsBook) -> None:
        self._terms = terms
        self.periods_between = terms.periods_between
        self.segments_of = terms.segments_of
        self.discounts_of = terms.discounts_of
        self.usage_hours_of = terms.usage_hours_of

    def period_of(self, tenant: Tenant, at: datetime) -> Period | None:
        try:
            return self._terms.period_of(tenant, at)
        except NoTerms:
            return None


_made: list[Callable[[], Book]] = [Catalogue]


def book() -> Book:
    """The book in force."""
    return _made[-1]()


@contextmanager
def use(other: Book) -> Iterator[None]:
    """Ask another book meanwhile, in all threads."""
    _made.append(lambda: other)
    try:
        yield
    finally:
        _made.pop()
