"""Tenants: who may do how much."""

from __future__ import annotations

from typing import Any

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
        from tenants.people import languages
        from tenants.people.recipients import recipients as members

        recipients.plug(members, languages.of_address)

        from django.contrib.auth.signals import user_logged_in, user_logged_out

        user_logged_in.connect(languages.take_along, dispatch_uid="tenants.take_language_along")
        user_logged_out.connect(_end_dashboard, dispatch_uid="tenants.end_dashboard")


def _end_dashboard(sender: object, request: Any, **_: object) -> None:
    """Who signs out takes along what their pages hold open."""
    from tenants.dashboard_tokens import end_session

    if request is not None:
        end_session(request.session.session_key)
