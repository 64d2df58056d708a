"""The app of what is told about the service: its label names its tables."""

from django.apps import AppConfig, apps


class OperationsConfig(AppConfig):
    """Samples of freshness, incidents, announcements."""

    name = "gateway.operations"
    label = "operations"
    verbose_name = "Operations"

    def ready(self) -> None:
        """Show announcements above every page of a tenant; audit who writes them."""
        from gateway.dashboard.announcements import SOURCES
        from gateway.operations.announced import to_everybody

        SOURCES.append(to_everybody)
        if apps.is_installed("auditlog"):
            from auditlog.registry import auditlog

            from gateway.operations.models import Announcement, Incident

            for model in (Incident, Announcement):
                auditlog.register(model)
