"""Seller and buyer as an invoice copies them, and the tax between them."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from billing.models import Seller
from billing.rating.invoice import Tax
from tenants.people.selectors import BillingIdentity

_SELLER = (
    *("name", "address", "tax_id", "email", "website", "payment_instructions", "footer"),
    "color",
)


def seller() -> Seller:
    """The one row; where there is none yet, what the settings say."""
    return Seller.objects.order_by().first() or Seller(name=settings.RELAY_SELLER_NAME)


def seller_copy(row: Seller) -> dict[str, Any]:
    """What an invoice keeps of it: of the logo its hash, under which it is kept (`brand`)."""
    return {name: getattr(row, name) for name in _SELLER} | {"logo_sha256": row.logo_id or ""}


def buyer_copy(identity: BillingIdentity) -> dict[str, Any]:
    """What an invoice keeps of whom it is for; `email` are addresses with commas between."""
    return {
        "name": identity.legal_name,
        "address": "\n".join(identity.address),
        "country": identity.country,
        "tax_id": identity.tax_id,
        "email": ", ".join(identity.invoice_emails),
    }


def tax_of(identity: BillingIdentity) -> Tax:
    """The tax on what they buy."""
    return Tax(
        name=identity.tax_name,
        percent=identity.tax_percent,
        reverse_charge=identity.reverse_charge_text,
    )


def tax_copy(tax: Tax) -> dict[str, str]:
    """What an invoice keeps of it."""
    return {
        "name": tax.name,
        "percent": f"{tax.percent:f}",
        "reverse_charge": tax.reverse_charge,
    }
