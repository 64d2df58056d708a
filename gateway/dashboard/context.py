"""What every template knows: the theme, and within a tenant the navigation around the page."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from gateway.dashboard.announcements import announcements
from gateway.dashboard.navigation import navigation
from tenants.people import selectors

#: The cookie that the theme switch writes; without it the system decides.
THEME_COOKIE = "theme"
THEMES = ("light", "dark")


def page(request: HttpRequest) -> dict[str, Any]:
    """`theme`, `site_name`; on a tenant's page also `tenant`, `membership`, `navigation`,
    `tenants` (where else the visitor belongs) and `announcements`."""
    theme = request.COOKIES.get(THEME_COOKIE, "")
    known: dict[str, Any] = {
        "theme": theme if theme in THEMES else "",
        "site_name": settings.RELAY_SITE_NAME,
    }
    membership = getattr(request, "membership", None)
    # A part that htmx fetches has no frame.
    if membership is not None and not getattr(request, "htmx", False):
        known |= {
            "tenant": membership.tenant,
            "membership": membership,
            "navigation": navigation(request),
            "memberships": selectors.memberships_of(membership.user),
            "announcements": announcements(membership.tenant),
        }
    elif membership is not None:
        known |= {"tenant": membership.tenant, "membership": membership}
    return known
