"""A customer with invoices, a wallet, a team and an add-on: pages about money and people."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
from django.utils import timezone

from billing.catalogue import services, wallet
from billing.invoicing import payments
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.models import AddOn, Invoice, Payment, Seller, WalletEntry
from tenants.models import Membership, Plan, Tenant
from tenants.people import services as people
from tenants.services import create_tenant, issue_key


def money() -> dict[str, Any]:
    """The demo's customer owns it; the names that paths use."""
    tenant = Tenant.objects.filter(slug="northwind").first()
    if tenant is None:
        now = timezone.now()
        tenant = create_tenant(name="Northwind Trading", plan=None, slug="northwind")
        owner = people.make_first_owner(tenant=tenant, user=User.objects.get(username="customer"))
        began = (now.replace(day=1, hour=0, minute=0) - timedelta(days=62)).replace(day=1)
        services.subscribe(
            tenant, plan=Plan.objects.get(code="starter"), with_trial=False, now=began
        )
        for name, role in (("dana", "developer"), ("finn", "finance")):
            user = User.objects.create_user(name, f"{name}@northwind.example")
            EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
            Membership.objects.create(tenant=tenant, user=user, role=role)
        people.invite(tenant=tenant, email="vic@northwind.example", role="viewer", by=owner)
        people.save_billing_profile(
            tenant=tenant,
            by=owner,
            legal_name="Northwind Trading GmbH",
            city="Hamburg",
            postal_code="20095",
            address_line1="Speicherstadt 4",
            country="DE",
            tax_id="DE123456789",
        )
        Seller.objects.get_or_create(
            defaults={
                "name": "Relay Ltd",
                "payment_instructions": "IBAN DE02 1203 0000 0000 2020 51\n"
                "USDC on Arbitrum: 0x1234abcd",
            }
        )
        issue_key(tenant=tenant, name="market maker")
        close_due_periods(now, tenants=[tenant.pk])
        finalize_due(now)
        first = Invoice.objects.finalized().filter(tenant=tenant).order_by("period_start").first()
        paid = payments.record_payment(
            tenant,
            amount=Decimal("60.00"),
            method=Payment.Method.BANK_TRANSFER,
            received_at=now,
            reference="NW-2026-77",
        )
        payments.allocate(paid, first)
        wallet.enter(
            tenant, amount=Decimal("250.00"), kind=WalletEntry.Kind.TOP_UP, reference="NW-1"
        )
        services.add_add_on(tenant, add_on=AddOn.objects.get(code="grpc"))
    first = Invoice.objects.finalized().filter(tenant=tenant).order_by("period_start").first()
    assert first is not None
    return {"money": "northwind", "invoice": first.number}
