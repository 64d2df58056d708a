"""The provider that `RELAY_PAYMENTS` names."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from billing.payments.manual import ManualProvider
from billing.payments.provider import PaymentProvider


def provider() -> PaymentProvider:
    """The provider in force. Its library is loaded here, at the first call, and only when named."""
    if settings.RELAY_PAYMENTS == "manual":
        return ManualProvider()
    return _stripe(
        settings.STRIPE_SECRET_KEY,
        settings.STRIPE_WEBHOOK_SECRET,
        settings.STRIPE_API_BASE,
        settings.RELAY_SITE_URL,
    )


@lru_cache(maxsize=4)
def _stripe(secret_key: str, webhook_secret: str, api_base: str, site_url: str) -> PaymentProvider:
    from billing.payments.stripe import StripeProvider

    return StripeProvider(
        secret_key=secret_key,
        webhook_secret=webhook_secret,
        api_base=api_base,
        site_url=site_url,
    )
