"""The app of the cockpit."""

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class BackofficeConfig(AppConfig):
    """Listed after all other apps of ours, so that their models and admins are there."""

    name = "gateway.backoffice"
    verbose_name = "Cockpit"

    def ready(self) -> None:
        """Keep the groups of operators up to date; audit what our traffic is said to cost."""
        from gateway.backoffice import groups

        # After the permissions of this app, the last, were made, and so those of all others.
        post_migrate.connect(groups.after_migrate, sender=self)
        if apps.is_installed("auditlog"):
            from auditlog.registry import auditlog

            from gateway.backoffice.models import CostRate

            auditlog.register(CostRate)
