"""Tenants: who may do how much."""

from django.apps import AppConfig, apps


class TenantsConfig(AppConfig):
    """The lowest app: it imports nothing of ours."""

    name = "tenants"
    verbose_name = "Tenants"

    def ready(self) -> None:
        """Keep an audit trail of who changed what; never of a key's digest."""
        if apps.is_installed("auditlog"):
            from tenants import audit

            audit.register()
