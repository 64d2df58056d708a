"""Billing: what was used and what it costs."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Imports tenants, and nothing above it."""

    name = "billing"
    verbose_name = "Billing"
