"""The app of what is told about the service: its label names its tables."""

from django.apps import AppConfig


class OperationsConfig(AppConfig):
    """Samples of freshness, incidents, announcements."""

    name = "gateway.operations"
    label = "operations"
    verbose_name = "Operations"

    def ready(self) -> None:
        """Show announcements above every page of a tenant."""
        from gateway.dashboard.announcements import SOURCES
        from gateway.operations.announced import to_everybody

        SOURCES.append(to_everybody)
