"""Billing: what was used and what it costs."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Imports tenants, and nothing above it."""

    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        """Who signs up is on a plan as it is sold, from the first moment on."""
        from billing.catalogue.services import join
        from tenants import joining

        joining.plug(join)
