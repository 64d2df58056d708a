"""Billing: what was used and what it costs."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Imports tenants, and nothing above it."""

    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        """Who signs up is on a plan as it is sold, from the first moment on; who becomes of another
        kind is billed, or no longer, from that moment on; who closes, until then."""
        from billing.catalogue.services import join
        from billing.invoicing.kinds import become
        from billing.invoicing.last_invoice import end_billing
        from tenants import ending, joining, kinds

        joining.plug(join)
        kinds.plug(become)
        ending.plug(end_billing)
