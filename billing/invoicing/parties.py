"""Seller and buyer as an invoice copies them, and the tax between them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings

from billing.models import Seller
from billing.rating.invoice import NO_TAX, Tax
from tenants.models import Tenant

_SELLER = (
    *("name", "address", "tax_id", "email", "website", "payment_instructions", "footer"),
    *("color", "logo"),
)


def seller() -> Seller:
    """The one row; where there is none yet, what the settings say."""
    return Seller.objects.first() or Seller(name=settings.RELAY_SELLER_NAME)


def seller_copy(row: Seller) -> dict[str, Any]:
    """What an invoice keeps of it."""
    return {name: getattr(row, name) for name in _SELLER}


def buyer_copy(tenant: Tenant) -> dict[str, Any]:
    """What an invoice keeps of the tenant's billing profile; without one, its name."""
    profile: Any = getattr(tenant, "billing_profile", None)
    if profile is None:
        return {"name": tenant.name, "address": "", "country": "", "tax_id": "", "email": ""}
    town = " ".join(filter(None, (profile.postal_code, profile.city)))
    lines = (profile.address_line1, profile.address_line2, town, profile.region)
    return {
        "name": profile.legal_name,
        "address": "\n".join(filter(None, lines)),
        "country": profile.country,
        "tax_id": profile.tax_id,
        "email": profile.invoice_email,
    }


def tax_of(tenant: Tenant) -> Tax:
    """The tax on what this tenant buys."""
    profile: Any = getattr(tenant, "billing_profile", None)
    if profile is None:
        return NO_TAX
    return Tax(
        name=profile.tax_name,
        percent=Decimal(profile.tax_percent),
        reverse_charge=profile.reverse_charge_text,
    )


def tax_copy(tax: Tax) -> dict[str, str]:
    """What an invoice keeps of it."""
    return {
        "name": tax.name,
        "percent": f"{tax.percent:f}",
        "reverse_charge": tax.reverse_charge,
    }
