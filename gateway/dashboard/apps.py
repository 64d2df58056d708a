"""The customers' pages as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """It has no models: what it shows belongs to other rooms."""

    name = "gateway.dashboard"
    label = "dashboard"
    verbose_name = "Dashboard"
