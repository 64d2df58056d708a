"""Tenants: who may do how much."""

from django.apps import AppConfig, apps


class TenantsConfig(AppConfig):
    """The lowest app: it imports nothing of ours."""

    name = "tenants"
    verbose_name = "Tenants"

    def ready(self) -> None:
        """Keep an audit trail of who changed what, never of a key's digest; mail notices to those
        whose business they are."""
        if apps.is_installed("auditlog"):
            from tenants import audit

            audit.register()
        from tenants.notices import recipients
        from tenants.people.recipients import recipients as members

        recipients.plug(members)
