"""Acme on plain terms with a real wallet, and two invoices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from billing.invoicing import terms_port
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.models import Invoice
from tenants import services
from tenants.models import APIKey, Tenant
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, PlainBook
from tests.tenants.cast import Cast

GRACE = timedelta(hours=72)


class WalletBook(PlainBook):
    """Plain terms, and the wallets that the catalogue keeps."""

    _kept = terms_port.Catalogue()

    def wallet_balance(self, tenant: Tenant) -> Decimal:
        return self._kept.wallet_balance(tenant)

    def prepaid_among(self, tenants: Iterable[int]) -> set[int]:
        return self._kept.prepaid_among(tenants)

    def refill_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        self._kept.refill_wallet(tenant, amount, reference)

    def spend_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        self._kept.spend_wallet(tenant, amount, reference)


def close(until: datetime) -> None:
    """Invoice what has ended by then."""
    close_due_periods(until)
    finalize_due(until + GRACE)


@pytest.fixture
def book() -> Iterator[WalletBook]:
    plain = WalletBook()
    with terms_port.use(plain):
        yield plain


@pytest.fixture
def invoices(cast: Cast, book: WalletBook) -> list[Invoice]:
    """Acme's of October and November, of 49.00 each; another tenant has two as well."""
    close(DECEMBER)
    return list(Invoice.objects.filter(tenant=cast.acme).order_by("period_start"))


@pytest.fixture
def october(cast: Cast, book: WalletBook) -> Invoice:
    """Acme's of October alone, issued before now: nothing was booked before it."""
    close(NOVEMBER)
    return Invoice.objects.get(tenant=cast.acme)


@pytest.fixture
def key(cast: Cast) -> APIKey:
    return services.issue_key(tenant=cast.acme, name="bot").key
