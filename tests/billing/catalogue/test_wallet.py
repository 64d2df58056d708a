"""A wallet never holds less than nothing, whoever spends at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.catalogue.wallet import Kind, enter, spend_up_to, wallet_balance
from billing.models import Wallet, WalletEntry
from tenants.models import Tenant
from tests.billing.catalogue.books import make_tenant


@pytest.mark.django_db(transaction=True)
def test_spending_at_once() -> None:
    tenant = make_tenant()

    def spend(n: int) -> Decimal:
        try:
            if n % 7 == 0:
                enter(tenant, amount=Decimal(3), kind=Kind.TOP_UP, reference=str(n))
                return Decimal(0)
            return spend_up_to(tenant, Decimal("1.99"), reference=str(n))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        taken = sum(pool.map(spend, range(35)))
    entries = list(WalletEntry.objects.order_by("id"))
    balance = Decimal(0)
    for entry in entries:
        balance += entry.amount
        assert entry.balance == balance >= 0
    assert wallet_balance(tenant) == balance == 5 * 3 - taken


@pytest.mark.django_db
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.sampled_from(list(Kind)), st.decimals(-100, 100, places=2)), max_size=15)
)
def test_the_balance_is_the_sum(moves: list[tuple[Kind, Decimal]]) -> None:
    with transaction.atomic():
        tenant, balance = make_tenant(), Decimal(0)
        for kind, amount in moves:
            fits_kind = amount * {"top_up": 1, "spend": -1, "expiry": -1}.get(kind, 1) > 0 or (
                kind in {Kind.REFUND, Kind.ADJUSTMENT} and amount != 0
            )
            try:
                enter(tenant, amount=amount, kind=kind)
            except ValidationError:
                assert not fits_kind or balance + amount < 0
            else:
                assert fits_kind
                balance += amount
            assert wallet_balance(tenant) == balance
        transaction.set_rollback(True)


@pytest.mark.django_db
@pytest.mark.parametrize("amount", ["0.001", "NaN", "Infinity", "1e18", "0"])
def test_what_is_no_amount(amount: str) -> None:
    with pytest.raises(ValidationError, match="amount"):
        enter(make_tenant(), amount=Decimal(amount), kind=Kind.TOP_UP)


@pytest.mark.django_db
def test_the_database_refuses_debts() -> None:
    tenant: Tenant = make_tenant()
    enter(tenant, amount=Decimal(5), kind=Kind.TOP_UP)
    with pytest.raises(DatabaseError), transaction.atomic():
        Wallet.objects.update(balance=-1)
    with pytest.raises(DatabaseError), transaction.atomic():
        WalletEntry.objects.create(tenant=tenant, amount=5, kind=Kind.SPEND, balance=10)
