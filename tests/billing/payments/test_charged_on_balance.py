"""A card is charged what is owed on balance, no more; and whoever owes, whatever it is by now."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.invoicing import crediting, payments
from billing.invoicing.carrying import net_of
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import ChargeAttempt, Invoice, InvoiceStanding, Payment
from billing.payments import attempts, charging
from billing.payments.provider import PaymentProvider
from tenants import services
from tenants.models import Tenant
from tests.billing.invoicing.books import DECEMBER, NOVEMBER
from tests.billing.payments.conftest import Post, later
from tests.support.fake_stripe import FakeStripe
from tests.tenants.cast import Cast


def bank(tenant: Tenant, amount: str) -> Payment:
    """A transfer that is for nothing yet."""
    return payments.record_payment(
        tenant,
        Decimal(amount),
        method="bank_transfer",
        reference=f"transfer of {amount}",
        received_at=timezone.now(),
        by="eve",
    )


def finalize_november(cast: Cast) -> Invoice:
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + timedelta(hours=72))
    return Invoice.objects.get(tenant=cast.acme, period_start=NOVEMBER)


def test_what_an_earlier_invoice_set_free_is_used_first(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, post: Post, cast: Cast
) -> None:
    charging.run_due(provider)
    post.bring()
    crediting.credit(invoice, by="eve", reason="not wanted")
    following = finalize_november(cast)
    assert net_of(cast.acme.pk)[following.pk] == 0
    later(provider, days=9)
    assert fake.taken() == 4900
    assert not following.charge_attempts.exists()
    # What is left of it after a part went back is charged, and settles as much.
    payments.refund(Payment.objects.get(), Decimal(19), by="eve")
    later(provider, days=9)
    post.bring()
    assert fake.taken() == 4900 + 1900
    standing = InvoiceStanding.objects.get(invoice=following)
    assert (standing.balance, net_of(cast.acme.pk)[following.pk]) == (Decimal(30), Decimal(0))
    assert list(reconcile_invoices()) == []


@pytest.mark.parametrize(("amount", "charged"), [("49", None), ("10", 3900)])
def test_a_transfer_that_comes_before_the_charge_is_made(
    provider: PaymentProvider,
    fake: FakeStripe,
    invoice: Invoice,
    cast: Cast,
    amount: str,
    charged: int | None,
) -> None:
    assert attempts.begin_due(provider.name) == 1
    bank(cast.acme, amount)
    charging.run_due(provider)
    assert fake.taken() == (charged or 0)
    assert ChargeAttempt.objects.get().state == ("succeeded" if charged else "cancelled")


def test_who_is_no_customer_any_more_is_charged_the_last_invoice(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, cast: Cast
) -> None:
    tenant = Tenant.objects.get(pk=cast.acme.pk)
    tenant.kind = Tenant.Kind.INTERNAL
    services.update_tenant(tenant)
    assert charging.run_due(provider) == 1
    assert fake.taken() == 4900
