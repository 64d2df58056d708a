"""Tenants: who may do how much."""

from django.apps import AppConfig, apps


class TenantsConfig(AppConfig):
    """The lowest app: it imports nothing of ours."""

    name = "tenants"
    verbose_name = "Tenants"

    def ready(self) -> None:
        """Keep an audit trail of who changed what; never of a key's digest."""
        if not apps.is_installed("auditlog"):
            return
        from auditlog.registry import auditlog

        from tenants import models

        auditlog.register(models.Tenant)
        auditlog.register(models.Plan)
        auditlog.register(models.Quota)
        auditlog.register(models.PlanSubscription)
        auditlog.register(models.APIKey, exclude_fields=["digest", "last_used_at"])
        health = ["failures", "failing_since", "retry_at"]
        fingerprints = ["fingerprint", "previous_fingerprint"]
        auditlog.register(models.WebhookEndpoint, exclude_fields=[*fingerprints, *health])
