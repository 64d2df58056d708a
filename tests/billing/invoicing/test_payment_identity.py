"""What makes two records of a payment one, and what two."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.invoicing import payments
from billing.invoicing.errors import InvoicingError
from billing.models import Payment
from tests.tenants.cast import Cast

AT = datetime(2026, 11, 10, 9, tzinfo=UTC)
TRANSFERS = st.lists(
    st.fixed_dictionaries(
        {
            "amount": st.sampled_from([Decimal("20.00"), Decimal("20.01")]),
            "reference": st.sampled_from(["rent", "fee", "E1"]),
            "external_id": st.sampled_from(["", "", "E1", "E2"]),
            "received_at": st.sampled_from([AT, AT + timedelta(hours=3), AT + timedelta(days=1)]),
        }
    ),
    max_size=8,
)


def said(transfer: dict[str, Any]) -> tuple[Any, ...]:
    names = ("amount", "reference", "external_id")
    return (*(transfer[name] for name in names), transfer["received_at"].date())


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(transfers=TRANSFERS)
def test_the_same_is_one_and_another_is_refused(
    cast: Cast, transfers: list[dict[str, Any]]
) -> None:
    """Against a dictionary: what it is known by → the first that was said under it."""
    with transaction.atomic():
        known: dict[str, dict[str, Any]] = {}
        for transfer in transfers:
            identity = transfer["external_id"] or transfer["reference"]
            first = known.setdefault(identity, transfer)
            if said(first) != said(transfer):
                with pytest.raises(InvoicingError, match=r"\A[^\n]* as its external id\Z"):
                    payments.record_payment(cast.acme, method="bank_transfer", **transfer)
                continue
            made = payments.record_payment(cast.acme, method="bank_transfer", **transfer)
            assert made.was_known == (first is not transfer)
        assert Payment.objects.count() == len(known)
        transaction.set_rollback(True)


def test_another_tenants_is_refused(cast: Cast) -> None:
    def record(tenant: Any) -> Payment:
        return payments.record_payment(
            tenant, Decimal(20), method="usdc", reference="0x1", received_at=AT
        )

    record(cast.acme)
    with pytest.raises(InvoicingError, match=r"as 20\.00 of Acme received on 2026-11-10"):
        record(cast.other)
