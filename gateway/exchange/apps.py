"""The app of the trading proxy."""

from django.apps import AppConfig, apps


class ExchangeConfig(AppConfig):
    """Addresses of ours from which actions are sent."""

    name = "gateway.exchange"
    verbose_name = "Trading"

    def ready(self) -> None:
        """Audit which address is whose."""
        if apps.is_installed("auditlog"):
            from auditlog.registry import auditlog

            from gateway.exchange.models import EgressAddress

            auditlog.register(EgressAddress)
