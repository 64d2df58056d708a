"""The app of upstreams, gaps and open sessions."""

from django.apps import AppConfig, apps


class NodesConfig(AppConfig):
    """Knows the bus, by keys and formats; nothing on the hot path knows it."""

    name = "streaming.nodes"
    verbose_name = "Data plane"

    def ready(self) -> None:
        """Keep an audit trail of who changed which upstream."""
        if apps.is_installed("auditlog"):
            from auditlog.registry import auditlog

            from streaming.nodes import models

            auditlog.register(models.UpstreamNode)
