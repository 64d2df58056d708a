"""The app of the records of failed requests."""

from django.apps import AppConfig


class RequestsConfig(AppConfig):
    """Its label names its tables."""

    name = "gateway.requests"
    label = "requests"
    verbose_name = "Requests"
