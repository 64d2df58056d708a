"""Tenants as the provider knows them, and what they pay with."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.models import ProviderCustomer
from billing.payments.provider import PaymentProvider
from tenants.models import Tenant


def ensure_customer(provider: PaymentProvider, tenant: Tenant) -> ProviderCustomer:
    """The tenant's row of a provider, made there and here where there is none. Raises
    ProviderError."""
    known = ProviderCustomer.objects.filter(tenant=tenant, provider=provider.name).first()
    if known is not None:
        return known
    reference = provider.ensure_customer(tenant)
    try:
        with transaction.atomic():
            return ProviderCustomer.objects.create(
                tenant=tenant, provider=provider.name, reference=reference
            )
    except IntegrityError:  # somebody else was first
        return ProviderCustomer.objects.get(tenant=tenant, provider=provider.name)


def setup_method(provider: PaymentProvider, tenant: Tenant) -> str:
    """Where the tenant leaves a way to pay: a page of the provider's, good for a day at most.
    Raises ProviderError."""
    return provider.setup_method(tenant, customer=ensure_customer(provider, tenant).reference)


def refresh_method(provider: PaymentProvider, customer: ProviderCustomer) -> None:
    """Ask what a customer pays with now. Raises ProviderError."""
    note_method(customer, provider.method_of(customer.reference))


@transaction.atomic
def note_method(customer: ProviderCustomer, method: str) -> None:
    """Invoices finalized from now on are charged to it; those before wait for a transfer, or for an
    operator: who leaves a card did not agree to have it pay what a bank may be paying."""
    locked = ProviderCustomer.objects.select_for_update().get(pk=customer.pk)
    if locked.method == method:
        return
    if not method:
        locked.method_since = None
    elif not locked.method:
        # Without a fraction, as `Invoice.finalized_at`.
        locked.method_since = timezone.now().replace(microsecond=0)
    locked.method = method
    locked.save(update_fields=["method", "method_since"])
