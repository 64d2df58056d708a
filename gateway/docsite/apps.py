"""The app of the documentation: it has static files and no tables."""

from django.apps import AppConfig


class DocsiteConfig(AppConfig):
    """Its label names its static folder."""

    name = "gateway.docsite"
    label = "docsite"
    verbose_name = "Documentation"
